//! The same events for a fresh router: it must answer as the recorded one did.

use std::{collections::HashMap, fmt};

use mprec_router::{Batch, DeviceId, LaneId, Next, Router, RouterError};

use super::{
    Event, Header,
    event::{Started, ended, entries, ids, short, storable},
};

/// A router that is told what a recorded one was told.
#[derive(Debug)]
pub struct Replayer {
    router: Router,
    /// What runs on each lane.
    running: HashMap<(DeviceId, LaneId), Batch>,
    events: u64,
}

/// The first event at which a replay answers otherwise than the log.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// Which event, from 1.
    pub event: u64,
    /// As it was recorded.
    pub recorded: Event,
    /// As it was replayed.
    pub replayed: Event,
}

impl fmt::Display for Difference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { event, recorded, replayed } = self;
        let now = recorded.now();
        write!(formatter, "event {event} at {now}\nrecorded: {recorded:?}\nreplayed: {replayed:?}")
    }
}

impl Replayer {
    /// A router as the header describes it, before its first event.
    ///
    /// # Errors
    ///
    /// [`RouterError`] if there is none.
    pub fn new(header: &Header) -> Result<Self, RouterError> {
        let (profiles, config) = (header.profiles.clone(), header.config.clone());
        let router = Router::new(profiles, &header.policy, config)?;
        Ok(Self { router, running: HashMap::new(), events: 0 })
    }

    /// Tells the router of an event.
    ///
    /// # Errors
    ///
    /// [`Difference`] if its answer is not the recorded one. What it answers afterwards says nothing.
    pub fn replay(&mut self, recorded: &Event) -> Result<(), Box<Difference>> {
        self.events += 1;
        let replayed = self.answer(recorded);
        if replayed == *recorded {
            return Ok(());
        }
        let (event, recorded) = (self.events, recorded.clone());
        Err(Box::new(Difference { event, recorded, replayed }))
    }

    /// The event as this router would have had it recorded.
    fn answer(&mut self, recorded: &Event) -> Event {
        match *recorded {
            Event::Submitted { now, query, .. } => {
                let decision = storable(self.router.submit(&query, now));
                Event::Submitted { now, query, decision }
            }
            Event::Asked { now, device, .. } => {
                let mut batch = Batch::default();
                let next = self.router.next_batch(device, now, &mut batch);
                let expired = ids(&batch.expired);
                let started = (next == Next::Run).then(|| Started {
                    path: batch.path,
                    lane: batch.lane,
                    samples: batch.samples,
                    entries: entries(&batch.queries),
                });
                if next == Next::Run {
                    self.running.insert((device, batch.lane), batch);
                }
                Event::Asked { now, device, next, started, expired }
            }
            Event::Completed { now, device, lane, observed, short: ran, .. } => {
                let mut batch = self.take(device, lane);
                batch.samples = ran.unwrap_or(batch.samples);
                self.router.completed(&mut batch, observed, now);
                let (short, ended) = (short(&batch), ended(&batch));
                Event::Completed { now, device, lane, observed, short, ended }
            }
            Event::Failed { now, device, lane, .. } => {
                let mut batch = self.take(device, lane);
                self.router.state_mut().failed(&mut batch, now);
                Event::Failed { now, device, lane, ended: ended(&batch) }
            }
            Event::Cancelled { now, path, query, .. } => {
                let removed = self.router.state_mut().cancel(path, query, now);
                Event::Cancelled { now, path, query, removed }
            }
            Event::HealthSet { now, path, health, .. } => {
                let mut orphans = Vec::new();
                self.router.state_mut().set_health(path, health, now, &mut orphans);
                Event::HealthSet { now, path, health, orphans: ids(&orphans) }
            }
            Event::Expired { now, device, .. } => {
                let mut queries = Vec::new();
                self.router.state_mut().take_expired(device, now, &mut queries);
                Event::Expired { now, device, queries: ids(&queries) }
            }
        }
    }

    /// What runs on a lane. A lane that runs nothing, which no engine reports, ignores its report.
    fn take(&mut self, device: DeviceId, lane: LaneId) -> Batch {
        let idle = || Batch { device, lane, ..Batch::default() };
        self.running.remove(&(device, lane)).unwrap_or_else(idle)
    }
}
