//! Queries whose clients went away.
//!
//! A sender wakes the task that polls it when its receiver is dropped. Here that task is no task: it
//! writes the query's name on a list, which the next holder of the engine's lock works off. So a
//! query leaves the backlog when its client does, without anybody looking for it.

use std::{
    sync::{Arc, Mutex},
    task::{Context, Wake, Waker},
};

use mprec_router::QueryId;
use tokio::sync::oneshot;

use super::shared::lock;
use crate::service::Outcome;

/// The list. Each query is on it at most once.
#[derive(Debug, Default)]
pub(super) struct Gone {
    queries: Mutex<Vec<QueryId>>,
}

#[derive(Debug)]
struct Notice {
    query: QueryId,
    gone: Arc<Gone>,
}

impl Wake for Notice {
    fn wake(self: Arc<Self>) {
        lock(&self.gone.queries).push(self.query);
    }
}

impl Gone {
    /// Has `query` put on the list when the receiver of `sender` is dropped.
    pub(super) fn watch(self: &Arc<Self>, query: QueryId, sender: &mut oneshot::Sender<Outcome>) {
        let waker = Waker::from(Arc::new(Notice { query, gone: Arc::clone(self) }));
        // Pending registers the waker. Ready means that the receiver is gone already; such a query
        // is skipped when its turn comes, as is one that tokio's budget keeps from registering.
        let _ = sender.poll_closed(&mut Context::from_waker(&waker));
    }

    /// Moves the list to the end of `into`.
    pub(super) fn take(&self, into: &mut Vec<QueryId>) {
        into.append(&mut lock(&self.queries));
    }
}
