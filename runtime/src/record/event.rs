//! What a log holds.

use std::time::Duration;

use mprec_router::{
    Decision, DeviceId, Health, LaneId, Next, PathId, Query, QueryId, Queued, Refusal, Time,
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
    },
    /// A batch freed its lane and taught nothing.
    Failed {
        /// When.
        now: Time,
        /// Where it ran.
        device: DeviceId,
        /// Where it ran.
        lane: LaneId,
        /// Whether it ran all the same, without queries whose clients had left.
        answered: bool,
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
    /// Its queries, most urgent first.
    pub queries: Vec<QueryId>,
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

pub(super) fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

pub(super) fn ids(queries: &[Queued]) -> Vec<QueryId> {
    queries.iter().map(|query| query.id).collect()
}
