//! `mprec export`: a variant in a format that others read.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use mprec_backends::onnx::{DENSE, Form, MAX_INLINE, OPSET, SCORE, write_model};
use mprec_representations::Bundle;
use serde::Serialize;

use super::{InputError as _, Output, Run, output};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Write a variant as an ONNX model.
    Onnx(Onnx),
}

impl Command {
    pub(super) fn run(&self, output: &Output) -> Run {
        match self {
            Self::Onnx(command) => command.run(output),
        }
    }
}

#[derive(Debug, Args)]
#[command(after_help = "\
Inputs of the model: `dense` [samples, dense features] f32, as prepared (logarithms taken), and
for every sparse feature `ids.NAME` [samples, 1] int64, below the feature's cardinality.
Output: `score` [samples, 1] f32, a probability.

With --bags a feature has any number of ids per sample: `ids.NAME`, `bags.NAME` (the sample of
every id, ascending, int64) and `weights.NAME` (f32, 1 for plain sums), each [ids]. A sample
without ids gets zeros.

In Python:
    session = onnxruntime.InferenceSession(\"model.onnx\")
    score, = session.run([\"score\"], {\"dense\": dense, \"ids.C1\": ids[:, :1], ...})")]
pub(super) struct Onnx {
    /// The bundle's folder.
    bundle: PathBuf,
    /// The variant to write.
    #[arg(long)]
    variant: String,
    /// The file to write. Parameters that do not fit into it go to a file beside it, called like it with `.data` added.
    #[arg(long, short, default_value = "model.onnx")]
    out: PathBuf,
    /// Take any number of weighted ids per sample and feature, instead of one.
    #[arg(long)]
    bags: bool,
    /// Largest parameters that lie within the file, in MiB.
    #[arg(long, default_value_t = MAX_INLINE >> 20, value_parser = max_inline_mib)]
    max_inline_mib: usize,
}

#[derive(Serialize)]
struct Report {
    variant: String,
    model: PathBuf,
    data: Option<PathBuf>,
    bytes: u64,
    opset: i64,
    dense: &'static str,
    sparse: Vec<String>,
    score: &'static str,
}

fn max_inline_mib(text: &str) -> Result<usize, String> {
    let mib = text.parse().map_err(|error| format!("{error}"))?;
    let most = MAX_INLINE >> 20;
    if mib <= most {
        Ok(mib)
    } else {
        Err(format!("at most {most}: protocol buffers end at 2 GiB"))
    }
}

impl Onnx {
    fn run(&self, output: &Output) -> Run {
        let bundle = Bundle::open(&self.bundle).or_bad_input()?;
        let program = bundle.program(&self.variant).or_bad_input()?;
        let sparse = bundle.manifest().schema.sparse();
        let names: Vec<String> = sparse.iter().map(|feature| feature.name.clone()).collect();
        let form = if self.bags { Form::Bags } else { Form::OneHot };
        let written = write_model(&program, form, &names, &self.out, self.max_inline_mib << 20)?;
        let report = Report {
            variant: self.variant.clone(),
            model: written.model,
            data: written.data,
            bytes: written.bytes,
            opset: OPSET,
            dense: DENSE,
            sparse: names,
            score: SCORE,
        };
        output.result(&report, || report.text())
    }
}

impl Report {
    fn text(&self) -> String {
        let beside = self.data.as_ref().map_or(String::new(), |data| {
            format!(", parameters in `{}`: keep both files together", data.display())
        });
        format!(
            "`{}` written to `{}`, {}, opset {}{beside}",
            self.variant,
            self.model.display(),
            output::bytes(self.bytes),
            self.opset
        )
    }
}
