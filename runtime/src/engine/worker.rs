//! A worker: one thread of a device, with an executable of its own for every path.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Duration, Instant},
};

use core_affinity::CoreId;
use mprec_backends::{BackendError, CacheStatistics, Executable};
use mprec_representations::GroupedBatch;
use mprec_router::{DeviceId, Next, Profiles, Time};

use super::{
    EngineError, EngineOptions,
    assembly::Assembly,
    shared::Shared,
    state::{Phase, State},
    ticket::{Letter, PathLabel, Piece, Reply, Ticket, post},
};
use crate::{
    paths::{CPU, ResidentPath, Revive},
    service::{Answer, Outcome, Refusal, Stages},
};

/// One thread's belongings. Every buffer is reused from batch to batch.
#[derive(Debug)]
pub(super) struct Worker {
    index: usize,
    device: DeviceId,
    name: String,
    core: Option<CoreId>,
    nice: u8,
    /// By path; `None` for paths of other devices and for those that are down.
    executables: Vec<Option<Box<dyn Executable>>>,
    taken: mprec_router::Batch,
    /// What to run, in the order in which it is merged.
    pieces: Vec<Piece>,
    /// The samples of those pieces that are parts.
    cuts: Vec<Option<GroupedBatch>>,
    merged: Option<GroupedBatch>,
    scores: Vec<f32>,
    /// Of the whole queries among the pieces, in their order.
    replies: Vec<Reply>,
    /// Queries whose last part was in the batch.
    assembled: Vec<Ticket>,
    letters: Vec<Letter>,
}

/// Why a batch did not run.
#[derive(Debug)]
struct Failure {
    message: Arc<str>,
    /// Whether the path cannot be used any more, rather than this batch.
    is_path: bool,
}

/// By path.
type Executables = Vec<Box<dyn Executable>>;

/// Puts the executables, and what makes them anew, in the order of the profiles.
pub(super) fn match_up(
    resident: Vec<ResidentPath>,
    profiles: &Profiles,
) -> Result<(Executables, Vec<Revive>), EngineError> {
    let mut slots: Vec<Option<_>> = profiles.ids().map(|_| None).collect();
    for path in resident {
        let name = path.path.to_string();
        let Some(id) = profiles.find(&name) else {
            return Err(EngineError::NoProfile { path: name });
        };
        slots[usize::from(id.0)] = Some((path.executable, path.revive));
    }
    let matched = slots.into_iter().zip(profiles.paths()).map(|(slot, profile)| {
        slot.ok_or_else(|| EngineError::NotResident { path: profile.name.clone() })
    });
    Ok(matched.collect::<Result<Vec<_>, _>>()?.into_iter().unzip())
}

impl Worker {
    /// One worker per lane of every device, each with its executables.
    pub(super) fn outfit(
        profiles: &Profiles,
        executables: Executables,
        options: &EngineOptions,
    ) -> Result<Vec<Self>, EngineError> {
        let cores = match options.pin_workers {
            true => core_affinity::get_core_ids().unwrap_or_default(),
            false => Vec::new(),
        };
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
                let is_cpu = device.name == CPU;
                workers.push(Self {
                    index,
                    // There are at most as many devices as paths, which are numbered in 16 bits.
                    device: DeviceId(at as u16),
                    name: format!("{}-{lane}", device.name),
                    core: (is_cpu && !cores.is_empty()).then(|| cores[lane % cores.len()]),
                    nice: if is_cpu { options.worker_nice } else { 0 },
                    executables: own,
                    taken: mprec_router::Batch::default(),
                    pieces: Vec::new(),
                    cuts: Vec::new(),
                    merged: None,
                    scores: Vec::new(),
                    replies: Vec::new(),
                    assembled: Vec::new(),
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
        if let Err(error) = yield_to_others(self.nice) {
            tracing::warn!(worker = self.name, nice = self.nice, %error, "cannot set the worker's nice value");
        }
        let mut state = shared.state();
        while state.phase != Phase::Stopped {
            if !state.deliveries[self.index].is_empty() {
                let deliveries = std::mem::take(&mut state.deliveries[self.index]);
                drop(state);
                for (path, executable) in deliveries {
                    // Letting go of the old one may take long, or wait for its device.
                    self.executables[usize::from(path.0)] = executable;
                }
                state = shared.state();
                continue;
            }
            let now = shared.clock.now();
            state.forget_gone(&shared.gone, now);
            let next = state.router.next_batch(self.device, now, &mut self.taken);
            state.expire(&self.taken.expired, now, &mut self.letters);
            if next == Next::Run {
                state.start(&self.taken.queries, self.index, &mut self.pieces);
                if self.pieces.is_empty() {
                    // Every client went away.
                    state.router.failed(&mut self.taken, now);
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
        let ended = Instant::now();
        let compute = ended - started;
        let mut state = shared.state();
        std::mem::swap(&mut self.replies, &mut state.running[self.index]);
        match result {
            Ok(input) => {
                self.report(&mut state, shared.clock.now(), started, compute);
                drop(state);
                self.answer(shared, started, compute);
                let (infer, output) = (compute.saturating_sub(input), ended.elapsed());
                self.book(shared, Stages { input, infer, output });
            }
            Err(failure) => {
                let delay = self.give_up(&mut state, &failure, shared.clock.now());
                drop(state);
                shared.wake_all();
                if let Some(delay) = delay {
                    let path = &shared.labels[usize::from(self.taken.path.0)].name;
                    tracing::error!(
                        %path, cause = %failure.message, next_probe = ?delay,
                        "path is down; other paths take its queries until a probe finds it well"
                    );
                }
            }
        }
        self.pieces.clear();
        post(&mut self.letters);
    }

    /// Writes the scores of all pieces, one after the other. Returns how long putting them together took.
    fn score(&mut self, shared: &Shared) -> Result<Duration, Failure> {
        let began = Instant::now();
        let Self { executables, pieces, cuts, merged, scores, taken, .. } = self;
        let Some(executable) = &mut executables[usize::from(taken.path.0)] else {
            unreachable!("the router gives a device batches of its own paths that are up only");
        };
        let together = catch_unwind(AssertUnwindSafe(|| {
            cuts.clear();
            cuts.extend(pieces.iter().map(Piece::cut));
            // One alone needs no copy.
            if pieces.len() > 1 {
                let parts = pieces.iter().zip(&*cuts);
                let merged = merged.get_or_insert_with(|| shared.empty_batch());
                merged.merge(parts.map(|(piece, cut)| cut.as_ref().unwrap_or(&piece.batch)));
            }
        }));
        if let Err(panic) = together {
            // It may be half filled. The path has not seen it.
            *merged = None;
            let message = format!("putting a batch together panicked: {}", panic_text(&*panic));
            return Err(Failure { message: message.into(), is_path: false });
        }
        let batch = match (&pieces[..], &*merged) {
            ([piece], _) => cuts[0].as_ref().unwrap_or(&piece.batch),
            (_, Some(merged)) => merged,
            (_, None) => unreachable!("several pieces were merged, and none is never run"),
        };
        scores.clear();
        scores.resize(batch.samples(), f32::NAN);
        let input = began.elapsed();
        match catch_unwind(AssertUnwindSafe(|| executable.run_grouped(batch, scores))) {
            Ok(Ok(())) => Ok(input),
            Ok(Err(error)) => Err(Failure {
                message: chain(&error).into(),
                // These say that the batch is wrong, which says nothing about the path.
                is_path: !matches!(
                    error,
                    BackendError::Program(_)
                        | BackendError::Sample { .. }
                        | BackendError::Scores { .. }
                        | BackendError::Weighted { .. }
                ),
            }),
            Err(panic) => {
                let message = format!("panicked: {}", panic_text(&*panic)).into();
                Err(Failure { message, is_path: true })
            }
        }
    }

    /// Tells the router, puts parts in their place, and counts.
    fn report(&mut self, state: &mut State, now: Time, started: Instant, compute: Duration) {
        // A batch that clients left on its way here was not the one that was predicted.
        self.taken.samples = self.scores.len() as u32;
        state.router.completed(&mut self.taken, compute, now);
        let mut rest = self.scores.as_slice();
        for piece in &self.pieces {
            let (scores, others) = rest.split_at(piece.entry.samples as usize);
            rest = others;
            if piece.is_part() {
                state.put(&piece.entry, scores, started, self.scores.len());
            }
        }
        let apart = self.taken.ended.iter().filter(|ended| ended.split.is_some());
        self.assembled.extend(apart.filter_map(|ended| state.take_apart(ended)));
        let path = usize::from(self.taken.path.0);
        state.caches[self.index][path] = cache_of(&self.executables[path]);
        let count = state.count(self.taken.path);
        count.batches += 1;
        count.batch_samples += self.scores.len() as u64;
        count.batch_time += compute;
        for reply in self.replies.iter().chain(self.assembled.iter().map(|ticket| &ticket.reply)) {
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
        let batch_samples = self.scores.len();
        let mut rest = self.scores.as_slice();
        let mut replies = self.replies.drain(..);
        for piece in &self.pieces {
            let (scores, others) = rest.split_at(piece.entry.samples as usize);
            rest = others;
            if piece.is_part() {
                continue;
            }
            // None is left of the replies if the engine stopped meanwhile and refused them.
            let Some(reply) = replies.next() else { break };
            let run = Run { started, compute, batch_samples };
            let outcome = outcome(shared, label, &reply, scores.to_vec(), &run);
            self.letters.push(Letter { reply, outcome });
        }
        drop(replies);
        for Ticket { reply, assembly, .. } in self.assembled.drain(..) {
            let Some((scores, first, batch_samples)) = assembly.map(Assembly::finish) else {
                continue;
            };
            let first = first.unwrap_or(started);
            let compute = (started + compute).saturating_duration_since(first);
            let run = Run { started: first, compute, batch_samples };
            let outcome = outcome(shared, label, &reply, scores, &run);
            self.letters.push(Letter { reply, outcome });
        }
    }

    /// Writes down what the batch was, and what became of its queries, before they are told.
    fn book(&self, shared: &Shared, stages: Stages) {
        let ledger = &shared.ledgers[usize::from(self.taken.path.0)];
        ledger.batch(self.scores.len(), stages);
        for Letter { reply, outcome } in &self.letters {
            let latency = reply.arrival.elapsed();
            match outcome {
                Ok(answer) => ledger.answer(answer.scores.len(), latency, answer.queue, stages),
                Err(_) => ledger.fail(latency),
            }
        }
    }

    /// Takes the path down if it is to blame, and finds other paths for the queries, once each. Returns until
    /// when the path is left alone, if it went down.
    fn give_up(&mut self, state: &mut State, failure: &Failure, now: Time) -> Option<Duration> {
        state.router.failed(&mut self.taken, now);
        let message = &failure.message;
        let apart = self.taken.ended.iter().filter(|ended| ended.split.is_some());
        let mut lost: Vec<Ticket> = apart.filter_map(|ended| state.take_apart(ended)).collect();
        let whole = self.pieces.drain(..).filter(|piece| !piece.is_part());
        lost.extend(self.replies.drain(..).zip(whole).map(|(reply, piece)| Ticket {
            batch: piece.batch,
            reply,
            assembly: None,
        }));
        let mut delay = None;
        if failure.is_path {
            delay = state.take_down(self.taken.path, message, now, &mut self.letters);
        }
        for mut ticket in lost {
            ticket.reply.failures += 1;
            // A query that made two paths fail is more likely the cause than the victim.
            if failure.is_path && ticket.reply.failures == 1 {
                state.decide_again(ticket, message, now, &mut self.letters);
            } else {
                state.fail(ticket.reply, message, &mut self.letters);
            }
        }
        delay
    }
}

/// Sets the nice value of this thread. A lower priority needs no privilege.
#[cfg(target_os = "linux")]
fn yield_to_others(nice: u8) -> rustix::io::Result<()> {
    if nice == 0 {
        return Ok(());
    }
    // On Linux a nice value belongs to a thread, although POSIX gives it to the process.
    let thread = rustix::thread::gettid();
    rustix::process::setpriority_process(Some(thread), nice.into())
}

/// Elsewhere threads have none of their own.
#[cfg(not(target_os = "linux"))]
fn yield_to_others(_nice: u8) -> std::io::Result<()> {
    Ok(())
}

/// How a query was run.
struct Run {
    started: Instant,
    compute: Duration,
    batch_samples: usize,
}

fn outcome(
    shared: &Shared,
    label: &PathLabel,
    reply: &Reply,
    scores: Vec<f32>,
    run: &Run,
) -> Outcome {
    if !scores.iter().all(|score| score.is_finite()) {
        let message = "a score is not a finite number".into();
        return Err(Refusal::Failed { path: Arc::clone(&label.name), message });
    }
    Ok(Answer {
        scores,
        path: Arc::clone(&label.name),
        variant: Arc::clone(&label.variant),
        version: Arc::clone(&shared.version),
        quality: label.accuracy,
        downgraded: reply.downgraded,
        predicted: reply.predicted.since(reply.query.arrival()),
        queue: run.started.saturating_duration_since(reply.arrival),
        compute: run.compute,
        batch_samples: run.batch_samples,
    })
}

fn cache_of(executable: &Option<Box<dyn Executable>>) -> CacheStatistics {
    executable.as_ref().and_then(|executable| executable.cache()).unwrap_or_default()
}

/// What a panic said.
pub(super) fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    panic.downcast_ref::<&str>().copied().or(text).unwrap_or("no message")
}

/// An error and its causes, in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
