//! The router, telling a recorder of every event in the order in which it happens.
//!
//! Whatever changes the router goes through here, so that a log of it cannot miss an event.

use std::time::Duration;

use mprec_router::{
    Batch, Decision, DeviceId, Health, Next, PathId, Query, QueryId, Queued, Router, RouterState,
    Time,
};

use crate::record::Recorder;

/// A router and, perhaps, its recorder.
#[derive(Debug)]
pub(super) struct RecordedRouter {
    router: Router,
    recorder: Option<Recorder>,
}

impl RecordedRouter {
    pub(super) fn new(router: Router, recorder: Option<Recorder>) -> Self {
        Self { router, recorder }
    }

    /// Takes down nothing more, which completes the log.
    pub(super) fn end_recording(&mut self) {
        self.recorder = None;
    }

    pub(super) fn state(&self) -> &RouterState {
        self.router.state()
    }

    /// See [`Router::submit`].
    pub(super) fn submit(&mut self, query: &Query, now: Time) -> Decision {
        let decision = self.router.submit(query, now);
        if let Some(recorder) = &mut self.recorder {
            recorder.submitted(now, query, &decision);
        }
        decision
    }

    /// See [`RouterState::next_batch`].
    pub(super) fn next_batch(&mut self, device: DeviceId, now: Time, batch: &mut Batch) -> Next {
        let next = self.router.next_batch(device, now, batch);
        if let Some(recorder) = &mut self.recorder {
            recorder.asked(now, device, next, batch);
        }
        next
    }

    /// See [`RouterState::completed`].
    pub(super) fn completed(&mut self, batch: &mut Batch, observed: Duration, now: Time) {
        self.router.completed(batch, observed, now);
        if let Some(recorder) = &mut self.recorder {
            recorder.completed(now, batch, observed);
        }
    }

    /// See [`RouterState::failed`].
    pub(super) fn failed(&mut self, batch: &mut Batch, now: Time) {
        self.router.state_mut().failed(batch, now);
        if let Some(recorder) = &mut self.recorder {
            recorder.failed(now, batch);
        }
    }

    /// See [`RouterState::cancel`].
    pub(super) fn cancel(&mut self, path: PathId, query: QueryId, now: Time) -> bool {
        let removed = self.router.state_mut().cancel(path, query, now);
        if let Some(recorder) = &mut self.recorder {
            recorder.cancelled(now, path, query, removed);
        }
        removed
    }

    /// See [`RouterState::set_health`]; `orphans` is empty before.
    pub(super) fn set_health(
        &mut self,
        path: PathId,
        health: Health,
        now: Time,
        orphans: &mut Vec<Queued>,
    ) {
        self.router.state_mut().set_health(path, health, now, orphans);
        if let Some(recorder) = &mut self.recorder {
            recorder.health_set(now, path, health, orphans);
        }
    }

    /// See [`RouterState::take_expired`].
    pub(super) fn take_expired(&mut self, device: DeviceId, now: Time, expired: &mut Vec<Queued>) {
        let before = expired.len();
        let queued = self.router.state().queued();
        self.router.state_mut().take_expired(device, now, expired);
        // If nothing left the queues, nothing changed.
        if let Some(recorder) = &mut self.recorder
            && self.router.state().queued() != queued
        {
            recorder.expired(now, device, &expired[before..]);
        }
    }
}
