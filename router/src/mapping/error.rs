//! Why there is no mapping.

use std::fmt;

use crate::{ProfileError, sim::SimError};

use super::MAX_CANDIDATES;

/// Why a search has no result.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum MappingError {
    /// Nothing to choose from.
    #[error("there are no candidates; profile one path or more")]
    Empty,
    /// More than [`MAX_CANDIDATES`].
    #[error(
        "there are {candidates} candidates; {MAX_CANDIDATES} are the limit: name fewer paths, cache sizes or batch limits"
    )]
    TooMany {
        /// How many there were.
        candidates: usize,
    },
    /// Two candidates are the same path in the same way.
    #[error("path `{path}` appears twice with one cache size and one batch limit")]
    Duplicate {
        /// Its name.
        path: String,
    },
    /// A candidate's profile is wrong, or two disagree about a device.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// A budget for a device that no candidate is on.
    #[error(
        "there is a budget for `{device}`, but no candidate is on it; the candidates are on {known}"
    )]
    Device {
        /// The device.
        device: String,
        /// Every candidate's device, in backticks.
        known: String,
    },
    /// A value out of range.
    #[error("`{key}` is `{value}`; it must {must}")]
    Value {
        /// Which key.
        key: &'static str,
        /// What was given.
        value: String,
        /// What it must be.
        must: &'static str,
    },
    /// A set could not be simulated.
    #[error(transparent)]
    Simulation(#[from] SimError),
    /// No set meets the constraints.
    #[error(transparent)]
    Infeasible(#[from] Infeasible),
    /// The search was stopped before it found a set that meets the constraints, or that there is none.
    #[error(
        "stopped after {evaluations} simulations without a set that meets the constraints; allow more, or relax a constraint"
    )]
    Stopped {
        /// How many sets were simulated.
        evaluations: usize,
    },
}

/// A constraint, by the name of its key.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Constraint {
    /// [`min_quality`](super::Constraints::min_quality)
    MinQuality,
    /// [`min_accuracy`](super::Constraints::min_accuracy)
    MinAccuracy,
    /// [`min_in_time`](super::Constraints::min_in_time)
    MinInTime,
    /// [`max_p99_ms`](super::Constraints::max_p99_ms)
    MaxP99Ms,
    /// [`max_bytes`](super::Constraints::max_bytes)
    MaxBytes,
    /// The budget of a device.
    Budget(String),
}

impl fmt::Display for Constraint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MinQuality => formatter.write_str("min_quality"),
            Self::MinAccuracy => formatter.write_str("min_accuracy"),
            Self::MinInTime => formatter.write_str("min_in_time"),
            Self::MaxP99Ms => formatter.write_str("max_p99_ms"),
            Self::MaxBytes => formatter.write_str("max_bytes"),
            Self::Budget(device) => write!(formatter, "budget of {device}"),
        }
    }
}

/// A constraint that stands in the way.
#[derive(Debug, Clone, PartialEq)]
pub struct Binding {
    /// Which.
    pub constraint: Constraint,
    /// What was asked for, in the units of its key.
    pub wanted: f64,
    /// The nearest value that a set can meet.
    pub nearest: f64,
    /// Names of the paths of such a set.
    pub paths: Vec<String>,
}

impl fmt::Display for Binding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { constraint, wanted, nearest, paths } = self;
        let paths = paths.join(" + ");
        let unit = match constraint {
            Constraint::MaxP99Ms => " ms",
            Constraint::MaxBytes | Constraint::Budget(_) => " bytes",
            _ => "",
        };
        write!(
            formatter,
            "`{constraint}` = {wanted}{unit}, where {nearest}{unit} is the nearest ({paths})"
        )
    }
}

/// That no set of paths meets the constraints, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct Infeasible {
    /// The constraints that bind.
    pub bindings: Vec<Binding>,
    /// Whether relaxing any one binding to its nearest value makes the rest feasible. Otherwise each
    /// nearest value is what can be reached with all other constraints but the budgets dropped: more
    /// than one has to give.
    pub one_is_enough: bool,
    /// Whether every set was considered, so that the nearest values are the nearest of all.
    pub proved: bool,
}

impl fmt::Display for Infeasible {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("no set of paths meets the constraints")?;
        formatter.write_str(match (self.bindings.len(), self.one_is_enough) {
            (_, false) => "; no single one of them is to blame, each could be met alone up to: ",
            (1, true) => "; the binding one is ",
            (_, true) => "; relax one of ",
        })?;
        for (at, binding) in self.bindings.iter().enumerate() {
            let comma = if at == 0 { "" } else { "; " };
            write!(formatter, "{comma}{binding}")?;
        }
        if !self.proved {
            formatter.write_str(" (of the sets simulated; the search was stopped)")?;
        }
        Ok(())
    }
}

impl std::error::Error for Infeasible {}
