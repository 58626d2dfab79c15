//! The moments of an arrival process, one after the other.

use rand::{Rng, SeedableRng, rngs::StdRng};
use rand_distr::{Distribution, Exp1, Poisson};

use crate::Time;

use super::Arrivals;

/// Iterates over moments of arrival. Random processes go on for ever, a trace ends.
#[derive(Debug)]
pub(super) struct Moments<'a> {
    arrivals: &'a Arrivals,
    random: StdRng,
    count: usize,
    /// The last moment, seconds from the start.
    seconds: f64,
    /// Whether a burst is on, and when it or the calm ends.
    burst: bool,
    until: f64,
}

impl<'a> Moments<'a> {
    pub(super) fn new(arrivals: &'a Arrivals, seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed ^ 0xA221_7A15);
        let (mut burst, mut until) = (false, 0.0);
        if let Arrivals::Bursty { share, seconds, .. } = *arrivals {
            // The state that a clock finds which is read at any time; holding times have no memory.
            burst = random.random::<f64>() < share;
            until = holding(burst, share, seconds, &mut random);
        }
        Self { arrivals, random, count: 0, seconds: 0.0, burst, until }
    }

    /// Seconds to the next arrival of a Poisson process.
    fn gap(&mut self, rate: f64) -> f64 {
        let unit: f64 = Exp1.sample(&mut self.random);
        unit / rate
    }

    /// A Poisson process whose rate alternates. What is left of a gap when the state changes is drawn anew, which an
    /// exponential does not notice.
    fn bursty(&mut self, rate: f64, times: f64, share: f64, seconds: f64) -> f64 {
        loop {
            let here = if self.burst { times } else { calm(times, share) };
            let next =
                if here > 0.0 { self.seconds + self.gap(rate * here) } else { f64::INFINITY };
            if next <= self.until {
                return next;
            }
            self.seconds = self.until;
            self.burst = !self.burst;
            self.until += holding(self.burst, share, seconds, &mut self.random);
        }
    }

    /// A Poisson process at the highest rate, thinned to the rate of the moment (Lewis and Shedler, 1979).
    fn diurnal(&mut self, rate: f64, swing: f64, period: f64) -> f64 {
        let highest = rate * (1.0 + swing);
        loop {
            self.seconds += self.gap(highest);
            let phase = std::f64::consts::TAU * self.seconds / period;
            let here = rate * (1.0 + swing * phase.sin());
            if self.random.random::<f64>() * highest < here {
                return self.seconds;
            }
        }
    }
}

impl Iterator for Moments<'_> {
    type Item = Time;

    fn next(&mut self) -> Option<Time> {
        self.count += 1;
        self.seconds = match *self.arrivals {
            Arrivals::Trace(ref times) => return times.get(self.count - 1).copied(),
            // Not a sum of gaps, which would drift.
            Arrivals::Fixed { rate } => self.count as f64 / rate,
            Arrivals::Poisson { rate } => self.seconds + self.gap(rate),
            Arrivals::Bursty { rate, times, share, seconds } => {
                self.bursty(rate, times, share, seconds)
            }
            Arrivals::Diurnal { rate, swing, period } => self.diurnal(rate, swing, period),
            Arrivals::DeepRecSys { gap_ms } => {
                let millis = Poisson::new(gap_ms).map_or(gap_ms, |it| it.sample(&mut self.random));
                self.seconds + millis * 1e-3
            }
        };
        Some(Time::from_secs_f64(self.seconds))
    }
}

/// The rate between bursts, as a multiple of the mean rate.
fn calm(times: f64, share: f64) -> f64 {
    ((1.0 - share * times) / (1.0 - share)).max(0.0)
}

/// How long a burst, or the calm after it, lasts.
fn holding(burst: bool, share: f64, seconds: f64, random: &mut StdRng) -> f64 {
    let mean = if burst { seconds } else { seconds * (1.0 - share) / share };
    let unit: f64 = Exp1.sample(random);
    unit * mean
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Arrivals in each of `count` windows of `window` seconds.
    fn counts(arrivals: &str, window: f64, count: usize) -> Vec<f64> {
        let arrivals: Arrivals = arrivals.parse().unwrap();
        let mut counts = vec![0.0; count];
        for time in Moments::new(&arrivals, 5) {
            match counts.get_mut((time.as_secs_f64() / window) as usize) {
                Some(count) => *count += 1.0,
                None => break,
            }
        }
        counts
    }

    fn mean(values: &[f64]) -> f64 {
        values.iter().sum::<f64>() / values.len() as f64
    }

    /// The variance of the counts over their mean: 1 for a Poisson process, whatever its rate.
    fn dispersion(values: &[f64]) -> f64 {
        let mean = mean(values);
        values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64 / mean
    }

    #[test]
    fn bursts_keep_the_mean_rate_and_have_the_dispersion_of_their_formula() {
        let counts = counts("bursty:1000,4,0.1,0.2", 1.0, 40_000);
        assert!((mean(&counts) / 1_000.0 - 1.0).abs() < 0.02, "{}", mean(&counts));
        // Of a two-state MMPP over time t: 1 + 2·Δ²·π₁π₀/(rate·s)·(1 - (1 - e^{-st})/(st)), where Δ is the
        // difference of the rates, π the shares of the states and s the sum of the rates of change.
        let (share, seconds): (f64, f64) = (0.1, 0.2);
        let change = 1.0 / seconds + share / (seconds * (1.0 - share));
        let difference: f64 = 1_000.0 * (4.0 - (1.0 - 0.4) / 0.9);
        let factor = 1.0 - (1.0 - (-change).exp()) / change;
        let exact =
            1.0 + 2.0 * difference.powi(2) * share * (1.0 - share) / (1_000.0 * change) * factor;
        let found = dispersion(&counts);
        assert!((found / exact - 1.0).abs() < 0.1, "{found} against {exact}");
    }

    #[test]
    fn a_day_has_its_mean_its_peak_and_its_trough() {
        let counts = counts("diurnal:200,0.8,100", 25.0, 400);
        assert!((mean(&counts) / 5_000.0 - 1.0).abs() < 0.01, "{}", mean(&counts));
        // Over the first quarter, sin averages 2/π.
        let quarter = |at: usize| -> f64 {
            mean(&counts.iter().skip(at).step_by(4).copied().collect::<Vec<_>>()) / 5_000.0
        };
        let exact = 0.8 * std::f64::consts::FRAC_2_PI;
        assert!((quarter(0) - (1.0 + exact)).abs() < 0.02, "{}", quarter(0));
        assert!((quarter(2) - (1.0 - exact)).abs() < 0.02, "{}", quarter(2));
    }

    #[test]
    fn gaps_of_deeprecsys_are_whole_milliseconds_of_a_poisson_law() {
        let arrivals: Arrivals = "deeprecsys:5".parse().unwrap();
        let times: Vec<f64> =
            Moments::new(&arrivals, 1).take(100_001).map(|time| time.as_secs_f64()).collect();
        let gaps: Vec<f64> = times.windows(2).map(|pair| (pair[1] - pair[0]) * 1e3).collect();
        assert!(gaps.iter().all(|gap| (gap - gap.round()).abs() < 1e-3));
        assert!((mean(&gaps) - 5.0).abs() < 0.05, "{}", mean(&gaps));
        // The variance of a Poisson law is its mean, so that gaps vary less than exponential ones: 5 against 25.
        assert!((dispersion(&gaps) - 1.0).abs() < 0.03, "{}", dispersion(&gaps));
    }

    #[test]
    fn a_seed_gives_the_same_moments_and_another_seed_others() {
        for text in ["poisson:10", "bursty:10,3,0.2,1", "diurnal:10,0.5,60", "deeprecsys:20"] {
            let arrivals: Arrivals = text.parse().unwrap();
            let first: Vec<_> = Moments::new(&arrivals, 1).take(9).collect();
            assert!(first.is_sorted());
            assert_eq!(first, Moments::new(&arrivals, 1).take(9).collect::<Vec<_>>());
            assert_ne!(first, Moments::new(&arrivals, 2).take(9).collect::<Vec<_>>());
        }
    }
}
