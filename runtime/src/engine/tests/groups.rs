//! Queries that send what their samples share once, beside others.

use std::sync::Arc;

use mprec_representations::{GroupedBatch, Jagged, Sharing};
use mprec_router::PolicyName;

use super::fake::*;
use crate::service::{Refusal, ScoreRequest};

/// A query of `samples` samples that share this value; their ids differ.
fn shared(value: f32, samples: u32) -> ScoreRequest {
    let ids: Vec<i64> = (0..i64::from(samples)).map(|at| at % 10).collect();
    let sharing = Arc::new(Sharing::new(&[false], true));
    let batch = GroupedBatch::from_rows(&shape(), sharing, &[samples], vec![value], &[], &ids);
    ScoreRequest { batch: batch.unwrap(), ..request(&[value], LONG) }
}

#[test]
fn groups_share_a_batch_with_groups_and_with_plain_queries() {
    for with_plain in [false, true] {
        let gate = Arc::new(Gate::default());
        let script = Script::gated(&gate);
        let engine = single(&script).start();
        let first = submit(&engine, &[0.5]).unwrap();
        gate.await_runs(1);
        // These wait, and run as one batch.
        let mut waiting = vec![
            (submit_request(&engine, shared(0.25, 3)).unwrap(), vec![0.25; 3]),
            (submit_request(&engine, shared(0.75, 2)).unwrap(), vec![0.75; 2]),
        ];
        if with_plain {
            waiting.push((submit(&engine, &[0.1, 0.2]).unwrap(), vec![0.1, 0.2]));
        }
        gate.open();
        assert_eq!(outcome(first).unwrap().scores, [0.5]);
        let samples = if with_plain { 7 } else { 5 };
        for (taken, scores) in waiting {
            let answer = outcome(taken).unwrap();
            assert_eq!((answer.scores, answer.batch_samples), (scores, samples));
        }
    }
}

#[test]
fn a_group_is_split_like_any_query() {
    let mut setup = Setup::new(2, vec![("table@cpu", 0.8, Script::echo())]);
    setup.options.policy = PolicyName::MultiPath;
    setup.per_sample_us = 10.0;
    let engine = setup.start();
    let answer = outcome(submit_request(&engine, shared(0.75, 1_001)).unwrap()).unwrap();
    assert_eq!((answer.scores, answer.batch_samples), (vec![0.75; 1_001], 501));
}

/// A query that is small as it is, and in plain form has nearly as many ids as a batch may have.
fn heavy() -> ScoreRequest {
    let (ids, samples) = (1 << 19, 500);
    let first = Jagged { ids: vec![0; ids], lengths: vec![ids as u32], weights: None };
    let first = shape().from_jagged(vec![0.5], &first).unwrap();
    let others = shape().from_rows(vec![0.5; samples - 1], &vec![0; samples - 1]).unwrap();
    let mut plain = shape().empty();
    plain.merge([&first, &others].into_iter());
    let sharing = Arc::new(Sharing::new(&[true], false));
    let batch = GroupedBatch::of(&plain, sharing, &[samples as u32]).unwrap();
    ScoreRequest { batch, ..request(&[0.5], LONG) }
}

#[test]
fn queries_that_make_no_batch_together_fail_and_the_worker_survives() {
    let gate = Arc::new(Gate::default());
    let engine = single(&Script::gated(&gate)).start();
    let first = submit(&engine, &[0.5]).unwrap();
    gate.await_runs(1);
    let waiting = [0; 2].map(|_| submit_request(&engine, heavy()).unwrap());
    gate.open();
    assert_eq!(outcome(first).unwrap().scores, [0.5]);
    for taken in waiting {
        let refused = outcome(taken).unwrap_err();
        assert!(
            matches!(&refused, Refusal::Failed { message, .. } if message.contains("ids in one batch")),
            "{refused}"
        );
    }
    assert!(engine.stats().paths[0].is_up);
    assert_eq!(outcome(submit(&engine, &[0.75]).unwrap()).unwrap().scores, [0.75]);
}
