//! A query: samples to score together, and by when.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{PathSet, Time};

/// The most samples one query may hold. Far above real traffic; it keeps sums inside `u32`.
pub const MAX_SAMPLES: u32 = 1 << 20;

/// Names a query between admission and answer. The caller makes it unique.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct QueryId(pub u64);

impl fmt::Display for QueryId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// How much of its time budget a query may spend behind others when the machine is full.
///
/// Priority acts at admission and never reorders a queue: under overload the wait settles at
/// the level where the highest class is still admitted, and lower classes, which may not wait
/// as long, are refused first. A query that need not wait is admitted whatever its class.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// Refused first.
    Low,
    /// The default.
    #[default]
    Normal,
    /// Refused last.
    High,
}

/// What makes a query unusable.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
    /// Nothing to score.
    #[error("a query holds no samples; send at least 1")]
    NoSamples,
    /// More than [`MAX_SAMPLES`].
    #[error("a query of {samples} samples exceeds the limit of {MAX_SAMPLES}; split it")]
    TooManySamples {
        /// What the query held.
        samples: u64,
    },
    /// An accuracy outside `[0, 1]`.
    #[error("`min_quality` is {value}; it is an accuracy and lies in [0, 1]")]
    Floor {
        /// What was given.
        value: f64,
    },
}

/// `samples` samples to score together by `deadline`.
///
/// Holding one means that it has between 1 and [`MAX_SAMPLES`] samples and a floor in `[0, 1]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Query {
    id: QueryId,
    samples: u32,
    arrival: Time,
    deadline: Time,
    min_quality: f64,
    priority: Priority,
    paths: PathSet,
}

impl Query {
    /// A query that arrived at `arrival` and is worth nothing after `arrival + sla`.
    ///
    /// # Errors
    ///
    /// [`QueryError`] if `samples` is 0 or above [`MAX_SAMPLES`].
    pub fn new(
        id: QueryId,
        samples: usize,
        arrival: Time,
        sla: Duration,
    ) -> Result<Self, QueryError> {
        if samples == 0 {
            return Err(QueryError::NoSamples);
        }
        match u32::try_from(samples) {
            Ok(samples) if samples <= MAX_SAMPLES => Ok(Self {
                id,
                samples,
                arrival,
                deadline: arrival + sla,
                min_quality: 0.0,
                priority: Priority::default(),
                paths: PathSet::ALL,
            }),
            _ => Err(QueryError::TooManySamples { samples: samples as u64 }),
        }
    }

    /// Demands a path whose accuracy is at least `accuracy`.
    ///
    /// # Errors
    ///
    /// [`QueryError::Floor`] if `accuracy` is outside `[0, 1]`.
    pub fn with_min_quality(mut self, accuracy: f64) -> Result<Self, QueryError> {
        if !(0.0..=1.0).contains(&accuracy) {
            return Err(QueryError::Floor { value: accuracy });
        }
        self.min_quality = accuracy;
        Ok(self)
    }

    /// Sets the priority class.
    #[must_use]
    pub fn with_priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// Says which paths can run it, where not all can.
    #[must_use]
    pub fn with_paths(mut self, paths: PathSet) -> Self {
        self.paths = paths;
        self
    }

    /// The caller's name for it.
    pub fn id(&self) -> QueryId {
        self.id
    }

    /// How many samples it scores, from 1 to [`MAX_SAMPLES`].
    pub fn samples(&self) -> u32 {
        self.samples
    }

    /// When it arrived (or was scheduled to be sent, for an open-loop load).
    pub fn arrival(&self) -> Time {
        self.arrival
    }

    /// The last moment at which an answer counts.
    pub fn deadline(&self) -> Time {
        self.deadline
    }

    /// Its whole time budget: deadline minus arrival.
    pub fn sla(&self) -> Duration {
        self.deadline.since(self.arrival)
    }

    /// The least accuracy it accepts; 0 when it accepts any.
    pub fn min_quality(&self) -> f64 {
        self.min_quality
    }

    /// Its priority class.
    pub fn priority(&self) -> Priority {
        self.priority
    }

    /// The paths that can run it.
    pub fn paths(&self) -> PathSet {
        self.paths
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_without_samples_or_with_too_many_is_refused() {
        let make = |samples| Query::new(QueryId(1), samples, Time::ZERO, Duration::from_millis(1));
        assert_eq!(make(0), Err(QueryError::NoSamples));
        assert!(make(1).is_ok());
        assert!(make(MAX_SAMPLES as usize).is_ok());
        let above = MAX_SAMPLES as usize + 1;
        assert_eq!(make(above), Err(QueryError::TooManySamples { samples: above as u64 }));
    }

    #[test]
    fn a_floor_is_an_accuracy() {
        let query = Query::new(QueryId(1), 1, Time::ZERO, Duration::from_millis(1)).unwrap();
        assert_eq!(query.with_min_quality(0.79).unwrap().min_quality(), 0.79);
        assert!(query.with_min_quality(1.01).is_err());
        assert!(query.with_min_quality(f64::NAN).is_err());
    }
}
