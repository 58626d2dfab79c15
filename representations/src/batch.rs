//! A batch of samples, columnar: dense values, and the ids of every bag of every sparse feature.
//!
//! A *bag* is the list of ids that one sample has for one feature. Bags are held feature by
//! feature, so that a backend reads one feature's ids in one run:
//!
//! ```text
//! ids      feature 0: sample 0 | sample 1 | … feature 1: sample 0 | …
//! offsets  start of every bag in that order, and one final end; absent when every bag holds one id
//! ```
//!
//! The constructors prove the shape, apply the schema's rule for unknown ids, and so prove that
//! every id lies below its feature's cardinality: whoever holds a [`Batch`] need not check again.

pub mod grouped;

use std::{ops::Range, sync::Arc};

use crate::{
    error::{BatchError, ProgramError},
    schema::{OutOfVocabulary, Schema},
};

pub use grouped::{GroupedBatch, PerGroup, Sharing};

/// Most ids that one batch may hold, over all features.
pub const MAX_IDS: usize = 1 << 28;

/// Samples to score together. See the [module](self) for the layout.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    samples: usize,
    dense_width: usize,
    dense: Vec<f32>,
    bounds: Arc<[u64]>,
    ids: Vec<u64>,
    offsets: Option<Vec<u32>>,
    weights: Option<Vec<f32>>,
    unknown: usize,
}

/// The bags of one feature, one per sample.
#[derive(Debug, Clone, Copy)]
pub struct Bags<'a> {
    ids: &'a [u64],
    weights: Option<&'a [f32]>,
    offsets: Option<&'a [u32]>,
    samples: usize,
}

/// Ids of unequal count per bag, as a client or a file holds them.
#[derive(Debug, Clone, Default)]
pub struct Jagged {
    /// Ids, feature by feature and within it sample by sample.
    pub ids: Vec<i64>,
    /// Number of ids of every bag, in the same order: `features × samples` entries.
    pub lengths: Vec<u32>,
    /// One weight per id, if the sums are weighted.
    pub weights: Option<Vec<f32>>,
}

/// The bounds that a schema puts on the ids of its features; kept and shared by all its batches.
#[derive(Debug, Clone)]
pub struct BatchShape {
    dense_width: usize,
    bounds: Arc<[u64]>,
    rule: OutOfVocabulary,
}

impl BatchShape {
    /// The shape of batches of `schema`.
    pub fn new(schema: &Schema) -> Self {
        Self {
            dense_width: schema.dense().len(),
            bounds: schema.sparse().iter().map(|feature| feature.cardinality).collect(),
            rule: schema.out_of_vocabulary(),
        }
    }

    /// Dense values per sample.
    pub fn dense_width(&self) -> usize {
        self.dense_width
    }

    /// Sparse features.
    pub fn features(&self) -> usize {
        self.bounds.len()
    }

    /// Proves that a batch has this shape.
    ///
    /// # Errors
    ///
    /// [`ProgramError::Batch`]
    pub fn check(&self, batch: &Batch) -> Result<(), ProgramError> {
        batch.expect(self.dense_width, &self.bounds)
    }

    /// As [`BatchShape::check`], of samples in groups.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn check_grouped(&self, batch: &GroupedBatch) -> Result<(), ProgramError> {
        batch.expect(self.dense_width, &self.bounds)
    }

    /// One id per feature and sample, given sample by sample: `ids[sample * features + feature]`,
    /// `dense[sample * dense_width + at]`.
    ///
    /// # Errors
    ///
    /// [`BatchError`] when a length does not fit, a dense value is not finite, or an id is outside
    /// its vocabulary and the schema refuses such ids.
    pub fn from_rows(&self, dense: Vec<f32>, ids: &[i64]) -> Result<Batch, BatchError> {
        self.rows_of(self.samples_of(dense.len())?, dense, ids)
    }

    /// As [`BatchShape::from_rows`], also without dense values or without ids.
    fn rows_of(&self, samples: usize, dense: Vec<f32>, ids: &[i64]) -> Result<Batch, BatchError> {
        let features = self.features();
        if dense.len() != samples * self.dense_width {
            return Err(BatchError::Dense { got: dense.len(), width: self.dense_width });
        }
        if ids.len() != samples * features {
            return Err(BatchError::Ids { got: ids.len(), expected: samples * features });
        }
        let mut columns = vec![0; ids.len()];
        // Without features there are no ids either.
        for (sample, row) in ids.chunks_exact(features.max(1)).enumerate() {
            for (feature, &id) in row.iter().enumerate() {
                columns[feature * samples + sample] = id;
            }
        }
        self.columns_of(samples, dense, &columns)
    }

    /// One id per feature and sample, given feature by feature: `ids[feature * samples + sample]`.
    ///
    /// # Errors
    ///
    /// As [`BatchShape::from_rows`].
    pub fn from_columns(&self, dense: Vec<f32>, ids: &[i64]) -> Result<Batch, BatchError> {
        self.columns_of(self.samples_of(dense.len())?, dense, ids)
    }

    fn columns_of(
        &self,
        samples: usize,
        dense: Vec<f32>,
        ids: &[i64],
    ) -> Result<Batch, BatchError> {
        if ids.len() != samples * self.features() {
            return Err(BatchError::Ids { got: ids.len(), expected: samples * self.features() });
        }
        let mut batch = self.start(samples, dense, ids.len())?;
        for feature in 0..self.features() {
            for (sample, &id) in ids[feature * samples..][..samples].iter().enumerate() {
                batch.push(self.rule, feature, sample, id)?;
            }
        }
        Ok(batch)
    }

    /// Any number of ids per bag, optionally weighted.
    ///
    /// # Errors
    ///
    /// As [`BatchShape::from_rows`], and when lengths and ids disagree or a weight is not finite.
    pub fn from_jagged(&self, dense: Vec<f32>, jagged: &Jagged) -> Result<Batch, BatchError> {
        let samples = self.samples_of(dense.len())?;
        let bags = samples * self.features();
        if jagged.lengths.len() != bags {
            return Err(BatchError::Lengths { got: jagged.lengths.len(), expected: bags });
        }
        let total = jagged.lengths.iter().map(|&length| length as usize).sum::<usize>();
        if jagged.ids.len() != total {
            return Err(BatchError::Ids { got: jagged.ids.len(), expected: total });
        }
        if let Some(weights) = &jagged.weights {
            if weights.len() != total {
                return Err(BatchError::Weights { got: weights.len(), expected: total });
            }
            if let Some(at) = weights.iter().position(|weight| !weight.is_finite()) {
                return Err(BatchError::Weight { at });
            }
        }
        let mut batch = self.start(samples, dense, total)?;
        let mut offsets = Vec::with_capacity(bags + 1);
        let mut at = 0;
        offsets.push(0);
        for (bag, &length) in jagged.lengths.iter().enumerate() {
            for &id in &jagged.ids[at..at + length as usize] {
                batch.push(self.rule, bag / samples, bag % samples, id)?;
            }
            at += length as usize;
            // `total` was held to `MAX_IDS` by `start`, which fits.
            offsets.push(at as u32);
        }
        batch.weights.clone_from(&jagged.weights);
        // Plain one-hot input in jagged clothes takes the fast path like any other.
        if batch.weights.is_some() || jagged.lengths.iter().any(|&length| length != 1) {
            batch.offsets = Some(offsets);
        }
        Ok(batch)
    }

    /// A batch of no samples, to be filled by [`Batch::merge`].
    pub fn empty(&self) -> Batch {
        Batch::empty(self.dense_width, Arc::clone(&self.bounds))
    }

    fn samples_of(&self, values: usize) -> Result<usize, BatchError> {
        if values.is_multiple_of(self.dense_width) {
            Ok(values / self.dense_width)
        } else {
            Err(BatchError::Dense { got: values, width: self.dense_width })
        }
    }

    fn start(&self, samples: usize, dense: Vec<f32>, total: usize) -> Result<Batch, BatchError> {
        if total > MAX_IDS {
            return Err(BatchError::TooLarge { ids: total });
        }
        if let Some(at) = dense.iter().position(|value| !value.is_finite()) {
            return Err(BatchError::NotFinite {
                sample: at / self.dense_width,
                feature: at % self.dense_width,
            });
        }
        Ok(Batch { samples, dense, ids: Vec::with_capacity(total), ..self.empty() })
    }
}

impl Batch {
    /// Proves that it has this many dense values per sample and these bounds of ids.
    pub(crate) fn expect(&self, dense_width: usize, bounds: &[u64]) -> Result<(), ProgramError> {
        if self.dense_width() == dense_width && *self.bounds() == *bounds {
            return Ok(());
        }
        Err(ProgramError::Batch {
            dense: (self.dense_width(), dense_width),
            sparse: (self.features(), bounds.len()),
        })
    }

    /// A batch of no samples, with so many dense values and ids below these bounds.
    pub fn empty(dense_width: usize, bounds: Arc<[u64]>) -> Self {
        Self {
            samples: 0,
            dense_width,
            dense: Vec::new(),
            bounds,
            ids: Vec::new(),
            offsets: None,
            weights: None,
            unknown: 0,
        }
    }

    /// Number of samples.
    pub fn samples(&self) -> usize {
        self.samples
    }

    /// Number of sparse features.
    pub fn features(&self) -> usize {
        self.bounds.len()
    }

    /// Dense values per sample.
    pub fn dense_width(&self) -> usize {
        self.dense_width
    }

    /// Dense values, `[samples, dense_width]` row-major, all finite.
    pub fn dense(&self) -> &[f32] {
        &self.dense
    }

    /// Exclusive upper bound of every feature's ids.
    pub fn bounds(&self) -> &[u64] {
        &self.bounds
    }

    /// All ids, feature by feature.
    pub fn ids(&self) -> &[u64] {
        &self.ids
    }

    /// How many ids were outside their vocabulary and replaced by the schema's rule.
    pub fn unknown_ids(&self) -> usize {
        self.unknown
    }

    /// Whether every bag holds exactly one unweighted id.
    pub fn is_one_hot(&self) -> bool {
        self.offsets.is_none()
    }

    /// Whether an id counts other than once: weights that are all 1 are none.
    pub fn is_weighted(&self) -> bool {
        self.weights.as_ref().is_some_and(|weights| weights.iter().any(|&weight| weight != 1.0))
    }

    /// The bags of `feature`.
    ///
    /// # Panics
    ///
    /// If `feature >= self.features()`.
    pub fn bags(&self, feature: usize) -> Bags<'_> {
        assert!(feature < self.features(), "feature {feature} of {}", self.features());
        let first = feature * self.samples;
        match &self.offsets {
            None => Bags {
                ids: &self.ids[first..][..self.samples],
                weights: None,
                offsets: None,
                samples: self.samples,
            },
            Some(offsets) => {
                let offsets = &offsets[first..=first + self.samples];
                let range = offsets[0] as usize..offsets[self.samples] as usize;
                Bags {
                    ids: &self.ids[range.clone()],
                    weights: self.weights.as_deref().map(|weights| &weights[range]),
                    offsets: Some(offsets),
                    samples: self.samples,
                }
            }
        }
    }

    /// Makes this batch the samples of `parts`, one after the other, reusing its memory.
    ///
    /// # Panics
    ///
    /// If the parts have other features than this batch, or together more than [`MAX_IDS`] ids.
    pub fn merge<'a>(&mut self, parts: impl Iterator<Item = &'a Batch> + Clone) {
        self.samples = 0;
        self.unknown = 0;
        self.dense.clear();
        self.ids.clear();
        let (mut one_hot, mut weighted, mut total) = (true, false, 0);
        for part in parts.clone() {
            assert_eq!(part.dense_width, self.dense_width, "dense features differ");
            assert_eq!(part.bounds, self.bounds, "sparse features differ");
            self.samples += part.samples;
            self.unknown += part.unknown;
            self.dense.extend_from_slice(&part.dense);
            one_hot &= part.is_one_hot();
            weighted |= part.weights.is_some();
            total += part.ids.len();
        }
        assert!(total <= MAX_IDS, "{total} ids in one batch");
        let mut offsets = self.offsets.take().unwrap_or_default();
        let mut weights = self.weights.take().unwrap_or_default();
        offsets.clear();
        weights.clear();
        for feature in 0..self.features() {
            for part in parts.clone() {
                let bags = part.bags(feature);
                if !one_hot {
                    let start = self.ids.len();
                    offsets.extend((0..part.samples).map(|bag| (start + bags.start(bag)) as u32));
                }
                if weighted {
                    match bags.weights {
                        Some(given) => weights.extend_from_slice(given),
                        None => weights.resize(weights.len() + bags.ids.len(), 1.0),
                    }
                }
                self.ids.extend_from_slice(bags.ids);
            }
        }
        if !one_hot {
            offsets.push(self.ids.len() as u32);
            self.offsets = Some(offsets);
        }
        if weighted {
            self.weights = Some(weights);
        }
    }

    /// The samples in `range` as a batch of their own. Which samples had unknown ids is not kept, so [`Batch::unknown_ids`]
    /// stays that of the whole, and is 0 only of no samples.
    ///
    /// # Panics
    ///
    /// If `range` is not within the samples.
    pub fn slice(&self, range: Range<usize>) -> Batch {
        assert!(range.start <= range.end && range.end <= self.samples, "samples {range:?}");
        let samples = range.len();
        let mut part = Batch {
            samples,
            dense: self.dense[range.start * self.dense_width..range.end * self.dense_width]
                .to_vec(),
            ids: Vec::with_capacity(samples * self.features()),
            offsets: None,
            weights: self.weights.as_ref().map(|_| Vec::new()),
            bounds: Arc::clone(&self.bounds),
            unknown: if samples == 0 { 0 } else { self.unknown },
            ..*self
        };
        let mut offsets = vec![0];
        for feature in 0..self.features() {
            let bags = self.bags(feature);
            let ids = bags.start(range.start)..bags.start(range.end);
            for bag in range.clone() {
                offsets.push((part.ids.len() + bags.start(bag + 1) - ids.start) as u32);
            }
            part.ids.extend_from_slice(&bags.ids[ids.clone()]);
            if let (Some(to), Some(from)) = (&mut part.weights, bags.weights) {
                to.extend_from_slice(&from[ids]);
            }
        }
        part.offsets = self.offsets.as_ref().map(|_| offsets);
        part
    }

    fn push(
        &mut self,
        rule: OutOfVocabulary,
        feature: usize,
        sample: usize,
        id: i64,
    ) -> Result<(), BatchError> {
        let bound = self.bounds[feature];
        let known = u64::try_from(id).ok().filter(|&id| id < bound);
        let id = match (known, rule) {
            (Some(id), _) => id,
            (None, OutOfVocabulary::Refuse) => {
                return Err(BatchError::OutOfVocabulary {
                    feature,
                    sample,
                    id,
                    cardinality: bound,
                });
            }
            (None, rule) => {
                self.unknown += 1;
                match rule {
                    // `bound` is at most 2^40, so it and the remainder fit both types.
                    OutOfVocabulary::Modulo => id.rem_euclid(bound as i64) as u64,
                    _ => 0,
                }
            }
        };
        self.ids.push(id);
        Ok(())
    }
}

impl<'a> Bags<'a> {
    /// All ids of the feature, bag after bag.
    pub fn ids(&self) -> &'a [u64] {
        self.ids
    }

    /// One weight per id, if the batch is weighted.
    pub fn weights(&self) -> Option<&'a [f32]> {
        self.weights
    }

    /// Number of bags, which is the number of samples.
    pub fn len(&self) -> usize {
        self.samples
    }

    /// Whether the batch has no samples.
    pub fn is_empty(&self) -> bool {
        self.samples == 0
    }

    /// Whether every bag holds exactly one unweighted id.
    pub fn is_one_hot(&self) -> bool {
        self.offsets.is_none()
    }

    /// Where the ids of `bag` lie within [`Bags::ids`].
    #[inline]
    pub fn range(&self, bag: usize) -> Range<usize> {
        self.start(bag)..self.start(bag + 1)
    }

    /// Where `bag` starts; for the number of bags itself, where the last one ends.
    #[inline]
    fn start(&self, bag: usize) -> usize {
        self.offsets.map_or(bag, |offsets| (offsets[bag] - offsets[0]) as usize)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::schema::SparseFeature;

    fn shape(rule: OutOfVocabulary) -> BatchShape {
        let sparse = [("a", 10), ("b", 3)]
            .map(|(name, cardinality)| SparseFeature { name: name.into(), cardinality });
        BatchShape::new(&Schema::new(vec!["x".into()], sparse.into(), rule).unwrap())
    }

    #[test]
    fn rows_become_columns() {
        let batch = shape(OutOfVocabulary::Zero).from_rows(vec![0.5, 1.5], &[7, 1, 8, 2]).unwrap();
        assert_eq!(batch.bags(0).ids(), [7, 8]);
        assert_eq!(batch.bags(1).ids(), [1, 2]);
        assert!(batch.is_one_hot());
    }

    #[test]
    fn unknown_ids_follow_the_rule() {
        let ids = [10, -1];
        let zero = shape(OutOfVocabulary::Zero).from_rows(vec![0.0], &ids).unwrap();
        assert_eq!((zero.ids(), zero.unknown_ids()), (&[0, 0][..], 2));
        let modulo = shape(OutOfVocabulary::Modulo).from_rows(vec![0.0], &ids).unwrap();
        assert_eq!(modulo.ids(), [0, 2]);
        let refused = shape(OutOfVocabulary::Refuse).from_rows(vec![0.0], &ids);
        assert!(matches!(refused, Err(BatchError::OutOfVocabulary { feature: 0, id: 10, .. })));
        for id in [i64::MIN, i64::MAX] {
            assert!(shape(OutOfVocabulary::Modulo).from_rows(vec![0.0], &[id, id]).is_ok());
        }
    }

    #[test]
    fn wrong_shapes_and_values_are_refused() {
        let shape = shape(OutOfVocabulary::Zero);
        assert!(matches!(shape.from_rows(vec![0.0], &[1]), Err(BatchError::Ids { .. })));
        let nan = shape.from_rows(vec![0.0, f32::NAN], &[1; 4]);
        assert!(matches!(nan, Err(BatchError::NotFinite { sample: 1, feature: 0 })));
        let jagged = Jagged { ids: vec![1], lengths: vec![1, u32::MAX], weights: None };
        assert!(matches!(shape.from_jagged(vec![0.0], &jagged), Err(BatchError::Ids { .. })));
    }

    fn jagged_batch() -> impl Strategy<Value = Batch> {
        (0_usize..6, any::<bool>()).prop_flat_map(|(samples, weighted)| {
            prop::collection::vec(
                prop::collection::vec((0_i64..3, -2.0_f32..2.0), 0..4),
                samples * 2,
            )
            .prop_map(move |bags| {
                let jagged = Jagged {
                    ids: bags.iter().flatten().map(|&(id, _)| id).collect(),
                    lengths: bags.iter().map(|bag| bag.len() as u32).collect(),
                    weights: weighted.then(|| bags.iter().flatten().map(|&(_, w)| w).collect()),
                };
                let dense = (0..samples).map(|at| at as f32).collect();
                shape(OutOfVocabulary::Zero).from_jagged(dense, &jagged).unwrap()
            })
        })
    }

    proptest! {
        #[test]
        fn slices_merge_back_to_the_whole(batch in jagged_batch(), cut in 0_usize..6) {
            let cut = cut.min(batch.samples());
            let parts = [batch.slice(0..cut), batch.slice(cut..batch.samples())];
            let mut merged = shape(OutOfVocabulary::Zero).empty();
            merged.merge(parts.iter());
            for feature in 0..2 {
                let (whole, again) = (batch.bags(feature), merged.bags(feature));
                prop_assert_eq!(whole.ids(), again.ids());
                for bag in 0..batch.samples() {
                    prop_assert_eq!(whole.range(bag), again.range(bag));
                }
                prop_assert_eq!(whole.weights(), again.weights());
            }
            prop_assert_eq!(batch.dense(), merged.dense());
        }
    }
}
