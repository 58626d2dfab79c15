//! What a policy answers.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{PathId, Time, lateness::Spare};

/// The answer to one query: a path, or a refusal. Nothing else happens to a query at admission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Answer it on a path.
    Admit(Admission),
    /// Do not answer it.
    Refuse(Refusal),
}

impl Decision {
    /// The path, if the query was admitted.
    pub fn path(&self) -> Option<PathId> {
        match self {
            Self::Admit(admission) => Some(admission.path),
            Self::Refuse(_) => None,
        }
    }
}

/// A query's path, and what it was predicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admission {
    /// The path that answers.
    pub path: PathId,
    /// How many parts it runs in, on as many lanes of the path's device: 1 is whole.
    pub parts: u32,
    /// When it is expected to be done.
    pub predicted_finish: Time,
    /// When it is done with the confidence that the configuration asks for.
    pub upper_finish: Time,
    /// Whether a more accurate path that can run it was up and was not taken.
    pub downgraded: bool,
    /// Why this path.
    pub reason: Reason,
}

impl Admission {
    /// What it has to spare before `deadline`.
    pub(crate) fn spare(&self, deadline: Time) -> Spare {
        let allowance_ns = self.upper_finish.nanos_from(self.predicted_finish).max(1.0);
        Spare::new(deadline.nanos_from(self.predicted_finish) / allowance_ns)
    }
}

/// Why a path was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Reason {
    /// The policy knows one path.
    Only,
    /// It is expected to finish first.
    Fastest,
    /// It is the most accurate that meets the deadline.
    MostAccurate,
    /// None meets the deadline; this one comes closest.
    NoneInTime,
    /// More accurate paths would be late.
    Deadline,
    /// A more accurate path would be in time, but its device time is worth more to other queries.
    Price,
    /// No path is sure to be in time; this one may be, and the device has nothing better to do.
    Chance,
}

impl Reason {
    /// Every reason. Logs store places in this list: append, never reorder.
    pub const ALL: [Self; 7] = [
        Self::Only,
        Self::Fastest,
        Self::MostAccurate,
        Self::NoneInTime,
        Self::Deadline,
        Self::Price,
        Self::Chance,
    ];

    /// Its place in [`Reason::ALL`].
    pub const fn code(self) -> u8 {
        match self {
            Self::Only => 0,
            Self::Fastest => 1,
            Self::MostAccurate => 2,
            Self::NoneInTime => 3,
            Self::Deadline => 4,
            Self::Price => 5,
            Self::Chance => 6,
        }
    }
}

/// A refused query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub reason: RefuseReason,
    /// When to come back: the earliest moment at which the same query might be admitted.
    pub retry_after: Duration,
}

/// Why a query was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum RefuseReason {
    /// Every path that it accepts would be late.
    NoPathInTime,
    /// No path that is up has the accuracy that it demands.
    NoPathMeetsFloor,
    /// As many queries wait as the configuration allows.
    QueueFull,
    /// Every path that can run it is down.
    NoPathUp,
    /// No path can run it, up or not.
    NoPathTakesIt,
}

impl RefuseReason {
    /// Every reason. Logs store places in this list: append, never reorder.
    pub const ALL: [Self; 5] = [
        Self::NoPathInTime,
        Self::NoPathMeetsFloor,
        Self::QueueFull,
        Self::NoPathUp,
        Self::NoPathTakesIt,
    ];

    /// Its place in [`RefuseReason::ALL`].
    pub const fn code(self) -> u8 {
        match self {
            Self::NoPathInTime => 0,
            Self::NoPathMeetsFloor => 1,
            Self::QueueFull => 2,
            Self::NoPathUp => 3,
            Self::NoPathTakesIt => 4,
        }
    }
}

impl fmt::Display for RefuseReason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::NoPathInTime => "no path can answer in time",
            Self::NoPathMeetsFloor => "no path that is up has the accuracy demanded",
            Self::QueueFull => "the queue is full",
            Self::NoPathUp => "no path is up",
            Self::NoPathTakesIt => "no path can run it",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_the_place_in_the_list() {
        for (at, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(reason.code()), at);
        }
        for (at, reason) in RefuseReason::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(reason.code()), at);
        }
    }
}
