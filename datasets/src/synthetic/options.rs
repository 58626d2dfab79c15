//! What to make up.

use std::path::PathBuf;

use super::{CRITEO_KAGGLE, CRITEO_TERABYTE, scaled_down};
use crate::{
    error::PrepareError,
    folder::manifest::check_name,
    prepare::{DEFAULT_SHARD_ROWS, check_shard_rows},
};

/// What to make up.
#[derive(Debug, Clone, PartialEq)]
pub struct SyntheticOptions {
    /// What the data is called; outputs add that it is synthetic.
    pub name: String,
    /// Number of dense features.
    pub dense: usize,
    /// Cardinality of every sparse feature, at least 2.
    pub cardinalities: Vec<u64>,
    /// By how much they were divided, as the manifest should say.
    pub scale_down: f64,
    /// Number of rows.
    pub rows: u64,
    /// Seed of everything.
    pub seed: u64,
    /// Every feature has a Zipf exponent drawn from this range, ends included.
    pub exponents: (f64, f64),
    /// Share of rows with label 1.
    pub click_rate: f64,
    /// Standard deviation of the planted model's logits, about.
    pub signal: f64,
    /// The part of the rows that trains.
    pub train_fraction: f64,
    /// Rows of each shard, 1 to 2²⁴.
    pub shard_rows: usize,
    /// Threads; by default one per core. The result does not depend on it.
    pub threads: Option<usize>,
    /// The folder to write: empty, or not yet there.
    pub output: PathBuf,
    /// Whether a prepared folder that is there already may go.
    pub replace: bool,
}

impl SyntheticOptions {
    /// 13 + 26 features in the shape of Criteo Kaggle, large cardinalities divided by `scale_down`.
    pub fn kaggle(rows: u64, scale_down: f64, seed: u64, output: PathBuf) -> Self {
        Self::shape("kaggle", &CRITEO_KAGGLE, rows, scale_down, seed, output)
    }

    /// 13 + 26 features in the shape of Criteo Terabyte with values modulo 10,000,000, large
    /// cardinalities divided by `scale_down`.
    pub fn terabyte(rows: u64, scale_down: f64, seed: u64, output: PathBuf) -> Self {
        Self::shape("terabyte", &CRITEO_TERABYTE, rows, scale_down, seed, output)
    }

    fn shape(
        name: &str,
        cardinalities: &[u64],
        rows: u64,
        scale_down: f64,
        seed: u64,
        output: PathBuf,
    ) -> Self {
        Self {
            name: format!("{name}-shape"),
            dense: 13,
            cardinalities: scaled_down(cardinalities, scale_down),
            scale_down: scale_down.max(1.0),
            rows,
            seed,
            // Where the top shares of hashed click logs lie, between all but uniform and all but
            // constant features.
            exponents: (1.05, 1.2),
            click_rate: 0.25,
            signal: 1.75,
            train_fraction: 0.8,
            shard_rows: DEFAULT_SHARD_ROWS,
            threads: None,
            output,
            replace: false,
        }
    }

    pub(crate) fn check(&self) -> Result<(), PrepareError> {
        let wrong =
            |option, value: String, allowed| Err(PrepareError::Option { option, value, allowed });
        if check_name(&self.name).is_err() {
            return wrong("the name", format!("{:?}", self.name), "1 to 200 printable characters");
        }
        if self.rows == 0 || self.rows > 1 << 40 {
            return wrong("the number of rows", self.rows.to_string(), "1 to 2^40");
        }
        if let Some(small) = self.cardinalities.iter().find(|c| !(2..=1 << 32).contains(*c)) {
            return wrong("a cardinality", small.to_string(), "2 to 2^32");
        }
        let (low, high) = self.exponents;
        if !(low > 0.0 && low <= high && high <= 10.0) {
            return wrong("the exponent", format!("{low} to {high}"), "above 0 and at most 10");
        }
        for (option, value, low, high, allowed) in [
            ("the click rate", self.click_rate, 0.001, 0.999, "0.001 to 0.999"),
            ("the signal", self.signal, 0.0, 10.0, "0 to 10"),
            ("the training part", self.train_fraction, 0.0, 1.0, "0 to 1"),
        ] {
            if !(low..=high).contains(&value) {
                return wrong(option, value.to_string(), allowed);
            }
        }
        check_shard_rows(self.shard_rows)
    }
}
