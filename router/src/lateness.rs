//! How often queries are late that were predicted to be in time.
//!
//! A prediction's chance counts the errors of service times. Others it cannot know: a batch is joined
//! until its first query has no more than its allowance to spare, whatever that query had when it was
//! admitted, and a machine may pause. So what becomes of queries is counted by how much they had to
//! spare, and the share that is late beyond the prediction is taken from the chance of those to come.

use std::time::Duration;

use crate::{Time, predict::tail};

/// Where classes of queries end, by what they had to spare, in allowances. Those with less than one are tried because
/// nothing better can be done, and learn nothing.
const CLASSES: [f64; 6] = [1.5, 2.0, 3.0, 5.0, 10.0, f64::INFINITY];
/// Queries, none of them late, that a class is taken to have seen: more, and what is seldom late would not be learnt; fewer,
/// and one that is late by accident would keep all like it away.
const PRIOR: f64 = 256.0;
/// Time constant, in seconds, in which what was seen is forgotten, so that what is avoided because it was late is tried again.
const MEMORY_S: f64 = 20.0;
const REST: Duration = Duration::from_secs(1);

/// What a query had to spare when it was admitted: from its expected finish to its deadline, over the
/// allowance for errors, in hundredths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spare(i16);

impl Spare {
    /// Of so many allowances; beyond ±327 it is the next that there is.
    pub fn new(allowances: f64) -> Self {
        Self((100.0 * allowances) as i16)
    }

    fn allowances(self) -> f64 {
        f64::from(self.0) / 100.0
    }
}

/// What became of the queries of one device. Not of one path: a pause makes all of them late, and a path that was
/// not used meanwhile is no better.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lateness {
    classes: [Class; CLASSES.len()],
    last: Time,
}

#[derive(Debug, Clone, Copy, Default)]
struct Class {
    queries: f64,
    /// Those late, less those that were expected to be.
    unexpected: f64,
    /// Share of queries that are late beyond what was expected.
    excess: f64,
}

impl Class {
    fn update(&mut self) {
        self.excess = (self.unexpected / (self.queries + PRIOR)).clamp(0.0, 1.0);
    }
}

fn class_of(allowances: f64) -> Option<usize> {
    (allowances >= 1.0)
        .then(|| CLASSES.iter().position(|&end| allowances < end).unwrap_or(CLASSES.len() - 1))
}

impl Lateness {
    /// The share of queries with so many allowances to spare that are late beyond the prediction.
    pub(crate) fn excess(&self, allowances: f64) -> f64 {
        class_of(allowances).map_or(0.0, |at| self.classes[at].excess)
    }

    /// Learns what became of a query.
    pub(crate) fn observe(&mut self, spare: Spare, is_late: bool) {
        let allowances = spare.allowances();
        let Some(at) = class_of(allowances) else { return };
        let class = &mut self.classes[at];
        class.queries += 1.0;
        class.unexpected += f64::from(u8::from(is_late)) - tail(allowances);
        class.update();
    }

    /// Forgets, a second or more after it last did.
    pub(crate) fn rest(&mut self, now: Time) {
        let passed = now.since(self.last);
        if passed < REST {
            return;
        }
        let keep = (-passed.as_secs_f64() / MEMORY_S).exp();
        for class in &mut self.classes {
            class.queries *= keep;
            class.unexpected *= keep;
            class.update();
        }
        self.last = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_late_beyond_the_prediction_is_learnt_by_what_there_was_to_spare() {
        let mut lateness = Lateness::default();
        for at in 0..20_000 {
            // As predicted: 1 in 100. Nobody late was predicted of the other, and 1 in 50 is.
            lateness.observe(Spare::new(1.0), at % 100 == 0);
            lateness.observe(Spare::new(4.0), at % 50 == 0);
        }
        assert!(lateness.excess(1.2) < 1e-3, "{}", lateness.excess(1.2));
        assert!((lateness.excess(4.5) - 0.02).abs() < 1e-3, "{}", lateness.excess(4.5));
        assert_eq!(lateness.excess(1e3), 0.0);
    }

    #[test]
    fn what_was_seen_is_forgotten() {
        let mut lateness = Lateness::default();
        (0..1_000).for_each(|_| lateness.observe(Spare::new(20.0), true));
        assert!(lateness.excess(20.0) > 0.7);
        lateness.rest(Time::from_millis(900));
        assert!(lateness.excess(20.0) > 0.7);
        lateness.rest(Time::from_millis(200_000));
        assert!(lateness.excess(20.0) < 1e-3, "{}", lateness.excess(20.0));
    }

    #[test]
    fn few_queries_say_little() {
        let mut lateness = Lateness::default();
        assert_eq!(lateness.excess(2.5), 0.0);
        lateness.observe(Spare::new(30.0), true);
        assert!(lateness.excess(30.0) < 0.004);
        assert_eq!(Spare::new(f64::INFINITY), Spare::new(400.0));
        assert_eq!(class_of(f64::INFINITY), Some(CLASSES.len() - 1));
        lateness.observe(Spare::new(0.5), true);
        assert_eq!(lateness.excess(0.5), 0.0);
    }
}
