use std::{sync::Arc, time::Duration};

use mprec_router::PolicyName;

use super::fake::*;
use crate::{engine::Engine, service::Refusal};

/// A script that echoes, and holds its runs at a gate.
fn held(
    act: impl Fn(usize, &mprec_representations::Batch) -> Act + Send + Sync + 'static,
) -> (Arc<Script>, Arc<Gate>) {
    let gate = Arc::new(Gate::default());
    let script = {
        let gate = Arc::clone(&gate);
        Script::acting(move |run, batch| {
            gate.hold();
            act(run, batch)
        })
    };
    (script, gate)
}

/// An engine by `multi-path`, at 100 µs and 10 µs for each sample.
fn setup(lanes: u32, paths: Vec<(&'static str, f64, Arc<Script>)>) -> Setup {
    let mut setup = Setup::new(lanes, paths);
    setup.options.policy = PolicyName::MultiPath;
    setup.per_sample_us = 10.0;
    setup
}

/// At 1 ms for each sample, a second's work that is due earlier: it must be split.
fn too_large_for_one() -> crate::service::ScoreRequest {
    request(&values(1, 1_000), Duration::from_millis(900))
}

fn values(from: usize, samples: usize) -> Vec<f32> {
    (from..from + samples).map(|at| at as f32).collect()
}

fn counts(engine: &Engine, path: usize) -> crate::engine::PathCounts {
    engine.stats().paths[path].counts
}

#[test]
fn a_split_query_gets_the_scores_of_a_whole_one_in_order() {
    let large = values(1, 1_001);
    let score = |max_parts, lanes| {
        let (script, gate) = held(|_, _| Act::Echo);
        let mut setup = setup(lanes, vec![("table@cpu", 0.8, script)]);
        setup.options.max_parts = max_parts;
        let engine = setup.start();
        let taken = submit(&engine, &large).unwrap();
        let parts = max_parts.unwrap_or(lanes) as usize;
        gate.await_runs(parts);
        let stats = engine.stats();
        assert_eq!((stats.queued, stats.queued_samples, stats.paths[0].queued), (0, 0, 0));
        gate.open();
        let answer = outcome(taken).unwrap();
        assert_eq!(answer.batch_samples, 1_001usize.div_ceil(parts));
        let counts = counts(&engine, 0);
        assert_eq!((counts.answered, counts.samples), (1, 1_001), "counted once");
        assert_eq!((counts.batches, counts.batch_samples), (parts as u64, 1_001));
        assert_eq!(engine.stats().promises.kept + engine.stats().promises.broken, 1);
        answer.scores
    };
    let whole = score(Some(1), 3);
    assert_eq!(whole, large);
    assert_eq!(score(None, 2), whole);
    assert_eq!(score(None, 3), whole);
}

#[test]
fn a_query_of_which_one_part_fails_takes_another_path_as_a_whole() {
    // The second run of the better path fails; the first one is held until the query has its answer.
    let gate = Arc::new(Gate::default());
    let better = Script::failing_second(&gate);
    let setup = setup(
        2,
        vec![("hybrid@cpu", 0.9, Arc::clone(&better)), ("table@cpu", 0.8, Script::echo())],
    );
    let engine = setup.start();
    let large = values(1, 1_000);
    let taken = submit(&engine, &large).unwrap();
    let answer = outcome(taken).unwrap();
    assert_eq!((&*answer.path, answer.scores), ("table@cpu", large));
    assert_eq!(counts(&engine, 0).rerouted, 1);
    gate.open();
    // What is left of the first attempt changes nothing.
    eventually("the held part's end", || counts(&engine, 0).batches == 1);
    assert_eq!((counts(&engine, 0).answered, counts(&engine, 1).answered), (0, 1));
    assert_eq!(engine.stats().queued, 0);
}

#[test]
fn a_query_that_fails_in_both_parts_fails_once() {
    let (script, gate) = held(|_, _| Act::Refuse);
    let engine = setup(2, vec![("table@cpu", 0.8, script)]).start();
    let taken = submit(&engine, &values(1, 1_000)).unwrap();
    gate.await_runs(2);
    gate.open();
    assert!(matches!(outcome(taken), Err(Refusal::Failed { .. })));
    assert_eq!(engine.shutdown(LONG).refused, 0);
    assert_eq!((counts(&engine, 0).failed, counts(&engine, 0).answered), (1, 0));
}

#[test]
fn a_query_with_a_score_that_is_no_number_in_one_part_fails_as_a_whole() {
    let engine = setup(2, vec![("table@cpu", 0.8, Script::always(Act::Superstitious))]).start();
    let taken = submit(&engine, &values(1, 1_000)).unwrap();
    assert!(matches!(outcome(taken), Err(Refusal::Failed { .. })));
    let taken = submit(&engine, &values(100, 1_000)).unwrap();
    assert_eq!(outcome(taken).unwrap().scores, values(100, 1_000));
}

#[test]
fn a_client_that_leaves_takes_the_waiting_parts_along() {
    let (script, gate) = held(|_, _| Act::Echo);
    let mut setup = setup(2, vec![("table@cpu", 0.8, Arc::clone(&script))]);
    setup.per_sample_us = 1_000.0;
    let engine = setup.start();
    // One sample on one worker; the second part of the large query waits behind it.
    let small = submit(&engine, &[0.5]).unwrap();
    gate.await_runs(1);
    let large = submit_request(&engine, too_large_for_one()).unwrap();
    gate.await_runs(2);
    eventually("a part's start", || engine.stats().paths[0].queued == 1);
    assert_eq!(engine.stats().queued, 1);
    drop(large);
    let stats = engine.stats();
    assert_eq!((stats.queued, stats.queued_samples, stats.paths[0].queued), (0, 0, 0));
    gate.open();
    assert!(outcome(small).is_ok());
    assert_eq!(engine.shutdown(LONG).refused, 0);
    assert_eq!((counts(&engine, 0).abandoned, counts(&engine, 0).answered), (1, 1));
    assert_eq!(script.seen().len(), 501, "the small query and one half");
}

#[test]
fn a_query_that_expires_with_a_part_waiting_is_answered_once() {
    let (script, gate) = held(|_, _| Act::Echo);
    let mut setup = setup(2, vec![("table@cpu", 0.8, script)]);
    setup.per_sample_us = 1_000.0;
    let engine = setup.start();
    let small = submit(&engine, &[0.5]).unwrap();
    gate.await_runs(1);
    let hurried = submit_request(&engine, too_large_for_one()).unwrap();
    gate.await_runs(2);
    assert!(matches!(outcome(hurried), Err(Refusal::DeadlinePassed { .. })));
    gate.open();
    assert!(outcome(small).is_ok());
    assert_eq!(engine.shutdown(LONG).refused, 0);
    assert_eq!((counts(&engine, 0).expired, counts(&engine, 0).answered), (1, 1));
}

#[test]
fn an_engine_that_stops_refuses_a_query_in_parts_once() {
    let (script, gate) = held(|_, _| Act::Echo);
    let engine = setup(2, vec![("table@cpu", 0.8, script)]).start();
    let taken = submit(&engine, &values(1, 1_000)).unwrap();
    gate.await_runs(2);
    std::thread::scope(|scope| {
        let stop = scope.spawn(|| engine.shutdown(Duration::ZERO));
        assert!(matches!(outcome(taken), Err(Refusal::Unavailable { .. })));
        gate.open();
        let drained = stop.join().unwrap();
        assert_eq!((drained.refused, drained.stuck), (1, 0));
    });
}
