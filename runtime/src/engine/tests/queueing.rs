use super::fake::*;
use crate::{
    engine::EngineError,
    service::{Refusal, Service},
};

use std::{sync::Arc, time::Duration};

use mprec_router::PolicyName;

#[test]
fn a_query_gets_its_own_scores_and_is_told_how_they_came_about() {
    let engine = single(&Script::echo()).start();
    let answer = outcome(submit(&engine, &[0.25, 0.5]).unwrap()).unwrap();
    assert_eq!(answer.scores, [0.25, 0.5]);
    assert_eq!((&*answer.path, &*answer.variant, &*answer.version), ("table@cpu", "table", "7"));
    assert_eq!((answer.quality, answer.downgraded, answer.batch_samples), (0.8, false, 2));
    assert_eq!(engine.model("m").unwrap().version, "7");
    assert!(engine.model("n").is_none());
}

#[test]
fn queries_that_wait_together_run_together_and_keep_their_scores() {
    let gate = Arc::new(Gate::default());
    let script = Script::gated(&gate);
    let engine = single(&script).start();
    let first = submit(&engine, &[0.5]).unwrap();
    gate.await_runs(1);
    let waiting: Vec<_> =
        (0..5).map(|at| submit(&engine, &[at as f32, at as f32 + 0.5]).unwrap()).collect();
    assert_eq!((engine.stats().queued, engine.stats().queued_samples), (5, 10));
    gate.open();
    assert_eq!(outcome(first).unwrap().batch_samples, 1);
    for (at, receiver) in waiting.into_iter().enumerate() {
        let answer = outcome(receiver).unwrap();
        assert_eq!(answer.scores, [at as f32, at as f32 + 0.5]);
        assert_eq!(answer.batch_samples, 10);
    }
    let counts = engine.stats().paths[0].counts;
    assert_eq!((counts.answered, counts.batches, counts.batch_samples), (6, 2, 11));
}

#[test]
fn an_expired_query_is_answered_while_the_worker_is_busy_and_never_run() {
    let gate = Arc::new(Gate::default());
    let script = Script::gated(&gate);
    let engine = single(&script).start();
    let first = submit(&engine, &[0.5]).unwrap();
    gate.await_runs(1);
    let hurried = request(&[0.75], Duration::from_millis(200));
    let hurried = submit_request(&engine, hurried).unwrap();
    assert!(matches!(outcome(hurried), Err(Refusal::DeadlinePassed { .. })));
    gate.open();
    assert!(outcome(first).is_ok());
    assert_eq!(script.seen(), [0.5]);
    assert_eq!(engine.stats().paths[0].counts.expired, 1);
}

#[test]
fn a_query_that_waited_when_the_last_worker_became_busy_expires_too() {
    let gate = Arc::new(Gate::default());
    let mut setup = single(&Script::gated(&gate));
    // One sample a batch: both queries arrive at an idle worker, one of them stays behind.
    setup.options.linger = Duration::from_millis(30);
    let engine = setup.start();
    let taken: Vec<_> = (0..2)
        .map(|_| submit_request(&engine, request(&[0.5; 700], Duration::from_secs(1))).unwrap())
        .collect();
    gate.await_runs(1);
    let mut outcomes = taken.into_iter();
    let (first, second) = (outcomes.next().unwrap(), outcomes.next().unwrap());
    assert!(matches!(outcome(second), Err(Refusal::DeadlinePassed { .. })));
    gate.open();
    assert!(outcome(first).is_ok());
}

#[test]
fn a_query_that_comes_late_is_refused_at_once() {
    let engine = single(&Script::echo()).start();
    let mut late = request(&[0.5], Duration::ZERO);
    late.arrival -= Duration::from_millis(5);
    late.deadline = late.arrival;
    assert!(matches!(submit_request(&engine, late), Err(Refusal::DeadlinePassed { .. })));
    assert_eq!(engine.stats().refused_late, 1);
}

#[test]
fn a_query_whose_client_went_away_leaves_the_queue_and_is_not_run() {
    let gate = Arc::new(Gate::default());
    let script = Script::gated(&gate);
    let engine = single(&script).start();
    let first = submit(&engine, &[0.5]).unwrap();
    gate.await_runs(1);
    let left = submit(&engine, &[0.75; 30]).unwrap();
    let stays = submit(&engine, &[1.0]).unwrap();
    drop(left);
    let stats = engine.stats();
    assert_eq!((stats.queued, stats.queued_samples, stats.paths[0].queued), (1, 1, 1));
    gate.open();
    assert!(outcome(first).is_ok() && outcome(stays).is_ok());
    assert_eq!(script.seen(), [0.5, 1.0]);
    assert_eq!(engine.stats().paths[0].counts.abandoned, 1);
}

#[test]
fn what_exceeds_a_limit_of_the_queue_is_refused_as_overload() {
    let limited = |queries, samples, bytes| {
        let gate = Arc::new(Gate::default());
        let mut setup = single(&Script::gated(&gate));
        setup.options.queue = crate::config::QueueLimits { queries, samples, bytes };
        (setup.start(), gate)
    };
    // A sample is an id and a dense value: twelve bytes.
    for ((engine, gate), reason) in [
        (limited(2, 1_000, 1 << 20), "too many queries wait"),
        (limited(10, 25, 1 << 20), "too many samples wait"),
        (limited(10, 1_000, 12 * 25), "too many bytes wait"),
    ] {
        let mut taken = vec![submit(&engine, &[0.5]).unwrap()];
        eventually("the first batch", || engine.stats().queued == 0);
        taken.extend((0..2).map(|_| submit(&engine, &[0.5; 10]).unwrap()));
        let refused = submit(&engine, &[0.5; 10]).unwrap_err();
        assert!(
            matches!(refused, Refusal::Overloaded { reason: told, .. } if told == reason),
            "{refused}"
        );
        assert_eq!(engine.stats().refused_overload, 1);
        gate.open();
        assert!(taken.into_iter().all(|receiver| outcome(receiver).is_ok()));
    }
}

#[test]
fn a_floor_of_quality_holds_and_the_best_is_named() {
    let paths = vec![("table@cpu", 0.78, Script::echo()), ("hybrid@cpu", 0.79, Script::echo())];
    let mut setup = Setup::new(1, paths);
    setup.options.policy = PolicyName::Static("table@cpu".into());
    setup.options.min_quality = Some(0.75);
    let engine = setup.start();
    assert_eq!(outcome(submit(&engine, &[0.5]).unwrap()).unwrap().quality, 0.78);
    let mut picky = request(&[0.5], LONG);
    picky.min_quality = Some(0.9);
    let refused = submit_request(&engine, picky).unwrap_err();
    assert!(
        matches!(refused, Refusal::Quality { min_quality, best } if min_quality == 0.9 && best == 0.79),
        "{refused}"
    );
    let mut wrong = request(&[0.5], LONG);
    wrong.min_quality = Some(f64::NAN);
    assert!(submit_request(&engine, wrong).is_err());
}

#[test]
fn a_batch_of_another_shape_is_refused() {
    use mprec_representations::{BatchShape, Schema};
    let engine = single(&Script::echo()).start();
    let other = BatchShape::new(&Schema::criteo(&[5; 26]).unwrap());
    let mut wrong = request(&[0.5], LONG);
    wrong.batch = other.from_rows(vec![0.0; 13], &[1; 26]).unwrap().into();
    assert!(matches!(submit_request(&engine, wrong), Err(Refusal::Unavailable { .. })));
    let mut nothing = request(&[0.5], LONG);
    nothing.batch = shape().empty().into();
    assert!(matches!(submit_request(&engine, nothing), Err(Refusal::Unavailable { .. })));
}

#[test]
fn every_device_has_workers_of_its_own() {
    let gate = Arc::new(Gate::default());
    let paths = vec![("table@cpu", 0.7, Script::gated(&gate)), ("table@wgpu", 0.8, Script::echo())];
    let engine = Setup::new(2, paths).start();
    // The most accurate path is on the other device and does not wait for this one.
    let answer = outcome(submit(&engine, &[0.5]).unwrap()).unwrap();
    assert_eq!(&*answer.path, "table@wgpu");
    gate.open();
}

#[test]
fn paths_and_profiles_must_match() {
    let setup = single(&Script::echo());
    let two =
        Setup::new(1, vec![("table@cpu", 0.8, Script::echo()), ("dhe@cpu", 0.8, Script::echo())]);
    let start = |resident, profiles| {
        crate::engine::Engine::start(setup.model(), resident, profiles, &setup.options).unwrap_err()
    };
    assert!(matches!(
        start(setup.resident(), two.profiles()),
        EngineError::NotResident { path } if path == "dhe@cpu"
    ));
    assert!(matches!(
        start(two.resident(), setup.profiles()),
        EngineError::NoProfile { path } if path == "dhe@cpu"
    ));
    let mut wrong = single(&Script::echo());
    wrong.options.policy = PolicyName::Static("dhe@cpu".into());
    let error = crate::engine::Engine::start(
        wrong.model(),
        wrong.resident(),
        wrong.profiles(),
        &wrong.options,
    );
    assert!(matches!(error, Err(EngineError::Router(_))));
}
