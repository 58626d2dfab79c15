//! The engine as its owner sees it: start, submit, stop.

use std::{
    sync::{Arc, Mutex},
    thread::JoinHandle,
    time::Duration,
};

use mprec_router::{PathId, PolicyName, Profiles, Router, RouterConfig};
use tokio::sync::oneshot;

use super::{
    Backoff, EngineError, EngineStats, housekeeper,
    ledger::Ledger,
    recorded::RecordedRouter,
    recovery,
    shared::{Shared, ThreadEnds, lock},
    stats,
    worker::{self, Worker},
};
use crate::{
    config::QueueLimits,
    paths::ResidentPath,
    record::{self, Header, LogWriter, RecordOptions},
    service::{Load, Memory, Model, ModelWork, Outcome, Refusal, ScoreRequest, Service},
};

/// What an engine is made of, beside its paths.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// How a path is chosen.
    pub policy: PolicyName,
    /// What may wait.
    pub queue: QueueLimits,
    /// How long a batch that is not full waits for more while a worker is idle.
    pub linger: Duration,
    /// Quality floor of a query that names none.
    pub min_quality: Option<f64>,
    /// Whether each CPU worker keeps to one core.
    pub pin_workers: bool,
    /// Nice value of the CPU's workers. Above 0, threads that read requests and write answers go before
    /// them, where the system has a nice value for a thread.
    pub worker_nice: u8,
    /// Where to record decisions to; `None` records nothing.
    pub record: Option<RecordOptions>,
    /// The most parts that a query is split into; `None` is as many as its device has lanes, 1 is
    /// never. See [`RouterConfig::max_parts`].
    pub max_parts: Option<u32>,
    /// When paths that went down are probed.
    pub recovery: Backoff,
}

/// Answers the queries of one model on its resident paths.
///
/// Dropping it stops it without draining; see [`Engine::shutdown`].
#[derive(Debug)]
pub struct Engine {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    log: Mutex<Option<LogWriter>>,
}

/// How a shutdown went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Queries that were refused as unavailable because the time was up.
    pub refused: usize,
    /// Threads that did not return from their device and were left behind.
    pub stuck: usize,
}

/// How long a thread may take to notice that it shall end, beyond the batch it is running.
const JOIN_LIMIT: Duration = Duration::from_secs(2);

/// Added to every prediction. Waking a worker and waking the client's task take 10 µs to 40 µs on a
/// busy machine, rendering and sending an answer about as much again.
const OVERHEAD_US: u64 = 100;

/// The router's settings in an engine with these limits; see [`EngineOptions`].
pub fn router_config(max_queued: usize, linger: Duration, max_parts: Option<u32>) -> RouterConfig {
    RouterConfig {
        max_queued,
        linger_us: u64::try_from(linger.as_micros()).unwrap_or(u64::MAX),
        overhead_us: OVERHEAD_US,
        max_parts,
        ..RouterConfig::default()
    }
}

/// One per path, in the order of the profiles.
fn ledgers(resident: &[ResidentPath], profiles: &Profiles) -> Vec<Ledger> {
    let bytes = |name: &str| {
        let path = resident.iter().find(|path| path.path.to_string() == name);
        path.map_or(0, |path| path.bytes)
    };
    let ledger = |id: PathId| {
        let device = &profiles.devices()[usize::from(profiles.device_of(id).0)].name;
        Ledger::new(Memory::of_device(device, bytes(&profiles.path(id).name)))
    };
    profiles.ids().map(ledger).collect()
}

fn unix_seconds() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    // A clock before 1970 is not set.
    since.map_or(0, |since| since.as_secs())
}

impl Engine {
    /// Starts the workers of every device in `profiles`, one thread per lane.
    ///
    /// `profiles` holds one profile per path of `resident`, by name and in any order.
    ///
    /// # Errors
    ///
    /// [`EngineError`] when profiles and paths do not match, the policy does not fit them, or a
    /// worker cannot get its memory or thread. Nothing is left running then.
    pub fn start(
        model: Arc<Model>,
        resident: Vec<ResidentPath>,
        profiles: Profiles,
        options: &EngineOptions,
    ) -> Result<Self, EngineError> {
        let ledgers = ledgers(&resident, &profiles);
        let (executables, revive) = worker::match_up(resident, &profiles)?;
        let config = router_config(options.queue.queries, options.linger, options.max_parts);
        let router = Router::new(profiles.clone(), &options.policy, config.clone())?;
        let takes = |id: &PathId| executables[usize::from(id.0)].takes_weights();
        let weighted = profiles.ids().filter(takes).collect();
        let workers = Worker::outfit(&profiles, executables, options)?;
        let caches = workers.iter().map(Worker::caches).collect();
        let (recorder, log) = match &options.record {
            Some(to) => {
                let header = Header {
                    program: env!("CARGO_PKG_VERSION").to_owned(),
                    model: model.name.clone(),
                    model_version: model.version.clone(),
                    began_unix_seconds: unix_seconds(),
                    policy: options.policy.clone(),
                    config,
                    profiles: profiles.clone(),
                };
                let (recorder, log) = record::create(to, &header)?;
                (Some(recorder), Some(log))
            }
            None => (None, None),
        };
        let router = RecordedRouter::new(router, recorder);
        let shared = Shared::new(model, &profiles, weighted, router, caches, ledgers, options);
        let shared = Arc::new(shared);

        let engine = Self { shared, threads: Mutex::default(), log: Mutex::new(log) };
        for worker in workers {
            let name = worker.name();
            engine.spawn(name, move |shared| worker.work(shared))?;
        }
        engine.spawn("housekeeper".to_owned(), housekeeper::keep_house)?;
        let lanes = profiles.paths().iter().map(|path| path.lanes as usize).collect::<Vec<_>>();
        let attend = move |shared: &Shared| recovery::attend(shared, &revive, &lanes);
        engine.spawn("recovery".to_owned(), attend)?;
        Ok(engine)
    }

    /// Counters and gauges as of now.
    pub fn stats(&self) -> EngineStats {
        let mut stats = EngineStats::of(&self.shared);
        stats.record = lock(&self.log).as_ref().map(LogWriter::stats);
        stats
    }

    /// Takes no more queries, finishes those that were taken within `limit`, refuses what is left,
    /// and ends the threads. Blocks until done; later calls return at once.
    ///
    /// A thread whose device does not return is left behind, and its queries are refused too.
    pub fn shutdown(&self, limit: Duration) -> Drained {
        let refused = self.shared.drain(limit);
        let threads = std::mem::take(&mut *lock(&self.threads));
        let stuck = self.shared.await_threads(JOIN_LIMIT);
        self.shared.state().router.end_recording();
        if let Some(log) = &mut *lock(&self.log) {
            log.finish();
        }
        if stuck > 0 {
            tracing::error!(stuck, "threads did not return from their device and are left behind");
            return Drained { refused, stuck };
        }
        for thread in threads {
            // A panic on a thread has been logged by the hook, and was counted as its end.
            let _ = thread.join();
        }
        Drained { refused, stuck }
    }

    fn spawn(
        &self,
        name: String,
        body: impl FnOnce(&Shared) + Send + 'static,
    ) -> Result<(), EngineError> {
        let shared = Arc::clone(&self.shared);
        shared.thread_begins();
        let run = move || {
            let _ends = ThreadEnds(&shared);
            body(&shared);
        };
        match std::thread::Builder::new().name(name.clone()).spawn(run) {
            Ok(handle) => {
                lock(&self.threads).push(handle);
                Ok(())
            }
            Err(source) => {
                self.shared.thread_ends();
                Err(EngineError::Thread { name, source })
            }
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.shutdown(Duration::ZERO);
    }
}

impl Service for Engine {
    fn models(&self) -> Vec<Arc<Model>> {
        vec![Arc::clone(&self.shared.model)]
    }

    fn model(&self, name: &str) -> Option<Arc<Model>> {
        (self.shared.model.name == name).then(|| Arc::clone(&self.shared.model))
    }

    fn is_ready(&self) -> bool {
        self.shared.is_ready()
    }

    fn observe(&self, metrics: &crate::metrics::Metrics) {
        let stats = self.stats();
        metrics.observe_record(stats.record);
        metrics.observe_promises(stats.promises.kept, stats.promises.broken);
        let model = &self.shared.model;
        metrics.model(&model.name, &model.version).observe(&crate::metrics::ModelObservation {
            queued: stats.queued,
            batches: stats.paths.iter().map(|path| path.counts.batches).sum(),
            batch_samples: stats.paths.iter().map(|path| path.counts.batch_samples).sum(),
        });
        for path in stats.paths {
            let observation = crate::metrics::PathObservation {
                is_up: path.is_up,
                accuracy: path.accuracy,
                workers: path.workers,
                queued: path.queued,
                batches: path.counts.batches,
                batch_samples: path.counts.batch_samples,
                batch_time: path.counts.batch_time,
                correction: path.correction,
                coverage: path.coverage,
                expired: path.counts.expired,
                failed: path.counts.failed,
                rerouted: path.counts.rerouted,
                ejections: path.counts.ejections,
                probes: path.counts.probes,
                probes_failed: path.counts.probes_failed,
                cache: path.cache,
            };
            metrics.observe_path(&path.name, &observation);
        }
    }

    fn load(&self, _model: &Model) -> Option<Load> {
        Some(stats::load(&self.shared))
    }

    fn work(&self, _model: &Model) -> ModelWork {
        stats::work(&self.shared)
    }

    fn submit(
        &self,
        _model: &Arc<Model>,
        request: ScoreRequest,
    ) -> Result<oneshot::Receiver<Outcome>, Refusal> {
        self.shared.submit(request)
    }
}
