//! Random events, every truncation, any bytes.

use std::{
    io::Write,
    sync::{Arc, Mutex},
    time::Duration,
};

use mprec_router::{
    Admission, Batch, Decision, DeviceId, Health, LaneId, MAX_SAMPLES, MOST_PARTS, Next, PathId,
    PathProfile, PathSet, Priority, Profiles, QualitySource, Query, QueryId, Queued, Reason,
    Refusal, RefuseReason, RouterConfig, RouterState, ServiceCurve, Spare, SplitId, Time,
};
use proptest::prelude::*;

use super::{
    decode::{Decoder, Record},
    encode::Encoder,
    writer::{LogWriter, start},
    *,
};

/// A file in memory.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sink(Arc<Mutex<Vec<u8>>>);

impl Sink {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap().clone()
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A disk that is full.
struct Full;

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        // The header fits.
        if bytes.starts_with(&MAGIC) { Ok(bytes.len()) } else { Err(std::io::Error::other("full")) }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn profiles() -> Profiles {
    let path = |name: &str, device: &str, median: f64| PathProfile {
        name: name.into(),
        variant: name.into(),
        device: device.into(),
        lanes: 2,
        // Not what decimal text would keep by chance.
        accuracy: 0.1 + 0.2 * 3.0 / 1.1,
        quality_source: QualitySource::Declared("a test".into()),
        bytes: 7,
        max_batch: None,
        service: ServiceCurve::from_medians(&[(1, median), (64, 9.7 * median)], 1.1, 1.3).unwrap(),
    };
    Profiles::new(vec![
        path("a@cpu", "cpu", 100.0 / 3.0),
        path("b@cpu", "cpu", 70.0 / 3.0),
        path("c@gpu", "gpu", 10.1),
    ])
    .unwrap()
}

fn header() -> Header {
    Header {
        program: "0".into(),
        model: "m".into(),
        model_version: "1".into(),
        began_unix_seconds: 3,
        policy: "multi-path".parse().unwrap(),
        config: RouterConfig { coverage: 0.975_3, max_parts: Some(5), ..RouterConfig::default() },
        profiles: profiles(),
    }
}

fn ids() -> impl Strategy<Value = Vec<QueryId>> {
    prop_oneof![
        4 => prop::collection::vec((0u64..100).prop_map(QueryId), 0..6),
        1 => prop::collection::vec(any::<u64>().prop_map(QueryId), 0..3),
    ]
}

/// Whole queries, and parts of queries among them.
fn entries() -> impl Strategy<Value = Vec<Entry>> {
    let part = (0..=MAX_SAMPLES, 1..=MAX_SAMPLES);
    let part = prop::option::of(part.prop_map(|(offset, samples)| Part { offset, samples }));
    let entry = (0u64..100, part).prop_map(|(id, part)| Entry { query: QueryId(id), part });
    let whole = |ids: Vec<QueryId>| ids.into_iter().map(|query| Entry { query, part: None });
    prop_oneof![prop::collection::vec(entry, 0..6), ids().prop_map(move |ids| whole(ids).collect())]
}

fn span() -> impl Strategy<Value = u64> {
    prop_oneof![8 => 0u64..100_000_000, 1 => any::<u64>()]
}

fn decision(now: u64) -> impl Strategy<Value = Decision> {
    let parts = prop_oneof![3 => Just(1), 1 => 2..=MOST_PARTS];
    let admit = (0u16..3, parts, span(), span(), any::<bool>(), 0..Reason::ALL.len()).prop_map(
        move |(path, parts, wait, more, downgraded, reason)| {
            let finish = now.wrapping_add(wait);
            Decision::Admit(Admission {
                path: PathId(path),
                parts,
                predicted_finish: Time::from_nanos(finish),
                upper_finish: Time::from_nanos(finish.wrapping_add(more)),
                downgraded,
                reason: Reason::ALL[reason],
            })
        },
    );
    let refuse = (0..RefuseReason::ALL.len(), span()).prop_map(|(reason, after)| {
        let retry_after = Duration::from_nanos(after);
        Decision::Refuse(Refusal { reason: RefuseReason::ALL[reason], retry_after })
    });
    prop_oneof![admit, refuse]
}

fn query(now: u64) -> impl Strategy<Value = Query> {
    let floor = prop_oneof![3 => Just(0.0), 1 => 0.0..=1.0];
    let paths = prop_oneof![3 => Just(u64::MAX), 1 => 0u64..8, 1 => any::<u64>()];
    let each = (any::<u64>(), 1usize..5_000, 0..=now, span(), floor, 0usize..3, paths);
    each.prop_map(|(id, samples, arrival, sla, floor, priority, paths)| {
        let (arrival, sla) = (Time::from_nanos(arrival), Duration::from_nanos(sla));
        Query::new(QueryId(id), samples, arrival, sla)
            .unwrap()
            .with_min_quality(floor)
            .unwrap()
            .with_priority([Priority::Low, Priority::Normal, Priority::High][priority])
            .with_paths(PathSet::from_bits(paths))
    })
}

fn event(now: u64) -> impl Strategy<Value = Event> {
    let at = Time::from_nanos(now);
    let device = || (0u16..2).prop_map(DeviceId);
    let path = || (0u16..3).prop_map(PathId);
    let lane = || (0u16..2).prop_map(LaneId);
    let started = (path(), lane(), any::<u32>(), entries())
        .prop_map(|(path, lane, samples, entries)| Started { path, lane, samples, entries });
    let ended = || prop::option::of(ids());
    // In the batch that is made of it, the one entry has one sample.
    let short = prop::option::of(2u32..);
    let next = prop_oneof![
        started.prop_map(|started| (Next::Run, Some(started))),
        span().prop_map(move |wait| (Next::Wait(Time::from_nanos(now.wrapping_add(wait))), None)),
        Just((Next::Idle, None)),
    ];
    prop_oneof![
        (query(now), decision(now)).prop_map(move |(query, decision)| Event::Submitted {
            now: at,
            query,
            decision
        }),
        (device(), next, ids()).prop_map(move |(device, (next, started), expired)| Event::Asked {
            now: at,
            device,
            next,
            started,
            expired
        }),
        (device(), lane(), span(), short, ended()).prop_map(
            move |(device, lane, observed, short, ended)| {
                let observed = Duration::from_nanos(observed);
                Event::Completed { now: at, device, lane, observed, short, ended }
            }
        ),
        (device(), lane(), ended()).prop_map(move |(device, lane, ended)| {
            Event::Failed { now: at, device, lane, ended }
        }),
        (path(), any::<u64>(), any::<bool>()).prop_map(move |(path, query, removed)| {
            Event::Cancelled { now: at, path, query: QueryId(query), removed }
        }),
        (path(), any::<bool>(), ids()).prop_map(move |(path, up, orphans)| Event::HealthSet {
            now: at,
            path,
            health: if up { Health::Up } else { Health::Down },
            orphans
        }),
        (device(), ids()).prop_map(move |(device, queries)| Event::Expired {
            now: at,
            device,
            queries
        }),
    ]
}

fn events(most: usize) -> impl Strategy<Value = Vec<Event>> {
    let gaps =
        prop::collection::vec(prop_oneof![9 => 0u64..10_000_000, 1 => 0u64..1 << 50], 0..most);
    gaps.prop_flat_map(|gaps| {
        let mut now = 0;
        let mut each = Vec::new();
        for gap in gaps {
            now += gap;
            each.push(event(now).boxed());
        }
        each
    })
}

fn queued(ids: &[QueryId]) -> Vec<Queued> {
    ids.iter().map(|&query| queue(Entry { query, part: None })).collect()
}

/// An entry as a router hands it out. A whole one has one sample.
fn queue(entry: Entry) -> Queued {
    let Part { offset, samples } = entry.part.unwrap_or(Part { offset: 0, samples: 1 });
    let (arrival, deadline, promised) = (Time::ZERO, Time::MAX, Time::MAX);
    let split = entry.part.map(|_| split());
    let (id, spare) = (entry.query, Spare::new(1.0));
    Queued { id, split, offset, samples, arrival, deadline, promised, begins: true, spare }
}

/// The name of a split. Only routers make them, so one splits a query.
fn split() -> SplitId {
    let mut state = RouterState::new(profiles(), RouterConfig::default()).unwrap();
    let query = Query::new(QueryId(1), 10, Time::ZERO, Duration::from_secs(1)).unwrap();
    let admission = Admission {
        path: PathId(0),
        parts: 2,
        predicted_finish: Time::ZERO,
        upper_finish: Time::ZERO,
        downgraded: false,
        reason: Reason::Only,
    };
    let device = state.admit(&query, &admission, Time::ZERO);
    let mut batch = Batch::default();
    assert_eq!(state.next_batch(device, Time::ZERO, &mut batch), Next::Run);
    batch.queries[0].split.expect("it was admitted in two parts")
}

/// A batch of one entry of one sample, of which `short` samples ran and with which `ended` ended.
fn done(device: DeviceId, lane: LaneId, short: Option<u32>, ended: Option<&[QueryId]>) -> Batch {
    let part = ended.map(|_| Part { offset: 0, samples: 1 });
    Batch {
        device,
        lane,
        samples: short.unwrap_or(1),
        queries: vec![queue(Entry { query: QueryId(1), part })],
        ended: queued(ended.unwrap_or_default()),
        ..Batch::default()
    }
}

/// Tells an encoder or a recorder of an event, as the engine would.
macro_rules! tell {
    ($to:expr, $event:expr) => {
        match $event {
            Event::Submitted { now, query, decision } => $to.submitted(*now, query, decision),
            Event::Asked { now, device, next, started, expired } => {
                let mut batch = Batch { expired: queued(expired), ..Batch::default() };
                if let Some(started) = started {
                    batch.path = started.path;
                    batch.lane = started.lane;
                    batch.samples = started.samples;
                    batch.queries = started.entries.iter().copied().map(queue).collect();
                }
                $to.asked(*now, *device, *next, &batch);
            }
            Event::Completed { now, device, lane, observed, short, ended } => {
                $to.completed(*now, &done(*device, *lane, *short, ended.as_deref()), *observed);
            }
            Event::Failed { now, device, lane, ended } => {
                $to.failed(*now, &done(*device, *lane, None, ended.as_deref()));
            }
            Event::Cancelled { now, path, query, removed } => {
                $to.cancelled(*now, *path, *query, *removed);
            }
            Event::HealthSet { now, path, health, orphans } => {
                $to.health_set(*now, *path, *health, &queued(orphans));
            }
            Event::Expired { now, device, queries } => {
                $to.expired(*now, *device, &queued(queries));
            }
        }
    };
}

/// Records events through the writer's thread.
fn written(events: &[Event], limit: u64, ring: usize) -> (Vec<u8>, RecordStats) {
    let sink = Sink::default();
    let (mut recorder, mut writer): (Recorder, LogWriter) =
        start(sink.clone(), &header(), limit, ring).unwrap();
    for event in events {
        tell!(recorder, event);
    }
    drop(recorder);
    assert!(writer.finish());
    (sink.bytes(), writer.stats())
}

/// Reads a log to its end, or to its error.
fn read(bytes: &[u8]) -> (Vec<Event>, Result<Ending, RecordError>) {
    let mut events = Vec::new();
    let mut log = match LogReader::new(bytes) {
        Ok(log) => log,
        Err(error) => return (events, Err(error)),
    };
    loop {
        match log.next_event() {
            Ok(Some(event)) => events.push(event),
            Ok(None) => return (events, Ok(log.ending().unwrap())),
            Err(error) => return (events, Err(error)),
        }
    }
}

const ROOM: u64 = 1 << 30;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_recorded_is_read(events in events(40)) {
        let (bytes, stats) = written(&events, ROOM, 1 << 20);
        let (found, ending) = read(&bytes);
        prop_assert_eq!(found, events);
        prop_assert_eq!(ending.unwrap(), Ending::Stopped);
        prop_assert_eq!((stats.bytes, stats.lost), (bytes.len() as u64, 0));
        let log = LogReader::new(bytes.as_slice()).unwrap();
        prop_assert_eq!(log.header(), &header());
    }

    #[test]
    fn every_truncation_keeps_the_whole_records_before_it(events in events(6)) {
        let (bytes, _) = written(&events, ROOM, 1 << 20);
        let mut longest = 0;
        for cut in 0..bytes.len() {
            let (found, ending) = read(&bytes[..cut]);
            match ending {
                Ok(ending) => prop_assert_eq!(ending, Ending::CutOff),
                Err(RecordError::NoHeader | RecordError::Foreign) => prop_assert!(found.is_empty()),
                Err(other) => prop_assert!(false, "{}", other),
            }
            prop_assert!(found.len() >= longest, "more bytes, fewer events");
            longest = found.len();
            prop_assert_eq!(&found[..], &events[..found.len()]);
        }
        prop_assert_eq!(longest, events.len());
    }

    #[test]
    fn a_changed_byte_is_an_error_or_a_truncation(
        events in events(6),
        at in any::<prop::sample::Index>(),
        flip in 1u8..=255,
    ) {
        let (mut bytes, _) = written(&events, ROOM, 1 << 20);
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        let (found, ending) = read(&bytes);
        prop_assert!(found.len() <= events.len());
        prop_assert!(!matches!(ending, Ok(Ending::Stopped)), "nobody noticed byte {}", at);
    }

    #[test]
    fn any_payload_is_decoded_or_refused(payload in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut decoder = Decoder::new(&profiles());
        let mut at = 0;
        // An error, or the end of a log, ends it.
        while let Ok((Record::Event(event), bytes)) = decoder.record(&payload[at..]) {
            // A router is told of it, whatever it is.
            let mut replayer = Replayer::new(&header()).unwrap();
            let _ = replayer.replay(&event);
            let mut outcome = OutcomeCollector::new(&header());
            outcome.take(&event);
            let _ = outcome.finish().trace();
            prop_assert!(bytes > 0);
            at += bytes;
        }
    }

    #[test]
    fn any_file_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = read(&bytes);
        let mut log = header().to_bytes();
        log.extend(&bytes);
        let _ = read(&log);
    }

    #[test]
    fn random_events_never_make_a_router_panic(events in events(60)) {
        let mut replayer = Replayer::new(&header()).unwrap();
        let mut outcome = OutcomeCollector::new(&header());
        for event in &events {
            let _ = replayer.replay(event);
            outcome.take(event);
        }
        let report = outcome.finish().report;
        prop_assert_eq!(report.offered, report.answered + report.refused + report.failed);
    }
}

fn many(count: u64) -> Vec<Event> {
    let event = |at: u64| Event::Completed {
        now: Time::from_micros(at),
        device: DeviceId(0),
        lane: LaneId(1),
        observed: Duration::from_micros(300),
        short: None,
        ended: None,
    };
    (0..count).map(event).collect()
}

#[test]
fn a_log_ends_at_its_limit_and_says_so() {
    let header = header().to_bytes().len() as u64;
    let events = many(10_000);
    let (bytes, stats) = written(&events, header + 5_000, 1 << 20);
    assert!(bytes.len() as u64 <= header + 5_000, "{}", bytes.len());
    let (found, ending) = read(&bytes);
    assert_eq!(ending.unwrap(), Ending::Limit);
    assert!(found.len() > 200 && found[..] == events[..found.len()], "{}", found.len());
    assert_eq!((stats.events, stats.lost), (found.len() as u64, 10_000 - found.len() as u64));
    assert!(!stats.is_recording);
}

#[test]
fn a_writer_that_falls_behind_ends_the_log_and_nothing_else() {
    // A ring of 64 bytes holds seven records or so; the writer looks every 10 ms.
    let (bytes, stats) = written(&many(1_000), ROOM, 64);
    let (found, ending) = read(&bytes);
    assert_eq!(ending.unwrap(), Ending::Behind);
    assert_eq!(found.len() as u64, stats.events);
    assert_eq!(stats.events + stats.lost, 1_000);
}

#[test]
fn a_full_disk_ends_the_log_and_nothing_else() {
    let (mut recorder, mut writer) = start(Full, &header(), ROOM, 1 << 16).unwrap();
    recorder.completed(Time::ZERO, &Batch::default(), Duration::ZERO);
    while writer.stats().is_recording {
        std::thread::sleep(Duration::from_millis(1));
    }
    recorder.completed(Time::ZERO, &Batch::default(), Duration::ZERO);
    drop(recorder);
    writer.finish();
    assert_eq!((writer.stats().events, writer.stats().lost), (1, 1));
}

#[test]
fn files_of_others_are_refused_by_name() {
    let text = |bytes: &[u8]| read(bytes).1.unwrap_err().to_string();
    assert!(text(b"").contains("no log"));
    assert!(text(b"PK\x03\x04 and so on").contains("no log"));
    let mut newer = header().to_bytes();
    newer[8] = 9;
    assert!(text(&newer).contains("version 9"));
    let mut endless = header().to_bytes();
    endless[12..16].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(text(&endless).contains("too long"));
    let mut other = header().to_bytes();
    *other.last_mut().unwrap() ^= 1;
    assert!(text(&other).contains("digest"));
    let folder = tempfile::tempdir().unwrap();
    let options = RecordOptions { file: folder.path().join("x.log"), limit_bytes: ROOM };
    let (recorder, mut writer) = create(&options, &header()).unwrap();
    drop(recorder);
    writer.finish();
    assert!(create(&options, &header()).unwrap_err().to_string().contains("must not exist"));
    assert_eq!(LogReader::open(&options.file).unwrap().next_event().unwrap(), None);
}

#[test]
fn a_query_takes_some_fifty_bytes() {
    let mut encoder = Encoder::default();
    let mut bytes = 0;
    let mut now = Time::from_millis(1);
    for id in 1..=1_000 {
        now = now + Duration::from_millis(2);
        let query = Query::new(
            QueryId(id),
            120,
            now - Duration::from_micros(60),
            Duration::from_millis(10),
        );
        let (query, finish) = (query.unwrap(), now + Duration::from_micros(1_500));
        let admission = Admission {
            path: PathId(1),
            parts: 1,
            predicted_finish: finish,
            upper_finish: finish + Duration::from_micros(200),
            downgraded: false,
            reason: Reason::MostAccurate,
        };
        encoder.submitted(now, &query, &Decision::Admit(admission));
        bytes += encoder.record().len();
        let entry = Queued { samples: 120, ..queued(&[QueryId(id)])[0] };
        let batch = Batch { queries: vec![entry], samples: 120, ..Batch::default() };
        encoder.asked(now + Duration::from_micros(20), DeviceId(0), Next::Run, &batch);
        bytes += encoder.record().len();
        encoder.completed(finish, &batch, Duration::from_micros(1_400));
        bytes += encoder.record().len();
        encoder.asked(finish, DeviceId(0), Next::Idle, &Batch::default());
        bytes += encoder.record().len();
    }
    let each = bytes / 1_000;
    assert!((40..60).contains(&each), "{each} bytes a query");
}
