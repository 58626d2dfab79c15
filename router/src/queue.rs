//! The queries waiting for one path, earliest deadline first.

use std::collections::VecDeque;

use crate::{Query, QueryId, Time};

/// A query that was admitted to a path and has not started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queued {
    /// The caller's name for it.
    pub id: QueryId,
    /// How many samples it scores.
    pub samples: u32,
    /// When it arrived.
    pub arrival: Time,
    /// The last moment at which its answer counts.
    pub deadline: Time,
    /// The moment it was predicted to be done by, with margin, when it was admitted.
    pub promised: Time,
}

impl Queued {
    pub(crate) fn new(query: &Query, promised: Time) -> Self {
        let (samples, arrival) = (query.samples(), query.arrival());
        Self { id: query.id(), samples, arrival, deadline: query.deadline(), promised }
    }
}

/// One path's queue, and the lane time that it stands for.
///
/// The work is counted as it will run: in batches of at most `max_batch` samples, so that ten
/// small queries count as the one batch they make.
#[derive(Debug, Clone, Default)]
pub struct PathQueue {
    entries: VecDeque<Queued>,
    samples: u64,
    /// Lane time of each planned batch that is full, and of all of them.
    closed: Vec<f64>,
    closed_ns: f64,
    /// The last planned batch, which may still grow.
    tail_samples: u32,
    tail_ns: f64,
}

impl PathQueue {
    /// Queries waiting.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Samples waiting.
    pub fn samples(&self) -> u64 {
        self.samples
    }

    /// The queries, earliest deadline first.
    pub fn iter(&self) -> impl Iterator<Item = &Queued> {
        self.entries.iter()
    }

    /// The query with the earliest deadline.
    pub fn head(&self) -> Option<&Queued> {
        self.entries.front()
    }

    /// Lane time that the queue stands for, nanoseconds.
    pub(crate) fn work_ns(&self) -> f64 {
        self.closed_ns + self.tail_ns
    }

    /// Lane time that the queue stands for, without the last planned batch unless `tail`.
    pub(crate) fn ahead_ns(&self, tail: bool) -> f64 {
        if tail { self.work_ns() } else { self.closed_ns }
    }

    /// How many batches are planned.
    pub(crate) fn batches(&self) -> usize {
        self.closed.len() + usize::from(self.tail_samples > 0)
    }

    /// Lane time of each planned batch, without the last one unless `tail`.
    pub(crate) fn planned(&self, tail: bool) -> impl Iterator<Item = f64> {
        let tail = (tail && self.tail_samples > 0).then_some(self.tail_ns);
        self.closed.iter().copied().chain(tail)
    }

    /// Lane time of the last planned batch if `samples` more fit into it.
    pub(crate) fn joinable(&self, samples: u32, max_batch: u32) -> Option<(u32, f64)> {
        let fits = self.tail_samples > 0 && self.tail_samples + samples <= max_batch;
        fits.then_some((self.tail_samples, self.tail_ns))
    }

    /// Adds a query behind those with the same or an earlier deadline.
    pub(crate) fn push(&mut self, entry: Queued, max_batch: u32, service_ns: impl Fn(u32) -> f64) {
        let at = self.entries.partition_point(|other| other.deadline <= entry.deadline);
        let last = at == self.entries.len();
        self.entries.insert(at, entry);
        self.samples += u64::from(entry.samples);
        if last {
            self.plan(entry.samples, max_batch, &service_ns);
            self.tail_ns = service_ns(self.tail_samples);
        } else {
            self.replan(max_batch, service_ns);
        }
    }

    /// Removes the first `count` queries, oldest deadline first, into `taken`.
    ///
    /// The caller replans afterwards.
    pub(crate) fn take(&mut self, count: usize, taken: &mut Vec<Queued>) {
        for entry in self.entries.drain(..count) {
            self.samples -= u64::from(entry.samples);
            taken.push(entry);
        }
    }

    /// Removes one query. The caller replans afterwards.
    pub(crate) fn remove(&mut self, id: QueryId) -> Option<Queued> {
        let at = self.entries.iter().position(|entry| entry.id == id)?;
        let entry = self.entries.remove(at)?;
        self.samples -= u64::from(entry.samples);
        Some(entry)
    }

    /// How many queries have a deadline at or before `now`.
    pub(crate) fn expired(&self, now: Time) -> usize {
        if self.entries.front().is_none_or(|head| head.deadline > now) {
            return 0;
        }
        self.entries.partition_point(|entry| entry.deadline <= now)
    }

    /// Counts the work anew, with today's correction.
    pub(crate) fn replan(&mut self, max_batch: u32, service_ns: impl Fn(u32) -> f64) {
        self.closed.clear();
        (self.closed_ns, self.tail_samples, self.tail_ns) = (0.0, 0, 0.0);
        for at in 0..self.entries.len() {
            self.plan(self.entries[at].samples, max_batch, &service_ns);
        }
        if self.tail_samples > 0 {
            self.tail_ns = service_ns(self.tail_samples);
        }
    }

    /// Adds samples to the last planned batch or begins a new one; `tail_ns` is left stale.
    fn plan(&mut self, samples: u32, max_batch: u32, service_ns: &impl Fn(u32) -> f64) {
        if self.tail_samples > 0 && self.tail_samples + samples > max_batch {
            let full_ns = service_ns(self.tail_samples);
            self.closed.push(full_ns);
            self.closed_ns += full_ns;
            self.tail_samples = 0;
        }
        self.tail_samples += samples;
    }

    /// Samples with a deadline after `deadline`, and the least time, in nanoseconds, by which such
    /// a query could be delayed without breaking what it was promised.
    pub(crate) fn behind(&self, deadline: Time) -> (u64, f64) {
        let mut samples = 0;
        let mut slack = f64::INFINITY;
        for entry in self.entries.iter().rev().take_while(|entry| entry.deadline > deadline) {
            samples += u64::from(entry.samples);
            slack = slack.min(entry.deadline.nanos_from(entry.promised));
        }
        (samples, slack)
    }

    /// Moves the promise of every query behind `deadline` by the lane time put before it.
    pub(crate) fn delay_behind(&mut self, deadline: Time, nanos: f64) {
        for entry in self.entries.iter_mut().rev() {
            if entry.deadline <= deadline {
                break;
            }
            entry.promised = entry.promised.plus_nanos(nanos);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(id: u64, samples: u32, deadline: u64) -> Queued {
        Queued {
            id: QueryId(id),
            samples,
            arrival: Time::ZERO,
            deadline: Time::from_nanos(deadline),
            promised: Time::from_nanos(deadline.saturating_sub(10)),
        }
    }

    fn service(samples: u32) -> f64 {
        100.0 + f64::from(samples)
    }

    #[test]
    fn equal_deadlines_keep_their_order() {
        let mut queue = PathQueue::default();
        for (id, deadline) in [(1, 50), (2, 30), (3, 50), (4, 40)] {
            queue.push(entry(id, 1, deadline), 8, service);
        }
        let order: Vec<_> = queue.iter().map(|entry| entry.id.0).collect();
        assert_eq!(order, [2, 4, 1, 3]);
        assert_eq!(queue.expired(Time::from_nanos(40)), 2);
        assert_eq!(queue.expired(Time::from_nanos(29)), 0);
        assert_eq!(queue.behind(Time::from_nanos(40)), (2, 10.0));
        assert_eq!(queue.remove(QueryId(4)).unwrap().samples, 1);
        assert!(queue.remove(QueryId(4)).is_none());
    }

    #[test]
    fn small_queries_count_as_the_batch_they_make() {
        let mut queue = PathQueue::default();
        for id in 0..8 {
            queue.push(entry(id, 4, id), 16, service);
        }
        assert_eq!(queue.work_ns(), 2.0 * service(16));
        queue.push(entry(9, 40, 9), 16, service);
        assert_eq!(queue.work_ns(), 2.0 * service(16) + service(40), "a large query runs whole");
        assert_eq!(queue.joinable(1, 16), None);
    }

    proptest! {
        #[test]
        fn the_running_count_of_work_matches_counting_anew(
            queries in prop::collection::vec((1u32..40, 0u64..30), 1..60),
            taken in 0usize..60,
        ) {
            let mut queue = PathQueue::default();
            for (id, &(samples, deadline)) in queries.iter().enumerate() {
                queue.push(entry(id as u64, samples, deadline), 32, service);
            }
            let mut anew = queue.clone();
            anew.replan(32, service);
            prop_assert!((queue.work_ns() - anew.work_ns()).abs() < 1e-6);
            let mut out = Vec::new();
            queue.take(taken.min(queries.len()), &mut out);
            queue.replan(32, service);
            let left: u64 = queue.iter().map(|entry| u64::from(entry.samples)).sum();
            prop_assert_eq!(queue.samples(), left);
            prop_assert_eq!(queue.is_empty(), queue.work_ns() == 0.0);
            prop_assert!(queue.iter().zip(queue.iter().skip(1)).all(|(a, b)| a.deadline <= b.deadline));
        }
    }
}
