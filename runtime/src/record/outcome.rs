//! What became of the recorded queries, and what a simulation of them needs.
//!
//! All of it is read from the log alone: it holds for logs of other versions of the router too,
//! whose decisions this one would not repeat.

use std::{collections::HashMap, time::Duration};

use mprec_router::{
    Decision, DeviceId, LaneId, PathId, Profiles, Query, QueryId, Time,
    sim::{Answer, Recorder as Tally, Report, SpecError, Trace, TraceQuery},
};

use super::{Event, Header};

/// The outcome of a recording.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// What became of the queries, measured. Latency counts from the decision, as in a simulation.
    pub report: Report,
    /// Of the failed queries, those whose client left while they waited.
    pub cancelled: u64,
    /// Queries without an outcome where the log ends; in no count of the report.
    pub open: u64,
    /// Observed service time over the profile's mean, of every batch in order, by path.
    pub ratios: Vec<Vec<f32>>,
    queries: Vec<TraceQuery>,
}

impl Outcome {
    /// The recorded queries, for a simulation: they arrive when they were decided, with the budget that was
    /// left then.
    ///
    /// # Errors
    ///
    /// [`SpecError`] if there are none, or more than a simulation takes.
    pub fn trace(&self) -> Result<Trace, SpecError> {
        Trace::new(self.queries.clone())
    }
}

/// Gathers the outcome while a log is read.
#[derive(Debug)]
pub struct OutcomeCollector {
    profiles: Profiles,
    policy: String,
    tally: Tally,
    open: HashMap<QueryId, Open>,
    running: HashMap<(DeviceId, LaneId), Running>,
    queries: Vec<TraceQuery>,
    ratios: Vec<Vec<f32>>,
    busy: Vec<Duration>,
    first: Option<Time>,
    last: Time,
    batches: u64,
    split: u64,
    cancelled: u64,
}

/// A query between decision and outcome.
#[derive(Debug)]
struct Open {
    samples: u32,
    decided: Time,
    deadline: Time,
    path: PathId,
    downgraded: bool,
    /// When it began; of a split query, its last part.
    started: Time,
    /// Whether it was ever admitted in parts.
    is_split: bool,
    /// Whether the router gave it back and has not been asked again.
    is_handed_back: bool,
}

/// A batch on a lane.
#[derive(Debug)]
struct Running {
    path: PathId,
    samples: u32,
    queries: Vec<QueryId>,
}

impl OutcomeCollector {
    /// For a log with this header.
    pub fn new(header: &Header) -> Self {
        let paths = header.profiles.paths();
        Self {
            policy: header.policy.to_string(),
            tally: Tally::new(paths.iter().map(|path| (path.name.as_str(), path.accuracy))),
            open: HashMap::new(),
            running: HashMap::new(),
            queries: Vec::new(),
            ratios: vec![Vec::new(); paths.len()],
            busy: vec![Duration::ZERO; header.profiles.devices().len()],
            first: None,
            last: Time::ZERO,
            batches: 0,
            split: 0,
            cancelled: 0,
            profiles: header.profiles.clone(),
        }
    }

    /// Takes the next event of the log.
    pub fn take(&mut self, event: &Event) {
        match event {
            Event::Submitted { now, query, decision } => self.submitted(*now, query, decision),
            Event::Asked { now, device, started, expired, .. } => {
                if let Some(started) = started {
                    for entry in &started.entries {
                        if let Some(open) = self.open.get_mut(&entry.query) {
                            open.started = *now;
                        }
                    }
                    let (path, samples) = (started.path, started.samples);
                    let queries = started.entries.iter().map(|entry| entry.query).collect();
                    let running = Running { path, samples, queries };
                    self.running.insert((*device, started.lane), running);
                }
                self.expired(expired);
            }
            Event::Completed { now, device, lane, observed, short, ended } => {
                let Some(running) = self.running.remove(&(*device, *lane)) else { return };
                let samples = short.unwrap_or(running.samples);
                let profiled = self.profiles.path(running.path).service.mean(samples);
                let ratio = observed.as_secs_f64() / profiled.as_secs_f64().max(1e-9);
                self.ratios[usize::from(running.path.0)].push(ratio as f32);
                self.busy[usize::from(device.0)] += *observed;
                self.batches += 1;
                self.answered(running.path, ended.as_ref().unwrap_or(&running.queries), *now);
            }
            Event::Failed { device, lane, ended, .. } => {
                let Some(running) = self.running.remove(&(*device, *lane)) else { return };
                self.hand_back(ended.as_ref().unwrap_or(&running.queries));
            }
            Event::Cancelled { query, removed, .. } => {
                if *removed && self.fail(*query, false) {
                    self.cancelled += 1;
                }
            }
            Event::HealthSet { orphans, .. } => self.hand_back(orphans),
            Event::Expired { queries, .. } => self.expired(queries),
        }
    }

    /// The outcome of all that was taken.
    pub fn finish(mut self) -> Outcome {
        let handed_back: Vec<QueryId> =
            self.open.iter().filter(|(_, open)| open.is_handed_back).map(|(&id, _)| id).collect();
        // The engine answered these as failed, of which the router is not told.
        for id in handed_back {
            self.fail(id, false);
        }
        let first = self.first.unwrap_or(Time::ZERO);
        // As `Trace::seconds` counts.
        let seconds = self.last.since(first).as_secs_f64().max(1e-3);
        let mut report = self.tally.finish(self.policy, false, seconds);
        report.batches = self.batches;
        report.split = self.split;
        for (device, busy) in self.profiles.devices().iter().zip(&self.busy) {
            let share = busy.as_secs_f64() / (seconds * f64::from(device.lanes));
            report.utilisation.insert(device.name.clone(), share);
        }
        let (cancelled, open) = (self.cancelled, self.open.len() as u64);
        Outcome { report, cancelled, open, ratios: self.ratios, queries: self.queries }
    }

    fn submitted(&mut self, now: Time, query: &Query, decision: &Decision) {
        let id = query.id();
        if let Some(open) = self.open.get_mut(&id) {
            // Its path failed, and it was decided anew.
            match decision {
                Decision::Admit(admission) => {
                    open.path = admission.path;
                    open.downgraded |= admission.downgraded;
                    self.split += u64::from(!open.is_split && admission.parts > 1);
                    open.is_split |= admission.parts > 1;
                    open.is_handed_back = false;
                }
                Decision::Refuse(_) => {
                    self.fail(id, false);
                }
            }
            return;
        }
        let first = *self.first.get_or_insert(now);
        self.last = self.last.max(now);
        self.queries.push(TraceQuery {
            arrival: Time::ZERO + now.since(first),
            samples: query.samples(),
            sla: query.deadline().since(now),
            min_quality: query.min_quality(),
            priority: query.priority(),
            paths: query.paths(),
        });
        match decision {
            Decision::Admit(admission) => {
                let is_split = admission.parts > 1;
                self.split += u64::from(is_split);
                let open = Open {
                    samples: query.samples(),
                    decided: now,
                    deadline: query.deadline(),
                    path: admission.path,
                    downgraded: admission.downgraded,
                    started: now,
                    is_split,
                    is_handed_back: false,
                };
                self.open.insert(id, open);
            }
            Decision::Refuse(refusal) => {
                self.tally.offered(query.samples());
                self.tally.refused(refusal.reason);
            }
        }
    }

    fn answered(&mut self, path: PathId, queries: &[QueryId], now: Time) {
        for id in queries {
            let Some(open) = self.open.remove(id) else { continue };
            self.tally.offered(open.samples);
            self.tally.answered(&Answer {
                path: usize::from(path.0),
                samples: open.samples,
                latency: now.since(open.decided),
                wait: open.started.since(open.decided),
                in_time: now <= open.deadline,
                downgraded: open.downgraded,
            });
        }
    }

    fn hand_back(&mut self, queries: &[QueryId]) {
        for id in queries {
            if let Some(open) = self.open.get_mut(id) {
                open.is_handed_back = true;
            }
        }
    }

    fn expired(&mut self, queries: &[QueryId]) {
        for &id in queries {
            self.fail(id, true);
        }
    }

    fn fail(&mut self, id: QueryId, is_expired: bool) -> bool {
        let Some(open) = self.open.remove(&id) else { return false };
        self.tally.offered(open.samples);
        self.tally.failed(is_expired);
        true
    }
}
