//! A clairvoyant upper bound on SLA-goodput.
//!
//! Knowing the whole trace, how many correct predictions could be answered in time? Any schedule
//! obeys these constraints, and the bound is the best value under them alone:
//!
//! - A query is answered by at most one path, which can run it, is accurate enough for it, and whose shortest
//!   possible service time, in as many parts as its device allows, fits into the query's time budget.
//! - A batch of `b ≥ m` samples lends a part of `m` samples at least `m/b` of its service time,
//!   so a query of `n` in up to `k` parts takes at least `n · min s(b)/b` of lane time, over the batches
//!   that any part of it may be in (`⌊n/k⌋ ≤ b ≤ max(n, max_batch)`), with the shortest service time
//!   that can be drawn.
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

use crate::{Profiles, RouterState, ServiceCurve};

use super::{SimConfig, SimError, Trace, service::Draw};

/// What no policy can exceed.
#[derive(Debug, Clone, PartialEq)]
pub struct Bound {
    /// Correct predictions in time over the whole trace.
    pub correct_in_time: f64,
    /// The same per second of the trace, comparable with a report's `correct_in_time_per_s`.
    pub correct_in_time_per_s: f64,
}

/// One way to answer one query.
struct Way {
    device: usize,
    value: f64,
    cost_ns: f64,
}

/// Bounds the SLA-goodput of any policy on this trace.
///
/// # Errors
///
/// [`SimError`] if the router's configuration is wrong.
pub fn oracle(profiles: &Profiles, trace: &Trace, config: &SimConfig) -> Result<Bound, SimError> {
    let state = RouterState::new(profiles.clone(), config.router.clone())
        .map_err(crate::RouterError::from)?;
    let least_ratio = |ratios: &Vec<f32>| ratios.iter().copied().reduce(f32::min);
    let mut least_ratios: Vec<Option<f32>> = config.ratios.iter().map(least_ratio).collect();
    least_ratios.resize(profiles.paths().len(), None);
    let mut ways: Vec<Way> = Vec::new();
    let mut ends = Vec::with_capacity(trace.queries().len());
    let mut last_ns = 0.0f64;
    for query in trace.queries() {
        let budget_ns = query.sla.as_secs_f64() * 1e9;
        last_ns = last_ns.max(query.arrival.as_nanos() as f64 + budget_ns);
        for path in profiles.ids() {
            let profile = profiles.path(path);
            let least = |samples| {
                Draw::least_ns(config, least_ratios[usize::from(path.0)], &profile.service, samples)
            };
            let parts = state.most_parts(profiles.device_of(path)).clamp(1, query.samples);
            let shortest = least(query.samples.div_ceil(parts));
            let takes_it = query.paths.contains(path) && profile.accuracy >= query.min_quality;
            if !takes_it || shortest > budget_ns {
                continue;
            }
            let largest = state.max_batch(path).max(query.samples);
            let smallest = query.samples / parts;
            let per_sample = cheapest_per_sample(&profile.service, smallest, largest, &least);
            ways.push(Way {
                device: usize::from(profiles.device_of(path).0),
                value: f64::from(query.samples) * profile.accuracy,
                cost_ns: f64::from(query.samples) * per_sample,
            });
        }
        ends.push(ways.len());
    }
    let first_ns = trace.queries().first().map_or(0.0, |query| query.arrival.as_nanos() as f64);
    let capacity = |lanes: u32| f64::from(lanes) * (last_ns - first_ns);
    let capacities: Vec<f64> =
        profiles.devices().iter().map(|device| capacity(device.lanes)).collect();

    let correct_in_time = least_dual(&ways, &ends, &capacities);
    let correct_in_time_per_s = correct_in_time / trace.seconds();
    Ok(Bound { correct_in_time, correct_in_time_per_s })
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
        )
        .unwrap();
        // 9 ms and more as a whole; in two parts, one of the three can.
        let mut config = median();
        assert!(oracle(&three_paths(), &trace, &config).unwrap().correct_in_time > 0.0);
        config.router.max_parts = Some(1);
        assert_eq!(oracle(&three_paths(), &trace, &config).unwrap().correct_in_time, 0.0);
    }
}
