//! A batch as steps read it: some of it may be held once per group of samples.

use std::ops::Range;

use mprec_representations::{Bags, Batch, GroupedBatch, PerGroup};

/// A plain batch, or one with features that groups of samples share.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Input<'a> {
    Plain(&'a Batch),
    Grouped(&'a GroupedBatch, &'a PerGroup),
}

impl<'a> Input<'a> {
    pub(crate) fn of(batch: &'a GroupedBatch) -> Self {
        match batch.per_group() {
            None => Self::Plain(batch.per_sample()),
            Some(of) => Self::Grouped(batch, of),
        }
    }

    /// The bags of `feature`, one per group if it is shared and one per sample if not.
    pub(crate) fn bags(&self, feature: usize) -> Bags<'a> {
        match self {
            Self::Plain(batch) => batch.bags(feature),
            Self::Grouped(batch, _) => batch.bags(feature),
        }
    }

    /// Whether every bag holds exactly one unweighted id.
    pub(crate) fn is_one_hot(&self) -> bool {
        match self {
            Self::Plain(batch) => batch.is_one_hot(),
            Self::Grouped(batch, _) => batch.is_one_hot(),
        }
    }

    /// The dense values from a row on: of a group if they are shared, of a sample if not. Nothing if there is no such
    /// row, as for a step over samples that reads no dense values while groups share those.
    pub(crate) fn dense_from(&self, row: usize) -> &'a [f32] {
        let (dense, width) = match self {
            Self::Plain(batch) => (batch.dense(), batch.dense_width()),
            Self::Grouped(batch, _) => (batch.dense(), batch.dense_width()),
        };
        dense.get(row * width..).unwrap_or_default()
    }

    /// The groups of these samples; none without shared features.
    pub(crate) fn groups(&self, samples: Range<usize>) -> Range<usize> {
        self.per_group().map_or(0..0, |of| of.groups(samples))
    }

    /// The groups, if their samples share `feature`.
    pub(crate) fn sharing(&self, feature: usize) -> Option<&'a PerGroup> {
        self.per_group().filter(|of| of.sharing().sparse(feature))
    }

    /// The groups, if their samples share the dense values.
    pub(crate) fn sharing_dense(&self) -> Option<&'a PerGroup> {
        self.per_group().filter(|of| of.sharing().dense())
    }

    fn per_group(&self) -> Option<&'a PerGroup> {
        match self {
            Self::Plain(_) => None,
            Self::Grouped(_, of) => Some(of),
        }
    }
}
