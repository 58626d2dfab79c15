//! `mprec data`: raw click logs to prepared folders.

use std::path::{Path, PathBuf};

use anyhow::{anyhow, bail, ensure};
use clap::{Args, Subcommand, ValueEnum};
use mprec_datasets::{
    Coding, Dataset, Layout, PrepareOptions, PrepareReport, Progress, Recipe, Split, Stage,
    bundle_preprocessing, prepare,
};
use mprec_representations::{BundleWriter, bundle::RawRows};
use serde::Serialize;

use super::{
    Failure, InputError as _, Output, Run,
    output::{self, Unit},
};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Turn raw rows into memory-mapped shards: vocabulary, transforms, splits by time.
    Prepare(Prepare),
    /// Show a prepared folder.
    Show {
        /// The folder.
        folder: PathBuf,
        /// Compare every file with its digest.
        #[arg(long)]
        verify: bool,
    },
    /// Put what the rows were prepared with into a bundle, so that its server takes raw values. `mprec train` does so too.
    Attach {
        /// The prepared folder that the bundle's models were trained on.
        folder: PathBuf,
        /// The bundle's folder.
        #[arg(long)]
        bundle: PathBuf,
    },
}

#[derive(Debug, Args)]
#[command(after_help = "\
Criteo's data: ask for \"Criteo Display Advertising Challenge\" (train.txt) or \"Criteo 1TB Click Logs\"
(day_0.gz to day_23.gz) at Criteo AI Lab's data sets page, and pass the files as downloaded, in the order
of time. Plain, gzip, xz and zstd files are recognised by their content.")]
pub(super) struct Prepare {
    /// Raw files, in the order of time.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// The folder to write.
    #[arg(long, short)]
    out: PathBuf,
    /// What a line holds.
    #[arg(long, default_value = "criteo-kaggle")]
    layout: String,
    /// Treat rows as this prepared folder's were: same layout, vocabulary and ids.
    #[arg(long, conflicts_with_all = ["layout", "min_count", "hash_rows"])]
    like: Option<PathBuf>,
    /// Values seen less often in the training rows share the out-of-vocabulary row.
    #[arg(long, default_value_t = 4)]
    min_count: u64,
    /// Hash values to this many rows per feature instead of building a vocabulary.
    #[arg(long)]
    hash_rows: Option<u64>,
    /// Part of the rows, from the start, that trains.
    #[arg(long, default_value_t = 0.8)]
    train: f64,
    /// Stop after this many rows.
    #[arg(long)]
    max_rows: Option<u64>,
    /// A table that the layout joins, as `name=file`.
    #[arg(long = "table", value_parser = name_and_file)]
    tables: Vec<(String, PathBuf)>,
    /// What every output calls the data; default: the first file's name.
    #[arg(long)]
    name: Option<String>,
    /// Replace a prepared folder that is there already.
    #[arg(long)]
    replace: bool,
}

/// Parts of a prepared folder, as the command line names them.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Part {
    /// The rows that train.
    Train,
    /// The first half of what follows.
    Test,
    /// The second half of what follows.
    Validation,
    /// Everything after the training rows.
    HeldOut,
    /// Every row.
    All,
}

impl Part {
    pub(super) fn split(self) -> Split {
        match self {
            Self::Train => Split::Train,
            Self::Test => Split::Test,
            Self::Validation => Split::Validation,
            Self::HeldOut => Split::HeldOut,
            Self::All => Split::All,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Test => "test",
            Self::Validation => "validation",
            Self::HeldOut => "held-out",
            Self::All => "all",
        }
    }
}

/// Parses `name=file`.
pub(super) fn name_and_file(text: &str) -> Result<(String, PathBuf), String> {
    let (name, file) = text.split_once('=').ok_or("write `name=file`")?;
    Ok((name.to_owned(), file.into()))
}

#[derive(Serialize)]
struct Report {
    name: String,
    synthetic: bool,
    rows: u64,
    train: u64,
    test: u64,
    validation: u64,
    click_rate: f64,
    malformed_lines: u64,
    ids: u64,
    dense_features: usize,
    sparse_features: usize,
}

impl Command {
    pub(super) fn run(&self, output: &Output) -> Run {
        match self {
            Self::Prepare(command) => command.run(output),
            Self::Show { folder, verify } => {
                let dataset = Dataset::open(folder).or_bad_input()?;
                if *verify {
                    dataset.verify().or_bad_input()?;
                }
                show(&dataset, output)
            }
            Self::Attach { folder, bundle } => attach(folder, bundle, output),
        }
    }
}

impl Prepare {
    fn run(&self, output: &Output) -> Run {
        let mut options = match &self.like {
            Some(folder) => {
                PrepareOptions::same_as(self.files.clone(), self.out.clone(), folder.clone())
            }
            None => {
                let layout = Layout::preset(&self.layout).or_bad_input()?;
                let mut options =
                    PrepareOptions::new(self.files.clone(), self.out.clone(), layout.clone());
                let coding = match self.hash_rows {
                    Some(rows) => Coding::Hashing { rows, seed: 0 },
                    None => Coding::Vocabulary { min_count: self.min_count, max_tokens: None },
                };
                options.recipe =
                    Recipe::New { layout, coding, tables: self.tables.iter().cloned().collect() };
                options.train_fraction = self.train;
                options
            }
        };
        options.max_rows = self.max_rows;
        options.name.clone_from(&self.name);
        options.replace = self.replace;
        prepare_with_bar(&options, output)?;
        show(&Dataset::open(&self.out)?, output)
    }
}

#[derive(Serialize)]
struct Attached<'a> {
    bundle: &'a Path,
    data: String,
    /// Bytes of the files that the bundle has more.
    bytes: u64,
}

fn attach(folder: &Path, bundle: &Path, output: &Output) -> Run {
    let dataset = Dataset::open(folder).or_bad_input()?;
    let mut writer = BundleWriter::open(bundle).or_bad_input()?;
    let preprocessing = bundle_preprocessing(dataset.manifest());
    if preprocessing.raw.is_none() {
        return Err(Failure::input(anyhow!(
            "the rows of `{}` were made up, so there is no way from raw values to them",
            folder.display()
        )));
    }
    let (ours, theirs) = (dataset.schema(), &writer.manifest().schema);
    if ours.dense() != theirs.dense() || ours.sparse() != theirs.sparse() {
        return Err(Failure::input(anyhow!(
            "bundle `{}` has other features than `{}`: it was trained on other data",
            bundle.display(),
            folder.display()
        )));
    }
    check_vocabulary(&writer, &dataset).or_bad_input()?;
    writer.set_preprocessing(preprocessing, folder).or_bad_input()?;
    writer.finish()?;
    let report = Attached {
        bundle,
        data: dataset.label(),
        bytes: writer.manifest().raw_files().map(|file| file.bytes).sum(),
    };
    output.result(&report, || {
        format!(
            "`{}` now carries the preprocessing of {} ({}): its server takes raw values.",
            report.bundle.display(),
            report.data,
            output::bytes(report.bytes)
        )
    })
}

/// Refuses data whose ids stand for other values than those of the bundle, where the bundle says which.
pub(super) fn check_vocabulary(writer: &BundleWriter, dataset: &Dataset) -> anyhow::Result<()> {
    let ours = bundle_preprocessing(dataset.manifest());
    let Some(theirs) = &writer.manifest().preprocessing else { return Ok(()) };
    let vocabulary =
        theirs.vocabulary_sha256.is_none() || theirs.vocabulary_sha256 == ours.vocabulary_sha256;
    let raw = theirs.raw.is_none() || {
        let coding = |raw: &RawRows| (raw.layout.clone(), raw.coding.clone());
        theirs.raw.as_ref().map(coding) == ours.raw.as_ref().map(coding)
    };
    ensure!(
        vocabulary && raw,
        "bundle `{}` was trained on data that was prepared otherwise, so that the same id is another value; prepare the \
         data with `mprec data prepare --like FOLDER`, FOLDER being what it was trained on",
        writer.folder().display()
    );
    if let (Some(theirs), Some(ours)) = (&theirs.raw, &ours.raw)
        && let Some(table) = other_table(theirs, ours)
    {
        bail!(
            "bundle `{}` was trained on data that was joined with another table `{table}`, so that the same row has \
             other features; prepare the data with `mprec data prepare --like FOLDER`, FOLDER being what it was trained on",
            writer.folder().display()
        );
    }
    Ok(())
}

/// The first table whose content is not the same in both, by the name that their common layout has for it.
fn other_table(theirs: &RawRows, ours: &RawRows) -> Option<String> {
    let digest = |raw: &RawRows, at: usize| raw.tables.get(at).map(|entry| entry.sha256.clone());
    let at = (0..theirs.tables.len().max(ours.tables.len()))
        .find(|&at| digest(theirs, at) != digest(ours, at))?;
    let name = ours.layout.pointer(&format!("/joins/{at}/table")).and_then(|name| name.as_str());
    Some(name.map_or_else(|| at.to_string(), str::to_owned))
}

/// Prepares, showing how far it is and, at the end, what was left out.
pub(super) fn prepare_with_bar(
    options: &PrepareOptions,
    output: &Output,
) -> Result<PrepareReport, super::Failure> {
    let mut bar = None;
    let report = prepare(options, |progress: Progress| {
        let (stage, bar) =
            bar.get_or_insert_with(|| (progress.stage, stage_bar(output, &progress)));
        if *stage != progress.stage {
            bar.finish_and_clear();
            (*stage, *bar) = (progress.stage, stage_bar(output, &progress));
        }
        bar.set_length(progress.total);
        bar.set_position(progress.done);
        let malformed = match progress.malformed {
            0 => String::new(),
            lines => format!(", {lines} malformed"),
        };
        bar.set_message(format!("{} rows{malformed}", output::count(progress.rows)));
    })
    .or_bad_input()?;
    if let Some((_, bar)) = bar {
        bar.finish_and_clear();
    }
    for line in &report.malformed {
        output.note(&format!("left out: {line}"));
    }
    Ok(report)
}

fn stage_bar(output: &Output, progress: &Progress) -> indicatif::ProgressBar {
    let unit = match progress.stage {
        Stage::Reading => Unit::Bytes,
        Stage::Generating => Unit::Rows,
        _ => Unit::Steps,
    };
    output.bar(progress.stage.name(), progress.total, unit)
}

fn show(dataset: &Dataset, output: &Output) -> Run {
    let manifest = dataset.manifest();
    let positives = dataset.positives(Split::All);
    let report = Report {
        name: manifest.name.clone(),
        synthetic: manifest.synthetic.is_some(),
        rows: manifest.rows,
        train: manifest.splits.train,
        test: manifest.splits.test,
        validation: manifest.splits.validation,
        click_rate: positives as f64 / manifest.rows.max(1) as f64,
        malformed_lines: manifest.malformed_lines,
        ids: manifest.schema.total_rows(),
        dense_features: manifest.schema.dense().len(),
        sparse_features: manifest.schema.sparse().len(),
    };
    output.result(&report, || {
        format!(
            "{}: {} rows ({} train, {} test, {} validation), click rate {:.4}, {} malformed lines left out\n\
             {} dense and {} sparse features, {} ids",
            dataset.label(),
            output::count(report.rows),
            output::count(report.train),
            output::count(report.test),
            output::count(report.validation),
            report.click_rate,
            report.malformed_lines,
            report.dense_features,
            report.sparse_features,
            output::count(report.ids),
        )
    })
}

#[cfg(test)]
mod tests {
    use mprec_representations::bundle::FileEntry;
    use serde_json::json;

    use super::*;

    #[test]
    fn tables_are_compared_by_content_and_in_order() {
        let raw = |digests: &[&str]| RawRows {
            layout: json!({"joins": [{"table": "items"}, {"table": "shops"}]}),
            coding: json!({}),
            vocabulary: None,
            tables: digests
                .iter()
                .map(|digest| FileEntry {
                    file: format!("table-of-{}.csv", digests.len()),
                    bytes: 1,
                    sha256: (*digest).to_owned(),
                })
                .collect(),
        };
        let both = raw(&["a", "b"]);
        let mut renamed = both.clone();
        renamed.tables[0].file = "table-0-a.csv".into();
        assert_eq!(other_table(&both, &renamed), None);
        for (theirs, table) in [
            (&["b", "b"][..], "items"),
            (&["a", "c"], "shops"),
            (&["b", "a"], "items"),
            (&["a"], "shops"),
        ] {
            assert_eq!(other_table(&raw(theirs), &both).as_deref(), Some(table), "{theirs:?}");
        }
    }
}
