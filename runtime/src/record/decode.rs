//! Records to events.
//!
//! Nothing is believed: every number is held to its range, and lists grow as they are read.

use std::time::Duration;

use mprec_router::{
    Admission, Decision, DeviceId, Health, LaneId, MAX_SAMPLES, MOST_PARTS, Next, PathId, PathSet,
    Priority, Profiles, Query, QueryId, Reason, Refusal, RefuseReason, Time,
};

use super::{
    MAX_IDS,
    encode::{done, flag, kind, next},
    event::{Ending, Entry, Event, Part, Started},
    varint::{Input, Stop},
};

/// What a record says.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Record {
    Event(Event),
    /// Why the log ends, and how many events it has.
    Ended(Ending, u64),
}

/// Reads one record at a time, each relative to the one before.
#[derive(Debug, Clone, Copy)]
pub(super) struct Decoder {
    paths: u64,
    devices: u64,
    last: u64,
    id: u64,
}

impl Decoder {
    /// For records of a router over these paths.
    pub(super) fn new(profiles: &Profiles) -> Self {
        let (paths, devices) = (profiles.paths().len() as u64, profiles.devices().len() as u64);
        Self { paths, devices, last: 0, id: 0 }
    }

    /// The first record of `bytes`, and how many bytes it takes.
    pub(super) fn record(&mut self, bytes: &[u8]) -> Result<(Record, usize), Stop> {
        // Only a whole record moves on what the next is relative to.
        let mut ahead = *self;
        let mut input = Input::new(bytes);
        let record = ahead.read(&mut input)?;
        *self = ahead;
        Ok((record, input.at()))
    }

    fn read(&mut self, input: &mut Input<'_>) -> Result<Record, Stop> {
        let kind = input.byte()?;
        if kind == kind::ENDED {
            let ending = match input.byte()? {
                0 => Ending::Stopped,
                1 => Ending::Behind,
                2 => Ending::Limit,
                3 => Ending::CutOff,
                _ => return Err(Stop::Wrong("there is no such ending")),
            };
            return Ok(Record::Ended(ending, input.number()?));
        }
        if !(kind::SUBMITTED..=kind::FAILED_APART).contains(&kind) {
            return Err(Stop::Wrong("there is no such kind of record"));
        }
        self.last = self.last.wrapping_add(input.number()?);
        let now = Time::from_nanos(self.last);
        let event = match kind {
            kind::SUBMITTED => self.submitted(input, now)?,
            kind::ASKED => self.asked(input, now)?,
            kind::COMPLETED | kind::COMPLETED_APART => {
                self.completed(input, now, kind == kind::COMPLETED_APART)?
            }
            kind::FAILED | kind::FAILED_APART => {
                let (device, lane) = (self.device(input)?, lane(input)?);
                let has_parts = kind == kind::FAILED_APART;
                let ended = has_parts.then(|| self.queries(input)).transpose()?;
                Event::Failed { now, device, lane, ended }
            }
            kind::CANCELLED => Event::Cancelled {
                now,
                path: self.path(input)?,
                query: QueryId(input.near(self.id)?),
                removed: bit(input)?,
            },
            kind::HEALTH => Event::HealthSet {
                now,
                path: self.path(input)?,
                health: if bit(input)? { Health::Up } else { Health::Down },
                orphans: self.queries(input)?,
            },
            _ => Event::Expired { now, device: self.device(input)?, queries: self.queries(input)? },
        };
        Ok(Record::Event(event))
    }

    fn submitted(&mut self, input: &mut Input<'_>, now: Time) -> Result<Event, Stop> {
        let flags = input.byte()?;
        if flags & !flag::ALL != 0 {
            return Err(Stop::Wrong("a query has unknown flags"));
        }
        self.id = input.near(self.id)?;
        let samples = input.within(MAX_SAMPLES.into(), "a query is too large")?;
        let waited = input.number()?;
        let arrival = Time::from_nanos(now.as_nanos().wrapping_sub(waited));
        let sla = Duration::from_nanos(input.number()?);
        let floor = if flags & flag::FLOOR == 0 { 0.0 } else { input.float()? };
        let paths = if flags & flag::PATHS == 0 { PathSet::ALL.bits() } else { input.number()? };
        let priority = match flags & (flag::LOW | flag::HIGH) {
            0 => Priority::Normal,
            flag::LOW => Priority::Low,
            flag::HIGH => Priority::High,
            _ => return Err(Stop::Wrong("a query has two priorities")),
        };
        let query = Query::new(QueryId(self.id), samples as usize, arrival, sla)
            .and_then(|query| query.with_min_quality(floor))
            .map_err(|_| Stop::Wrong("a query has no samples, or a floor that is no accuracy"))?
            .with_priority(priority)
            .with_paths(PathSet::from_bits(paths));
        let decision = if flags & flag::REFUSED == 0 {
            let path = self.path(input)?;
            let reason = listed(&Reason::ALL, input.byte()?)?;
            let expected = now.as_nanos().wrapping_add(input.number()?);
            let upper = expected.wrapping_add(input.number()?);
            let mut parts = 1;
            if flags & flag::PARTS != 0 {
                parts = input.within(MOST_PARTS.into(), "a query has too many parts")? as u32;
                if parts < 2 {
                    return Err(Stop::Wrong("a query in parts has fewer than two"));
                }
            }
            Decision::Admit(Admission {
                path,
                parts,
                predicted_finish: Time::from_nanos(expected),
                upper_finish: Time::from_nanos(upper),
                downgraded: flags & flag::DOWNGRADED != 0,
                reason,
            })
        } else {
            let reason = listed(&RefuseReason::ALL, input.byte()?)?;
            Decision::Refuse(Refusal { reason, retry_after: Duration::from_nanos(input.number()?) })
        };
        Ok(Event::Submitted { now, query, decision })
    }

    fn completed(&self, input: &mut Input<'_>, now: Time, is_apart: bool) -> Result<Event, Stop> {
        let (device, lane) = (self.device(input)?, lane(input)?);
        let observed = Duration::from_nanos(input.number()?);
        let how = if is_apart { input.byte()? } else { 0 };
        if how & !done::ALL != 0 {
            return Err(Stop::Wrong("a batch has unknown flags"));
        }
        let mut short = None;
        if how & done::SHORT != 0 {
            short = Some(input.within(u32::MAX.into(), "a batch is too large")? as u32);
        }
        let ended = if how & done::PARTS == 0 { None } else { Some(self.queries(input)?) };
        Ok(Event::Completed { now, device, lane, observed, short, ended })
    }

    fn asked(&mut self, input: &mut Input<'_>, now: Time) -> Result<Event, Stop> {
        let device = self.device(input)?;
        let (next, started) = match input.byte()? {
            told @ (next::RUN | next::RUN_APART) => {
                let started = Started {
                    path: self.path(input)?,
                    lane: lane(input)?,
                    samples: input.within(u32::MAX.into(), "a batch is too large")? as u32,
                    entries: self.entries(input, told == next::RUN_APART)?,
                };
                (Next::Run, Some(started))
            }
            next::WAIT => {
                let until = now.as_nanos().wrapping_add(input.number()?);
                (Next::Wait(Time::from_nanos(until)), None)
            }
            next::IDLE => (Next::Idle, None),
            _ => return Err(Stop::Wrong("a worker was told what no router says")),
        };
        let expired = self.queries(input)?;
        Ok(Event::Asked { now, device, next, started, expired })
    }

    fn path(&self, input: &mut Input<'_>) -> Result<PathId, Stop> {
        // There are at most 64 paths, and one at least.
        Ok(PathId(input.within(self.paths - 1, "there is no such path")? as u16))
    }

    fn device(&self, input: &mut Input<'_>) -> Result<DeviceId, Stop> {
        Ok(DeviceId(input.within(self.devices - 1, "there is no such device")? as u16))
    }

    fn queries(&self, input: &mut Input<'_>) -> Result<Vec<QueryId>, Stop> {
        Ok(self.entries(input, false)?.into_iter().map(|entry| entry.query).collect())
    }

    /// Queries, or if `may_be_parts` each with what of it there is.
    fn entries(&self, input: &mut Input<'_>, may_be_parts: bool) -> Result<Vec<Entry>, Stop> {
        let count = input.within(MAX_IDS, "a list of queries is too long")? as usize;
        // Each takes a byte or more, so memory is bounded by what was read.
        if count > input.left() {
            return Err(Stop::Incomplete);
        }
        let mut entries = Vec::with_capacity(count);
        let mut before = self.id;
        for _ in 0..count {
            before = input.near(before)?;
            let part = if may_be_parts { part(input)? } else { None };
            entries.push(Entry { query: QueryId(before), part });
        }
        Ok(entries)
    }
}

fn lane(input: &mut Input<'_>) -> Result<LaneId, Stop> {
    Ok(LaneId(input.within(mprec_router::MAX_LANES.into(), "there is no such lane")? as u16))
}

fn part(input: &mut Input<'_>) -> Result<Option<Part>, Stop> {
    let mut number = || input.within(MAX_SAMPLES.into(), "a part is too large");
    let samples = number()? as u32;
    Ok(if samples == 0 { None } else { Some(Part { offset: number()? as u32, samples }) })
}

fn bit(input: &mut Input<'_>) -> Result<bool, Stop> {
    match input.byte()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Stop::Wrong("neither yes nor no")),
    }
}

fn listed<T: Copy>(all: &[T], code: u8) -> Result<T, Stop> {
    all.get(usize::from(code)).copied().ok_or(Stop::Wrong("there is no such reason"))
}
