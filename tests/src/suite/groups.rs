//! Samples in groups that share features, which score as their plain form.

use std::sync::Arc;

use mprec_backends::BackendError;
use mprec_representations::{GroupedBatch, LayerFormat, Program, Schema, Sharing};
use proptest::prelude::*;

use super::{Layers, Runner, Tape, variants::random};
use crate::fixtures;

/// `samples` samples in groups, some of them larger than what a backend runs at once. What they share, and with that
/// every value, is up to the tape.
pub fn grouped(tape: &mut Tape<'_>, schema: &Schema, samples: usize) -> GroupedBatch {
    let sparse: Vec<bool> = schema.sparse().iter().map(|_| tape.choose(3) > 0).collect();
    let sharing = Arc::new(Sharing::new(&sparse, tape.choose(2) == 1));
    let most = tape.pick(&[1, 5, 130, usize::MAX]);
    let (mut lengths, mut left) = (Vec::new(), samples);
    while left > 0 {
        let length = (1 + tape.random() as usize % most).min(left);
        lengths.push(length as u32);
        left -= length;
    }
    GroupedBatch::of(&tape.batch(schema, samples), sharing, &lengths).unwrap()
}

pub(super) fn groups_score_as_their_plain_form(runner: &Runner) {
    let check = |program: &Program, tape: &mut Tape<'_>, schema: &Schema, samples, layers| {
        let mut executable = runner.prepare(program);
        for samples in [samples, 3, samples] {
            let batch = grouped(tape, schema, samples);
            let mut got = vec![f32::MAX; samples];
            executable.run_grouped(&batch, &mut got).unwrap();
            runner.compare(program, &batch.expanded(), &got, runner.tolerance_of(layers))?;
        }
        Ok(())
    };
    let samples = || prop_oneof![0..40_usize, Just(129), 100..400_usize];
    for (format, layers) in [(LayerFormat::F32, Layers::Floats), (LayerFormat::Int8, Layers::Codes)]
    {
        random(runner, samples(), |tape, samples| {
            let schema = tape.schema();
            let program = tape.variant(&schema, format);
            check(&program, tape, &schema, samples, layers)
        });
    }
    random(runner, samples(), |tape, samples| {
        let schema = tape.schema();
        let program = tape.tangle(&schema);
        check(&program, tape, &schema, samples, Layers::Floats)
    });
}

pub(super) fn wrong_groups_are_refused(runner: &Runner) {
    let schema = fixtures::schema(&[5, 6]);
    let program = Tape::new(&[1, 2, 3]).variant(&schema, LayerFormat::F32);
    let mut executable = runner.prepare(&program);
    let batch = |cardinalities: &[u64]| {
        let schema = fixtures::schema(cardinalities);
        let plain = Tape::new(&[]).batch(&schema, 4);
        let mut shared = vec![false; cardinalities.len()];
        shared[0] = true;
        GroupedBatch::of(&plain, Arc::new(Sharing::new(&shared, true)), &[1, 3]).unwrap()
    };
    let mut scores = [7.0; 4];
    for other in [&[5][..], &[5, 7], &[5, 6, 7]] {
        let result = executable.run_grouped(&batch(other), &mut scores);
        assert!(matches!(result, Err(BackendError::Program(_))), "{}: {result:?}", runner.name);
    }
    let result = executable.run_grouped(&batch(&[5, 6]), &mut scores[..3]);
    assert!(matches!(result, Err(BackendError::Scores { got: 3, samples: 4 })), "{result:?}");
    assert_eq!(scores, [7.0; 4]);
    executable.run_grouped(&batch(&[5, 6]), &mut scores).unwrap();
}
