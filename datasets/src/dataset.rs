//! Rows of a prepared folder, memory-mapped.

use std::{
    ops::Range,
    path::{Path, PathBuf},
};

use mprec_representations::{Batch, BatchShape, Schema};
use rayon::prelude::*;

use crate::{
    error::DatasetError,
    folder::{Manifest, Split, damaged, manifest::shard_file, sha256_hex, shard::Shard},
    permutation::Permutation,
    source::Source,
};

/// Samples with what became of them.
#[derive(Debug, Clone, PartialEq)]
pub struct LabelledBatch {
    /// The samples.
    pub batch: Batch,
    /// 1 for a click and 0 for none, one per sample; empty if the data set is unlabelled.
    pub labels: Vec<f32>,
}

/// A prepared folder, open for reading.
///
/// Opening checks sizes and headers of all files against the manifest and maps the shards; rows
/// come from disk when they are asked for. Nothing may write to the folder meanwhile: a file that
/// is cut while it is mapped ends the process (SIGBUS).
#[derive(Debug)]
pub struct Dataset {
    folder: PathBuf,
    manifest: Manifest,
    shape: BatchShape,
    shards: Vec<Shard>,
    rows: usize,
    shard_rows: usize,
}

impl Dataset {
    /// Opens a prepared folder.
    ///
    /// # Errors
    ///
    /// [`DatasetError`] when it is not one, is of another version, or a file is missing, cut or
    /// contradicts the manifest. Content is not read; [`Dataset::verify`] does that.
    pub fn open(folder: &Path) -> Result<Self, DatasetError> {
        let manifest = Manifest::read(folder)?;
        let shards = manifest
            .shards
            .iter()
            .map(|entry| Shard::open(&folder.join(&entry.file), manifest.shard_shape(entry.rows)))
            .collect::<Result<_, _>>()?;
        let too_large = || damaged(folder, "it has more rows than this machine can address");
        Ok(Self {
            folder: folder.into(),
            shape: BatchShape::new(&manifest.schema),
            shards,
            rows: usize::try_from(manifest.rows).map_err(|_| too_large())?,
            shard_rows: usize::try_from(manifest.shard_rows).map_err(|_| too_large())?,
            manifest,
        })
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What the folder says of itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The features.
    pub fn schema(&self) -> &Schema {
        &self.manifest.schema
    }

    /// What every output calls the data, such as `name (synthetic)`.
    pub fn label(&self) -> String {
        self.manifest.label()
    }

    /// Whether rows have labels.
    pub fn is_labelled(&self) -> bool {
        self.manifest.labelled
    }

    /// The rows of one part.
    pub fn rows(&self, split: Split) -> Range<usize> {
        self.manifest.splits.range(split)
    }

    /// Rows with label 1 in one part.
    pub fn positives(&self, split: Split) -> u64 {
        self.manifest.positives.range(split).len() as u64
    }

    /// Compares every file with its digest in the manifest.
    ///
    /// # Errors
    ///
    /// [`DatasetError::Damaged`] naming the first file that differs.
    pub fn verify(&self) -> Result<(), DatasetError> {
        self.shards.par_iter().zip(&self.manifest.shards).try_for_each(|(shard, entry)| {
            if sha256_hex(shard.bytes()) == entry.sha256 {
                return Ok(());
            }
            let file = self.folder.join(&entry.file);
            Err(damaged(&file, "its digest is not that of the manifest"))
        })?;
        if self.manifest.preprocessing.is_some() {
            crate::Preprocessor::of(&self.folder, &self.manifest)?;
        }
        Ok(())
    }

    /// Consecutive rows.
    ///
    /// # Errors
    ///
    /// [`DatasetError::Rows`] when they are not all there, [`DatasetError::Damaged`] when a shard
    /// holds an id, a dense value or a label that it cannot.
    pub fn batch(&self, rows: Range<usize>) -> Result<LabelledBatch, DatasetError> {
        if rows.start > rows.end || rows.end > self.rows {
            return Err(self.no_such_rows(rows));
        }
        let samples = rows.len();
        let mut dense = Vec::with_capacity(samples * self.shape.dense_width());
        let mut ids = vec![0_i64; samples * self.shape.features()];
        let mut labels = Vec::with_capacity(if self.is_labelled() { samples } else { 0 });
        let width = self.shape.dense_width();
        let mut done = 0;
        while done < samples {
            let row = rows.start + done;
            let (shard, first) = (&self.shards[row / self.shard_rows], row % self.shard_rows);
            let count = (samples - done).min(self.shard_rows - first);
            dense.extend_from_slice(&shard.dense()[first * width..(first + count) * width]);
            for feature in 0..self.shape.features() {
                let to = &mut ids[feature * samples + done..][..count];
                for (to, &id) in to.iter_mut().zip(&shard.ids(feature)[first..]) {
                    *to = id.into();
                }
            }
            if self.is_labelled() {
                labels.extend(shard.labels()[first..first + count].iter().map(|&l| f32::from(l)));
            }
            done += count;
        }
        self.checked(dense, &ids, labels, rows.start)
    }

    /// Any rows, in the order given.
    ///
    /// # Errors
    ///
    /// As [`Dataset::batch`].
    pub fn gather(&self, rows: &[usize]) -> Result<LabelledBatch, DatasetError> {
        if let Some(&row) = rows.iter().find(|row| **row >= self.rows) {
            return Err(self.no_such_rows(row..row.saturating_add(1)));
        }
        let width = self.shape.dense_width();
        let features = self.shape.features();
        let mut dense = Vec::with_capacity(rows.len() * width);
        let mut ids = vec![0_i64; rows.len() * features];
        let mut labels = Vec::with_capacity(if self.is_labelled() { rows.len() } else { 0 });
        // Row by row, so that the misses of a row's columns, which are far apart, overlap.
        for (sample, &row) in rows.iter().enumerate() {
            let (shard, at) = (&self.shards[row / self.shard_rows], row % self.shard_rows);
            dense.extend_from_slice(&shard.dense()[at * width..][..width]);
            let column_starts = (at..).step_by(shard.rows());
            let from = shard.all_ids();
            for (to, place) in ids[sample..].iter_mut().step_by(rows.len()).zip(column_starts) {
                *to = from[place].into();
            }
            if self.is_labelled() {
                labels.push(f32::from(shard.labels()[at]));
            }
        }
        self.checked(dense, &ids, labels, rows.first().copied().unwrap_or(0))
    }

    /// The rows in `range` in batches of `samples`, the last one smaller, in time order.
    ///
    /// # Panics
    ///
    /// If `samples` is 0.
    pub fn batches(
        &self,
        range: Range<usize>,
        samples: usize,
    ) -> impl Iterator<Item = Result<LabelledBatch, DatasetError>> + '_ {
        assert!(samples > 0, "a batch has samples");
        let end = range.end;
        range.step_by(samples).map(move |first| self.batch(first..end.min(first + samples)))
    }

    /// The rows in `range` in batches of `samples`, in an order that depends on `seed` alone:
    /// for training, within one part. Skip batches to resume.
    ///
    /// # Panics
    ///
    /// If `samples` is 0.
    pub fn shuffled_batches(
        &self,
        range: Range<usize>,
        samples: usize,
        seed: u64,
    ) -> impl Iterator<Item = Result<LabelledBatch, DatasetError>> + '_ {
        assert!(samples > 0, "a batch has samples");
        let order = Permutation::new(range.len(), seed);
        (0..range.len()).step_by(samples).map(move |first| {
            let places = first..range.len().min(first + samples);
            let rows: Vec<_> = places.map(|place| range.start + order.at(place)).collect();
            self.gather(&rows)
        })
    }

    /// The rows in `range` as a [`Source`].
    ///
    /// # Errors
    ///
    /// [`DatasetError::Rows`] when they are not all there.
    pub fn source(&self, range: Range<usize>) -> Result<Rows<'_>, DatasetError> {
        if range.start > range.end || range.end > self.rows {
            return Err(self.no_such_rows(range));
        }
        Ok(Rows { dataset: self, left: range })
    }

    /// Ids of one feature in the rows of `range`, run by run.
    pub(crate) fn id_runs(
        &self,
        feature: usize,
        range: Range<usize>,
    ) -> impl Iterator<Item = &[u32]> {
        self.shards.iter().enumerate().filter_map(move |(at, shard)| {
            let first = at * self.shard_rows;
            let ids = shard.ids(feature);
            let start = range.start.saturating_sub(first).min(ids.len());
            let end = range.end.saturating_sub(first).min(ids.len());
            (start < end).then(|| &ids[start..end])
        })
    }

    /// What to say of an id that its feature cannot have.
    pub(crate) fn damaged_id(&self, feature: usize, id: u64) -> DatasetError {
        let name = &self.schema().sparse()[feature].name;
        damaged(&self.folder, format!("a shard holds id {id} of feature `{name}`"))
    }

    /// Makes the batch, which proves finite dense values and bounds ids; what was written had both.
    fn checked(
        &self,
        dense: Vec<f32>,
        ids: &[i64],
        labels: Vec<f32>,
        row: usize,
    ) -> Result<LabelledBatch, DatasetError> {
        let damage = |what: &str| {
            let file = self.folder.join(shard_file(row / self.shard_rows));
            damaged(&file, format!("it or a shard after it holds {what}"))
        };
        let batch =
            self.shape.from_columns(dense, ids).map_err(|error| damage(&error.to_string()))?;
        if batch.unknown_ids() > 0 {
            return Err(damage("an id that is not below its feature's cardinality"));
        }
        if labels.iter().any(|label| *label > 1.0) {
            return Err(damage("a label other than 0 and 1"));
        }
        Ok(LabelledBatch { batch, labels })
    }

    fn no_such_rows(&self, rows: Range<usize>) -> DatasetError {
        DatasetError::Rows { first: rows.start, end: rows.end, rows: self.rows }
    }
}

/// Rows of a [`Dataset`], read from first to last.
#[derive(Debug)]
pub struct Rows<'a> {
    dataset: &'a Dataset,
    left: Range<usize>,
}

impl Source for Rows<'_> {
    fn schema(&self) -> &Schema {
        self.dataset.schema()
    }

    fn label(&self) -> String {
        self.dataset.label()
    }

    fn rows_left(&self) -> Option<u64> {
        Some(self.left.len() as u64)
    }

    fn next_batch(&mut self, samples: usize) -> Result<Option<LabelledBatch>, DatasetError> {
        let count = samples.min(self.left.len());
        if count == 0 {
            return Ok(None);
        }
        let batch = self.dataset.batch(self.left.start..self.left.start + count)?;
        self.left.start += count;
        Ok(Some(batch))
    }
}
