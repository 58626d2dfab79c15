//! The price of device time, learnt from the load that is offered.
//!
//! The documentation of `multi_path` derives the formula and says what it is used for.

use super::dispersion::Dispersion;
use crate::Time;

/// The least and the most arrivals that averages of the load look back on.
const WINDOW: (f64, f64) = (256.0, 8_192.0);
/// Averages look back on this many time budgets, within [`WINDOW`]: what is spent now is felt for
/// about one.
const BUDGETS: f64 = 8.0;
/// A price table is used for this many decisions.
const REFRESH: u64 = 128;
/// Utilisation of the most accurate path at which its own queue begins not to count, and that at
/// which it counts no more.
const FULL: (f64, f64) = (1.0, 1.1);
/// The least share of the lanes' time that the most accurate path's own queue is taken to leave.
const LEAST_LEFT: f64 = 0.02;
/// Intervals of a price table.
const STEPS: usize = 40;
/// Upper ends of the size classes: service time as a share of the time budget.
const CLASSES: [f64; 7] = [0.03, 0.1, 0.2, 0.35, 0.5, 0.75, f64::INFINITY];

/// Gaps between arrivals and the time budgets that queries come with.
#[derive(Debug, Clone, Default)]
pub(super) struct Load {
    arrivals: u64,
    last: Option<Time>,
    gap_ns: f64,
    gap_square: f64,
    budget_ns: f64,
}

impl Load {
    /// Nothing counted, and Poisson arrivals taken to come every `gap_ns`.
    pub(super) fn with_gap(gap_ns: f64) -> Self {
        Self { gap_ns, gap_square: 2.0 * gap_ns * gap_ns, ..Self::default() }
    }

    /// Whether nothing was counted.
    pub(super) fn is_unknown(&self) -> bool {
        self.arrivals == 0
    }

    /// Counts an arrival; returns the weight that the other averages give to it.
    pub(super) fn arrived(&mut self, now: Time, budget_ns: f64) -> f64 {
        self.arrivals += 1;
        let weight = self.weight();
        self.budget_ns += weight * (budget_ns - self.budget_ns);
        if let Some(last) = self.last {
            let gap_ns = now.nanos_from(last).max(0.0);
            self.gap_ns += weight * (gap_ns - self.gap_ns);
            self.gap_square += weight * (gap_ns * gap_ns - self.gap_square);
        }
        self.last = Some(now);
        weight
    }

    pub(super) fn due(&self) -> bool {
        self.arrivals.is_multiple_of(REFRESH) || self.arrivals < REFRESH
    }

    fn weight(&self) -> f64 {
        let per_budget = if self.gap_ns > 0.0 { self.budget_ns / self.gap_ns } else { 0.0 };
        let window = (BUDGETS * per_budget).clamp(WINDOW.0, WINDOW.1);
        (1.0 / window).max(1.0 / self.arrivals as f64)
    }

    /// The share of the time that queries of this mean length take.
    pub(super) fn utilisation(&self, mean_ns: f64) -> f64 {
        if self.gap_ns > 0.0 { mean_ns / self.gap_ns } else { 0.0 }
    }

    /// Squared coefficient of variation of the gaps: 1 for Poisson arrivals, 0 for a metronome.
    fn variation(&self) -> f64 {
        if self.gap_ns <= 0.0 {
            return 1.0;
        }
        (self.gap_square / (self.gap_ns * self.gap_ns) - 1.0).clamp(0.0, 20.0)
    }
}

/// One offered query, as a device sees it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Offer {
    /// Lane time on the cheapest path; 0 if another device took the query.
    pub(super) work_ns: f64,
    /// Lane time on the most accurate path that could take it.
    pub(super) dearest_ns: f64,
    /// Lane time of a full batch on that path.
    pub(super) batch_ns: f64,
    /// The part of a full batch's lane time, on the cheapest path, that does not depend on what is in it.
    pub(super) shared_ns: f64,
    /// What a nanosecond of lane time could have earned.
    pub(super) density: f64,
    /// Correct predictions it is worth.
    pub(super) value: f64,
    /// Its time budget.
    pub(super) budget_ns: f64,
    /// Upper over expected service time.
    pub(super) margin: f64,
}

/// The load on all devices together.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Machine {
    /// Offered work over what they can do, every one on its cheapest path.
    pub(super) utilisation: f64,
    /// How far they are from carrying it: 0 if they can, 1 if they cannot.
    pub(super) fullness: f64,
}

/// The demand on one device, counted in the lane time of its cheapest path.
#[derive(Debug, Clone, Default)]
pub(super) struct Demand {
    work_ns: f64,
    work_square: f64,
    dearest_ns: f64,
    batch_ns: f64,
    shared_ns: f64,
    margin: f64,
    /// What a nanosecond of lane time earns: correct predictions, above what the query could
    /// have earned elsewhere. An average of ratios: where queries join batches, the cheap ones weigh
    /// more than in a ratio of averages, which prices such a device too low for bursts.
    density: f64,
    dispersion: Dispersion,
    classes: [Class; CLASSES.len()],
}

/// Queries of similar size: their value, and their service time weighted by value.
#[derive(Debug, Clone, Copy, Default)]
struct Class {
    value: f64,
    service: f64,
}

impl Demand {
    /// Counts an offered query.
    pub(super) fn offered(&mut self, load: &Load, weight: f64, offer: &Offer) {
        let work_ns = offer.work_ns;
        self.dispersion.arrived(load.last.unwrap_or_default(), work_ns, load.budget_ns);
        let mean = |average: &mut f64, value: f64| *average += weight * (value - *average);
        mean(&mut self.work_ns, work_ns);
        mean(&mut self.work_square, work_ns * work_ns);
        mean(&mut self.density, offer.density);
        if work_ns <= 0.0 {
            return;
        }
        mean(&mut self.dearest_ns, offer.dearest_ns);
        mean(&mut self.batch_ns, offer.batch_ns);
        mean(&mut self.shared_ns, offer.shared_ns);
        mean(&mut self.margin, offer.margin);
        let share = work_ns / offer.budget_ns;
        let here = CLASSES.iter().position(|&end| share <= end).unwrap_or(CLASSES.len() - 1);
        for (at, class) in self.classes.iter_mut().enumerate() {
            let value = if at == here { offer.value } else { 0.0 };
            mean(&mut class.value, value);
            mean(&mut class.service, value * work_ns);
        }
    }

    /// Writes the price list of this device for the present load, given that on all devices together.
    pub(super) fn price(&self, load: &Load, machine: Machine, lanes: f64, price: &mut Price) {
        price.scale = 0.0;
        if self.work_ns <= 0.0 || load.gap_ns <= 0.0 {
            return;
        }
        // The variance of arriving work: `E[S²]/E[S]²` of its sizes plus what gaps add to Poisson's,
        // or what was seen over whole time budgets if that is more.
        let typical_ns = self.work_square / self.work_ns;
        let from_gaps = typical_ns / self.work_ns + load.variation() - 1.0;
        let variance = self.dispersion.of(self.work_ns).unwrap_or(0.0).max(from_gaps).max(0.2);
        let measured = self.work_ns / (load.gap_ns * lanes);
        let seen = (2.0 / load.weight()).min(load.arrivals as f64);
        // What other devices take is not seen here until they are full.
        let expected = measured.max(machine.fullness * machine.utilisation);
        let utilisation = expected * (1.0 + (variance / seen).sqrt());
        let theta = decay(utilisation, variance) * lanes / self.work_ns;

        // Room for the prediction's own allowance after a wait of the whole budget.
        let wait_square = load.budget_ns * typical_ns;
        // A queue of five accurate queries keeps the lanes from idling; eight decay lengths above
        // it, the price is 1/3000. Where the lanes can carry everything on the most accurate path,
        // its own queue is allowed too, as far as its budget goes: it comes down by itself, and a
        // lower limit would give up accuracy for nothing. Beyond that path's capacity its queue
        // would only grow.
        let dear = measured * self.dearest_ns / self.work_ns;
        let counts = ((FULL.1 - dear) / (FULL.1 - FULL.0)).clamp(0.0, 1.0);
        let left = (1.0 - dear).max(LEAST_LEFT);
        let alone_ns = counts * 8.0 * self.dearest_ns * variance / (2.0 * left * lanes);
        let cap_ns = if theta > 0.0 {
            (5.0 * self.dearest_ns / lanes).max(2.0 * self.batch_ns) + alone_ns + 8.0 / theta
        } else {
            f64::INFINITY
        };
        let total: f64 = self.classes.iter().map(|class| class.value).sum();
        let knees = self.classes.map(|class| {
            let service_ns = class.service / class.value.max(f64::MIN_POSITIVE);
            let allowance_ns = (self.margin - 1.0) * (service_ns * service_ns + wait_square).sqrt();
            let knee_ns = (load.budget_ns - service_ns - allowance_ns).clamp(0.0, cap_ns);
            if class.value > 0.0 { knee_ns } else { 0.0 }
        });
        // Up to the last knee, beyond which prices are full. A long budget may lie a hundred times beyond it.
        price.step_ns = knees.iter().copied().fold(1.0, f64::max) / STEPS as f64;
        price.table = [0.0; STEPS + 1];
        price.full = 0.0;
        // In overload a lane does not idle. While no more waits than fits a batch, what comes meanwhile
        // joins it, and the fixed part of a batch is paid whatever is done now.
        let free_ns = machine.fullness * self.shared_ns;
        for (class, knee_ns) in
            self.classes.iter().zip(knees).filter(|(class, _)| class.value > 0.0)
        {
            let share =
                class.value / total * busy(expected, knee_ns * lanes / self.work_ns + lanes);
            price.full += share;
            for (at, entry) in price.table.iter_mut().enumerate() {
                let workload_ns = (at as f64 * price.step_ns - free_ns).max(0.0);
                *entry += share * potential(workload_ns, knee_ns, theta);
            }
        }
        price.utilisation = measured;
        price.scale = self.density * lanes;
        price.lanes = lanes;
    }
}

/// What lane time costs on one device, by how much of it is already taken.
#[derive(Debug, Clone)]
pub(super) struct Price {
    scale: f64,
    lanes: f64,
    utilisation: f64,
    step_ns: f64,
    table: [f64; STEPS + 1],
    /// The price beyond the table.
    full: f64,
}

/// A workload, and what all of it cost.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Level {
    workload_ns: f64,
    potential: f64,
}

impl Price {
    pub(super) fn new() -> Self {
        Self {
            scale: 0.0,
            lanes: 1.0,
            utilisation: 0.0,
            step_ns: 1.0,
            table: [0.0; STEPS + 1],
            full: 0.0,
        }
    }

    /// Where the price list is entered while each lane of the device has `workload_ns` to do.
    pub(super) fn at(&self, workload_ns: f64) -> Level {
        Level { workload_ns, potential: self.lookup(workload_ns) }
    }

    /// Correct predictions that later queries are expected to lose if `cost_ns` of lane time are
    /// added to a device at this level.
    pub(super) fn of(&self, level: Level, cost_ns: f64) -> f64 {
        if self.scale <= 0.0 {
            return 0.0;
        }
        let added = self.lookup(level.workload_ns + cost_ns / self.lanes) - level.potential;
        (self.scale * added).max(0.0)
    }

    /// Probability that `idle` lanes all become busy, roughly.
    pub(super) fn become_busy(&self, idle: usize) -> f64 {
        (1.3 * self.utilisation).min(1.0).powi(idle.min(64) as i32)
    }

    /// Linear between entries, and with the full price beyond the last.
    fn lookup(&self, workload_ns: f64) -> f64 {
        let place = workload_ns / self.step_ns;
        // A conversion to and from 64 bits would be several times as many instructions.
        let (at, from) = (place as u32 as usize, f64::from(place as u32));
        if at >= STEPS {
            return self.table[STEPS] + self.full * (workload_ns - self.step_ns * STEPS as f64);
        }
        self.table[at] + (place - from) * (self.table[at + 1] - self.table[at])
    }
}

/// How fast the probability of more work falls, per mean query: `θ` in units of `lanes / E[S]`.
///
/// Of Brownian work it is `2(1 - ρ)/σ²`. That is the limit for `ρ → 1` of Lundberg's exponent, the root of
/// `ρ·(E[e^{θS}] - 1) = θ` at a mean of 1, which holds at every load: where it is light, three
/// queries at once are far rarer than the Brownian tail says. Sizes are taken as gamma distributed with
/// the squared coefficient of variation `σ² - 1`; for exponential ones both agree.
fn decay(utilisation: f64, variance: f64) -> f64 {
    let brownian = 2.0 * (1.0 - utilisation) / variance;
    if utilisation >= 1.0 {
        return brownian;
    }
    let square = (variance - 1.0).max(0.0);
    let excess = |theta: f64| {
        let log = if square < 1e-3 { theta } else { -(-theta * square).ln_1p() / square };
        utilisation * log.exp_m1() - theta
    };
    // Convex, 0 at 0 and falling there: the other root is where the sign changes.
    let (mut low, mut high) = (0.0, if square < 1e-3 { 50.0 } else { (1.0 / square).min(50.0) });
    for _ in 0..24 {
        let middle = 0.5 * (low + high);
        if excess(middle) < 0.0 { low = middle } else { high = middle }
    }
    // Arrivals more even than Poisson's.
    if variance < 1.0 { low.max(brownian) } else { low }
}

/// The share of the time that a device is busy which is offered `utilisation` and holds `places` queries,
/// running or waiting, and refuses others: an M/M/1/K queue. A unit of work displaces others only
/// in that share. With one place it is `ρ/(1 + ρ)`, with many `min(ρ, 1)`.
fn busy(utilisation: f64, places: f64) -> f64 {
    let empty = if (utilisation - 1.0).abs() < 1e-6 {
        1.0 / (places + 1.0)
    } else {
        (utilisation - 1.0) / (utilisation.powf(places + 1.0) - 1.0)
    };
    1.0 - empty
}

/// The integral from 0 to `workload_ns` of the price `(e^{θB} - 1) / (e^{θK} - 1)`, which is 1
/// beyond the knee `K`.
fn potential(workload_ns: f64, knee_ns: f64, theta: f64) -> f64 {
    let below = workload_ns.min(knee_ns);
    let above = workload_ns - below;
    if knee_ns <= 0.0 {
        return above;
    }
    let range = theta * knee_ns;
    let inside = if range.abs() < 1e-3 {
        // The limit for θ → 0: the price grows linearly.
        below * below / (2.0 * knee_ns)
    } else if range > 30.0 {
        // e^{θK} overflows in time; the terms that are lost are below e^{-30}.
        ((below - knee_ns) * theta).exp() / theta
    } else {
        ((theta * below).exp_m1() / theta - below) / range.exp_m1()
    };
    inside + above
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_decay_is_that_of_known_queues() {
        // Exponential sizes: 1 - ρ at every load.
        for utilisation in [0.1, 0.5, 0.9] {
            assert!((decay(utilisation, 2.0) - (1.0 - utilisation)).abs() < 1e-5);
        }
        // Equal sizes: the root of ρ(e^x - 1) = x, and 2(1 - ρ) near capacity.
        let light = decay(0.1, 1.0);
        assert!((0.1 * light.exp_m1() / light - 1.0).abs() < 1e-4, "{light}");
        assert!((decay(0.99, 1.0) / 0.02 - 1.0).abs() < 0.01);
        assert!(decay(1.5, 1.0) < 0.0, "in overload the price is full at once");
    }

    #[test]
    fn a_device_is_busy_as_an_mm1k_queue_is() {
        assert!((busy(2.0, 1.0) - 2.0 / 3.0).abs() < 1e-12);
        assert!((busy(1.0, 3.0) - 0.75).abs() < 1e-12);
        assert!((busy(0.6, 1e3) - 0.6).abs() < 1e-12);
        assert!((busy(3.0, 1e6) - 1.0).abs() < 1e-12);
    }

    /// The price where a query of 100 µs on the cheapest path and 300 µs on the most accurate comes every `gap_us`.
    fn price_of(gap_us: u64, budget_ns: f64) -> Price {
        let mut load = Load::default();
        let mut demand = Demand::default();
        for at in 0..2_000 {
            let weight = load.arrived(Time::from_micros(gap_us * at), budget_ns);
            let offer = Offer {
                work_ns: 100_000.0,
                dearest_ns: 300_000.0,
                batch_ns: 600_000.0,
                shared_ns: 0.0,
                density: 1e-3,
                value: 100.0,
                budget_ns,
                margin: 1.2,
            };
            demand.offered(&load, weight, &offer);
        }
        let mut price = Price::new();
        demand.price(&load, Machine::default(), 1.0, &mut price);
        price
    }

    #[test]
    fn a_long_budget_does_not_make_time_on_an_idle_device_dear() {
        // The limit is a few queries above an idle device, at a thousandth of the budget.
        for budget_ns in [10e6, 200e6, 2e9] {
            let price = price_of(200, budget_ns);
            let idle = price.of(price.at(0.0), 3e5);
            assert!(idle < 0.01 * 1e-3 * 3e5, "{idle} at a budget of {budget_ns} ns");
            let full = price.of(price.at(0.99 * budget_ns), 1e5);
            assert!((full / (1e-3 * 1e5 * 0.5) - 1.0).abs() < 0.1, "{full} at {budget_ns} ns");
        }
    }

    #[test]
    fn the_price_is_nothing_when_idle_and_full_at_the_knee() {
        let price = price_of(200, 10e6);
        assert!(price.of(price.at(0.0), 1e5) < 1e-3 * 100.0, "{}", price.of(price.at(0.0), 1e5));
        let full = price.of(price.at(9.9e6), 1e5);
        assert!((full / (1e-3 * 1e5 * 0.5) - 1.0).abs() < 0.1, "{full}: half of the time is used");
    }
}
