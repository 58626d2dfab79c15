//! Which rows train and which judge: by position, and so by time.

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// A part of a data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// The first part; the vocabulary is counted on it alone.
    Train,
    /// The second half of what follows.
    Validation,
    /// The first half of what follows.
    Test,
    /// Everything after the training part: test, then validation.
    HeldOut,
    /// Every row.
    All,
}

/// Where a data set of rows in time order is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Splits {
    /// Rows that train: the first ones.
    pub train: u64,
    /// Rows after them that test.
    pub test: u64,
    /// Rows after those that validate.
    pub validation: u64,
}

impl Splits {
    /// The first `train_fraction` of `rows` trains (rounded down); of the rest the first half
    /// (rounded up) tests and the second validates.
    pub fn by_fraction(rows: u64, train_fraction: f64) -> Self {
        // Exact for any number of rows that fits a disk; the cast cuts towards zero.
        let train = ((rows as f64 * train_fraction) as u64).min(rows);
        let test = (rows - train).div_ceil(2);
        Self { train, test, validation: rows - train - test }
    }

    /// All rows, or none if they are more than can be counted.
    pub fn rows(&self) -> Option<u64> {
        self.train.checked_add(self.test)?.checked_add(self.validation)
    }

    /// The rows of one part.
    pub fn range(&self, split: Split) -> Range<usize> {
        let [train, test, validation] =
            [self.train, self.test, self.validation].map(|count| count as usize);
        let rows = train + test + validation;
        match split {
            Split::Train => 0..train,
            Split::Test => train..train + test,
            Split::Validation => train + test..rows,
            Split::HeldOut => train..rows,
            Split::All => 0..rows,
        }
    }

    /// The training part cut once more, for choosing when to stop without a look at held-out rows:
    /// what to fit, and the last `fraction` of the training part to watch. (The vocabulary was
    /// counted on both.)
    pub fn train_and_watch(&self, fraction: f64) -> (Range<usize>, Range<usize>) {
        let train = self.train as usize;
        let cut = train - ((train as f64 * fraction.clamp(0.0, 1.0)) as usize).min(train);
        (0..cut, cut..train)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kaggle_splits_where_its_last_day_begins() {
        let splits = Splits::by_fraction(45_840_617, 39_291_958.0 / 45_840_617.0);
        assert_eq!((splits.train, splits.test), (39_291_958, 3_274_330));
        assert_eq!(splits.rows(), Some(45_840_617));
    }

    #[test]
    fn parts_follow_each_other_and_cover_all() {
        for rows in 0..40 {
            for fraction in [0.0, 0.3, 0.8, 1.0] {
                let splits = Splits::by_fraction(rows, fraction);
                let [train, test, validation, held_out, all] =
                    [Split::Train, Split::Test, Split::Validation, Split::HeldOut, Split::All]
                        .map(|split| splits.range(split));
                assert_eq!((train.start, train.end, test.end), (0, test.start, validation.start));
                assert_eq!(held_out, test.start..validation.end);
                assert_eq!(all, 0..rows as usize);
                assert!(test.len() - validation.len() <= 1);
            }
        }
    }

    #[test]
    fn the_watched_part_is_the_end_of_training() {
        let splits = Splits::by_fraction(100, 0.8);
        assert_eq!(splits.train_and_watch(0.1), (0..72, 72..80));
        assert_eq!(splits.train_and_watch(0.0), (0..80, 80..80));
        assert_eq!(splits.train_and_watch(7.0), (0..0, 0..80));
    }
}
