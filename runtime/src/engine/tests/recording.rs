//! Logs of whole engines: every decision is made again, the same.

use std::{path::Path, sync::Arc, time::Duration};

use mprec_router::{Decision, Health, PathId, PathSet, PolicyName};

use super::{
    fake::*,
    weights::{open, weighted},
};
use crate::{
    engine::{Backoff, EngineStats, PathCounts},
    record::{Ending, Event, LogReader, OutcomeCollector, RecordOptions, Replayer},
};

/// Makes every decision of a log again, and compares its outcome with what the engine counted. Returns its events.
pub(super) fn check_log(log: &Path, stats: &EngineStats) -> Vec<Event> {
    let mut log = LogReader::open(log).unwrap();
    let mut replayer = Replayer::new(log.header()).unwrap();
    let mut outcome = OutcomeCollector::new(log.header());
    let mut events = Vec::new();
    while let Some(event) = log.next_event().unwrap() {
        if let Err(difference) = replayer.replay(&event) {
            panic!("{difference}");
        }
        outcome.take(&event);
        events.push(event);
    }
    assert_eq!(log.ending(), Some(Ending::Stopped));
    assert_eq!(stats.record.unwrap().events, log.events());
    let outcome = outcome.finish();
    assert_eq!(outcome.open, 0);
    let sum = |of: fn(&PathCounts) -> u64| stats.paths.iter().map(|path| of(&path.counts)).sum();
    let (answered, expired): (u64, u64) = (sum(|c| c.answered), sum(|c| c.expired));
    let (abandoned, report): (u64, _) = (sum(|c| c.abandoned), &outcome.report);
    // Clients that left after their batch began are among the answered, or the failed if nobody stayed.
    assert!((answered..=answered + abandoned).contains(&report.answered), "{report:?} {stats:?}");
    assert!(report.expired <= expired && report.failed >= report.expired + outcome.cancelled);
    assert!(outcome.cancelled <= abandoned);
    events
}

#[test]
fn a_split_query_whose_part_fails_and_a_path_that_comes_back_are_replayed() {
    // The second run of the better path fails; the first one is held until the query has its answer.
    let gate = Arc::new(Gate::default());
    let better = Script::failing_second(&gate);
    let paths = vec![("hybrid@cpu", 0.9, better), ("table@cpu", 0.8, Script::echo())];
    let mut setup = Setup::new(2, paths);
    setup.per_sample_us = 10.0;
    setup.options.policy = PolicyName::MultiPath;
    setup.options.max_parts = Some(2);
    let soon = Duration::from_millis(1);
    setup.options.recovery = Backoff { first: soon, most: soon };
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("decisions.log");
    setup.options.record = Some(RecordOptions { file: log.clone(), limit_bytes: 1 << 30 });
    let engine = setup.start();
    let large: Vec<f32> = (0u16..1_000).map(f32::from).collect();
    let answer = outcome(submit(&engine, &large).unwrap()).unwrap();
    assert_eq!((&*answer.path, answer.scores), ("table@cpu", large));
    gate.open();
    eventually("the path's recovery", || engine.stats().paths[0].is_up);
    eventually("the held part's end", || engine.stats().paths[0].counts.batches == 1);
    assert!(outcome(submit(&engine, &[0.5]).unwrap()).is_ok());
    engine.shutdown(LONG);

    let events = check_log(&log, &engine.stats());
    let log = LogReader::open(&log).unwrap();
    assert_eq!(log.header().config.max_parts, Some(2));
    let count = |of: fn(&Event) -> bool| events.iter().filter(|event| of(event)).count();
    let is_split = |event: &Event| matches!(event, Event::Submitted { decision: Decision::Admit(to), .. } if to.parts == 2);
    assert!(count(is_split) >= 1);
    let has_parts = |event: &Event| {
        let Event::Asked { started: Some(started), .. } = event else { return false };
        started.entries.iter().any(|entry| entry.part.is_some())
    };
    assert!(count(has_parts) >= 2);
    let loses =
        |event: &Event| matches!(event, Event::Failed { ended: Some(lost), .. } if lost.len() == 1);
    assert_eq!(count(loses), 1);
    let ends_nothing = |event: &Event| matches!(event, Event::Completed { ended: Some(ended), .. } if ended.is_empty());
    assert!(count(ends_nothing) >= 1, "the part that was held");
    let down = |event: &Event| matches!(event, Event::HealthSet { health: Health::Down, .. });
    let up = |event: &Event| matches!(event, Event::HealthSet { health: Health::Up, .. });
    assert_eq!((count(down), count(up)), (1, 1));
}

#[test]
fn the_paths_of_a_weighted_query_are_recorded() {
    let paths =
        vec![("theirs@onnx", 0.9, Script::weightless(&open())), ("table@cpu", 0.8, Script::echo())];
    let mut setup = Setup::new(1, paths);
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("decisions.log");
    setup.options.record = Some(RecordOptions { file: log.clone(), limit_bytes: 1 << 30 });
    let engine = setup.start();
    assert!(outcome(submit(&engine, &[0.5]).unwrap()).is_ok());
    assert!(outcome(submit_request(&engine, weighted(0.5, 0.5)).unwrap()).is_ok());
    engine.shutdown(LONG);
    let events = check_log(&log, &engine.stats());
    let paths = events.iter().filter_map(|event| match event {
        Event::Submitted { query, decision, .. } => Some((query.paths(), decision.path())),
        _ => None,
    });
    let expected = [(PathSet::ALL, PathId(0)), (PathSet::from_iter([PathId(1)]), PathId(1))];
    assert_eq!(paths.collect::<Vec<_>>(), expected.map(|(set, path)| (set, Some(path))));
}
