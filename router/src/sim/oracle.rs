//! A clairvoyant upper bound on SLA-goodput.
//!
//! Knowing the whole trace, how many correct predictions could be answered in time? Any schedule
//! obeys these constraints, and the bound is the best value under them alone:
//!
//! - A query is answered by at most one path, which can run it, is accurate enough for it, and whose shortest
//!   possible service time, of the smallest part that it may be split into, fits into the query's
//!   time budget.
//! - A batch of `b ≥ m` samples lends a part of `m` samples at least `m/b` of its service time,
//!   so a query of `n` samples takes at least `n · min s(b)/b` of lane time, over the batches that
//!   it or a part of it may be in (`m ≤ b ≤ max(n, max_batch)`, none of which takes longer than its time budget), with the
//!   shortest service time that can be drawn.
//! - A device gives at most `lanes × (last deadline - first arrival)` of lane time.
//!
//! That is a linear program once fractions of queries are allowed, which can only raise its value.
//! Its Lagrangian dual charges a price `λ_d` for lane time on device `d`:
//!
//! `g(λ) = Σ_q max(0, max_p (n_q·a_p - λ_{d(p)}·c_{q,p})) + Σ_d λ_d·C_d`
//!
//! and by weak duality **every** `λ ≥ 0` gives an upper bound, so that an unfinished search for the
//! least one ([`dual`](super::dual)) costs tightness and never truth. The bound knows nothing of the
//! order of arrivals: it is tight for a steady load and loose for bursts.
//!
//! # The bound on average
//!
//! Nobody has the luck of the shortest service time in every batch, and no policy here knows a
//! batch's time before it runs it. Then, averaged over the draws for a given trace,
//!
//! - a batch of `b` takes the mean `E s(b)` of lane time, however the choice to start it was made
//!   (Wald's identity), up to one batch per lane that runs over the end of the trace, and
//! - a query is in time with probability `P(s(m) ≤ budget)` at most, `m` its smallest part, since a
//!   larger batch takes no less time and all parts must be done.
//!
//! So the same program with `n·a_p·P(s_p(m) ≤ budget)` as the value and `n · min E s(b)/b` as the cost
//! bounds the expected SLA-goodput. A single lucky run can exceed it.

use std::collections::BTreeMap;

use super::{
    SimConfig, SimError, Trace,
    dual::{Way, least_dual},
    service::Draw,
};
use crate::{
    DeviceId, PathId, PathProfile, PathSet, Profiles, RouterError, RouterState, ServiceCurve,
    latency::largest_size,
};

/// What no policy can exceed.
#[derive(Debug, Clone, PartialEq)]
pub struct Bound {
    /// Correct predictions in time over the whole trace.
    pub correct_in_time: f64,
    /// The same per second of the trace, comparable with a report's `correct_in_time_per_s`.
    pub correct_in_time_per_s: f64,
    /// What no policy can exceed on average over service times, per second of the trace; see the
    /// module docs. Never above `correct_in_time_per_s`.
    pub expected_per_s: f64,
}

/// Bounds the SLA-goodput of any policy on this trace.
///
/// # Errors
///
/// [`SimError`] if the router's configuration is wrong.
pub fn oracle(profiles: &Profiles, trace: &Trace, config: &SimConfig) -> Result<Bound, SimError> {
    let relaxation = Relaxation::new(trace);
    let lanes: Vec<u32> = profiles.devices().iter().map(|device| device.lanes).collect();
    let bound = |law| -> Result<f64, SimError> {
        let ways = |id| relaxation.ways(profiles.path(id), Some(id), config, law);
        let paths = profiles.ids().map(ways).collect::<Result<Vec<_>, _>>()?;
        let devices = profiles.ids().map(|id| usize::from(profiles.device_of(id).0));
        let on_devices: Vec<_> = devices.zip(&paths).collect();
        Ok(relaxation.bound(&on_devices, &lanes, Worth::Correct))
    };
    let correct_in_time = bound(Law::Luckiest)?;
    let expected = bound(Law::Average)?.min(correct_in_time);
    Ok(Bound {
        correct_in_time,
        correct_in_time_per_s: correct_in_time / trace.seconds(),
        expected_per_s: expected / trace.seconds(),
    })
}

/// What a query answered in time counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Worth {
    /// Its samples times the accuracy of the path.
    Correct,
    /// Its samples.
    Samples,
}

/// Which service times are reckoned with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Law {
    /// The shortest that can be drawn: bounds every run.
    Luckiest,
    /// Their law: bounds the average over runs.
    Average,
}

/// The program of one trace, whatever the paths. Queries of one size, budget and floor are alike
/// to every path, if they name the same paths, so that the program has a term for each kind of query and not for each query.
#[derive(Debug)]
pub(crate) struct Relaxation {
    kinds: Vec<Kind>,
    span_ns: f64,
}

#[derive(Debug)]
struct Kind {
    samples: u32,
    budget_ns: f64,
    min_quality: f64,
    paths: PathSet,
    queries: f64,
}

/// What one path can do for each kind of query.
#[derive(Debug)]
pub(crate) struct Ways {
    accuracy: f64,
    /// The most of a kind's queries that can be in time, as a share, and the least nanoseconds of lane time of
    /// one; `None` where the path cannot answer in time, or not well enough.
    able: Vec<Option<(f64, f64)>>,
}

impl Relaxation {
    pub(crate) fn new(trace: &Trace) -> Self {
        let mut last_ns = 0.0f64;
        let mut counts: BTreeMap<(u32, u128, u64, u64), f64> = BTreeMap::new();
        for query in trace.queries() {
            let budget = query.sla.as_nanos();
            last_ns = last_ns.max(query.arrival.as_nanos() as f64 + budget as f64);
            let (floor, paths) = (query.min_quality.to_bits(), query.paths.bits());
            *counts.entry((query.samples, budget, floor, paths)).or_default() += 1.0;
        }
        let kind = |((samples, budget, floor, paths), queries)| Kind {
            samples,
            budget_ns: budget as f64,
            min_quality: f64::from_bits(floor),
            paths: PathSet::from_bits(paths),
            queries,
        };
        let first_ns = trace.queries().first().map_or(0.0, |query| query.arrival.as_nanos() as f64);
        Self { kinds: counts.into_iter().map(kind).collect(), span_ns: last_ns - first_ns }
    }

    /// What a path can do for these queries. Without an id it is no path of the trace yet: it takes every query, in times
    /// of its profile.
    pub(crate) fn ways(
        &self,
        profile: &PathProfile,
        id: Option<PathId>,
        config: &SimConfig,
        law: Law,
    ) -> Result<Ways, SimError> {
        // The state knows the limits that hold where profile and configuration state none. The paths were
        // checked together already, and each is right by itself then.
        let alone = Profiles::new(vec![profile.clone()]).expect("a path of checked profiles");
        let state = RouterState::new(alone, config.router.clone()).map_err(RouterError::from)?;
        let max_batch = state.max_batch(PathId(0));
        let most_parts = state.most_parts(DeviceId(0));
        let ratios = id.and_then(|id| config.ratios.get(usize::from(id.0)));
        let ratios = ratios.map_or(&[][..], Vec::as_slice);
        let curve = &profile.service;
        let lane_ns = |samples| match law {
            Law::Luckiest => Draw::least_ns(config, ratios, curve, samples),
            Law::Average => Draw::mean_ns(config, ratios, curve, samples),
        };
        let able = |kind: &Kind| {
            let parts = most_parts.clamp(1, kind.samples);
            let part = kind.samples.div_ceil(parts);
            let share = match law {
                Law::Luckiest => f64::from(u8::from(lane_ns(part) <= kind.budget_ns)),
                Law::Average => Draw::share_within(config, ratios, curve, part, kind.budget_ns),
            };
            let takes = id.is_none_or(|id| kind.paths.contains(id));
            (takes && profile.accuracy >= kind.min_quality && share > 0.0).then(|| {
                let smallest = kind.samples / parts;
                let largest = largest_size(smallest, max_batch.max(kind.samples), |samples| {
                    Draw::least_ns(config, ratios, curve, samples) <= kind.budget_ns
                });
                let each = cheapest_per_sample(curve, smallest, largest, lane_ns);
                (share, f64::from(kind.samples) * each)
            })
        };
        Ok(Ways { accuracy: profile.accuracy, able: self.kinds.iter().map(able).collect() })
    }

    /// What these paths, each with its device's place in `lanes`, can answer in time at most.
    pub(crate) fn bound(&self, paths: &[(usize, &Ways)], lanes: &[u32], worth: Worth) -> f64 {
        let mut ways: Vec<Way> = Vec::with_capacity(self.kinds.len() * paths.len());
        let mut ends = Vec::with_capacity(self.kinds.len());
        for (at, kind) in self.kinds.iter().enumerate() {
            let samples = kind.queries * f64::from(kind.samples);
            ways.extend(paths.iter().filter_map(|&(device, path)| {
                let (share, cost_ns) = path.able[at]?;
                let each = match worth {
                    Worth::Correct => path.accuracy,
                    Worth::Samples => 1.0,
                };
                let (value, cost_ns) = (samples * each * share, kind.queries * cost_ns);
                Some(Way { device, value, cost_ns })
            }));
            ends.push(ways.len());
        }
        let capacities: Vec<f64> =
            lanes.iter().map(|&lanes| f64::from(lanes) * self.span_ns).collect();
        least_dual(&ways, &ends, &capacities)
    }
}

/// The least service time per sample over batches of `from..=to` samples. On each linear piece,
/// time per sample is monotone, so the minimum lies at an end of a piece.
fn cheapest_per_sample(
    curve: &ServiceCurve,
    from: u32,
    to: u32,
    service_ns: impl Fn(u32) -> f64,
) -> f64 {
    let inner = curve.points().iter().map(|point| point.batch);
    let sizes = inner.filter(|&size| from < size && size < to).chain([from, to]);
    sizes.map(|size| service_ns(size) / f64::from(size)).fold(f64::INFINITY, f64::min)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        sim::{Arrivals, Service, Sizes, Until},
        testing::{path, three_paths},
    };

    fn median() -> SimConfig {
        SimConfig { service: Service::Median, ..SimConfig::default() }
    }

    #[test]
    fn with_time_to_spare_everything_is_answered_by_the_best_path() {
        let trace = Trace::generate(
            &Arrivals::Fixed { rate: 50.0 },
            &Sizes::Fixed(100),
            Until::Queries(100),
            Duration::from_millis(50),
            1,
        );
        let bound = oracle(&three_paths(), &trace.unwrap(), &median()).unwrap();
        assert!((bound.correct_in_time / (100.0 * 100.0 * 0.792) - 1.0).abs() < 1e-6);
    }

    #[test]
    fn in_overload_capacity_bounds_it() {
        // One lane, 10 ms a query, 10 times as many queries as fit into 1 s.
        let profiles = Profiles::new(vec![path("table@cpu", 0.8, 1, &[(100, 10_000.0)])]).unwrap();
        let trace = Trace::generate(
            &Arrivals::Fixed { rate: 1_000.0 },
            &Sizes::Fixed(100),
            Until::Queries(1_000),
            Duration::from_millis(10),
            1,
        );
        let bound = oracle(&profiles, &trace.unwrap(), &median()).unwrap();
        let capacity = (0.999 + 0.010) / 0.010 * 100.0 * 0.8;
        assert!((bound.correct_in_time / capacity - 1.0).abs() < 1e-6, "{bound:?}");
    }

    #[test]
    fn only_batches_within_the_time_budget_make_a_query_cheap() {
        // 1,000 samples take twice the time of 10, but with 6 ms a batch has 208 at most.
        let curve = [(10, 5_000.0), (1_000, 10_000.0)];
        let profiles = Profiles::new(vec![path("table@gpu", 0.8, 1, &curve)]).unwrap();
        let trace = Trace::generate(
            &Arrivals::Fixed { rate: 10_000.0 },
            &Sizes::Fixed(10),
            Until::Queries(10_000),
            Duration::from_millis(6),
            1,
        );
        let bound = oracle(&profiles, &trace.unwrap(), &median()).unwrap();
        let capacity = (0.9999 + 0.006) / 0.006 * 208.0 * 0.8;
        assert!((bound.correct_in_time / capacity - 1.0).abs() < 1e-3, "{bound:?} {capacity}");
    }

    #[test]
    fn devices_that_could_each_serve_everything_add_their_capacities() {
        // 10 ms and 40 ms a query on one lane each, ten times as many queries as fit into 1 s of the first.
        let slow = path("table@slow", 0.8, 1, &[(100, 40_000.0)]);
        let fast = path("table@fast", 0.8, 1, &[(100, 10_000.0)]);
        let trace = Trace::generate(
            &Arrivals::Fixed { rate: 1_000.0 },
            &Sizes::Fixed(100),
            Until::Queries(1_000),
            Duration::from_millis(50),
            1,
        )
        .unwrap();
        for paths in [vec![slow.clone(), fast.clone()], vec![fast, slow]] {
            let bound = oracle(&Profiles::new(paths).unwrap(), &trace, &median()).unwrap();
            let capacity = (0.999 + 0.050) * (1.0 / 0.010 + 1.0 / 0.040) * 100.0 * 0.8;
            let ratio = bound.correct_in_time / capacity;
            assert!((1.0 - 1e-9..1.01).contains(&ratio), "{ratio}");
        }
    }

    #[test]
    fn what_no_path_can_do_in_time_counts_nothing() {
        let trace = Trace::generate(
            &Arrivals::Fixed { rate: 50.0 },
            &Sizes::Fixed(1_000),
            Until::Queries(10),
            Duration::from_millis(5),
            1,
        )
        .unwrap();
        // 9 ms and more as a whole; in two parts, one of the three can.
        let mut config = median();
        assert!(oracle(&three_paths(), &trace, &config).unwrap().correct_in_time > 0.0);
        config.router.max_parts = Some(1);
        assert_eq!(oracle(&three_paths(), &trace, &config).unwrap().correct_in_time, 0.0);
    }
}
