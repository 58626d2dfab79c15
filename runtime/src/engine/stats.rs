//! What the engine counts.

use std::time::{Duration, Instant};

use mprec_backends::CacheStatistics;
use mprec_router::{DeviceId, Health, PathId, Promises};

use super::{ledger::Ledger, shared::Shared, ticket::PathLabel};
use crate::{
    record::RecordStats,
    service::{Load, ModelWork, Refusal, Spent},
};

/// Counters since the start and gauges of one moment, for metrics and reports.
#[derive(Debug, Clone, PartialEq)]
pub struct EngineStats {
    /// Queries that wait.
    pub queued: usize,
    /// Samples that wait.
    pub queued_samples: usize,
    /// Queries refused on arrival because no path could answer in time or a queue was full.
    pub refused_overload: u64,
    /// Queries refused on arrival because no path that is up has the quality they demand.
    pub refused_quality: u64,
    /// Queries refused on arrival because no path takes the weights of their ids.
    pub refused_weighted: u64,
    /// Queries refused on arrival because the engine was stopping or no path was up.
    pub refused_unavailable: u64,
    /// Queries that arrived after their deadline.
    pub refused_late: u64,
    /// How well predicted finish times were kept.
    pub promises: Promises,
    /// Every path, in the order of the profiles.
    pub paths: Vec<PathStats>,
    /// How the recording of decisions stands; `None` if nothing is recorded.
    pub record: Option<RecordStats>,
}

/// One path's part of [`EngineStats`].
#[derive(Debug, Clone, PartialEq)]
pub struct PathStats {
    /// Its name: `table@cpu`.
    pub name: String,
    /// Whether it takes queries.
    pub is_up: bool,
    /// Its expected accuracy.
    pub accuracy: f64,
    /// Workers of its device.
    pub workers: u32,
    /// Queries that wait for it.
    pub queued: usize,
    /// Recent service time over the profile's, for a batch of the path's largest size.
    pub correction: f64,
    /// Share of its batches that took no longer than predicted with margin.
    pub coverage: f64,
    /// What it did so far.
    pub counts: PathCounts,
    /// What its workers' caches did, together, by their latest batches.
    pub cache: CacheStatistics,
}

/// What became of the queries of one path. Every query taken is in exactly one of `answered`,
/// `expired`, `abandoned` and `failed`, or waits or runs, or was refused when the engine stopped. A query that
/// runs in parts counts once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PathCounts {
    /// Queries answered with scores (or, where the model overflows, with the error that says so).
    pub answered: u64,
    /// Of those, answered after their deadline.
    pub late: u64,
    /// Of those answered, ones that a better path was passed over for.
    pub downgraded: u64,
    /// Samples of the queries answered.
    pub samples: u64,
    /// Samples of the queries answered in time.
    pub samples_in_time: u64,
    /// Queries whose deadline passed in the queue.
    pub expired: u64,
    /// Queries whose client went away before they ran.
    pub abandoned: u64,
    /// Queries answered as failed.
    pub failed: u64,
    /// From arrival to the end of those expired, abandoned and failed.
    pub lost_time: Duration,
    /// Times that a query was decided anew because this path went down; it counts where it ended.
    pub rerouted: u64,
    /// Times that it went down.
    pub ejections: u64,
    /// Times that it was probed while it was down.
    pub probes: u64,
    /// Of those, ones that found it still down.
    pub probes_failed: u64,
    /// Batches run.
    pub batches: u64,
    /// Samples of the batches run.
    pub batch_samples: u64,
    /// Worker time of the batches run.
    pub batch_time: Duration,
}

#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) paths: Vec<PathCounts>,
    pub(super) refused_overload: u64,
    pub(super) refused_quality: u64,
    pub(super) refused_weighted: u64,
    pub(super) refused_unavailable: u64,
    pub(super) refused_late: u64,
    /// From arrival to refusal, of all refused.
    pub(super) refused_time: Duration,
}

impl Counts {
    pub(super) fn refuse(&mut self, refusal: &Refusal, arrival: Instant) {
        self.refused_time += arrival.elapsed();
        match refusal {
            Refusal::Overloaded { .. } => self.refused_overload += 1,
            Refusal::Quality { .. } => self.refused_quality += 1,
            Refusal::Weighted => self.refused_weighted += 1,
            Refusal::DeadlinePassed { .. } => self.refused_late += 1,
            _ => self.refused_unavailable += 1,
        }
    }
}

/// What was done so far, path by path.
pub(super) fn work(shared: &Shared) -> ModelWork {
    let state = shared.state();
    let counts = &state.counts;
    let refused = counts.refused_overload
        + counts.refused_quality
        + counts.refused_weighted
        + counts.refused_unavailable
        + counts.refused_late;
    let paths = shared.labels.iter().zip(&shared.ledgers).zip(&counts.paths);
    let path = |((label, ledger), counts): ((&PathLabel, &Ledger), &PathCounts)| {
        let mut work = ledger.work(&label.name);
        let lost = counts.expired + counts.abandoned + counts.failed;
        work.failed = work.failed.plus(Spent { count: lost, time: counts.lost_time });
        work
    };
    let mut paths: Vec<_> = paths.map(path).collect();
    paths.sort_by(|a, b| a.path.cmp(&b.path));
    ModelWork { refused: Spent { count: refused, time: counts.refused_time }, paths }
}

/// How busy the workers are now.
pub(super) fn load(shared: &Shared) -> Load {
    let mut state = shared.state();
    let now = shared.clock.now();
    state.forget_gone(&shared.gone, now);
    let (queued_queries, queued_samples) = state.waiting();
    let router = state.router.state();
    let (mut workers, mut idle, mut queued) = (0, 0, Duration::ZERO);
    for at in 0..router.profiles().devices().len() {
        // Devices are numbered in 16 bits.
        let device = DeviceId(at as u16);
        workers += router.lanes(device).count();
        idle += router.lanes(device).idle();
        queued += router.queued_work(device);
    }
    let up = |path: &PathId| router.path(*path).health == Health::Up;
    let (busy_workers, all) = ((workers - idle) as u32, workers as f64);
    let waits = queued.as_secs_f64() / shared.model.sla.as_secs_f64();
    Load {
        utilization: (f64::from(busy_workers) + waits) / all,
        queued_queries,
        queued_samples,
        busy_workers,
        workers: workers as u32,
        paths_up: router.profiles().ids().filter(up).count() as u32,
    }
}

fn together(caches: impl Iterator<Item = CacheStatistics>) -> CacheStatistics {
    caches.fold(CacheStatistics::default(), |sum, cache| CacheStatistics {
        hits: sum.hits + cache.hits,
        misses: sum.misses + cache.misses,
        bytes: sum.bytes + cache.bytes,
        slots: sum.slots + cache.slots,
    })
}

impl EngineStats {
    pub(super) fn of(shared: &Shared) -> Self {
        let mut state = shared.state();
        state.forget_gone(&shared.gone, shared.clock.now());
        let (queued, queued_samples) = state.waiting();
        let router = state.router.state();
        let path = |id: PathId| {
            let path = router.path(id);
            PathStats {
                name: router.profiles().path(id).name.clone(),
                is_up: path.health == Health::Up,
                accuracy: router.profiles().path(id).accuracy,
                workers: router.profiles().path(id).lanes,
                queued: path.queue.len(),
                correction: path.correction.factor(router.max_batch(id)),
                coverage: path.correction.coverage(),
                counts: state.counts.paths[usize::from(id.0)],
                cache: together(state.caches.iter().map(|worker| worker[usize::from(id.0)])),
            }
        };
        Self {
            queued,
            queued_samples,
            refused_overload: state.counts.refused_overload,
            refused_quality: state.counts.refused_quality,
            refused_weighted: state.counts.refused_weighted,
            refused_unavailable: state.counts.refused_unavailable,
            refused_late: state.counts.refused_late,
            promises: router.promises(),
            paths: router.profiles().ids().map(path).collect(),
            record: None,
        }
    }
}
