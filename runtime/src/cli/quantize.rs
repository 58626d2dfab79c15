//! `mprec quantize`: a variant in fewer bits, as a variant of its own with its own measured quality.

use std::{fmt, path::PathBuf};

use clap::{Args, ValueEnum};
use mprec_backends::{BackendKind, Path};
use mprec_datasets::Dataset;
use mprec_representations::{
    Bundle, BundleWriter, Dlrm, DlrmSpec, LayerFormat, Precision, RowFormat,
    Weights as StoredWeights, quantize,
};
use mprec_trainer::Metrics;
use serde::Serialize;

use super::{
    Failure, InputError as _, Output, Run,
    eval::{check_schema, evaluate},
    output,
    train::{judged, quality},
    variant::{new_name, own_architecture},
};

/// What this command does to a variant, in messages.
const VERB: &str = "quantise";

/// A loss of AUC above this is worth a warning.
const NOTABLE_LOSS: f64 = 0.0005;
/// A loss of AUC above this is refused.
const REFUSED_LOSS: f64 = 0.005;

#[derive(Debug, Args)]
#[command(
    after_help = "The new variant is measured on the held-out rows of --data and stands beside the old one: \
    the router sees it as one more path. A loss of more than 0.005 AUC is refused without --force."
)]
pub(super) struct Quantize {
    /// The bundle's folder.
    bundle: PathBuf,
    /// The variant to quantise, in full precision.
    #[arg(long)]
    variant: String,
    /// Format of the rows of tables.
    #[arg(long, value_enum, default_value_t = Rows::Int8)]
    rows: Rows,
    /// Format of the weights of nets and decoders.
    #[arg(long, value_enum, default_value_t = Weights::Int8)]
    weights: Weights,
    /// Prepared data whose held-out rows judge it.
    #[arg(long)]
    data: PathBuf,
    /// Name of the new variant [default: made from the old name and the formats].
    #[arg(long)]
    name: Option<String>,
    /// Add it whatever it loses.
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Rows {
    F32,
    F16,
    Bf16,
    Int8,
    Int4,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Weights {
    F32,
    Bf16,
    Int8,
}

#[derive(Serialize)]
struct Report {
    variant: String,
    from: String,
    rows: &'static str,
    weights: &'static str,
    /// The new variant's.
    #[serde(flatten)]
    metrics: Metrics,
    bytes: usize,
    from_bytes: usize,
    auc_change: f64,
    logloss_change: f64,
    accuracy_change: f64,
}

impl Quantize {
    pub(super) fn run(&self, output: &Output) -> Run {
        let bundle = Bundle::open(&self.bundle).or_bad_input()?;
        let dataset = Dataset::open(&self.data).or_bad_input()?;
        check_schema(&bundle, &dataset).or_bad_input()?;
        let precision = self.precision()?;
        let name = self.name.clone().unwrap_or_else(|| self.default_name());
        let name = new_name(&bundle, name)?;
        // Before anything is scored.
        own_architecture(&bundle, &self.variant, VERB)?;
        let original = bundle.program(&self.variant).or_bad_input()?;
        let part = judged(&dataset);
        let path = Path::new(&self.variant, BackendKind::Cpu).or_bad_input()?;
        let (before, _) = evaluate(&original, &path, &dataset, part, output)?;
        let quantised = Quantised::new(&bundle, &self.variant, &name, precision, &dataset, output)?;
        let after = quantised.metrics;
        let loss = before.auc - after.auc;
        if loss > REFUSED_LOSS && !self.force {
            return Err(anyhow::anyhow!(
                "`{name}` loses {loss:.4} AUC on {} held-out rows, more than {REFUSED_LOSS}; \
                 nothing was added; try `--rows int8`, `--weights f32`, or `--force`",
                after.samples
            )
            .into());
        }
        if loss > NOTABLE_LOSS {
            output.note(&format!("warning: `{name}` loses {loss:.4} AUC"));
        }
        quantised.add(&name, &dataset, &mut BundleWriter::open(&self.bundle).or_bad_input()?)?;
        let report = Report {
            variant: name,
            from: self.variant.clone(),
            rows: precision.rows.name(),
            weights: precision.layers.name(),
            bytes: quantised.bytes,
            from_bytes: original.bytes(),
            auc_change: after.auc - before.auc,
            logloss_change: after.logloss - before.logloss,
            accuracy_change: after.accuracy - before.accuracy,
            metrics: after,
        };
        output.result(&report, || text(&report, &before))
    }

    fn precision(&self) -> Result<Precision, Failure> {
        let precision = Precision {
            rows: match self.rows {
                Rows::F32 => RowFormat::F32,
                Rows::F16 => RowFormat::F16,
                Rows::Bf16 => RowFormat::BF16,
                Rows::Int8 => RowFormat::Int8,
                Rows::Int4 => RowFormat::Int4,
            },
            layers: match self.weights {
                Weights::F32 => LayerFormat::F32,
                Weights::Bf16 => LayerFormat::BF16,
                Weights::Int8 => LayerFormat::Int8,
            },
        };
        if precision.is_full() {
            return Err(Failure::input(anyhow::anyhow!(
                "`--rows f32 --weights f32` changes nothing; choose fewer bits for one of them"
            )));
        }
        Ok(precision)
    }

    fn default_name(&self) -> String {
        let Self { variant, rows, weights, .. } = self;
        let word = |format: &dyn fmt::Debug| format!("{format:?}").to_lowercase();
        let (row, weight) = (word(rows), word(weights));
        match (rows, weights) {
            _ if row == weight => format!("{variant}-{row}"),
            (_, Weights::F32) => format!("{variant}-rows-{row}"),
            (Rows::F32, _) => format!("{variant}-weights-{weight}"),
            _ => format!("{variant}-{row}-{weight}"),
        }
    }
}

/// A quantised variant that has been judged, and is not in the bundle yet.
pub(super) struct Quantised {
    spec: DlrmSpec,
    weights: StoredWeights,
    /// On the rows that quality is measured on.
    pub(super) metrics: Metrics,
    /// Of its program.
    pub(super) bytes: usize,
}

impl Quantised {
    /// Quantises `variant` and judges the result, which will be called `name`.
    pub(super) fn new(
        bundle: &Bundle,
        variant: &str,
        name: &str,
        precision: Precision,
        dataset: &Dataset,
        output: &Output,
    ) -> Result<Self, Failure> {
        let spec = own_architecture(bundle, variant, VERB)?;
        let schema = &bundle.manifest().schema;
        let weights = bundle.weights(variant).or_bad_input()?;
        let (spec, weights) = quantize(schema, spec, weights, precision).or_bad_input()?;
        let program = Dlrm::load(schema, &spec, &weights)?.lower()?;
        let path = Path::new(name, BackendKind::Cpu).or_bad_input()?;
        let (metrics, _) = evaluate(&program, &path, dataset, judged(dataset), output)?;
        Ok(Self { spec, weights, metrics, bytes: program.bytes() })
    }

    /// Writes it into the bundle, with its quality.
    pub(super) fn add(&self, name: &str, dataset: &Dataset, writer: &mut BundleWriter) -> Run {
        let quality = quality(dataset, &self.metrics);
        writer.add(name, &self.spec, &self.weights, Some(quality))?;
        Ok(writer.finish()?)
    }
}

fn text(report: &Report, before: &Metrics) -> String {
    let row = |name: &str, metrics: &Metrics, bytes: usize| {
        [
            name.to_owned(),
            format!("{:.4}", metrics.auc),
            format!("{:.4}", metrics.logloss),
            format!("{:.4}", metrics.accuracy),
            format!("{:.4}", metrics.ece),
            output::bytes(bytes as u64),
        ]
    };
    format!(
        "{}\nAUC {:+.5}, log loss {:+.5}, accuracy {:+.5} on {} rows",
        output::table(
            ["variant", "AUC", "log loss", "accuracy", "ECE", "memory"],
            [
                row(&report.from, before, report.from_bytes),
                row(&report.variant, &report.metrics, report.bytes),
            ]
        ),
        report.auc_change,
        report.logloss_change,
        report.accuracy_change,
        output::count(report.metrics.samples),
    )
}
