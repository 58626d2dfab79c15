//! What became of the queries, counted as they end.

use std::{collections::BTreeMap, time::Duration};

use hdrhistogram::Histogram;

use super::{
    encode::Decoded,
    report::{CdfPoint, LoadReport, PathLoad, Window},
};
use crate::{endpoint::ErrorCode, time::nanos};

/// Width of a window of the time series.
const WINDOW: Duration = Duration::from_millis(250);

/// Most points of the latency CDF.
const CDF_POINTS: usize = 200;

/// Latencies are kept from 100 ns to an hour, to three digits.
const SHORTEST_NS: u64 = 100;
const LONGEST_NS: u64 = 3_600_000_000_000;

/// How one query ended.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum End {
    /// It was answered.
    Answered(Decoded),
    /// The server said no, with this code.
    Error(ErrorCode),
    /// Something else: a broken connection, silence, a reply that makes no sense.
    Failed(&'static str),
}

/// A query that has ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// When it was due, from the start of the trace.
    pub(super) due: Duration,
    pub(super) samples: usize,
    pub(super) budget: Duration,
    pub(super) labels: Vec<bool>,
    /// From when it was due to its end.
    pub(super) latency: Duration,
    /// From when it was sent; `None` if no reply came.
    pub(super) round_trip: Option<Duration>,
    pub(super) end: End,
}

/// Counts; see [`LoadReport`] for what they mean.
#[derive(Debug)]
pub(super) struct Tally {
    latencies: Histogram<u64>,
    refusal_times: Histogram<u64>,
    paths: BTreeMap<String, Path>,
    in_time: u64,
    refused: u64,
    failed: u64,
    expired: u64,
    downgraded: u64,
    samples_offered: u64,
    samples_in_time: u64,
    correct_in_time: f64,
    labelled: u64,
    observed_correct: u64,
    refusals: BTreeMap<&'static str, u64>,
    failures: BTreeMap<&'static str, u64>,
    windows: Vec<Window>,
}

#[derive(Debug)]
struct Path {
    latencies: Histogram<u64>,
    in_time: u64,
    samples: u64,
    samples_in_time: u64,
    quality: f64,
}

impl Tally {
    pub(super) fn new() -> Self {
        Self {
            latencies: histogram(),
            refusal_times: histogram(),
            paths: BTreeMap::new(),
            in_time: 0,
            refused: 0,
            failed: 0,
            expired: 0,
            downgraded: 0,
            samples_offered: 0,
            samples_in_time: 0,
            correct_in_time: 0.0,
            labelled: 0,
            observed_correct: 0,
            refusals: BTreeMap::new(),
            failures: BTreeMap::new(),
            windows: Vec::new(),
        }
    }

    pub(super) fn in_time(&self) -> u64 {
        self.in_time
    }

    pub(super) fn record(&mut self, query: Ended) {
        self.samples_offered += query.samples as u64;
        let window = (query.due.as_nanos() / WINDOW.as_nanos()) as usize;
        while self.windows.len() <= window {
            let start = WINDOW * self.windows.len() as u32;
            self.windows.push(Window { start_s: start.as_secs_f64(), ..Window::default() });
        }
        let window = &mut self.windows[window];
        match &query.end {
            End::Answered(answer) => {
                *window.paths.entry(answer.path.clone()).or_default() += 1;
                let in_time = query.latency <= query.budget;
                if in_time {
                    window.in_time += 1;
                } else {
                    window.late += 1;
                }
                self.answered(&query, answer, in_time);
            }
            End::Error(code) if *code == ErrorCode::DeadlinePassed => {
                window.failed += 1;
                self.failed += 1;
                self.expired += 1;
                *self.failures.entry(code.name()).or_default() += 1;
            }
            End::Error(code) if code.is_refusal() => {
                window.refused += 1;
                self.refused += 1;
                self.refusal_times.saturating_record(nanos(query.round_trip.unwrap_or_default()));
                *self.refusals.entry(code.name()).or_default() += 1;
            }
            End::Error(code) => {
                window.failed += 1;
                self.failed += 1;
                *self.failures.entry(code.name()).or_default() += 1;
            }
            End::Failed(reason) => {
                window.failed += 1;
                self.failed += 1;
                *self.failures.entry(reason).or_default() += 1;
            }
        }
    }

    fn answered(&mut self, query: &Ended, answer: &Decoded, in_time: bool) {
        let samples = query.samples as u64;
        let nanos = nanos(query.latency);
        self.latencies.saturating_record(nanos);
        let path = self.paths.entry(answer.path.clone()).or_insert_with(Path::new);
        path.latencies.saturating_record(nanos);
        path.samples += samples;
        path.quality += samples as f64 * answer.quality;
        self.downgraded += u64::from(answer.downgraded);
        if !in_time {
            return;
        }
        path.in_time += 1;
        path.samples_in_time += samples;
        self.in_time += 1;
        self.samples_in_time += samples;
        self.correct_in_time += samples as f64 * answer.quality;
        self.labelled += query.labels.len() as u64;
        let correct = query.labels.iter().zip(&answer.scores);
        self.observed_correct +=
            correct.filter(|&(&clicked, &score)| (score >= 0.5) == clicked).count() as u64;
    }

    /// The report of a trace of `seconds`.
    pub(super) fn finish(self, seconds: f64, clipped: u64, lags: &Histogram<u64>) -> LoadReport {
        let ratio = |sum: f64, count: u64| if count == 0 { 0.0 } else { sum / count as f64 };
        let answered = self.latencies.len();
        let paths = self.paths.into_iter().map(|(name, path)| {
            let load = PathLoad {
                answered: path.latencies.len(),
                in_time: path.in_time,
                samples_in_time: path.samples_in_time,
                quality: ratio(path.quality, path.samples),
                p50_ms: quantile(&path.latencies, 0.5),
                p99_ms: quantile(&path.latencies, 0.99),
            };
            (name, load)
        });
        LoadReport {
            offered: answered + self.refused + self.failed,
            answered,
            in_time: self.in_time,
            late: answered - self.in_time,
            refused: self.refused,
            failed: self.failed,
            samples_in_time: self.samples_in_time,
            correct_in_time_per_s: self.correct_in_time / seconds,
            p50_ms: quantile(&self.latencies, 0.5),
            p95_ms: quantile(&self.latencies, 0.95),
            p99_ms: quantile(&self.latencies, 0.99),
            p999_ms: quantile(&self.latencies, 0.999),
            paths: paths.collect(),
            seconds,
            expired: self.expired,
            downgraded: self.downgraded,
            samples_offered: self.samples_offered,
            clipped,
            accuracy: ratio(self.correct_in_time, self.samples_in_time),
            observed_accuracy: (self.labelled > 0)
                .then(|| ratio(self.observed_correct as f64, self.labelled)),
            refusals: owned(self.refusals),
            failures: owned(self.failures),
            refusal_p50_ms: quantile(&self.refusal_times, 0.5),
            refusal_p99_ms: quantile(&self.refusal_times, 0.99),
            send_lag_p50_ms: quantile(lags, 0.5),
            send_lag_p99_ms: quantile(lags, 0.99),
            latency_cdf: cdf(&self.latencies),
            windows: self.windows,
        }
    }
}

impl Path {
    fn new() -> Self {
        Self { latencies: histogram(), in_time: 0, samples: 0, samples_in_time: 0, quality: 0.0 }
    }
}

/// An empty histogram of nanoseconds.
pub(super) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(SHORTEST_NS, LONGEST_NS, 3).expect("these bounds are in order")
}

fn owned(counts: BTreeMap<&'static str, u64>) -> BTreeMap<String, u64> {
    counts.into_iter().map(|(name, count)| (name.to_owned(), count)).collect()
}

/// Milliseconds; 0 when nothing was recorded.
fn quantile(latencies: &Histogram<u64>, share: f64) -> f64 {
    latencies.value_at_quantile(share) as f64 / 1e6
}

/// Most points lie evenly below 99 %; the rest come ever closer to 100 %, to show the tail.
fn cdf(latencies: &Histogram<u64>) -> Vec<CdfPoint> {
    if latencies.is_empty() {
        return Vec::new();
    }
    let body = 150_usize;
    let tail = CDF_POINTS - body - 1;
    let even = (0..body).map(|at| 0.99 * at as f64 / body as f64);
    // From 1e-2 down to 1e-5 above.
    let near = (0..tail).map(|at| 1.0 - 10_f64.powf(-2.0 - 3.0 * at as f64 / tail as f64));
    let points = even.chain(near).chain([1.0]);
    points.map(|fraction| CdfPoint { ms: quantile(latencies, fraction), fraction }).collect()
}
