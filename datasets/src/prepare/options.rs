//! What to prepare, and how.

use std::{collections::BTreeMap, path::PathBuf};

use crate::{
    error::PrepareError,
    folder::{
        Coding,
        manifest::{MAX_NAME, check_name},
    },
    layout::Layout,
};

/// Rows of a shard: with 13 + 26 features, 41 MB.
pub(crate) const DEFAULT_SHARD_ROWS: usize = 1 << 18;

/// What to prepare, and how.
#[derive(Debug, Clone)]
pub struct PrepareOptions {
    /// The files, in the order of time: plain, gzip, xz or zstd, found out by their first bytes.
    pub inputs: Vec<PathBuf>,
    /// The folder to write: empty, or not yet there.
    pub output: PathBuf,
    /// Whether a prepared folder that is there already may go.
    pub replace: bool,
    /// What the data is called; by default the first file's name up to its first dot.
    pub name: Option<String>,
    /// How raw rows become values and ids.
    pub recipe: Recipe,
    /// The part of the rows that trains, 0 to 1; the rest is held out.
    pub train_fraction: f64,
    /// How many lines may be malformed.
    pub malformed: MalformedLimit,
    /// Stop after this many rows, as if the input ended there.
    pub max_rows: Option<u64>,
    /// Rows of each shard, 1 to 2²⁴.
    pub shard_rows: usize,
    /// Threads that parse and count; by default one per core. The result does not depend on it.
    pub threads: Option<usize>,
}

/// How raw rows become values and ids.
#[derive(Debug, Clone)]
pub enum Recipe {
    /// Newly: a vocabulary is counted on the training rows, or values are hashed.
    New {
        /// The columns.
        layout: Layout,
        /// How tokens become ids.
        coding: Coding,
        /// Files of the tables that the layout joins, by name.
        tables: BTreeMap<String, PathBuf>,
    },
    /// As in this prepared folder: for later rows that a model trained there is to judge.
    Same(PathBuf),
}

/// How many lines may be malformed before the preparation stops: a line more than `at_least`, and
/// than `fraction` of the lines read so far.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MalformedLimit {
    /// A part of all lines read so far. By default a thousandth.
    pub fraction: f64,
    /// So many pass however few lines there are. By default 10.
    pub at_least: u64,
}

impl Default for MalformedLimit {
    fn default() -> Self {
        Self { fraction: 0.001, at_least: 10 }
    }
}

impl MalformedLimit {
    /// Malformed lines that pass among so many lines.
    pub fn among(&self, lines: u64) -> u64 {
        self.at_least.max((lines as f64 * self.fraction) as u64)
    }
}

impl PrepareOptions {
    /// Files of `layout` to `output`: a vocabulary of values that occur at least 4 times in the
    /// first 80 % of the rows, which train.
    pub fn new(inputs: Vec<PathBuf>, output: PathBuf, layout: Layout) -> Self {
        let recipe = Recipe::New { layout, coding: Coding::default(), tables: BTreeMap::new() };
        Self {
            inputs,
            output,
            replace: false,
            name: None,
            recipe,
            train_fraction: 0.8,
            malformed: MalformedLimit::default(),
            max_rows: None,
            shard_rows: DEFAULT_SHARD_ROWS,
            threads: None,
        }
    }

    /// Files to `output` as `prepared` was made, none of them for training.
    pub fn same_as(inputs: Vec<PathBuf>, output: PathBuf, prepared: PathBuf) -> Self {
        Self {
            recipe: Recipe::Same(prepared),
            train_fraction: 0.0,
            ..Self::new(inputs, output, Layout::criteo_kaggle())
        }
    }

    pub(crate) fn check(&self) -> Result<(), PrepareError> {
        let wrong =
            |option, value: String, allowed| Err(PrepareError::Option { option, value, allowed });
        if self.inputs.is_empty() {
            return wrong("the number of inputs", "0".into(), "at least 1");
        }
        if !(0.0..=1.0).contains(&self.train_fraction) {
            return wrong("the training part", self.train_fraction.to_string(), "0 to 1");
        }
        if !(0.0..=1.0).contains(&self.malformed.fraction) {
            return wrong("the malformed part", self.malformed.fraction.to_string(), "0 to 1");
        }
        super::check_shard_rows(self.shard_rows)?;
        if let Recipe::New { coding, .. } = &self.recipe {
            match coding {
                Coding::Vocabulary { min_count: 0, .. } => {
                    return wrong("the minimum count", "0".into(), "at least 1");
                }
                Coding::Hashing { rows, .. } if !(2..=1 << 32).contains(rows) => {
                    return wrong("the number of hashed rows", rows.to_string(), "2 to 2^32");
                }
                _ => (),
            }
        }
        Ok(())
    }

    /// The name given, or one made of the first file's.
    pub(crate) fn data_name(&self) -> Result<String, PrepareError> {
        if let Some(name) = &self.name {
            return match check_name(name) {
                Ok(()) => Ok(name.clone()),
                Err(_) => Err(PrepareError::Option {
                    option: "the name",
                    value: format!("{name:?}"),
                    allowed: "1 to 200 printable characters",
                }),
            };
        }
        let file = self.inputs.first().and_then(|path| path.file_name()).unwrap_or_default();
        let name: String = file
            .to_string_lossy()
            .split('.')
            .find(|part| !part.is_empty())
            .unwrap_or("data")
            .chars()
            .filter(|character| !character.is_control())
            .take(MAX_NAME / 4)
            .collect();
        Ok(if name.is_empty() { "data".into() } else { name })
    }
}
