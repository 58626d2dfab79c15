//! Queries with weighted ids, beside a path that takes none.

use std::sync::Arc;

use mprec_representations::Jagged;

use super::fake::*;
use crate::service::{Refusal, ScoreRequest, Service};

/// A query of one sample for this value, whose id has a weight.
pub(super) fn weighted(value: f32, weight: f32) -> ScoreRequest {
    let jagged = Jagged { ids: vec![1], lengths: vec![1], weights: Some(vec![weight]) };
    let batch = shape().from_jagged(vec![value], &jagged).unwrap();
    ScoreRequest { batch: batch.into(), ..request(&[value], LONG) }
}

pub(super) fn open() -> Arc<Gate> {
    let gate = Arc::new(Gate::default());
    gate.open();
    gate
}

#[test]
fn weights_go_where_they_are_taken_and_nobody_elses_query_fails() {
    let gate = Arc::new(Gate::default());
    let (theirs, ours) = (Script::weightless(&gate), Script::echo());
    let paths =
        vec![("theirs@onnx", 0.9, Arc::clone(&theirs)), ("table@cpu", 0.8, Arc::clone(&ours))];
    // Two workers: one is held at the gate, so that the other queries would be merged.
    let engine = Setup::new(2, paths).start();
    let mut taken = vec![submit(&engine, &[0.0]).unwrap()];
    gate.await_runs(1);
    for at in 1..20 {
        let value = at as f32;
        let request = if at % 3 == 0 { weighted(value, 0.5) } else { request(&[value], LONG) };
        taken.push(submit_request(&engine, request).unwrap());
    }
    gate.open();
    for (at, receiver) in taken.into_iter().enumerate() {
        let answer = outcome(receiver).unwrap();
        let path = if at > 0 && at % 3 == 0 { "table@cpu" } else { "theirs@onnx" };
        assert_eq!((&*answer.path, answer.scores[0]), (path, at as f32));
        assert!(!answer.downgraded, "no better path could have taken it");
    }
    assert_eq!(ours.seen().len(), 6);
    // Weights of 1 are none.
    let answer = outcome(submit_request(&engine, weighted(0.5, 1.0)).unwrap()).unwrap();
    assert_eq!(&*answer.path, "theirs@onnx");
}

#[test]
fn weights_that_no_path_takes_are_refused_at_once() {
    let paths = vec![("theirs@onnx", 0.9, Script::weightless(&open()))];
    let engine = Setup::new(1, paths).start();
    let refused = submit_request(&engine, weighted(0.5, 0.5)).unwrap_err();
    assert!(matches!(refused, Refusal::Weighted), "{refused}");
    assert!(engine.is_ready());
    assert_eq!(engine.stats().refused_weighted, 1);
    assert!(outcome(submit(&engine, &[0.5]).unwrap()).is_ok());
}

#[test]
fn weights_whose_only_path_is_down_are_refused_as_unavailable() {
    let paths = vec![
        ("theirs@onnx", 0.9, Script::weightless(&open())),
        ("table@cpu", 0.8, Script::always(Act::Fail)),
    ];
    let engine = Setup::new(1, paths).start();
    let failed = outcome(submit_request(&engine, weighted(0.5, 0.5)).unwrap()).unwrap_err();
    assert!(matches!(&failed, Refusal::Failed { path, .. } if &**path == "table@cpu"), "{failed}");
    let refused = submit_request(&engine, weighted(0.5, 0.5)).unwrap_err();
    assert!(matches!(refused, Refusal::Unavailable { .. }), "{refused}");
    assert!(outcome(submit(&engine, &[0.5]).unwrap()).is_ok());
}
