//! The state itself: what is known of every path and device, from the start on.

use serde::Serialize;

use super::{ConfigError, RouterConfig};
use crate::{
    DeviceId, Health, Lanes, PathId, PathQueue, Profiles, Query, ServiceCurve, Time,
    correction::Correction,
    lateness::Lateness,
    parts::Parts,
    queue::{Planned, Queued},
    split,
};

/// Prices count on batches from which on larger ones save less than this share of the time per sample: fuller
/// ones come about only where many queries wait.
const USUAL_GAIN: f64 = 0.1;

/// A path while serving.
#[derive(Debug, Clone)]
pub struct PathState {
    /// Whether it can be given work.
    pub health: Health,
    /// What completed batches have taught about it.
    pub correction: Correction,
    /// What waits for it.
    pub queue: PathQueue,
    pub(super) device: DeviceId,
    /// A batch of the limit.
    pub(super) full: SizedBatch,
    /// One of the size that prices count on.
    pub(super) usual: SizedBatch,
    pub(super) splits_from: u32,
}

/// A batch of a certain size on a path, and its expected service time.
#[derive(Debug, Clone, Copy)]
pub(super) struct SizedBatch {
    pub(super) samples: u32,
    profiled_ns: f64,
    /// With the present correction.
    pub(super) corrected_ns: f64,
}

impl SizedBatch {
    fn new(curve: &ServiceCurve, samples: u32) -> Self {
        let profiled_ns = curve.mean_ns(samples);
        Self { samples, profiled_ns, corrected_ns: profiled_ns }
    }

    fn correct(&mut self, correction: &Correction) {
        self.corrected_ns = self.profiled_ns * correction.factor(self.samples);
    }

    /// The size and the service time of this batch or, if it takes longer than `longest_ns`, of the largest one
    /// that does not.
    pub(super) fn within(&self, longest_ns: f64, curve: &ServiceCurve) -> Option<(f64, f64)> {
        if self.corrected_ns <= longest_ns {
            return Some((f64::from(self.samples), self.corrected_ns));
        }
        let size = curve.largest_within(longest_ns * self.profiled_ns / self.corrected_ns)?;
        Some((size.min(f64::from(self.samples)), longest_ns))
    }
}

/// Everything a decision depends on.
///
/// The events that change it are few: [`admit`](Self::admit), [`next_batch`](Self::next_batch),
/// [`completed`](Self::completed) or [`failed`](Self::failed), [`cancel`](Self::cancel), and
/// [`set_health`](Self::set_health).
#[derive(Debug, Clone)]
pub struct RouterState {
    pub(super) profiles: Profiles,
    pub(super) config: RouterConfig,
    pub(super) paths: Vec<PathState>,
    pub(super) devices: Vec<Device>,
    pub(super) queued: usize,
    pub(super) parts: Parts,
    /// Entries on their way out of a queue; empty between calls.
    pub(super) removed: Vec<Queued>,
    /// Kept for its memory.
    pub(super) others: Vec<Planned>,
    pub(super) promises: Promises,
    /// By number of parts.
    logarithms: [f64; split::MOST_PARTS as usize + 1],
}

/// How well predicted upper finish times were kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Promises {
    /// Queries that were done by their predicted upper finish.
    pub kept: u64,
    /// Queries that were done later, or expired in the queue.
    pub broken: u64,
}

#[derive(Debug, Clone)]
pub(super) struct Device {
    pub(super) lanes: Lanes,
    pub(super) paths: Vec<PathId>,
    /// Lane time of all queues together, and the batches planned for it.
    pub(super) queued_ns: f64,
    pub(super) batches: usize,
    /// At least the latest deadline queued; exact when the queues were empty since.
    pub(super) latest_deadline: Time,
    pub(super) lateness: Lateness,
}

impl PathState {
    /// Brings what depends on the correction up to date.
    pub(super) fn corrected(&mut self) {
        self.full.correct(&self.correction);
        self.usual.correct(&self.correction);
    }
}

impl RouterState {
    /// Begins with empty queues, idle lanes and every path up.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] that names the key.
    pub fn new(profiles: Profiles, config: RouterConfig) -> Result<Self, ConfigError> {
        config.check()?;
        let path = |id: PathId| {
            let profile = profiles.path(id);
            let curve = &profile.service;
            let limit = profile.batch_limit();
            PathState {
                health: Health::Up,
                correction: Correction::new(curve, config.coverage),
                queue: PathQueue::default(),
                device: profiles.device_of(id),
                full: SizedBatch::new(curve, limit),
                usual: SizedBatch::new(curve, limit.min(curve.efficient_batch(USUAL_GAIN))),
                splits_from: split::splits_from(curve),
            }
        };
        let paths = profiles.ids().map(path).collect();
        let device = |device: &crate::path::DeviceProfile| Device {
            lanes: Lanes::new(device.lanes),
            paths: device.paths.clone(),
            queued_ns: 0.0,
            batches: 0,
            latest_deadline: Time::ZERO,
            lateness: Lateness::default(),
        };
        let devices = profiles.devices().iter().map(device).collect();
        Ok(Self {
            profiles,
            config,
            paths,
            devices,
            queued: 0,
            parts: Parts::default(),
            removed: Vec::new(),
            others: Vec::new(),
            promises: Promises::default(),
            logarithms: std::array::from_fn(|parts| (parts as f64).ln()),
        })
    }

    /// The profiles it was made from.
    pub fn profiles(&self) -> &Profiles {
        &self.profiles
    }

    /// The configuration it was made with.
    pub fn config(&self) -> &RouterConfig {
        &self.config
    }

    /// Queries waiting, over all paths; each part of a split one counts.
    pub fn queued(&self) -> usize {
        self.queued
    }

    /// How well promises were kept.
    pub fn promises(&self) -> Promises {
        self.promises
    }

    /// A path while serving.
    ///
    /// # Panics
    ///
    /// If `path` is not from these profiles.
    pub fn path(&self, path: PathId) -> &PathState {
        &self.paths[usize::from(path.0)]
    }

    /// The lanes of a device.
    ///
    /// # Panics
    ///
    /// If `device` is not from these profiles.
    pub fn lanes(&self, device: DeviceId) -> &Lanes {
        &self.devices[usize::from(device.0)].lanes
    }

    /// The most samples that a batch of several queries holds on a path.
    ///
    /// # Panics
    ///
    /// If `path` is not from these profiles.
    pub fn max_batch(&self, path: PathId) -> u32 {
        self.path(path).full.samples
    }

    /// The smallest query that is split on a path for speed alone.
    pub(crate) fn splits_from(&self, path: PathId) -> u32 {
        self.path(path).splits_from
    }

    /// The natural logarithm of a number of parts.
    pub(crate) fn logarithm(&self, parts: u32) -> f64 {
        self.logarithms[parts as usize]
    }

    /// The accuracy of the most accurate path that is up and can run the query; 0 if there is none.
    pub fn best_accuracy(&self, query: &Query) -> f64 {
        let up = self
            .profiles
            .ids()
            .filter(|&path| self.path(path).health == Health::Up && query.paths().contains(path));
        up.map(|path| self.profiles.path(path).accuracy).fold(0.0, f64::max)
    }

    /// Whether a path is up, can run the query and is as accurate as it demands.
    pub fn usable(&self, path: PathId, query: &Query) -> bool {
        self.path(path).health == Health::Up
            && query.paths().contains(path)
            && self.profiles.path(path).accuracy >= query.min_quality()
    }
}
