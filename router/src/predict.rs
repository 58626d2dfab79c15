//! When a query would be done on a path.

use crate::{DeviceId, Time, backlog::Free, correction::PATH_RATE};

/// Up to this many batches waiting on a device, starts are found exactly.
pub(crate) const FEW_BATCHES: usize = 12;

/// What one device looks like to a query with a given deadline.
///
/// Computed once per device and decision, then shared by the predictions of its paths.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DeviceView {
    pub(crate) device: DeviceId,
    /// Until a lane is free of running and queued work with the same or an earlier deadline.
    pub(crate) wait_ns: f64,
    /// Whether nothing queued has a later deadline.
    pub(crate) in_order: bool,
    /// How long queries with later deadlines can be held up without breaking a promise.
    pub(crate) slack_behind_ns: f64,
    /// The batches that are planned ahead.
    pub(crate) ahead: Ahead,
    /// While those are few and nothing queued has a later deadline: when each lane is done with them, sorted.
    pub(crate) free: Option<Free>,
}

/// The batches planned on a device: all of them while they are few, their sum otherwise.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ahead {
    pub(crate) work_ns: f64,
    /// `None` when there are more than [`FEW_BATCHES`].
    pub(crate) few: Option<usize>,
    /// Lane time of each batch, and the deadline that it begins with.
    pub(crate) batches: [(f64, Time); FEW_BATCHES],
}

impl Ahead {
    pub(crate) fn of_work(work_ns: f64) -> Self {
        Self { work_ns, few: None, batches: [(0.0, Time::ZERO); FEW_BATCHES] }
    }

    /// Lane times of the batches that begin with a deadline before `limit`; of all, without one.
    pub(crate) fn before(&self, limit: Option<Time>) -> impl Iterator<Item = f64> {
        let batches = self.batches[..self.few.unwrap_or(0)].iter();
        let counts = move |deadline| limit.is_none_or(|limit| deadline < limit);
        batches.filter(move |(_, deadline)| counts(*deadline)).map(|&(ns, _)| ns)
    }
}

/// A predicted answer, relative to the moment it was predicted at. All in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prediction {
    /// Until a worker takes it up.
    pub(crate) wait_ns: f64,
    /// From there until the batch that it joins is done, on average.
    pub(crate) service_ns: f64,
    /// Lane time that it adds: the growth of the batch that it joins.
    pub(crate) cost_ns: f64,
    /// What to add to the average finish for the confidence that the configuration asks for.
    pub(crate) allowance_ns: f64,
    /// How long queries that it overtakes can be held up.
    pub(crate) slack_behind_ns: f64,
    /// How many parts the query runs in.
    pub(crate) parts: u32,
}

/// What a path would do with a query.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outlook {
    /// When the query would be done there as a whole.
    pub(crate) whole: Prediction,
    /// What it would be among others.
    pub(crate) among: Among,
}

/// A query in a batch with others of its path, nanoseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Among {
    /// Its part of the lane time of a batch of the usual size, or all of it if it is larger itself.
    pub(crate) share_ns: f64,
    /// The lane time of that batch.
    pub(crate) batch_ns: f64,
    /// By how much longer than the query alone a full batch takes that it begins; 0 if it joins one.
    pub(crate) room_ns: f64,
}

impl Outlook {
    /// Before the first query.
    pub(crate) const NONE: Self = Self {
        whole: Prediction {
            wait_ns: 0.0,
            service_ns: 0.0,
            cost_ns: 0.0,
            allowance_ns: 0.0,
            slack_behind_ns: f64::INFINITY,
            parts: 1,
        },
        among: Among { share_ns: 0.0, batch_ns: 0.0, room_ns: 0.0 },
    };
}

impl Prediction {
    /// When it is done on average.
    pub fn finish(&self, now: Time) -> Time {
        now.plus_nanos(self.wait_ns + self.service_ns)
    }

    /// When it is done with the configured confidence.
    pub fn upper_finish(&self, now: Time) -> Time {
        now.plus_nanos(self.wait_ns + self.service_ns + self.allowance_ns)
    }

    pub(crate) fn finish_ns(&self) -> f64 {
        self.wait_ns + self.service_ns
    }

    pub(crate) fn upper_ns(&self) -> f64 {
        self.finish_ns() + self.allowance_ns
    }

    /// Probability that it is done within `budget_ns`, under errors with exponential tails whose
    /// 99th percentile is the allowance: ½ at the expected finish, 0.99 at the upper one.
    ///
    /// Exponential tails are heavier than those of a sum of many batches; the error is then on
    /// the careful side.
    #[inline(never)]
    pub(crate) fn chance(&self, budget_ns: f64) -> f64 {
        1.0 - tail(self.spare(budget_ns))
    }

    /// What is left of the budget at the expected finish, in allowances.
    pub(crate) fn spare(&self, budget_ns: f64) -> f64 {
        (budget_ns - self.finish_ns()) / self.allowance_ns.max(1.0)
    }
}

/// The probability that a query is late which has so many allowances to spare.
pub(crate) fn tail(spare: f64) -> f64 {
    const LN_50: f64 = 3.912_023_005_428_146;
    if spare.abs() > 8.0 {
        // The tail is below 1e-14.
        return if spare > 0.0 { 0.0 } else { 1.0 };
    }
    let tail = 0.5 * (-LN_50 * spare.abs()).exp();
    if spare >= 0.0 { tail } else { 1.0 - tail }
}

/// The allowance for a batch of `service_ns` that starts after `wait_ns` of other batches.
///
/// Errors of separate batches are independent, so their squares add: a wait of `k` batches of
/// `batch_ns` has `√k` times the error of one. The error of the factor that all of them are
/// corrected with does not average out: an exponentially weighted average of rate `r` has
/// `r/(2 - r)` of the variance of one observation, and that share of the whole wait is uncertain.
pub(crate) fn allowance(service_ns: f64, wait_ns: f64, batch_ns: f64, margin: f64) -> f64 {
    allowance_after(service_ns, wait_square(wait_ns, batch_ns), margin)
}

/// What a wait adds to the square of a service time in [`allowance`].
pub(crate) fn wait_square(wait_ns: f64, batch_ns: f64) -> f64 {
    const SHARED: f64 = PATH_RATE / (2.0 - PATH_RATE);
    wait_ns * (batch_ns + SHARED * wait_ns)
}

/// [`allowance`] after a wait of this [square](wait_square).
pub(crate) fn allowance_after(service_ns: f64, wait_square: f64, margin: f64) -> f64 {
    let square = service_ns * service_ns + wait_square;
    (margin - 1.0) * square.sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chance_is_a_half_at_the_expected_finish_and_99_percent_at_the_upper_one() {
        let prediction = Prediction {
            wait_ns: 600.0,
            service_ns: 400.0,
            cost_ns: 400.0,
            allowance_ns: 100.0,
            slack_behind_ns: f64::INFINITY,
            parts: 1,
        };
        assert!((prediction.chance(1_000.0) - 0.5).abs() < 1e-12);
        assert!((prediction.chance(1_100.0) - 0.99).abs() < 1e-12);
        assert!((prediction.chance(900.0) - 0.01).abs() < 1e-12);
        assert!(prediction.chance(1_200.0) > 0.9997);
        assert_eq!(prediction.upper_finish(Time::ZERO), Time::from_nanos(1_100));
    }

    #[test]
    fn a_long_wait_is_relatively_more_certain_than_a_short_one() {
        let one = allowance(100.0, 0.0, 100.0, 1.2);
        assert!((one - 20.0).abs() < 1e-9);
        let relative = |wait_ns: f64| allowance(100.0, wait_ns, 100.0, 1.2) / (100.0 + wait_ns);
        assert!(relative(1_500.0) < 0.3 * relative(0.0));
        // What all batches have in common stays: 20 % of √(1/47).
        assert!((relative(1e9) - 0.2 / 47f64.sqrt()).abs() < 1e-4);
    }
}
