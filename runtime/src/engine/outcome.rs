//! The router's words for refusals and priorities, and the protocols'.

use std::time::Duration;

use mprec_router::{Priority, Query, RefuseReason, RouterState, Time};

use crate::service::{DEFAULT_PRIORITY, PRIORITY_LEVELS, Refusal};

/// Triton's numbers: 0 is the default, 1 the most important, larger ones ever less so.
pub(super) fn priority(number: u32) -> Priority {
    match number {
        1 => Priority::High,
        0 | DEFAULT_PRIORITY => Priority::Normal,
        PRIORITY_LEVELS.. => Priority::Low,
    }
}

/// What a client is told when the router refuses its query.
pub(super) fn refusal(
    refused: mprec_router::Refusal,
    query: &Query,
    state: &RouterState,
) -> Refusal {
    let retry_after = refused.retry_after;
    match refused.reason {
        RefuseReason::NoPathMeetsFloor => {
            Refusal::Quality { min_quality: query.min_quality(), best: state.best_accuracy(query) }
        }
        // Nothing else of a query keeps it from a path.
        RefuseReason::NoPathTakesIt => Refusal::Weighted,
        RefuseReason::NoPathUp => Refusal::Unavailable { reason: "no path is up" },
        RefuseReason::QueueFull => {
            Refusal::Overloaded { reason: "too many queries wait", retry_after }
        }
        _ => Refusal::Overloaded { reason: "no path can answer in time", retry_after },
    }
}

/// What a client is told whose query fits no queue.
pub(super) fn full(reason: &'static str, query: &Query) -> Refusal {
    // Half of its time budget: by then what is queued now has run or expired.
    let retry_after = Duration::from_millis(1).max(query.sla() / 2);
    Refusal::Overloaded { reason, retry_after }
}

/// What a client is told whose query expired.
pub(super) fn deadline_passed(deadline: Time, now: Time) -> Refusal {
    Refusal::DeadlinePassed { late: now.since(deadline) }
}
