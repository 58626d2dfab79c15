//! Queries that run in parts, and when one of them ends.
//!
//! A query that was split waits and runs as several entries, and still ends exactly once: answered
//! with its last part, or lost with the first part that expires, fails, or is taken out of its queue. What
//! is left of a lost query ends in silence: its waiting parts leave the queue, and its running ones
//! are not waited for.
//!
//! An entry names its split and not only its query, because a lost query may be submitted again
//! under the same name while an old part of it still runs.

use std::collections::HashMap;

use crate::Queued;

/// Names one admission of one query in parts. Never used twice by a router.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SplitId(pub(crate) u64);

/// Every split query that has a part waiting or running.
#[derive(Debug, Clone, Default)]
pub(crate) struct Parts {
    last: u64,
    open: HashMap<SplitId, Open>,
}

#[derive(Debug, Clone, Copy)]
struct Open {
    /// Parts waiting or running.
    left: u32,
    /// Samples of the whole query.
    samples: u32,
    /// Whether the query has ended without an answer.
    is_lost: bool,
}

/// Cuts `whole` into `parts` entries of near-equal size (they differ by one sample at most).
pub(crate) fn cut(whole: Queued, parts: u32, split: SplitId) -> impl Iterator<Item = Queued> {
    let (each, longer) = (whole.samples / parts, whole.samples % parts);
    (0..parts).map(move |at| Queued {
        split: Some(split),
        offset: at * each + at.min(longer),
        samples: each + u32::from(at < longer),
        ..whole
    })
}

impl Parts {
    /// Begins a query of `samples` samples in `parts` parts.
    pub(crate) fn begin(&mut self, parts: u32, samples: u32) -> SplitId {
        self.last += 1;
        let split = SplitId(self.last);
        self.open.insert(split, Open { left: parts, samples, is_lost: false });
        split
    }

    /// An entry has been run. Returns its query if that is answered with it.
    pub(crate) fn answered(&mut self, entry: &Queued) -> Option<Queued> {
        let Some(split) = entry.split else { return Some(*entry) };
        let open = self.open.get_mut(&split)?;
        open.left -= 1;
        let Open { left, samples, is_lost } = *open;
        if left > 0 {
            return None;
        }
        self.open.remove(&split);
        (!is_lost).then_some(Queued { offset: 0, samples, ..*entry })
    }

    /// An entry will not be run to an answer. Returns its query if that ends with it.
    pub(crate) fn lost(&mut self, entry: &Queued) -> Option<Queued> {
        let Some(split) = entry.split else { return Some(*entry) };
        let open = self.open.get_mut(&split)?;
        open.left -= 1;
        let Open { left, samples, is_lost } = *open;
        open.is_lost = true;
        if left == 0 {
            self.open.remove(&split);
        }
        (!is_lost).then_some(Queued { offset: 0, samples, ..*entry })
    }

    /// Loses the entries of a list from `from` on, and leaves in it the queries that end so.
    pub(crate) fn lose(&mut self, entries: &mut Vec<Queued>, from: usize) {
        let mut kept = from;
        for at in from..entries.len() {
            if let Some(whole) = self.lost(&entries[at]) {
                entries[kept] = whole;
                kept += 1;
            }
        }
        entries.truncate(kept);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{QueryId, Time};

    fn whole(samples: u32) -> Queued {
        Queued {
            id: QueryId(7),
            split: None,
            offset: 0,
            samples,
            arrival: Time::ZERO,
            deadline: Time::MAX,
            promised: Time::MAX,
            begins: true,
            spare: crate::lateness::Spare::new(1.0),
        }
    }

    #[test]
    fn a_query_is_answered_with_its_last_part() {
        let mut parts = Parts::default();
        let split = parts.begin(3, 10);
        let entries: Vec<_> = cut(whole(10), 3, split).collect();
        assert_eq!(parts.answered(&entries[2]), None);
        assert_eq!(parts.answered(&entries[0]), None);
        let ended = parts.answered(&entries[1]).unwrap();
        assert_eq!((ended.offset, ended.samples, ended.split), (0, 10, Some(split)));
        assert!(parts.open.is_empty());
        assert_eq!(parts.answered(&whole(4)), Some(whole(4)), "a whole query is its own last part");
    }

    #[test]
    fn a_query_is_lost_with_the_first_part_and_the_others_end_in_silence() {
        let mut parts = Parts::default();
        let old = parts.begin(3, 9);
        let entries: Vec<_> = cut(whole(9), 3, old).collect();
        assert_eq!(parts.answered(&entries[0]), None);
        assert_eq!(parts.lost(&entries[1]).map(|ended| ended.samples), Some(9));
        // It is submitted again while its last part runs.
        let new = parts.begin(2, 9);
        let again: Vec<_> = cut(whole(9), 2, new).collect();
        assert_eq!(parts.answered(&again[0]), None);
        assert_eq!(parts.answered(&entries[2]), None, "not the new one's last part");
        assert_eq!(parts.answered(&again[1]).map(|ended| ended.split), Some(Some(new)));
        assert!(parts.open.is_empty());
    }

    #[test]
    fn a_list_of_lost_parts_becomes_a_list_of_lost_queries() {
        let mut parts = Parts::default();
        let split = parts.begin(2, 8);
        let mut entries = vec![whole(1), whole(2)];
        entries.extend(cut(whole(8), 2, split));
        entries.push(whole(3));
        parts.lose(&mut entries, 1);
        let samples: Vec<_> = entries.iter().map(|entry| entry.samples).collect();
        assert_eq!(samples, [1, 2, 8, 3]);
        assert!(parts.open.is_empty());
    }

    proptest! {
        #[test]
        fn parts_cover_the_samples_in_order(samples in 1u32..5_000, parts in 1u32..17) {
            let parts = parts.min(samples);
            let mut at = 0;
            let mut sizes = Vec::new();
            for entry in cut(whole(samples), parts, SplitId(1)) {
                prop_assert_eq!(entry.offset, at);
                at += entry.samples;
                sizes.push(entry.samples);
            }
            prop_assert_eq!(at, samples);
            prop_assert_eq!(sizes.len() as u32, parts);
            prop_assert_eq!(sizes[0], samples.div_ceil(parts), "the first is a longest one");
            prop_assert!(sizes[0] - sizes[sizes.len() - 1] <= 1 && sizes[sizes.len() - 1] > 0);
        }
    }
}
