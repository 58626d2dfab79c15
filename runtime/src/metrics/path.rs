//! What is counted by path.

use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Duration,
};

use mprec_backends::CacheStatistics;

use super::instrument::{Counter, Gauge, Histogram, Level, Sum};
use crate::{service::Answer, time::nanos};

/// The metrics of one path.
#[derive(Debug)]
pub struct PathMetrics {
    pub(super) name: String,
    pub(super) latency: Histogram,
    pub(super) queue: Histogram,
    pub(super) compute: Histogram,
    pub(super) in_time: Counter,
    pub(super) late: Counter,
    pub(super) downgraded: Counter,
    pub(super) samples: Counter,
    pub(super) samples_in_time: Counter,
    pub(super) correct_in_time: Sum,
    /// Whether `Metrics::observe_path` was ever called for it: what nobody looked at is not shown.
    pub(super) is_observed: AtomicBool,
    pub(super) up: Gauge,
    pub(super) accuracy: Level,
    pub(super) workers: Gauge,
    pub(super) queued: Gauge,
    pub(super) batches: Counter,
    pub(super) batch_samples: Counter,
    pub(super) batch_nanos: Counter,
    pub(super) correction: Level,
    pub(super) coverage: Level,
    pub(super) expired: Counter,
    pub(super) failed: Counter,
    pub(super) rerouted: Counter,
    pub(super) ejections: Counter,
    pub(super) probes: Counter,
    pub(super) probes_failed: Counter,
    pub(super) cache_hits: Counter,
    pub(super) cache_misses: Counter,
    pub(super) cache_bytes: Gauge,
}

/// What the engine says of a path at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct PathObservation {
    /// Whether it can be given work.
    pub is_up: bool,
    /// Its expected accuracy.
    pub accuracy: f64,
    /// Workers of its device.
    pub workers: u32,
    /// Queries that wait for it.
    pub queued: usize,
    /// Batches run since the start.
    pub batches: u64,
    /// Samples in those batches.
    pub batch_samples: u64,
    /// Worker time of those batches.
    pub batch_time: Duration,
    /// Recent time of a batch over that of the profile; above 1 the path is slower than profiled.
    pub correction: f64,
    /// Share of recent batches that took no longer than predicted with margin.
    pub coverage: f64,
    /// Queries whose deadline passed while they waited for it.
    pub expired: u64,
    /// Queries that it was given and failed.
    pub failed: u64,
    /// Times that a query was decided anew because the path went down.
    pub rerouted: u64,
    /// Times that it went down.
    pub ejections: u64,
    /// Times that it was probed while it was down.
    pub probes: u64,
    /// Of those, ones that found it still down.
    pub probes_failed: u64,
    /// What its workers' caches did since the start, and hold; zeros without caches.
    pub cache: CacheStatistics,
}

impl PathMetrics {
    pub(super) fn new(name: &str, edges: &[f64]) -> Self {
        Self {
            name: name.to_owned(),
            latency: Histogram::new(edges),
            queue: Histogram::new(edges),
            compute: Histogram::new(edges),
            in_time: Counter::default(),
            late: Counter::default(),
            downgraded: Counter::default(),
            samples: Counter::default(),
            samples_in_time: Counter::default(),
            correct_in_time: Sum::default(),
            is_observed: AtomicBool::new(false),
            up: Gauge::default(),
            accuracy: Level::default(),
            workers: Gauge::default(),
            queued: Gauge::default(),
            batches: Counter::default(),
            batch_samples: Counter::default(),
            batch_nanos: Counter::default(),
            correction: Level::default(),
            coverage: Level::default(),
            expired: Counter::default(),
            failed: Counter::default(),
            rerouted: Counter::default(),
            ejections: Counter::default(),
            probes: Counter::default(),
            probes_failed: Counter::default(),
            cache_hits: Counter::default(),
            cache_misses: Counter::default(),
            cache_bytes: Gauge::default(),
        }
    }

    /// A query of `samples` samples was answered, `latency` after its arrival.
    pub(super) fn record_answer(
        &self,
        answer: &Answer,
        samples: usize,
        latency: Duration,
        in_time: bool,
    ) {
        self.latency.observe_duration(latency);
        self.queue.observe_duration(answer.queue);
        self.compute.observe_duration(answer.compute);
        self.samples.add(samples as u64);
        if in_time {
            self.in_time.add_one();
            self.samples_in_time.add(samples as u64);
            self.correct_in_time.add(samples as f64 * answer.quality);
        } else {
            self.late.add_one();
        }
        if answer.downgraded {
            self.downgraded.add_one();
        }
    }

    /// Takes down what the engine says of it now.
    pub(super) fn observe(&self, observation: &PathObservation) {
        self.is_observed.store(true, Relaxed);
        self.up.set(i64::from(observation.is_up));
        self.queued.set(i64::try_from(observation.queued).unwrap_or(i64::MAX));
        self.batches.reach(observation.batches);
        self.batch_samples.reach(observation.batch_samples);
        self.batch_nanos.reach(nanos(observation.batch_time));
        self.accuracy.set(observation.accuracy);
        self.workers.set(observation.workers.into());
        self.correction.set(observation.correction);
        self.coverage.set(observation.coverage);
        self.expired.reach(observation.expired);
        self.failed.reach(observation.failed);
        self.rerouted.reach(observation.rerouted);
        self.ejections.reach(observation.ejections);
        self.probes.reach(observation.probes);
        self.probes_failed.reach(observation.probes_failed);
        self.cache_hits.reach(observation.cache.hits);
        self.cache_misses.reach(observation.cache.misses);
        self.cache_bytes.set(i64::try_from(observation.cache.bytes).unwrap_or(i64::MAX));
    }
}
