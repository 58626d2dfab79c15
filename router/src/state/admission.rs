//! Queries that come, and those that leave without having been run.

use super::{RouterState, planning::planner, router_state::PathState};
use crate::{Admission, DeviceId, Health, PathId, Query, QueryId, Time, parts, queue::Queued};

impl RouterState {
    /// Puts an admitted query into its path's queue, whole or in the parts that `admission` says. Returns
    /// the device whose workers to wake.
    ///
    /// # Panics
    ///
    /// If the path is not from these profiles.
    pub fn admit(&mut self, query: &Query, admission: &Admission, now: Time) -> DeviceId {
        let id = admission.path;
        let at = usize::from(id.0);
        let device_id = self.paths[at].device;
        let deadline = query.deadline();
        let device = &self.devices[usize::from(device_id.0)];
        let parts = admission.parts.clamp(1, query.samples());
        let is_last = deadline >= device.latest_deadline;
        let join = parts == 1
            && is_last
            && self.joined(&self.ahead(device), id, query.samples(), now).is_some();
        let start_ns = device.lanes.start_after(0.0, now);
        // The last is put behind what is planned, which stays as it is.
        let others = if is_last { Vec::new() } else { self.others(id) };
        let device = &self.devices[usize::from(device_id.0)];
        let lanes = &device.lanes;
        let queue = &self.paths[at].queue;
        let (before_ns, before) = (queue.work_ns(), queue.batches());
        let joined = queue.tail().deadline;
        let curve = &self.profiles.path(id).service;
        let PathState { queue, correction, full, .. } = &mut self.paths[at];
        let planner = planner(curve, correction, full.samples, now, start_ns, lanes, &others);
        let whole = Queued::new(query, admission.upper_finish, admission.spare(deadline));
        if parts == 1 {
            queue.push(whole, join, &planner);
        } else {
            let split = self.parts.begin(parts, query.samples());
            parts::cut(whole, parts, split).for_each(|part| queue.push(part, false, &planner));
        }
        drop(planner);
        if !is_last {
            self.others = others;
        }
        let (added_ns, added) =
            (queue.work_ns() - before_ns, queue.batches() as isize - before as isize);
        self.queued += parts as usize;

        let device = &mut self.devices[usize::from(device_id.0)];
        device.queued_ns += added_ns;
        device.batches = device.batches.saturating_add_signed(added);
        let delay_ns = added_ns.max(0.0) / device.lanes.count() as f64;
        if is_last {
            device.latest_deadline = deadline;
            if join {
                for &path in device.paths.iter().filter(|&&path| path != id) {
                    self.paths[usize::from(path.0)].queue.delay_planned_behind(joined, delay_ns);
                }
            }
        } else {
            for &path in &device.paths {
                self.paths[usize::from(path.0)].queue.delay_behind(deadline, delay_ns);
            }
        }
        device_id
    }

    /// Takes a query, or what waits of it, out of a queue. Returns whether it ended with that.
    pub(super) fn drop_waiting(&mut self, path: PathId, query: QueryId, now: Time) -> bool {
        let mut removed = std::mem::take(&mut self.removed);
        self.paths[usize::from(path.0)].queue.remove(query, &mut removed);
        let count = removed.len();
        self.parts.lose(&mut removed, 0);
        let ends = !removed.is_empty();
        removed.clear();
        self.removed = removed;
        if count > 0 {
            self.queued -= count;
            self.replan(path, now);
        }
        ends
    }

    /// Forgets a query that was admitted to `path`, of which all or a part has not started; the client
    /// went away.
    ///
    /// Returns whether it ended with this: parts of it that run then end in silence. If not, all of
    /// it is running and ends as usual.
    pub fn cancel(&mut self, path: PathId, query: QueryId, now: Time) -> bool {
        self.drop_waiting(path, query, now)
    }

    /// Marks a path up or down. What waits for a path that goes down is taken out of its queue
    /// and appended to `orphans`; the caller submits those queries again while their deadline allows.
    /// Of a split query, parts that run then end in silence.
    pub fn set_health(
        &mut self,
        path: PathId,
        health: Health,
        now: Time,
        orphans: &mut Vec<Queued>,
    ) {
        let state = &mut self.paths[usize::from(path.0)];
        state.health = health;
        if health == Health::Down {
            let (count, from) = (state.queue.len(), orphans.len());
            state.queue.take(count, orphans);
            self.queued -= count;
            self.parts.lose(orphans, from);
            self.replan(path, now);
        }
    }
}
