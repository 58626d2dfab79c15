//! When a large query runs in parts, on several lanes at once.
//!
//! A device with several lanes can run one query in `k` parts of `n/k` samples each. Parts begin as lanes
//! become free, so with lanes free at `e₁ ≤ e₂ ≤ …` the query is done at
//!
//! `e_k + s(n/k)` instead of `e₁ + s(n)`,
//!
//! and it takes `k·s(n/k)` of lane time instead of `s(n)`: with a service time `s(n) = f + c·n`, another
//! `(k - 1)·f`. That is a trade of everybody's time for this query's, and it is decided in the currency
//! of `multi-path`, correct predictions:
//!
//! - Both ways are judged alike: `samples × accuracy × P(in time)`, less the harm that the lane time does
//!   to later queries at the present price. The price is near nothing while lanes idle, and full in
//!   overload, where the fixed costs would be taken from other queries' answers.
//! - Of two ways that are both in time, the sooner one is worth a little: a whole time budget sooner is
//!   worth [`SOONER`] of the answer. In overload a part's fixed cost displaces `f / s(n)` of an answer,
//!   more than that for any query that is not very large, and then too small a share of the budget is saved.
//! - A query that is too late as a whole because of the queue is split if that leaves it worth clearly more
//!   than it costs ([`CLEARLY`]; prices are averages). In overload it does not: there, the answer that it
//!   would displace is as good, and needs no second fixed cost.
//! - A query that no path could answer in time as a whole, however idle, is admitted in parts whatever they
//!   cost: it has no other way.
//!
//! The worth of being sooner decides between the ways of one path and never between paths, so that
//! accuracy is not sold for speed that nobody asked for.
//!
//! # The prediction
//!
//! All parts must be done. Errors are predicted with exponential tails (see [`Prediction::chance`]), and
//! the greatest of `k` such errors is distributed like one of them moved by `ln k / ln 50` of the
//! allowance; the predicted finish is moved by that.
//!
//! # Limits
//!
//! All parts run on one path, so that a query is still answered by one path of one model version: what is
//! split is the work of a device with several lanes, and never goes over two devices. Parts of one query never
//! share a batch, but each may share one with other queries. More parts are tried while each brings the
//! end nearer; a later gain behind a lane that is busy for long is not found. A query that would wait for
//! longer than it runs is split only if it is too large for any path, since no lane is idle soon.

use crate::{
    DeviceId, PathId, RouterState, ServiceCurve, Time,
    predict::{DeviceView, Prediction, allowance},
};

/// The most parts of one query.
pub const MOST_PARTS: u32 = 16;

/// What an answer that comes a whole time budget sooner is worth more, as a share of it.
const SOONER: f64 = 0.01;
/// A query is not split for speed alone if two halves take this much more lane time than the whole.
const DEAR: f64 = 1.25;
/// What must be left of an answer's worth for a query that is split because of the queue.
const CLEARLY: f64 = 0.25;
/// ln 50: the distance from the median to the 99th percentile of an exponential tail.
const LN_50: f64 = 3.912_023_005_428_146;

/// One way to run a query on a path, as a policy judges it.
pub(crate) trait Way {
    /// Whether it is sure to be in time.
    fn is_sure(&self) -> bool;
    /// Correct predictions expected, less the harm to others.
    fn score(&self) -> f64;
    /// What it was judged by.
    fn prediction(&self) -> &Prediction;
}

/// How a policy judges the ways to run a query on a path.
pub(crate) trait Judge: Copy {
    /// What it makes of one.
    type Way: Way;

    /// Judges by a prediction.
    fn judge(self, prediction: Prediction) -> Self::Way;
}

/// A query that might be split.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Splittable {
    pub(crate) samples: u32,
    /// Correct predictions that a full answer is worth.
    pub(crate) value: f64,
    /// From its arrival to its deadline.
    pub(crate) budget_ns: f64,
    /// From now to its deadline.
    pub(crate) left_ns: f64,
    /// Whether no path could answer it in time as a whole, however idle.
    pub(crate) is_too_large: bool,
}

/// Whether parts would not be sooner by enough to be worth a closer look, which holds for most queries. `is_sure` says whether
/// the whole is.
#[inline]
pub(crate) fn is_hopeless(
    state: &RouterState,
    view: &DeviceView,
    path: PathId,
    query: Splittable,
    whole: &Prediction,
    is_sure: bool,
) -> bool {
    let is_late = if query.is_too_large {
        view.wait_ns >= query.left_ns
    } else {
        view.wait_ns > whole.service_ns || (is_sure && query.samples < state.splits_from(path))
    };
    is_late || most_parts(state, view, query) < 2
}

fn most_parts(state: &RouterState, view: &DeviceView, query: Splittable) -> u32 {
    state.most_parts(view.device).min(query.samples)
}

/// The best way to run a query on a path: whole, which is judged already, or in parts.
#[inline(never)]
pub(crate) fn best<J: Judge>(
    state: &RouterState,
    view: &DeviceView,
    path: PathId,
    query: Splittable,
    mut best: J::Way,
    now: Time,
    judge: J,
) -> J::Way {
    let most = most_parts(state, view, query);
    let least = if query.is_too_large { f64::NEG_INFINITY } else { CLEARLY * query.value };
    let per_ns = SOONER * query.value / query.budget_ns.max(1.0);
    let merit = |way: &J::Way| way.score() - per_ns * way.prediction().upper_ns();
    let mut soonest_ns = best.prediction().upper_ns();
    for parts in 2..=most {
        let way = judge.judge(predict(state, view, path, query.samples, parts, now));
        if way.prediction().upper_ns() >= soonest_ns {
            break;
        }
        soonest_ns = way.prediction().upper_ns();
        let is_better = match (way.is_sure(), best.is_sure()) {
            (true, false) => way.score() > least,
            (false, true) => false,
            _ => merit(&way) > merit(&best),
        };
        if is_better {
            best = way;
        }
    }
    best
}

/// Predicts when the last of `parts` parts would be done.
pub(crate) fn predict(
    state: &RouterState,
    view: &DeviceView,
    path: PathId,
    samples: u32,
    parts: u32,
    now: Time,
) -> Prediction {
    let each = samples.div_ceil(parts);
    let correction = &state.path(path).correction;
    let part_ns = state.profiles().path(path).service.mean_ns(each) * correction.factor(each);
    let lanes = state.lanes(view.device);
    let others = parts as usize - 1;
    let wait_ns = if let Some(free) = &view.free {
        free.first_after(others, part_ns)
    } else if view.ahead.work_ns <= 0.0 && lanes.idle() > others {
        0.0
    } else {
        lanes.start_after(view.ahead.work_ns + others as f64 * part_ns, now)
    };
    let margin = correction.margin(each);
    let allowance_ns = allowance(part_ns, wait_ns, lanes.mean_batch_ns(), margin);
    let last_ns = allowance_ns * state.logarithm(parts) / LN_50;
    Prediction {
        wait_ns,
        service_ns: part_ns + last_ns + state.config().overhead_us as f64 * 1e3,
        cost_ns: f64::from(parts) * part_ns,
        allowance_ns,
        slack_behind_ns: view.slack_behind_ns,
        parts,
    }
}

/// The smallest query of which two halves cost no more than [`DEAR`] times the whole.
pub(crate) fn splits_from(curve: &ServiceCurve) -> u32 {
    let is_cheap =
        |samples: u32| 2.0 * curve.mean_ns(samples.div_ceil(2)) <= DEAR * curve.mean_ns(samples);
    // The ratio need not be monotone; the first size that will do is looked for in small steps.
    let mut samples = 2u32;
    while samples <= crate::MAX_SAMPLES {
        if is_cheap(samples) {
            return samples;
        }
        samples += 1 + samples / 16;
    }
    u32::MAX
}

impl RouterState {
    /// The most parts that a query may be split into on a device now. Every part counts as waiting.
    pub(crate) fn most_parts(&self, device: DeviceId) -> u32 {
        let lanes = self.lanes(device).count() as u32;
        let room = self.config().max_queued.saturating_sub(self.queued());
        let allowed = self.config().max_parts.unwrap_or(MOST_PARTS).min(lanes);
        allowed.min(u32::try_from(room).unwrap_or(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        Batch, Decision, Next, PolicyName, Profiles, Query, QueryId, Router, RouterConfig,
        testing::{cpu_path, path},
    };

    fn router(profiles: Vec<crate::PathProfile>, max_parts: Option<u32>) -> Router {
        let config = RouterConfig { max_parts, ..RouterConfig::default() };
        Router::new(Profiles::new(profiles).unwrap(), &PolicyName::MultiPath, config).unwrap()
    }

    fn submit(router: &mut Router, id: u64, samples: usize, sla_us: u64, now: Time) -> Decision {
        let sla = Duration::from_micros(sla_us);
        router.submit(&Query::new(QueryId(id), samples, now, sla).unwrap(), now)
    }

    fn parts(decision: Decision) -> u32 {
        match decision {
            Decision::Admit(admission) => admission.parts,
            Decision::Refuse(refusal) => panic!("{refusal:?}"),
        }
    }

    /// Starts whatever can start; returns offset and samples of each batch's first entry.
    fn start(router: &mut Router, now: Time) -> Vec<(u32, u32)> {
        let mut started = Vec::new();
        let mut batch = Batch::default();
        while router.next_batch(DeviceId(0), now, &mut batch) == Next::Run {
            started.push((batch.queries[0].offset, batch.queries[0].samples));
        }
        started
    }

    #[test]
    fn a_large_query_takes_both_idle_lanes_and_a_small_one_only_one() {
        let mut router = router(vec![cpu_path("table", 0.79, 1.0)], None);
        assert_eq!(parts(submit(&mut router, 1, 400, 50_000, Time::ZERO)), 2);
        assert_eq!(start(&mut router, Time::ZERO), [(0, 200), (200, 200)]);
        let mut router = self::router(vec![cpu_path("table", 0.79, 1.0)], None);
        assert_eq!(parts(submit(&mut router, 1, 4, 50_000, Time::ZERO)), 1);
        let mut router = self::router(vec![cpu_path("table", 0.79, 1.0)], Some(1));
        assert_eq!(parts(submit(&mut router, 1, 400, 50_000, Time::ZERO)), 1, "it is turned off");
    }

    #[test]
    fn a_query_that_only_fits_in_parts_is_admitted_in_parts() {
        // 4.05 ms as a whole, 2.03 ms in halves (median), and 3 ms to answer.
        let mut split = router(vec![cpu_path("table", 0.79, 1.0)], None);
        assert_eq!(parts(submit(&mut split, 1, 400, 3_000, Time::ZERO)), 2);
        let mut whole = router(vec![cpu_path("table", 0.79, 1.0)], Some(1));
        assert!(matches!(submit(&mut whole, 1, 400, 3_000, Time::ZERO), Decision::Refuse(_)));
    }

    #[test]
    fn no_part_waits_for_a_lane_that_is_busy_for_long() {
        let mut router =
            router(vec![path("table@cpu", 0.79, 2, &[(1, 10.0), (1000, 10_000.0)])], None);
        let mut batch = Batch::default();
        submit(&mut router, 1, 1, 60_000, Time::ZERO);
        assert_eq!(router.next_batch(DeviceId(0), Time::ZERO, &mut batch), Next::Run);
        let long = path("table@cpu", 0.79, 2, &[(1, 10.0), (1000, 10_000.0)]);
        let mut busy = self::router(vec![long], Some(1));
        submit(&mut busy, 1, 1000, 60_000, Time::ZERO);
        busy.next_batch(DeviceId(0), Time::ZERO, &mut batch);
        let state = busy.state();
        let view = state.view(DeviceId(0), Time::MAX, Time::ZERO);
        let whole = state.predict_in(&view, PathId(0), 400, Time::ZERO);
        let halves = predict(state, &view, PathId(0), 400, 2, Time::ZERO);
        // Both halves go to the idle lane, one after the other: later than the whole by the margin alone.
        assert!(halves.upper_ns() > whole.upper_ns(), "{halves:?} {whole:?}");
    }

    #[test]
    fn a_device_with_one_lane_splits_nothing() {
        let mut router =
            router(vec![path("table@gpu", 0.79, 1, &[(1, 10.0), (1000, 10_000.0)])], None);
        assert_eq!(parts(submit(&mut router, 1, 1000, 60_000, Time::ZERO)), 1);
    }

    #[test]
    fn parts_end_as_one_query() {
        let mut router = router(vec![cpu_path("table", 0.79, 1.0)], None);
        submit(&mut router, 1, 400, 50_000, Time::ZERO);
        let mut batches = [Batch::default(), Batch::default()];
        for batch in &mut batches {
            assert_eq!(router.next_batch(DeviceId(0), Time::ZERO, batch), Next::Run);
            assert_eq!(batch.queries.len(), 1);
        }
        let took = Duration::from_millis(2);
        router.completed(&mut batches[1], took, Time::from_millis(2));
        assert!(batches[1].ended.is_empty());
        router.completed(&mut batches[0], took, Time::from_millis(2));
        assert_eq!((batches[0].ended[0].id, batches[0].ended[0].samples), (QueryId(1), 400));
        assert_eq!(router.state().promises().kept, 1, "counted once");
    }

    #[test]
    fn a_failed_part_ends_its_query_and_takes_the_waiting_ones_along() {
        let mut router = router(vec![cpu_path("table", 0.79, 1.0)], None);
        let mut busy = Batch::default();
        submit(&mut router, 1, 1, 50_000, Time::ZERO);
        assert_eq!(router.next_batch(DeviceId(0), Time::ZERO, &mut busy), Next::Run);
        // The busy lane is free very soon.
        assert_eq!(parts(submit(&mut router, 2, 400, 50_000, Time::ZERO)), 2);
        let mut first = Batch::default();
        assert_eq!(router.next_batch(DeviceId(0), Time::ZERO, &mut first), Next::Run);
        assert_eq!(router.state().queued(), 1);
        router.state_mut().failed(&mut first, Time::ZERO);
        assert_eq!((first.ended.len(), first.ended[0].samples), (1, 400));
        assert_eq!(router.state().queued(), 0, "the other part is dropped");
        router.completed(&mut busy, Duration::from_micros(40), Time::from_micros(40));
        assert_eq!(busy.ended.len(), 1);
        assert_eq!(router.next_batch(DeviceId(0), Time::from_micros(40), &mut busy), Next::Idle);
    }

    #[test]
    fn a_cancelled_query_leaves_with_all_its_waiting_parts() {
        let mut router = router(vec![cpu_path("table", 0.79, 1.0)], None);
        let mut busy = Batch::default();
        submit(&mut router, 1, 1, 50_000, Time::ZERO);
        router.next_batch(DeviceId(0), Time::ZERO, &mut busy);
        submit(&mut router, 2, 400, 50_000, Time::ZERO);
        let mut first = Batch::default();
        router.next_batch(DeviceId(0), Time::ZERO, &mut first);
        assert!(router.state_mut().cancel(PathId(0), QueryId(2), Time::ZERO));
        assert!(!router.state_mut().cancel(PathId(0), QueryId(2), Time::ZERO));
        router.completed(&mut first, Duration::from_millis(2), Time::from_millis(2));
        assert!(first.ended.is_empty(), "its running part ends in silence");
        assert_eq!(router.state().promises().kept, 0);
    }

    #[test]
    fn splitting_begins_where_the_fixed_cost_is_small() {
        // f = 30, c = 10: two halves cost a quarter more at n = 3f/c = 9.
        let curve = ServiceCurve::from_medians(&[(1, 40.0), (1001, 10_030.0)], 1.0, 1.0).unwrap();
        let from = splits_from(&curve);
        assert!((9..=12).contains(&from), "{from}");
        let flat = ServiceCurve::from_medians(&[(1, 100.0), (1 << 20, 100.0)], 1.0, 1.0).unwrap();
        assert_eq!(splits_from(&flat), u32::MAX);
    }
}
