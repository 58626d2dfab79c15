//! What ranks sets, in whole steps, so that the order is total and noise in the last bits is a tie.

use std::cmp::Reverse;

use super::{Measures, Objective, instance::Instance};

/// Two goodputs (or throughputs) within this share of what is offered are equal.
pub const TIE: f64 = 1e-5;

/// A mean of accuracies may differ from the same accuracy by less than this, in the last bits; so may, as
/// a share, a bound from what it bounds.
pub(super) const ROUNDING: f64 = 1e-9;

/// Accuracies are told apart to so many steps.
const ACCURACY_STEPS: f64 = 1e6;

/// What ranks sets: an [`Objective`], or the distance to a constraint that was not met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Goal {
    Objective(Objective),
    /// The least 99th percentile.
    P99,
    /// The fewest bytes on one device.
    DeviceBytes(usize),
    /// The highest accuracy of the least accurate path.
    LeastAccuracy,
}

/// A value of a goal, in its own unit and in steps of which more are better.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Value {
    pub(super) raw: f64,
    pub(super) steps: i64,
}

/// Orders sets; the greatest is the best.
pub(super) type Rank<'s> = (i64, Reverse<u64>, Reverse<usize>, Reverse<&'s [u16]>);

impl Goal {
    /// The value that a set came to.
    pub(super) fn value(self, instance: &Instance<'_>, set: &[u16], measures: &Measures) -> Value {
        let raw = match self {
            Self::Objective(objective) => measures.of_objective(objective),
            Self::P99 => measures.p99_ms,
            Self::DeviceBytes(device) => instance.device_bytes(set, device) as f64,
            Self::LeastAccuracy => instance.accuracies(set).fold(f64::INFINITY, f64::min),
        };
        self.in_steps(instance, raw)
    }

    pub(super) fn rank<'s>(
        self,
        instance: &Instance<'_>,
        set: &'s [u16],
        measures: &Measures,
    ) -> Rank<'s> {
        let steps = self.value(instance, set, measures).steps;
        (steps, Reverse(measures.bytes), Reverse(set.len()), Reverse(set))
    }

    /// A value in this goal's unit, rounded down to whole steps. Monotone, so that a bound on values
    /// is one on steps; a float cast saturates.
    pub(super) fn in_steps(self, instance: &Instance<'_>, raw: f64) -> Value {
        let steps = match self {
            Self::Objective(Objective::SlaGoodput | Objective::Throughput) => {
                (raw / (TIE * instance.offered_per_s)).floor()
            }
            // The sum of equal accuracies over their count is that accuracy but for the last bits.
            Self::Objective(Objective::Accuracy) | Self::LeastAccuracy => {
                (raw * ACCURACY_STEPS).round()
            }
            Self::Objective(Objective::Bytes) | Self::DeviceBytes(_) => -raw,
            // Microseconds.
            Self::P99 => -(raw * 1e3).ceil(),
        };
        Value { raw, steps: steps as i64 }
    }
}
