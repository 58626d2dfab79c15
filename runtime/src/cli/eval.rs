//! `mprec eval`: how good a path's scores are on labelled rows.

use std::{path::PathBuf, time::Instant};

use anyhow::ensure;
use clap::Args;
use mprec_backends::{Executable, Path, registry};
use mprec_datasets::Dataset;
use mprec_representations::{BatchShape, Bundle, Program};
use mprec_trainer::Metrics;
use serde::Serialize;

use super::{
    Failure, InputError as _, Output, Run,
    data::Part,
    output::{self, Unit},
};

/// Samples scored at a time.
const BATCH: usize = 512;

#[derive(Debug, Args)]
pub(super) struct Eval {
    /// The bundle's folder.
    bundle: PathBuf,
    /// A prepared folder with the bundle's features.
    #[arg(long)]
    data: PathBuf,
    /// What scores: `variant@backend`, such as `dhe@cpu`.
    #[arg(long)]
    path: Path,
    /// A DLRM that another tool wrote as ONNX, for the features of the bundle; `--path` then gives it a name, such as
    /// `theirs@onnx`.
    #[arg(long, value_name = "FILE")]
    onnx_file: Option<PathBuf>,
    /// Which rows.
    #[arg(long, value_enum, default_value_t = Part::HeldOut)]
    part: Part,
}

#[derive(Serialize)]
struct Report {
    path: String,
    data: String,
    part: &'static str,
    #[serde(flatten)]
    metrics: Metrics,
    samples_per_second: f64,
}

impl Eval {
    pub(super) fn run(&self, output: &Output) -> Run {
        let bundle = Bundle::open(&self.bundle).or_bad_input()?;
        let dataset = Dataset::open(&self.data).or_bad_input()?;
        check_schema(&bundle, &dataset).or_bad_input()?;
        let backend = self.path.backend();
        let executable = match &self.onnx_file {
            Some(file) => {
                let shape = BatchShape::new(&bundle.manifest().schema);
                registry::open_file(backend, file, &shape, registry::Resources::default())
                    .or_bad_input()?
            }
            None => {
                let program = bundle.program(self.path.variant()).or_bad_input()?;
                registry::open(backend).or_bad_input()?.prepare(&program)?
            }
        };
        let (metrics, samples_per_second) =
            evaluate_on(executable, &self.path, &dataset, self.part, output)?;
        let report = Report {
            path: self.path.to_string(),
            data: dataset.label(),
            part: self.part.name(),
            metrics,
            samples_per_second,
        };
        output.result(&report, || {
            format!(
                "{} on {}, {} rows of {}:\n{}\n{:.0} samples/s on one thread, reading included",
                report.path,
                output::count(metrics.samples),
                report.part,
                report.data,
                output::table(
                    ["AUC", "log loss", "normalised entropy", "accuracy", "ECE"],
                    [[
                        metrics.auc,
                        metrics.logloss,
                        metrics.normalised_entropy,
                        metrics.accuracy,
                        metrics.ece
                    ]
                    .map(|figure| format!("{figure:.4}"))]
                ),
                samples_per_second
            )
        })
    }
}

/// Refuses data whose features are not the bundle's.
pub(super) fn check_schema(bundle: &Bundle, dataset: &Dataset) -> anyhow::Result<()> {
    ensure!(
        bundle.manifest().schema == *dataset.schema(),
        "the data was prepared with other features or vocabularies than the bundle was trained on; \
         prepare it with `mprec data prepare --like FOLDER`, FOLDER being what it was trained on"
    );
    Ok(())
}

/// Scores one part of a dataset on a path and judges the scores. Also samples per second.
pub(super) fn evaluate(
    program: &Program,
    path: &Path,
    dataset: &Dataset,
    part: Part,
    output: &Output,
) -> Result<(Metrics, f64), Failure> {
    let executable = registry::open(path.backend()).or_bad_input()?.prepare(program)?;
    evaluate_on(executable, path, dataset, part, output)
}

fn evaluate_on(
    mut executable: Box<dyn Executable>,
    path: &Path,
    dataset: &Dataset,
    part: Part,
    output: &Output,
) -> Result<(Metrics, f64), Failure> {
    let rows = dataset.rows(part.split());
    if !dataset.is_labelled() || rows.is_empty() {
        let why = if rows.is_empty() { "is empty" } else { "has no labels" };
        return Err(Failure::input(anyhow::anyhow!(
            "part `{}` of {} {why}; there is nothing to judge scores by",
            part.name(),
            dataset.label()
        )));
    }
    let bar = output.bar(&format!("eval {path}"), rows.len() as u64, Unit::Rows);
    let mut scores = vec![0.0; rows.len()];
    let mut labels = Vec::with_capacity(rows.len());
    let start = Instant::now();
    for (batch, scores) in dataset.batches(rows, BATCH).zip(scores.chunks_mut(BATCH)) {
        let batch = batch?;
        executable.run(&batch.batch, scores)?;
        labels.extend(batch.labels);
        bar.inc(scores.len() as u64);
    }
    let rate = scores.len() as f64 / start.elapsed().as_secs_f64();
    bar.finish_and_clear();
    Ok((Metrics::from_scores(&scores, &labels)?, rate))
}
