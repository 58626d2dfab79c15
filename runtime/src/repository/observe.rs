//! What the repository adds to the metrics: its models, and paths summed over engines that come and go.

use std::{
    collections::BTreeMap,
    time::{Duration, UNIX_EPOCH},
};

use mprec_backends::CacheStatistics;

use super::state::State;
use crate::{
    engine::{EngineStats, PathStats},
    metrics::{Metrics, ModelObservation, PathObservation, VersionsObservation},
};

/// What versions did that are gone, by the name of the path. Counters must not fall when an engine ends.
#[derive(Debug, Default)]
pub(super) struct Past {
    paths: BTreeMap<String, PathObservation>,
    kept: u64,
    broken: u64,
}

impl Past {
    /// Adds what an engine did that has ended.
    pub(super) fn add(&mut self, stats: &EngineStats) {
        for path in &stats.paths {
            count(self.paths.entry(path.name.clone()).or_insert_with(nothing), path);
        }
        self.kept += stats.promises.kept;
        self.broken += stats.promises.broken;
    }
}

fn nothing() -> PathObservation {
    PathObservation {
        is_up: false,
        accuracy: 0.0,
        workers: 0,
        queued: 0,
        batches: 0,
        batch_samples: 0,
        batch_time: Duration::ZERO,
        correction: 1.0,
        coverage: 1.0,
        expired: 0,
        failed: 0,
        rerouted: 0,
        ejections: 0,
        probes: 0,
        probes_failed: 0,
        cache: CacheStatistics::default(),
    }
}

/// Adds what only grows.
fn count(sum: &mut PathObservation, path: &PathStats) {
    sum.batches += path.counts.batches;
    sum.batch_samples += path.counts.batch_samples;
    sum.batch_time += path.counts.batch_time;
    sum.expired += path.counts.expired;
    sum.failed += path.counts.failed;
    sum.rerouted += path.counts.rerouted;
    sum.ejections += path.counts.ejections;
    sum.probes += path.counts.probes;
    sum.probes_failed += path.counts.probes_failed;
    sum.cache.hits += path.cache.hits;
    sum.cache.misses += path.cache.misses;
}

/// Takes down everything that the metrics do not know by themselves.
///
/// Models with paths of one name share that path's lines: counts, workers and queues are summed, and accuracy, correction
/// and coverage are those of the last model by name.
pub(super) fn observe(state: &State, metrics: &Metrics) {
    let mut paths = state.past.paths.clone();
    let (mut kept, mut broken) = (state.past.kept, state.past.broken);
    let mut models = Vec::with_capacity(state.entries.len());
    for (name, entry) in &state.entries {
        let gone = entry.retiring.iter().chain(&entry.kept);
        for (version, is_current) in
            gone.map(|it| (it, false)).chain(entry.current.iter().map(|it| (it, true)))
        {
            let stats = version.engine.stats();
            if is_current {
                metrics.observe_record(stats.record);
            }
            (kept, broken) = (kept + stats.promises.kept, broken + stats.promises.broken);
            let model = &version.model;
            metrics.model(&model.name, &model.version).observe(&ModelObservation {
                queued: stats.queued,
                batches: stats.paths.iter().map(|path| path.counts.batches).sum(),
                batch_samples: stats.paths.iter().map(|path| path.counts.batch_samples).sum(),
            });
            for path in &stats.paths {
                let sum = paths.entry(path.name.clone()).or_insert_with(nothing);
                count(sum, path);
                sum.queued += path.queued;
                sum.cache.bytes += path.cache.bytes;
                if is_current {
                    sum.is_up |= path.is_up;
                    sum.workers += path.workers;
                    sum.accuracy = path.accuracy;
                    sum.correction = path.correction;
                    sum.coverage = path.coverage;
                }
            }
        }
        let current = entry.current.as_ref();
        let since = |version: &std::sync::Arc<super::version::Version>| {
            version.loaded.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
        };
        models.push(VersionsObservation {
            name: name.clone(),
            version: current.map(|version| version.model.version.clone()),
            loaded_unix_seconds: current.map_or(0.0, since),
            resident_versions: current.iter().count() + entry.kept.len() + entry.retiring.len(),
            loads: entry.loads,
            failures: entry.failures,
            rollbacks: entry.rollbacks,
        });
    }
    for (name, observation) in &paths {
        metrics.observe_path(name, observation);
    }
    metrics.observe_promises(kept, broken);
    metrics.observe_versions(models);
}
