//! Batches in parts: no buffer is larger than what a shader can bind.
//!
//! Samples are divided first, so that what is held per sample fits, and so do the words of the batch: these are *blocks*,
//! each a submission of its own. Within a block, what is held per id of a feature is made for some ids at a time and summed
//! up before the next ones, so that a single bag may be larger than any buffer. Every sum keeps its order, and with it its
//! bits.
//!
//! The words of one sample must fit: about ten million ids in 128 MiB.

use std::ops::Range;

use mprec_representations::{Batch, RowsOf};

use super::{
    batch::{self, Needs, Picks},
    types::{TILE, Values},
};
use crate::{error::BackendError, path::BackendKind};

/// What buffers are divided at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Bytes of a part of a table; a part has at least one row.
    pub(super) table: u64,
    /// Bytes of a value, such as a layer's output; a part has at least one row.
    pub(super) values: u64,
    /// Bytes that a shader can bind.
    pub(super) binding: u64,
    /// Workgroups in one dimension.
    pub(super) groups: u32,
}

/// Most rows of values at a time, at least one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Most {
    samples: usize,
    /// By feature.
    ids: Vec<usize>,
}

/// What a call is for: samples of a batch, or some ids of a feature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) samples: usize,
    /// Among those of the feature.
    pub(super) ids: Range<usize>,
}

impl Span {
    pub(super) fn rows(&self, of: RowsOf) -> usize {
        match of {
            RowsOf::Samples => self.samples,
            RowsOf::Ids { .. } => self.ids.len(),
        }
    }
}

/// How many rows at a time keep these values within the limits.
pub(super) fn most(
    values: &[Values],
    features: usize,
    limits: Limits,
) -> Result<Most, BackendError> {
    // Tiles of rows are counted by one dimension of workgroups.
    let tiles = TILE * limits.groups as usize;
    let mut most = Most { samples: tiles, ids: vec![tiles; features] };
    for values in values {
        let bytes = 4 * values.stride;
        if bytes as u64 > limits.binding {
            return Err(BackendError::Memory { backend: BackendKind::Wgpu, bytes });
        }
        let rows = (limits.values as usize / bytes.max(1)).max(1);
        let most = match values.rows {
            RowsOf::Samples => &mut most.samples,
            RowsOf::Ids { feature } => &mut most.ids[feature],
        };
        *most = rows.min(*most);
    }
    Ok(most)
}

/// Where the blocks of a batch end, whose words take no more than `limit` bytes each.
///
/// # Errors
///
/// [`BackendError::Sample`] if those of a single sample do.
pub(super) fn blocks(
    batch: &Batch,
    (needs, picks): (&[Needs], &[Picks]),
    most: &Most,
    limit: u64,
) -> Result<Vec<usize>, BackendError> {
    let bytes = |samples: Range<usize>| 4 * batch::words(batch, samples, needs, picks) as u64;
    let mut ends = Vec::new();
    let mut start = 0;
    while start < batch.samples() {
        let (mut fits, mut over) = (start, batch.samples().min(start + most.samples) + 1);
        // The whole fits nearly always; else the most that do, by halving.
        let mut end = over - 1;
        while over - fits > 1 {
            if bytes(start..end) <= limit {
                fits = end;
            } else {
                over = end;
            }
            end = usize::midpoint(fits, over);
        }
        if fits == start {
            let bytes = bytes(start..start + 1) as usize;
            let backend = BackendKind::Wgpu;
            return Err(BackendError::Sample { backend, sample: start, bytes, limit });
        }
        ends.push(fits);
        start = fits;
    }
    Ok(ends)
}

impl Most {
    /// Rows of values that a block has at a time.
    pub(super) fn rows(&self, block: &Batch, of: RowsOf) -> usize {
        match of {
            RowsOf::Samples => block.samples(),
            RowsOf::Ids { feature } => block.bags(feature).ids().len().min(self.ids[feature]),
        }
    }

    /// What the calls over these rows of a block are made for, one after the other: at least once, for sums of no ids are 0.
    pub(super) fn spans(&self, block: &Batch, over: RowsOf) -> impl Iterator<Item = Span> {
        let samples = block.samples();
        let (count, at_once) = match over {
            RowsOf::Samples => (0, 1),
            RowsOf::Ids { feature } => (block.bags(feature).ids().len(), self.ids[feature]),
        };
        let spans = count.div_ceil(at_once).max(1);
        (0..spans).map(move |span| {
            let first = span * at_once;
            Span { samples, ids: first..count.min(first + at_once) }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mprec_representations::{BatchShape, Jagged, RowIndex, Schema, SparseFeature};
    use proptest::prelude::*;

    use super::*;
    use crate::wgpu::batch::Packed;

    const NEEDS: [Needs; 2] = [Needs { bags: true, ids: true }, Needs { bags: true, ids: false }];
    const PICKS: [Picks; 1] = [Picks { feature: 1, index: RowIndex::Id }];

    fn batch(lengths: &[(u32, u32)], weighted: bool) -> Batch {
        let feature = |name: &str| SparseFeature { name: name.into(), cardinality: 9 };
        let sparse = vec![feature("a"), feature("b")];
        let schema = Schema::new(vec!["d".into()], sparse, Default::default()).unwrap();
        let lengths: Vec<u32> =
            lengths.iter().map(|of| of.0).chain(lengths.iter().map(|of| of.1)).collect();
        let count: u32 = lengths.iter().sum();
        let jagged = Jagged {
            ids: (0..i64::from(count)).map(|at| at % 9).collect(),
            weights: weighted.then(|| vec![0.5; count as usize]),
            lengths,
        };
        let samples = jagged.lengths.len() / 2;
        BatchShape::new(&schema).from_jagged(vec![0.0; samples], &jagged).unwrap()
    }

    proptest! {
        #[test]
        fn blocks_are_as_large_as_fits_and_no_larger(
            lengths in prop::collection::vec((0..6_u32, 0..6_u32), 0..40),
            weighted: bool,
            samples in 1..20_usize,
            limit in 60..1000_u64,
        ) {
            let batch = batch(&lengths, weighted);
            let most = Most { samples, ids: vec![3, 3] };
            let mut packed = Packed::default();
            let mut bytes = |part: Range<usize>| {
                packed.pack(&batch.slice(part), &NEEDS, &PICKS);
                4 * packed.words.len() as u64
            };
            match blocks(&batch, (&NEEDS, &PICKS), &most, limit) {
                Ok(ends) => {
                    let mut start = 0;
                    for &end in &ends {
                        prop_assert!(end > start && end - start <= samples);
                        prop_assert!(bytes(start..end) <= limit);
                        let more = end < batch.samples() && end - start < samples;
                        prop_assert!(!more || bytes(start..end + 1) > limit);
                        start = end;
                    }
                    prop_assert_eq!(start, batch.samples());
                }
                Err(BackendError::Sample { sample, bytes: needed, .. }) => {
                    prop_assert_eq!(bytes(sample..sample + 1), needed as u64);
                    prop_assert!(needed as u64 > limit);
                }
                Err(other) => return Err(TestCaseError::fail(other.to_string())),
            }
        }
    }

    #[test]
    fn ids_are_taken_some_at_a_time_and_none_once() {
        let most = Most { samples: 10, ids: vec![3, 4] };
        let spans = |batch: &Batch, over| -> Vec<_> {
            most.spans(batch, over).map(|span| (span.samples, span.ids)).collect()
        };
        let some = batch(&[(5, 0), (2, 0)], false);
        let ids = |feature| RowsOf::Ids { feature };
        assert_eq!(spans(&some, ids(0)), [(2, 0..3), (2, 3..6), (2, 6..7)]);
        assert_eq!(spans(&some, ids(1)), [(2, 0..0)]);
        assert_eq!(spans(&some, RowsOf::Samples), [(2, 0..0)]);
    }

    #[test]
    fn rows_at_a_time_keep_to_the_widest_value() {
        let values = |rows, stride| Values { rows, stride };
        let all = [
            values(RowsOf::Samples, 3),
            values(RowsOf::Samples, 8),
            values(RowsOf::Ids { feature: 1 }, 1000),
        ];
        let limits = Limits { table: 64, values: 100, binding: 4000, groups: 7 };
        let most = super::most(&all, 2, limits).unwrap();
        assert_eq!(most, Most { samples: 3, ids: vec![7 * TILE, 1] });
        let limits = Limits { binding: 3999, ..limits };
        let error = super::most(&all, 2, limits).unwrap_err();
        assert!(matches!(error, BackendError::Memory { bytes: 4000, .. }), "{error}");
    }

    #[test]
    fn a_batch_of_no_samples_has_no_blocks() {
        let batch = Batch::empty(1, Arc::new([9, 9]));
        let most = Most { samples: 10, ids: vec![3, 4] };
        assert!(blocks(&batch, (&NEEDS, &PICKS), &most, 4).unwrap().is_empty());
    }
}
