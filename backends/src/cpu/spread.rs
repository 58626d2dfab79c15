//! From a row per group to a row per sample.
//!
//! What a group's samples share is computed into the first rows of a block, one per group, and then spread in
//! place. A query larger than a block fills whole blocks alone. What chains and the bottom net make of what it shares is
//! kept from one to the next, so that it is computed once; rows of tables are looked up once in every block. Blocks that
//! two queries meet in compute what both share anew: among other rows, as without groups.

use std::ops::Range;

use mprec_representations::PerGroup;

use super::{buffer::Buffer, place::Place, step::Now};

/// The rows of the group that alone made up the last block, in the order in which they were spread.
#[derive(Debug)]
pub(crate) struct Kept {
    rows: Vec<f32>,
    /// Where the next one is.
    next: usize,
    group: Option<usize>,
    is_same: bool,
}

impl Kept {
    /// For rows of together `floats` floats.
    pub(crate) fn new(floats: usize) -> Self {
        Self { rows: vec![0.0; floats], next: 0, group: None, is_same: false }
    }

    /// Its bytes.
    pub(crate) fn bytes(&self) -> usize {
        size_of_val(&self.rows[..])
    }

    /// Begins a batch.
    pub(crate) fn forget(&mut self) {
        self.group = None;
    }

    /// Begins a block of samples of these groups.
    pub(crate) fn begin(&mut self, groups: &Range<usize>) {
        let alone = (groups.len() == 1).then_some(groups.start);
        self.is_same = alone.is_some() && self.group == alone;
        self.group = alone;
        self.next = 0;
    }

    /// Whether the block is of the one group that the last one was of: nothing shared need be computed.
    pub(crate) fn is_same(&self) -> bool {
        self.is_same
    }

    /// Spreads the groups' rows in `place` to the block's samples, or the kept one.
    pub(crate) fn spread(
        &mut self,
        place: Place,
        buffers: &mut [Buffer],
        block: &Now<'_>,
        of: &PerGroup,
    ) {
        let first = &mut buffers[place.target()].as_mut_slice()[place.offset..][..place.width];
        let kept = &mut self.rows[self.next..][..place.width];
        self.next += place.width;
        if self.is_same {
            first.copy_from_slice(kept);
        } else if block.groups.len() == 1 {
            kept.copy_from_slice(first);
        }
        spread(place, buffers, block, of);
    }
}

/// Spreads the groups' rows in `place` to the block's samples.
pub(crate) fn spread(place: Place, buffers: &mut [Buffer], block: &Now<'_>, of: &PerGroup) {
    let data = &mut buffers[place.target()].as_mut_slice()[place.offset..];
    // The last group first: its samples lie behind the rows of all groups before it, of which each has a sample.
    for (row, group) in block.groups.clone().enumerate().rev() {
        let samples = of.samples(group);
        let first = samples.start.max(block.samples.start) - block.samples.start;
        let end = samples.end.min(block.samples.end) - block.samples.start;
        let from = row * place.stride..row * place.stride + place.width;
        for sample in (first..end).filter(|&sample| sample != row) {
            data.copy_within(from.clone(), sample * place.stride);
        }
    }
}
