//! What is remembered of a device.

use crate::{
    PathId,
    policy::price::{Demand, Level, Price},
    predict::DeviceView,
};

/// A device: the demand on it, and its part in the present decision.
#[derive(Debug, Clone)]
pub(super) struct DeviceMemory {
    pub(super) lanes: f64,
    pub(super) demand: Demand,
    pub(super) price: Price,
    /// The last path taken here while the most accurate one was free to take.
    pub(super) level: Option<PathId>,
    // What follows belongs to one decision.
    pub(super) view: Option<DeviceView>,
    pub(super) workload: Level,
    /// Lanes that are idle now, and the probability that those which a whole query leaves become busy.
    pub(super) idle: usize,
    pub(super) rush: f64,
    pub(super) cheapest_ns: f64,
    /// Lane time of the query on its cheapest path, within large batches; infinite if no path is in time.
    pub(super) batched_ns: f64,
    /// The part of a full batch on that path that does not depend on what is in it.
    pub(super) shared_ns: f64,
    /// The share of what the query would earn on other devices that can be counted on.
    pub(super) fallback: f64,
    pub(super) soonest_ns: f64,
    pub(super) best_score: f64,
    pub(super) density: f64,
    /// The most accurate candidate that could be in time on an idle machine.
    pub(super) top: Option<usize>,
}

impl DeviceMemory {
    /// Without any knowledge of the load.
    pub(super) fn new(lanes: u32) -> Self {
        Self {
            lanes: f64::from(lanes),
            demand: Demand::default(),
            level: None,
            view: None,
            price: Price::new(),
            workload: Level::default(),
            idle: 0,
            rush: 1.0,
            cheapest_ns: 0.0,
            batched_ns: 0.0,
            shared_ns: 0.0,
            fallback: 0.0,
            soonest_ns: 0.0,
            best_score: 0.0,
            density: 0.0,
            top: None,
        }
    }
}
