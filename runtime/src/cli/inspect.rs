//! `mprec inspect`: what a bundle holds.

use std::path::PathBuf;

use clap::Args;
use mprec_representations::{
    Bundle,
    bundle::{Architecture, Quality, QualitySource},
};
use serde::Serialize;

use super::{InputError as _, Output, Run, output};

#[derive(Debug, Args)]
pub(super) struct Inspect {
    /// The bundle's folder.
    bundle: PathBuf,
    /// Read every byte: digests, finite parameters, buildable variants.
    #[arg(long)]
    verify: bool,
}

#[derive(Serialize)]
struct Report<'a> {
    model: &'a str,
    version: &'a str,
    dense_features: usize,
    sparse_features: usize,
    rows: u64,
    /// Whether it carries what turns raw values into features.
    takes_raw: bool,
    verified: bool,
    variants: Vec<Variant<'a>>,
}

#[derive(Serialize)]
struct Variant<'a> {
    name: &'a str,
    representations: String,
    bytes: usize,
    flops_per_sample: usize,
    quality: Option<&'a Quality>,
}

impl Inspect {
    pub(super) fn run(&self, output: &Output) -> Run {
        let bundle = Bundle::open(&self.bundle).or_bad_input()?;
        if self.verify {
            bundle.verify().or_bad_input()?;
        }
        let manifest = bundle.manifest();
        let variants = manifest
            .variants
            .iter()
            .map(|entry| {
                let program = bundle.program(&entry.name)?;
                Ok(Variant {
                    name: &entry.name,
                    representations: representations(&entry.architecture),
                    bytes: program.bytes(),
                    flops_per_sample: program.flops_per_sample(),
                    quality: entry.quality.as_ref(),
                })
            })
            .collect::<Result<Vec<_>, mprec_representations::BundleError>>()
            .or_bad_input()?;
        let report = Report {
            model: &manifest.model,
            version: &manifest.version,
            dense_features: manifest.schema.dense().len(),
            sparse_features: manifest.schema.sparse().len(),
            rows: manifest.schema.total_rows(),
            takes_raw: manifest.preprocessing.as_ref().is_some_and(|stated| stated.raw.is_some()),
            verified: self.verify,
            variants,
        };
        output.result(&report, || report.text())
    }
}

/// The representations of a variant's features, each with how many features have it.
fn representations(architecture: &Architecture) -> String {
    let spec = match architecture {
        Architecture::Ensemble { members } => return format!("mean of {}", members.join(" + ")),
        Architecture::Dlrm(spec) => spec,
    };
    let mut counts = std::collections::BTreeMap::new();
    for feature in &spec.features {
        *counts.entry(feature.name()).or_insert(0) += 1;
    }
    let parts: Vec<String> = counts.iter().map(|(name, count)| format!("{count} {name}")).collect();
    parts.join(", ")
}

impl Report<'_> {
    fn text(&self) -> String {
        let variants = output::table(
            ["variant", "features", "memory", "MFLOP/sample", "AUC", "log loss", "accuracy", "ECE"],
            self.variants.iter().map(|variant| {
                let figure = |get: fn(&Quality) -> f64| {
                    variant
                        .quality
                        .map_or("unknown".into(), |quality| format!("{:.4}", get(quality)))
                };
                [
                    variant.name.to_owned(),
                    variant.representations.clone(),
                    output::bytes(variant.bytes as u64),
                    format!("{:.2}", variant.flops_per_sample as f64 / 1e6),
                    figure(|quality| quality.auc),
                    figure(|quality| quality.logloss),
                    figure(|quality| quality.accuracy),
                    figure(|quality| quality.ece),
                ]
            }),
        );
        let source = self.variants.iter().find_map(|variant| variant.quality).map(|quality| {
            let how = match quality.source {
                QualitySource::Measured => "measured on",
                QualitySource::Declared => "DECLARED, by",
            };
            let samples = output::count(quality.samples);
            format!("Quality {how} {}, {}, {samples} rows.\n", quality.dataset, quality.split)
        });
        format!(
            "Model {} version {}: {} dense and {} sparse features, {} ids.{}{}\n\n{variants}\n{}",
            self.model,
            self.version,
            self.dense_features,
            self.sparse_features,
            output::count(self.rows),
            if self.takes_raw { " Takes raw values." } else { "" },
            if self.verified { " Every byte verified." } else { "" },
            source.unwrap_or_default(),
        )
    }
}
