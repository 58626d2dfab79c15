//! Events to records.

use std::time::Duration;

use mprec_router::{
    Batch, Decision, DeviceId, Health, Next, PathId, PathSet, Priority, Query, QueryId, Queued,
    Time,
};

use super::{
    event::{Ending, Entry, has_parts, short},
    varint::{put, put_near},
};
use crate::time::nanos;

/// The kinds of record. Append, never change.
pub(super) mod kind {
    pub(in super::super) const SUBMITTED: u8 = 1;
    pub(in super::super) const ASKED: u8 = 2;
    pub(in super::super) const COMPLETED: u8 = 3;
    pub(in super::super) const FAILED: u8 = 4;
    pub(in super::super) const CANCELLED: u8 = 5;
    pub(in super::super) const HEALTH: u8 = 6;
    pub(in super::super) const EXPIRED: u8 = 7;
    pub(in super::super) const ENDED: u8 = 8;
    /// As `COMPLETED`, of a batch that ran short or had parts.
    pub(in super::super) const COMPLETED_APART: u8 = 9;
    /// As `FAILED`, of a batch that had parts.
    pub(in super::super) const FAILED_APART: u8 = 10;
}

/// The bits of a batch that is done.
pub(super) mod done {
    pub(in super::super) const SHORT: u8 = 1;
    pub(in super::super) const PARTS: u8 = 2;
    pub(in super::super) const ALL: u8 = 3;
}

/// The bits of a decided query.
pub(super) mod flag {
    pub(in super::super) const FLOOR: u8 = 1;
    pub(in super::super) const LOW: u8 = 2;
    pub(in super::super) const HIGH: u8 = 4;
    pub(in super::super) const REFUSED: u8 = 8;
    pub(in super::super) const DOWNGRADED: u8 = 16;
    /// Only some paths can run it.
    pub(in super::super) const PATHS: u8 = 32;
    /// It was admitted in parts.
    pub(in super::super) const PARTS: u8 = 64;
    pub(in super::super) const ALL: u8 = 127;
}

/// What a worker was told.
pub(super) mod next {
    pub(in super::super) const RUN: u8 = 0;
    pub(in super::super) const WAIT: u8 = 1;
    pub(in super::super) const IDLE: u8 = 2;
    /// To run a batch that has parts.
    pub(in super::super) const RUN_APART: u8 = 3;
}

/// Writes one record at a time, each relative to the one before.
#[derive(Debug, Default)]
pub(super) struct Encoder {
    bytes: Vec<u8>,
    last: u64,
    id: u64,
}

impl Encoder {
    /// With room for `bytes` before it has to allocate.
    pub(super) fn with_capacity(bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes), ..Self::default() }
    }

    /// The record written last.
    pub(super) fn record(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn submitted(&mut self, now: Time, query: &Query, decision: &Decision) {
        self.begin(kind::SUBMITTED, now);
        let floor = query.min_quality();
        let mut flags = match query.priority() {
            Priority::Low => flag::LOW,
            Priority::Normal => 0,
            Priority::High => flag::HIGH,
        };
        if floor != 0.0 {
            flags |= flag::FLOOR;
        }
        if query.paths() != PathSet::ALL {
            flags |= flag::PATHS;
        }
        match decision {
            Decision::Admit(admission) => {
                flags |= if admission.downgraded { flag::DOWNGRADED } else { 0 };
                flags |= if admission.parts > 1 { flag::PARTS } else { 0 };
            }
            Decision::Refuse(_) => flags |= flag::REFUSED,
        }
        self.bytes.push(flags);
        let id = query.id().0;
        put_near(&mut self.bytes, id, self.id);
        self.id = id;
        self.number(query.samples().into());
        self.number(now.as_nanos().wrapping_sub(query.arrival().as_nanos()));
        self.number(nanos(query.sla()));
        if floor != 0.0 {
            self.bytes.extend(floor.to_bits().to_le_bytes());
        }
        if query.paths() != PathSet::ALL {
            self.number(query.paths().bits());
        }
        match decision {
            Decision::Admit(admission) => {
                let (expected, upper) = (admission.predicted_finish, admission.upper_finish);
                self.number(admission.path.0.into());
                self.bytes.push(admission.reason.code());
                self.number(expected.as_nanos().wrapping_sub(now.as_nanos()));
                self.number(upper.as_nanos().wrapping_sub(expected.as_nanos()));
                if admission.parts > 1 {
                    self.number(admission.parts.into());
                }
            }
            Decision::Refuse(refusal) => {
                self.bytes.push(refusal.reason.code());
                self.number(nanos(refusal.retry_after));
            }
        }
    }

    pub(super) fn asked(&mut self, now: Time, device: DeviceId, next: Next, batch: &Batch) {
        self.begin(kind::ASKED, now);
        self.number(device.0.into());
        match next {
            Next::Run => {
                let has_parts = has_parts(batch);
                self.bytes.push(if has_parts { next::RUN_APART } else { next::RUN });
                self.number(batch.path.0.into());
                self.number(batch.lane.0.into());
                self.number(batch.samples.into());
                if has_parts {
                    self.entries(&batch.queries);
                } else {
                    self.queries(&batch.queries);
                }
            }
            Next::Wait(until) => {
                self.bytes.push(next::WAIT);
                self.number(until.as_nanos().wrapping_sub(now.as_nanos()));
            }
            Next::Idle => self.bytes.push(next::IDLE),
        }
        self.queries(&batch.expired);
    }

    pub(super) fn completed(&mut self, now: Time, batch: &Batch, observed: Duration) {
        let (short, has_parts) = (short(batch), has_parts(batch));
        let is_plain = short.is_none() && !has_parts;
        self.begin(if is_plain { kind::COMPLETED } else { kind::COMPLETED_APART }, now);
        self.number(batch.device.0.into());
        self.number(batch.lane.0.into());
        self.number(nanos(observed));
        if is_plain {
            return;
        }
        let parts = if has_parts { done::PARTS } else { 0 };
        self.bytes.push(parts | if short.is_some() { done::SHORT } else { 0 });
        if let Some(samples) = short {
            self.number(samples.into());
        }
        if has_parts {
            self.queries(&batch.ended);
        }
    }

    pub(super) fn failed(&mut self, now: Time, batch: &Batch) {
        let has_parts = has_parts(batch);
        self.begin(if has_parts { kind::FAILED_APART } else { kind::FAILED }, now);
        self.number(batch.device.0.into());
        self.number(batch.lane.0.into());
        if has_parts {
            self.queries(&batch.ended);
        }
    }

    pub(super) fn cancelled(&mut self, now: Time, path: PathId, query: QueryId, removed: bool) {
        self.begin(kind::CANCELLED, now);
        self.number(path.0.into());
        put_near(&mut self.bytes, query.0, self.id);
        self.bytes.push(removed.into());
    }

    pub(super) fn health_set(
        &mut self,
        now: Time,
        path: PathId,
        health: Health,
        orphans: &[Queued],
    ) {
        self.begin(kind::HEALTH, now);
        self.number(path.0.into());
        self.bytes.push((health == Health::Up).into());
        self.queries(orphans);
    }

    pub(super) fn expired(&mut self, now: Time, device: DeviceId, queries: &[Queued]) {
        self.begin(kind::EXPIRED, now);
        self.number(device.0.into());
        self.queries(queries);
    }

    /// The last record of a log.
    pub(super) fn ended(&mut self, ending: Ending, events: u64) {
        self.bytes.clear();
        self.bytes.push(kind::ENDED);
        self.bytes.push(match ending {
            Ending::Stopped => 0,
            Ending::Behind => 1,
            Ending::Limit => 2,
            // Nobody is there to write it.
            Ending::CutOff => 3,
        });
        self.number(events);
    }

    fn begin(&mut self, kind: u8, now: Time) {
        self.bytes.clear();
        self.bytes.push(kind);
        let now = now.as_nanos();
        // The engine's clock never goes back; wrapping keeps whatever comes.
        put(&mut self.bytes, now.wrapping_sub(self.last));
        self.last = now;
    }

    fn number(&mut self, value: u64) {
        put(&mut self.bytes, value);
    }

    fn queries(&mut self, queries: &[Queued]) {
        put(&mut self.bytes, queries.len() as u64);
        let mut before = self.id;
        for query in queries {
            put_near(&mut self.bytes, query.id.0, before);
            before = query.id.0;
        }
    }

    /// As `queries`, each with its samples and where they begin if it is a part, and a 0 if not.
    fn entries(&mut self, queries: &[Queued]) {
        put(&mut self.bytes, queries.len() as u64);
        let mut before = self.id;
        for query in queries {
            put_near(&mut self.bytes, query.id.0, before);
            before = query.id.0;
            match Entry::of(query).part {
                Some(part) => {
                    self.number(part.samples.into());
                    self.number(part.offset.into());
                }
                None => self.number(0),
            }
        }
    }
}
