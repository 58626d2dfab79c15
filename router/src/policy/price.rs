//! The price of device time, learnt from the load that is offered.
//!
//! See [`MultiPath`](super::MultiPath) for what it is used for and why it has this form.

use crate::Time;

/// Weight of one arrival in the averages of the load.
const RATE: f64 = 1.0 / 64.0;

/// Gaps between arrivals and the time budgets that queries come with.
#[derive(Debug, Clone, Default)]
pub(super) struct Load {
    arrivals: u64,
    last: Time,
    gap_ns: f64,
    gap_square: f64,
    budget_ns: f64,
}

impl Load {
    /// Counts an arrival; returns the weight that the other averages give to it.
    pub(super) fn arrived(&mut self, now: Time, budget_ns: f64) -> f64 {
        self.arrivals += 1;
        let weight = RATE.max(1.0 / self.arrivals as f64);
        self.budget_ns += weight * (budget_ns - self.budget_ns);
        if self.arrivals > 1 {
            let gap_ns = now.nanos_from(self.last).max(0.0);
            let weight = RATE.max(1.0 / (self.arrivals - 1) as f64);
            self.gap_ns += weight * (gap_ns - self.gap_ns);
            self.gap_square += weight * (gap_ns * gap_ns - self.gap_square);
        }
        self.last = now;
        weight
    }

    /// Squared coefficient of variation of the gaps: 1 for Poisson arrivals, 0 for a metronome.
    fn variation(&self) -> f64 {
        if self.gap_ns <= 0.0 {
            return 1.0;
        }
        (self.gap_square / (self.gap_ns * self.gap_ns) - 1.0).clamp(0.0, 20.0)
    }
}

/// The demand on one device, counted in the lane time of its cheapest path.
#[derive(Debug, Clone, Default)]
pub(super) struct Demand {
    work_ns: f64,
    work_square: f64,
    /// What a nanosecond of lane time earns: correct predictions, above what the query could
    /// have earned elsewhere.
    density: f64,
}

impl Demand {
    /// Counts what an offered query would have cost here at least (0 if it went elsewhere), and
    /// what that time could have earned.
    pub(super) fn offered(&mut self, weight: f64, work_ns: f64, density: f64) {
        self.work_ns += weight * (work_ns - self.work_ns);
        self.work_square += weight * (work_ns * work_ns - self.work_square);
        self.density += weight * (density - self.density);
    }

    /// The price list of this device for the present load.
    pub(super) fn price(&self, load: &Load, lanes: f64) -> Price {
        let utilisation =
            if load.gap_ns > 0.0 { self.work_ns / (load.gap_ns * lanes) } else { 0.0 };
        if self.work_ns <= 0.0 {
            return Price { scale: 0.0, theta: 0.0, knee_ns: 0.0, lanes };
        }
        // E[S²]/E[S], the mean length of the query that a random moment of service belongs to.
        let typical_ns = self.work_square / self.work_ns;
        let spread_ns =
            (typical_ns + self.work_ns * (load.variation() - 1.0)).max(0.2 * typical_ns);
        let theta = 2.0 * (1.0 - utilisation).max(0.0) * lanes / spread_ns;
        let knee_ns = (load.budget_ns - 1.2 * typical_ns).max(0.0);
        Price { scale: self.density * utilisation.min(1.0), theta, knee_ns, lanes }
    }
}

/// What lane time costs on one device, by how much of it is already taken.
#[derive(Debug, Clone, Copy)]
pub(super) struct Price {
    scale: f64,
    theta: f64,
    knee_ns: f64,
    lanes: f64,
}

impl Price {
    /// Correct predictions that later queries are expected to lose if `cost_ns` of lane time are
    /// added to a device whose lanes each have `workload_ns` to do.
    pub(super) fn of(&self, workload_ns: f64, cost_ns: f64) -> f64 {
        let after_ns = workload_ns + cost_ns / self.lanes;
        let added = self.potential(after_ns) - self.potential(workload_ns);
        (self.scale * self.lanes * added).max(0.0)
    }

    fn potential(&self, workload_ns: f64) -> f64 {
        // Below this the exponential is a straight line over the whole range.
        if self.theta * self.knee_ns < 1e-6 {
            return workload_ns;
        }
        let below = self.theta * (self.knee_ns - workload_ns);
        if below > 0.0 { (-below).exp() / self.theta } else { (1.0 - below) / self.theta }
    }
}
