use std::sync::Arc;

use super::fake::*;
use crate::service::{Refusal, Service};

fn two(better: &Arc<Script>, other: &Arc<Script>) -> Setup {
    let paths =
        vec![("hybrid@cpu", 0.9, Arc::clone(better)), ("table@cpu", 0.8, Arc::clone(other))];
    Setup::new(1, paths)
}

#[test]
fn a_path_that_fails_goes_down_and_its_query_takes_another() {
    let engine = two(&Script::always(Act::Fail), &Script::echo()).start();
    let answer = outcome(submit(&engine, &[0.5]).unwrap()).unwrap();
    assert_eq!((&*answer.path, &answer.scores[..]), ("table@cpu", &[0.5][..]));
    let stats = engine.stats();
    assert_eq!((stats.paths[0].is_up, stats.paths[1].is_up), (false, true));
    assert_eq!((stats.paths[0].counts.rerouted, stats.paths[1].counts.answered), (1, 1));
    assert!(engine.is_ready());
    let later = outcome(submit(&engine, &[0.75]).unwrap()).unwrap();
    assert_eq!(&*later.path, "table@cpu");
}

#[test]
fn what_waits_for_a_path_that_goes_down_takes_another() {
    let gate = Arc::new(Gate::default());
    let failing = {
        let gate = Arc::clone(&gate);
        Script::slow(
            move |_| {
                gate.hold();
                std::time::Duration::ZERO
            },
            |_, _| Act::Fail,
        )
    };
    let engine = two(&failing, &Script::echo()).start();
    let mut taken = vec![submit(&engine, &[0.0]).unwrap()];
    gate.await_runs(1);
    taken.extend((1..20).map(|at| submit(&engine, &[at as f32]).unwrap()));
    assert_eq!(engine.stats().paths[0].queued, 19);
    gate.open();
    for (at, receiver) in taken.into_iter().enumerate() {
        let answer = outcome(receiver).unwrap();
        assert_eq!((&*answer.path, answer.scores[0]), ("table@cpu", at as f32));
    }
    assert_eq!(engine.stats().paths[0].counts.rerouted, 20);
}

#[test]
fn a_panic_takes_the_path_down_and_the_worker_survives() {
    let engine = two(&Script::always(Act::Panic), &Script::echo()).start();
    for _ in 0..3 {
        let answer = outcome(submit(&engine, &[0.5]).unwrap()).unwrap();
        assert_eq!(&*answer.path, "table@cpu");
    }
    assert!(!engine.stats().paths[0].is_up);
}

#[test]
fn a_query_that_breaks_two_paths_is_answered_as_failed_and_the_third_survives() {
    let poison = |_: usize, batch: &mprec_representations::Batch| {
        if batch.dense().contains(&666.0) { Act::Panic } else { Act::Echo }
    };
    let third = Script::acting(poison);
    let paths = vec![
        ("hybrid@cpu", 0.9, Script::acting(poison)),
        ("dhe@cpu", 0.85, Script::acting(poison)),
        ("table@cpu", 0.8, Arc::clone(&third)),
    ];
    let engine = Setup::new(1, paths).start();
    let refused = outcome(submit(&engine, &[666.0]).unwrap()).unwrap_err();
    assert!(
        matches!(&refused, Refusal::Failed { path, message }
            if &**path == "dhe@cpu" && &**message == "panicked: a fake panics"),
        "{refused}"
    );
    let answer = outcome(submit(&engine, &[0.5]).unwrap()).unwrap();
    assert_eq!(&*answer.path, "table@cpu");
    assert_eq!(third.seen(), [0.5]);
}

#[test]
fn a_batch_that_is_wrong_does_not_take_its_path_down() {
    let engine = single(&Script::always(Act::Refuse)).start();
    let refused = outcome(submit(&engine, &[0.5]).unwrap());
    assert!(matches!(refused, Err(Refusal::Failed { .. })));
    assert!(engine.stats().paths[0].is_up && engine.is_ready());
}

#[test]
fn when_every_path_is_down_queries_are_refused_and_the_engine_is_not_ready() {
    let engine = single(&Script::always(Act::Fail)).start();
    let refused = outcome(submit(&engine, &[0.5]).unwrap()).unwrap_err();
    assert!(
        matches!(&refused, Refusal::Failed { message, .. }
            if &**message == "device of backend `cpu` failed: it is on fire"),
        "{refused}"
    );
    assert!(!engine.is_ready());
    assert!(matches!(submit(&engine, &[0.5]), Err(Refusal::Unavailable { .. })));
    assert_eq!(engine.stats().refused_unavailable, 1);
}

#[test]
fn a_score_that_is_no_number_is_an_error_of_its_query_alone() {
    let gate = Arc::new(Gate::default());
    let script = {
        let gate = Arc::clone(&gate);
        Script::acting(move |_, _| {
            gate.hold();
            Act::Superstitious
        })
    };
    let engine = single(&script).start();
    let first = submit(&engine, &[0.5]).unwrap();
    gate.await_runs(1);
    let unlucky = submit(&engine, &[12.0, 13.0]).unwrap();
    let other = submit(&engine, &[14.0]).unwrap();
    gate.open();
    assert!(outcome(first).is_ok());
    assert!(matches!(outcome(unlucky), Err(Refusal::Failed { .. })));
    let answer = outcome(other).unwrap();
    assert_eq!((&answer.scores[..], answer.batch_samples), (&[14.0][..], 3));
}
