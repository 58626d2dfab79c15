//! The scores of a query that runs in parts.
//!
//! Each part is run by whichever worker takes it and writes its scores where they belong; the query is
//! answered with the last. Which part is the last is the router's to say (`Batch::ended`), so that a query
//! whose other part failed or expired is not answered by what is left of it.

use std::time::Instant;

use mprec_router::{Queued, SplitId};

/// What has come together of one query. Goes with its [`Ticket`](super::ticket::Ticket).
#[derive(Debug)]
pub(super) struct Assembly {
    /// Known once a part has started: a query that was admitted again is another split.
    split: Option<SplitId>,
    unstarted: u32,
    scores: Vec<f32>,
    started: Option<Instant>,
    batch_samples: usize,
}

impl Assembly {
    /// Of a query of `samples` samples that waits in `parts` parts.
    pub(super) fn new(parts: u32, samples: usize) -> Self {
        // Not a number, so that a sample that no part wrote could not pass for a score.
        let scores = vec![f32::NAN; samples];
        Self { split: None, unstarted: parts, scores, started: None, batch_samples: 0 }
    }

    /// A part has been taken by a worker.
    pub(super) fn begin(&mut self, split: SplitId) {
        self.split = Some(split);
        self.unstarted = self.unstarted.saturating_sub(1);
    }

    /// Whether a part of it still waits.
    pub(super) fn waits(&self) -> bool {
        self.unstarted > 0
    }

    /// Whether it is that of this entry, and not of the same query admitted again.
    pub(super) fn is_of(&self, entry: &Queued) -> bool {
        entry.split.is_some() && self.split == entry.split
    }

    /// Puts the scores of a part, whose batch of `batch_samples` began at `started`, in their place.
    pub(super) fn put(
        &mut self,
        entry: &Queued,
        scores: &[f32],
        started: Instant,
        batch_samples: usize,
    ) {
        let place = entry.offset as usize..(entry.offset + entry.samples) as usize;
        self.scores[place].copy_from_slice(scores);
        self.started = Some(self.started.map_or(started, |earlier| earlier.min(started)));
        self.batch_samples = self.batch_samples.max(batch_samples);
    }

    /// The scores in order, when the first part began, and the samples of the largest batch.
    pub(super) fn finish(self) -> (Vec<f32>, Option<Instant>, usize) {
        (self.scores, self.started, self.batch_samples)
    }
}
