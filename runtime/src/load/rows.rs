//! What requests are filled with.

use mprec_representations::Schema;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

use super::LoadError;

/// The samples of one request.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RequestRows {
    /// Dense values, sample by sample.
    pub dense: Vec<f32>,
    /// One id per sparse feature, sample by sample.
    pub ids: Vec<i64>,
    /// Whether each sample was clicked; empty where that is not known.
    pub labels: Vec<bool>,
}

/// Samples without end, for requests.
pub trait Rows: Sync {
    /// Dense values per sample.
    fn dense_width(&self) -> usize;

    /// Sparse features per sample.
    fn features(&self) -> usize;

    /// Replaces `rows` by `samples` samples. `first` is the number of samples of all requests
    /// before this one; the same arguments must give the same samples.
    fn fill(&self, first: u64, samples: usize, rows: &mut RequestRows);
}

/// Rows in memory, used in order and again from the start.
#[derive(Debug, Clone)]
pub struct StoredRows {
    rows: RequestRows,
    dense_width: usize,
    features: usize,
    samples: usize,
}

impl StoredRows {
    /// Rows of `dense_width` dense values and `features` ids each; labels may be empty.
    ///
    /// # Errors
    ///
    /// [`LoadError::NoRows`] when there are none or the lengths do not agree.
    pub fn new(rows: RequestRows, dense_width: usize, features: usize) -> Result<Self, LoadError> {
        let unusable = |problem| Err(LoadError::NoRows { problem });
        if dense_width == 0 || features == 0 {
            return unusable("a sample needs dense and sparse features");
        }
        let samples = rows.ids.len() / features;
        if samples == 0 {
            return unusable("there are none");
        }
        if rows.ids.len() != samples * features || rows.dense.len() != samples * dense_width {
            return unusable("dense values and ids are not of the same number of samples");
        }
        if !rows.labels.is_empty() && rows.labels.len() != samples {
            return unusable("labels are not one per sample");
        }
        Ok(Self { rows, dense_width, features, samples })
    }

    /// `samples` random rows within `schema`, without labels. Small ids are frequent, as in click
    /// logs: an id is `⌊cardinality^u⌋ − 1` for a uniform `u`, which is close to Zipf's law. Dense
    /// values are uniform in `[0, 5)`, about the range of logarithms of counts.
    ///
    /// # Errors
    ///
    /// [`LoadError::NoRows`] when `samples` is 0.
    pub fn random(schema: &Schema, samples: usize, seed: u64) -> Result<Self, LoadError> {
        let mut random = StdRng::seed_from_u64(seed);
        let mut rows = RequestRows::default();
        for _ in 0..samples {
            rows.dense.extend(schema.dense().iter().map(|_| random.random_range(0.0_f32..5.0)));
            rows.ids.extend(schema.sparse().iter().map(|feature| {
                let id = (feature.cardinality as f64).powf(random.random::<f64>()) as i64 - 1;
                // Rounding may reach the cardinality, which is at most 2^40.
                id.clamp(0, feature.cardinality as i64 - 1)
            }));
        }
        Self::new(rows, schema.dense().len(), schema.sparse().len())
    }
}

impl Rows for StoredRows {
    fn dense_width(&self) -> usize {
        self.dense_width
    }

    fn features(&self) -> usize {
        self.features
    }

    fn fill(&self, first: u64, samples: usize, rows: &mut RequestRows) {
        rows.dense.clear();
        rows.ids.clear();
        rows.labels.clear();
        let mut at = (first % self.samples as u64) as usize;
        let mut left = samples;
        while left > 0 {
            let end = (at + left).min(self.samples);
            rows.dense
                .extend_from_slice(&self.rows.dense[at * self.dense_width..end * self.dense_width]);
            rows.ids.extend_from_slice(&self.rows.ids[at * self.features..end * self.features]);
            if !self.rows.labels.is_empty() {
                rows.labels.extend_from_slice(&self.rows.labels[at..end]);
            }
            left -= end - at;
            at = 0;
        }
    }
}
