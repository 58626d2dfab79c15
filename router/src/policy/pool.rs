//! Whether other devices can stand in for one.
//!
//! Lane time on a device is worth what a query earns there *above what it could earn elsewhere*. But an idle
//! device elsewhere is a way out only for as much as it can carry. While this device is busy with something
//! else, the whole load goes there, `u` times what the others can do. Their queues, which begin
//! half full, grow by `u - 1` and are full after `½/(u - 1)` of a time budget; from then on `1 - 1/u` of the load is lost. This
//! device is kept busy for up to a budget, so `(1 - ½/(u - 1))·(1 - 1/u)` of the load is what the others do not make up for,
//! and nothing while `u < 1½`. And where all devices together cannot carry the load, each is the other's way out only until both are full,
//! so that nothing counts as one and time has its whole price at once.

use super::price::{Load, Machine};

/// Utilisation of all devices together at which they begin not to stand in for each other, and that from
/// which they do not at all.
const FULL: (f64, f64) = (0.9, 1.05);

/// What the devices could carry, every one at its cheapest path.
#[derive(Debug, Clone)]
pub(super) struct Pool {
    /// Mean time that a query takes of the whole machine.
    all_ns: f64,
    /// The same of the machine without one device, by device.
    without_ns: Vec<f64>,
}

impl Pool {
    pub(super) fn new(devices: usize) -> Self {
        Self { all_ns: 0.0, without_ns: vec![0.0; devices] }
    }

    /// Counts a query; `speeds` is how many of its like each device does a nanosecond.
    pub(super) fn offered(&mut self, weight: f64, speeds: impl Iterator<Item = f64> + Clone) {
        let all: f64 = speeds.clone().sum();
        let mean = |average: &mut f64, speed: f64| {
            if speed > 0.0 {
                *average += weight * (1.0 / speed - *average);
            }
        };
        mean(&mut self.all_ns, all);
        for (average, speed) in self.without_ns.iter_mut().zip(speeds) {
            mean(average, all - speed);
        }
    }

    /// Mean time that a query takes of the whole machine, nanoseconds.
    pub(super) fn mean_ns(&self) -> f64 {
        self.all_ns
    }

    /// The load on the whole machine.
    pub(super) fn machine(&self, load: &Load) -> Machine {
        let utilisation = load.utilisation(self.all_ns);
        let fullness = (utilisation - FULL.0) / (FULL.1 - FULL.0);
        Machine { utilisation, fullness: fullness.clamp(0.0, 1.0) }
    }

    /// The share of what queries would earn on other devices than this that can be counted on.
    pub(super) fn fallback(&self, load: &Load, device: usize) -> f64 {
        let alone = load.utilisation(self.without_ns[device]).max(1.5);
        let lost = (1.0 - 0.5 / (alone - 1.0)) * (1.0 - 1.0 / alone);
        (1.0 - self.machine(load).fullness) * (1.0 - lost)
    }
}
