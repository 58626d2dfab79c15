//! What is searched for, and among what.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{
    PathProfile, PolicyName,
    sim::{Report, SimConfig, Trace},
};

use super::MappingError;

/// The most candidates of one search.
pub const MAX_CANDIDATES: usize = 512;

/// A path that may be kept resident, in one of the ways in which it could be.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// Its speed, accuracy, bytes and batch limit. Candidates of one name are one path in several
    /// ways (batch limits, cache sizes), at most one of which is chosen.
    pub profile: PathProfile,
    /// Bytes of each worker's cache under which the path was measured; `None` where it has none
    /// whatever the setting. The size is one for all paths of a server, so that candidates with
    /// different ones exclude one another.
    pub cache_bytes: Option<u64>,
}

/// What is maximised or minimised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Objective {
    /// Correct predictions in time per second, the most.
    #[default]
    SlaGoodput,
    /// Samples answered in time per second, the most.
    Throughput,
    /// Mean accuracy of the samples that are answered, the most.
    Accuracy,
    /// Bytes, the fewest.
    Bytes,
}

impl fmt::Display for Objective {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::SlaGoodput => "sla_goodput",
            Self::Throughput => "throughput",
            Self::Accuracy => "accuracy",
            Self::Bytes => "bytes",
        })
    }
}

impl FromStr for Objective {
    type Err = MappingError;

    fn from_str(text: &str) -> Result<Self, MappingError> {
        [Self::SlaGoodput, Self::Throughput, Self::Accuracy, Self::Bytes]
            .into_iter()
            .find(|objective| objective.to_string() == text)
            .ok_or_else(|| MappingError::Value {
                key: "objective",
                value: text.to_owned(),
                must: "be `sla_goodput`, `throughput`, `accuracy` or `bytes`",
            })
    }
}

/// What a set must keep to; `None` is no constraint.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Constraints {
    /// The least accuracy of every path, in `[0, 1]`.
    pub min_quality: Option<f64>,
    /// The least mean accuracy of the samples that are answered, in `[0, 1]`.
    pub min_accuracy: Option<f64>,
    /// The least share of the offered samples that are answered in time, in `[0, 1]`.
    pub min_in_time: Option<f64>,
    /// The most that the 99th percentile of latency may be, milliseconds, over answered queries.
    pub max_p99_ms: Option<f64>,
    /// The most bytes of all paths together.
    pub max_bytes: Option<u64>,
}

/// A mapping to be found.
#[derive(Debug, Clone)]
pub struct Problem {
    /// What may be kept resident.
    pub candidates: Vec<Candidate>,
    /// The most bytes of all paths on a device, by its name. A device that is not named has no limit.
    pub budgets: BTreeMap<String, u64>,
    /// What a set must keep to.
    pub constraints: Constraints,
    /// What ranks sets.
    pub objective: Objective,
    /// The policy that routes among the paths of a set; not a `static` one.
    pub policy: PolicyName,
    /// The load.
    pub trace: Trace,
    /// How the machine behaves.
    pub sim: SimConfig,
}

/// What a set of paths came to in simulation.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Measures {
    /// Correct predictions in time per second.
    pub correct_in_time_per_s: f64,
    /// Samples answered in time per second.
    pub samples_in_time_per_s: f64,
    /// Share of the offered samples that were answered in time.
    pub in_time: f64,
    /// Mean accuracy of the samples answered; 0 if none was.
    pub accuracy: f64,
    /// Median latency, milliseconds; infinite if nothing was answered.
    pub p50_ms: f64,
    /// 99th percentile of latency, milliseconds; infinite if nothing was answered.
    pub p99_ms: f64,
    /// Bytes of all paths.
    pub bytes: u64,
}

impl Measures {
    /// The measures of a set of `bytes` bytes that came to `report`.
    pub fn of(report: &Report, bytes: u64) -> Self {
        let latency = |ms: f64| if report.answered == 0 { f64::INFINITY } else { ms };
        Self {
            correct_in_time_per_s: report.correct_in_time_per_s,
            samples_in_time_per_s: report.samples_in_time as f64 / report.seconds,
            in_time: report.samples_in_time as f64 / report.samples_offered.max(1) as f64,
            accuracy: report.accuracy,
            p50_ms: latency(report.p50_ms),
            p99_ms: latency(report.p99_ms),
            bytes,
        }
    }

    /// The figure that an objective ranks by.
    pub fn of_objective(&self, objective: Objective) -> f64 {
        match objective {
            Objective::SlaGoodput => self.correct_in_time_per_s,
            Objective::Throughput => self.samples_in_time_per_s,
            Objective::Accuracy => self.accuracy,
            Objective::Bytes => self.bytes as f64,
        }
    }
}

/// A set of candidates and what it came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// Places in [`Problem::candidates`], in order.
    pub candidates: Vec<usize>,
    /// What it came to.
    pub measures: Measures,
}
