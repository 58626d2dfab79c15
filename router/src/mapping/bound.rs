//! What a set and everything that could still join it can reach at most.

use crate::sim::Worth;

use super::{
    Objective,
    goal::{Goal, ROUNDING, Value},
    instance::{Instance, Limits},
};

/// The value that no completion of `chosen` within `union` exceeds; `None` where none can meet the
/// limits. `union` holds `chosen`; completions hold `chosen`.
pub(super) fn bound(
    instance: &Instance<'_>,
    goal: Goal,
    limits: &Limits,
    chosen: &[u16],
    union: &[u16],
) -> Option<Value> {
    let highest = instance.accuracies(union).fold(0.0, f64::max);
    if limits.constraints.min_accuracy.is_some_and(|least| highest + 2.0 * ROUNDING < least) {
        return None;
    }
    let throughput = || per_second(instance, union, Worth::Samples);
    let mut reachable = None;
    if let Some(least) = limits.constraints.min_in_time {
        let most = *reachable.insert(throughput());
        if most < least * instance.offered_per_s {
            return None;
        }
    }
    let raw = match goal {
        Goal::Objective(Objective::SlaGoodput) => per_second(instance, union, Worth::Correct),
        Goal::Objective(Objective::Throughput) => reachable.unwrap_or_else(throughput),
        Goal::Objective(Objective::Accuracy) => highest,
        Goal::Objective(Objective::Bytes) => instance.bytes(chosen) as f64,
        Goal::DeviceBytes(device) => instance.device_bytes(chosen, device) as f64,
        Goal::LeastAccuracy if chosen.is_empty() => highest,
        Goal::LeastAccuracy => instance.accuracies(chosen).fold(f64::INFINITY, f64::min),
        // Whatever is refused has no latency, so that nothing bounds it from below.
        Goal::P99 => 0.0,
    };
    Some(goal.in_steps(instance, raw))
}

fn per_second(instance: &Instance<'_>, union: &[u16], worth: Worth) -> f64 {
    let path = |&at: &u16| {
        let at = usize::from(at);
        (instance.device_of[at], &instance.ways[at])
    };
    let paths: Vec<_> = union.iter().map(path).collect();
    let total = instance.relaxation.bound(&paths, &instance.lanes, worth);
    (1.0 + ROUNDING) * total / instance.problem.trace.seconds()
}
