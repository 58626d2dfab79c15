//! The result of a measured load.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The result of a load. Its serialised names are stable, and shared with the simulator's report.
///
/// `offered = answered + refused + failed` and `answered = in_time + late`. Latencies are over
/// answered queries, late ones included, from the moment a query was due to its whole answer; they
/// are 0 when nothing was answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoadReport {
    /// Queries that were due.
    pub offered: u64,
    /// Queries that were given scores, in time or late.
    pub answered: u64,
    /// Queries answered within their budget.
    pub in_time: u64,
    /// Queries answered after it.
    pub late: u64,
    /// Queries that the server refused: overload, quality out of reach, not available.
    pub refused: u64,
    /// Queries that got neither scores nor a refusal: expired in a queue, an error, a broken
    /// connection, no answer, or this client saturated.
    pub failed: u64,
    /// Samples in queries answered in time.
    pub samples_in_time: u64,
    /// SLA-goodput: Σ samples × quality of the path over queries answered in time, per second.
    pub correct_in_time_per_s: f64,
    /// Median latency, milliseconds.
    pub p50_ms: f64,
    /// 95th percentile of latency, milliseconds.
    pub p95_ms: f64,
    /// 99th percentile of latency, milliseconds.
    pub p99_ms: f64,
    /// 99.9th percentile of latency, milliseconds.
    pub p999_ms: f64,
    /// What each path answered, of those that answered anything.
    pub paths: BTreeMap<String, PathLoad>,
    /// For how long queries were offered: what rates are taken over.
    pub seconds: f64,
    /// Of the failed, those whose deadline passed before the server ran them.
    pub expired: u64,
    /// Queries for which a better path was passed over because it would have been late.
    pub downgraded: u64,
    /// Samples in all queries offered.
    pub samples_offered: u64,
    /// Queries that were cut to the most samples that the server takes.
    pub clipped: u64,
    /// Mean quality of the samples answered in time, as the replies state it.
    pub accuracy: f64,
    /// Share of the samples answered in time whose label the score was right about (clicked at 0.5
    /// or more); `None` where labels are not known.
    pub observed_accuracy: Option<f64>,
    /// Refusals by code.
    pub refusals: BTreeMap<String, u64>,
    /// Failures by code, or by what this client saw: `client_saturated`, `connection`, `no_answer`,
    /// `bad_reply`.
    pub failures: BTreeMap<String, u64>,
    /// Median time from when a query was sent to its refusal, milliseconds; 0 when none was refused.
    pub refusal_p50_ms: f64,
    /// 99th percentile of the same.
    pub refusal_p99_ms: f64,
    /// Median of how late this client sent queries, milliseconds. It is part of the latencies.
    pub send_lag_p50_ms: f64,
    /// 99th percentile of the same. Large beside the SLA, the client was the bottleneck.
    pub send_lag_p99_ms: f64,
    /// Latency against the share of answered queries that were at most as slow; at most 200 points.
    pub latency_cdf: Vec<CdfPoint>,
    /// What became of the queries, by when they were due.
    pub windows: Vec<Window>,
}

/// What one path answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PathLoad {
    /// Queries answered.
    pub answered: u64,
    /// Of these, within their budget.
    pub in_time: u64,
    /// Samples in the latter.
    pub samples_in_time: u64,
    /// Expected accuracy, as the replies state it.
    pub quality: f64,
    /// Median latency, milliseconds.
    pub p50_ms: f64,
    /// 99th percentile of latency, milliseconds.
    pub p99_ms: f64,
}

/// A point of a cumulative distribution.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CdfPoint {
    /// Latency, milliseconds.
    pub ms: f64,
    /// Share of answered queries that were at most as slow.
    pub fraction: f64,
}

/// Queries that were due within 250 ms.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Window {
    /// Its start, seconds from the start of the load.
    pub start_s: f64,
    /// Queries answered in time.
    pub in_time: u64,
    /// Queries answered late.
    pub late: u64,
    /// Queries refused.
    pub refused: u64,
    /// Queries that failed.
    pub failed: u64,
    /// Queries answered, by path.
    pub paths: BTreeMap<String, u64>,
}
