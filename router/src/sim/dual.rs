//! The least value found of the dual of a clairvoyant bound; see [`oracle`](super::oracle).
//!
//! `g(λ) = Σ_q max(0, max_p (value - λ_{d(p)}·cost)) + Σ_d λ_d·C_d` over prices `λ ≥ 0` of lane time. Every price gives a
//! true bound, so that this search decides how tight it is and nothing else.

/// One way to answer a query, or all queries of one kind.
pub(super) struct Way {
    pub(super) device: usize,
    /// What the answers count.
    pub(super) value: f64,
    /// Lane time that they take.
    pub(super) cost_ns: f64,
}

/// Steps of the search for low prices. More make the bound tighter, never truer.
const RAY_STEPS: usize = 40;
const SUBGRADIENT_STEPS: usize = 200;
const SWEEPS: usize = 2;
const SWEEP_STEPS: usize = 32;

/// Lowers `g`, which is convex and has kinks: one price at a time is not enough, since it stays at nothing for
/// two devices that could each serve everything (while one is free, the other's price changes nothing). So all
/// prices together first, then along subgradients, then one by one.
pub(super) fn least_dual(ways: &[Way], ends: &[usize], capacities: &[f64]) -> f64 {
    let devices = capacities.len();
    // Above its highest value per nanosecond, a device's time is bought by nobody: prices are shares of that.
    let mut highest = vec![0.0f64; devices];
    for way in ways {
        highest[way.device] = highest[way.device].max(way.value / way.cost_ns);
    }
    let dual = Dual { ways, ends, capacities, highest: &highest };
    let mut least = Least { value: f64::INFINITY, at: vec![0.0; devices] };
    let mut slope = vec![0.0; devices];

    let mut shares = vec![0.0; devices];
    search(RAY_STEPS, |share| {
        shares.fill(share);
        least.offer(dual.value(&shares, &mut slope), &shares)
    });
    if devices > 1 {
        shares.clone_from(&least.at);
        for step in 1..=SUBGRADIENT_STEPS {
            least.offer(dual.value(&shares, &mut slope), &shares);
            let length = slope.iter().map(|slope| slope * slope).sum::<f64>().sqrt();
            if length == 0.0 {
                break;
            }
            let pace = 0.5 / (length * step as f64);
            for (share, slope) in shares.iter_mut().zip(&slope) {
                *share = (*share - pace * slope).clamp(0.0, 1.0);
            }
        }
        for device in (0..SWEEPS).flat_map(|_| 0..devices) {
            shares.clone_from(&least.at);
            search(SWEEP_STEPS, |share| {
                shares[device] = share;
                least.offer(dual.value(&shares, &mut slope), &shares)
            });
        }
    }
    least.value
}

/// Narrows `[0, 1]` around the minimum of a convex function.
fn search(steps: usize, mut value: impl FnMut(f64) -> f64) {
    let (mut low, mut high) = (0.0, 1.0);
    // No price at all is the minimum wherever time is left over.
    value(low);
    for _ in 0..steps {
        let (left, right) = (low + (high - low) / 3.0, high - (high - low) / 3.0);
        if value(left) <= value(right) { high = right } else { low = left }
    }
    value(0.5 * (low + high));
}

/// The least value so far, and the prices there.
struct Least {
    value: f64,
    at: Vec<f64>,
}

impl Least {
    fn offer(&mut self, value: f64, at: &[f64]) -> f64 {
        if value < self.value {
            self.value = value;
            self.at.copy_from_slice(at);
        }
        value
    }
}

/// `g`, over prices as shares of each device's highest.
struct Dual<'d> {
    ways: &'d [Way],
    ends: &'d [usize],
    capacities: &'d [f64],
    highest: &'d [f64],
}

impl Dual<'_> {
    /// `g`, and a subgradient of it: the time left over on each device, negative where too much is bought.
    fn value(&self, shares: &[f64], slope: &mut [f64]) -> f64 {
        let mut value = 0.0;
        for (device, share) in shares.iter().enumerate() {
            slope[device] = self.capacities[device] * self.highest[device];
            value += share * slope[device];
        }
        let mut start = 0;
        for &end in self.ends {
            let mut best: Option<(f64, &Way)> = None;
            for way in &self.ways[start..end] {
                let worth = way.value - shares[way.device] * self.highest[way.device] * way.cost_ns;
                if worth > best.map_or(0.0, |(worth, _)| worth) {
                    best = Some((worth, way));
                }
            }
            if let Some((worth, way)) = best {
                value += worth;
                slope[way.device] -= way.cost_ns * self.highest[way.device];
            }
            start = end;
        }
        value
    }
}
