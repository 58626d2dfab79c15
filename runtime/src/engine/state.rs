//! What is behind the engine's lock: the router, and every query between admission and outcome.

use std::{collections::HashMap, sync::Arc};

use mprec_backends::CacheStatistics;
use mprec_router::{Decision, DeviceId, Health, PathId, QueryId, Queued, Time};

use super::{
    gone::Gone,
    outcome,
    recorded::RecordedRouter,
    stats::{Counts, PathCounts},
    ticket::{Letter, Reply, Ticket},
};
use crate::{config::QueueLimits, service::Refusal};

/// A queue is planned anew for each query that leaves it, and the lock is held meanwhile.
const FORGET_AT_ONCE: usize = 64;

/// How far an engine is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// It takes queries.
    Serving,
    /// It finishes what it took.
    Draining,
    /// Threads end.
    Stopped,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) router: RecordedRouter,
    pub(super) phase: Phase,
    /// Replies of the batch that each worker runs. Here and not with the worker, so that they are in
    /// reach when its device never returns.
    pub(super) running: Vec<Vec<Reply>>,
    /// When the housekeeper looks next.
    pub(super) housekeeping: Time,
    /// Threads alive, and threads there were at the beginning.
    pub(super) threads: (usize, usize),
    pub(super) counts: Counts,
    /// By worker and path; zeros where there is no cache.
    pub(super) caches: Vec<Vec<CacheStatistics>>,
    waiting: HashMap<QueryId, Ticket>,
    waiting_samples: usize,
    waiting_bytes: usize,
    limits: QueueLimits,
    next_id: u64,
    /// Queries to forget because their clients went away.
    gone: Vec<QueryId>,
}

impl State {
    /// `caches` has an entry for every worker, as [`State::caches`].
    pub(super) fn new(
        router: RecordedRouter,
        caches: Vec<Vec<CacheStatistics>>,
        limits: QueueLimits,
    ) -> Self {
        let paths = router.state().profiles().paths().len();
        Self {
            router,
            phase: Phase::Serving,
            running: caches.iter().map(|_| Vec::new()).collect(),
            housekeeping: Time::MAX,
            threads: (0, 0),
            counts: Counts { paths: vec![PathCounts::default(); paths], ..Counts::default() },
            caches,
            waiting: HashMap::new(),
            waiting_samples: 0,
            waiting_bytes: 0,
            limits,
            next_id: 0,
            gone: Vec::new(),
        }
    }

    /// A name for a query.
    pub(super) fn next_id(&mut self) -> QueryId {
        self.next_id += 1;
        QueryId(self.next_id)
    }

    /// Queries and samples that wait.
    pub(super) fn waiting(&self) -> (usize, usize) {
        (self.waiting.len(), self.waiting_samples)
    }

    /// Whether no query is anywhere between admission and outcome.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.running.iter().all(Vec::is_empty)
    }

    /// The most urgent deadline of what waits for a device.
    pub(super) fn earliest_deadline(&self, device: DeviceId) -> Option<Time> {
        let state = self.router.state();
        let paths = &state.profiles().devices()[usize::from(device.0)].paths;
        let heads = paths.iter().filter_map(|&path| state.path(path).queue.head());
        heads.map(|head| head.deadline).min()
    }

    /// Decides a query and lets it wait for the path chosen.
    ///
    /// Gives the ticket back with the reason if it was refused.
    pub(super) fn admit(
        &mut self,
        mut ticket: Ticket,
        gone: Option<&Arc<Gone>>,
        now: Time,
    ) -> Result<PathId, (Reply, Refusal)> {
        let query = ticket.reply.query;
        let (samples, bytes) = (query.samples() as usize, ticket.bytes());
        if self.waiting_samples + samples > self.limits.samples {
            return Err((ticket.reply, outcome::full("too many samples wait", &query)));
        }
        if self.waiting_bytes + bytes > self.limits.bytes {
            return Err((ticket.reply, outcome::full("too many bytes wait", &query)));
        }
        let admission = match self.router.submit(&query, now) {
            Decision::Admit(admission) => admission,
            Decision::Refuse(refused) => {
                let refusal = outcome::refusal(refused, &query, self.router.state());
                return Err((ticket.reply, refusal));
            }
        };
        ticket.reply.path = admission.path;
        ticket.reply.downgraded |= admission.downgraded;
        if let Some(gone) = gone {
            gone.watch(query.id(), &mut ticket.reply.sender);
        }
        self.waiting_samples += samples;
        self.waiting_bytes += bytes;
        self.waiting.insert(query.id(), ticket);
        Ok(admission.path)
    }

    /// Takes queries of clients that went away out of their queues; if there are very many, the rest
    /// next time.
    pub(super) fn forget_gone(&mut self, gone: &Gone, now: Time) {
        gone.take(&mut self.gone);
        for _ in 0..FORGET_AT_ONCE {
            let Some(id) = self.gone.pop() else { break };
            let Some(ticket) = self.waiting.get(&id) else { continue };
            let path = ticket.reply.path;
            // A notice may come when the client is still there (see `Gone::watch`).
            if ticket.reply.is_abandoned() && self.router.cancel(path, id, now) {
                self.remove(id);
                self.count(path).abandoned += 1;
            }
        }
    }

    /// Answers queries that the router took out of their queues because they expired.
    pub(super) fn expire(&mut self, expired: &[Queued], now: Time, letters: &mut Vec<Letter>) {
        for queued in expired {
            let Some(ticket) = self.remove(queued.id) else { continue };
            self.count(ticket.reply.path).expired += 1;
            let refusal = outcome::deadline_passed(queued.deadline, now);
            letters.push(Letter::refusal(ticket.reply, refusal));
        }
    }

    /// Hands the queries of a batch to a worker. Those whose clients went away are dropped.
    pub(super) fn start(
        &mut self,
        queries: &[Queued],
        worker: usize,
        batches: &mut Vec<mprec_representations::Batch>,
    ) {
        for queued in queries {
            let Some(ticket) = self.remove(queued.id) else { continue };
            if ticket.reply.is_abandoned() {
                self.count(ticket.reply.path).abandoned += 1;
                continue;
            }
            batches.push(ticket.batch);
            self.running[worker].push(ticket.reply);
        }
    }

    /// Takes a path down for good. What waits for it is decided anew.
    pub(super) fn take_down(
        &mut self,
        path: PathId,
        message: &Arc<str>,
        now: Time,
        letters: &mut Vec<Letter>,
    ) {
        let mut orphans = Vec::new();
        self.router.set_health(path, Health::Down, now, &mut orphans);
        for queued in orphans {
            if let Some(ticket) = self.remove(queued.id) {
                self.decide_again(ticket, message, now, letters);
            }
        }
    }

    /// Finds another path for a query whose path went down, or answers it as failed.
    pub(super) fn decide_again(
        &mut self,
        ticket: Ticket,
        message: &Arc<str>,
        now: Time,
        letters: &mut Vec<Letter>,
    ) {
        let (failed, deadline) = (ticket.reply.path, ticket.reply.query.deadline());
        if deadline <= now {
            self.count(failed).expired += 1;
            let refusal = outcome::deadline_passed(deadline, now);
            return letters.push(Letter::refusal(ticket.reply, refusal));
        }
        match self.admit(ticket, None, now) {
            Ok(_) => self.count(failed).rerouted += 1,
            Err((reply, _)) => self.fail(reply, message, letters),
        }
    }

    /// Answers a query as failed.
    pub(super) fn fail(&mut self, reply: Reply, message: &Arc<str>, letters: &mut Vec<Letter>) {
        self.count(reply.path).failed += 1;
        let path = self.router.state().profiles().path(reply.path).name.as_str().into();
        let refusal = Refusal::Failed { path, message: Arc::clone(message) };
        letters.push(Letter::refusal(reply, refusal));
    }

    /// Refuses all that waits and all that runs: the engine stops.
    pub(super) fn refuse_all(&mut self, now: Time, letters: &mut Vec<Letter>) {
        let ids: Vec<QueryId> = self.waiting.keys().copied().collect();
        let waiting: Vec<Reply> =
            ids.into_iter().filter_map(|id| self.remove(id)).map(|ticket| ticket.reply).collect();
        for reply in &waiting {
            self.router.cancel(reply.path, reply.query.id(), now);
        }
        let running = self.running.iter_mut().flat_map(|replies| replies.drain(..));
        for reply in waiting.into_iter().chain(running) {
            let reason = "the server stopped before the query was answered";
            letters.push(Letter::refusal(reply, Refusal::Unavailable { reason }));
        }
    }

    pub(super) fn count(&mut self, path: PathId) -> &mut PathCounts {
        &mut self.counts.paths[usize::from(path.0)]
    }

    fn remove(&mut self, id: QueryId) -> Option<Ticket> {
        let ticket = self.waiting.remove(&id)?;
        self.waiting_samples -= ticket.batch.samples();
        self.waiting_bytes -= ticket.bytes();
        Some(ticket)
    }
}
