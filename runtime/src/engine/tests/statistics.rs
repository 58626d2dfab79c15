use super::fake::*;
use crate::service::{Refusal, Service, Spent};

use std::{sync::Arc, time::Duration};

#[test]
fn every_query_is_in_the_work_of_a_path_or_refused() {
    let gate = Arc::new(Gate::default());
    let engine = single(&Script::gated(&gate)).start();
    let model = engine.model("m").unwrap();
    assert_eq!(engine.work(&model).paths[0].answered, Spent::default());
    let first = submit(&engine, &[0.5; 3]).unwrap();
    gate.await_runs(1);
    let hurried = request(&[0.75], Duration::from_millis(200));
    let hurried = submit_request(&engine, hurried).unwrap();
    assert!(matches!(outcome(hurried), Err(Refusal::DeadlinePassed { .. })));
    gate.open();
    let answer = outcome(first).unwrap();
    assert!(answer.predicted > Duration::ZERO && answer.predicted < LONG);
    assert!(submit_request(&engine, request(&[0.5], Duration::ZERO)).is_err());

    let work = engine.work(&model);
    let path = &work.paths[0];
    assert_eq!((path.path.as_str(), path.samples), ("table@cpu", 3));
    assert_eq!((path.answered.count, path.failed.count, work.refused.count), (1, 1, 1));
    // It ran while the other's 200 ms went by.
    assert!(path.answered.time > Duration::from_millis(100), "{:?}", path.answered);
    assert!(path.failed.time >= Duration::from_millis(200), "{:?}", path.failed);
    assert!(path.stages.infer > Duration::from_millis(100), "{:?}", path.stages);
    assert!(path.answered.time >= path.queue + path.stages.input + path.stages.infer);
    let batches: Vec<_> = path.batches.iter().map(|batch| (batch.size, batch.count)).collect();
    assert_eq!(batches, [(4, 1)]);
    assert!(path.last.is_some());
}

#[test]
fn scores_that_are_no_numbers_are_no_success() {
    let engine = single(&Script::always(Act::Nonsense)).start();
    let model = engine.model("m").unwrap();
    assert!(outcome(submit(&engine, &[0.5]).unwrap()).is_err());
    let work = engine.work(&model);
    assert_eq!((work.paths[0].answered.count, work.paths[0].failed.count), (0, 1));
}
