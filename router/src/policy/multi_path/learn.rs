//! What a query says about the load.

use super::{Candidate, LEAST_CHANCE, MultiPath};
use crate::{
    Decision, Query, RouterState, Time,
    policy::price::{Load, Offer},
};

/// Whose demand a query is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Takers {
    /// That of the device that takes it, or would be first to.
    Chosen,
    /// That of every device.
    All,
}

impl MultiPath {
    /// Decides the first query, and takes the machine to be offered as many like it as it can answer.
    ///
    /// The machine is idle, so the first query has it. But a load is not light because little was seen of it: the next
    /// few queries of a heavy one would fill the machine for up to a time budget, and those of a light one lose a fraction of a
    /// percent of one query, until they are seen to come slowly.
    pub(super) fn begin(&mut self, query: &Query, state: &RouterState, now: Time) -> Decision {
        let decision = self.clone().choose(query, state, now, Takers::Chosen);
        // What lane time earns depends on how full the machine is, and that on how long a query takes.
        let mut rehearsed = self.clone();
        rehearsed.choose(query, state, now, Takers::All);
        let mean_ns = rehearsed.pool.mean_ns();
        if mean_ns <= 0.0 {
            // No path is up: the next query is the first.
            return decision;
        }
        self.load = Load::with_gap(mean_ns);
        self.choose(query, state, now, Takers::All);
        for device in &mut self.devices {
            device.level = None;
        }
        decision
    }

    /// Counts the query as demand on the device that took it, or would have been first to; or on all.
    pub(super) fn learn(
        &mut self,
        query: &Query,
        state: &RouterState,
        weight: f64,
        chosen: Option<&Candidate>,
        takers: Takers,
    ) {
        let samples = f64::from(query.samples());
        let speeds = self.devices.iter().map(|device| device.lanes / device.batched_ns.max(1.0));
        self.pool.offered(weight, speeds);
        // The two best devices, by what the query is worth there.
        let (mut first, mut second) = ((usize::MAX, 0.0), 0.0);
        for (at, device) in self.devices.iter_mut().enumerate() {
            device.top = None;
            device.fallback = self.pool.fallback(&self.load, at);
            if device.best_score > first.1 {
                second = first.1;
                first = (at, device.best_score);
            } else if device.best_score > second {
                second = device.best_score;
            }
        }
        for (at, candidate) in self.candidates.iter().enumerate() {
            // What the query could still earn if this device had no time for it.
            let device = &mut self.devices[candidate.device];
            let other = if candidate.device == first.0 { second } else { first.1 };
            let elsewhere = other * device.fallback;
            let earned = (samples * candidate.accuracy * candidate.alone - elsewhere).max(0.0);
            device.density = device.density.max(earned / candidate.prediction.cost_ns.max(1.0));
            // What is too large for its deadline on an idle machine competes with nothing.
            let above = |top: usize| candidate.accuracy >= self.candidates[top].accuracy;
            if candidate.alone >= LEAST_CHANCE && device.top.is_none_or(above) {
                device.top = Some(at);
            }
        }
        let soonest = || {
            let devices = self.devices.iter().enumerate();
            devices.min_by(|(_, a), (_, b)| a.soonest_ns.total_cmp(&b.soonest_ns)).map(|(at, _)| at)
        };
        let taker = chosen.map(|chosen| chosen.device).or_else(soonest);
        let budget_ns = query.deadline().nanos_from(query.arrival());
        for (at, device) in self.devices.iter_mut().enumerate() {
            if !device.cheapest_ns.is_finite() {
                continue;
            }
            let mut offer = Offer {
                work_ns: 0.0,
                dearest_ns: 0.0,
                batch_ns: 0.0,
                shared_ns: device.shared_ns,
                density: device.density,
                value: 0.0,
                budget_ns,
                margin: 1.0,
            };
            if let Some(top) = device.top.filter(|_| Some(at) == taker || takers == Takers::All) {
                let top = &self.candidates[top];
                offer.work_ns = device.cheapest_ns;
                offer.dearest_ns = top.prediction.cost_ns;
                offer.batch_ns = state.usual_batch_ns(top.path);
                offer.value = samples * top.accuracy;
                offer.margin = state.path(top.path).correction.margin(query.samples());
            }
            device.demand.offered(&self.load, weight, &offer);
        }
        if let Some(chosen) = chosen {
            let here = self.candidates.iter().filter(|other| other.device == chosen.device);
            let top = here.max_by(|a, b| a.accuracy.total_cmp(&b.accuracy));
            if top.is_some_and(|top| top.sure) {
                self.devices[chosen.device].level = Some(chosen.path);
            }
        }
    }
}
