//! What happened between two readings.

use serde::Serialize;

use super::reading::{PathReading, Reading};

/// Rates and shares between two readings, and the gauges of the second.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct View {
    /// Time between the readings.
    pub seconds: f64,
    /// The server's version.
    pub version: String,
    /// Whether decisions are recorded; `None` without a log.
    pub is_recording: Option<bool>,
    /// Over all paths.
    pub totals: Totals,
    /// By name.
    pub paths: Vec<PathRow>,
}

/// All paths together.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Totals {
    /// SLA-goodput: expected correct predictions in time, per second.
    pub correct_in_time_per_s: f64,
    /// Queries answered per second, in time or late.
    pub queries_per_s: f64,
    /// Queries refused per second, at once or after waiting.
    pub refused_per_s: f64,
    /// Queries per second for which a better path was passed over.
    pub downgraded_per_s: f64,
    /// Share in time of the queries that were answered or refused; `None` if there were none.
    pub in_time: Option<f64>,
    /// Mean expected accuracy of the samples scored; `None` if there were none.
    pub accuracy: Option<f64>,
    /// 99th percentile of latency, milliseconds; `None` if nothing was answered.
    pub p99_ms: Option<f64>,
    /// Queries that wait.
    pub queued: f64,
    /// Requests under way.
    pub in_flight: f64,
}

/// One path.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PathRow {
    /// Its name.
    pub name: String,
    /// Whether it can be given work.
    pub up: bool,
    /// Share of its device's worker time that it took; `None` if its workers are not known.
    pub load: Option<f64>,
    /// Queries that wait for it.
    pub queued: f64,
    /// Queries answered per second.
    pub queries_per_s: f64,
    /// Samples scored per second.
    pub samples_per_s: f64,
    /// Median of latency, milliseconds; `None` if nothing was answered.
    pub p50_ms: Option<f64>,
    /// 99th percentile of the same.
    pub p99_ms: Option<f64>,
    /// Its share of the queries answered; `None` if there were none.
    pub share: Option<f64>,
    /// Expected accuracy.
    pub accuracy: f64,
    /// Recent time of a batch over that of the profile.
    pub correction: f64,
}

impl View {
    /// What happened in the `seconds` from `before` to `after`. A counter that fell began anew, with the server.
    pub fn between(before: &Reading, after: &Reading, seconds: f64) -> Self {
        let seconds = seconds.max(1e-3);
        let none = PathReading::default();
        let pairs = || {
            let pair =
                |(name, after): (_, _)| (name, before.paths.get(name).unwrap_or(&none), after);
            after.paths.iter().map(pair)
        };
        let answered = |before: &PathReading, after: &PathReading| {
            grown(before.in_time, after.in_time) + grown(before.late, after.late)
        };
        let all: f64 = pairs().map(|(_, before, after)| answered(before, after)).sum();
        let refused = grown(before.refused, after.refused);
        let mut totals = Totals { in_flight: after.in_flight, ..Totals::default() };
        let (mut in_time, mut samples, mut correct) = (0.0, 0.0, 0.0);
        let mut latency = Vec::new();
        let mut paths = Vec::new();
        for (name, before, after) in pairs() {
            let own = buckets(&before.latency, &after.latency);
            add(&mut latency, &own);
            let scored = grown(before.samples, after.samples);
            let queries = answered(before, after);
            in_time += grown(before.in_time, after.in_time);
            samples += scored;
            correct += scored * after.accuracy;
            totals.correct_in_time_per_s +=
                grown(before.correct_in_time, after.correct_in_time) / seconds;
            totals.downgraded_per_s += grown(before.downgraded, after.downgraded) / seconds;
            totals.queued += after.queued;
            let busy = grown(before.batch_seconds, after.batch_seconds);
            paths.push(PathRow {
                name: name.clone(),
                up: after.is_up.unwrap_or(false),
                load: (after.workers > 0.0).then(|| busy / (seconds * after.workers)),
                queued: after.queued,
                queries_per_s: queries / seconds,
                samples_per_s: scored / seconds,
                p50_ms: quantile(&own, 0.5),
                p99_ms: quantile(&own, 0.99),
                share: (all > 0.0).then(|| queries / all),
                accuracy: after.accuracy,
                correction: after.correction,
            });
        }
        totals.queries_per_s = all / seconds;
        totals.refused_per_s = refused / seconds;
        totals.in_time = (all + refused > 0.0).then(|| in_time / (all + refused));
        totals.accuracy = (samples > 0.0).then(|| correct / samples);
        totals.p99_ms = quantile(&latency, 0.99);
        let (version, is_recording) = (after.version.clone(), after.is_recording);
        Self { seconds, version, is_recording, totals, paths }
    }
}

/// By how much a counter grew.
fn grown(before: f64, after: f64) -> f64 {
    if after >= before { after - before } else { after.max(0.0) }
}

/// Observations between two histograms, cumulative.
fn buckets(before: &[(f64, f64)], after: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let began_anew = before.last().map(|last| last.1) > after.last().map(|last| last.1);
    let base = |at: usize, edge: f64| match before.get(at) {
        Some(&(other, count)) if other == edge && !began_anew => count,
        _ => 0.0,
    };
    let grown = |(at, &(edge, count)): (usize, &(f64, f64))| (edge, count - base(at, edge));
    after.iter().enumerate().map(grown).collect()
}

/// Adds a histogram to another with the same edges, or to an empty one.
fn add(into: &mut Vec<(f64, f64)>, other: &[(f64, f64)]) {
    if into.is_empty() {
        into.extend_from_slice(other);
        return;
    }
    for (sum, own) in into.iter_mut().zip(other) {
        sum.1 += own.1;
    }
}

/// A quantile of cumulative buckets, milliseconds, linear within its bucket. Above the last finite edge it is
/// that edge: nothing more is known.
fn quantile(buckets: &[(f64, f64)], share: f64) -> Option<f64> {
    let total = buckets.last()?.1;
    if !(total > 0.0 && total.is_finite()) {
        return None;
    }
    let rank = share * total;
    let (mut edge_below, mut count_below) = (0.0, 0.0);
    for &(edge, count) in buckets {
        if count >= rank {
            if !edge.is_finite() {
                break;
            }
            let part = (rank - count_below) / (count - count_below).max(f64::MIN_POSITIVE);
            return Some(1e3 * (edge_below + part * (edge - edge_below)));
        }
        (edge_below, count_below) = (edge, count);
    }
    Some(1e3 * edge_below)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        metrics::{Metrics, PathObservation},
        service::{Answer, Refusal},
    };

    fn metrics() -> Metrics {
        let metrics = Metrics::new("9", &["a@cpu", "b@cpu"], &[Duration::from_millis(10)]);
        for (path, is_up, queued) in [("a@cpu", true, 3), ("b@cpu", false, 0)] {
            let observation = PathObservation {
                is_up,
                accuracy: 0.8,
                workers: 2,
                queued,
                batches: 1,
                batch_samples: 4,
                batch_time: Duration::from_millis(800),
                correction: 1.5,
                coverage: 0.99,
                ..PathObservation::default()
            };
            metrics.observe_path(path, &observation);
        }
        metrics
    }

    fn answer(metrics: &Metrics, path: &str, millis: u64, in_time: bool) {
        let answer = Answer {
            scores: vec![],
            path: path.into(),
            variant: path.into(),
            version: "1".into(),
            quality: 0.8,
            downgraded: true,
            predicted: Duration::ZERO,
            queue: Duration::ZERO,
            compute: Duration::ZERO,
            batch_samples: 4,
        };
        metrics.record_answer(&answer, 4, Duration::from_millis(millis), in_time);
    }

    fn reading(metrics: &Metrics) -> Reading {
        Reading::parse(&metrics.page()).unwrap()
    }

    #[test]
    fn rates_are_of_what_came_between_two_readings_of_a_real_page() {
        let metrics = metrics();
        answer(&metrics, "a@cpu", 400, false);
        let before = reading(&metrics);
        assert_eq!(before.paths.len(), 2, "`other` answered nothing");
        for _ in 0..6 {
            answer(&metrics, "a@cpu", 4, true);
        }
        answer(&metrics, "b@cpu", 20, false);
        answer(&metrics, "b@cpu", 20, false);
        metrics.record_refusal(&Refusal::Unavailable { reason: "a test" });
        metrics.record_refusal(&Refusal::Unavailable { reason: "a test" });
        let view = View::between(&before, &reading(&metrics), 2.0);
        let [a, b] = view.paths.as_slice() else { panic!("{view:?}") };
        assert_eq!((a.queries_per_s, a.samples_per_s, a.share), (3.0, 12.0, Some(0.75)));
        assert_eq!((a.up, a.queued, b.up), (true, 3.0, false));
        let between =
            |value: Option<f64>, least, most| value.is_some_and(|v| v > least && v <= most);
        assert!(between(a.p50_ms, 2.0, 5.0) && between(b.p99_ms, 10.0, 20.0), "{view:?}");
        let totals = &view.totals;
        assert!((totals.correct_in_time_per_s - 6.0 * 4.0 * 0.8 / 2.0).abs() < 1e-9);
        assert_eq!((totals.in_time, totals.refused_per_s), (Some(0.6), 1.0));
        assert_eq!(totals.downgraded_per_s, 4.0);
        assert!(between(totals.p99_ms, 10.0, 20.0), "the first answer is no part of it: {view:?}");
        let quiet = View::between(&before, &before, 1.0);
        assert_eq!(
            (quiet.totals.p99_ms, quiet.totals.in_time, quiet.paths[0].share),
            (None, None, None)
        );
    }

    #[test]
    fn a_server_that_began_anew_counts_from_its_start() {
        let (old, new) = (metrics(), metrics());
        for _ in 0..9 {
            answer(&old, "a@cpu", 100, true);
        }
        answer(&new, "a@cpu", 4, true);
        let view = View::between(&reading(&old), &reading(&new), 1.0);
        assert_eq!(view.totals.queries_per_s, 1.0);
        assert!(view.totals.p99_ms.is_some_and(|ms| ms <= 5.0), "{view:?}");
    }

    #[test]
    fn a_quantile_lies_within_its_bucket() {
        let buckets = [(0.001, 0.0), (0.002, 10.0), (f64::INFINITY, 20.0)];
        assert_eq!(quantile(&buckets, 0.25), Some(1.5));
        assert_eq!(quantile(&buckets, 0.9), Some(2.0), "above the last edge nothing is known");
        assert_eq!(quantile(&[], 0.5), None);
        assert_eq!(quantile(&[(f64::INFINITY, 0.0)], 0.5), None);
    }

    #[test]
    fn pages_of_others_are_refused() {
        assert!(Reading::parse("up 1\n").unwrap_err().to_string().contains("mprec_build_info"));
        assert!(Reading::parse("<html>").is_err());
        let many: String = (0..300).map(|at| format!("x{{path=\"{at}\"}} 1\n")).collect();
        assert!(Reading::parse(&many).unwrap_err().to_string().contains("256"));
    }
}
