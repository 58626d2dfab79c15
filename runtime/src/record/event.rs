//! What a log holds.

use std::time::Duration;

use crate::time::nanos;
use mprec_router::{
    Batch, Decision, DeviceId, Health, LaneId, Next, PathId, Query, QueryId, Queued, Refusal, Time,
};

/// Something that a router was told, and what it answered.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A query was decided.
    Submitted {
        /// When.
        now: Time,
        /// The query.
        query: Query,
        /// What became of it.
        decision: Decision,
    },
    /// A worker asked for a batch.
    Asked {
        /// When.
        now: Time,
        /// Its device.
        device: DeviceId,
        /// What it was told.
        next: Next,
        /// The batch, if there was one.
        started: Option<Started>,
        /// Queries handed back because their deadline had passed.
        expired: Vec<QueryId>,
    },
    /// A batch is done.
    Completed {
        /// When.
        now: Time,
        /// Where it ran.
        device: DeviceId,
        /// Where it ran.
        lane: LaneId,
        /// How long it took.
        observed: Duration,
        /// How many samples ran, if not all that were handed out: clients had left.
        short: Option<u32>,
        /// The queries that it answered, if there were parts in it; `None` stands for all of its queries.
        ended: Option<Vec<QueryId>>,
    },
    /// A batch was not answered: it freed its lane and taught nothing.
    Failed {
        /// When.
        now: Time,
        /// Where it ran.
        device: DeviceId,
        /// Where it ran.
        lane: LaneId,
        /// The queries that it lost, if there were parts in it; `None` stands for all of its queries.
        ended: Option<Vec<QueryId>>,
    },
    /// A client went away.
    Cancelled {
        /// When.
        now: Time,
        /// The path that its query waited for.
        path: PathId,
        /// The query.
        query: QueryId,
        /// Whether it was still waiting.
        removed: bool,
    },
    /// A path went up or down.
    HealthSet {
        /// When.
        now: Time,
        /// The path.
        path: PathId,
        /// What it is now.
        health: Health,
        /// Queries that it handed back.
        orphans: Vec<QueryId>,
    },
    /// Queries were handed back because their deadline had passed, while every lane was busy.
    Expired {
        /// When.
        now: Time,
        /// The device that they waited for.
        device: DeviceId,
        /// The queries.
        queries: Vec<QueryId>,
    },
}

/// A batch that began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Started {
    /// Its path.
    pub path: PathId,
    /// Its lane.
    pub lane: LaneId,
    /// Samples in all its queries.
    pub samples: u32,
    /// Its queries and parts of queries, most urgent first.
    pub entries: Vec<Entry>,
}

/// A query in a batch, or a part of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The query.
    pub query: QueryId,
    /// Which part of it; `None` is all of it.
    pub part: Option<Part>,
}

/// Some samples of a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// The first of them.
    pub offset: u32,
    /// How many.
    pub samples: u32,
}

impl Entry {
    pub(super) fn of(queued: &Queued) -> Self {
        let Queued { offset, samples, .. } = *queued;
        Self { query: queued.id, part: queued.split.map(|_| Part { offset, samples }) }
    }
}

/// Why a log ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The server stopped.
    Stopped,
    /// The writer fell behind.
    Behind,
    /// The file reached its limit.
    Limit,
    /// The file was cut off: a crash, a full disk, a copy of a log in the making.
    CutOff,
}

impl Event {
    /// When it happened.
    pub fn now(&self) -> Time {
        match *self {
            Self::Submitted { now, .. }
            | Self::Asked { now, .. }
            | Self::Completed { now, .. }
            | Self::Failed { now, .. }
            | Self::Cancelled { now, .. }
            | Self::HealthSet { now, .. }
            | Self::Expired { now, .. } => now,
        }
    }
}

/// A decision as the log can hold it: spans in whole nanoseconds, at most 584 years.
pub(super) fn storable(decision: Decision) -> Decision {
    match decision {
        Decision::Refuse(Refusal { reason, retry_after }) => {
            let retry_after = Duration::from_nanos(nanos(retry_after));
            Decision::Refuse(Refusal { reason, retry_after })
        }
        admit @ Decision::Admit(_) => admit,
    }
}

pub(super) fn ids(queries: &[Queued]) -> Vec<QueryId> {
    queries.iter().map(|query| query.id).collect()
}

pub(super) fn entries(queries: &[Queued]) -> Vec<Entry> {
    queries.iter().map(Entry::of).collect()
}

/// Whether a batch has parts of queries, so that it may not end what it runs.
pub(super) fn has_parts(batch: &Batch) -> bool {
    batch.queries.iter().any(|entry| entry.split.is_some())
}

/// How many samples of a batch ran, if not all.
pub(super) fn short(batch: &Batch) -> Option<u32> {
    let handed_out: u64 = batch.queries.iter().map(|entry| u64::from(entry.samples)).sum();
    (u64::from(batch.samples) != handed_out).then_some(batch.samples)
}

/// What ended with a batch, if that is not all of its queries.
pub(super) fn ended(batch: &Batch) -> Option<Vec<QueryId>> {
    has_parts(batch).then(|| ids(&batch.ended))
}
