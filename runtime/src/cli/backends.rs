//! `mprec backends`: what can run here, and what to do about the rest.

use clap::Args;
use mprec_backends::{
    BackendError, BackendKind,
    registry::{self, Availability},
};
use mprec_runtime::{
    paths::{CPU, device},
    profiler::Machine,
};
use serde::Serialize;

use super::{Output, Run, output};

#[derive(Debug, Args)]
#[command(
    after_help = "A path is a variant on a backend, such as `table@cpu` or `dhe@onnx`: name it in `--paths` of `mprec profile` and \
    `mprec serve`. Nothing falls back: a path on a backend that cannot be used is an error at start."
)]
pub(super) struct Backends {}

#[derive(Debug, Serialize)]
struct Report {
    backends: Vec<Entry>,
}

#[derive(Debug, Serialize)]
struct Entry {
    name: BackendKind,
    /// Whether this build has it.
    compiled: bool,
    /// Whether it can be used on this machine, now.
    usable: bool,
    /// What it would run on.
    device: Option<String>,
    /// Memory of that device.
    memory_bytes: Option<u64>,
    /// Why it cannot be used.
    reason: Option<String>,
    /// What would help.
    remedy: Option<String>,
}

impl Backends {
    pub(super) fn run(&self, output: &Output) -> Run {
        let memory = Machine::here().memory_bytes;
        let backends = registry::all().into_iter().map(|found| Entry::new(found, memory)).collect();
        let report = Report { backends };
        output.result(&report, || report.text())
    }
}

impl Entry {
    /// `memory` is the machine's own, which backends on the CPU's cores use.
    fn new(found: Availability, memory: u64) -> Self {
        let Availability { backend, state } = found;
        let mut entry = Self {
            name: backend,
            compiled: true,
            usable: state.is_ok(),
            device: None,
            memory_bytes: None,
            reason: None,
            remedy: None,
        };
        match state {
            Ok(description) => {
                entry.device = Some(description);
                entry.memory_bytes = (device(backend) == CPU).then_some(memory);
            }
            Err(BackendError::Unavailable { reason, remedy, .. }) => {
                entry.reason = Some(reason);
                entry.remedy = Some(remedy.to_owned());
            }
            Err(BackendError::NotCompiled { .. }) => {
                entry.compiled = false;
                entry.reason = Some("not compiled in".to_owned());
                entry.remedy = Some("use a build that has it; this one does not".to_owned());
            }
            Err(error) => entry.reason = Some(error.to_string()),
        }
        entry
    }

    fn text(&self) -> String {
        let mark = if self.usable { "usable" } else { "-" };
        let name = self.name.to_string();
        let mut text = format!("{name:14} {mark:8}");
        if let Some(device) = &self.device {
            text += device;
        }
        if let Some(bytes) = self.memory_bytes {
            text += &format!(", {}", output::bytes(bytes));
        }
        if let Some(reason) = &self.reason {
            text += reason;
        }
        text
    }

    fn remedy_text(&self) -> Option<String> {
        self.remedy.as_ref().map(|remedy| format!("{:23} to use it: {remedy}", ""))
    }
}

impl Report {
    fn text(&self) -> String {
        let mut lines = Vec::new();
        for (at, entry) in self.backends.iter().enumerate() {
            lines.push(entry.text());
            // What helps several in a row is said after the last of them.
            let next = self.backends.get(at + 1);
            if next.is_none_or(|next| next.remedy != entry.remedy) {
                lines.extend(entry.remedy_text());
            }
        }
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use mprec_backends::OnnxProvider;

    use super::*;

    fn entry(state: Result<String, BackendError>) -> Entry {
        Entry::new(Availability { backend: BackendKind::Onnx(OnnxProvider::Cpu), state }, 1 << 30)
    }

    #[test]
    fn what_cannot_be_used_says_why_and_what_to_do() {
        let missing = entry(Err(BackendError::Unavailable {
            backend: BackendKind::Onnx(OnnxProvider::Cpu),
            reason: "no library".into(),
            remedy: "get one",
        }));
        assert!(missing.compiled && !missing.usable);
        assert!(missing.text().contains("no library"), "{}", missing.text());
        let again = entry(Err(BackendError::Unavailable {
            backend: BackendKind::Onnx(OnnxProvider::Cuda),
            reason: "no GPU".into(),
            remedy: "get one",
        }));
        let text = Report { backends: vec![missing, again] }.text();
        assert!(text.contains("no GPU") && text.matches("get one").count() == 1, "{text}");
        let lacking =
            entry(Err(BackendError::NotCompiled { backend: BackendKind::Onnx(OnnxProvider::Cpu) }));
        assert!(!lacking.compiled && !lacking.usable);
        let usable = entry(Ok("a device".into()));
        assert!(usable.usable && usable.memory_bytes == Some(1 << 30));
        assert!(usable.text().contains("a device"));
    }
}
