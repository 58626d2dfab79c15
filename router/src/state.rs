//! Everything a decision depends on: profiles, corrections, queues, busy lanes, health.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    Admission, DeviceId, Health, LaneId, Lanes, PathId, PathQueue, Profiles, Query, QueryId, Time,
    backlog::Running,
    batching::{self, BatchRule, Head, Plan},
    correction::Correction,
    latency::ServiceCurve,
    parts::{self, Parts},
    predict::{Ahead, DeviceView, FEW_BATCHES, Prediction, allowance},
    queue::{Planned, Planner, Queued},
    split::{self, MOST_PARTS},
    time::nanos,
};

/// A path's batch limit, where the profile states none, is the size beyond which batching saves
/// less than this share of the time per sample.
pub(crate) const BATCHING_GAIN: f64 = 0.05;

/// What an operator may set about queues and predictions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RouterConfig {
    /// The most queries waiting, over all paths; further ones are refused whatever the policy. Each part
    /// of a split query counts.
    pub max_queued: usize,
    /// The share of admitted queries that shall be done by their predicted upper finish.
    pub coverage: f64,
    /// How long a batch that is not full waits for more while a lane is idle, microseconds.
    pub linger_us: u64,
    /// Time between the end of a batch and the answer in the caller's hands, and between a
    /// submission and its start on an idle lane, microseconds; added to every prediction.
    pub overhead_us: u64,
    /// The most parts that one query is split into, each on a lane of its own. Left out, as many as
    /// its device has lanes, and at most [`MOST_PARTS`]; 1 keeps every query whole. Only `multi-path` splits.
    pub max_parts: Option<u32>,
}

impl Default for RouterConfig {
    fn default() -> Self {
        Self { max_queued: 4_096, coverage: 0.99, linger_us: 0, overhead_us: 0, max_parts: None }
    }
}

/// What makes a [`RouterConfig`] unusable.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A coverage that is not a large share.
    #[error("`coverage` is {value}; it lies in [0.5, 0.9999]")]
    Coverage {
        /// What was given.
        value: f64,
    },
    /// A bound of 0, or one that a queue should never reach.
    #[error("`max_queued` is {value}; it lies in 1..=1000000")]
    MaxQueued {
        /// What was given.
        value: usize,
    },
    /// No parts, or more than a split can have.
    #[error("`max_parts` is {value}; it lies in 1..={MOST_PARTS}, and 1 keeps queries whole")]
    MaxParts {
        /// What was given.
        value: u32,
    },
    /// A wait beyond a minute.
    #[error("`{key}` is {value} µs; a minute is the limit")]
    Span {
        /// Which key.
        key: &'static str,
        /// What was given.
        value: u64,
    },
}

/// A path while serving.
#[derive(Debug, Clone)]
pub struct PathState {
    /// Whether it can be given work.
    pub health: Health,
    /// What completed batches have taught about it.
    pub correction: Correction,
    /// What waits for it.
    pub queue: PathQueue,
    device: DeviceId,
    max_batch: u32,
    /// Mean service time of a batch of that size.
    full_batch_ns: f64,
    splits_from: u32,
}

/// A batch for one worker. Reused from batch to batch, so that none is allocated.
#[derive(Debug, Clone)]
pub struct Batch {
    /// The path to run it on.
    pub path: PathId,
    /// The device of that path.
    pub device: DeviceId,
    /// The lane that it occupies until it is reported completed or failed.
    pub lane: LaneId,
    /// Samples in all queries together. If fewer than were handed out are run (clients went away), set it
    /// to those before reporting the batch: such a run teaches nothing.
    pub samples: u32,
    /// The queries and parts of queries to run, most urgent first.
    pub queries: Vec<Queued>,
    /// Filled in when the batch is reported: the queries that are over with it. Those that
    /// [completed](RouterState::completed) are answered, parts of theirs that ran elsewhere
    /// included; those that [failed](RouterState::failed) are lost as a whole.
    pub ended: Vec<Queued>,
    /// Queries whose deadline passed while they waited. They are out of the queue and must be
    /// answered as such, also when there is nothing to run.
    pub expired: Vec<Queued>,
}

impl Default for Batch {
    fn default() -> Self {
        Self {
            path: PathId(0),
            device: DeviceId(0),
            lane: LaneId(0),
            samples: 0,
            queries: Vec::new(),
            ended: Vec::new(),
            expired: Vec::new(),
        }
    }
}

/// What a worker shall do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Run the batch that was filled in.
    Run,
    /// Ask again then, or when a query was admitted.
    Wait(Time),
    /// Ask again when a query was admitted, or a lane became free.
    Idle,
}

/// Everything a decision depends on.
///
/// The events that change it are few: [`admit`](Self::admit), [`next_batch`](Self::next_batch),
/// [`completed`](Self::completed) or [`failed`](Self::failed), [`cancel`](Self::cancel), and
/// [`set_health`](Self::set_health).
#[derive(Debug, Clone)]
pub struct RouterState {
    profiles: Profiles,
    config: RouterConfig,
    paths: Vec<PathState>,
    devices: Vec<Device>,
    queued: usize,
    parts: Parts,
    /// Entries on their way out of a queue; empty between calls.
    removed: Vec<Queued>,
    /// Kept for its memory.
    others: Vec<Planned>,
    promises: Promises,
}

/// How well predicted upper finish times were kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Promises {
    /// Queries that were done by their predicted upper finish.
    pub kept: u64,
    /// Queries that were done later, or expired in the queue.
    pub broken: u64,
}

/// A query within the last planned batch of a path.
#[derive(Debug, Clone, Copy)]
struct Joined {
    /// Until that batch starts.
    wait_ns: f64,
    /// How long the batches of other paths that run behind it can be held up.
    slack_behind_ns: f64,
}

#[derive(Debug, Clone)]
struct Device {
    lanes: Lanes,
    paths: Vec<PathId>,
    /// Lane time of all queues together, and the batches planned for it.
    queued_ns: f64,
    batches: usize,
    /// At least the latest deadline queued; exact when the queues were empty since.
    latest_deadline: Time,
}

impl RouterState {
    /// Begins with empty queues, idle lanes and every path up.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] that names the key.
    pub fn new(profiles: Profiles, config: RouterConfig) -> Result<Self, ConfigError> {
        if !(0.5..=0.9999).contains(&config.coverage) {
            return Err(ConfigError::Coverage { value: config.coverage });
        }
        if !(1..=1_000_000).contains(&config.max_queued) {
            return Err(ConfigError::MaxQueued { value: config.max_queued });
        }
        if let Some(value) = config.max_parts.filter(|parts| !(1..=MOST_PARTS).contains(parts)) {
            return Err(ConfigError::MaxParts { value });
        }
        for (key, value) in [("linger_us", config.linger_us), ("overhead_us", config.overhead_us)] {
            if value > 60_000_000 {
                return Err(ConfigError::Span { key, value });
            }
        }
        let path = |id: PathId| {
            let profile = profiles.path(id);
            let curve = &profile.service;
            let max_batch =
                profile.max_batch.unwrap_or_else(|| curve.efficient_batch(BATCHING_GAIN));
            PathState {
                health: Health::Up,
                correction: Correction::new(curve, config.coverage),
                queue: PathQueue::default(),
                device: profiles.device_of(id),
                max_batch,
                full_batch_ns: curve.mean_ns(max_batch),
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
        self.path(path).max_batch
    }

    /// The smallest query that is split on a path for speed alone.
    pub(crate) fn splits_from(&self, path: PathId) -> u32 {
        self.path(path).splits_from
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
            let wait_ns = wait_ns(&state.lanes, &ahead, None, 0.0, now);
            let slack_behind_ns = f64::INFINITY;
            return DeviceView { device, wait_ns, in_order: true, slack_behind_ns, ahead };
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
        DeviceView { device, wait_ns, in_order: false, slack_behind_ns, ahead }
    }

    /// The batches planned on a device.
    fn ahead(&self, device: &Device) -> Ahead {
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

    /// Lane time that is queued or running on a device, per lane.
    pub(crate) fn workload_ns(&self, device: DeviceId, now: Time) -> f64 {
        let state = &self.devices[usize::from(device.0)];
        (state.queued_ns + state.lanes.residual_ns(now)) / state.lanes.count() as f64
    }

    /// Expected service time of a batch of the path's limit.
    pub(crate) fn full_batch_ns(&self, path: PathId) -> f64 {
        let state = self.path(path);
        state.full_batch_ns * state.correction.factor(state.max_batch)
    }

    /// Lane time of a query's samples within a batch of the path's limit; none if such a batch takes longer
    /// than `longest_ns`.
    pub(crate) fn batched_ns(&self, path: PathId, samples: u32, longest_ns: f64) -> Option<f64> {
        let batch_ns = self.full_batch_ns(path);
        let share = f64::from(samples) / f64::from(self.path(path).max_batch);
        (batch_ns <= longest_ns).then_some(batch_ns * share)
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
    fn joined(&self, ahead: &Ahead, path: PathId, samples: u32, now: Time) -> Option<Joined> {
        let state = self.path(path);
        let tail = state.queue.tail();
        if tail.samples == 0 || tail.samples.saturating_add(samples) > state.max_batch {
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
        let planner = planner(curve, correction, state.max_batch, now, wait_ns, lanes, &[]);
        let joins = planner.joins(tail, samples, wait_ns);
        joins.then_some(Joined { wait_ns, slack_behind_ns })
    }

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
        let PathState { queue, correction, max_batch, .. } = &mut self.paths[at];
        let planner = planner(curve, correction, *max_batch, now, start_ns, lanes, &others);
        let whole = Queued::new(query, admission.upper_finish);
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
            if now <= query.promised {
                self.promises.kept += 1;
            } else {
                self.promises.broken += 1;
            }
        }
        for at in 0..device.paths.len() {
            let path = self.devices[usize::from(batch.device.0)].paths[at];
            self.paths[usize::from(path.0)].correction.rest(now);
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

    /// Takes a query, or what waits of it, out of a queue. Returns whether it ended with that.
    fn drop_waiting(&mut self, path: PathId, query: QueryId, now: Time) -> bool {
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
            let rule = BatchRule { max_batch: self.path(first.path).max_batch, linger };
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

    /// Predicted service time of a batch.
    fn service_ns(&self, path: PathId, samples: u32) -> f64 {
        let mean_ns = self.profiles.path(path).service.mean_ns(samples);
        mean_ns * self.path(path).correction.factor(samples)
    }

    /// The same with margin.
    fn upper_ns(&self, path: PathId, samples: u32) -> f64 {
        self.service_ns(path, samples) * self.path(path).correction.margin(samples)
    }

    /// The batches planned for the other paths of a device, by the deadlines that they begin with. The caller gives the
    /// list back.
    fn others(&mut self, path: PathId) -> Vec<Planned> {
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
    fn replan(&mut self, path: PathId, now: Time) {
        let others = self.others(path);
        let curve = &self.profiles.path(path).service;
        let PathState { queue, correction, max_batch, device, .. } =
            &mut self.paths[usize::from(path.0)];
        let lanes = &self.devices[usize::from(device.0)].lanes;
        let start_ns = lanes.start_after(0.0, now);
        queue.replan(&planner(curve, correction, *max_batch, now, start_ns, lanes, &others));
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

/// Until a lane is free of what is ahead: of the batches that begin with a deadline before `limit`, or of all. `behind_ns`
/// is the lane time of the others.
fn wait_ns(lanes: &Lanes, ahead: &Ahead, limit: Option<Time>, behind_ns: f64, now: Time) -> f64 {
    if ahead.few.is_some() {
        lanes.start_behind(ahead.before(limit), now)
    } else {
        lanes.start_after(ahead.work_ns - behind_ns, now)
    }
}

fn planner<'o>(
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
        service_ns + allowance(service_ns, wait_ns, batch_ns, correction.margin(samples))
    };
    Planner { max_batch, service_ns, upper_ns, now, start_ns, others, lanes: lanes.count() as f64 }
}

enum Choice {
    Run(PathId, usize, u32),
    Wait(Time),
    Nothing,
}
