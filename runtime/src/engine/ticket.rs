//! A query between admission and outcome.

use std::{sync::Arc, time::Instant};

use mprec_representations::Batch;
use mprec_router::{PathId, Query};
use tokio::sync::oneshot;

use crate::service::{Outcome, Refusal};

/// A query that waits: what to run, and whom to tell.
#[derive(Debug)]
pub(super) struct Ticket {
    pub(super) batch: Batch,
    pub(super) reply: Reply,
}

/// Whom to tell, and what about. The sender is used up by the one outcome.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) query: Query,
    pub(super) arrival: Instant,
    pub(super) path: PathId,
    pub(super) downgraded: bool,
    /// Batches of this query that a device failed to run.
    pub(super) failures: u32,
    pub(super) sender: oneshot::Sender<Outcome>,
}

impl Ticket {
    /// Bytes that its values take.
    pub(super) fn bytes(&self) -> usize {
        bytes(&self.batch)
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
pub(super) fn bytes(batch: &Batch) -> usize {
    let ids = batch.ids().len();
    let bags = batch.samples() * batch.features();
    let jagged = if batch.is_one_hot() { 0 } else { 4 * (ids + bags) };
    8 * ids + 4 * batch.dense().len() + jagged
}

/// The texts that every answer of a path carries.
#[derive(Debug, Clone)]
pub(super) struct PathLabel {
    pub(super) name: Arc<str>,
    pub(super) variant: Arc<str>,
    pub(super) accuracy: f64,
}
