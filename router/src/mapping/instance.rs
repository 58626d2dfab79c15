//! A problem that was checked, with what is asked of it over and over worked out once.

use std::collections::BTreeSet;

use crate::{
    MAX_PATHS, PolicyName, Profiles,
    sim::{Law, Relaxation, Ways},
};

use super::{Constraints, MAX_CANDIDATES, MappingError, Measures, Problem, goal::ROUNDING};

/// A checked problem.
pub(super) struct Instance<'p> {
    pub(super) problem: &'p Problem,
    /// Samples offered per second.
    pub(super) offered_per_s: f64,
    pub(super) devices: Vec<String>,
    pub(super) lanes: Vec<u32>,
    /// The device of every candidate.
    pub(super) device_of: Vec<usize>,
    pub(super) relaxation: Relaxation,
    pub(super) ways: Vec<Ways>,
}

/// What a search keeps to: the problem's own limits, or some of them.
#[derive(Debug, Clone)]
pub(super) struct Limits {
    pub(super) constraints: Constraints,
    /// By device.
    pub(super) budgets: Vec<Option<u64>>,
    /// Candidates that may be chosen.
    pub(super) allowed: Vec<bool>,
}

impl<'p> Instance<'p> {
    pub(super) fn new(problem: &'p Problem) -> Result<Self, MappingError> {
        let candidates = &problem.candidates;
        if candidates.is_empty() {
            return Err(MappingError::Empty);
        }
        if candidates.len() > MAX_CANDIDATES {
            return Err(MappingError::TooMany { candidates: candidates.len() });
        }
        check_constraints(&problem.constraints)?;
        if let PolicyName::Static(_) = &problem.policy {
            let (value, must) =
                (problem.policy.to_string(), "be a policy that chooses among paths");
            return Err(MappingError::Value { key: "policy", value, must });
        }
        let (mut devices, mut lanes) = (Vec::new(), Vec::new());
        let mut device_of = Vec::with_capacity(candidates.len());
        let mut seen = BTreeSet::new();
        for candidate in candidates {
            let profile = &candidate.profile;
            Profiles::new(vec![profile.clone()])?;
            if !seen.insert((&profile.name, candidate.cache_bytes, profile.max_batch)) {
                return Err(MappingError::Duplicate { path: profile.name.clone() });
            }
            let known = devices.iter().position(|device| *device == profile.device);
            let at = known.unwrap_or_else(|| {
                devices.push(profile.device.clone());
                lanes.push(profile.lanes);
                devices.len() - 1
            });
            if lanes[at] != profile.lanes {
                return Err(crate::ProfileError::LanesDiffer {
                    path: profile.name.clone(),
                    device: profile.device.clone(),
                    lanes: profile.lanes,
                    other: lanes[at],
                }
                .into());
            }
            device_of.push(at);
        }
        if let Some(device) = problem.budgets.keys().find(|device| !devices.contains(device)) {
            let known: Vec<String> = devices.iter().map(|device| format!("`{device}`")).collect();
            let (device, known) = (device.clone(), known.join(", "));
            return Err(MappingError::Device { device, known });
        }
        let relaxation = Relaxation::new(&problem.trace);
        let ways = candidates
            .iter()
            .map(|candidate| relaxation.ways(&candidate.profile, None, &problem.sim, Law::Luckiest))
            .collect::<Result<Vec<_>, _>>()?;
        let samples: f64 =
            problem.trace.queries().iter().map(|query| f64::from(query.samples)).sum();
        let offered_per_s = samples / problem.trace.seconds();
        Ok(Self { problem, offered_per_s, devices, lanes, device_of, relaxation, ways })
    }

    /// The limits that the problem states.
    pub(super) fn limits(&self) -> Limits {
        let budget = |device: &String| self.problem.budgets.get(device).copied();
        Limits {
            constraints: self.problem.constraints,
            budgets: self.devices.iter().map(budget).collect(),
            allowed: vec![true; self.problem.candidates.len()],
        }
    }

    pub(super) fn bytes(&self, set: &[u16]) -> u64 {
        set.iter().fold(0, |sum: u64, &at| sum.saturating_add(self.bytes_of(at)))
    }

    pub(super) fn device_bytes(&self, set: &[u16], device: usize) -> u64 {
        set.iter()
            .filter(|&&at| self.device_of[usize::from(at)] == device)
            .fold(0, |sum: u64, &at| sum.saturating_add(self.bytes_of(at)))
    }

    pub(super) fn bytes_of(&self, candidate: u16) -> u64 {
        self.problem.candidates[usize::from(candidate)].profile.bytes
    }

    pub(super) fn accuracies<'s>(&'s self, set: &'s [u16]) -> impl Iterator<Item = f64> + 's {
        set.iter().map(|&at| self.problem.candidates[usize::from(at)].profile.accuracy)
    }

    pub(super) fn names(&self, set: &[u16]) -> Vec<String> {
        let name = |&at: &u16| self.problem.candidates[usize::from(at)].profile.name.clone();
        set.iter().map(name).collect()
    }

    /// Whether `candidate` may join `set`, whatever else joins: another path, of the same cache, and
    /// within the bytes. What may not join a set may not join a superset of it.
    pub(super) fn joins(&self, set: &[u16], candidate: u16, limits: &Limits) -> bool {
        let at = usize::from(candidate);
        let one = &self.problem.candidates[at];
        let floor = limits.constraints.min_quality.unwrap_or(0.0);
        if !limits.allowed[at] || set.len() >= MAX_PATHS || one.profile.accuracy < floor {
            return false;
        }
        let beside = |&other: &u16| {
            let other = &self.problem.candidates[usize::from(other)];
            let caches = (one.cache_bytes, other.cache_bytes);
            one.profile.name != other.profile.name
                && !matches!(caches, (Some(one), Some(other)) if one != other)
        };
        if !set.iter().all(beside) {
            return false;
        }
        let (device, more) = (self.device_of[at], one.profile.bytes);
        let fits = |held: u64, limit: Option<u64>| {
            limit.is_none_or(|limit| held.saturating_add(more) <= limit)
        };
        fits(self.device_bytes(set, device), limits.budgets[device])
            && fits(self.bytes(set), limits.constraints.max_bytes)
    }

    /// How many sets there may be at most, the empty one left out: the product over paths of the ways
    /// to have each, or not.
    pub(super) fn sets(&self, limits: &Limits) -> f64 {
        let mut ways: std::collections::BTreeMap<&str, f64> = std::collections::BTreeMap::new();
        for at in 0..self.problem.candidates.len() {
            if self.joins(&[], at as u16, limits) {
                *ways.entry(&self.problem.candidates[at].profile.name).or_insert(1.0) += 1.0;
            }
        }
        ways.values().product::<f64>() - 1.0
    }
}

impl Limits {
    /// Whether what a set came to is allowed. Bytes are limited where sets are made.
    pub(super) fn met_by(&self, measures: &Measures) -> bool {
        let Constraints { min_accuracy, min_in_time, max_p99_ms, .. } = self.constraints;
        min_accuracy.is_none_or(|least| measures.accuracy + ROUNDING >= least)
            && min_in_time.is_none_or(|least| measures.in_time >= least)
            && max_p99_ms.is_none_or(|most| measures.p99_ms <= most)
    }
}

fn check_constraints(constraints: &Constraints) -> Result<(), MappingError> {
    let shares = [
        ("min_quality", constraints.min_quality),
        ("min_accuracy", constraints.min_accuracy),
        ("min_in_time", constraints.min_in_time),
    ];
    for (key, value) in shares {
        if let Some(value) = value
            && !(0.0..=1.0).contains(&value)
        {
            let (value, must) = (value.to_string(), "lie in [0, 1]");
            return Err(MappingError::Value { key, value, must });
        }
    }
    if let Some(value) = constraints.max_p99_ms
        && !(value > 0.0 && value.is_finite())
    {
        let (value, must) = (value.to_string(), "be above 0");
        return Err(MappingError::Value { key: "max_p99_ms", value, must });
    }
    Ok(())
}
