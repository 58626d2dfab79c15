//! The cpu backend against the interpreter, over programs and batches of every kind.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{Tape, cache_budgets};
use mprec_backends::{
    Backend, BackendError, CpuBackend, Executable, Level, ReferenceBackend, cpu::DheVectors,
};
use mprec_representations::{
    Batch, BatchShape, Dlrm, LayerFormat, ModelError, Program, Schema, SparseFeature, Tensor,
    materialise,
};
use proptest::prelude::*;

/// Stated in the crate's documentation for scores.
const TOLERANCE: f32 = 1e-5;

/// Scores of models with 8-bit layers. A layer alone gives the same bits everywhere. But its inputs come
/// from sums of floats, and where one of them lies between two codes, the last bit decides which
/// of them it becomes: one part in 255 of the row's range.
const INT8_TOLERANCE: f32 = 2e-2;

/// Scores of models with bf16 layers: as for int8, where an input lies between two values of 8 bits.
const BF16_TOLERANCE: f32 = 2e-2;

fn run(executable: &mut dyn Executable, batch: &Batch) -> Vec<f32> {
    let mut scores = vec![f32::NAN; batch.samples()];
    executable.run(batch, &mut scores).unwrap();
    scores
}

fn compare(program: &Program, batches: &[Batch], tolerance: f32) -> Result<(), TestCaseError> {
    for level in Level::available() {
        let backend = CpuBackend::with_level(level).unwrap();
        // One executable for all batches: what an earlier batch left behind must not show.
        let mut executable = backend.prepare(program).unwrap();
        let mut cached =
            cache_budgets(program).map(|bytes| backend.with_cache(bytes).prepare(program).unwrap());
        for batch in batches {
            let expected = program.interpret(batch).unwrap();
            let got = run(&mut *executable, batch);
            for (sample, (got, expected)) in got.iter().zip(&expected).enumerate() {
                let close = (got - expected).abs() <= tolerance;
                prop_assert!(close, "{level}, sample {sample}: {got}, expected {expected}");
            }
            // Where sums do not depend on the other rows, a cached vector has the bits of a computed one.
            // Elsewhere it is as near to the definition.
            for cached in &mut cached {
                for (sample, cached) in run(&mut **cached, batch).into_iter().enumerate() {
                    let (exact, expected) = (got[sample], expected[sample]);
                    let close = match level {
                        Level::Scalar => cached.to_bits() == exact.to_bits(),
                        _ => (cached - expected).abs() <= tolerance,
                    };
                    prop_assert!(close, "{level}, cached, sample {sample}: {cached}, not {exact}");
                }
            }
        }
    }
    Ok(())
}

fn choices() -> impl Strategy<Value = Vec<u32>> {
    prop::collection::vec(any::<u32>(), 0..150)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn every_variant_scores_as_the_interpreter(
        choices in choices(),
        samples in prop_oneof![0..4_usize, 0..40_usize, Just(129), 100..300_usize],
    ) {
        let mut tape = Tape::new(&choices);
        let schema = tape.schema();
        let program = tape.variant(&schema, LayerFormat::F32);
        let batches = [samples, 3, samples].map(|samples| tape.batch(&schema, samples));
        compare(&program, &batches, TOLERANCE)?;
    }

    #[test]
    fn every_variant_with_int8_layers_scores_nearly_as_the_interpreter(
        choices in choices(),
        samples in prop_oneof![0..40_usize, Just(129)],
    ) {
        let mut tape = Tape::new(&choices);
        let schema = tape.schema();
        let program = tape.variant(&schema, LayerFormat::Int8);
        let batches = [samples, 3].map(|samples| tape.batch(&schema, samples));
        compare(&program, &batches, INT8_TOLERANCE)?;
    }

    #[test]
    fn every_variant_with_bf16_layers_scores_nearly_as_the_interpreter(
        choices in choices(),
        samples in prop_oneof![0..40_usize, Just(129)],
    ) {
        let mut tape = Tape::new(&choices);
        let schema = tape.schema();
        let program = tape.variant(&schema, LayerFormat::BF16);
        let batches = [samples, 3].map(|samples| tape.batch(&schema, samples));
        compare(&program, &batches, BF16_TOLERANCE)?;
    }

    #[test]
    fn tangled_programs_score_as_the_interpreter(
        choices in choices(),
        samples in prop_oneof![0..4_usize, Just(130)],
    ) {
        let mut tape = Tape::new(&choices);
        let schema = tape.schema();
        let program = tape.tangle(&schema);
        let batches = [samples, 3].map(|samples| tape.batch(&schema, samples));
        compare(&program, &batches, TOLERANCE)?;
    }
}

#[test]
fn a_bag_larger_than_any_chunk_is_summed_whole() {
    let sparse = vec![SparseFeature { name: "s".into(), cardinality: 50 }];
    let schema = Schema::new(vec!["d".into()], sparse, Default::default()).unwrap();
    for choice in 0..6 {
        // The sixth choice is the representation of the only feature.
        let mut choices = [0; 12];
        choices[5] = choice;
        let mut tape = Tape::new(&choices);
        let program = tape.variant(&schema, LayerFormat::F32);
        let jagged = mprec_representations::Jagged {
            ids: (0..5002).map(|at| at * 7 % 50).collect(),
            lengths: vec![0, 4000, 2, 1000],
            weights: Some((0..5002).map(|at| (at % 5) as f32 * 0.002 - 0.004).collect()),
        };
        let batch = BatchShape::new(&schema).from_jagged(vec![0.1; 4], &jagged).unwrap();
        compare(&program, &[batch], TOLERANCE).unwrap();
    }
}

#[test]
fn the_reference_backend_is_the_interpreter() {
    let mut tape = Tape::new(&[3, 1, 4, 1, 5, 9, 2, 6]);
    let schema = tape.schema();
    let program = tape.variant(&schema, LayerFormat::F32);
    let batch = tape.batch(&schema, 7);
    let mut executable = ReferenceBackend.prepare(&program).unwrap();
    assert_eq!(run(&mut *executable, &batch), program.interpret(&batch).unwrap());
}

#[test]
fn wrong_batches_and_scores_are_refused_untouched() {
    let mut tape = Tape::new(&[2, 3]);
    let schema = tape.schema();
    let program = tape.variant(&schema, LayerFormat::F32);
    let batch = tape.batch(&schema, 2);
    let other = Schema::criteo(&[5; 26]).unwrap();
    let foreign = BatchShape::new(&other).from_rows(vec![0.0; 26], &[0; 52]).unwrap();
    for backend in [&CpuBackend::new() as &dyn Backend, &ReferenceBackend] {
        let mut executable = backend.prepare(&program).unwrap();
        let mut scores = [9.0; 3];
        let error = executable.run(&batch, &mut scores).unwrap_err();
        assert!(matches!(error, BackendError::Scores { got: 3, samples: 2 }), "{error}");
        let error = executable.run(&foreign, &mut scores[..2]).unwrap_err();
        assert!(matches!(error, BackendError::Program(_)), "{error}");
        assert_eq!(scores, [9.0; 3]);
    }
}

#[test]
fn another_executable_scores_the_same_on_another_thread() {
    let mut tape = Tape::new(&[5, 4, 3, 2, 1, 4, 4, 4, 4, 4, 4]);
    let schema = tape.schema();
    let program = tape.variant(&schema, LayerFormat::F32);
    let batch = tape.batch(&schema, 33);
    let mut first = CpuBackend::new().prepare(&program).unwrap();
    let mut second = first.another().unwrap();
    assert_eq!(first.bytes(), second.bytes());
    let here = run(&mut *first, &batch);
    drop((first, program));
    let there =
        std::thread::scope(|scope| scope.spawn(|| run(&mut *second, &batch)).join().unwrap());
    assert_eq!(here, there);
}

#[test]
fn materialised_rows_are_what_the_dhe_computes() {
    for seed in 0..20_u32 {
        let choices: Vec<u32> = (0..80).map(|at| (at * 29 + 5) ^ (seed * 17 + at / 3)).collect();
        let mut tape = Tape::new(&choices);
        let schema = tape.schema();
        let (spec, weights) = tape.parameters(&schema);
        let program = Dlrm::load(&schema, &spec, &weights).unwrap().lower().unwrap();
        let vectors = DheVectors::new(&program, &schema).unwrap();
        let rows = materialise(&schema, &spec, &weights, |feature| {
            let (ids, dim) = (schema.sparse()[feature].cardinality, vectors.dim(feature).unwrap());
            let mut rows = vec![f32::NAN; ids as usize * dim];
            vectors.compute(feature, 0, &mut rows, |_| ()).unwrap();
            // Any part alone gives the same vectors, to the rounding of sums.
            let mut last = vec![f32::NAN; dim];
            vectors.compute(feature, ids - 1, &mut last, |_| ()).unwrap();
            let end = &rows[(ids as usize - 1) * dim..];
            assert!(last.iter().zip(end).all(|(got, row)| (got - row).abs() < 1e-4));
            Ok::<_, ModelError>(Tensor::new(&[ids as usize, dim], rows))
        });
        let dhe = (0..schema.sparse().len()).any(|feature| vectors.dim(feature).is_some());
        assert_eq!(rows.is_ok(), dhe, "refused without a DHE");
        let Ok((spec, rows)) = rows else { continue };
        let materialised = Dlrm::load(&schema, &spec, &rows).unwrap().lower().unwrap();
        let batch = tape.batch(&schema, 50);
        let expected = program.interpret(&batch).unwrap();
        let got = materialised.interpret(&batch).unwrap();
        for (got, expected) in got.iter().zip(expected) {
            assert!((got - expected).abs() <= TOLERANCE, "{got}, expected {expected}");
        }
    }
}
