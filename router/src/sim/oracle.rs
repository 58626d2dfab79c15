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
//!
//! # The bound on average
//!
//! Nobody has the luck of the shortest service time in every batch, and no policy here knows a
//! batch's time before it runs it. Then, averaged over the draws for a given trace,
//!
//! - a batch of `b` takes the mean `E s(b)` of lane time, however the choice to start it was made
//!   (Wald's identity), up to one batch per lane that runs over the end of the trace, and
//! - a query of `n` samples is in time with probability `P(s(n) ≤ budget)` at most, since a larger
//!   batch takes no less time.
//!
//! So the same program with `n·a_p·P(s_p(n) ≤ budget)` as the value and `n · min E s(b)/b` as the cost
//! bounds the expected SLA-goodput. A single lucky run can exceed it.

use crate::{Profiles, RouterState, ServiceCurve};

use super::{SimConfig, SimError, Trace, service::Draw};

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
    let (service, slowdowns) = (config.service, config.slowdowns.as_slice());
    let lucky = ways(profiles, trace, &state, |curve, samples, budget_ns| {
        let least = |samples| Draw::least_ns(service, slowdowns, curve, samples);
        (f64::from(u8::from(least(samples) <= budget_ns)), Box::new(least))
    });
    let average = ways(profiles, trace, &state, |curve, samples, budget_ns| {
        let share = Draw::share_within(service, slowdowns, curve, samples, budget_ns);
        (share, Box::new(|samples| Draw::mean_ns(service, slowdowns, curve, samples)))
    });
    let end_ns = |query: &super::TraceQuery| (query.arrival + query.sla).as_nanos() as f64;
    let last_ns = trace.queries().iter().map(end_ns).fold(0.0, f64::max);
    let first_ns = trace.queries().first().map_or(0.0, |query| query.arrival.as_nanos() as f64);
    let capacity = |lanes: u32| f64::from(lanes) * (last_ns - first_ns);
    let capacities: Vec<f64> =
        profiles.devices().iter().map(|device| capacity(device.lanes)).collect();

    let correct_in_time = least_dual(&lucky.0, &lucky.1, &capacities);
    let expected = least_dual(&average.0, &average.1, &capacities).min(correct_in_time);
    Ok(Bound {
        correct_in_time,
        correct_in_time_per_s: correct_in_time / trace.seconds(),
        expected_per_s: expected / trace.seconds(),
    })
}

/// Every way to answer each query, and where each query's ways end. `law` gives the probability
/// that a query is in time, and the lane time of a batch by its size.
fn ways<'p>(
    profiles: &'p Profiles,
    trace: &Trace,
    state: &RouterState,
    law: impl Fn(&'p ServiceCurve, u32, f64) -> (f64, Box<dyn Fn(u32) -> f64 + 'p>),
) -> (Vec<Way>, Vec<usize>) {
    let mut ways: Vec<Way> = Vec::new();
    let mut ends = Vec::with_capacity(trace.queries().len());
    for query in trace.queries() {
        for path in profiles.ids() {
            let profile = profiles.path(path);
            let (share, lane_ns) =
                law(&profile.service, query.samples, query.sla.as_secs_f64() * 1e9);
            if profile.accuracy < query.min_quality || share <= 0.0 {
                continue;
            }
            let largest = state.max_batch(path).max(query.samples);
            let per_sample =
                cheapest_per_sample(&profile.service, query.samples, largest, &lane_ns);
            ways.push(Way {
                device: usize::from(profiles.device_of(path).0),
                value: f64::from(query.samples) * profile.accuracy * share,
                cost_ns: f64::from(query.samples) * per_sample,
            });
        }
        ends.push(ways.len());
    }
    (ways, ends)
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

/// Lowers `g` one price at a time; each is a convex function of one variable, whose slope is the
/// lane time that is there less what is bought.
fn least_dual(ways: &[Way], ends: &[usize], capacities: &[f64]) -> f64 {
    // The value, and its slope in the price of one device.
    let dual = |prices: &[f64], device: usize| {
        let supply = prices.iter().zip(capacities).map(|(price, capacity)| price * capacity);
        let (mut value, mut slope) = (supply.sum::<f64>(), capacities[device]);
        let mut start = 0;
        for &end in ends {
            let (mut best, mut bought_ns) = (0.0, 0.0);
            for way in &ways[start..end] {
                let worth = way.value - prices[way.device] * way.cost_ns;
                if worth > best {
                    best = worth;
                    bought_ns = if way.device == device { way.cost_ns } else { 0.0 };
                }
            }
            value += best;
            slope -= bought_ns;
            start = end;
        }
        (value, slope)
    };
    // Above its highest value per nanosecond, a device's time is bought by nobody.
    let highest = ways.iter().map(|way| way.value / way.cost_ns).fold(0.0, f64::max);
    let mut prices = vec![0.0; capacities.len()];
    let (mut least, _) = dual(&prices, 0);
    let sweeps = if prices.len() == 1 { 1 } else { 6 };
    for _ in 0..sweeps {
        for device in 0..prices.len() {
            let (mut low, mut high) = (0.0, highest);
            for _ in 0..40 {
                prices[device] = 0.5 * (low + high);
                let (value, slope) = dual(&prices, device);
                least = least.min(value);
                if slope < 0.0 { low = prices[device] } else { high = prices[device] }
            }
            // The price that stays for the next device's search may be at an end.
            prices[device] = if low == 0.0 { 0.0 } else { 0.5 * (low + high) };
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
