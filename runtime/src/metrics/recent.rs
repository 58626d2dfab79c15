//! The latest refusals, for people who look at a server that refuses.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use super::{instrument::Label as _, labels::Reason};
use crate::service::Refusal;

/// How many are kept of each reason: what is rare must not be crowded out by what is not.
const KEPT: usize = 8;

/// Under a flood one in this many milliseconds is kept of each reason: the counters have them all.
const SPACING_MS: u64 = 20;

#[derive(Debug)]
pub(super) struct Recent {
    began: Instant,
    /// By reason.
    kept: Box<[OfReason]>,
}

#[derive(Debug, Default)]
struct OfReason {
    /// Milliseconds after `began` before which no more is kept.
    next_ms: AtomicU64,
    kept: Mutex<VecDeque<Kept>>,
}

#[derive(Debug, Clone)]
pub(super) struct Kept {
    pub(super) at: Instant,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

impl Default for Recent {
    fn default() -> Self {
        let kept = Reason::NAMES.iter().map(|_| OfReason::default()).collect();
        Self { began: Instant::now(), kept }
    }
}

impl Recent {
    pub(super) fn note(&self, reason: Reason, refusal: &Refusal) {
        let at = Instant::now();
        let now_ms = u64::try_from((at - self.began).as_millis()).unwrap_or(u64::MAX);
        let of_reason = &self.kept[reason.index()];
        let next_ms = of_reason.next_ms.load(Relaxed);
        let next = now_ms.saturating_add(SPACING_MS);
        if now_ms < next_ms
            || of_reason.next_ms.compare_exchange(next_ms, next, Relaxed, Relaxed).is_err()
        {
            return;
        }
        let message = match refusal {
            // What the device said may name addresses and files; it is logged, not shown.
            Refusal::Failed { path, .. } => {
                format!("path `{path}` failed; the server's log has the cause")
            }
            other => other.to_string(),
        };
        // Whoever looks right now holds the lock for a moment; a refusal does not wait for that.
        let Ok(mut kept) = of_reason.kept.try_lock() else { return };
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(Kept { at, reason: Reason::NAMES[reason.index()], message });
    }

    /// The latest first, with their age.
    pub(super) fn latest(&self) -> Vec<(Duration, Kept)> {
        let mut all = Vec::with_capacity(KEPT * self.kept.len());
        for of_reason in &self.kept {
            all.extend(
                of_reason.kept.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned(),
            );
        }
        all.sort_by_key(|kept| std::cmp::Reverse(kept.at));
        all.into_iter().map(|kept| (kept.at.elapsed(), kept)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_kept_in_part_and_devices_are_not_quoted() {
        let recent = Recent::default();
        let rare = Refusal::Unavailable { reason: "stopping" };
        recent.note(Reason::from(&rare), &rare);
        let until = Instant::now() + Duration::from_millis(SPACING_MS * (KEPT as u64 + 2));
        while Instant::now() < until {
            let refusal =
                Refusal::Failed { path: "table@cpu".into(), message: "at 0xdeadbeef".into() };
            recent.note(Reason::from(&refusal), &refusal);
        }
        let latest = recent.latest();
        assert!((2..=KEPT + 1).contains(&latest.len()), "{}", latest.len());
        let (last, flood) = latest.split_last().unwrap();
        assert_eq!(last.1.reason, "unavailable", "the oldest, and not crowded out");
        for (_, kept) in flood {
            assert_eq!(kept.reason, "failed");
            assert!(kept.message.contains("table@cpu") && !kept.message.contains("deadbeef"));
        }
    }
}
