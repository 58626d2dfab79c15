//! `mprec quantize`: a variant in fewer bits, as a variant of its own with its own measured quality.

use std::{fmt, path::PathBuf};

use clap::{Args, ValueEnum};
use mprec_datasets::Dataset;
use mprec_representations::{Bundle, BundleWriter, LayerFormat, Precision, RowFormat, quantize};
use serde::Serialize;

use super::{
    Failure, InputError as _, Output, Run,
    derived::{Change, Judged, open},
    variant::{new_name, own_architecture},
};

/// What this command does to a variant, in messages.
const VERB: &str = "quantise";

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
    rows: &'static str,
    weights: &'static str,
    #[serde(flatten)]
    change: Change,
}

impl Quantize {
    pub(super) fn run(&self, output: &Output) -> Run {
        let (bundle, dataset) = open(&self.bundle, &self.data)?;
        let precision = self.precision()?;
        let name = self.name.clone().unwrap_or_else(|| self.default_name());
        let name = new_name(&bundle, name)?;
        let before = Judged::stored(&bundle, &self.variant, VERB, &dataset, output)?;
        let after = quantised(&bundle, &self.variant, &name, precision, &dataset, output)?;
        let change = Change::new((&self.variant, &before), (&name, &after));
        change.check(self.force, "`--rows int8`, `--weights f32`", output)?;
        after.add(&name, &dataset, &mut BundleWriter::open(&self.bundle).or_bad_input()?)?;
        let (rows, weights) = (precision.rows.name(), precision.layers.name());
        let report = Report { rows, weights, change };
        output.result(&report, || report.change.text())
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

/// Quantises `variant` and judges the result, which will be called `name`.
pub(super) fn quantised(
    bundle: &Bundle,
    variant: &str,
    name: &str,
    precision: Precision,
    dataset: &Dataset,
    output: &Output,
) -> Result<Judged, Failure> {
    let spec = own_architecture(bundle, variant, VERB)?;
    let schema = &bundle.manifest().schema;
    let weights = bundle.weights(variant).or_bad_input()?;
    let quantised = quantize(schema, spec, weights, precision).or_bad_input()?;
    Judged::new(bundle, name, quantised, dataset, output)
}
