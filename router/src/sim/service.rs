//! How long batches really take in a simulation.

use std::{fmt, str::FromStr, time::Duration};

use rand::{Rng, SeedableRng, rngs::StdRng};
use rand_distr::{Distribution, Exp1};

use crate::{DeviceId, PathId, ServiceCurve, Time};

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
    random: StdRng,
}

impl<'s> Draw<'s> {
    pub(super) fn new(config: &'s SimConfig) -> Self {
        Self {
            service: config.service,
            slowdowns: &config.slowdowns,
            ratios: &config.ratios,
            taken: vec![0; config.ratios.len()],
            random: StdRng::seed_from_u64(config.seed ^ 0x5E27_1CE5),
        }
    }

    pub(super) fn next(
        &mut self,
        curve: &ServiceCurve,
        path: PathId,
        device: DeviceId,
        samples: u32,
        now: Time,
    ) -> Duration {
        let at = usize::from(path.0);
        let nanos = match self.service {
            _ if self.ratios.get(at).is_some_and(|ratios| !ratios.is_empty()) => {
                let (ratios, taken) = (&self.ratios[at], &mut self.taken[at]);
                let ratio = ratios[*taken % ratios.len()];
                *taken += 1;
                curve.mean_ns(samples) * f64::from(ratio)
            }
            Service::Quantiles => curve.draw_ns(samples, self.random.random()),
            Service::Median => curve.p50_ns(samples),
            Service::Exponential => {
                let unit: f64 = Exp1.sample(&mut self.random);
                unit * curve.p50_ns(samples)
            }
        };
        let here = |slowdown: &&Slowdown| {
            slowdown.from <= now && slowdown.device.is_none_or(|slow| slow == device)
        };
        let factor = self.slowdowns.iter().rfind(here).map_or(1.0, |slowdown| slowdown.factor);
        Duration::from_nanos((nanos * factor).max(1.0) as u64)
    }

    /// The least that [`next`](Self::next) can return on a path whose least recorded ratio is given.
    pub(super) fn least_ns(
        config: &SimConfig,
        least_ratio: Option<f32>,
        curve: &ServiceCurve,
        samples: u32,
    ) -> f64 {
        let nanos = match (least_ratio, config.service) {
            (Some(ratio), _) => curve.mean_ns(samples) * f64::from(ratio),
            (None, Service::Quantiles) => curve.low_ns(samples),
            (None, Service::Median) => curve.p50_ns(samples),
            (None, Service::Exponential) => 1.0,
        };
        config.slowdowns.iter().map(|slowdown| slowdown.factor).fold(1.0, f64::min) * nanos
    }
}
