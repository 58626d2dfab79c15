//! What a worker is given to run.

use crate::{DeviceId, LaneId, PathId, Time, queue::Queued};

/// A batch for one worker. Reused from batch to batch, so that none is allocated.
#[derive(Debug, Clone)]
pub struct Batch {
    /// The path to run it on.
    pub path: PathId,
    /// The device of that path.
    pub device: DeviceId,
    /// The lane that it occupies until it is reported completed or failed.
    pub lane: LaneId,
    /// Samples in all queries together. If fewer than were handed out are run (clients went away), set it
    /// to those before reporting the batch: such a run teaches nothing.
    pub samples: u32,
    /// The queries and parts of queries to run, most urgent first.
    pub queries: Vec<Queued>,
    /// Filled in when the batch is reported: the queries that are over with it. Those that
    /// [completed](super::RouterState::completed) are answered, parts of theirs that ran elsewhere
    /// included; those that [failed](super::RouterState::failed) are lost as a whole.
    pub ended: Vec<Queued>,
    /// Queries whose deadline passed while they waited. They are out of the queue and must be
    /// answered as such, also when there is nothing to run.
    pub expired: Vec<Queued>,
}

impl Default for Batch {
    fn default() -> Self {
        Self {
            path: PathId(0),
            device: DeviceId(0),
            lane: LaneId(0),
            samples: 0,
            queries: Vec::new(),
            ended: Vec::new(),
            expired: Vec::new(),
        }
    }
}

/// What a worker shall do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Run the batch that was filled in.
    Run,
    /// Ask again then, or when a query was admitted.
    Wait(Time),
    /// Ask again when a query was admitted, or a lane became free.
    Idle,
}
