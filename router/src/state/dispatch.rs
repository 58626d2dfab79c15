//! Batches: formed, begun, and reported.

use std::time::Duration;

use super::{Batch, Next, RouterState};
use crate::{
    DeviceId, PathId, Time,
    backlog::Running,
    batching::{self, BatchRule, Head, Plan},
    queue::Queued,
    time::nanos,
};

enum Choice {
    Run(PathId, usize, u32),
    Wait(Time),
    Nothing,
}

impl RouterState {
    /// Forms the next batch of a device and puts it on an idle lane.
    ///
    /// Fills `batch` in; on [`Next::Run`] the caller runs it and reports [`completed`](Self::completed)
    /// or [`failed`](Self::failed). `batch.expired` is filled in whatever is returned.
    ///
    /// # Panics
    ///
    /// If `device` is not from these profiles.
    pub fn next_batch(&mut self, device: DeviceId, now: Time, batch: &mut Batch) -> Next {
        batch.queries.clear();
        batch.ended.clear();
        batch.expired.clear();
        batch.samples = 0;
        batch.device = device;
        self.take_expired(device, now, &mut batch.expired);
        if self.devices[usize::from(device.0)].lanes.idle() == 0 {
            return Next::Idle;
        }
        let Some((path, queries, samples)) = (match self.choose(device, now) {
            Choice::Run(path, queries, samples) => Some((path, queries, samples)),
            Choice::Wait(until) => return Next::Wait(until),
            Choice::Nothing => None,
        }) else {
            return Next::Idle;
        };
        let profiled_ns = self.profiles.path(path).service.mean_ns(samples);
        let correction = &self.path(path).correction;
        let expected_ns = profiled_ns * correction.factor(samples);
        let upper_ns = expected_ns * correction.margin(samples);
        let running = Running { path, samples, started: now, expected_ns, upper_ns };
        let Some(lane) = self.devices[usize::from(device.0)].lanes.start(running) else {
            return Next::Idle;
        };
        self.paths[usize::from(path.0)].queue.take(queries, &mut batch.queries);
        self.queued -= queries;
        self.replan(path, now);
        (batch.path, batch.lane, batch.samples) = (path, lane, samples);
        Next::Run
    }

    /// Removes the queries of a device whose deadline has passed, appending them to `expired`. A query of
    /// which a part waits is over, whatever its other parts do.
    ///
    /// [`next_batch`](Self::next_batch) does so itself; call this on a timer to answer expired
    /// queries while every lane is busy.
    ///
    /// # Panics
    ///
    /// If `device` is not from these profiles.
    pub fn take_expired(&mut self, device: DeviceId, now: Time, expired: &mut Vec<Queued>) {
        for at in 0..self.devices[usize::from(device.0)].paths.len() {
            let path = self.devices[usize::from(device.0)].paths[at];
            let queue = &mut self.paths[usize::from(path.0)].queue;
            let count = queue.expired(now);
            if count > 0 {
                let from = expired.len();
                queue.take(count, expired);
                self.queued -= count;
                self.parts.lose(expired, from);
                self.promises.broken += (expired.len() - from) as u64;
                let lateness = &mut self.devices[usize::from(device.0)].lateness;
                expired[from..].iter().for_each(|query| lateness.observe(query.spare, true));
                self.replan(path, now);
            }
        }
    }

    /// A batch is done: frees its lane and learns from the time that it took. Fills `batch.ended` with the
    /// queries to answer.
    ///
    /// `observed` is the service time alone, from the moment the worker began until scores were
    /// in memory. A batch is reported once; a second report is ignored.
    pub fn completed(&mut self, batch: &mut Batch, observed: Duration, now: Time) {
        batch.ended.clear();
        let device = &mut self.devices[usize::from(batch.device.0)];
        let Some(running) = device.lanes.finish(batch.lane, Some(observed)) else { return };
        if batch.samples == running.samples {
            let profiled_ns = self.profiles.path(running.path).service.mean_ns(running.samples);
            let path = &mut self.paths[usize::from(running.path.0)];
            path.correction.observe(running.samples, profiled_ns, nanos(observed) as f64, now);
        }
        batch.ended.extend(batch.queries.iter().filter_map(|entry| self.parts.answered(entry)));
        for query in &batch.ended {
            device.lateness.observe(query.spare, now > query.deadline);
            if now <= query.promised {
                self.promises.kept += 1;
            } else {
                self.promises.broken += 1;
            }
        }
        device.lateness.rest(now);
        for at in 0..device.paths.len() {
            let path = self.devices[usize::from(batch.device.0)].paths[at];
            let path = &mut self.paths[usize::from(path.0)];
            path.correction.rest(now);
            path.corrected();
        }
        self.replan(running.path, now);
    }

    /// A batch was not answered (the backend failed): frees its lane and learns nothing. Fills
    /// `batch.ended` with its queries, whose other parts leave the queue with them.
    ///
    /// The caller submits these again, or answers them as failed. A batch is reported once; a second
    /// report is ignored.
    pub fn failed(&mut self, batch: &mut Batch, now: Time) {
        batch.ended.clear();
        let device = &mut self.devices[usize::from(batch.device.0)];
        let Some(running) = device.lanes.finish(batch.lane, None) else { return };
        batch.ended.extend(batch.queries.iter().filter_map(|entry| self.parts.lost(entry)));
        for at in 0..batch.ended.len() {
            if batch.ended[at].split.is_some() {
                self.drop_waiting(running.path, batch.ended[at].id, now);
            }
        }
    }

    /// Which path's queue to serve, and how much of it. Expired queries are gone by now.
    fn choose(&self, device: DeviceId, now: Time) -> Choice {
        let state = &self.devices[usize::from(device.0)];
        let head = |path: PathId| {
            let head = self.path(path).queue.head()?;
            Some(Head {
                path,
                deadline: head.deadline,
                upper_ns: self.upper_ns(path, head.samples),
            })
        };
        // With a linger the most urgent queue may wait while another is due: ask each in turn.
        let mut passed = 0u64;
        let mut wake = None;
        loop {
            let heads = state.paths.iter().filter(|path| passed & (1 << path.0) == 0);
            let Some(first) = batching::most_urgent(heads.copied().filter_map(head)) else {
                return wake.map_or(Choice::Nothing, Choice::Wait);
            };
            // The other queues wait for this lane if no other is idle.
            let others_due = if state.lanes.idle() > 1 {
                Time::MAX
            } else {
                let others = state.paths.iter().filter(|&&path| path != first.path);
                others
                    .copied()
                    .filter_map(head)
                    .map(|head| head.deadline)
                    .min()
                    .unwrap_or(Time::MAX)
            };
            let linger = Duration::from_micros(self.config.linger_us);
            let rule = BatchRule { max_batch: self.max_batch(first.path), linger };
            let service_ns = |samples| self.service_ns(first.path, samples);
            let upper_ns = |samples| self.upper_ns(first.path, samples);
            let queue = self.path(first.path).queue.iter();
            match batching::plan(queue, rule, others_due, service_ns, upper_ns, now) {
                Plan::Run { queries, samples } => return Choice::Run(first.path, queries, samples),
                Plan::Wait { until } => {
                    passed |= 1 << first.path.0;
                    wake = Some(wake.map_or(until, |wake: Time| wake.min(until)));
                }
                Plan::Empty => passed |= 1 << first.path.0,
            }
        }
    }
}
