//! A batch as the shaders read it: one buffer of words.

use std::ops::Range;

use mprec_representations::{Batch, RowIndex};

use super::{block::Span, types::Word};

/// What the shaders need of a feature.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Needs {
    pub(super) bags: bool,
    pub(super) ids: bool,
}

/// The rows that the ids of a feature pick, for one table or several.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Picks {
    pub(super) feature: usize,
    pub(super) index: RowIndex,
}

/// Words of a batch, and where what lies in them.
#[derive(Debug, Default)]
pub(super) struct Packed {
    pub(super) words: Vec<u32>,
    ids: Vec<usize>,
    offsets: Vec<usize>,
    weights: Vec<Option<usize>>,
    picks: Vec<usize>,
}

impl Packed {
    /// Packs what is needed of a batch; dense values come first.
    pub(super) fn pack(&mut self, batch: &Batch, needs: &[Needs], picks: &[Picks]) {
        let features = needs.len();
        self.words.clear();
        self.words.extend_from_slice(bytemuck::cast_slice(batch.dense()));
        for places in [&mut self.ids, &mut self.offsets] {
            places.clear();
            places.resize(features, 0);
        }
        self.weights.clear();
        self.weights.resize(features, None);
        self.picks.clear();
        for (feature, needs) in needs.iter().enumerate() {
            let bags = batch.bags(feature);
            if needs.bags {
                self.offsets[feature] = self.words.len();
                self.words.push(0);
                let end = |bag| -> Range<usize> { bags.range(bag) };
                self.words.extend((0..bags.len()).map(|bag| end(bag).end as u32));
                if let Some(weights) = bags.weights() {
                    self.weights[feature] = Some(self.words.len());
                    self.words.extend_from_slice(bytemuck::cast_slice(weights));
                }
            }
            if needs.ids {
                self.ids[feature] = self.words.len();
                let halves = |&id: &u64| [id as u32, (id >> 32) as u32];
                self.words.extend(bags.ids().iter().flat_map(halves));
            }
        }
        for picks in picks {
            self.picks.push(self.words.len());
            let rows = batch.bags(picks.feature).ids().iter();
            self.words.extend(rows.map(|&id| picks.index.row(id) as u32));
        }
        // No buffer is empty.
        self.words.push(0);
    }

    /// The value of a word for what a call is for.
    pub(super) fn word(&self, word: Word, span: &Span) -> u32 {
        let at = |place: usize| place as u32;
        match word {
            Word::Fixed(value) => value,
            Word::Rows(of) => span.rows(of) as u32,
            Word::First => at(span.ids.start),
            Word::Ids(feature) => at(self.ids[feature] + 2 * span.ids.start),
            Word::Offsets(feature) => at(self.offsets[feature]),
            Word::Weights(feature) => self.weights[feature].map_or(u32::MAX, at),
            Word::Picks(which) => at(self.picks[which]),
        }
    }
}

/// Words that [`Packed`] holds for some samples of a batch, at least one.
pub(super) fn words(
    batch: &Batch,
    samples: Range<usize>,
    needs: &[Needs],
    picks: &[Picks],
) -> usize {
    let ids = |feature| {
        let bags = batch.bags(feature);
        bags.range(samples.end - 1).end - bags.range(samples.start).start
    };
    let of = |(feature, needs): (usize, &Needs)| {
        let weights = if batch.bags(feature).weights().is_some() { ids(feature) } else { 0 };
        let bags = if needs.bags { samples.len() + 1 + weights } else { 0 };
        bags + if needs.ids { 2 * ids(feature) } else { 0 }
    };
    let features: usize = needs.iter().enumerate().map(of).sum();
    let picks: usize = picks.iter().map(|picks| ids(picks.feature)).sum();
    samples.len() * batch.dense_width() + features + picks + 1
}
