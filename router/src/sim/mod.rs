//! A discrete-event simulation of the router.
//!
//! The simulator is the server without threads and clocks: it submits the queries of a trace to the same
//! [`Router`], forms batches by the same rule, draws how long each takes from the profiles, and
//! reports completions. Nothing waits, so hours of traffic take seconds, and equal arguments give
//! equal reports.
//!
//! What it leaves out: the cost of the network, of parsing and of waking a thread; interference
//! between lanes; and whatever makes a real device differ from its profile, except for a
//! [`Slowdown`] that is put in on purpose.

mod arrivals;
mod dual;
mod oracle;
mod process;
mod report;
mod service;
mod sizes;
mod trace;

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

pub(crate) use self::oracle::{Law, Relaxation, Ways, Worth};
use self::service::Draw;
pub use self::{
    arrivals::{Arrivals, MAX_TRACE},
    oracle::{Bound, oracle},
    report::{Answer, PathReport, Recorder, Report},
    service::{Service, Slowdown},
    sizes::{DEFAULT_LARGEST, Sizes},
    trace::{Trace, TraceQuery, Until},
};
use crate::{
    Batch, Decision, DeviceId, Next, PolicyName, Profiles, Query, QueryError, QueryId, Queued,
    Router, RouterConfig, RouterError, Time,
};

/// What makes the text of a load description unusable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SpecError {
    /// Neither of the known forms.
    #[error("`{text}` is none of {known}")]
    Unknown {
        /// What was given.
        text: String,
        /// The forms that are known.
        known: &'static str,
    },
    /// A value out of range.
    #[error("{what} `{value}` must {must}")]
    Value {
        /// What it is.
        what: &'static str,
        /// What was given.
        value: String,
        /// What it must be.
        must: &'static str,
    },
    /// A line of a file is wrong.
    #[error("line {line}: {reason}")]
    Line {
        /// Which line, from 1.
        line: usize,
        /// What is wrong.
        reason: &'static str,
    },
    /// A file could not be read.
    #[error("could not read `{file}`: {reason}")]
    Read {
        /// Its name as given.
        file: String,
        /// What the reader said.
        reason: String,
    },
    /// Nothing to simulate.
    #[error("the {what} is empty")]
    Empty {
        /// What is.
        what: &'static str,
    },
}

/// What makes a simulation impossible.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SimError {
    /// The router cannot be made.
    #[error(transparent)]
    Router(#[from] RouterError),
    /// A query of the trace is wrong.
    #[error("query {index} of the trace is wrong")]
    Query {
        /// Which, from 0.
        index: usize,
        /// Why.
        #[source]
        source: QueryError,
    },
    /// A service time over its profile that is not positive and finite.
    #[error("a service time of {ratio} times the profile's; ratios are positive and finite")]
    Ratio {
        /// What was given.
        ratio: f32,
    },
    /// A slowdown by a factor that is not positive and finite.
    #[error("a slowdown by {factor}; factors lie in (0, 1000]")]
    Slowdown {
        /// What was given.
        factor: f64,
    },
}

/// How the simulated machine behaves.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SimConfig {
    /// What service times are drawn from.
    pub service: Service,
    /// Observed service times over profiled means, by path: a path that has some takes them in order, and again from
    /// the first, and nothing is drawn for it. Positive and finite.
    pub ratios: Vec<Vec<f32>>,
    /// Changes of speed, in order of their beginning.
    pub slowdowns: Vec<Slowdown>,
    /// Seed of the service times.
    pub seed: u64,
    /// The router's own settings.
    pub router: RouterConfig,
}

/// Something that happened in a simulation.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'e> {
    /// A query was decided.
    Decided {
        /// When.
        now: Time,
        /// The query; its id is its place in the trace.
        query: &'e Query,
        /// What was decided.
        decision: &'e Decision,
    },
    /// A batch began.
    Started {
        /// When.
        now: Time,
        /// The batch.
        batch: &'e Batch,
        /// How long it will take.
        service: Duration,
    },
    /// A batch is done, and the queries in `batch.ended` are answered.
    Finished {
        /// When.
        now: Time,
        /// The batch.
        batch: &'e Batch,
    },
    /// Queries were handed back because their deadline had passed.
    Expired {
        /// When.
        now: Time,
        /// The queries.
        queries: &'e [Queued],
    },
    /// Everything that could be started at this moment has been.
    Settled {
        /// When.
        now: Time,
        /// The router.
        router: &'e Router,
    },
}

/// Simulates a policy on a trace.
///
/// # Errors
///
/// [`SimError`] if the policy names an unknown path, or the configuration or trace is wrong.
pub fn simulate(
    profiles: &Profiles,
    policy: &PolicyName,
    trace: &Trace,
    config: &SimConfig,
) -> Result<Report, SimError> {
    let router = Router::new(profiles.clone(), policy, config.router.clone())?;
    simulate_with(router, trace, config, |_| {})
}

/// Simulates a router (with any policy, in any state of health) on a trace, telling `observer` of
/// everything that happens, in order. The router brings its own settings; `config.router` is
/// not looked at.
///
/// # Errors
///
/// [`SimError`] if the configuration or the trace is wrong.
pub fn simulate_with(
    router: Router,
    trace: &Trace,
    config: &SimConfig,
    observer: impl FnMut(Event<'_>),
) -> Result<Report, SimError> {
    for slowdown in &config.slowdowns {
        if !(slowdown.factor > 0.0 && slowdown.factor <= 1_000.0) {
            return Err(SimError::Slowdown { factor: slowdown.factor });
        }
    }
    let mut ratios = config.ratios.iter().flatten();
    if let Some(&ratio) = ratios.find(|&&ratio| !(ratio > 0.0 && ratio.is_finite())) {
        return Err(SimError::Ratio { ratio });
    }
    let profiles = &router.state().profiles().clone();
    let policy = router.policy();
    let paths = profiles.paths().iter().map(|path| (path.name.as_str(), path.accuracy));
    let lanes = |device: &crate::DeviceProfile| vec![OnLane::default(); device.lanes as usize];
    let simulation = Simulation {
        profiles,
        router,
        recorder: Recorder::new(paths),
        draw: Draw::new(config),
        events: BinaryHeap::new(),
        running: profiles.devices().iter().map(lanes).collect(),
        downgraded: vec![false; trace.queries().len()],
        batch: Batch::default(),
        batches: 0,
        split: 0,
        observer,
    };
    simulation.run(trace, &policy)
}

/// A batch on a lane.
#[derive(Debug, Clone, Default)]
struct OnLane {
    batch: Batch,
    started: Time,
    service: Duration,
}

/// Orders by time, then completions before wake-ups, then by place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Completion { device: u16, lane: u16 },
    Wake { device: u16 },
}

struct Simulation<'s, O> {
    profiles: &'s Profiles,
    router: Router,
    recorder: Recorder,
    draw: Draw<'s>,
    events: BinaryHeap<Reverse<(Time, Due)>>,
    running: Vec<Vec<OnLane>>,
    downgraded: Vec<bool>,
    batch: Batch,
    batches: u64,
    split: u64,
    observer: O,
}

impl<O: FnMut(Event<'_>)> Simulation<'_, O> {
    fn run(mut self, trace: &Trace, policy: &PolicyName) -> Result<Report, SimError> {
        let mut end = Time::ZERO;
        let mut next = 0;
        loop {
            let arrival = trace.queries().get(next).map(|query| query.arrival);
            let due = self.events.peek().map(|Reverse((at, _))| *at);
            let arrives = match (arrival, due) {
                (None, None) => break,
                (Some(arrival), Some(due)) => arrival < due,
                (arrival, _) => arrival.is_some(),
            };
            if arrives {
                end = arrival.unwrap_or(end).max(end);
                self.arrive(trace, next)?;
                next += 1;
            } else if let Some(Reverse((now, due))) = self.events.pop() {
                end = end.max(now);
                self.handle(now, due);
            }
        }
        let mut report = self.recorder.finish(policy.to_string(), true, trace.seconds());
        report.batches = self.batches;
        let first = trace.queries().first().map_or(Time::ZERO, |query| query.arrival);
        let span = end.since(first).as_secs_f64().max(1e-9);
        for (at, device) in self.profiles.devices().iter().enumerate() {
            let lanes = self.router.state().lanes(DeviceId(at as u16));
            let busy = lanes.busy_time().as_secs_f64() / (span * f64::from(device.lanes));
            report.utilisation.insert(device.name.clone(), busy);
        }
        report.split = self.split;
        Ok(report)
    }

    fn arrive(&mut self, trace: &Trace, index: usize) -> Result<(), SimError> {
        let coming = &trace.queries()[index];
        let wrong = |source| SimError::Query { index, source };
        let (samples, now) = (coming.samples as usize, coming.arrival);
        let query = Query::new(QueryId(index as u64), samples, now, coming.sla)
            .and_then(|query| query.with_min_quality(coming.min_quality))
            .map_err(wrong)?
            .with_priority(coming.priority)
            .with_paths(coming.paths);
        self.recorder.offered(coming.samples);
        let decision = self.router.submit(&query, now);
        (self.observer)(Event::Decided { now, query: &query, decision: &decision });
        match decision {
            Decision::Admit(admission) => {
                self.downgraded[index] = admission.downgraded;
                self.split += u64::from(admission.parts > 1);
                self.dispatch(self.profiles.device_of(admission.path), now);
            }
            Decision::Refuse(refusal) => self.recorder.refused(refusal.reason),
        }
        (self.observer)(Event::Settled { now, router: &self.router });
        Ok(())
    }

    fn handle(&mut self, now: Time, due: Due) {
        let device = match due {
            Due::Wake { device } => DeviceId(device),
            Due::Completion { device, lane } => {
                let done = &mut self.running[usize::from(device)][usize::from(lane)];
                self.router.completed(&mut done.batch, done.service, now);
                let path = usize::from(done.batch.path.0);
                for query in &done.batch.ended {
                    self.recorder.answered(&Answer {
                        path,
                        samples: query.samples,
                        latency: now.since(query.arrival),
                        wait: done.started.since(query.arrival),
                        in_time: now <= query.deadline,
                        downgraded: self.downgraded[query.id.0 as usize],
                    });
                }
                (self.observer)(Event::Finished { now, batch: &done.batch });
                DeviceId(device)
            }
        };
        self.dispatch(device, now);
        (self.observer)(Event::Settled { now, router: &self.router });
    }

    /// Starts batches until the device's lanes are busy or its queues have nothing to run.
    fn dispatch(&mut self, device: DeviceId, now: Time) {
        loop {
            let next = self.router.next_batch(device, now, &mut self.batch);
            if !self.batch.expired.is_empty() {
                for _ in &self.batch.expired {
                    self.recorder.failed(true);
                }
                (self.observer)(Event::Expired { now, queries: &self.batch.expired });
            }
            match next {
                Next::Idle => return,
                Next::Wait(until) => {
                    self.events.push(Reverse((until, Due::Wake { device: device.0 })));
                    return;
                }
                Next::Run => {}
            }
            let (path, lane) = (self.batch.path, self.batch.lane);
            // Parts of one query are drawn apart.
            let draw = |query: &Queued| QueryId(query.id.0 ^ (u64::from(query.offset) << 40));
            let head = self.batch.queries.first().map_or(QueryId(0), draw);
            let curve = &self.profiles.path(path).service;
            let service = self.draw.next(curve, path, device, self.batch.samples, head, now);
            self.batches += 1;
            let on_lane = &mut self.running[usize::from(device.0)][usize::from(lane.0)];
            std::mem::swap(&mut on_lane.batch, &mut self.batch);
            (on_lane.started, on_lane.service) = (now, service);
            let completion = Due::Completion { device: device.0, lane: lane.0 };
            self.events.push(Reverse((now + service, completion)));
            (self.observer)(Event::Started { now, batch: &on_lane.batch, service });
        }
    }
}

/// The lines of a file that hold something, with their numbers.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let numbered = text.lines().enumerate().map(|(at, line)| (at + 1, line.trim()));
    numbered.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}

fn no_files(_: &str) -> std::io::Result<String> {
    Err(std::io::Error::other("a file cannot be read here"))
}
