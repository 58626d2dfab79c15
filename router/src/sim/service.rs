//! How long batches really take in a simulation.
//!
//! A draw is a function of the seed and of the batch's most urgent query, not of how many draws came
//! before. So two policies that run the same query alone on the same path see the same time, and a
//! comparison on one trace is paired: what differs is what the policies did, not their luck.

use std::{fmt, str::FromStr, time::Duration};

use crate::{DeviceId, PathId, QueryId, ServiceCurve, Time};

use super::{SimConfig, SpecError};

/// What actual service times are drawn from.
///
/// As text: `quantiles`, `median`, `exponential`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Service {
    /// The profile's distribution, through its quantiles.
    #[default]
    Quantiles,
    /// The profile's median, always.
    Median,
    /// An exponential with the mean of the profile's median. No machine behaves so; queueing
    /// theory does, and the simulator is checked against it.
    Exponential,
}

impl FromStr for Service {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        match text {
            "quantiles" => Ok(Self::Quantiles),
            "median" => Ok(Self::Median),
            "exponential" => Ok(Self::Exponential),
            _ => Err(SpecError::Unknown {
                text: text.to_owned(),
                known: "`quantiles`, `median`, `exponential`",
            }),
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Quantiles => "quantiles",
            Self::Median => "median",
            Self::Exponential => "exponential",
        })
    }
}

/// From some moment on, batches take `factor` times as long as the profile says.
///
/// The last change that has begun holds, per device.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Slowdown {
    /// When it begins.
    pub from: Time,
    /// Which device; all of them if `None`.
    pub device: Option<DeviceId>,
    /// How many times as long; above 0.
    pub factor: f64,
}

/// Draws actual service times.
#[derive(Debug)]
pub(super) struct Draw<'s> {
    service: Service,
    slowdowns: &'s [Slowdown],
    ratios: &'s [Vec<f32>],
    /// How many ratios of each path were taken.
    taken: Vec<usize>,
    seed: u64,
}

impl<'s> Draw<'s> {
    pub(super) fn new(config: &'s SimConfig) -> Self {
        Self {
            service: config.service,
            slowdowns: &config.slowdowns,
            ratios: &config.ratios,
            taken: vec![0; config.ratios.len()],
            seed: mix(config.seed ^ 0x5E27_1CE5),
        }
    }

    /// The time of a batch of `samples` whose most urgent query is `head`.
    pub(super) fn next(
        &mut self,
        curve: &ServiceCurve,
        path: PathId,
        device: DeviceId,
        samples: u32,
        head: QueryId,
        now: Time,
    ) -> Duration {
        // 53 bits are what a float in [0, 1) can hold.
        let uniform = (mix(self.seed ^ mix(head.0)) >> 11) as f64 / (1u64 << 53) as f64;
        let at = usize::from(path.0);
        let nanos = match self.service {
            _ if self.ratios.get(at).is_some_and(|ratios| !ratios.is_empty()) => {
                let (ratios, taken) = (&self.ratios[at], &mut self.taken[at]);
                let ratio = ratios[*taken % ratios.len()];
                *taken += 1;
                curve.mean_ns(samples) * f64::from(ratio)
            }
            Service::Quantiles => curve.draw_ns(samples, uniform),
            Service::Median => curve.p50_ns(samples),
            Service::Exponential => -(-uniform).ln_1p() * curve.p50_ns(samples),
        };
        let here = |slowdown: &&Slowdown| {
            slowdown.from <= now && slowdown.device.is_none_or(|slow| slow == device)
        };
        let factor = self.slowdowns.iter().rfind(here).map_or(1.0, |slowdown| slowdown.factor);
        Duration::from_nanos((nanos * factor).max(1.0) as u64)
    }

    /// At most the least that [`next`](Self::next) can return, which drops parts of a nanosecond, on a path with these
    /// recorded ratios, if any.
    pub(super) fn least_ns(
        config: &SimConfig,
        ratios: &[f32],
        curve: &ServiceCurve,
        samples: u32,
    ) -> f64 {
        let nanos = match (ratios.iter().copied().reduce(f32::min), config.service) {
            (Some(ratio), _) => curve.mean_ns(samples) * f64::from(ratio),
            (None, Service::Quantiles) => curve.low_ns(samples),
            (None, Service::Median) => curve.p50_ns(samples),
            (None, Service::Exponential) => 1.0,
        };
        (fastest(&config.slowdowns) * nanos - 1.0).max(1.0)
    }

    /// The average that [`next`](Self::next) returns while the machine is at its fastest.
    pub(super) fn mean_ns(
        config: &SimConfig,
        ratios: &[f32],
        curve: &ServiceCurve,
        samples: u32,
    ) -> f64 {
        let nanos = match config.service {
            _ if !ratios.is_empty() => {
                let sum: f64 = ratios.iter().copied().map(f64::from).sum();
                curve.mean_ns(samples) * sum / ratios.len() as f64
            }
            Service::Quantiles => curve.mean_ns(samples),
            Service::Median | Service::Exponential => curve.p50_ns(samples),
        };
        fastest(&config.slowdowns) * nanos
    }

    /// The probability that [`next`](Self::next) returns `nanos` or less while the machine is at
    /// its fastest.
    pub(super) fn share_within(
        config: &SimConfig,
        ratios: &[f32],
        curve: &ServiceCurve,
        samples: u32,
        nanos: f64,
    ) -> f64 {
        let nanos = nanos / fastest(&config.slowdowns);
        match config.service {
            _ if !ratios.is_empty() => {
                let most = nanos / curve.mean_ns(samples);
                let within = ratios.iter().filter(|&&ratio| f64::from(ratio) <= most).count();
                within as f64 / ratios.len() as f64
            }
            Service::Quantiles => curve.share_within(samples, nanos),
            Service::Median => f64::from(u8::from(curve.p50_ns(samples) <= nanos)),
            Service::Exponential => -(-nanos / curve.p50_ns(samples)).exp_m1(),
        }
    }
}

/// The least factor that ever holds.
fn fastest(slowdowns: &[Slowdown]) -> f64 {
    slowdowns.iter().map(|slowdown| slowdown.factor).fold(1.0, f64::min)
}

/// SplitMix64's finaliser: every bit of the result depends on every bit of `value`.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_have_the_mean_and_the_distribution_that_they_claim() {
        let curve = ServiceCurve::from_medians(&[(1, 100.0), (64, 900.0)], 1.1, 1.25).unwrap();
        let count = 100_000;
        let recorded = vec![0.9, 1.0, 1.1, 1.4];
        for (service, ratios) in [
            (Service::Quantiles, Vec::new()),
            (Service::Median, Vec::new()),
            (Service::Exponential, Vec::new()),
            (Service::Quantiles, recorded),
        ] {
            let config = SimConfig {
                service,
                seed: 5,
                ratios: vec![ratios.clone()],
                ..SimConfig::default()
            };
            let mut draw = Draw::new(&config);
            let draws: Vec<f64> = (0..count)
                .map(|id| draw.next(&curve, PathId(0), DeviceId(0), 20, QueryId(id), Time::ZERO))
                .map(|span| span.as_nanos() as f64)
                .collect();
            let mean = draws.iter().sum::<f64>() / count as f64;
            let claimed = Draw::mean_ns(&config, &ratios, &curve, 20);
            assert!((mean / claimed - 1.0).abs() < 0.01, "{service}: {mean} and {claimed}");
            for nanos in [0.95, 1.05, 1.2, 1.3].map(|times| times * curve.p50_ns(20)) {
                let within = draws.iter().filter(|&&draw| draw <= nanos).count() as f64;
                let claimed = Draw::share_within(&config, &ratios, &curve, 20, nanos);
                assert!((within / count as f64 - claimed).abs() < 0.005, "{service} {nanos}");
            }
        }
    }

    #[test]
    fn a_query_takes_as_long_whatever_ran_before_it() {
        let curve = ServiceCurve::from_medians(&[(1, 100.0)], 1.1, 1.25).unwrap();
        let config = SimConfig { seed: 5, ..SimConfig::default() };
        let mut draw = Draw::new(&config);
        let mut next = |id| draw.next(&curve, PathId(0), DeviceId(0), 1, QueryId(id), Time::ZERO);
        let first = next(7);
        assert_ne!(first, next(8));
        assert_eq!(first, next(7));
    }
}
