//! How often ids are accessed: what caches, mapping and kernels are chosen by.

use std::ops::Range;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{dataset::Dataset, error::DatasetError};

/// Numbers of most frequent ids whose share is told.
pub const TOP: [u64; 7] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000];

/// Access statistics of some rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AccessStatistics {
    /// What the data is called.
    pub dataset: String,
    /// How many rows were looked at.
    pub rows: u64,
    /// One entry per sparse feature.
    pub features: Vec<FeatureAccess>,
}

/// How the ids of one feature are accessed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FeatureAccess {
    /// The feature.
    pub name: String,
    /// Its cardinality.
    pub cardinality: u64,
    /// Ids that occur.
    pub distinct: u64,
    /// Ids that occur once.
    pub once: u64,
    /// Part of the accesses that go to id 0, the row of rare and unknown values.
    pub unknown_share: f64,
    /// Part of the accesses that go to the k most frequent ids, for every k of [`TOP`] up to the
    /// first that covers all.
    pub top: Vec<TopShare>,
    /// Distinct ids in batches of consecutive rows.
    pub batches: Vec<BatchAccess>,
    /// Ids that occur with how often, most often first, equally frequent ones by id. Left out of
    /// the serialised form, which stays short.
    #[serde(skip)]
    pub counts: Vec<(u32, u64)>,
}

/// Part of the accesses that the most frequent ids have.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TopShare {
    /// How many ids.
    pub ids: u64,
    /// Part of the accesses, 0 to 1.
    pub share: f64,
}

/// Distinct ids in batches of one size.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct BatchAccess {
    /// Rows of each batch; batches that would be smaller are left out.
    pub samples: u64,
    /// Mean number of distinct ids.
    pub mean_distinct: f64,
    /// Largest number of distinct ids.
    pub most_distinct: u64,
}

impl AccessStatistics {
    /// Counts the ids of the rows in `range`, and the distinct ones in batches of each of the given
    /// sizes.
    ///
    /// # Errors
    ///
    /// [`DatasetError::Rows`] when the rows are not all there, [`DatasetError::Damaged`] when an id
    /// is not below its cardinality.
    pub fn count(
        dataset: &Dataset,
        range: Range<usize>,
        batch_sizes: &[usize],
    ) -> Result<Self, DatasetError> {
        // Checks the range.
        let rows = dataset.source(range.clone()).map(|_| range.len() as u64)?;
        let features = dataset
            .schema()
            .sparse()
            .par_iter()
            .enumerate()
            .map(|(at, feature)| {
                let bound = feature.cardinality as usize;
                let mut counts = vec![0_u64; bound];
                let runs = || dataset.id_runs(at, range.clone()).flatten().map(|id| *id as usize);
                for id in runs() {
                    let Some(count) = counts.get_mut(id) else {
                        return Err(dataset.damaged_id(at, id as u64));
                    };
                    *count += 1;
                }
                let batches =
                    batch_sizes.iter().map(|&size| batch_access(runs(), bound, size)).collect();
                Ok(feature_access(feature.name.clone(), &counts, rows, batches))
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { dataset: dataset.label(), rows, features })
    }
}

fn feature_access(
    name: String,
    counts: &[u64],
    rows: u64,
    batches: Vec<BatchAccess>,
) -> FeatureAccess {
    let mut sorted: Vec<_> = counts
        .iter()
        .zip(0_u32..)
        .filter(|(count, _)| **count > 0)
        .map(|(c, id)| (id, *c))
        .collect();
    sorted.sort_by_key(|&(id, count)| (std::cmp::Reverse(count), id));
    let share = |count: u64| if rows == 0 { 0.0 } else { count as f64 / rows as f64 };
    let distinct = sorted.len() as u64;
    let covering = TOP.iter().position(|&ids| ids >= distinct).map_or(TOP.len(), |at| at + 1);
    let top = TOP[..covering]
        .iter()
        .map(|&ids| {
            let first = &sorted[..ids.min(distinct) as usize];
            TopShare { ids, share: share(first.iter().map(|(_, count)| count).sum()) }
        })
        .collect();
    FeatureAccess {
        name,
        cardinality: counts.len() as u64,
        distinct,
        once: sorted.iter().filter(|(_, count)| *count == 1).count() as u64,
        unknown_share: share(counts[0]),
        top,
        batches,
        counts: sorted,
    }
}

fn batch_access(ids: impl Iterator<Item = usize>, bound: usize, samples: usize) -> BatchAccess {
    // The batch in which an id was last seen, from 1.
    let mut last = vec![0_u32; bound];
    let (mut batch, mut inside, mut distinct) = (1_u32, 0, 0_u64);
    let (mut total, mut most, mut batches) = (0_u64, 0, 0_u64);
    for id in ids {
        if last[id] != batch {
            last[id] = batch;
            distinct += 1;
        }
        inside += 1;
        if inside == samples {
            total += distinct;
            most = most.max(distinct);
            batches += 1;
            (inside, distinct) = (0, 0);
            // Wraps after four thousand million batches, past 0, which means never.
            batch = batch.wrapping_add(1).max(1);
        }
    }
    let mean_distinct = if batches == 0 { 0.0 } else { total as f64 / batches as f64 };
    BatchAccess { samples: samples as u64, mean_distinct, most_distinct: most }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_from_the_most_frequent() {
        let access = feature_access("f".into(), &[1, 0, 6, 3], 10, Vec::new());
        assert_eq!(access.counts, [(2, 6), (3, 3), (0, 1)]);
        assert_eq!((access.distinct, access.once, access.unknown_share), (3, 1, 0.1));
        let top: Vec<_> = access.top.iter().map(|top| (top.ids, top.share)).collect();
        assert_eq!(top, [(1, 0.6), (10, 1.0)]);
    }

    #[test]
    fn distinct_ids_are_counted_per_whole_batch() {
        let ids = [1, 1, 2, 1, 1, 1, 2];
        let access = batch_access(ids.into_iter(), 3, 3);
        assert_eq!((access.mean_distinct, access.most_distinct), (1.5, 2));
        assert_eq!(batch_access(ids.into_iter(), 3, 100).most_distinct, 0);
    }
}
