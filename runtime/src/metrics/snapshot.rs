//! All figures of one moment, as data: what the status page shows.

use std::{collections::BTreeMap, sync::atomic::Ordering::Relaxed, time::Duration};

use serde::Serialize;

use super::{
    path::PathMetrics,
    server::{Metrics, OTHER_PATH},
};
use crate::service::Service;

/// The figures of one moment. Counters count from the start of the server.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Snapshot {
    /// Version of the server.
    pub version: String,
    /// Since it started.
    pub uptime_s: f64,
    /// Deadlines that the histograms have an edge at.
    pub slas_ms: Vec<f64>,
    /// Versions of models that were served lately.
    pub models: Vec<ModelSnapshot>,
    /// Upper edges of every latency histogram; above the last one is counted, too.
    pub edges_ms: Vec<f64>,
    /// The paths. One that was not announced at the start is `other`, once it has answered.
    pub paths: Vec<PathSnapshot>,
    /// Requests to score that wait for a response.
    pub in_flight: i64,
    /// Open connections.
    pub connections: i64,
    /// Queries refused, by reason.
    pub refused: BTreeMap<&'static str, u64>,
    /// Queries whose client left before the outcome.
    pub cancelled: u64,
    /// Requests that ended with an error, by its code; only codes that occurred.
    pub errors: BTreeMap<&'static str, u64>,
    /// Whether decisions are recorded; `None` without a log.
    pub recording: Option<bool>,
    /// The latest refusals first; few of very many.
    pub recent: Vec<RecentRefusal>,
    /// The machine and the process.
    pub machine: MachineSnapshot,
}

/// One version of one model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ModelSnapshot {
    /// The model.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Queries answered.
    pub answered: u64,
    /// Queries that got no answer.
    pub failed: u64,
}

/// One path.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PathSnapshot {
    /// Its name.
    pub name: String,
    /// Whether it can be given work; `None` where the service does not say.
    pub up: Option<bool>,
    /// Expected accuracy.
    pub accuracy: f64,
    /// Workers of its device.
    pub workers: i64,
    /// Queries that wait for it.
    pub queued: i64,
    /// Queries answered in time.
    pub in_time: u64,
    /// Queries answered late.
    pub late: u64,
    /// Queries for which a better path was passed over.
    pub downgraded: u64,
    /// Samples scored.
    pub samples: u64,
    /// Expected correct predictions in time.
    pub correct_in_time: f64,
    /// Worker time of its batches.
    pub batch_s: f64,
    /// Recent time of a batch over that of the profile.
    pub correction: f64,
    /// Share of recent batches that took no longer than predicted with margin.
    pub coverage: f64,
    /// Times that it went down.
    pub ejections: u64,
    /// Distinct ids whose vectors a cache held, and those that it did not.
    pub cache: [u64; 2],
    /// Queries answered within each of [`Snapshot::edges_ms`], and all of them.
    pub latency: Vec<u64>,
}

/// A refusal, as its client was told.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RecentRefusal {
    /// Since then.
    pub age_s: f64,
    /// Its reason, as in [`Snapshot::refused`].
    pub reason: &'static str,
    /// What the client was told.
    pub message: String,
}

/// The machine and the process; `None` where the system does not say.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct MachineSnapshot {
    /// Share of all cores' time that was not idle lately.
    pub cpu_utilization: Option<f64>,
    /// Memory of the machine, in bytes.
    pub memory_total: Option<u64>,
    /// Of that, in use.
    pub memory_used: Option<u64>,
    /// Resident memory of the process, in bytes.
    pub process_memory: Option<u64>,
}

impl Metrics {
    /// The figures of this moment, after `service` was asked for what it alone knows.
    pub fn snapshot<S: Service + ?Sized>(&self, service: &S) -> Snapshot {
        service.observe(self);
        let machine = self.machine.read();
        let shown = |path: &&PathMetrics| {
            path.name != OTHER_PATH || path.in_time.get() + path.late.get() > 0
        };
        // All paths have the same.
        let edges = self.path(OTHER_PATH).latency.cumulative().map(|(edge, _)| 1e3 * edge);
        let model = |model: &std::sync::Arc<super::ModelMetrics>| ModelSnapshot {
            name: model.name.clone(),
            version: model.version.clone(),
            answered: model.success.get(),
            failed: model.failure.total(),
        };
        Snapshot {
            version: self.version.clone(),
            uptime_s: self.began.elapsed().unwrap_or_default().as_secs_f64(),
            slas_ms: self.slas.iter().map(|sla| 1e3 * sla).collect(),
            models: self.models.each().iter().map(model).collect(),
            edges_ms: edges.filter(|edge| edge.is_finite()).collect(),
            paths: self.paths.iter().filter(shown).map(PathMetrics::snapshot).collect(),
            in_flight: self.requests_in_flight.get(),
            connections: self.connections.get(),
            refused: self.refused.each().map(|(name, counter)| (name, counter.get())).collect(),
            cancelled: self.cancelled.get(),
            errors: self
                .requests
                .each()
                .filter(|(name, counter)| *name != "ok" && counter.get() > 0)
                .map(|(name, counter)| (name, counter.get()))
                .collect(),
            recording: (self.record.is_observed.load(Relaxed))
                .then(|| self.record.active.get() > 0),
            recent: self
                .recent
                .latest()
                .into_iter()
                .map(|(age, kept): (Duration, _)| RecentRefusal {
                    age_s: age.as_secs_f64(),
                    reason: kept.reason,
                    message: kept.message,
                })
                .collect(),
            machine: MachineSnapshot {
                cpu_utilization: machine.cpu_utilization,
                memory_total: machine.memory_total,
                memory_used: machine.memory_used,
                process_memory: machine.process_memory,
            },
        }
    }
}

impl PathMetrics {
    fn snapshot(&self) -> PathSnapshot {
        PathSnapshot {
            name: self.name.clone(),
            up: self.is_observed.load(Relaxed).then(|| self.up.get() > 0),
            accuracy: self.accuracy.get(),
            workers: self.workers.get(),
            queued: self.queued.get(),
            in_time: self.in_time.get(),
            late: self.late.get(),
            downgraded: self.downgraded.get(),
            samples: self.samples.get(),
            correct_in_time: self.correct_in_time.get(),
            batch_s: self.batch_nanos.get() as f64 / 1e9,
            correction: self.correction.get(),
            coverage: self.coverage.get(),
            ejections: self.ejections.get(),
            cache: [self.cache_hits.get(), self.cache_misses.get()],
            latency: self.latency.cumulative().map(|(_, count)| count).collect(),
        }
    }
}
