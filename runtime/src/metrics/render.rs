//! The metrics page.

use std::{sync::atomic::Ordering::Relaxed, time::UNIX_EPOCH};

use super::{
    instrument::{Counter, Histogram},
    machine::Reading,
    path::PathMetrics,
    server::Metrics,
    text::Page,
};

impl Metrics {
    pub(crate) fn page(&self) -> String {
        let mut page = Page::default();
        page.start("mprec_build_info", "gauge", "The version that runs; always 1.");
        page.value("mprec_build_info", &[("version", &self.version)], 1);
        let name = "mprec_model_info";
        page.start(name, "gauge", "A version of a model that is or was served; always 1.");
        for model in &*self.models.each() {
            page.value(name, &[("model", &model.name), ("version", &model.version)], 1);
        }
        self.versions.render(&mut page);
        if let Some(sla) = self.slas.first() {
            let help = "Deadline of a query that names none.";
            page.single("mprec_sla_seconds", "gauge", help, sla);
        }
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
            page.single(name, "gauge", help, gauge.get());
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
            page.single(name, "counter", help, counter.get());
        }
        page.start("mprec_queries_refused_total", "counter", "Queries refused, by reason.");
        page.counter_by("mprec_queries_refused_total", "reason", &self.refused);
        self.render_security(&mut page);
        let name = "mprec_promises_total";
        page.start(name, "counter", "Queries by whether the predicted finish time was kept.");
        page.value(name, &[("kept", "yes")], self.promises.kept.get());
        page.value(name, &[("kept", "no")], self.promises.broken.get());
        if self.record.is_observed.load(Relaxed) {
            self.render_record(&mut page);
        }
        self.render_paths(&mut page);
        let machine = self.machine.read();
        self.render_triton(&mut page, &machine);
        self.render_process(&mut page, &machine);
        page.finish()
    }

    fn render_security(&self, page: &mut Page) {
        let name = "mprec_tls_handshakes_total";
        page.start(name, "counter", "TLS handshakes, by how they ended.");
        page.counter_by(name, "result", &self.handshakes);
        let name = "mprec_requests_unauthenticated_total";
        page.start(name, "counter", "Requests without a key that lets them in, by what was wrong.");
        page.counter_by(name, "reason", &self.unauthenticated);
        let name = "mprec_requests_by_key_total";
        page.start(name, "counter", "Requests by the name of the key that let them in.");
        for (key, used) in self.key_uses() {
            page.value(name, &[("key", &key)], used.get());
        }
    }

    /// By the names that every Prometheus client library uses.
    fn render_process(&self, page: &mut Page, machine: &Reading) {
        if let Some(seconds) = machine.process_cpu {
            let help = "Processor time of the process.";
            page.single("process_cpu_seconds_total", "counter", help, seconds);
        }
        if let Some(bytes) = machine.process_memory {
            let help = "Memory of the process.";
            page.single("process_resident_memory_bytes", "gauge", help, bytes);
        }
        let began = self.began.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let help = "When the process started, since the Unix epoch.";
        page.single("process_start_time_seconds", "gauge", help, began);
    }

    fn render_record(&self, page: &mut Page) {
        let name = "mprec_record_active";
        let help = "1 while decisions are recorded, 0 once the log has ended.";
        page.single(name, "gauge", help, self.record.active.get());
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
            page.single(name, "counter", help, counter.get());
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
        let metrics: [(&str, &str, &str, Read); 18] = [
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
                "mprec_queries_expired_total",
                "counter",
                "Queries whose deadline passed while they waited for the path.",
                |path| path.expired.get() as f64,
            ),
            (
                "mprec_queries_failed_total",
                "counter",
                "Queries that the path was given and failed.",
                |path| path.failed.get() as f64,
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
