//! Every metric of the server: names, units, labels and buckets are all in this file.
//!
//! Names start with `mprec_`, durations are in seconds, counters end in `_total`, and labels come
//! from small closed sets: `path` from the paths given at start, `code` and `reason` from enums.
//! Latency is kept in histograms with an edge exactly at the SLA, so that the share in time is
//! `bucket{le="<SLA>"} / count`, also summed over replicas.
//!
//! Who records what, so that nothing is counted twice:
//!
//! | Who | Calls |
//! |---|---|
//! | a protocol, once for every query it submitted | [`Metrics::record_answer`], [`Metrics::record_refusal`] or [`Metrics::record_cancelled`] |
//! | a protocol, for every request | [`Metrics::record_request`], [`Metrics::requests_in_flight`] |
//! | whoever renders the page, before it does | [`Service::observe`], which calls [`Metrics::observe_path`] |

mod instrument;
mod model;
#[cfg(test)]
mod tests;

use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Duration,
};

use mprec_backends::CacheStatistics;

use self::instrument::Page;
pub use self::instrument::{Counter, CounterBy, Gauge, Histogram, Label, Level, Sum};
pub use self::model::ModelObservation;
use crate::{
    endpoint::ErrorCode,
    record::RecordStats,
    service::{Answer, Refusal, Service},
};

/// Upper edges of duration buckets, in seconds; the SLAs are added to them.
const DURATION_EDGES: &[f64] = &[
    0.0001, 0.00025, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.06, 0.1, 0.25, 0.5, 1.0, 5.0,
];
/// The label of a path that was not announced at start.
const OTHER_PATH: &str = "other";

/// How a request ended: with an answer, or with an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestEnd {
    /// It was answered.
    Answered,
    /// An error was sent.
    Error(ErrorCode),
    /// The client went away before there was anything to send.
    Cancelled,
}

impl Label for RequestEnd {
    const NAMES: &'static [&'static str] = &{
        let mut names = [""; ErrorCode::NAMES.len() + 2];
        names[0] = "ok";
        names[1] = "cancelled";
        let mut at = 0;
        while at < ErrorCode::NAMES.len() {
            names[at + 2] = ErrorCode::NAMES[at];
            at += 1;
        }
        names
    };

    fn index(self) -> usize {
        match self {
            Self::Answered => 0,
            Self::Cancelled => 1,
            Self::Error(code) => code.index() + 2,
        }
    }
}

/// The kinds of [`Refusal`], as a label.
#[derive(Debug, Clone, Copy)]
struct Reason(usize);

impl Label for Reason {
    const NAMES: &'static [&'static str] =
        &["overloaded", "quality", "weighted", "deadline_passed", "unavailable", "failed"];

    fn index(self) -> usize {
        self.0
    }
}

impl From<&Refusal> for Reason {
    fn from(refusal: &Refusal) -> Self {
        Self(match refusal {
            Refusal::Overloaded { .. } => 0,
            Refusal::Quality { .. } => 1,
            Refusal::Weighted => 2,
            Refusal::DeadlinePassed { .. } => 3,
            Refusal::Unavailable { .. } => 4,
            Refusal::Failed { .. } => 5,
        })
    }
}

/// All metrics of one server; see the [module](self).
#[derive(Debug)]
pub struct Metrics {
    version: String,
    requests: CounterBy<RequestEnd>,
    request_seconds: Histogram,
    /// Infer requests that have arrived and have no response yet.
    pub requests_in_flight: Gauge,
    /// Open connections.
    pub connections: Gauge,
    /// Connections turned away because too many were open.
    pub connections_refused: Counter,
    /// Ids outside their vocabulary that the schema's rule replaced.
    pub unknown_ids: Counter,
    refused: CounterBy<Reason>,
    cancelled: Counter,
    record: RecordMetrics,
    models: model::Models,
    paths: Vec<PathMetrics>,
}

/// The log of decisions, where there is one.
#[derive(Debug, Default)]
struct RecordMetrics {
    is_observed: AtomicBool,
    active: Gauge,
    events: Counter,
    lost: Counter,
    bytes: Counter,
}

/// The metrics of one path.
#[derive(Debug)]
pub struct PathMetrics {
    name: String,
    latency: Histogram,
    queue: Histogram,
    compute: Histogram,
    in_time: Counter,
    late: Counter,
    downgraded: Counter,
    samples: Counter,
    samples_in_time: Counter,
    correct_in_time: Sum,
    /// Whether [`Metrics::observe_path`] was ever called for it: what nobody looked at is not shown.
    is_observed: AtomicBool,
    up: Gauge,
    accuracy: Level,
    workers: Gauge,
    queued: Gauge,
    batches: Counter,
    batch_samples: Counter,
    batch_nanos: Counter,
    correction: Level,
    coverage: Level,
    rerouted: Counter,
    ejections: Counter,
    probes: Counter,
    probes_failed: Counter,
    cache_hits: Counter,
    cache_misses: Counter,
    cache_bytes: Gauge,
}

/// What the engine says of a path at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
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

impl Metrics {
    /// Metrics of a server of this version, with these paths and an edge at each of these SLAs.
    pub fn new(version: &str, paths: &[&str], slas: &[Duration]) -> Self {
        let mut edges = DURATION_EDGES.to_vec();
        edges.extend(slas.iter().map(Duration::as_secs_f64));
        Self {
            version: version.to_owned(),
            requests: CounterBy::default(),
            request_seconds: Histogram::new(&edges),
            requests_in_flight: Gauge::default(),
            connections: Gauge::default(),
            connections_refused: Counter::default(),
            unknown_ids: Counter::default(),
            refused: CounterBy::default(),
            cancelled: Counter::default(),
            record: RecordMetrics::default(),
            models: model::Models::default(),
            paths: paths
                .iter()
                .chain([&OTHER_PATH])
                .map(|name| PathMetrics::new(name, &edges))
                .collect(),
        }
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
        let path = self.path(&answer.path);
        path.latency.observe_duration(latency);
        path.queue.observe_duration(answer.queue);
        path.compute.observe_duration(answer.compute);
        path.samples.add(samples as u64);
        if in_time {
            path.in_time.add_one();
            path.samples_in_time.add(samples as u64);
            path.correct_in_time.add(samples as f64 * answer.quality);
        } else {
            path.late.add_one();
        }
        if answer.downgraded {
            path.downgraded.add_one();
        }
    }

    /// A query was refused, at once or after waiting.
    pub fn record_refusal(&self, refusal: &Refusal) {
        self.refused.of(refusal.into()).add_one();
    }

    /// The client of a query left before its outcome.
    pub fn record_cancelled(&self) {
        self.cancelled.add_one();
    }

    /// Takes down what the engine says of `path` now; [`Service::observe`] does this before every
    /// rendering.
    pub fn observe_path(&self, path: &str, observation: &PathObservation) {
        let path = self.path(path);
        path.is_observed.store(true, Relaxed);
        path.up.set(i64::from(observation.is_up));
        path.queued.set(i64::try_from(observation.queued).unwrap_or(i64::MAX));
        path.batches.reach(observation.batches);
        path.batch_samples.reach(observation.batch_samples);
        let nanos = u64::try_from(observation.batch_time.as_nanos()).unwrap_or(u64::MAX);
        path.batch_nanos.reach(nanos);
        path.accuracy.set(observation.accuracy);
        path.workers.set(observation.workers.into());
        path.correction.set(observation.correction);
        path.coverage.set(observation.coverage);
        path.rerouted.reach(observation.rerouted);
        path.ejections.reach(observation.ejections);
        path.probes.reach(observation.probes);
        path.probes_failed.reach(observation.probes_failed);
        path.cache_hits.reach(observation.cache.hits);
        path.cache_misses.reach(observation.cache.misses);
        path.cache_bytes.set(i64::try_from(observation.cache.bytes).unwrap_or(i64::MAX));
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

    pub(crate) fn page(&self) -> String {
        let mut page = Page::default();
        page.start("mprec_build_info", "gauge", "The version that runs; always 1.");
        page.value("mprec_build_info", &[("version", &self.version)], 1);
        page.start("mprec_requests_total", "counter", "Requests to score, by how they ended.");
        page.counter_by("mprec_requests_total", "code", &self.requests);
        page.start(
            "mprec_request_duration_seconds",
            "histogram",
            "From the arrival of a request's head to its response, whatever it says.",
        );
        page.histogram("mprec_request_duration_seconds", &[], &self.request_seconds);
        let gauges = [
            (
                "mprec_requests_in_flight",
                "Requests to score that wait for a response.",
                &self.requests_in_flight,
            ),
            ("mprec_connections", "Open connections.", &self.connections),
        ];
        for (name, help, gauge) in gauges {
            page.start(name, "gauge", help);
            page.value(name, &[], gauge.get());
        }
        let counters = [
            (
                "mprec_connections_refused_total",
                "Connections turned away because too many were open.",
                &self.connections_refused,
            ),
            (
                "mprec_unknown_ids_total",
                "Ids outside their vocabulary, replaced by the schema's rule.",
                &self.unknown_ids,
            ),
            (
                "mprec_queries_cancelled_total",
                "Queries whose client left before the outcome.",
                &self.cancelled,
            ),
        ];
        for (name, help, counter) in counters {
            page.start(name, "counter", help);
            page.value(name, &[], counter.get());
        }
        page.start("mprec_queries_refused_total", "counter", "Queries refused, by reason.");
        page.counter_by("mprec_queries_refused_total", "reason", &self.refused);
        if self.record.is_observed.load(Relaxed) {
            self.render_record(&mut page);
        }
        self.models.render(&mut page);
        self.render_paths(&mut page);
        page.finish()
    }

    fn render_record(&self, page: &mut Page) {
        let name = "mprec_record_active";
        page.start(name, "gauge", "1 while decisions are recorded, 0 once the log has ended.");
        page.value(name, &[], self.record.active.get());
        let counters = [
            ("mprec_record_events_total", "Events recorded.", &self.record.events),
            (
                "mprec_record_events_lost_total",
                "Events after the log had ended early.",
                &self.record.lost,
            ),
            ("mprec_record_bytes_total", "Bytes of the log of decisions.", &self.record.bytes),
        ];
        for (name, help, counter) in counters {
            page.start(name, "counter", help);
            page.value(name, &[], counter.get());
        }
    }

    fn render_paths(&self, page: &mut Page) {
        type Part<T> = fn(&PathMetrics) -> &T;
        let histograms: [(&str, &str, Part<Histogram>); 3] = [
            (
                "mprec_query_latency_seconds",
                "From the arrival of a query to its answer, by the path that answered.",
                |path| &path.latency,
            ),
            (
                "mprec_query_queue_seconds",
                "From the arrival of a query to the start of its batch.",
                |path| &path.queue,
            ),
            ("mprec_query_compute_seconds", "The time of a query's batch on its worker.", |path| {
                &path.compute
            }),
        ];
        for (name, help, part) in histograms {
            page.start(name, "histogram", help);
            for path in &self.paths {
                page.histogram(name, &[("path", &path.name)], part(path));
            }
        }
        page.start("mprec_queries_answered_total", "counter", "Queries answered, by timing.");
        for path in &self.paths {
            for (timing, counter) in [("in_time", &path.in_time), ("late", &path.late)] {
                let labels = [("path", path.name.as_str()), ("timing", timing)];
                page.value("mprec_queries_answered_total", &labels, counter.get());
            }
        }
        let counters: [(&str, &str, Part<Counter>); 3] = [
            (
                "mprec_queries_downgraded_total",
                "Queries for which a better path was passed over because it would have been late.",
                |path| &path.downgraded,
            ),
            ("mprec_samples_total", "Samples scored.", |path| &path.samples),
            (
                "mprec_samples_in_time_total",
                "Samples scored within their query's deadline.",
                |path| &path.samples_in_time,
            ),
        ];
        for (name, help, part) in counters {
            page.start(name, "counter", help);
            for path in &self.paths {
                page.value(name, &[("path", &path.name)], part(path).get());
            }
        }
        let name = "mprec_correct_in_time_total";
        page.start(name, "counter", "Expected correct predictions among the samples in time.");
        for path in &self.paths {
            page.value(name, &[("path", &path.name)], path.correct_in_time.get());
        }
        self.render_observed(page);
    }

    fn render_observed(&self, page: &mut Page) {
        type Read = fn(&PathMetrics) -> f64;
        let metrics: [(&str, &str, &str, Read); 16] = [
            ("mprec_path_up", "gauge", "1 while the path can be given work.", |path| {
                path.up.get() as f64
            }),
            (
                "mprec_path_accuracy_ratio",
                "gauge",
                "Expected share of the path's predictions that are correct.",
                |path| path.accuracy.get(),
            ),
            ("mprec_path_workers", "gauge", "Workers of the path's device.", |path| {
                path.workers.get() as f64
            }),
            ("mprec_batch_seconds_total", "counter", "Worker time of the batches run.", |path| {
                path.batch_nanos.get() as f64 / 1e9
            }),
            ("mprec_path_queued_queries", "gauge", "Queries that wait for the path.", |path| {
                path.queued.get() as f64
            }),
            ("mprec_batches_total", "counter", "Batches run.", |path| path.batches.get() as f64),
            ("mprec_batch_samples_total", "counter", "Samples in the batches run.", |path| {
                path.batch_samples.get() as f64
            }),
            (
                "mprec_path_correction_ratio",
                "gauge",
                "Recent time of a batch over that of the profile; above 1 the path is slower.",
                |path| path.correction.get(),
            ),
            (
                "mprec_path_coverage_ratio",
                "gauge",
                "Share of recent batches that took no longer than predicted with margin.",
                |path| path.coverage.get(),
            ),
            (
                "mprec_queries_rerouted_total",
                "counter",
                "Queries decided anew because their path went down.",
                |path| path.rerouted.get() as f64,
            ),
            ("mprec_path_ejections_total", "counter", "Times that the path went down.", |path| {
                path.ejections.get() as f64
            }),
            (
                "mprec_path_probes_total",
                "counter",
                "Times that the path was probed while it was down.",
                |path| path.probes.get() as f64,
            ),
            (
                "mprec_path_probes_failed_total",
                "counter",
                "Probes that found the path still down.",
                |path| path.probes_failed.get() as f64,
            ),
            (
                "mprec_cache_hits_total",
                "counter",
                "Distinct ids of a batch whose vectors a cache held.",
                |path| path.cache_hits.get() as f64,
            ),
            (
                "mprec_cache_misses_total",
                "counter",
                "Distinct ids of a batch whose vectors were computed although the path has a cache.",
                |path| path.cache_misses.get() as f64,
            ),
            (
                "mprec_cache_bytes",
                "gauge",
                "Memory of the path's caches, over all workers.",
                |path| path.cache_bytes.get() as f64,
            ),
        ];
        let observed = self.paths.iter().filter(|path| path.is_observed.load(Relaxed));
        for (name, kind, help, read) in metrics {
            page.start(name, kind, help);
            for path in observed.clone() {
                page.value(name, &[("path", &path.name)], read(path));
            }
        }
    }
}

impl PathMetrics {
    fn new(name: &str, edges: &[f64]) -> Self {
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
            rerouted: Counter::default(),
            ejections: Counter::default(),
            probes: Counter::default(),
            probes_failed: Counter::default(),
            cache_hits: Counter::default(),
            cache_misses: Counter::default(),
            cache_bytes: Gauge::default(),
        }
    }
}
