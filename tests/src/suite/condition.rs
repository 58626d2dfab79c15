//! How much a score says about its backend.
//!
//! Where large terms of a logit cancel (long weighted bags met by a dot), sums in another order differ by more than any
//! fixed bound, and no order is the right one. How far rounding alone moves a score is seen by moving the inputs by about
//! as much: each by one part in 2²², either way.

use mprec_representations::{
    Batch, BatchShape, Jagged, OutOfVocabulary, Program, Schema, SparseFeature,
};

use super::Tape;

/// Of the inputs' relative move: four roundings.
const STEP: f32 = 2.0 * f32::EPSILON;

/// A sum rounds at every term and a program has several: what one move of the inputs shows is a part of it.
const OPERATIONS: f32 = 8.0;

/// How far each score may move by rounding alone, `[samples]`: the largest of a few random moves of the inputs.
pub(super) fn rounding(program: &Program, batch: &Batch) -> Vec<f32> {
    let scores = program.interpret(batch).unwrap();
    let mut tape = Tape::new(&[]);
    let mut largest = vec![0.0_f32; scores.len()];
    for _ in 0..6 {
        let moved = program.interpret(&moved(program, batch, &mut tape)).unwrap();
        for (largest, (moved, score)) in largest.iter_mut().zip(moved.iter().zip(&scores)) {
            *largest = largest.max(OPERATIONS * (moved - score).abs());
        }
    }
    largest
}

/// The batch with every dense value and every weight moved by one step up or down.
fn moved(program: &Program, batch: &Batch, tape: &mut Tape<'_>) -> Batch {
    let mut step =
        |value: f32| value * if tape.random() >> 63 == 0 { 1.0 + STEP } else { 1.0 - STEP };
    let dense = batch.dense().iter().map(|&value| step(value)).collect();
    let mut jagged = Jagged::default();
    let mut weights = Vec::new();
    for feature in 0..batch.features() {
        let bags = batch.bags(feature);
        jagged.ids.extend(bags.ids().iter().map(|&id| id as i64));
        jagged.lengths.extend((0..batch.samples()).map(|bag| bags.range(bag).len() as u32));
        weights.extend(
            (0..bags.ids().len()).map(|at| step(bags.weights().map_or(1.0, |all| all[at]))),
        );
    }
    jagged.weights = Some(weights);
    BatchShape::new(&schema_of(program)).from_jagged(dense, &jagged).unwrap()
}

/// A schema of the program's features: a batch's shape is made of one.
fn schema_of(program: &Program) -> Schema {
    let dense = (0..program.dense_width()).map(|at| format!("d{at}")).collect();
    let sparse = program.bounds().iter().enumerate();
    let sparse = sparse
        .map(|(at, &cardinality)| SparseFeature { name: format!("s{at}"), cardinality })
        .collect();
    Schema::new(dense, sparse, OutOfVocabulary::default()).unwrap()
}

/// A logit of terms that cancel, which a fixed bound cannot hold: the move of its inputs shows it, and a plain sum none.
#[test]
fn scores_of_terms_that_cancel_are_seen() {
    use mprec_representations::{ProgramBuilder, Tensor, op::Activation};
    let schema = crate::fixtures::schema(&[1]);
    let largest = |first: f32| {
        let mut program = ProgramBuilder::new(&schema);
        let weight = Tensor::new(&[1, 2], vec![first, -first + 0.5]);
        let logit = program
            .linear(program.dense(), weight, Tensor::new(&[1], vec![0.0]), Activation::None)
            .unwrap();
        let program = program.finish(logit).unwrap();
        let batch = BatchShape::new(&schema).from_rows(vec![1.0, 1.0], &[0]).unwrap();
        rounding(&program, &batch)[0]
    };
    assert!(largest(1000.0) > 1e-4, "{}", largest(1000.0));
    assert!(largest(0.25) < 2e-6, "{}", largest(0.25));
}
