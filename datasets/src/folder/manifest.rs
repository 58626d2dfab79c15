//! What a prepared folder says of itself.

use std::{io, path::Path};

use mprec_representations::{Schema, bundle::FileEntry};
use serde::{Deserialize, Serialize};

use super::{
    FORMAT_VERSION, MANIFEST, Splits, VOCABULARY, damaged, read_limited,
    shard::{MAX_SHARD_ROWS, ShardShape},
};
use crate::{error::DatasetError, layout::Layout};

/// Largest manifest: room for a hundred thousand shards and four thousand features.
const MAX_MANIFEST_BYTES: u64 = 64 << 20;

/// Longest name of a data set.
pub(crate) const MAX_NAME: usize = 200;

/// The content of `manifest.json`, found consistent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Manifest {
    /// [`FORMAT_VERSION`].
    pub format_version: u64,
    /// What the data set is called.
    pub name: String,
    /// How the rows were made up; absent if they are real.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub synthetic: Option<SyntheticOrigin>,
    /// Names of the files that were read, without folders, in time order.
    pub sources: Vec<String>,
    /// The features, with the cardinalities that the ids keep to.
    pub schema: Schema,
    /// How raw rows became these; absent if the rows were made up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preprocessing: Option<Preprocessing>,
    /// Whether the rows have labels.
    pub labelled: bool,
    /// Number of rows.
    pub rows: u64,
    /// Rows that train, test and validate.
    pub splits: Splits,
    /// Rows with label 1 in each of those.
    pub positives: Splits,
    /// Lines that were left out as malformed.
    pub malformed_lines: u64,
    /// Rows of every shard but the last.
    pub shard_rows: u64,
    /// The shards, in the order of their rows.
    pub shards: Vec<ShardEntry>,
}

/// One shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardEntry {
    /// Its name.
    pub file: String,
    /// Its rows.
    pub rows: u64,
    /// Its size.
    pub bytes: u64,
    /// SHA-256 of its content, lower-case hexadecimal.
    pub sha256: String,
}

/// How raw rows become dense values and ids; a raw row to score must be treated alike.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Preprocessing {
    /// The columns of a raw row.
    pub layout: Layout,
    /// How tokens become ids.
    pub coding: Coding,
    /// The file of the vocabulary, if ids come from one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vocabulary: Option<FileEntry>,
    /// Files of the tables that the layout joins, in the layout's order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tables: Vec<FileEntry>,
}

/// How the tokens of a feature become ids.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Coding {
    /// Tokens seen at least `min_count` times in the training rows have an id of their own, in
    /// order of frequency; all others are id 0. A missing value is a token like any other.
    Vocabulary {
        /// How often a token must occur in the training rows; at least 1.
        min_count: u64,
        /// Most tokens that get an id of their own, the most frequent ones.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max_tokens: Option<u64>,
    },
    /// Ids are hashes, see [`Token::hashed`](crate::Token::hashed); every feature has this many.
    Hashing {
        /// Rows of every feature's table, 2 to 2³².
        rows: u64,
        /// Seed of the hash.
        seed: u64,
    },
}

impl Default for Coding {
    /// A vocabulary of what occurs at least 4 times: what rarer values teach is mostly noise.
    fn default() -> Self {
        Self::Vocabulary { min_count: 4, max_tokens: None }
    }
}

/// How rows were made up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct SyntheticOrigin {
    /// Seed of everything.
    pub seed: u64,
    /// By how much large cardinalities were divided.
    pub scale_down: f64,
    /// Zipf exponent of every sparse feature.
    pub exponents: Vec<f64>,
    /// Share of rows with label 1 that the planted model was set to.
    pub click_rate: f64,
    /// Standard deviation of the planted model's logits, about.
    pub signal: f64,
    /// AUC of the planted model itself on held-out rows: no model can be expected to do better.
    pub planted_auc: f64,
    /// Log loss of the planted model itself on held-out rows, in nats.
    pub planted_log_loss: f64,
    /// How many held-out rows the two were measured on.
    pub planted_rows: u64,
}

impl Manifest {
    /// Reads the manifest of a prepared folder.
    ///
    /// # Errors
    ///
    /// [`DatasetError`] when there is none, it is of another version, or it contradicts itself.
    pub fn read(folder: &Path) -> Result<Self, DatasetError> {
        let file = folder.join(MANIFEST);
        let text = match read_limited(&file, MAX_MANIFEST_BYTES) {
            Err(DatasetError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Err(DatasetError::NotPrepared { folder: folder.into() });
            }
            text => text?,
        };
        #[derive(Deserialize)]
        struct Version {
            format_version: u64,
        }
        let version: Version =
            serde_json::from_slice(&text).map_err(|error| damaged(&file, error.to_string()))?;
        if version.format_version != FORMAT_VERSION {
            return Err(DatasetError::Version {
                file,
                found: version.format_version,
                expected: FORMAT_VERSION,
            });
        }
        let manifest: Self =
            serde_json::from_slice(&text).map_err(|error| damaged(&file, error.to_string()))?;
        manifest.check().map_err(|reason| damaged(&file, reason))?;
        Ok(manifest)
    }

    /// What every output calls the data: its name, and whether it was made up.
    pub fn label(&self) -> String {
        match self.synthetic {
            Some(_) => format!("{} (synthetic)", self.name),
            None => self.name.clone(),
        }
    }

    /// The shape of a shard of this data set.
    pub(crate) fn shard_shape(&self, rows: u64) -> ShardShape {
        ShardShape {
            rows: rows as usize,
            dense: self.schema.dense().len(),
            sparse: self.schema.sparse().len(),
            labelled: self.labelled,
        }
    }

    fn check(&self) -> Result<(), String> {
        check_name(&self.name)?;
        if self.splits.rows() != Some(self.rows) || self.rows == 0 {
            return Err(format!("its splits do not add to {} rows", self.rows));
        }
        if self.shard_rows == 0 || self.shard_rows > MAX_SHARD_ROWS as u64 {
            return Err(format!("its shards have {} rows", self.shard_rows));
        }
        if self.shards.len() as u64 != self.rows.div_ceil(self.shard_rows) {
            return Err(format!("{} shards do not hold {} rows", self.shards.len(), self.rows));
        }
        let mut left = self.rows;
        for (at, shard) in self.shards.iter().enumerate() {
            let rows = left.min(self.shard_rows);
            left -= rows;
            let bytes =
                self.shard_shape(rows).places().map_or(0, |places| places.labels.end as u64);
            if shard.rows != rows || shard.bytes != bytes || shard.file != shard_file(at) {
                return Err(format!("the entry of shard {at} contradicts the rest"));
            }
        }
        if let Some(feature) =
            self.schema.sparse().iter().find(|feature| feature.cardinality > 1 << 32)
        {
            return Err(format!("the ids of feature `{}` do not fit 32 bits", feature.name));
        }
        match &self.preprocessing {
            Some(preprocessing) => preprocessing.check(&self.schema),
            None => Ok(()),
        }
    }
}

impl Preprocessing {
    fn check(&self, schema: &Schema) -> Result<(), String> {
        self.check_features(schema)?;
        let tables = self.layout.fields().joins.iter().map(|join| table_file(&join.table));
        if self.vocabulary.as_ref().is_some_and(|entry| entry.file != VOCABULARY)
            || !tables.eq(self.tables.iter().map(|entry| entry.file.clone()))
        {
            return Err("its files are called otherwise than such files are".into());
        }
        Ok(())
    }

    /// That it is of these features, and names the files that it needs, whatever they are called.
    pub(crate) fn check_features(&self, schema: &Schema) -> Result<(), String> {
        let fields = self.layout.fields();
        let dense = fields.dense.iter().map(|dense| &dense.name);
        let sparse = fields.sparse.iter().map(|sparse| &sparse.name);
        if !dense.eq(schema.dense())
            || !sparse.eq(schema.sparse().iter().map(|feature| &feature.name))
        {
            return Err("its layout and its schema name other features".into());
        }
        self.coding.check()?;
        if self.vocabulary.is_some() != matches!(self.coding, Coding::Vocabulary { .. }) {
            return Err("its coding and its vocabulary file contradict each other".into());
        }
        if self.tables.len() != fields.joins.len() {
            return Err("its tables are not those that the layout joins".into());
        }
        // Each is held in memory, however often it is on disk.
        for (at, entry) in self.tables.iter().enumerate() {
            if self.tables[..at].iter().any(|other| other.file == entry.file) {
                return Err(format!("two of its tables are the file `{}`", entry.file));
            }
        }
        Ok(())
    }
}

impl Coding {
    pub(crate) fn check(&self) -> Result<(), String> {
        match *self {
            Self::Vocabulary { min_count: 0, .. } => Err("the minimum count is 0".into()),
            Self::Hashing { rows, .. } if !(2..=1 << 32).contains(&rows) => {
                Err(format!("hashing to {rows} rows; 2 to 2^32 are possible"))
            }
            _ => Ok(()),
        }
    }
}

/// A name is printed in every output, so it is one short line.
pub(crate) fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() || name.len() > MAX_NAME || name.chars().any(char::is_control) {
        return Err(format!("its name is not 1 to {MAX_NAME} printable characters"));
    }
    Ok(())
}

pub(crate) fn shard_file(at: usize) -> String {
    format!("shard-{at:05}.bin")
}

pub(crate) fn table_file(table: &str) -> String {
    format!("table-{table}.csv")
}

#[cfg(test)]
mod tests {
    use mprec_representations::{OutOfVocabulary, SparseFeature};

    use super::*;
    use crate::layout::{Column, Fields, Join};

    #[test]
    fn every_table_is_a_file_of_its_own() {
        let mut fields: Fields = Layout::preset("criteo-kaggle").unwrap().into();
        let join = |table: &str| Join { table: table.into(), on: Column::At(1), key: "k".into() };
        fields.joins = vec![join("a"), join("b")];
        let sparse = |name: &String| SparseFeature { name: name.clone(), cardinality: 5 };
        let schema = Schema::new(
            fields.dense.iter().map(|dense| dense.name.clone()).collect(),
            fields.sparse.iter().map(|column| sparse(&column.name)).collect(),
            OutOfVocabulary::Zero,
        );
        let schema = schema.unwrap();
        let file = |name: &str| FileEntry { file: name.into(), bytes: 1, sha256: "0".into() };
        let mut preprocessing = Preprocessing {
            layout: Layout::new(fields).unwrap(),
            coding: Coding::Hashing { rows: 5, seed: 0 },
            vocabulary: None,
            tables: vec![file("a.csv"), file("b.csv")],
        };
        assert_eq!(preprocessing.check_features(&schema), Ok(()));
        preprocessing.tables[1].file = "a.csv".into();
        let error = preprocessing.check_features(&schema).unwrap_err();
        assert!(error.contains("`a.csv`"), "{error}");
    }
}
