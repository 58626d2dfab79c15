//! The end of the ring at which events go in.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use mprec_router::{Batch, Decision, DeviceId, Health, Next, PathId, Query, QueryId, Queued, Time};
use rtrb::Producer;

use super::{Ending, encode::Encoder, writer::BLOCK_HEAD};

/// Room for the longest usual record: a batch of some thousand queries.
const LONG_RECORD: usize = 16 << 10;

/// What recorder and writer tell each other, and metrics.
#[derive(Debug, Default)]
pub(super) struct Status {
    /// Events that went into the ring.
    pub(super) events: AtomicU64,
    /// Events that came after recording had stopped.
    pub(super) lost: AtomicU64,
    /// Bytes of the file.
    pub(super) bytes: AtomicU64,
    /// Whether the writer has ended, or will take no more.
    pub(super) is_over: AtomicBool,
    ending: AtomicU8,
}

impl Status {
    /// States why recording ends; the first reason holds.
    pub(super) fn end(&self, ending: Ending) {
        let code = match ending {
            Ending::Stopped => 1,
            Ending::Behind => 2,
            Ending::Limit => 3,
            Ending::CutOff => 4,
        };
        // Whoever loses the race has nothing to add.
        let _ = self.ending.compare_exchange(0, code, Relaxed, Relaxed);
        self.is_over.store(true, Relaxed);
    }

    pub(super) fn ending(&self) -> Option<Ending> {
        match self.ending.load(Relaxed) {
            0 => None,
            1 => Some(Ending::Stopped),
            2 => Some(Ending::Behind),
            3 => Some(Ending::Limit),
            _ => Some(Ending::CutOff),
        }
    }
}

/// Takes down what a router is told, in the order of the calls.
///
/// Each call costs an encoding and a copy: no lock, no system call, and no memory beyond what it has, unless one
/// record holds thousands of queries. Dropping it ends the log.
#[derive(Debug)]
pub struct Recorder {
    encoder: Encoder,
    /// `None` once recording has stopped.
    ring: Option<Producer<u8>>,
    status: Arc<Status>,
    /// Bytes that the file may still grow by.
    left: u64,
}

impl Recorder {
    pub(super) fn new(ring: Producer<u8>, status: Arc<Status>, left: u64) -> Self {
        Self { encoder: Encoder::with_capacity(LONG_RECORD), ring: Some(ring), status, left }
    }

    /// A query was decided.
    pub fn submitted(&mut self, now: Time, query: &Query, decision: &Decision) {
        self.record(|encoder| encoder.submitted(now, query, decision));
    }

    /// A worker asked for a batch, and `batch` was filled in as `next` says.
    pub fn asked(&mut self, now: Time, device: DeviceId, next: Next, batch: &Batch) {
        self.record(|encoder| encoder.asked(now, device, next, batch));
    }

    /// A batch is done, and `batch.ended` was filled in.
    pub fn completed(&mut self, now: Time, batch: &Batch, observed: Duration) {
        self.record(|encoder| encoder.completed(now, batch, observed));
    }

    /// A batch was not answered, and `batch.ended` was filled in.
    pub fn failed(&mut self, now: Time, batch: &Batch) {
        self.record(|encoder| encoder.failed(now, batch));
    }

    /// A client went away; `removed` if its query was still waiting.
    pub fn cancelled(&mut self, now: Time, path: PathId, query: QueryId, removed: bool) {
        self.record(|encoder| encoder.cancelled(now, path, query, removed));
    }

    /// A path went up or down, and handed back `orphans`.
    pub fn health_set(&mut self, now: Time, path: PathId, health: Health, orphans: &[Queued]) {
        self.record(|encoder| encoder.health_set(now, path, health, orphans));
    }

    /// Queries of a device were handed back because their deadline had passed.
    pub fn expired(&mut self, now: Time, device: DeviceId, queries: &[Queued]) {
        self.record(|encoder| encoder.expired(now, device, queries));
    }

    fn record(&mut self, encode: impl FnOnce(&mut Encoder)) {
        if let Some(ring) = &mut self.ring
            && !self.status.is_over.load(Relaxed)
        {
            encode(&mut self.encoder);
            let record = self.encoder.record();
            // A quiet server's record may get a block of its own.
            let cost = (record.len() + BLOCK_HEAD) as u64;
            // A log with a hole replays to nothing, so it ends at the first event that does not fit.
            if cost > self.left {
                self.status.end(Ending::Limit);
            } else if ring.push_entire_slice(record).is_err() {
                self.status.end(Ending::Behind);
            } else {
                self.left -= cost;
                self.status.events.fetch_add(1, Relaxed);
                return;
            }
        }
        self.ring = None;
        self.status.lost.fetch_add(1, Relaxed);
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.status.end(Ending::Stopped);
    }
}
