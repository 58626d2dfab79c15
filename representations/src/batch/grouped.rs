//! Samples in groups, of which some features are said once per group: a user once, and many candidates.
//!
//! A query ranks candidates for one user. Sent plainly it repeats the user's ids, and perhaps the dense values, for every
//! candidate. Here they are held once per *group* of consecutive samples:
//!
//! ```text
//! per group    group 0        | group 1        | …        features that are shared
//! per sample   sample 0 | 1 | 2 | 3 | 4 | …               all others
//! ends         3              | 5              | …        where every group ends
//! ```
//!
//! It is a type of its own, so that nobody takes it for a [`Batch`] by mistake: who does not know groups asks for the
//! plain form, [`GroupedBatch::expanded`], and that is also its meaning.

use std::{borrow::Cow, ops::Range, sync::Arc};

use super::{Bags, Batch, BatchShape, MAX_IDS};
use crate::error::{BatchError, ProgramError};

/// Which features a group's samples share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sharing {
    /// Whether all dense values are shared.
    dense: bool,
    places: Box<[Place]>,
}

/// Where a sparse feature's bags are, and which feature it is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Group(usize),
    Sample(usize),
}

/// Samples to score together, in groups. Without shared features it is a [`Batch`] and has no groups. See the
/// [module](self) for the layout.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupedBatch {
    /// What is held once per sample.
    per_sample: Batch,
    per_group: Option<PerGroup>,
}

/// What is held once per group, and how the samples lie in groups.
#[derive(Debug, Clone, PartialEq)]
pub struct PerGroup {
    sharing: Arc<Sharing>,
    /// One of its samples is one group.
    values: Batch,
    /// The sample after every group's last. No group is empty.
    ends: Vec<u32>,
}

impl Sharing {
    /// Sparse feature `f` is shared if `sparse[f]` is; `dense` tells whether all dense values are.
    pub fn new(sparse: &[bool], dense: bool) -> Self {
        let mut counts = [0; 2];
        let place = |&shared: &bool| {
            let count = &mut counts[usize::from(shared)];
            *count += 1;
            if shared { Place::Group(*count - 1) } else { Place::Sample(*count - 1) }
        };
        Self { dense, places: sparse.iter().map(place).collect() }
    }

    /// Whether all dense values are shared.
    pub fn dense(&self) -> bool {
        self.dense
    }

    /// Whether sparse feature `feature` is shared.
    ///
    /// # Panics
    ///
    /// If there is no such feature.
    pub fn sparse(&self, feature: usize) -> bool {
        matches!(self.places[feature], Place::Group(_))
    }

    /// The features that are shared, or those that are not.
    fn features(&self, shared: bool) -> impl Iterator<Item = usize> + Clone {
        (0..self.places.len()).filter(move |&feature| self.sparse(feature) == shared)
    }

    /// The shape of what is held per group, or of what is held per sample.
    fn shape(&self, whole: &BatchShape, shared: bool) -> BatchShape {
        BatchShape {
            dense_width: if self.dense == shared { whole.dense_width } else { 0 },
            bounds: self.features(shared).map(|feature| whole.bounds[feature]).collect(),
            rule: whole.rule,
        }
    }
}

impl PerGroup {
    /// Which features these are.
    pub fn sharing(&self) -> &Sharing {
        &self.sharing
    }

    /// Number of groups.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no group.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The samples of `group`.
    ///
    /// # Panics
    ///
    /// If there is no such group.
    pub fn samples(&self, group: usize) -> Range<usize> {
        let start = group.checked_sub(1).map_or(0, |before| self.ends[before]);
        start as usize..self.ends[group] as usize
    }

    /// The groups of these samples; none of no samples.
    pub fn groups(&self, samples: Range<usize>) -> Range<usize> {
        let of = |sample: usize| self.ends.partition_point(|&end| end as usize <= sample);
        let first = of(samples.start);
        if samples.is_empty() { first..first } else { first..of(samples.end - 1) + 1 }
    }

    fn lengths(&self) -> impl Iterator<Item = usize> + Clone {
        (0..self.len()).map(|group| self.samples(group).len())
    }
}

impl From<Batch> for GroupedBatch {
    fn from(batch: Batch) -> Self {
        Self { per_sample: batch, per_group: None }
    }
}

impl GroupedBatch {
    /// One id per feature. `dense` is `[groups, dense_width]` if it is shared and `[samples, dense_width]` if not;
    /// `shared` is `[groups, shared features]` and `ids` `[samples, other features]`, both row by row with features in
    /// the schema's order. `lengths` are the samples of every group.
    ///
    /// # Errors
    ///
    /// As [`BatchShape::from_rows`], and [`BatchError::Group`] for an empty group.
    ///
    /// # Panics
    ///
    /// If `sharing` is of another number of features.
    pub fn from_rows(
        shape: &BatchShape,
        sharing: Arc<Sharing>,
        lengths: &[u32],
        dense: Vec<f32>,
        shared: &[i64],
        ids: &[i64],
    ) -> Result<Self, BatchError> {
        assert_eq!(sharing.places.len(), shape.features(), "sparse features");
        let ends = ends(lengths)?;
        let samples = ends.last().map_or(0, |&end| end as usize);
        let (of_groups, of_samples) =
            if sharing.dense { (dense, Vec::new()) } else { (Vec::new(), dense) };
        let rows = |is_shared, samples, dense, ids: &[i64]| {
            let batch = sharing.shape(shape, is_shared).rows_of(samples, dense, ids);
            batch.map_err(|error| match error {
                BatchError::OutOfVocabulary { feature, sample, id, cardinality } => {
                    let feature = sharing.features(is_shared).nth(feature).unwrap_or(feature);
                    BatchError::OutOfVocabulary { feature, sample, id, cardinality }
                }
                error => error,
            })
        };
        let values = rows(true, lengths.len(), of_groups, shared)?;
        let per_sample = rows(false, samples, of_samples, ids)?;
        Self { per_sample, per_group: Some(PerGroup { sharing, values, ends }) }.bounded()
    }

    /// The samples of a plain batch in groups of these lengths. What a group shares is what its first sample has.
    ///
    /// # Errors
    ///
    /// [`BatchError::Group`] for an empty group, [`BatchError::Groups`] if the lengths are not those of the samples, and
    /// [`BatchError::TooLarge`] if the plain form would be.
    ///
    /// # Panics
    ///
    /// If `sharing` is of another number of features.
    pub fn of(batch: &Batch, sharing: Arc<Sharing>, lengths: &[u32]) -> Result<Self, BatchError> {
        assert_eq!(sharing.places.len(), batch.features(), "sparse features");
        let ends = ends(lengths)?;
        let samples = ends.last().map_or(0, |&end| end as usize);
        if samples != batch.samples {
            return Err(BatchError::Groups { got: samples, samples: batch.samples });
        }
        let firsts = ends.iter().zip(lengths).map(|(end, length)| (end - length) as usize);
        let values = pick(batch, sharing.features(true), firsts, sharing.dense);
        let per_sample = pick(batch, sharing.features(false), 0..samples, !sharing.dense);
        Self { per_sample, per_group: Some(PerGroup { sharing, values, ends }) }.bounded()
    }

    fn bounded(self) -> Result<Self, BatchError> {
        let ids = self.expanded_ids();
        if ids > MAX_IDS { Err(BatchError::TooLarge { ids }) } else { Ok(self) }
    }

    /// Number of samples.
    pub fn samples(&self) -> usize {
        self.per_sample.samples
    }

    /// What is held once per sample: everything, if there are no groups.
    pub fn per_sample(&self) -> &Batch {
        &self.per_sample
    }

    /// What is held once per group, if some features are shared.
    pub fn per_group(&self) -> Option<&PerGroup> {
        self.per_group.as_ref()
    }

    /// How many ids were outside their vocabulary, each counted as often as it was given.
    pub fn unknown_ids(&self) -> usize {
        self.batches().map(Batch::unknown_ids).sum()
    }

    /// Whether an id counts other than once.
    pub fn is_weighted(&self) -> bool {
        self.batches().any(Batch::is_weighted)
    }

    /// Whether every bag holds exactly one unweighted id.
    pub fn is_one_hot(&self) -> bool {
        self.batches().all(Batch::is_one_hot)
    }

    /// What is held per sample and what is held per group, as batches.
    pub fn batches(&self) -> impl Iterator<Item = &Batch> {
        std::iter::once(&self.per_sample).chain(self.per_group.as_ref().map(|of| &of.values))
    }

    /// The dense values, a row per group if they are shared and a row per sample if not.
    pub fn dense(&self) -> &[f32] {
        match &self.per_group {
            Some(of) if of.sharing.dense => of.values.dense(),
            _ => self.per_sample.dense(),
        }
    }

    /// The bags of `feature`, one per group if it is shared and one per sample if not.
    ///
    /// # Panics
    ///
    /// If there is no such feature.
    pub fn bags(&self, feature: usize) -> Bags<'_> {
        let (batch, feature) = self.held(feature);
        batch.bags(feature)
    }

    fn held(&self, feature: usize) -> (&Batch, usize) {
        match &self.per_group {
            None => (&self.per_sample, feature),
            Some(of) => match of.sharing.places[feature] {
                Place::Group(at) => (&of.values, at),
                Place::Sample(at) => (&self.per_sample, at),
            },
        }
    }

    /// Dense values per row of [`GroupedBatch::dense`].
    pub fn dense_width(&self) -> usize {
        self.batches().map(Batch::dense_width).sum()
    }

    /// Number of sparse features.
    pub fn features(&self) -> usize {
        self.batches().map(Batch::features).sum()
    }

    /// The bounds of all features, in the schema's order.
    fn bounds(&self) -> Arc<[u64]> {
        if self.per_group.is_none() {
            return Arc::clone(&self.per_sample.bounds);
        }
        let bound = |feature| {
            let (batch, at) = self.held(feature);
            batch.bounds[at]
        };
        (0..self.features()).map(bound).collect()
    }

    /// Ids of the plain form.
    fn expanded_ids(&self) -> usize {
        let own = self.per_sample.ids.len();
        let Some(PerGroup { values, .. }) = &self.per_group else { return own };
        if values.is_one_hot() {
            return own.saturating_add(values.features().saturating_mul(self.samples()));
        }
        let of = self.per_group.iter().flat_map(|of| of.lengths().enumerate());
        let in_bags = |group| {
            let of_feature = |feature| values.bags(feature).range(group).len();
            (0..values.features()).map(of_feature).sum::<usize>()
        };
        of.map(|(group, samples)| samples.saturating_mul(in_bags(group)))
            .fold(own, usize::saturating_add)
    }

    /// Proves that it has this many dense values per sample and these bounds of ids.
    pub(crate) fn expect(&self, dense_width: usize, bounds: &[u64]) -> Result<(), ProgramError> {
        let same_bounds = || {
            let bound = |(feature, &bound)| {
                let (batch, at): (&Batch, usize) = self.held(feature);
                batch.bounds[at] == bound
            };
            self.features() == bounds.len() && bounds.iter().enumerate().all(bound)
        };
        if self.dense_width() == dense_width && same_bounds() {
            return Ok(());
        }
        Err(ProgramError::Batch {
            dense: (self.dense_width(), dense_width),
            sparse: (self.features(), bounds.len()),
        })
    }

    /// The plain form: every sample with what its group shares.
    pub fn expanded(&self) -> Cow<'_, Batch> {
        let Some(of) = &self.per_group else { return Cow::Borrowed(&self.per_sample) };
        let mut batch = Batch {
            samples: self.samples(),
            unknown: self.unknown_ids(),
            ids: Vec::with_capacity(self.expanded_ids()),
            weights: self.batches().any(|batch| batch.weights.is_some()).then(Vec::new),
            offsets: (!self.is_one_hot()).then(Vec::new),
            ..Batch::empty(self.dense_width(), self.bounds())
        };
        if of.sharing.dense {
            let width = of.values.dense_width;
            for (row, samples) in of.values.dense.chunks_exact(width).zip(of.lengths()) {
                for _ in 0..samples {
                    batch.dense.extend_from_slice(row);
                }
            }
        } else {
            batch.dense.extend_from_slice(&self.per_sample.dense);
        }
        for feature in 0..self.features() {
            let bags = self.bags(feature);
            if of.sharing.sparse(feature) {
                for (group, samples) in of.lengths().enumerate() {
                    for _ in 0..samples {
                        push(&mut batch, bags, group);
                    }
                }
            } else {
                for sample in 0..self.samples() {
                    push(&mut batch, bags, sample);
                }
            }
        }
        end(&mut batch);
        Cow::Owned(batch)
    }

    /// Makes this batch the samples of `parts`, one after the other, reusing its memory. Parts that share different
    /// features, or of which some share none, become plain.
    ///
    /// # Panics
    ///
    /// If the parts differ in their features, or have together more than [`MAX_IDS`] ids in plain form.
    pub fn merge<'a>(&mut self, parts: impl Iterator<Item = &'a Self> + Clone) {
        let total: usize = parts.clone().map(Self::expanded_ids).sum();
        assert!(total <= MAX_IDS, "{total} ids in one batch");
        let Some(first) = parts.clone().next() else {
            *self = Batch::empty(self.dense_width(), self.bounds()).into();
            return;
        };
        let sharing = |part: &'a Self| part.per_group.as_ref().map(|of| &of.sharing);
        if parts.clone().any(|part| sharing(part) != sharing(first)) {
            let plain: Vec<Cow<'_, Batch>> = parts.map(Self::expanded).collect();
            self.per_group = None;
            merge_into(&mut self.per_sample, plain.iter().map(AsRef::as_ref));
            return;
        }
        merge_into(&mut self.per_sample, parts.clone().map(|part| &part.per_sample));
        let Some(of_first) = &first.per_group else {
            self.per_group = None;
            return;
        };
        let mut of = self.per_group.take().unwrap_or_else(|| PerGroup {
            sharing: Arc::clone(&of_first.sharing),
            values: Batch::empty(0, Arc::default()),
            ends: Vec::new(),
        });
        of.sharing = Arc::clone(&of_first.sharing);
        of.ends.clear();
        let mut start = 0;
        for part in parts.clone().filter_map(|part| part.per_group.as_ref()) {
            of.ends.extend(part.ends.iter().map(|end| start + end));
            start = of.ends.last().copied().unwrap_or(start);
        }
        let values = parts.filter_map(|part| part.per_group.as_ref()).map(|part| &part.values);
        merge_into(&mut of.values, values);
        self.per_group = Some(of);
    }

    /// The samples in `range` as a batch of their own; groups that it cuts share what they did. Unknown ids are counted as
    /// [`Batch::slice`] counts them.
    ///
    /// # Panics
    ///
    /// If `range` is not within the samples.
    pub fn slice(&self, range: Range<usize>) -> Self {
        let per_sample = self.per_sample.slice(range.clone());
        let per_group = self.per_group.as_ref().map(|of| {
            let groups = of.groups(range.clone());
            let end = |group: usize| (of.samples(group).end.min(range.end) - range.start) as u32;
            PerGroup {
                sharing: Arc::clone(&of.sharing),
                values: of.values.slice(groups.clone()),
                ends: groups.map(end).collect(),
            }
        });
        Self { per_sample, per_group }
    }
}

/// Merges parts of any shape.
fn merge_into<'a>(batch: &mut Batch, parts: impl Iterator<Item = &'a Batch> + Clone) {
    if let Some(first) = parts.clone().next() {
        batch.dense_width = first.dense_width;
        batch.bounds = Arc::clone(&first.bounds);
    }
    batch.merge(parts);
}

/// Where groups of these lengths end.
fn ends(lengths: &[u32]) -> Result<Vec<u32>, BatchError> {
    let mut end = 0_u32;
    let next = |(group, &length): (usize, &u32)| {
        if length == 0 {
            return Err(BatchError::Group { group });
        }
        let ids = (end as usize).saturating_add(length as usize);
        end = u32::try_from(ids).map_err(|_| BatchError::TooLarge { ids })?;
        Ok(end)
    };
    lengths.iter().enumerate().map(next).collect()
}

/// Some features of some samples.
fn pick(
    batch: &Batch,
    features: impl Iterator<Item = usize> + Clone,
    samples: impl Iterator<Item = usize> + Clone,
    dense: bool,
) -> Batch {
    let width = if dense { batch.dense_width } else { 0 };
    let bounds = features.clone().map(|feature| batch.bounds[feature]).collect();
    let mut picked = Batch {
        samples: samples.clone().count(),
        weights: batch.weights.as_ref().map(|_| Vec::new()),
        offsets: batch.offsets.as_ref().map(|_| Vec::new()),
        ..Batch::empty(width, bounds)
    };
    for sample in samples.clone() {
        picked.dense.extend_from_slice(&batch.dense[sample * batch.dense_width..][..width]);
    }
    for feature in features {
        let bags = batch.bags(feature);
        for sample in samples.clone() {
            push(&mut picked, bags, sample);
        }
    }
    end(&mut picked);
    picked
}

/// Appends a bag to a batch that is being filled; what is not weighted has weights of 1.
fn push(batch: &mut Batch, bags: Bags<'_>, bag: usize) {
    let range = bags.range(bag);
    if let Some(offsets) = &mut batch.offsets {
        offsets.push(batch.ids.len() as u32);
    }
    if let Some(weights) = &mut batch.weights {
        match bags.weights {
            Some(given) => weights.extend_from_slice(&given[range.clone()]),
            None => weights.resize(weights.len() + range.len(), 1.0),
        }
    }
    batch.ids.extend_from_slice(&bags.ids[range]);
}

/// Ends the bags of a batch that is filled.
fn end(batch: &mut Batch) {
    if let Some(offsets) = &mut batch.offsets {
        offsets.push(batch.ids.len() as u32);
    }
}

#[cfg(test)]
mod tests;
