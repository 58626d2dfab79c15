//! A query between admission and outcome.

use std::{sync::Arc, time::Instant};

use mprec_representations::{Batch, GroupedBatch};
use mprec_router::{PathId, Query, Queued, Time};
use tokio::sync::oneshot;

use super::assembly::Assembly;
use crate::service::{Outcome, Refusal};

/// A query that waits, or runs in parts: what to run, and whom to tell.
#[derive(Debug)]
pub(super) struct Ticket {
    /// Shared with the workers that run it, which take their parts of it without the engine's lock.
    pub(super) batch: Arc<GroupedBatch>,
    pub(super) reply: Reply,
    /// Of a query that was admitted in parts.
    pub(super) assembly: Option<Assembly>,
}

/// What one entry of a router's batch asks a worker to run.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) batch: Arc<GroupedBatch>,
    pub(super) entry: Queued,
}

/// Whom to tell, and what about. The sender is used up by the one outcome.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) query: Query,
    pub(super) arrival: Instant,
    pub(super) path: PathId,
    pub(super) downgraded: bool,
    /// When it was expected to be done, as of its last decision.
    pub(super) predicted: Time,
    /// Batches of this query that a device failed to run.
    pub(super) failures: u32,
    pub(super) sender: oneshot::Sender<Outcome>,
}

impl Ticket {
    /// Bytes that its values take.
    pub(super) fn bytes(&self) -> usize {
        bytes(&self.batch)
    }

    /// Whether all or a part of it waits.
    pub(super) fn waits(&self) -> bool {
        self.assembly.as_ref().is_none_or(Assembly::waits)
    }
}

impl Piece {
    pub(super) fn is_part(&self) -> bool {
        self.entry.split.is_some()
    }

    /// The samples of a part as a batch of their own; `None` for a whole query.
    pub(super) fn cut(&self) -> Option<GroupedBatch> {
        let range = self.entry.offset as usize..(self.entry.offset + self.entry.samples) as usize;
        self.is_part().then(|| self.batch.slice(range))
    }
}

impl Reply {
    /// Whether nobody waits for the outcome any more.
    pub(super) fn is_abandoned(&self) -> bool {
        self.sender.is_closed()
    }

    /// Sends the outcome. The client may have gone meanwhile, which is its own affair.
    pub(super) fn send(self, outcome: Outcome) {
        let _ = self.sender.send(outcome);
    }
}

/// An outcome on its way. Sent without the engine's lock, because it wakes another thread.
#[derive(Debug)]
pub(super) struct Letter {
    pub(super) reply: Reply,
    pub(super) outcome: Outcome,
}

impl Letter {
    pub(super) fn refusal(reply: Reply, refusal: Refusal) -> Self {
        Self { reply, outcome: Err(refusal) }
    }
}

/// Sends all, and empties the list.
pub(super) fn post(letters: &mut Vec<Letter>) {
    for letter in letters.drain(..) {
        letter.reply.send(letter.outcome);
    }
}

/// Bytes that a batch's values take: eight per id, four per dense value, and four per weight and
/// offset where there are some.
pub(super) fn bytes(batch: &GroupedBatch) -> usize {
    let of = |batch: &Batch| {
        let ids = batch.ids().len();
        let bags = batch.samples() * batch.features();
        let jagged = if batch.is_one_hot() { 0 } else { 4 * (ids + bags) };
        8 * ids + 4 * batch.dense().len() + jagged
    };
    batch.batches().map(of).sum()
}

/// The texts that every answer of a path carries.
#[derive(Debug, Clone)]
pub(super) struct PathLabel {
    pub(super) name: Arc<str>,
    pub(super) variant: Arc<str>,
    pub(super) accuracy: f64,
}
