//! Which queries run together, and when.
//!
//! Pure functions of a queue and of predictions, shared by the server's engine and the simulator.
//!
//! - A batch is a prefix of a path's queue in order of deadline. It holds at most `max_batch`
//!   samples, except that a single larger query runs whole.
//! - Parts of one query never share a batch, since they were split to run side by side, and they do not
//!   linger.
//! - It grows only while its most urgent member still finishes in time. A head that is more likely late
//!   than not even alone no longer counts: letting it shrink every batch would make all others late. One
//!   that might just be in time does count, since what joins it would take that chance away.
//! - Joining takes what the first query of a batch has to spare, down to one and a half margins: with one, one first query in
//!   a hundred of full batches would be late. Batches are closed with one margin, or a small delay would cut a
//!   planned batch, and all behind it would be later still. A query that was planned to begin a later
//!   batch has no part in that: it joins only as if the batch were planned, and not where it would overtake other
//!   paths of the device, which were promised their time without it. What was planned to join did so within
//!   their slack.
//! - An idle lane takes what there is (`linger` zero, the default), so that no lane idles while
//!   a queue has work. With a `linger`, a batch that is not full waits that long after its
//!   head's arrival, but never past the moment at which waiting would endanger the head.
//! - Lanes serve the path whose head has the earliest deadline; the lesser slack (deadline minus
//!   service) breaks ties. Deadline comes first because predictions count the work of earlier
//!   deadlines as ahead: ordering by slack would let a later, slower query overtake one whose
//!   promise was made without it.

use std::time::Duration;

use crate::{PathId, Time, queue::Queued};

/// Who joins a batch leaves its first query so many margins to spare.
pub(crate) const JOINING: f64 = 1.5;

/// How a path forms batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchRule {
    /// The most samples in a batch of two or more queries.
    pub max_batch: u32,
    /// How long a batch that is not full may wait for more after its head arrived.
    pub linger: Duration,
}

/// What to do with a queue whose device has an idle lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// Run the first `queries` of the queue, `samples` samples, now.
    Run {
        /// How many queries.
        queries: usize,
        /// How many samples they hold together.
        samples: u32,
    },
    /// Wait for more, at the latest until then.
    Wait {
        /// When to close the batch at the latest.
        until: Time,
    },
    /// Nothing is queued.
    Empty,
}

/// Plans the next batch of a queue.
///
/// `queue` yields the queries in order of deadline, none of them expired. `others_due` is the earliest deadline
/// that waits for the lane in other queues ([`Time::MAX`] if none does). `service_ns(samples)` is the
/// predicted service time, and `upper_ns(samples)` the same with margin.
pub fn plan<'q>(
    queue: impl IntoIterator<Item = &'q Queued>,
    rule: BatchRule,
    others_due: Time,
    service_ns: impl Fn(u32) -> f64,
    upper_ns: impl Fn(u32) -> f64,
    now: Time,
) -> Plan {
    let mut queue = queue.into_iter();
    let Some(head) = queue.next() else { return Plan::Empty };
    let in_time = |samples: u32, by: Time| now.plus_nanos(upper_ns(samples)) <= by;
    let joining_ns = |samples| {
        let service_ns = service_ns(samples);
        service_ns + JOINING * (upper_ns(samples) - service_ns)
    };
    let surely = |samples: u32, by: Time| now.plus_nanos(joining_ns(samples)) <= by;

    // The earliest deadline in the batch that can be met: in order, that of the first that can.
    let mut met = now.plus_nanos(service_ns(head.samples)) <= head.deadline;
    let mut finish_by = if met { head.deadline } else { Time::MAX };
    let (mut queries, mut samples) = (1, head.samples);
    let mut closed = samples >= rule.max_batch;
    let mut split = head.split;
    let mut lingers = split.is_none();
    if !closed {
        for next in queue {
            if next.split.is_some() {
                if next.split == split {
                    closed = true;
                    break;
                }
                (split, lingers) = (next.split, false);
            }
            let together = samples.saturating_add(next.samples);
            let overtakes = next.begins && next.deadline > others_due;
            let holds_up =
                !in_time(together, finish_by) || (next.begins && !surely(together, finish_by));
            if overtakes || holds_up || together > rule.max_batch {
                closed = true;
                break;
            }
            (queries, samples) = (queries + 1, together);
            if !met && in_time(together, next.deadline) {
                met = true;
                finish_by = finish_by.min(next.deadline);
            }
        }
    }
    if closed || !lingers || rule.linger.is_zero() {
        return Plan::Run { queries, samples };
    }
    let latest_start = head.deadline - Duration::from_nanos(upper_ns(samples) as u64);
    let until = (head.arrival + rule.linger).min(latest_start);
    if until <= now { Plan::Run { queries, samples } } else { Plan::Wait { until } }
}

/// The head of one path's queue, as the choice among paths sees it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Head {
    /// The path.
    pub path: PathId,
    /// The deadline of its most urgent query.
    pub deadline: Time,
    /// Predicted service time, with margin, of that query alone, nanoseconds.
    pub upper_ns: f64,
}

/// The head to serve first: the earliest deadline, and the longest service among equals.
pub fn most_urgent(heads: impl IntoIterator<Item = Head>) -> Option<Head> {
    heads
        .into_iter()
        .min_by(|a, b| a.deadline.cmp(&b.deadline).then_with(|| b.upper_ns.total_cmp(&a.upper_ns)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::QueryId;

    const RULE: BatchRule = BatchRule { max_batch: 100, linger: Duration::ZERO };

    fn queued(samples: u32, deadline: u64) -> Queued {
        let deadline = Time::from_nanos(deadline);
        let (id, arrival) = (QueryId(0), Time::ZERO);
        Queued {
            id,
            split: None,
            offset: 0,
            samples,
            arrival,
            deadline,
            promised: deadline,
            begins: true,
            spare: crate::lateness::Spare::new(1.0),
        }
    }

    fn ten_each(samples: u32) -> f64 {
        10.0 * f64::from(samples)
    }

    fn run(queue: &[Queued], others_due: u64) -> (usize, u32) {
        match plan(queue, RULE, Time::from_nanos(others_due), ten_each, ten_each, Time::ZERO) {
            Plan::Run { queries, samples } => (queries, samples),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_batch_is_full_at_its_limit_and_a_larger_query_runs_whole() {
        let queue = [queued(40, 5_000), queued(60, 6_000), queued(1, 7_000)];
        assert_eq!(run(&queue, u64::MAX), (2, 100));
        assert_eq!(run(&[queued(150, 5_000), queued(1, 6_000)], u64::MAX), (1, 150));
        assert_eq!(plan(&[], RULE, Time::MAX, ten_each, ten_each, Time::ZERO), Plan::Empty);
    }

    #[test]
    fn a_batch_stops_growing_where_its_head_would_be_late() {
        let queue = [queued(20, 500), queued(20, 900), queued(20, 900)];
        assert_eq!(run(&queue, u64::MAX), (2, 40));
        assert_eq!(run(&queue, 300), (1, 20), "another queue needs the lane");
        assert_eq!(run(&queue, 0), (1, 20), "the head runs all the same");
    }

    #[test]
    fn what_was_planned_for_a_later_batch_does_not_overtake_other_paths() {
        let joined = |samples, deadline| Queued { begins: false, ..queued(samples, deadline) };
        let queue = [queued(20, 5_000), joined(20, 6_000), queued(20, 7_000)];
        assert_eq!(run(&queue, u64::MAX), (3, 60));
        assert_eq!(run(&queue, 7_500), (3, 60), "it is due before the others");
        assert_eq!(run(&queue, 5_500), (2, 40), "what joined was counted when it did");
    }

    #[test]
    fn a_head_that_is_late_anyway_does_not_shrink_the_batch() {
        let queue = [queued(20, 100), queued(20, 900), queued(20, 900)];
        assert_eq!(run(&queue, u64::MAX), (3, 60));
        let queue = [queued(20, 100), queued(20, 500), queued(20, 900)];
        assert_eq!(run(&queue, u64::MAX), (2, 40), "but the next one that can be met does");
    }

    #[test]
    fn a_head_that_may_be_in_time_is_not_given_up_for_those_behind_it() {
        // Twelve a sample with margin: alone the head takes 200 ns on average.
        let twelve_each = |samples| 12.0 * f64::from(samples);
        let queries = |head, begins| {
            let next = Queued { begins, ..queued(20, 9_000) };
            let queue = [queued(20, head), next];
            match plan(&queue, RULE, Time::MAX, ten_each, twelve_each, Time::ZERO) {
                Plan::Run { queries, .. } => queries,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(queries(199, true), 2, "late even alone");
        assert_eq!(queries(210, true), 1, "in time alone, more likely than not");
        // Both take 400 ns, 480 with the margin and 520 with one and a half.
        assert_eq!((queries(490, false), queries(490, true)), (2, 1), "what was planned may join");
        assert_eq!((queries(470, false), queries(530, true)), (1, 2));
    }

    #[test]
    fn a_lingering_batch_waits_for_more_but_not_past_its_deadline() {
        let rule = BatchRule { linger: Duration::from_nanos(300), ..RULE };
        let at = |queue: &[Queued], now| {
            plan(queue, rule, Time::MAX, ten_each, ten_each, Time::from_nanos(now))
        };
        assert_eq!(at(&[queued(20, 5_000)], 0), Plan::Wait { until: Time::from_nanos(300) });
        assert_eq!(at(&[queued(20, 5_000)], 300), Plan::Run { queries: 1, samples: 20 });
        assert_eq!(at(&[queued(20, 450)], 0), Plan::Wait { until: Time::from_nanos(250) });
        let full = [queued(60, 5_000), queued(60, 5_000)];
        assert_eq!(at(&full, 0), Plan::Run { queries: 1, samples: 60 });
    }

    #[test]
    fn parts_of_one_query_run_in_batches_of_their_own_and_do_not_linger() {
        let part = |split, samples| Queued {
            split: Some(crate::SplitId(split)),
            ..queued(samples, 5_000)
        };
        assert_eq!(run(&[part(1, 20), part(1, 20), queued(1, 5_000)], u64::MAX), (1, 20));
        assert_eq!(run(&[queued(1, 4_000), part(1, 20), part(2, 20)], u64::MAX), (3, 41));
        let rule = BatchRule { linger: Duration::from_nanos(300), ..RULE };
        let plan = plan(&[part(1, 20)], rule, Time::MAX, ten_each, ten_each, Time::ZERO);
        assert_eq!(plan, Plan::Run { queries: 1, samples: 20 });
    }

    #[test]
    fn the_earliest_deadline_is_served_first_then_the_longest_service() {
        let head = |path, deadline, upper_ns| Head {
            path: PathId(path),
            deadline: Time::from_nanos(deadline),
            upper_ns,
        };
        let first = most_urgent([head(0, 20, 1.0), head(1, 10, 1.0), head(2, 10, 5.0)]);
        assert_eq!(first.unwrap().path, PathId(2));
        assert!(most_urgent([]).is_none());
    }
}
