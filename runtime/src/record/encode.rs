//! Events to records.

use std::time::Duration;

use mprec_router::{
    Batch, Decision, DeviceId, Health, LaneId, Next, PathId, Priority, Query, QueryId, Queued, Time,
};

use super::{
    event::{Ending, nanos},
    varint::{put, put_near},
};

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
}

/// The bits of a decided query.
pub(super) mod flag {
    pub(in super::super) const FLOOR: u8 = 1;
    pub(in super::super) const LOW: u8 = 2;
    pub(in super::super) const HIGH: u8 = 4;
    pub(in super::super) const REFUSED: u8 = 8;
    pub(in super::super) const DOWNGRADED: u8 = 16;
    pub(in super::super) const ALL: u8 = 31;
}

/// What a worker was told.
pub(super) mod next {
    pub(in super::super) const RUN: u8 = 0;
    pub(in super::super) const WAIT: u8 = 1;
    pub(in super::super) const IDLE: u8 = 2;
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
        match decision {
            Decision::Admit(admission) if admission.downgraded => flags |= flag::DOWNGRADED,
            Decision::Admit(_) => {}
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
        match decision {
            Decision::Admit(admission) => {
                let (expected, upper) = (admission.predicted_finish, admission.upper_finish);
                self.number(admission.path.0.into());
                self.bytes.push(admission.reason.code());
                self.number(expected.as_nanos().wrapping_sub(now.as_nanos()));
                self.number(upper.as_nanos().wrapping_sub(expected.as_nanos()));
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
                self.bytes.push(next::RUN);
                self.number(batch.path.0.into());
                self.number(batch.lane.0.into());
                self.number(batch.samples.into());
                self.queries(&batch.queries);
            }
            Next::Wait(until) => {
                self.bytes.push(next::WAIT);
                self.number(until.as_nanos().wrapping_sub(now.as_nanos()));
            }
            Next::Idle => self.bytes.push(next::IDLE),
        }
        self.queries(&batch.expired);
    }

    pub(super) fn completed(
        &mut self,
        now: Time,
        device: DeviceId,
        lane: LaneId,
        observed: Duration,
    ) {
        self.begin(kind::COMPLETED, now);
        self.number(device.0.into());
        self.number(lane.0.into());
        self.number(nanos(observed));
    }

    pub(super) fn failed(&mut self, now: Time, device: DeviceId, lane: LaneId, answered: bool) {
        self.begin(kind::FAILED, now);
        self.number(device.0.into());
        self.number(lane.0.into());
        self.bytes.push(answered.into());
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
}
