//! The router's time: nanoseconds since the engine began.

use std::time::Instant;

use mprec_router::Time;

/// Turns instants into the router's time and back.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    epoch: Instant,
}

impl Clock {
    pub(super) fn start() -> Self {
        Self { epoch: Instant::now() }
    }

    pub(super) fn now(&self) -> Time {
        self.time(Instant::now())
    }

    /// Moments before the engine began become its beginning.
    pub(super) fn time(&self, instant: Instant) -> Time {
        Time::ZERO + instant.saturating_duration_since(self.epoch)
    }
}
