//! What the engine's threads and its callers share.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use mprec_backends::CacheStatistics;
use mprec_representations::GroupedBatch;
use mprec_router::{DeviceId, Health, PathSet, Profiles, Query, Time};
use tokio::sync::oneshot;

use super::{
    EngineOptions,
    clock::Clock,
    gone::Gone,
    ledger::Ledger,
    outcome,
    recorded::RecordedRouter,
    state::{Phase, State},
    ticket::{PathLabel, Reply, Ticket, post},
};
use crate::service::{Model, Outcome, Refusal, ScoreRequest};

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) model: Arc<Model>,
    pub(super) version: Arc<str>,
    /// By [`PathId`](mprec_router::PathId).
    pub(super) labels: Vec<PathLabel>,
    /// By path, too.
    pub(super) ledgers: Vec<Ledger>,
    pub(super) clock: Clock,
    pub(super) gone: Arc<Gone>,
    state: Mutex<State>,
    /// Where the idle workers of each device sleep.
    work: Vec<Condvar>,
    /// Where the housekeeper sleeps.
    chores: Condvar,
    /// Where the thread sleeps that probes paths.
    outages: Condvar,
    /// Where [`Shared::drain`] and [`Shared::await_threads`] wait.
    idle: Condvar,
    min_quality: f64,
    /// Paths that take weights of ids.
    weighted: PathSet,
}

/// Counts a thread's end, however it ends.
pub(super) struct ThreadEnds<'a>(pub(super) &'a Shared);

impl Drop for ThreadEnds<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let thread = std::thread::current();
            tracing::error!(thread = thread.name(), "a thread of the engine panicked; restart it");
        }
        self.0.thread_ends();
    }
}

impl Shared {
    pub(super) fn new(
        model: Arc<Model>,
        profiles: &Profiles,
        weighted: PathSet,
        router: RecordedRouter,
        caches: Vec<Vec<CacheStatistics>>,
        ledgers: Vec<Ledger>,
        options: &EngineOptions,
    ) -> Self {
        let label = |profile: &mprec_router::PathProfile| PathLabel {
            name: profile.name.as_str().into(),
            variant: profile.variant.as_str().into(),
            accuracy: profile.accuracy,
        };
        Self {
            version: model.version.as_str().into(),
            labels: profiles.paths().iter().map(label).collect(),
            ledgers,
            clock: Clock::start(),
            gone: Arc::default(),
            state: Mutex::new(State::new(router, caches, options)),
            work: profiles.devices().iter().map(|_| Condvar::new()).collect(),
            chores: Condvar::new(),
            outages: Condvar::new(),
            idle: Condvar::new(),
            min_quality: options.min_quality.unwrap_or(0.0),
            weighted,
            model,
        }
    }

    /// The state. A panic under this lock is a bug; those who come after it carry on, so that what
    /// waits is answered, and the engine is no longer ready.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A batch of no samples in the model's shape.
    pub(super) fn empty_batch(&self) -> GroupedBatch {
        self.model.shape.empty().into()
    }

    /// Takes a query: decides it, queues it and wakes who should know.
    pub(super) fn submit(
        &self,
        request: ScoreRequest,
    ) -> Result<oneshot::Receiver<Outcome>, Refusal> {
        let ScoreRequest { batch, arrival, deadline, min_quality, priority } = request;
        if self.model.shape.check_grouped(&batch).is_err() {
            return Err(Refusal::Unavailable { reason: "the batch is not of this model's shape" });
        }
        let paths = if batch.is_weighted() { self.weighted } else { PathSet::ALL };
        let (sender, receiver) = oneshot::channel();
        let mut state = self.state();
        let (from, until) = (self.clock.time(arrival), self.clock.time(deadline));
        let query = Query::new(state.next_id(), batch.samples(), from, until.since(from))
            .and_then(|query| query.with_min_quality(min_quality.unwrap_or(self.min_quality)));
        let Ok(query) = query else {
            return Err(Refusal::Unavailable {
                reason: "a query has 1 to 1048576 samples and a min_quality in [0, 1]",
            });
        };
        if state.phase != Phase::Serving {
            let refusal = Refusal::Unavailable { reason: "the server is stopping" };
            state.counts.refuse(&refusal, arrival);
            return Err(refusal);
        }
        let query = query.with_priority(outcome::priority(priority)).with_paths(paths);
        let now = self.clock.now();
        state.forget_gone(&self.gone, now);
        if query.deadline() <= now {
            let refusal = outcome::deadline_passed(query.deadline(), now);
            state.counts.refuse(&refusal, arrival);
            return Err(refusal);
        }
        let path = mprec_router::PathId(0);
        let (downgraded, predicted, failures) = (false, Time::ZERO, 0);
        let reply = Reply { query, arrival, path, downgraded, predicted, failures, sender };
        let ticket = Ticket { batch: Arc::new(batch), reply, assembly: None };
        match state.admit(ticket, Some(&self.gone), now) {
            Ok(path) => {
                let device = state.router.state().profiles().device_of(path);
                self.wake(&mut state, device, query.deadline());
                Ok(receiver)
            }
            Err((_, refusal)) => {
                state.counts.refuse(&refusal, arrival);
                Err(refusal)
            }
        }
    }

    /// Wakes a worker for a query that was queued, or the housekeeper if all are busy.
    fn wake(&self, state: &mut State, device: DeviceId, deadline: Time) {
        if state.router.state().lanes(device).idle() > 0 {
            self.work[usize::from(device.0)].notify_one();
        } else if deadline < state.housekeeping {
            state.housekeeping = deadline;
            self.chores.notify_one();
        }
    }

    /// After a worker took a batch: wakes one more if there is work left for it, or has the
    /// housekeeper watch what stays behind.
    pub(super) fn pass_on(&self, state: &mut State, device: DeviceId) {
        if let Some(deadline) = state.earliest_deadline(device) {
            self.wake(state, device, deadline);
        }
    }

    /// Wakes every thread: queries moved between paths, or executables did.
    pub(super) fn wake_all(&self) {
        self.work.iter().for_each(Condvar::notify_all);
        self.chores.notify_one();
        self.outages.notify_one();
    }

    /// Tells who waits for the end that nothing is left to do, if so.
    pub(super) fn report_idle(&self, state: &State) {
        if state.phase == Phase::Draining && state.is_empty() {
            self.idle.notify_all();
        }
    }

    /// Sleeps until there may be work for the device, at the latest until `until`.
    pub(super) fn await_work<'a>(
        &'a self,
        state: MutexGuard<'a, State>,
        device: DeviceId,
        until: Time,
    ) -> MutexGuard<'a, State> {
        self.sleep(&self.work[usize::from(device.0)], state, until)
    }

    /// Sleeps until there may be something to tidy up.
    pub(super) fn await_chores<'a>(
        &'a self,
        state: MutexGuard<'a, State>,
    ) -> MutexGuard<'a, State> {
        let until = state.housekeeping;
        self.sleep(&self.chores, state, until)
    }

    /// Sleeps until a path may have to be probed, at the latest until `until`.
    pub(super) fn await_probe<'a>(
        &'a self,
        state: MutexGuard<'a, State>,
        until: Time,
    ) -> MutexGuard<'a, State> {
        self.sleep(&self.outages, state, until)
    }

    fn sleep<'a>(
        &self,
        condition: &Condvar,
        state: MutexGuard<'a, State>,
        until: Time,
    ) -> MutexGuard<'a, State> {
        if until == Time::MAX {
            return condition.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let span = until.since(self.clock.now());
        if span.is_zero() {
            return state;
        }
        condition.wait_timeout(state, span).unwrap_or_else(PoisonError::into_inner).0
    }

    /// Whether a query could be answered now.
    pub(super) fn is_ready(&self) -> bool {
        if self.state.is_poisoned() {
            return false;
        }
        let state = self.state();
        let router = state.router.state();
        let mut paths = router.profiles().ids();
        state.phase == Phase::Serving
            && state.threads.0 == state.threads.1
            && paths.any(|path| router.path(path).health == Health::Up)
    }

    /// Takes no more queries and waits until the last has its outcome, at most for `limit`. Refuses
    /// what is left, tells the threads to end, and returns how many it refused.
    pub(super) fn drain(&self, limit: Duration) -> usize {
        let until = Instant::now().checked_add(limit);
        let mut state = self.state();
        if state.phase == Phase::Stopped {
            return 0;
        }
        state.phase = Phase::Draining;
        while !state.is_empty() && state.threads.0 > 0 {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            let left = left.unwrap_or(Duration::from_secs(3_600));
            if left.is_zero() {
                break;
            }
            state = self.idle.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.phase = Phase::Stopped;
        let mut letters = Vec::new();
        state.refuse_all(self.clock.now(), &mut letters);
        drop(state);
        let refused = letters.len();
        post(&mut letters);
        self.wake_all();
        refused
    }

    /// Waits for the end of all threads, at most for `limit`. Returns how many are left.
    pub(super) fn await_threads(&self, limit: Duration) -> usize {
        let state = self.state();
        let some = |state: &mut State| state.threads.0 > 0;
        let waited = self.idle.wait_timeout_while(state, limit, some);
        waited.unwrap_or_else(PoisonError::into_inner).0.threads.0
    }

    pub(super) fn thread_begins(&self) {
        let mut state = self.state();
        state.threads.0 += 1;
        state.threads.1 += 1;
    }

    pub(super) fn thread_ends(&self) {
        self.state().threads.0 -= 1;
        self.idle.notify_all();
    }
}

/// Locks what no panic can leave half changed.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
