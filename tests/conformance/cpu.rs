//! Our own kernels, at every level of instructions that this machine has.

use mprec_backends::{CpuBackend, Level, cpu::DheVectors};
use mprec_representations::{Dlrm, ModelError, Tensor, materialise};
use mprec_tests::suite::{Runner, Tape, Tolerance};

/// Bytes that hold a few vectors of any program of the suite.
const CACHE: usize = 128 << 10;

fn runners() -> Vec<Runner> {
    let runner = |level: Level| Runner {
        name: level.to_string(),
        backend: Box::new(CpuBackend::with_level(level).unwrap()),
        tolerance: Tolerance::OTHER_ORDER,
        programs: 96,
        exceptions: &[],
    };
    // A cached vector was computed among other rows, which only changes the order of sums.
    let cached = |level: Level| Runner {
        name: format!("{level} with a cache"),
        backend: Box::new(CpuBackend::with_level(level).unwrap().with_cache(CACHE)),
        tolerance: Tolerance::OTHER_ORDER,
        programs: 48,
        exceptions: &[],
    };
    let levels = Level::available().into_iter();
    levels.clone().map(runner).chain(levels.map(cached)).collect()
}

mprec_tests::conformance!(runners);

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
            assert!(
                (got - expected).abs() <= Tolerance::OTHER_ORDER.floats,
                "{got}, expected {expected}"
            );
        }
    }
}
