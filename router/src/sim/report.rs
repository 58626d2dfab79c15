//! What a run came to: the same names for a simulation and for a measured load.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use crate::RefuseReason;

/// The result of a run. Its serialised names are stable.
///
/// `offered = answered + refused + failed` and `answered = in_time + late`. Times are counted from
/// a query's (scheduled) arrival to its answer, over answered queries, late ones included.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The policy that decided.
    pub policy: String,
    /// Whether these figures come from the simulator.
    pub simulated: bool,
    /// For how long queries were offered: what rates are taken over.
    pub seconds: f64,
    /// Queries that arrived.
    pub offered: u64,
    /// Queries that were given scores, in time or late.
    pub answered: u64,
    /// Queries answered by their deadline.
    pub in_time: u64,
    /// Queries answered after their deadline.
    pub late: u64,
    /// Queries refused at admission.
    pub refused: u64,
    /// Queries admitted and not answered: expired in a queue, or an error.
    pub failed: u64,
    /// Of the failed ones, those whose deadline passed while they were queued.
    pub expired: u64,
    /// Queries answered by a path less accurate than the best that was up.
    pub downgraded: u64,
    /// Samples in all queries offered.
    pub samples_offered: u64,
    /// Samples in queries answered in time.
    pub samples_in_time: u64,
    /// SLA-goodput: Σ samples × accuracy of the path over queries answered in time, per second.
    pub correct_in_time_per_s: f64,
    /// Mean accuracy of the samples that were answered, from the paths' profiles.
    pub accuracy: f64,
    /// Mean latency, milliseconds.
    pub mean_ms: f64,
    /// Median latency, milliseconds.
    pub p50_ms: f64,
    /// 95th percentile of latency, milliseconds.
    pub p95_ms: f64,
    /// 99th percentile of latency, milliseconds.
    pub p99_ms: f64,
    /// 99.9th percentile of latency, milliseconds.
    pub p999_ms: f64,
    /// Mean time in a queue of the queries answered, milliseconds.
    pub mean_wait_ms: f64,
    /// Batches run.
    pub batches: u64,
    /// Queries admitted in parts.
    #[serde(default)]
    pub split: u64,
    /// Refusals by reason.
    pub refusals: BTreeMap<String, u64>,
    /// What each path answered. Every path appears.
    pub paths: BTreeMap<String, PathReport>,
    /// Share of lane time that each device was busy, while queries were offered and after.
    pub utilisation: BTreeMap<String, f64>,
}

/// What one path answered.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct PathReport {
    /// Queries answered.
    pub answered: u64,
    /// Of these, by their deadline.
    pub in_time: u64,
    /// Samples in the queries answered.
    pub samples: u64,
    /// The path's accuracy, from its profile.
    pub accuracy: f64,
    /// Mean latency of the queries answered, milliseconds.
    pub mean_ms: f64,
}

/// An answered query, as a [`Recorder`] is told of it.
#[derive(Debug, Clone, Copy)]
pub struct Answer {
    /// Place of the path in the recorder's list.
    pub path: usize,
    /// Samples scored.
    pub samples: u32,
    /// From (scheduled) arrival to answer.
    pub latency: Duration,
    /// Of that, the time in a queue; of a split query, until its last batch began.
    pub wait: Duration,
    /// Whether it was answered by its deadline.
    pub in_time: bool,
    /// Whether a more accurate path was up.
    pub downgraded: bool,
}

/// Counts outcomes and makes a [`Report`] of them.
#[derive(Debug, Clone)]
pub struct Recorder {
    paths: Vec<(String, PathReport)>,
    latencies_ms: Vec<f32>,
    wait_ms: f64,
    latency_ms: f64,
    correct: f64,
    correct_in_time: f64,
    samples: u64,
    samples_offered: u64,
    samples_in_time: u64,
    offered: u64,
    in_time: u64,
    refused: u64,
    failed: u64,
    expired: u64,
    downgraded: u64,
    refusals: BTreeMap<String, u64>,
}

impl Recorder {
    /// A recorder for paths given by name and accuracy.
    pub fn new<'n>(paths: impl IntoIterator<Item = (&'n str, f64)>) -> Self {
        let path = |(name, accuracy): (&str, f64)| {
            (name.to_owned(), PathReport { accuracy, ..PathReport::default() })
        };
        Self {
            paths: paths.into_iter().map(path).collect(),
            latencies_ms: Vec::new(),
            wait_ms: 0.0,
            latency_ms: 0.0,
            correct: 0.0,
            correct_in_time: 0.0,
            samples: 0,
            samples_offered: 0,
            samples_in_time: 0,
            offered: 0,
            in_time: 0,
            refused: 0,
            failed: 0,
            expired: 0,
            downgraded: 0,
            refusals: BTreeMap::new(),
        }
    }

    /// A query arrived.
    pub fn offered(&mut self, samples: u32) {
        self.offered += 1;
        self.samples_offered += u64::from(samples);
    }

    /// A query was answered.
    ///
    /// # Panics
    ///
    /// If `answer.path` is not in the recorder's list.
    pub fn answered(&mut self, answer: &Answer) {
        let samples = u64::from(answer.samples);
        let latency_ms = answer.latency.as_secs_f64() * 1e3;
        let (_, path) = &mut self.paths[answer.path];
        path.answered += 1;
        path.samples += samples;
        path.mean_ms += latency_ms;
        let correct = samples as f64 * path.accuracy;
        self.correct += correct;
        self.samples += samples;
        self.latency_ms += latency_ms;
        self.wait_ms += answer.wait.as_secs_f64() * 1e3;
        self.latencies_ms.push(latency_ms as f32);
        self.downgraded += u64::from(answer.downgraded);
        if answer.in_time {
            path.in_time += 1;
            self.in_time += 1;
            self.samples_in_time += samples;
            self.correct_in_time += correct;
        }
    }

    /// A query was refused.
    pub fn refused(&mut self, reason: RefuseReason) {
        self.refused += 1;
        let name = match reason {
            RefuseReason::NoPathInTime => "no-path-in-time",
            RefuseReason::NoPathMeetsFloor => "no-path-meets-floor",
            RefuseReason::QueueFull => "queue-full",
            RefuseReason::NoPathUp => "no-path-up",
            RefuseReason::NoPathTakesIt => "no-path-takes-it",
        };
        match self.refusals.get_mut(name) {
            Some(count) => *count += 1,
            None => {
                self.refusals.insert(name.to_owned(), 1);
            }
        }
    }

    /// An admitted query was not answered; `expired` if its deadline passed in a queue.
    pub fn failed(&mut self, expired: bool) {
        self.failed += 1;
        self.expired += u64::from(expired);
    }

    /// Correct predictions answered in time so far.
    pub fn correct_in_time(&self) -> f64 {
        self.correct_in_time
    }

    /// The report of a run that offered queries for `seconds`.
    pub fn finish(mut self, policy: String, simulated: bool, seconds: f64) -> Report {
        self.latencies_ms.sort_unstable_by(f32::total_cmp);
        let answered = self.latencies_ms.len() as u64;
        let mean = |sum: f64, count: u64| if count == 0 { 0.0 } else { sum / count as f64 };
        let quantile = |share: f64| {
            let rank = (share * self.latencies_ms.len() as f64).ceil() as usize;
            self.latencies_ms.get(rank.saturating_sub(1)).map_or(0.0, |&ms| f64::from(ms))
        };
        let (p50_ms, p95_ms, p99_ms, p999_ms) =
            (quantile(0.5), quantile(0.95), quantile(0.99), quantile(0.999));
        for (_, path) in &mut self.paths {
            path.mean_ms = mean(path.mean_ms, path.answered);
        }
        Report {
            policy,
            simulated,
            seconds,
            offered: self.offered,
            answered,
            in_time: self.in_time,
            late: answered - self.in_time,
            refused: self.refused,
            failed: self.failed,
            expired: self.expired,
            downgraded: self.downgraded,
            samples_offered: self.samples_offered,
            samples_in_time: self.samples_in_time,
            correct_in_time_per_s: self.correct_in_time / seconds,
            accuracy: mean(self.correct, self.samples),
            mean_ms: mean(self.latency_ms, answered),
            p50_ms,
            p95_ms,
            p99_ms,
            p999_ms,
            mean_wait_ms: mean(self.wait_ms, answered),
            batches: 0,
            split: 0,
            refusals: self.refusals,
            paths: self.paths.into_iter().collect(),
            utilisation: BTreeMap::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_add_up_and_names_are_the_promised_ones() {
        let mut recorder = Recorder::new([("table@cpu", 0.8), ("dhe@cpu", 0.9)]);
        for millis in 1..=100u64 {
            recorder.offered(10);
            recorder.answered(&Answer {
                path: (millis % 2) as usize,
                samples: 10,
                latency: Duration::from_millis(millis),
                wait: Duration::ZERO,
                in_time: millis <= 90,
                downgraded: false,
            });
        }
        recorder.offered(5);
        recorder.refused(RefuseReason::NoPathInTime);
        recorder.offered(5);
        recorder.failed(true);
        let report = recorder.finish("test".into(), true, 2.0);
        assert_eq!(report.offered, report.answered + report.refused + report.failed);
        assert_eq!((report.in_time, report.late, report.samples_in_time), (90, 10, 900));
        assert!((report.correct_in_time_per_s - (450.0 * 0.8 + 450.0 * 0.9) / 2.0).abs() < 1e-9);
        assert_eq!((report.p50_ms, report.p99_ms), (50.0, 99.0));
        assert!((report.accuracy - 0.85).abs() < 1e-9);

        let json = serde_json::to_value(&report).unwrap();
        let names = "offered answered in_time late refused failed samples_in_time \
                     correct_in_time_per_s p50_ms p95_ms p99_ms paths simulated seconds accuracy";
        for name in names.split_whitespace() {
            assert!(json.get(name).is_some(), "{name}");
        }
        for name in ["answered", "in_time", "samples"] {
            assert!(json["paths"]["table@cpu"].get(name).is_some(), "{name}");
        }
    }
}
