//! Batches and bags from nothing to more than any chunk.

use mprec_representations::{BatchShape, Jagged, LayerFormat, Schema, SparseFeature};

use super::{Layers, Runner, Tape};

/// A schema of one dense and one sparse feature.
fn schema() -> Schema {
    let sparse = vec![SparseFeature { name: "s".into(), cardinality: 50 }];
    Schema::new(vec!["d".into()], sparse, Default::default()).unwrap()
}

/// A model of one feature, whose representation is `choice`: see `Tape::representation`.
fn choices(choice: u32) -> [u32; 12] {
    let mut choices = [0; 12];
    choices[5] = choice;
    choices
}

pub(super) fn batches_of_any_size(runner: &Runner) {
    let schema = schema();
    for choice in [0, 4, 5] {
        let program = Tape::new(&choices(choice)).variant(&schema, LayerFormat::F32);
        for form in 0..4 {
            // From small to large and back: memory that grew must not matter.
            let batches = [0, 1, 7, 2049, 64, 0, 3]
                .map(|samples| Tape::new(&[form, 1]).batch(&schema, samples));
            runner.check(&program, &batches, Layers::Floats).unwrap();
        }
    }
}

pub(super) fn bags_of_any_size(runner: &Runner) {
    let schema = schema();
    for choice in 0..6 {
        let program = Tape::new(&choices(choice)).variant(&schema, LayerFormat::F32);
        let batch = |lengths: &[u32], weighted: bool| {
            let count: u32 = lengths.iter().sum();
            let jagged = Jagged {
                ids: (0..i64::from(count)).map(|at| at * 7 % 50).collect(),
                lengths: lengths.to_vec(),
                weights: weighted
                    .then(|| (0..count).map(|at| (at % 5) as f32 * 0.002 - 0.004).collect()),
            };
            let dense = vec![0.1; lengths.len()];
            BatchShape::new(&schema).from_jagged(dense, &jagged).unwrap()
        };
        let batches = [
            batch(&[0, 4000, 2, 1000], true),
            batch(&[0, 0, 0], false),
            batch(&[0], true),
            batch(&[1, 1, 1], true),
            batch(&[3, 0, 0, 1, 0], false),
        ];
        runner.check(&program, &batches, Layers::Floats).unwrap();
    }
}
