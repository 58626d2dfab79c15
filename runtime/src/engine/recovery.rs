//! Bringing paths back that went down.
//!
//! A path whose device failed is *ejected*: it takes no queries, its workers let go of their executables, and
//! after a delay it is *probed*: prepared anew and run on a batch of a few samples. If that works, every
//! worker of its device is given a new executable and the path is up again. If not, the next probe comes after
//! twice the delay, up to a limit.
//!
//! A path that goes down again soon after it came up goes on where its delays ended, so that a flapping
//! device costs ever fewer queries. The delays begin anew when it has stayed up for ten times
//! the last of them.
//!
//! Probing has a thread of its own, because preparing can take seconds and hang like any call to a device.
//! A path that no probe returns from stays down.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use mprec_backends::Executable;
use mprec_representations::{Batch, BatchShape};
use mprec_router::{PathId, Time};

use super::{
    shared::Shared,
    state::Phase,
    worker::{chain, panic_text},
};
use crate::paths::Revive;

/// Samples of a probe: more than one, so that kernels for several take part.
const PROBE_SAMPLES: usize = 8;
/// Uptime after which an outage is forgotten, in delays.
const STEADY: u32 = 10;

/// How long a path that went down is left alone before it is probed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// Before the first probe. It doubles with each further one.
    pub first: Duration,
    /// The longest wait.
    pub most: Duration,
}

impl Default for Backoff {
    /// A quarter of a second, up to a minute: a device that resets itself takes about a second, and one probe
    /// a minute costs nothing.
    fn default() -> Self {
        Self { first: Duration::from_millis(250), most: Duration::from_secs(60) }
    }
}

impl Backoff {
    /// The wait after so many probes or ejections in a row.
    fn delay(&self, attempts: u32) -> Duration {
        self.first.saturating_mul(1 << attempts.min(20)).min(self.most)
    }
}

/// The outages of one path.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outage {
    backoff: Backoff,
    attempts: u32,
    /// When to probe; `MAX` while it is up or being probed.
    pub(super) probe_at: Time,
    up_since: Time,
}

impl Outage {
    pub(super) fn none(backoff: Backoff) -> Self {
        Self { backoff, attempts: 0, probe_at: Time::MAX, up_since: Time::ZERO }
    }

    /// The path went down. Returns until when it is left alone.
    pub(super) fn begin(&mut self, now: Time) -> Duration {
        let last = self.backoff.delay(self.attempts.saturating_sub(1));
        if now.since(self.up_since) >= last.saturating_mul(STEADY) {
            self.attempts = 0;
        }
        self.wait(now)
    }

    /// A probe failed. Returns until when the path is left alone.
    pub(super) fn wait(&mut self, now: Time) -> Duration {
        let delay = self.backoff.delay(self.attempts);
        self.attempts = self.attempts.saturating_add(1);
        self.probe_at = now + delay;
        delay
    }

    /// The path is up again.
    pub(super) fn end(&mut self, now: Time) {
        (self.probe_at, self.up_since) = (Time::MAX, now);
    }
}

/// Probes paths that are down until the engine stops. `revive` is by path, and `workers` how many
/// executables each needs.
pub(super) fn attend(shared: &Shared, revive: &[Revive], workers: &[usize]) {
    let batch = probe_batch(&shared.model.shape);
    let mut state = shared.state();
    while state.phase != Phase::Stopped {
        let now = shared.clock.now();
        let Some(path) = state.begin_probe(now) else {
            let until = state.next_probe();
            state = shared.await_probe(state, until);
            continue;
        };
        drop(state);
        let at = usize::from(path.0);
        let probed = probe(&revive[at], workers[at], &batch);
        state = shared.state();
        let now = shared.clock.now();
        let name = &shared.labels[at].name;
        match probed {
            Ok(executables) => {
                state.readmit(path, executables, now);
                drop(state);
                shared.wake_all();
                tracing::info!(path = %name, "path is up again");
            }
            Err(cause) => {
                let next = state.probe_failed(path, now);
                drop(state);
                tracing::warn!(path = %name, cause, next_probe = ?next, "path is still down");
            }
        }
        state = shared.state();
    }
}

/// Prepares a path anew and runs a batch on it. Returns an executable for each of its workers.
fn probe(
    revive: &Revive,
    workers: usize,
    batch: &Batch,
) -> Result<Vec<Box<dyn Executable>>, String> {
    let probe = || -> Result<Vec<Box<dyn Executable>>, String> {
        let mut first = revive.executable().map_err(|error| chain(&error))?;
        let mut scores = vec![f32::NAN; batch.samples()];
        first.run(batch, &mut scores).map_err(|error| chain(&error))?;
        if !scores.iter().all(|score| score.is_finite()) {
            return Err("a probe's score is not a finite number".to_owned());
        }
        let mut executables = Vec::with_capacity(workers);
        while executables.len() + 1 < workers {
            executables.push(first.another().map_err(|error| chain(&error))?);
        }
        executables.push(first);
        Ok(executables)
    };
    catch_unwind(AssertUnwindSafe(probe))
        .unwrap_or_else(|panic| Err(format!("panicked: {}", panic_text(&*panic))))
}

/// A few samples of zeros and first ids, which every model has.
fn probe_batch(shape: &BatchShape) -> Batch {
    let dense = vec![0.0; PROBE_SAMPLES * shape.dense_width()];
    let ids = vec![0; PROBE_SAMPLES * shape.features()];
    shape.from_rows(dense, &ids).expect("zero is finite, and no vocabulary is empty")
}

/// What a worker is given: a path, and its new executable, or nothing for it to let go of the old one.
pub(super) type Delivery = (PathId, Option<Box<dyn Executable>>);

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn delays_double_up_to_the_limit() {
        let backoff = Backoff { first: millis(10), most: millis(100) };
        let mut outage = Outage::none(backoff);
        let mut now = Time::from_millis(5_000);
        let mut delays = vec![outage.begin(now)];
        for _ in 0..5 {
            now = outage.probe_at;
            delays.push(outage.wait(now));
        }
        assert_eq!(delays, [10, 20, 40, 80, 100, 100].map(millis));
        assert_eq!(backoff.delay(u32::MAX), millis(100));
    }

    #[test]
    fn a_path_that_flaps_is_left_alone_for_longer_and_longer() {
        let mut outage = Outage::none(Backoff { first: millis(10), most: millis(1_000) });
        let mut now = Time::from_millis(5_000);
        let mut delays = Vec::new();
        for _ in 0..4 {
            delays.push(outage.begin(now));
            outage.end(outage.up_since.max(now) + millis(10));
            // It stays up for less than ten times the last delay.
            now = outage.up_since + millis(99);
        }
        assert_eq!(delays, [10, 20, 40, 80].map(millis));
        now = outage.up_since + millis(800);
        assert_eq!(outage.begin(now), millis(10), "it was up for long enough");
    }
}
