//! All metrics of one server, and who is told of what.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use super::{
    instrument::{Counter, CounterBy, Gauge, Histogram},
    labels::{Reason, RequestEnd},
    machine::Machine,
    model::{ModelMetrics, Models},
    path::{PathMetrics, PathObservation},
    recent::Recent,
    repository::Versions,
};
use crate::{
    record::RecordStats,
    security::{HandshakeEnd, KeyRefusal},
    service::{Answer, Refusal, Service},
};

/// Upper edges of duration buckets, in seconds; the SLAs are added to them.
const DURATION_EDGES: &[f64] = &[
    0.0001, 0.00025, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.06, 0.1, 0.25, 0.5, 1.0, 5.0,
];
/// The label of a path that was not announced at start.
pub(super) const OTHER_PATH: &str = "other";

/// All metrics of one server; see the [module](super).
#[derive(Debug)]
pub struct Metrics {
    pub(super) version: String,
    pub(super) requests: CounterBy<RequestEnd>,
    pub(super) request_seconds: Histogram,
    /// Infer requests that have arrived and have no response yet.
    pub requests_in_flight: Gauge,
    /// Open connections.
    pub connections: Gauge,
    /// Connections turned away because too many were open.
    pub connections_refused: Counter,
    /// TLS handshakes, by how they ended.
    pub handshakes: CounterBy<HandshakeEnd>,
    /// Requests without a key that lets them in.
    pub unauthenticated: CounterBy<KeyRefusal>,
    /// The names of the keys, with the requests that had each.
    key_uses: Mutex<Vec<(String, Arc<Counter>)>>,
    /// Ids outside their vocabulary that the schema's rule replaced.
    pub unknown_ids: Counter,
    pub(super) refused: CounterBy<Reason>,
    pub(super) cancelled: Counter,
    pub(super) promises: PromiseMetrics,
    pub(super) record: RecordMetrics,
    pub(super) paths: Vec<PathMetrics>,
    pub(super) models: Models,
    pub(super) versions: Versions,
    pub(super) recent: Recent,
    pub(super) machine: Machine,
    /// In seconds, as they stand in the histograms.
    pub(super) slas: Vec<f64>,
    pub(super) began: SystemTime,
}

/// Whether queries were done by the finish time predicted when they were admitted.
#[derive(Debug, Default)]
pub(super) struct PromiseMetrics {
    pub(super) kept: Counter,
    pub(super) broken: Counter,
}

/// The log of decisions, where there is one.
#[derive(Debug, Default)]
pub(super) struct RecordMetrics {
    pub(super) is_observed: AtomicBool,
    pub(super) active: Gauge,
    pub(super) events: Counter,
    pub(super) lost: Counter,
    pub(super) bytes: Counter,
}

impl Metrics {
    /// Metrics of a server of this version, with these paths and an edge at each of these SLAs.
    pub fn new(version: &str, paths: &[&str], slas: &[Duration]) -> Self {
        let slas: Vec<f64> = slas.iter().map(Duration::as_secs_f64).collect();
        let edges = [DURATION_EDGES, &slas].concat();
        Self {
            version: version.to_owned(),
            requests: CounterBy::default(),
            request_seconds: Histogram::new(&edges),
            requests_in_flight: Gauge::default(),
            connections: Gauge::default(),
            connections_refused: Counter::default(),
            handshakes: CounterBy::default(),
            unauthenticated: CounterBy::default(),
            key_uses: Mutex::default(),
            unknown_ids: Counter::default(),
            refused: CounterBy::default(),
            cancelled: Counter::default(),
            promises: PromiseMetrics::default(),
            record: RecordMetrics::default(),
            models: Models::default(),
            versions: Versions::default(),
            recent: Recent::default(),
            machine: Machine::default(),
            began: SystemTime::now(),
            paths: paths
                .iter()
                .chain([&OTHER_PATH])
                .map(|name| PathMetrics::new(name, &edges))
                .collect(),
            slas,
        }
    }

    /// From now on the uses of these keys are shown, and of no others.
    pub fn show_keys(&self, uses: Vec<(String, Arc<Counter>)>) {
        *self.key_uses.lock().unwrap_or_else(PoisonError::into_inner) = uses;
    }

    pub(super) fn key_uses(&self) -> Vec<(String, Arc<Counter>)> {
        self.key_uses.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The metrics of a version of a model.
    pub fn model(&self, name: &str, version: &str) -> Arc<ModelMetrics> {
        self.models.of(name, version)
    }

    /// The metrics of `path`; a path that was not announced shares the label `other`.
    pub fn path(&self, path: &str) -> &PathMetrics {
        let found = self.paths.iter().find(|metrics| metrics.name == path);
        found.or(self.paths.last()).expect("`new` always adds the path `other`")
    }

    /// A request to score has ended, `duration` after it arrived.
    pub fn record_request(&self, end: RequestEnd, duration: Duration) {
        self.requests.of(end).add_one();
        self.request_seconds.observe_duration(duration);
    }

    /// A query of `samples` samples was answered, `latency` after its arrival.
    pub fn record_answer(&self, answer: &Answer, samples: usize, latency: Duration, in_time: bool) {
        self.path(&answer.path).record_answer(answer, samples, latency, in_time);
    }

    /// A query was refused, at once or after waiting.
    pub fn record_refusal(&self, refusal: &Refusal) {
        let reason = Reason::from(refusal);
        self.refused.of(reason).add_one();
        self.recent.note(reason, refusal);
    }

    /// The client of a query left before its outcome.
    pub fn record_cancelled(&self) {
        self.cancelled.add_one();
    }

    /// Takes down what the engine says of `path` now; [`Service::observe`] does this before every
    /// rendering.
    pub fn observe_path(&self, path: &str, observation: &PathObservation) {
        self.path(path).observe(observation);
    }

    /// Takes down how many predicted finish times of queries were kept, and how many were not.
    pub fn observe_promises(&self, kept: u64, broken: u64) {
        self.promises.kept.reach(kept);
        self.promises.broken.reach(broken);
    }

    /// Takes down how the log of decisions stands, if there is one.
    pub fn observe_record(&self, record: Option<RecordStats>) {
        let Some(record) = record else { return };
        let metrics = &self.record;
        metrics.is_observed.store(true, Relaxed);
        metrics.active.set(record.is_recording.into());
        metrics.events.reach(record.events);
        metrics.lost.reach(record.lost);
        metrics.bytes.reach(record.bytes);
    }

    /// The Prometheus text of everything, after `service` was asked for what it alone knows.
    pub fn render<S: Service + ?Sized>(&self, service: &S) -> String {
        service.observe(self);
        self.page()
    }
}
