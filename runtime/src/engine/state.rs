//! What is behind the engine's lock: the router, and every query between admission and outcome.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use mprec_backends::{CacheStatistics, Executable};
use mprec_router::{Decision, DeviceId, Health, PathId, QueryId, Queued, Time};

use super::{
    EngineOptions,
    assembly::Assembly,
    gone::Gone,
    outcome,
    recorded::RecordedRouter,
    recovery::{Delivery, Outage},
    stats::{Counts, PathCounts},
    ticket::{Letter, Piece, Reply, Ticket},
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
    /// Replies of the whole queries in the batch that each worker runs. Here and not with the worker, so that they are in
    /// reach when its device never returns.
    pub(super) running: Vec<Vec<Reply>>,
    /// When the housekeeper looks next.
    pub(super) housekeeping: Time,
    /// Threads alive, and threads there were at the beginning.
    pub(super) threads: (usize, usize),
    pub(super) counts: Counts,
    /// By worker and path; zeros where there is no cache.
    pub(super) caches: Vec<Vec<CacheStatistics>>,
    /// By worker: executables that it shall use or let go of.
    pub(super) deliveries: Vec<Vec<Delivery>>,
    /// By path.
    outages: Vec<Outage>,
    /// Queries that wait, and those that run in parts.
    waiting: HashMap<QueryId, Ticket>,
    /// Of those, the ones that have no part waiting any more.
    running_apart: usize,
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
        options: &EngineOptions,
    ) -> Self {
        let paths = router.state().profiles().paths().len();
        Self {
            router,
            phase: Phase::Serving,
            running: caches.iter().map(|_| Vec::new()).collect(),
            housekeeping: Time::MAX,
            threads: (0, 0),
            counts: Counts { paths: vec![PathCounts::default(); paths], ..Counts::default() },
            deliveries: caches.iter().map(|_| Vec::new()).collect(),
            caches,
            outages: vec![Outage::none(options.recovery); paths],
            waiting: HashMap::new(),
            running_apart: 0,
            waiting_samples: 0,
            waiting_bytes: 0,
            limits: options.queue,
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
        (self.waiting.len() - self.running_apart, self.waiting_samples)
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
    #[expect(
        clippy::result_large_err,
        reason = "what comes back moves once; a box would be an allocation for every refusal"
    )]
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
        ticket.assembly = (admission.parts > 1).then(|| Assembly::new(admission.parts, samples));
        ticket.reply.path = admission.path;
        ticket.reply.predicted = admission.predicted_finish;
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
            if ticket.reply.is_abandoned()
                && self.router.cancel(path, id, now)
                && let Some(ticket) = self.remove(id)
            {
                self.lose(&ticket.reply, |counts| &mut counts.abandoned);
            }
        }
    }

    /// Answers queries that the router took out of their queues because they expired.
    pub(super) fn expire(&mut self, expired: &[Queued], now: Time, letters: &mut Vec<Letter>) {
        for queued in expired {
            let Some(ticket) = self.remove(queued.id) else { continue };
            self.lose(&ticket.reply, |counts| &mut counts.expired);
            let refusal = outcome::deadline_passed(queued.deadline, now);
            letters.push(Letter::refusal(ticket.reply, refusal));
        }
    }

    /// Hands the queries of a batch, and the parts of queries, to a worker. Whole ones whose clients
    /// went away are dropped.
    pub(super) fn start(&mut self, queries: &[Queued], worker: usize, pieces: &mut Vec<Piece>) {
        for &entry in queries {
            if let Some(split) = entry.split {
                let Some(ticket) = self.waiting.get_mut(&entry.id) else { continue };
                let Some(assembly) = &mut ticket.assembly else { continue };
                assembly.begin(split);
                pieces.push(Piece { batch: Arc::clone(&ticket.batch), entry });
                if !ticket.waits() {
                    self.running_apart += 1;
                    self.waiting_samples -= ticket.batch.samples();
                    self.waiting_bytes -= ticket.bytes();
                }
                continue;
            }
            let Some(ticket) = self.remove(entry.id) else { continue };
            if ticket.reply.is_abandoned() {
                self.lose(&ticket.reply, |counts| &mut counts.abandoned);
                continue;
            }
            pieces.push(Piece { batch: ticket.batch, entry });
            self.running[worker].push(ticket.reply);
        }
    }

    /// Puts the scores of a part in their place, if its query is not over.
    pub(super) fn put(
        &mut self,
        part: &Queued,
        scores: &[f32],
        started: Instant,
        batch_samples: usize,
    ) {
        let ticket = self.waiting.get_mut(&part.id);
        if let Some(assembly) = ticket.and_then(|ticket| ticket.assembly.as_mut())
            && assembly.is_of(part)
        {
            assembly.put(part, scores, started, batch_samples);
        }
    }

    /// Takes out a query that ran in parts and is over.
    pub(super) fn take_apart(&mut self, ended: &Queued) -> Option<Ticket> {
        let ticket = self.waiting.get(&ended.id)?;
        let is_of = ticket.assembly.as_ref().is_some_and(|assembly| assembly.is_of(ended));
        if is_of { self.remove(ended.id) } else { None }
    }

    /// Takes a path down until a probe finds that it works again. What waits for it is decided anew.
    /// Returns until when it is left alone, or `None` if it was down already.
    pub(super) fn take_down(
        &mut self,
        path: PathId,
        message: &Arc<str>,
        now: Time,
        letters: &mut Vec<Letter>,
    ) -> Option<Duration> {
        if self.router.state().path(path).health == Health::Down {
            return None;
        }
        self.count(path).ejections += 1;
        let delay = self.outages[usize::from(path.0)].begin(now);
        // The device may need their memory to be prepared anew.
        let workers = self.workers_of(path);
        self.deliveries[workers].iter_mut().for_each(|deliveries| deliveries.push((path, None)));
        let mut orphans = Vec::new();
        self.router.set_health(path, Health::Down, now, &mut orphans);
        for queued in orphans {
            if let Some(ticket) = self.remove(queued.id) {
                self.decide_again(ticket, message, now, letters);
            }
        }
        Some(delay)
    }

    /// A path to be probed now, if there is one. Its outage must be reported on before the next.
    pub(super) fn begin_probe(&mut self, now: Time) -> Option<PathId> {
        let at = self.outages.iter().position(|outage| outage.probe_at <= now)?;
        self.outages[at].probe_at = Time::MAX;
        // Paths are numbered in 16 bits.
        let path = PathId(at as u16);
        self.count(path).probes += 1;
        Some(path)
    }

    /// When the next path is to be probed.
    pub(super) fn next_probe(&self) -> Time {
        self.outages.iter().map(|outage| outage.probe_at).min().unwrap_or(Time::MAX)
    }

    /// A probe failed. Returns until when the path is left alone.
    pub(super) fn probe_failed(&mut self, path: PathId, now: Time) -> Duration {
        self.count(path).probes_failed += 1;
        self.outages[usize::from(path.0)].wait(now)
    }

    /// A probe worked: gives each worker of the path an executable, and takes queries for it again.
    pub(super) fn readmit(
        &mut self,
        path: PathId,
        executables: Vec<Box<dyn Executable>>,
        now: Time,
    ) {
        let workers = self.workers_of(path);
        for (deliveries, executable) in self.deliveries[workers].iter_mut().zip(executables) {
            deliveries.push((path, Some(executable)));
        }
        self.outages[usize::from(path.0)].end(now);
        self.router.set_health(path, Health::Up, now, &mut Vec::new());
    }

    /// The workers of a path's device: they are numbered device by device, a worker for every lane.
    fn workers_of(&self, path: PathId) -> std::ops::Range<usize> {
        let profiles = self.router.state().profiles();
        let device = profiles.device_of(path);
        let lanes = |upto: usize| -> usize {
            profiles.devices()[..upto].iter().map(|device| device.lanes as usize).sum()
        };
        lanes(usize::from(device.0))..lanes(usize::from(device.0) + 1)
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
            self.lose(&ticket.reply, |counts| &mut counts.expired);
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
        self.lose(&reply, |counts| &mut counts.failed);
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

    /// Counts a query that is over and was not answered.
    fn lose(&mut self, reply: &Reply, kind: impl FnOnce(&mut PathCounts) -> &mut u64) {
        let count = self.count(reply.path);
        *kind(count) += 1;
        count.lost_time += reply.arrival.elapsed();
    }

    fn remove(&mut self, id: QueryId) -> Option<Ticket> {
        let ticket = self.waiting.remove(&id)?;
        if ticket.waits() {
            self.waiting_samples -= ticket.batch.samples();
            self.waiting_bytes -= ticket.bytes();
        } else {
            self.running_apart -= 1;
        }
        Some(ticket)
    }
}
