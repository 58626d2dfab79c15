//! `multi-path`: the best expected value after the price of device time.
//!
//! A slower, more accurate path gains a fraction of a percent on one query; a query that is late
//! because of it loses everything. So accuracy is bought with time that nobody else needs. A path
//! that another on the same device beats in everything is never taken while that one is up (see
//! `dominance`). Among the others:
//!
//! 1. **Feasible.** A path is *sure* if the query's upper finish on it (queues, joined batch,
//!    correction, margin) is by the deadline, in overload with room for others, and nobody whom it overtakes is made late.
//! 2. **Value.** `samples × accuracy × P(in time)`, where the chance is that of the prediction less what it
//!    was found to overlook (see `lateness`), minus the harm that the path's lane time does
//!    to later queries. The best sure path is taken.
//! 3. **Downgrade before refusing.** A dear path loses to a cheaper one, never to a refusal: as long
//!    as one path is sure, the query is admitted. If none is, the query is still tried where its chance
//!    is worth more than the harm, which is so when there is time to spare, and else refused.
//!
//! # The price of time
//!
//! Let `B` be the work per lane, in time, that a device has taken on, and `K` the work at which a
//! query would no longer be in time. What does a little more work cost later queries? Suppose that
//! they all take the device's *cheapest* path from now on. Work then arrives at a share `ρ` of
//! what the lanes can do, and `B` is nearly a Brownian motion with drift `-(1 - ρ)` and some
//! variance `σ²` per unit of time, held between 0 (idle) and `K` (refusing). Its average-cost
//! equation `½σ²p′ - (1 - ρ)p = const`, with `p(0) = 0` (work that meets an idle device costs
//! nothing) and `p(K) = v` (at the limit every bit of work displaces as much), gives the marginal price
//!
//! `p(B) = v · (e^{θB} - 1) / (e^{θK} - 1)`, `θ = 2(1 - ρ) / σ²`
//!
//! where `v` is what lane time earns at best on the cheapest path, above what the same query could
//! earn on another device (as far as those can carry it, see `pool`), times the share of the time in which a device that holds no more than
//! `K` is busy: while there is hardly room to wait, lanes idle between queries even in overload,
//! and a query that meets an idle one displaces less than its own length. Harm is the integral of
//! `p` over the work added. Choosing by it is one step of policy iteration from "everything on the
//! cheapest path", so to the accuracy of the model it is no worse than that, and it behaves as it
//! should: below capacity (`θ > 0`) the price is nothing until the queue is within a few `1/θ` of
//! the limit; at capacity it grows linearly; in overload it is full as soon as there is a queue.
//! Below capacity `θ` is Lundberg's exponent, of which that of Brownian work is the limit for `ρ → 1`.
//!
//! `ρ`, `σ²` and `v` are averages over recent arrivals; `σ²` comes from sizes and gaps, or from the
//! work within whole time budgets where that varies more, so that bursts that last raise the price
//! (see `dispersion`). Where the model is rough, these adjust it, each on the careful side:
//! after the first query, which has an idle machine, the load is taken to be what the machine can just
//! carry, until it is seen (see `begin`);
//! `ρ` is raised by its own standard error; `K` differs between small and large queries, so prices
//! are averaged over size classes, weighted by value; a `K` far beyond what is needed to use idle
//! time is lowered, since a longer queue buys no more accuracy and leaves no room for bursts, but
//! not below the queue of a load that the most accurate path can carry alone; and
//! work that leaves lanes idle is cheaper by the probability that those become busy.
//!
//! # Overload
//!
//! Where all devices together cannot carry the load (see `pool`), a device's own share of it says too
//! little, since what others take now comes to it once they are full: `ρ` is then that of the machine. And
//! batches are full, so that work is no longer what a query takes alone. Who begins a batch pays for its share
//! of a full one, and not for the part that others will share; and as long as less waits than fits a
//! batch, time is free: what comes meanwhile runs in the next batch in any case. Without these, a device that
//! gains much by batching (a GPU) is left idle while the queues of others fill.
//!
//! Whoever begins a batch in overload also leaves *room*: time, within its own deadline, for others to fill the batch. At
//! the limit a query would be admitted that has nothing to spare, nobody could join it, and so on with the next one: the queue
//! would be one of small batches, which cost a lane more per sample. A shorter queue loses nothing where queries are refused
//! in any case, as long as lanes do not idle.
//!
//! # Hysteresis
//!
//! After a cheaper path was taken although the best was free to take, a path more accurate than that
//! must be worth twice what it costs beyond that one. Without it, a load between two paths' capacities would alternate.
//!
//! # Limits
//!
//! Work is balanced between devices by their prices alone; a query is split over the lanes of one device
//! where `split` finds that better, and not over devices. Queries with a quality floor count as demand
//! like others, although they cannot be downgraded below it.

mod device;
mod judge;
mod learn;

use std::time::Duration;

use self::{
    device::DeviceMemory,
    judge::{Candidate, Judge},
    learn::Takers,
};
use super::{
    Policy, PolicyName, admit_as, dominance::Dominance, pool::Pool, price::Load, refuse_unusable,
};
use crate::{
    Decision, Health, Profiles, Query, Reason, Refusal, RefuseReason, RouterState, Time,
    predict::Outlook,
    split::{self, Judge as _, Splittable},
};

/// Stepping up to a more accurate path than the last one must be worth this many times what it costs beyond that.
const HYSTERESIS: f64 = 2.0;
/// The least probability of being in time at which a query is tried although no path is sure.
const LEAST_CHANCE: f64 = 0.02;
/// A query without a deadline shall not raise the average of the budgets beyond use.
const LONGEST_BUDGET_NS: f64 = 10e9;
/// The longest batch that is counted on, as a share of the time budget: while one runs, the next one fills, and
/// something is left for errors.
const LONGEST_BATCH: f64 = 0.45;
/// Utilisation of the machine at which queries begin to leave room, and that from which they leave all of it.
const ROOMY: (f64, f64) = (1.0, 1.25);
/// The room in overload, in times of what others need who fill the batch: half as much again, since a batch seldom
/// begins just when it was predicted to.
const ROOM: f64 = 1.5;
/// The most room, as a share of the time budget.
const MOST_ROOM: f64 = 0.5;

/// Chooses by expected value after the price of device time.
///
/// It refuses only what no path answers in time, or none with room for others in overload, and it learns the load
/// from the queries that it is asked about. Its rule and the reasons for it are in the source file's documentation.
#[derive(Debug, Clone)]
pub struct MultiPath {
    load: Load,
    devices: Vec<DeviceMemory>,
    /// By path: what it would do with the query, and what the lane time for that costs others.
    outlooks: Vec<Outlook>,
    prices: Vec<f64>,
    candidates: Vec<Candidate>,
    /// Share of recent arrivals by priority class.
    classes: [f64; 3],
    dominance: Dominance,
    pool: Pool,
    hysteresis: f64,
}

impl MultiPath {
    /// Starts without any knowledge of the load.
    pub fn new(profiles: &Profiles) -> Self {
        Self {
            load: Load::default(),
            devices: profiles
                .devices()
                .iter()
                .map(|device| DeviceMemory::new(device.lanes))
                .collect(),
            outlooks: vec![Outlook::NONE; profiles.paths().len()],
            prices: vec![0.0; profiles.paths().len()],
            candidates: Vec::with_capacity(profiles.paths().len()),
            classes: [0.0; 3],
            dominance: Dominance::new(profiles),
            pool: Pool::new(profiles.devices().len()),
            hysteresis: HYSTERESIS,
        }
    }

    /// Sets how many times what it costs more a step up in accuracy must be worth; 1 is none, 2 the default.
    #[must_use]
    pub fn with_hysteresis(mut self, times: f64) -> Self {
        self.hysteresis = times.max(1.0);
        self
    }

    /// The share of its spare time that a query of this class may spend waiting: all of it while
    /// no higher class is about, and less the more of them there are.
    fn waiting_share(&self, query: &Query) -> f64 {
        let above: f64 = self.classes[query.priority() as usize + 1..].iter().sum();
        1.0 - (2.0 * above).min(0.4)
    }
}

impl Policy for MultiPath {
    fn name(&self) -> PolicyName {
        PolicyName::MultiPath
    }

    fn decide(&mut self, query: &Query, state: &RouterState, now: Time) -> Decision {
        if self.load.is_unknown() {
            return self.begin(query, state, now);
        }
        self.choose(query, state, now, Takers::Chosen)
    }
}

impl MultiPath {
    fn choose(
        &mut self,
        query: &Query,
        state: &RouterState,
        now: Time,
        takers: Takers,
    ) -> Decision {
        let samples = f64::from(query.samples());
        let full_ns = query.deadline().nanos_from(query.arrival());
        let weight = self.load.arrived(now, full_ns.min(LONGEST_BUDGET_NS));
        for (class, share) in self.classes.iter_mut().enumerate() {
            let here = if class == query.priority() as usize { 1.0 } else { 0.0 };
            *share += weight * (here - *share);
        }
        let budget_ns = query.deadline().nanos_from(now);
        let waiting_share = self.waiting_share(query);

        let machine = self.pool.machine(&self.load);
        let roominess = (machine.utilisation - ROOMY.0) / (ROOMY.1 - ROOMY.0);
        let roominess = roominess.clamp(0.0, 1.0);
        for (at, device) in self.devices.iter_mut().enumerate() {
            let view = state.view(crate::DeviceId(at as u16), query.deadline(), now);
            let (samples, outlooks) = (query.samples(), &mut self.outlooks);
            state.predict_all(&view, samples, now, LONGEST_BATCH * full_ns, outlooks);
            if self.load.due() {
                device.demand.price(&self.load, machine, device.lanes, &mut device.price);
            }
            device.workload = device.price.at(state.workload_ns(view.device, now));
            device.idle = state.lanes(view.device).idle();
            device.rush = device.price.become_busy(device.idle.saturating_sub(1));
            device.view = Some(view);
            device.cheapest_ns = f64::INFINITY;
            device.batched_ns = f64::INFINITY;
            device.shared_ns = 0.0;
            device.soonest_ns = f64::INFINITY;
            device.best_score = 0.0;
            device.density = 0.0;
            // Apart from the loop below, so that a processor looks up several at a time.
            for path in &state.profiles().devices()[at].paths {
                let Outlook { whole, among } = &self.outlooks[usize::from(path.0)];
                // In overload, whoever begins a batch does not pay alone for what others will share.
                let cost_ns =
                    whole.cost_ns + machine.fullness * (among.share_ns - whole.cost_ns).min(0.0);
                self.prices[usize::from(path.0)] = device.price.of(device.workload, cost_ns);
            }
        }

        let mut most_accurate = 0.0;
        // Once more only for a query that no path could answer in time as a whole.
        for is_too_large in [false, true] {
            self.candidates.clear();
            let mut fits = false;
            most_accurate = 0.0;
            for path in state.profiles().ids() {
                if state.path(path).health == Health::Down || !query.paths().contains(path) {
                    continue;
                }
                most_accurate = f64::max(most_accurate, state.profiles().path(path).accuracy);
                if self.dominance.holds(path, query, state) {
                    continue;
                }
                let at = usize::from(state.profiles().device_of(path).0);
                let device = &mut self.devices[at];
                let Some(view) = &device.view else { continue };
                let Outlook { whole: prediction, among } = self.outlooks[usize::from(path.0)];
                device.cheapest_ns = device.cheapest_ns.min(prediction.cost_ns);
                if prediction.service_ns <= full_ns && among.share_ns < device.batched_ns {
                    device.batched_ns = among.share_ns;
                    let alone_ns = state.service_ns(path, query.samples());
                    device.shared_ns = (1.0 - among.share_ns / alone_ns).max(0.0) * among.batch_ns;
                }
                let accuracy = state.profiles().path(path).accuracy;
                if accuracy < query.min_quality() {
                    continue;
                }
                fits |= prediction.service_ns <= full_ns;
                // A step up pays for the lane time that it takes beyond that of the last path.
                let level =
                    device.level.filter(|&level| accuracy > state.profiles().path(level).accuracy);
                let (step_up, level_price) = match level {
                    Some(level) => (self.hysteresis, self.prices[usize::from(level.0)]),
                    None => (1.0, 0.0),
                };
                let large = Splittable {
                    samples: query.samples(),
                    value: samples * accuracy,
                    budget_ns: full_ns,
                    left_ns: budget_ns,
                    is_too_large,
                };
                let judge = Judge {
                    device,
                    lateness: state.lateness(view.device),
                    at,
                    path,
                    accuracy,
                    value: samples * accuracy,
                    full_ns,
                    budget_ns,
                    waiting_share,
                    room_ns: roominess * (ROOM * among.room_ns).min(MOST_ROOM * full_ns),
                    step_up,
                    level_price,
                    whole_price: self.prices[usize::from(path.0)],
                    is_whole_if_sure: split::is_hopeless(
                        state,
                        view,
                        path,
                        large,
                        &prediction,
                        true,
                    ),
                };
                let whole = judge.judge(prediction);
                self.candidates.push(Candidate::unjudged(path, at, accuracy, prediction));
                let Some(candidate) = self.candidates.last_mut() else { continue };
                if split::is_hopeless(state, view, path, large, &prediction, whole.sure) {
                    // Field by field: a copy of what was just written would wait for all of it.
                    (candidate.sure, candidate.alone) = (whole.sure, whole.alone);
                    (candidate.chance, candidate.score) = (whole.chance, whole.score);
                } else {
                    *candidate = split::best(state, view, path, large, whole, now, judge);
                }
                device.soonest_ns = device.soonest_ns.min(candidate.prediction.upper_ns());
                if candidate.sure {
                    device.best_score = device.best_score.max(candidate.score);
                }
            }
            if fits || self.candidates.iter().any(|candidate| candidate.sure) {
                break;
            }
        }

        let best = |sure: bool, candidates: &[Candidate]| {
            let eligible = candidates
                .iter()
                .filter(|candidate| candidate.sure || (!sure && candidate.chance >= LEAST_CHANCE));
            eligible
                .max_by(|a, b| {
                    a.score
                        .total_cmp(&b.score)
                        .then_with(|| b.prediction.finish_ns().total_cmp(&a.prediction.finish_ns()))
                })
                .copied()
        };
        let chosen = best(true, &self.candidates)
            .or_else(|| best(false, &self.candidates).filter(|chance| chance.score > 0.0));

        self.learn(query, state, weight, chosen.as_ref(), takers);
        let Some(chosen) = chosen else {
            if self.candidates.is_empty() {
                return refuse_unusable(query, state, state.profiles().ids());
            }
            let soonest_ns =
                self.devices.iter().map(|device| device.soonest_ns).fold(f64::INFINITY, f64::min);
            let wait_ns = (soonest_ns - budget_ns).clamp(1e6, 60e9);
            return Decision::Refuse(Refusal {
                reason: RefuseReason::NoPathInTime,
                retry_after: Duration::from_nanos(wait_ns as u64),
            });
        };
        let better = |other: &&Candidate| other.accuracy > chosen.accuracy;
        let reason = if !chosen.sure {
            Reason::Chance
        } else if chosen.accuracy >= most_accurate {
            Reason::MostAccurate
        } else if self.candidates.iter().filter(better).any(|other| other.sure) {
            Reason::Price
        } else {
            Reason::Deadline
        };
        let downgraded = chosen.accuracy < most_accurate;
        admit_as(chosen.path, &chosen.prediction, downgraded, reason, now)
    }
}
