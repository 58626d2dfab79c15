//! What is ahead of a query, and when it would be done.

use std::time::Duration;

use super::{RouterState, planning::planner, router_state::Device};
use crate::{
    DeviceId, Lanes, PathId, Query, Time,
    correction::bucket_of,
    lateness::Lateness,
    predict::{
        Ahead, Among, DeviceView, FEW_BATCHES, Outlook, Prediction, allowance, allowance_after,
        wait_square,
    },
};

/// A query within the last planned batch of a path.
#[derive(Debug, Clone, Copy)]
pub(super) struct Joined {
    /// Until that batch starts.
    wait_ns: f64,
    /// How long the batches of other paths that run behind it can be held up.
    slack_behind_ns: f64,
}

impl RouterState {
    /// Predicts when the query would be done on a path, if it were admitted now.
    pub fn predict(&self, path: PathId, query: &Query, now: Time) -> Prediction {
        let view = self.view(self.profiles.device_of(path), query.deadline(), now);
        self.predict_in(&view, path, query.samples(), now)
    }

    /// What a device looks like to a query with this deadline.
    pub(crate) fn view(&self, device: DeviceId, deadline: Time, now: Time) -> DeviceView {
        let state = &self.devices[usize::from(device.0)];
        if deadline >= state.latest_deadline {
            let ahead = self.ahead(state);
            let free = ahead
                .few
                .is_some()
                .then(|| state.lanes.free_behind(ahead.before(None), now).sorted());
            let wait_ns = match &free {
                Some(free) => free.first(),
                None => state.lanes.start_after(ahead.work_ns, now),
            };
            let slack_behind_ns = f64::INFINITY;
            return DeviceView { device, wait_ns, in_order: true, slack_behind_ns, ahead, free };
        }
        let (mut ahead_ns, mut slack_behind_ns) = (0.0, f64::INFINITY);
        for &path in &state.paths {
            let queue = &self.path(path).queue;
            if queue.is_empty() {
                continue;
            }
            let (behind, slack) = queue.behind(deadline);
            ahead_ns += queue.work_ns() * (1.0 - behind as f64 / queue.samples() as f64);
            slack_behind_ns = slack_behind_ns.min(slack);
        }
        let wait_ns = state.lanes.start_after(ahead_ns, now);
        let ahead = Ahead::of_work(ahead_ns);
        DeviceView { device, wait_ns, in_order: false, slack_behind_ns, ahead, free: None }
    }

    /// The batches planned on a device.
    pub(super) fn ahead(&self, device: &Device) -> Ahead {
        let mut ahead = Ahead::of_work(device.queued_ns);
        if device.batches > FEW_BATCHES || !device.lanes.are_few() {
            return ahead;
        }
        let mut count = 0;
        if device.batches > 0 {
            for &path in &device.paths {
                for batch in self.path(path).queue.planned() {
                    ahead.batches[count] = (batch.service_ns, batch.deadline);
                    count += 1;
                }
            }
        }
        ahead.few = Some(count);
        ahead
    }

    /// Lane time of what waits for a device.
    ///
    /// # Panics
    ///
    /// If `device` is not from these profiles.
    pub fn queued_work(&self, device: DeviceId) -> Duration {
        Duration::from_nanos(self.devices[usize::from(device.0)].queued_ns.max(0.0) as u64)
    }

    /// How often queries of a device are late beyond the prediction.
    pub(crate) fn lateness(&self, device: DeviceId) -> &Lateness {
        &self.devices[usize::from(device.0)].lateness
    }

    /// Lane time that is queued or running on a device, per lane.
    pub(crate) fn workload_ns(&self, device: DeviceId, now: Time) -> f64 {
        let state = &self.devices[usize::from(device.0)];
        (state.queued_ns + state.lanes.residual_ns(now)) / state.lanes.count() as f64
    }

    /// Expected service time of a batch of the size that prices count on.
    pub(crate) fn usual_batch_ns(&self, path: PathId) -> f64 {
        self.path(path).usual.corrected_ns
    }

    /// What the query would be among others of its path, in batches of at most `longest_ns`; `alone_ns` is its own
    /// service time, and `begins` says whether no planned batch takes it.
    fn among_others(
        &self,
        path: PathId,
        samples: u32,
        alone_ns: f64,
        longest_ns: f64,
        begins: bool,
    ) -> Among {
        let (state, curve) = (self.path(path), &self.profiles.path(path).service);
        let samples = f64::from(samples);
        let usual = state.usual.within(longest_ns, curve).filter(|&(size, _)| size >= samples);
        let (size, batch_ns) = usual.unwrap_or((samples, alone_ns));
        let full_ns = state.full.within(longest_ns, curve).map_or(0.0, |(_, full_ns)| full_ns);
        let room_ns = if begins { (full_ns - alone_ns).max(0.0) } else { 0.0 };
        Among { share_ns: batch_ns * samples / size, batch_ns, room_ns }
    }

    /// Predicts for every path of a device, into the list by path, what [`predict_in`](Self::predict_in) does for one;
    /// it is not among others in batches longer than `longest_ns`. One loop without branches that depend on a
    /// prediction, so that a processor works on several paths at a time.
    pub(crate) fn predict_all(
        &self,
        view: &DeviceView,
        samples: u32,
        now: Time,
        longest_ns: f64,
        outlooks: &mut [Outlook],
    ) {
        let device = &self.devices[usize::from(view.device.0)];
        let bucket = bucket_of(samples);
        let wait_square = wait_square(view.wait_ns, device.lanes.mean_batch_ns());
        let overhead_ns = self.config.overhead_us as f64 * 1e3;
        for &path in &device.paths {
            let state = self.path(path);
            let tail = state.queue.tail().samples;
            let may_join =
                view.in_order && tail > 0 && tail.saturating_add(samples) <= state.full.samples;
            // Field by field: a copy of the whole would wait for the last of them.
            let Outlook { whole: prediction, among } = &mut outlooks[usize::from(path.0)];
            if may_join {
                *prediction = self.predict_in(view, path, samples, now);
                let alone_ns = prediction.cost_ns;
                // A batch that it joins takes far more than a nanosecond already.
                let begins = prediction.service_ns - overhead_ns < alone_ns + 1.0;
                *among = self.among_others(path, samples, alone_ns, longest_ns, begins);
                continue;
            }
            let (factor, margin) = state.correction.of_bucket(bucket);
            let service_ns = self.profiles.path(path).service.mean_ns(samples) * factor;
            prediction.wait_ns = view.wait_ns;
            prediction.service_ns = service_ns + overhead_ns;
            prediction.cost_ns = service_ns.max(0.0);
            prediction.allowance_ns = allowance_after(service_ns, wait_square, margin);
            prediction.slack_behind_ns = view.slack_behind_ns;
            prediction.parts = 1;
            let alone_ns = prediction.cost_ns;
            *among = self.among_others(path, samples, alone_ns, longest_ns, true);
        }
    }

    pub(crate) fn predict_in(
        &self,
        view: &DeviceView,
        path: PathId,
        samples: u32,
        now: Time,
    ) -> Prediction {
        let state = self.path(path);
        let curve = &self.profiles.path(path).service;
        let device = &self.devices[usize::from(view.device.0)];
        let joined =
            if view.in_order { self.joined(&view.ahead, path, samples, now) } else { None };
        let (wait_ns, batch, already_ns, slack_behind_ns) = match joined {
            Some(Joined { wait_ns, slack_behind_ns }) => {
                let tail = state.queue.tail();
                (wait_ns, tail.samples + samples, tail.service_ns, slack_behind_ns)
            }
            None => (view.wait_ns, samples, 0.0, view.slack_behind_ns),
        };
        let service_ns = curve.mean_ns(batch) * state.correction.factor(batch);
        let batch_ns = device.lanes.mean_batch_ns();
        let margin = state.correction.margin(batch);
        Prediction {
            wait_ns,
            service_ns: service_ns + self.config.overhead_us as f64 * 1e3,
            cost_ns: (service_ns - already_ns).max(0.0),
            allowance_ns: allowance(service_ns, wait_ns, batch_ns, margin),
            slack_behind_ns,
            parts: 1,
        }
    }

    /// What becomes of `samples` more, of no earlier deadline than any, that would join the last planned batch of a
    /// path; `None` if they would not.
    pub(super) fn joined(
        &self,
        ahead: &Ahead,
        path: PathId,
        samples: u32,
        now: Time,
    ) -> Option<Joined> {
        let state = self.path(path);
        let tail = state.queue.tail();
        if tail.samples == 0 || tail.samples.saturating_add(samples) > state.full.samples {
            return None;
        }
        let device = &self.devices[usize::from(state.device.0)];
        // Batches of other paths that begin with a later deadline run behind it.
        let (mut behind_ns, mut slack_behind_ns) = (tail.service_ns, f64::INFINITY);
        for &other in device.paths.iter().filter(|&&other| other != path) {
            for batch in self.path(other).queue.planned_behind(tail.deadline) {
                behind_ns += batch.service_ns;
                slack_behind_ns = slack_behind_ns.min(batch.slack_ns);
            }
        }
        let wait_ns = wait_ns(&device.lanes, ahead, Some(tail.deadline), behind_ns, now);
        let curve = &self.profiles.path(path).service;
        let (correction, lanes) = (&state.correction, &device.lanes);
        let planner = planner(curve, correction, state.full.samples, now, wait_ns, lanes, &[]);
        let joins = planner.joins(tail, samples, wait_ns);
        joins.then_some(Joined { wait_ns, slack_behind_ns })
    }

    /// Predicted service time of a batch.
    pub(crate) fn service_ns(&self, path: PathId, samples: u32) -> f64 {
        let mean_ns = self.profiles.path(path).service.mean_ns(samples);
        mean_ns * self.path(path).correction.factor(samples)
    }

    /// The same with margin.
    pub(super) fn upper_ns(&self, path: PathId, samples: u32) -> f64 {
        self.service_ns(path, samples) * self.path(path).correction.margin(samples)
    }
}

/// Until a lane is free of what is ahead: of the batches that begin with a deadline before `limit`, or of all. `behind_ns`
/// is the lane time of the others.
fn wait_ns(lanes: &Lanes, ahead: &Ahead, limit: Option<Time>, behind_ns: f64, now: Time) -> f64 {
    if ahead.few.is_some() {
        lanes.start_behind(ahead.before(limit), now)
    } else {
        lanes.start_after(ahead.work_ns - behind_ns, now)
    }
}
