//! Time as numbers.

use std::time::Duration;

/// Nanoseconds; the most that there are of a longer time.
pub(crate) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
