//! The batches that a queue is planned to run, and the work that they stand for.

use super::{RouterState, router_state::PathState};
use crate::{
    Lanes, PathId, Time,
    batching::JOINING,
    correction::Correction,
    latency::ServiceCurve,
    predict::allowance,
    queue::{Planned, Planner},
};

impl RouterState {
    /// The batches planned for the other paths of a device, by the deadlines that they begin with. The caller gives the
    /// list back.
    pub(super) fn others(&mut self, path: PathId) -> Vec<Planned> {
        let mut others = std::mem::take(&mut self.others);
        others.clear();
        let device = &self.devices[usize::from(self.path(path).device.0)];
        let mut queues = 0;
        for &other in device.paths.iter().filter(|&&other| other != path) {
            let before = others.len();
            others.extend(self.path(other).queue.planned());
            queues += usize::from(others.len() > before);
        }
        if queues > 1 {
            others.sort_unstable_by_key(|batch| batch.deadline);
        }
        others
    }

    /// Plans a path's batches anew, with today's correction, and counts its device's work.
    pub(super) fn replan(&mut self, path: PathId, now: Time) {
        let others = self.others(path);
        let curve = &self.profiles.path(path).service;
        let PathState { queue, correction, full, device, .. } =
            &mut self.paths[usize::from(path.0)];
        let lanes = &self.devices[usize::from(device.0)].lanes;
        let start_ns = lanes.start_after(0.0, now);
        queue.replan(&planner(curve, correction, full.samples, now, start_ns, lanes, &others));
        self.others = others;
        let device = usize::from(device.0);
        let queues = self.devices[device].paths.iter().map(|&path| &self.path(path).queue);
        let (mut work_ns, mut batches) = (0.0, 0);
        for queue in queues {
            work_ns += queue.work_ns();
            batches += queue.batches();
        }
        let device = &mut self.devices[device];
        (device.queued_ns, device.batches) = (work_ns, batches);
        if batches == 0 {
            device.latest_deadline = Time::ZERO;
        }
    }
}

pub(super) fn planner<'o>(
    curve: &ServiceCurve,
    correction: &Correction,
    max_batch: u32,
    now: Time,
    start_ns: f64,
    lanes: &Lanes,
    others: &'o [Planned],
) -> Planner<'o, impl Fn(u32) -> f64, impl Fn(u32, f64) -> f64> {
    let service_ns = |samples| curve.mean_ns(samples) * correction.factor(samples);
    let batch_ns = lanes.mean_batch_ns();
    let upper_ns = move |samples, wait_ns| {
        let service_ns = service_ns(samples);
        service_ns + JOINING * allowance(service_ns, wait_ns, batch_ns, correction.margin(samples))
    };
    Planner { max_batch, service_ns, upper_ns, now, start_ns, others, lanes: lanes.count() as f64 }
}
