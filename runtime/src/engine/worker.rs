//! A worker: one thread of a device, with an executable of its own for every path.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Duration, Instant},
};

use core_affinity::CoreId;
use mprec_backends::{BackendError, CacheStatistics, Executable};
use mprec_representations::Batch;
use mprec_router::{DeviceId, Next, Profiles, Time};

use super::{
    EngineError,
    shared::Shared,
    state::{Phase, State},
    ticket::{Letter, Reply, Ticket, post},
};
use crate::{
    paths::{CPU, ResidentPath},
    service::{Answer, Refusal},
};

/// One thread's belongings. Every buffer is reused from batch to batch.
#[derive(Debug)]
pub(super) struct Worker {
    index: usize,
    device: DeviceId,
    name: String,
    core: Option<CoreId>,
    /// By path; `None` for paths of other devices.
    executables: Vec<Option<Box<dyn Executable>>>,
    taken: mprec_router::Batch,
    /// The queries' own batches, in the order in which they are merged.
    batches: Vec<Batch>,
    merged: Option<Batch>,
    scores: Vec<f32>,
    replies: Vec<Reply>,
    letters: Vec<Letter>,
}

/// Why a batch did not run.
#[derive(Debug)]
struct Failure {
    message: Arc<str>,
    /// Whether the path cannot be used any more, rather than this batch.
    is_path: bool,
}

/// Puts the executables in the order of the profiles.
pub(super) fn match_up(
    resident: Vec<ResidentPath>,
    profiles: &Profiles,
) -> Result<Vec<Box<dyn Executable>>, EngineError> {
    let mut slots: Vec<Option<Box<dyn Executable>>> = profiles.ids().map(|_| None).collect();
    for path in resident {
        let name = path.path.to_string();
        let Some(id) = profiles.find(&name) else {
            return Err(EngineError::NoProfile { path: name });
        };
        slots[usize::from(id.0)] = Some(path.executable);
    }
    let matched = slots.into_iter().zip(profiles.paths());
    matched
        .map(|(slot, profile)| {
            slot.ok_or_else(|| EngineError::NotResident { path: profile.name.clone() })
        })
        .collect()
}

impl Worker {
    /// One worker per lane of every device, each with its executables.
    pub(super) fn outfit(
        profiles: &Profiles,
        executables: Vec<Box<dyn Executable>>,
        pin: bool,
    ) -> Result<Vec<Self>, EngineError> {
        let cores =
            if pin { core_affinity::get_core_ids().unwrap_or_default() } else { Vec::new() };
        let mut workers = Vec::new();
        for (at, device) in profiles.devices().iter().enumerate() {
            for lane in 0..device.lanes as usize {
                let index = workers.len();
                let mut own: Vec<Option<Box<dyn Executable>>> =
                    executables.iter().map(|_| None).collect();
                for &path in &device.paths {
                    let executable = executables[usize::from(path.0)].another();
                    own[usize::from(path.0)] =
                        Some(executable.map_err(|source| EngineError::Executable {
                            worker: index,
                            path: profiles.path(path).name.clone(),
                            source,
                        })?);
                }
                let on_core = device.name == CPU && !cores.is_empty();
                workers.push(Self {
                    index,
                    // There are at most as many devices as paths, which are numbered in 16 bits.
                    device: DeviceId(at as u16),
                    name: format!("{}-{lane}", device.name),
                    core: on_core.then(|| cores[lane % cores.len()]),
                    executables: own,
                    taken: mprec_router::Batch::default(),
                    batches: Vec::new(),
                    merged: None,
                    scores: Vec::new(),
                    replies: Vec::new(),
                    letters: Vec::new(),
                });
            }
        }
        Ok(workers)
    }

    /// What the caches of its executables did, by path.
    pub(super) fn caches(&self) -> Vec<CacheStatistics> {
        self.executables.iter().map(cache_of).collect()
    }

    /// The thread's name.
    pub(super) fn name(&self) -> String {
        self.name.clone()
    }

    /// Works until the engine stops.
    pub(super) fn work(mut self, shared: &Shared) {
        if let Some(core) = self.core
            && !core_affinity::set_for_current(core)
        {
            tracing::warn!(worker = self.name, core = core.id, "cannot pin the worker to its core");
        }
        let mut state = shared.state();
        while state.phase != Phase::Stopped {
            let now = shared.clock.now();
            state.forget_gone(&shared.gone, now);
            let next = state.router.next_batch(self.device, now, &mut self.taken);
            state.expire(&self.taken.expired, now, &mut self.letters);
            if next == Next::Run {
                state.start(&self.taken.queries, self.index, &mut self.batches);
                if self.batches.is_empty() {
                    // Every client went away.
                    state.router.failed(&self.taken, false, now);
                    continue;
                }
                shared.pass_on(&mut state, self.device);
                drop(state);
                post(&mut self.letters);
                self.run(shared);
                state = shared.state();
            } else if !self.letters.is_empty() {
                shared.report_idle(&state);
                drop(state);
                post(&mut self.letters);
                // Work may have come meanwhile, so ask again before sleeping.
                state = shared.state();
            } else {
                shared.report_idle(&state);
                let until = if let Next::Wait(until) = next { until } else { Time::MAX };
                state = shared.await_work(state, self.device, until);
            }
        }
        drop(state);
        post(&mut self.letters);
    }

    /// Runs what was taken, reports it to the router and answers the queries.
    fn run(&mut self, shared: &Shared) {
        let started = Instant::now();
        let result = self.score(shared);
        let compute = started.elapsed();
        let mut state = shared.state();
        std::mem::swap(&mut self.replies, &mut state.running[self.index]);
        match result {
            Ok(()) => {
                self.report(&mut state, shared.clock.now(), compute);
                drop(state);
                self.answer(shared, started, compute);
            }
            Err(failure) => {
                self.give_up(&mut state, &failure, shared.clock.now());
                drop(state);
                shared.wake_all();
                if failure.is_path {
                    let path = &shared.labels[usize::from(self.taken.path.0)].name;
                    tracing::error!(
                        %path, cause = %failure.message,
                        "path is down; it takes no more queries until the server is restarted"
                    );
                }
            }
        }
        self.batches.clear();
        post(&mut self.letters);
    }

    /// Writes the scores of all batches, one after the other.
    fn score(&mut self, shared: &Shared) -> Result<(), Failure> {
        let Self { executables, batches, merged, scores, taken, .. } = self;
        let Some(executable) = &mut executables[usize::from(taken.path.0)] else {
            unreachable!("the router gives a device batches of its own paths only");
        };
        // One query alone needs no copy.
        let batch = if let [only] = batches.as_slice() {
            only
        } else {
            let merged = merged.get_or_insert_with(|| shared.empty_batch());
            merged.merge(batches.iter());
            merged
        };
        scores.clear();
        scores.resize(batch.samples(), f32::NAN);
        match catch_unwind(AssertUnwindSafe(|| executable.run(batch, scores))) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Failure {
                message: chain(&error).into(),
                // These say that the batch is wrong, which says nothing about the path.
                is_path: !matches!(
                    error,
                    BackendError::Program(_)
                        | BackendError::Scores { .. }
                        | BackendError::Weighted { .. }
                ),
            }),
            Err(panic) => {
                let text = panic
                    .downcast_ref::<&str>()
                    .copied()
                    .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
                    .unwrap_or("no message");
                Err(Failure { message: format!("panicked: {text}").into(), is_path: true })
            }
        }
    }

    /// Tells the router, and counts.
    fn report(&self, state: &mut State, now: Time, compute: Duration) {
        // A batch that clients left on its way here was not the one that was predicted: it frees its
        // lane and teaches nothing.
        if self.scores.len() == self.taken.samples as usize {
            state.router.completed(&self.taken, compute, now);
        } else {
            state.router.failed(&self.taken, true, now);
        }
        let path = usize::from(self.taken.path.0);
        state.caches[self.index][path] = cache_of(&self.executables[path]);
        let count = state.count(self.taken.path);
        count.batches += 1;
        count.batch_samples += self.scores.len() as u64;
        count.batch_time += compute;
        for reply in &self.replies {
            let samples = u64::from(reply.query.samples());
            count.answered += 1;
            count.samples += samples;
            if now <= reply.query.deadline() {
                count.samples_in_time += samples;
            } else {
                count.late += 1;
            }
            count.downgraded += u64::from(reply.downgraded);
        }
    }

    /// Splits the scores up among the queries.
    fn answer(&mut self, shared: &Shared, started: Instant, compute: Duration) {
        let label = &shared.labels[usize::from(self.taken.path.0)];
        let mut rest = self.scores.as_slice();
        // None is left of the replies if the engine stopped meanwhile and refused them.
        for reply in self.replies.drain(..) {
            let (scores, others) = rest.split_at(reply.query.samples() as usize);
            rest = others;
            let outcome = if scores.iter().all(|score| score.is_finite()) {
                Ok(Answer {
                    scores: scores.to_vec(),
                    path: Arc::clone(&label.name),
                    variant: Arc::clone(&label.variant),
                    version: Arc::clone(&shared.version),
                    quality: label.accuracy,
                    downgraded: reply.downgraded,
                    queue: started.saturating_duration_since(reply.arrival),
                    compute,
                    batch_samples: self.scores.len(),
                })
            } else {
                let message = "a score is not a finite number".into();
                Err(Refusal::Failed { path: Arc::clone(&label.name), message })
            };
            self.letters.push(Letter { reply, outcome });
        }
    }

    /// Takes the path down if it is to blame, and finds other paths for the queries, once each.
    fn give_up(&mut self, state: &mut State, failure: &Failure, now: Time) {
        state.router.failed(&self.taken, false, now);
        let message = &failure.message;
        if failure.is_path {
            state.take_down(self.taken.path, message, now, &mut self.letters);
        }
        for (mut reply, batch) in self.replies.drain(..).zip(self.batches.drain(..)) {
            reply.failures += 1;
            // A query that made two paths fail is more likely the cause than the victim.
            if failure.is_path && reply.failures == 1 {
                state.decide_again(Ticket { batch, reply }, message, now, &mut self.letters);
            } else {
                state.fail(reply, message, &mut self.letters);
            }
        }
    }
}

fn cache_of(executable: &Option<Box<dyn Executable>>) -> CacheStatistics {
    executable.as_ref().and_then(|executable| executable.cache()).unwrap_or_default()
}

/// An error and its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
