//! `mprec health`: whether a server can answer, for whatever restarts or routes around it.

use clap::Args;
use mprec_runtime::load::{LoadError, is_ready};

use super::{Failure, InputError as _, Output, Run, access::AccessArguments};

#[derive(Debug, Args)]
#[command(after_help = "Exit code 0 says yes, 1 says no or no answer within seconds.")]
pub(super) struct Health {
    /// The server, such as `http://127.0.0.1:8000`.
    #[arg(long, default_value = "http://127.0.0.1:8000")]
    url: String,
    #[command(flatten)]
    access: AccessArguments,
}

impl Health {
    pub(super) fn run(&self, output: &Output) -> Run {
        let ready = match is_ready(&self.url, &self.access.read()?) {
            Err(error @ LoadError::Url { .. }) => return Err::<(), _>(error).or_bad_input(),
            other => other?,
        };
        if !ready {
            return Err(Failure::from(anyhow::anyhow!("{} is not ready", self.url)));
        }
        let report = serde_json::json!({ "url": self.url, "ready": true });
        output.result(&report, || format!("{} is ready", self.url))
    }
}
