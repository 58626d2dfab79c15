//! `mprec train`: variants from prepared data, into a bundle.

use std::{ops::ControlFlow, path::PathBuf};

use anyhow::{Context as _, anyhow};
use clap::{Args, ValueEnum};
use mprec_backends::{BackendKind, Path};
use mprec_datasets::{Dataset, Split, bundle_preprocessing};
use mprec_representations::{
    Bundle, BundleWriter, Dlrm, Interaction, Quality,
    bundle::{MANIFEST, QualitySource},
};
use mprec_trainer::{Checkpoints, Metrics, Recipe, Shape, TrainedVariant, train};
use serde::Serialize;

use super::{
    Failure, InputError as _, Output, Run,
    data::{self, Part},
    eval::evaluate,
    output::{self, Unit},
};

#[derive(Debug, Args)]
#[command(after_help = "\
Each variant trains on the training part alone; its quality is measured on everything after that and stored in
the bundle. Memory: the tables, one float per row for the optimiser (twice that with averaging), and a window of rows;
the rows themselves are streamed. An existing bundle with the same features gains the new variants.")]
pub(super) struct Train {
    /// What to train: table, hash, quotient_remainder, dhe, hybrid, select.
    #[arg(required_unless_present = "ensemble", value_parser = Recipe::NAMES)]
    variants: Vec<String>,
    /// A prepared folder.
    #[arg(long)]
    data: PathBuf,
    /// The bundle to write, or to add to.
    #[arg(long, short)]
    out: PathBuf,
    /// Add a variant that averages the logits of others, as `NAME=A+B`.
    #[arg(long)]
    ensemble: Vec<String>,
    /// The model's name in URLs.
    #[arg(long, default_value = "ctr")]
    model: String,
    /// The model's version: digits.
    #[arg(long, default_value = "1")]
    model_version: String,
    #[command(flatten)]
    settings: Settings,
    /// Keep a checkpoint in this folder and go on from one that is there. One folder per variant is made in it.
    #[arg(long)]
    checkpoints: Option<PathBuf>,
    /// Steps between checkpoints.
    #[arg(long, default_value_t = 10_000)]
    checkpoint_every: u64,
}

/// What can be set about training; everything else is the recipe's.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct Settings {
    /// Decides initial weights, hash functions and the order of rows.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Passes over the training rows; default: the recipe's.
    #[arg(long)]
    epochs: Option<u32>,
    /// Samples per step; default: the recipe's.
    #[arg(long)]
    batch: Option<usize>,
    /// Threads; default: one per core.
    #[arg(long)]
    threads: Option<usize>,
    /// Part of the training rows, at their end, that is judged during training and not trained on.
    #[arg(long)]
    validation: Option<f64>,
    /// Stop after this many judgements without improvement, and keep the best weights.
    #[arg(long, requires = "validation")]
    patience: Option<u32>,
    /// Judgements per epoch.
    #[arg(long, requires = "validation")]
    judge: Option<u32>,
    /// Nets small enough for small data.
    #[arg(long)]
    small: bool,
    /// Width of the feature vectors.
    #[arg(long)]
    dim: Option<usize>,
    /// How feature vectors meet.
    #[arg(long, value_enum)]
    interaction: Option<InteractionName>,
    /// Rows per feature of the hash variant.
    #[arg(long)]
    hash_rows: Option<u64>,
    /// Widths of the DHE of dhe and select, from the hashes on: `1024,128`.
    #[arg(long, value_delimiter = ',')]
    dhe: Vec<usize>,
    /// Widths of the DHE of hybrid, from the hashes on.
    #[arg(long, value_delimiter = ',')]
    hybrid_dhe: Vec<usize>,
    /// Hidden widths of the bottom net.
    #[arg(long, value_delimiter = ',')]
    bottom: Vec<usize>,
    /// Hidden widths of the top net.
    #[arg(long, value_delimiter = ',')]
    top: Vec<usize>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum InteractionName {
    /// Dot products of all pairs.
    Dot,
    /// Concatenation.
    Cat,
}

impl Settings {
    /// The recipes as they are, on small nets if asked.
    pub(super) fn recipes(seed: u64, small: bool) -> Self {
        Self { seed, small, ..Self::default() }
    }

    fn recipe(&self, name: &str, dataset: &Dataset) -> anyhow::Result<Recipe> {
        let mut shape = if self.small { Shape::small() } else { Shape::default() };
        shape.dim = self.dim.unwrap_or(shape.dim);
        shape.hash_rows = self.hash_rows.unwrap_or(shape.hash_rows);
        match self.interaction {
            Some(InteractionName::Dot) => shape.interaction = Interaction::Dot { itself: false },
            Some(InteractionName::Cat) => shape.interaction = Interaction::Cat,
            None => {}
        }
        if let Some((&hashes, hidden)) = self.dhe.split_first() {
            shape.dhe = (hashes, hidden.to_vec());
        }
        if let Some((&hashes, hidden)) = self.hybrid_dhe.split_first() {
            shape.hybrid_dhe = (hashes, hidden.to_vec());
        }
        for (hidden, given) in [(&mut shape.bottom, &self.bottom), (&mut shape.top, &self.top)] {
            if !given.is_empty() {
                hidden.clone_from(given);
            }
        }
        let mut recipe = Recipe::named(name, dataset.schema(), &shape)
            .ok_or_else(|| anyhow!("`{name}` is none of {}", Recipe::NAMES.join(", ")))?;
        let options = &mut recipe.options;
        options.seed = self.seed;
        options.epochs = self.epochs.unwrap_or(options.epochs);
        options.batch = self.batch.unwrap_or(options.batch);
        options.threads = self.threads.unwrap_or(options.threads);
        options.validation.share = self.validation.unwrap_or(options.validation.share);
        options.validation.per_epoch = self.judge.unwrap_or(options.validation.per_epoch);
        options.validation.patience = self.patience.or(options.validation.patience);
        Ok(recipe)
    }
}

/// How a variant turned out.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Outcome {
    pub(super) variant: String,
    #[serde(flatten)]
    pub(super) metrics: Metrics,
    pub(super) bytes: usize,
    /// Absent for an ensemble, which is not trained.
    pub(super) train_seconds: Option<f64>,
    pub(super) rows_per_second: Option<f64>,
}

impl Train {
    pub(super) fn run(&self, output: &Output) -> Run {
        let dataset = Dataset::open(&self.data).or_bad_input()?;
        let ensembles = self
            .ensemble
            .iter()
            .map(|text| {
                let (name, members) = text.split_once('=').context("write `NAME=A+B`")?;
                Ok((name, members.split('+').collect::<Vec<_>>()))
            })
            .collect::<anyhow::Result<Vec<_>>>()
            .or_bad_input()?;
        let mut writer =
            if self.out.join(MANIFEST).exists() {
                let mut writer = BundleWriter::open(&self.out).or_bad_input()?;
                if writer.manifest().schema != *dataset.schema() {
                    return Err(Failure::input(anyhow!(
                        "bundle `{}` has other features than the data; choose another --out",
                        self.out.display()
                    )));
                }
                data::check_vocabulary(&writer, &dataset).or_bad_input()?;
                // One that carries nothing yet, though it is of this very vocabulary.
                let ours = bundle_preprocessing(dataset.manifest());
                if writer.manifest().preprocessing.as_ref().is_some_and(|theirs| {
                    theirs.raw.is_none() && theirs.vocabulary_sha256.is_some()
                }) {
                    writer.set_preprocessing(ours, dataset.folder()).or_bad_input()?;
                }
                writer
            } else {
                new_bundle(&self.out, &self.model, &self.model_version, &dataset)?
            };
        let mut outcomes = Vec::new();
        for name in &self.variants {
            let checkpoints = self.checkpoints.as_ref().map(|folder| Checkpoints {
                folder: folder.join(name),
                every: self.checkpoint_every,
            });
            let outcome = train_variant(
                name,
                &dataset,
                &self.settings,
                checkpoints.as_ref(),
                &mut writer,
                output,
            )?;
            // After each variant, so that an interruption loses no finished one.
            writer.finish()?;
            outcomes.push(outcome);
        }
        for (name, members) in ensembles {
            outcomes.push(add_ensemble(name, &members, &dataset, &mut writer, output)?);
        }
        output.result(&outcomes, || {
            let split = format!(
                "{} held-out rows of {}",
                dataset.rows(Split::HeldOut).len(),
                dataset.label()
            );
            format!("Quality on {split}:\n{}\nwritten to {}", table(&outcomes), self.out.display())
        })
    }
}

/// A new bundle for models trained on `dataset`, with the preprocessing of its raw rows.
pub(super) fn new_bundle(
    folder: &std::path::Path,
    model: &str,
    version: &str,
    dataset: &Dataset,
) -> Result<BundleWriter, Failure> {
    let mut writer = BundleWriter::create(folder, model, version, dataset.schema().clone(), None)
        .or_bad_input()?;
    let preprocessing = bundle_preprocessing(dataset.manifest());
    writer.set_preprocessing(preprocessing, dataset.folder()).or_bad_input()?;
    Ok(writer)
}

/// Trains a variant, measures it on the held-out rows, and adds it to the bundle.
pub(super) fn train_variant(
    name: &str,
    dataset: &Dataset,
    settings: &Settings,
    checkpoints: Option<&Checkpoints>,
    writer: &mut BundleWriter,
    output: &Output,
) -> Result<Outcome, Failure> {
    if !dataset.is_labelled() {
        return Err(Failure::input(anyhow!("{} has no labels to train on", dataset.label())));
    }
    let recipe = settings.recipe(name, dataset).or_bad_input()?;
    let bar = output.bar(&format!("training {name}"), 0, Unit::Steps);
    let start = std::time::Instant::now();
    let trained = train(
        dataset,
        dataset.rows(Split::Train),
        &recipe.spec,
        &recipe.options,
        checkpoints,
        &mut |progress| {
            bar.set_length(progress.steps);
            bar.set_position(progress.step);
            let auc = match (progress.validation, progress.recent_auc) {
                (Some(judged), _) => format!(", validation AUC {:.4}", judged.auc),
                (None, Some(recent)) => format!(", AUC before training {recent:.4}"),
                (None, None) => String::new(),
            };
            bar.set_message(format!(
                "{:.0} rows/s, loss {:.4}{auc}",
                progress.rows_per_second, progress.loss
            ));
            ControlFlow::Continue(())
        },
    )?;
    bar.finish_and_clear();
    let TrainedVariant { spec, weights, summary } = trained;
    let train_seconds = start.elapsed().as_secs_f64();
    let program = Dlrm::load(dataset.schema(), &spec, &weights)?.lower()?;
    let (metrics, _) = evaluate(&program, &cpu(name)?, dataset, judged(dataset), output)?;
    writer.add(name, &spec, &weights, Some(quality(dataset, &metrics)))?;
    output.note(&format!(
        "{name:8} AUC {:.4}, log loss {:.4}, accuracy {:.4} on {} held-out rows; trained in {train_seconds:.1} s ({:.0} rows/s)",
        metrics.auc, metrics.logloss, metrics.accuracy, metrics.samples, summary.rows_per_second
    ));
    Ok(Outcome {
        variant: name.to_owned(),
        metrics,
        bytes: program.bytes(),
        train_seconds: Some(train_seconds),
        rows_per_second: Some(summary.rows_per_second),
    })
}

/// Adds an ensemble of variants that are in the bundle, with its measured quality.
pub(super) fn add_ensemble(
    name: &str,
    members: &[&str],
    dataset: &Dataset,
    writer: &mut BundleWriter,
    output: &Output,
) -> Result<Outcome, Failure> {
    writer.add_ensemble(name, members, None);
    writer.finish().or_bad_input()?;
    let bundle = Bundle::open(writer.folder())?;
    let program = bundle.program(name).or_bad_input()?;
    let (metrics, _) = evaluate(&program, &cpu(name)?, dataset, judged(dataset), output)?;
    writer.set_quality(name, quality(dataset, &metrics))?;
    writer.finish()?;
    output.note(&format!(
        "{name:8} AUC {:.4}, log loss {:.4}, accuracy {:.4}: mean logit of {}",
        metrics.auc,
        metrics.logloss,
        metrics.accuracy,
        members.join(" and ")
    ));
    Ok(Outcome {
        variant: name.to_owned(),
        metrics,
        bytes: program.bytes(),
        train_seconds: None,
        rows_per_second: None,
    })
}

pub(super) fn table(outcomes: &[Outcome]) -> String {
    output::table(
        [
            "variant",
            "AUC",
            "log loss",
            "normalised entropy",
            "accuracy",
            "ECE",
            "memory",
            "training",
        ],
        outcomes.iter().map(|outcome| {
            let metrics = &outcome.metrics;
            [
                outcome.variant.clone(),
                format!("{:.4}", metrics.auc),
                format!("{:.4}", metrics.logloss),
                format!("{:.4}", metrics.normalised_entropy),
                format!("{:.4}", metrics.accuracy),
                format!("{:.4}", metrics.ece),
                output::bytes(outcome.bytes as u64),
                outcome.train_seconds.map_or("-".into(), |seconds| format!("{seconds:.1} s")),
            ]
        }),
    )
}

/// What the quality in a bundle is measured on: everything after the training rows, or every row
/// where nothing was held out.
pub(super) fn judged(dataset: &Dataset) -> Part {
    if dataset.rows(Split::HeldOut).is_empty() { Part::All } else { Part::HeldOut }
}

pub(super) fn quality(dataset: &Dataset, metrics: &Metrics) -> Quality {
    Quality {
        source: QualitySource::Measured,
        dataset: dataset.label(),
        split: judged(dataset).name().to_owned(),
        samples: metrics.samples,
        auc: metrics.auc,
        logloss: metrics.logloss,
        accuracy: metrics.accuracy,
        ece: metrics.ece,
        normalised_entropy: metrics.normalised_entropy,
    }
}

fn cpu(variant: &str) -> anyhow::Result<Path> {
    Ok(Path::new(variant, BackendKind::Cpu)?)
}
