//! A clairvoyant upper bound on SLA-goodput.
//!
//! Knowing the whole trace, how many correct predictions could be answered in time? Any schedule
//! obeys these constraints, and the bound is the best value under them alone:
//!
//! - A query is answered by at most one path, which is accurate enough for it, and whose shortest
//!   possible service time fits into the query's time budget.
//! - A batch of `b ≥ n` samples lends a query of `n` samples at least `n/b` of its service time,
//!   so the query takes at least `n · min s(b)/b` of lane time, over the batches it may be in
//!   (`n ≤ b ≤ max(n, max_batch)`), with the shortest service time that can be drawn.
//! - A device gives at most `lanes × (last deadline - first arrival)` of lane time.
//!
//! That is a linear program once fractions of queries are allowed, which can only raise its value.
//! Its Lagrangian dual charges a price `λ_d` for lane time on device `d`:
//!
//! `g(λ) = Σ_q max(0, max_p (n_q·a_p - λ_{d(p)}·c_{q,p})) + Σ_d λ_d·C_d`
//!
//! and by weak duality **every** `λ ≥ 0` gives an upper bound, so that an unfinished search for the
//! least one costs tightness and never truth. The bound knows nothing of the order of arrivals: it
//! is tight for a steady load and loose for bursts.

use std::collections::BTreeMap;

use crate::{PathId, PathProfile, Profiles, RouterError, RouterState, ServiceCurve};

use super::{SimConfig, SimError, Trace, service::Draw};

/// What no policy can exceed.
#[derive(Debug, Clone, PartialEq)]
pub struct Bound {
    /// Correct predictions in time over the whole trace.
    pub correct_in_time: f64,
    /// The same per second of the trace, comparable with a report's `correct_in_time_per_s`.
    pub correct_in_time_per_s: f64,
}

/// Bounds the SLA-goodput of any policy on this trace.
///
/// # Errors
///
/// [`SimError`] if the router's configuration is wrong.
pub fn oracle(profiles: &Profiles, trace: &Trace, config: &SimConfig) -> Result<Bound, SimError> {
    let relaxation = Relaxation::new(trace);
    let paths = profiles
        .paths()
        .iter()
        .map(|profile| relaxation.ways(profile, config))
        .collect::<Result<Vec<_>, _>>()?;
    let on_devices: Vec<_> = profiles
        .ids()
        .zip(&paths)
        .map(|(id, ways)| (usize::from(profiles.device_of(id).0), ways))
        .collect();
    let lanes: Vec<u32> = profiles.devices().iter().map(|device| device.lanes).collect();
    let correct_in_time = relaxation.bound(&on_devices, &lanes, Worth::Correct);
    Ok(Bound { correct_in_time, correct_in_time_per_s: correct_in_time / trace.seconds() })
}

/// What a query answered in time counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Worth {
    /// Its samples times the accuracy of the path.
    Correct,
    /// Its samples.
    Samples,
}

/// The program of one trace, whatever the paths. Queries of one size, budget and floor are alike
/// to every path, so that the program has a term for each kind of query and not for each query.
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
    queries: f64,
}

/// What one path takes at least for a query of each kind, in nanoseconds of lane time; `None` where
/// it cannot answer in time, or not well enough.
#[derive(Debug)]
pub(crate) struct Ways {
    accuracy: f64,
    costs_ns: Vec<Option<f64>>,
}

impl Relaxation {
    pub(crate) fn new(trace: &Trace) -> Self {
        let mut last_ns = 0.0f64;
        let mut counts: BTreeMap<(u32, u128, u64), f64> = BTreeMap::new();
        for query in trace.queries() {
            let budget = query.sla.as_nanos();
            last_ns = last_ns.max(query.arrival.as_nanos() as f64 + budget as f64);
            *counts.entry((query.samples, budget, query.min_quality.to_bits())).or_default() += 1.0;
        }
        let kind = |((samples, budget, floor), queries)| Kind {
            samples,
            budget_ns: budget as f64,
            min_quality: f64::from_bits(floor),
            queries,
        };
        let first_ns = trace.queries().first().map_or(0.0, |query| query.arrival.as_nanos() as f64);
        Self { kinds: counts.into_iter().map(kind).collect(), span_ns: last_ns - first_ns }
    }

    /// What a path can do for these queries.
    pub(crate) fn ways(&self, profile: &PathProfile, config: &SimConfig) -> Result<Ways, SimError> {
        // The state knows the batch limit that holds where the profile states none. The paths were
        // checked together already, and each is right by itself then.
        let alone = Profiles::new(vec![profile.clone()]).expect("a path of checked profiles");
        let state = RouterState::new(alone, config.router.clone()).map_err(RouterError::from)?;
        let max_batch = state.max_batch(PathId(0));
        let least =
            |samples| Draw::least_ns(config.service, &config.slowdowns, &profile.service, samples);
        let cost = |kind: &Kind| {
            let can = profile.accuracy >= kind.min_quality && least(kind.samples) <= kind.budget_ns;
            can.then(|| {
                let largest = max_batch.max(kind.samples);
                let each = cheapest_per_sample(&profile.service, kind.samples, largest, &least);
                f64::from(kind.samples) * each
            })
        };
        Ok(Ways { accuracy: profile.accuracy, costs_ns: self.kinds.iter().map(cost).collect() })
    }

    /// What these paths, each with its device's place in `lanes`, can answer in time at most.
    pub(crate) fn bound(&self, paths: &[(usize, &Ways)], lanes: &[u32], worth: Worth) -> f64 {
        let mut ways: Vec<Way> = Vec::with_capacity(self.kinds.len() * paths.len());
        let mut ends = Vec::with_capacity(self.kinds.len());
        for (at, kind) in self.kinds.iter().enumerate() {
            let samples = kind.queries * f64::from(kind.samples);
            ways.extend(paths.iter().filter_map(|&(device, path)| {
                let cost_ns = kind.queries * path.costs_ns[at]?;
                let value = match worth {
                    Worth::Correct => samples * path.accuracy,
                    Worth::Samples => samples,
                };
                Some(Way { device, value, cost_ns })
            }));
            ends.push(ways.len());
        }
        let capacities: Vec<f64> =
            lanes.iter().map(|&lanes| f64::from(lanes) * self.span_ns).collect();
        least_dual(&ways, &ends, &capacities)
    }
}

/// One way to answer all queries of one kind.
struct Way {
    device: usize,
    value: f64,
    cost_ns: f64,
}

/// The least service time per sample over batches of `from..=to` samples. On each linear piece,
/// time per sample is monotone, so the minimum lies at an end of a piece.
fn cheapest_per_sample(
    curve: &ServiceCurve,
    from: u32,
    to: u32,
    least: &impl Fn(u32) -> f64,
) -> f64 {
    let inner = curve.points().iter().map(|point| point.batch);
    let sizes = inner.filter(|&size| from < size && size < to).chain([from, to]);
    sizes.map(|size| least(size) / f64::from(size)).fold(f64::INFINITY, f64::min)
}

/// Lowers `g` one price at a time; each is a convex function of one variable.
fn least_dual(ways: &[Way], ends: &[usize], capacities: &[f64]) -> f64 {
    let dual = |prices: &[f64]| {
        let supply: f64 =
            prices.iter().zip(capacities).map(|(price, capacity)| price * capacity).sum();
        let mut start = 0;
        let mut demand = 0.0;
        for &end in ends {
            let worth = |way: &Way| way.value - prices[way.device] * way.cost_ns;
            demand += ways[start..end].iter().map(worth).fold(0.0, f64::max);
            start = end;
        }
        supply + demand
    };
    // Above its highest value per nanosecond, a device's time is bought by nobody.
    let highest = ways.iter().map(|way| way.value / way.cost_ns).fold(0.0, f64::max);
    let mut prices = vec![0.0; capacities.len()];
    let mut least = dual(&prices);
    let sweeps = if prices.len() == 1 { 1 } else { 6 };
    for _ in 0..sweeps {
        for device in 0..prices.len() {
            let (mut low, mut high) = (0.0, highest);
            for _ in 0..48 {
                let (left, right) = (low + (high - low) / 3.0, high - (high - low) / 3.0);
                prices[device] = left;
                let at_left = dual(&prices);
                prices[device] = right;
                if at_left <= dual(&prices) { high = right } else { low = left }
            }
            prices[device] = 0.5 * (low + high);
            least = least.min(dual(&prices));
        }
    }
    least
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
    fn what_no_path_can_do_in_time_counts_nothing() {
        let trace = Trace::generate(
            &Arrivals::Fixed { rate: 50.0 },
            &Sizes::Fixed(1_000),
            Until::Queries(10),
            Duration::from_millis(5),
            1,
        );
        let bound = oracle(&three_paths(), &trace.unwrap(), &median()).unwrap();
        assert_eq!(bound.correct_in_time, 0.0);
    }
}
