//! The queries waiting for one path, earliest deadline first.

use std::{collections::VecDeque, time::Duration};

use crate::{Query, QueryId, SplitId, Time, lateness::Spare};

/// A query, or one part of it, that was admitted to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queued {
    /// The caller's name for it.
    pub id: QueryId,
    /// Set if the query was split; it tells the parts of one admission from those of another.
    pub split: Option<SplitId>,
    /// The first of the query's samples that it scores; 0 for a whole query.
    pub offset: u32,
    /// How many samples it scores.
    pub samples: u32,
    /// When it arrived.
    pub arrival: Time,
    /// The last moment at which its answer counts.
    pub deadline: Time,
    /// The moment it was predicted to be done by, with margin, when it was admitted.
    pub promised: Time,
    /// Whether it was planned to begin a batch when it was admitted, rather than to join one.
    pub begins: bool,
    /// What it had to spare when it was admitted.
    pub spare: Spare,
}

impl Queued {
    pub(crate) fn new(query: &Query, promised: Time, spare: Spare) -> Self {
        let (samples, arrival) = (query.samples(), query.arrival());
        let (id, deadline) = (query.id(), query.deadline());
        Self {
            id,
            split: None,
            offset: 0,
            samples,
            arrival,
            deadline,
            promised,
            begins: true,
            spare,
        }
    }
}

/// One path's queue, and the lane time that it stands for.
///
/// The work is counted as it will run, in planned batches that grow until they are full or would make
/// their first query late: ten small queries count as the one batch they make.
#[derive(Debug, Clone, Default)]
pub struct PathQueue {
    entries: VecDeque<Queued>,
    samples: u64,
    /// The planned batches that are full, and the lane time of all of them.
    closed: Vec<Planned>,
    closed_ns: f64,
    /// The last planned batch, which may still grow.
    tail: Tail,
}

/// A batch that the queue is expected to run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Planned {
    /// Its expected lane time.
    pub(crate) service_ns: f64,
    /// The deadline of its first query.
    pub(crate) deadline: Time,
    /// The least time, in nanoseconds, by which it could be delayed without breaking what its queries were promised.
    pub(crate) slack_ns: f64,
}

/// The last planned batch of a queue.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tail {
    /// Samples in it; 0 if there is no batch.
    pub(crate) samples: u32,
    /// Its expected lane time.
    pub(crate) service_ns: f64,
    /// The deadline of its first query, and the samples of that query.
    pub(crate) deadline: Time,
    head_samples: u32,
    slack_ns: f64,
}

/// What is known when batches are planned: the rule, predictions, and when work can start.
pub(crate) struct Planner<'o, S, U> {
    pub(crate) max_batch: u32,
    /// Expected service time of a batch, nanoseconds.
    pub(crate) service_ns: S,
    /// The same with what must be allowed for, for a batch that starts so many nanoseconds from now.
    pub(crate) upper_ns: U,
    pub(crate) now: Time,
    /// Until the first lane is free.
    pub(crate) start_ns: f64,
    /// Batches of the device's other paths, by the deadlines that they begin with.
    pub(crate) others: &'o [Planned],
    pub(crate) lanes: f64,
}

impl Tail {
    fn planned(&self) -> Planned {
        let Self { service_ns, deadline, slack_ns, .. } = *self;
        Planned { service_ns, deadline, slack_ns }
    }
}

impl<S: Fn(u32) -> f64, U: Fn(u32, f64) -> f64> Planner<'_, S, U> {
    /// Whether a batch that starts `start_ns` from now can take `samples` more.
    pub(crate) fn joins(&self, tail: &Tail, samples: u32, start_ns: f64) -> bool {
        self.joins_knowing(tail, samples, start_ns, &mut None)
    }

    /// The same, where whether the batch's head is late whatever happens is found out once per batch: `is_late` is `None`
    /// for a batch that was not asked about yet.
    fn joins_knowing(
        &self,
        tail: &Tail,
        samples: u32,
        start_ns: f64,
        is_late: &mut Option<bool>,
    ) -> bool {
        let together = tail.samples.saturating_add(samples);
        if tail.samples == 0 || together > self.max_batch {
            return false;
        }
        let spare_ns = tail.deadline.nanos_from(self.now) - start_ns;
        // A head that is likely late anyway does not hold the batch small; see `batching`.
        *is_late.get_or_insert_with(|| (self.service_ns)(tail.head_samples) > spare_ns)
            || (self.upper_ns)(together, start_ns) <= spare_ns
    }
}

impl PathQueue {
    /// Queries waiting; each part of a split one counts.
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
        self.closed_ns + self.tail.service_ns
    }

    /// How many batches are planned.
    pub(crate) fn batches(&self) -> usize {
        self.closed.len() + usize::from(self.tail.samples > 0)
    }

    /// The planned batches in their order.
    pub(crate) fn planned(&self) -> impl DoubleEndedIterator<Item = Planned> {
        let tail = (self.tail.samples > 0).then(|| self.tail.planned());
        self.closed.iter().copied().chain(tail)
    }

    /// The planned batches that begin with a deadline after `deadline`, the last first.
    pub(crate) fn planned_behind(&self, deadline: Time) -> impl Iterator<Item = Planned> {
        self.planned().rev().take_while(move |batch| batch.deadline > deadline)
    }

    /// Moves the promises of the planned batches that begin with a deadline after `deadline`.
    pub(crate) fn delay_planned_behind(&mut self, deadline: Time, nanos: f64) {
        if let Some(first) = self.planned_behind(deadline).last() {
            self.delay_behind(first.deadline - Duration::from_nanos(1), nanos);
        }
    }

    /// The last planned batch.
    pub(crate) fn tail(&self) -> &Tail {
        &self.tail
    }

    /// Adds a query behind those with the same or an earlier deadline. If it is the last, it
    /// joins the last planned batch or begins one, as `join` says.
    pub(crate) fn push<S: Fn(u32) -> f64, U: Fn(u32, f64) -> f64>(
        &mut self,
        entry: Queued,
        join: bool,
        planner: &Planner<'_, S, U>,
    ) {
        let at = self.entries.partition_point(|other| other.deadline <= entry.deadline);
        let last = at == self.entries.len();
        // Only the last can be put behind the batches of other paths.
        let entry = Queued { begins: last && !join, ..entry };
        self.entries.insert(at, entry);
        self.samples += u64::from(entry.samples);
        if last {
            self.extend(&entry, join);
            self.tail.service_ns = (planner.service_ns)(self.tail.samples);
        } else {
            self.replan(planner);
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

    /// Removes one query, with all its parts that wait, into `removed`. The caller replans afterwards.
    pub(crate) fn remove(&mut self, id: QueryId, removed: &mut Vec<Queued>) {
        let Some(first) = self.entries.iter().position(|entry| entry.id == id) else { return };
        // Parts have one deadline and came together, so they lie side by side.
        let parts = self.entries.iter().skip(first).take_while(|entry| entry.id == id).count();
        for entry in self.entries.drain(first..first + parts) {
            self.samples -= u64::from(entry.samples);
            removed.push(entry);
        }
    }

    /// How many queries have a deadline at or before `now`.
    pub(crate) fn expired(&self, now: Time) -> usize {
        if self.entries.front().is_none_or(|head| head.deadline > now) {
            return 0;
        }
        self.entries.partition_point(|entry| entry.deadline <= now)
    }

    /// Plans batches anew, with today's correction.
    pub(crate) fn replan<S: Fn(u32) -> f64, U: Fn(u32, f64) -> f64>(
        &mut self,
        planner: &Planner<'_, S, U>,
    ) {
        self.closed.clear();
        (self.closed_ns, self.tail) = (0.0, Tail::default());
        let mut start_ns = planner.start_ns;
        let mut is_late = None;
        let mut others = planner.others.iter().peekable();
        for at in 0..self.entries.len() {
            let entry = self.entries[at];
            // Parts of one query run side by side; see `batching`.
            let beside =
                at > 0 && entry.split.is_some() && self.entries[at - 1].split == entry.split;
            // Nor would it be run before another path's batch that is due sooner, which does not count on it.
            let overtakes =
                entry.begins && others.peek().is_some_and(|other| other.deadline < entry.deadline);
            let join = !(beside || overtakes)
                && planner.joins_knowing(&self.tail, entry.samples, start_ns, &mut is_late);
            if !join {
                is_late = None;
                if self.tail.samples > 0 {
                    self.tail.service_ns = (planner.service_ns)(self.tail.samples);
                    start_ns += self.tail.service_ns / planner.lanes;
                }
                while let Some(other) = others.next_if(|other| other.deadline < entry.deadline) {
                    start_ns += other.service_ns / planner.lanes;
                }
            }
            self.extend(&entry, join);
        }
        if self.tail.samples > 0 {
            self.tail.service_ns = (planner.service_ns)(self.tail.samples);
        }
    }

    /// Adds a query to the last planned batch or begins one; leaves the tail's time stale.
    fn extend(&mut self, entry: &Queued, join: bool) {
        let slack_ns = entry.deadline.nanos_from(entry.promised);
        if join {
            self.tail.samples += entry.samples;
            self.tail.slack_ns = self.tail.slack_ns.min(slack_ns);
            return;
        }
        if self.tail.samples > 0 {
            self.closed.push(self.tail.planned());
            self.closed_ns += self.tail.service_ns;
        }
        let Queued { samples, deadline, .. } = *entry;
        self.tail = Tail { samples, service_ns: 0.0, deadline, head_samples: samples, slack_ns };
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
        for batch in self.closed.iter_mut().rev().take_while(|batch| batch.deadline > deadline) {
            batch.slack_ns -= nanos;
        }
        if self.tail.deadline > deadline {
            self.tail.slack_ns -= nanos;
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
            split: None,
            offset: 0,
            samples,
            arrival: Time::ZERO,
            deadline: Time::from_nanos(deadline),
            promised: Time::from_nanos(deadline.saturating_sub(10)),
            begins: true,
            spare: crate::lateness::Spare::new(1.0),
        }
    }

    fn service(samples: u32) -> f64 {
        100.0 + f64::from(samples)
    }

    type Plain = Planner<'static, fn(u32) -> f64, fn(u32, f64) -> f64>;

    fn planner(max_batch: u32) -> Plain {
        Planner {
            max_batch,
            service_ns: service,
            upper_ns: |samples, _| service(samples),
            now: Time::ZERO,
            start_ns: 0.0,
            others: &[],
            lanes: 1.0,
        }
    }

    fn push(queue: &mut PathQueue, entry: Queued, max_batch: u32) {
        let planner = planner(max_batch);
        let join = planner.joins(queue.tail(), entry.samples, queue.closed_ns);
        queue.push(entry, join, &planner);
    }

    #[test]
    fn equal_deadlines_keep_their_order() {
        let mut queue = PathQueue::default();
        for (id, deadline) in [(1, 50), (2, 30), (3, 50), (4, 40)] {
            push(&mut queue, entry(id, 1, deadline), 8);
        }
        let order: Vec<_> = queue.iter().map(|entry| entry.id.0).collect();
        assert_eq!(order, [2, 4, 1, 3]);
        assert_eq!(queue.expired(Time::from_nanos(40)), 2);
        assert_eq!(queue.expired(Time::from_nanos(29)), 0);
        assert_eq!(queue.behind(Time::from_nanos(40)), (2, 10.0));
        let mut removed = Vec::new();
        queue.remove(QueryId(4), &mut removed);
        queue.remove(QueryId(4), &mut removed);
        assert_eq!((removed.len(), removed[0].samples, queue.len()), (1, 1, 3));
    }

    #[test]
    fn small_queries_count_as_the_batch_they_make() {
        let mut queue = PathQueue::default();
        for id in 0..8 {
            push(&mut queue, entry(id, 4, 10_000 + id), 16);
        }
        assert_eq!(queue.work_ns(), 2.0 * service(16));
        push(&mut queue, entry(9, 40, 20_000), 16);
        assert_eq!(queue.work_ns(), 2.0 * service(16) + service(40), "a large query runs whole");
        assert!(!planner(16).joins(queue.tail(), 1, 0.0));
    }

    #[test]
    fn a_planned_batch_stops_growing_where_its_first_query_would_be_late() {
        let mut queue = PathQueue::default();
        for id in 0..3 {
            push(&mut queue, entry(id, 20, 150), 100);
        }
        // The first two make 140 ns; a third would end at 160. It is late in any case, so the
        // batch that it begins is not held small for it.
        assert_eq!(queue.batches(), 2);
        assert_eq!(queue.work_ns(), service(40) + service(20));
        push(&mut queue, entry(9, 20, 400), 100);
        assert_eq!(queue.work_ns(), 2.0 * service(40));
    }

    #[test]
    fn a_batch_that_starts_behind_other_paths_is_planned_for_that_time() {
        let mut queue = PathQueue::default();
        for id in 0..2 {
            push(&mut queue, entry(id, 20, 150), 100);
        }
        assert_eq!(queue.batches(), 1, "together they take 140 ns");
        let others = [Planned { service_ns: 25.0, deadline: Time::from_nanos(140), slack_ns: 0.0 }];
        queue.replan(&Planner { others: &others, ..planner(100) });
        assert_eq!(queue.batches(), 2, "behind 25 ns of another path they would be late");
        let others = [Planned { deadline: Time::from_nanos(160), ..others[0] }];
        queue.replan(&Planner { others: &others, ..planner(100) });
        assert_eq!(queue.batches(), 1, "a later deadline runs behind them");
    }

    #[test]
    fn a_batch_is_planned_without_what_would_overtake_another_path() {
        let mut queue = PathQueue::default();
        for deadline in [500, 900] {
            push(&mut queue, entry(0, 20, deadline), 100);
        }
        let plan = |queue: &mut PathQueue, deadline| {
            let deadline = Time::from_nanos(deadline);
            let others = [Planned { service_ns: 25.0, deadline, slack_ns: 0.0 }];
            queue.replan(&Planner { others: &others, ..planner(100) });
            queue.batches()
        };
        assert_eq!(plan(&mut queue, 950), 1);
        assert_eq!(plan(&mut queue, 700), 1, "it joined when it was admitted");
        queue.entries[1].begins = true;
        assert_eq!(plan(&mut queue, 950), 1, "the other path is due later");
        assert_eq!(plan(&mut queue, 700), 2, "the other path runs before it");
    }

    #[test]
    fn a_planned_head_that_may_be_in_time_keeps_its_batch_small() {
        let with_margin: Plain =
            Planner { upper_ns: |samples: u32, _: f64| 1.2 * service(samples), ..planner(100) };
        let batches = |deadline| {
            let mut queue = PathQueue::default();
            for deadline in [deadline, 900] {
                push(&mut queue, entry(0, 20, deadline), 20);
            }
            queue.replan(&with_margin);
            queue.batches()
        };
        // Alone it takes 120 ns on average and surely 144, both 140 and 168.
        assert_eq!([110, 130, 160, 170].map(batches), [1, 2, 2, 1]);
    }

    #[test]
    fn what_joins_a_batch_takes_slack_from_those_behind_it() {
        let mut queue = PathQueue::default();
        for (id, deadline) in [(1, 300), (2, 400), (3, 500)] {
            push(&mut queue, entry(id, 100, deadline), 100);
        }
        let slack = |queue: &PathQueue, deadline| {
            queue
                .planned_behind(Time::from_nanos(deadline))
                .map(|batch| batch.slack_ns)
                .collect::<Vec<_>>()
        };
        queue.delay_planned_behind(Time::from_nanos(300), 4.0);
        assert_eq!(slack(&queue, 0), [6.0, 6.0, 10.0]);
        assert_eq!(slack(&queue, 400), [6.0]);
        queue.replan(&planner(100));
        assert_eq!(slack(&queue, 0), [6.0, 6.0, 10.0], "promises moved, too");
    }

    proptest! {
        #[test]
        fn the_running_count_of_work_matches_counting_anew(
            queries in prop::collection::vec((1u32..40, 0u64..30), 1..60),
            taken in 0usize..60,
        ) {
            let mut queue = PathQueue::default();
            for (id, &(samples, deadline)) in queries.iter().enumerate() {
                push(&mut queue, entry(id as u64, samples, deadline), 32);
            }
            let mut anew = queue.clone();
            anew.replan(&planner(32));
            prop_assert!((queue.work_ns() - anew.work_ns()).abs() < 1e-6);
            let mut out = Vec::new();
            queue.take(taken.min(queries.len()), &mut out);
            queue.replan(&planner(32));
            let left: u64 = queue.iter().map(|entry| u64::from(entry.samples)).sum();
            prop_assert_eq!(queue.samples(), left);
            prop_assert_eq!(queue.is_empty(), queue.work_ns() == 0.0);
            prop_assert!(queue.iter().zip(queue.iter().skip(1)).all(|(a, b)| a.deadline <= b.deadline));
        }
    }
}
