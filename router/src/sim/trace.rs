//! The queries of a simulation, fixed before it begins.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{PathSet, Priority, Time};

use super::{Arrivals, Sizes, SpecError, arrivals::MAX_TRACE};

/// One query to come.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TraceQuery {
    /// When it arrives.
    pub arrival: Time,
    /// How many samples it holds; 1 or more.
    pub samples: u32,
    /// Its time budget.
    pub sla: Duration,
    /// The least accuracy it accepts; 0 for any.
    pub min_quality: f64,
    /// Its priority class.
    pub priority: Priority,
    /// The paths that can run it.
    pub paths: PathSet,
}

/// When a generated trace ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Until {
    /// After this many queries.
    Queries(usize),
    /// With the last arrival within this many seconds.
    Seconds(f64),
}

/// Queries in order of arrival. The same trace is given to every policy that is compared.
#[derive(Debug, Clone, PartialEq)]
pub struct Trace {
    queries: Vec<TraceQuery>,
    seconds: f64,
}

impl Trace {
    /// Draws a trace: same arguments, same trace.
    ///
    /// # Errors
    ///
    /// [`SpecError`] if it would hold no query, or more than ten million.
    pub fn generate(
        arrivals: &Arrivals,
        sizes: &Sizes,
        until: Until,
        sla: Duration,
        seed: u64,
    ) -> Result<Self, SpecError> {
        let (count, end) = match until {
            Until::Queries(count) => (count, Time::MAX),
            Until::Seconds(seconds) => (MAX_TRACE + 1, Time::from_secs_f64(seconds)),
        };
        let moments = arrivals.times(seed).take(count.min(MAX_TRACE + 1));
        let query = |(arrival, samples)| TraceQuery {
            arrival,
            samples,
            sla,
            min_quality: 0.0,
            priority: Priority::default(),
            paths: PathSet::ALL,
        };
        let queries: Vec<_> = moments
            .take_while(|&arrival| arrival <= end)
            .zip(sizes.samples(seed))
            .map(query)
            .collect();
        match until {
            Until::Seconds(seconds) => Self::checked(queries, Some(seconds)),
            Until::Queries(_) => Self::checked(queries, None),
        }
    }

    /// A trace of these queries, which are sorted by arrival.
    ///
    /// # Errors
    ///
    /// [`SpecError`] if there is none or more than ten million, if arrivals are out of order, or if
    /// a query has no samples.
    pub fn new(queries: Vec<TraceQuery>) -> Result<Self, SpecError> {
        Self::checked(queries, None)
    }

    fn checked(queries: Vec<TraceQuery>, seconds: Option<f64>) -> Result<Self, SpecError> {
        let Some(last) = queries.last() else { return Err(SpecError::Empty { what: "trace" }) };
        if queries.len() > MAX_TRACE {
            return Err(SpecError::Value {
                what: "number of queries",
                value: queries.len().to_string(),
                must: "be at most 10,000,000",
            });
        }
        let sorted = queries.windows(2).all(|pair| pair[0].arrival <= pair[1].arrival);
        let sized = queries.iter().all(|query| (1..=crate::MAX_SAMPLES).contains(&query.samples));
        let floors = queries.iter().all(|query| (0.0..=1.0).contains(&query.min_quality));
        if !(sorted && sized && floors) {
            return Err(SpecError::Value {
                what: "trace",
                value: format!("{} queries", queries.len()),
                must: "be in order of arrival, with 1 to 1048576 samples and floors in [0, 1]",
            });
        }
        // A trace of one query at the epoch lasts no time; rates over it need some.
        let seconds = seconds.unwrap_or(last.arrival.as_secs_f64()).max(1e-3);
        Ok(Self { queries, seconds })
    }

    /// The queries, in order of arrival.
    pub fn queries(&self) -> &[TraceQuery] {
        &self.queries
    }

    /// For how long queries are offered: what rates in reports are taken over.
    pub fn seconds(&self) -> f64 {
        self.seconds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLA: Duration = Duration::from_millis(10);

    #[test]
    fn a_trace_ends_by_count_or_by_time() {
        let (arrivals, sizes) = (Arrivals::Fixed { rate: 100.0 }, Sizes::Fixed(3));
        let generate = |until| Trace::generate(&arrivals, &sizes, until, SLA, 1);
        let counted = generate(Until::Queries(50)).unwrap();
        assert_eq!((counted.queries().len(), counted.seconds()), (50, 0.5));
        let timed = generate(Until::Seconds(2.001)).unwrap();
        assert_eq!((timed.queries().len(), timed.seconds()), (200, 2.001));
        assert!(generate(Until::Queries(0)).is_err());
        assert!(generate(Until::Seconds(1e9)).is_err(), "too many queries");
    }

    #[test]
    fn a_trace_out_of_order_is_refused() {
        let query = |millis, samples| TraceQuery {
            arrival: Time::from_millis(millis),
            samples,
            sla: SLA,
            min_quality: 0.0,
            priority: Priority::Normal,
            paths: PathSet::ALL,
        };
        assert!(Trace::new(vec![query(2, 1), query(1, 1)]).is_err());
        assert!(Trace::new(vec![query(1, 1), query(2, 0)]).is_err());
        assert!(Trace::new(vec![query(1, 1), query(2, 1)]).is_ok());
    }
}
