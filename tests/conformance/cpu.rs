//! Our own kernels, at every level of instructions that this machine has.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use mprec_backends::{Backend as _, CpuBackend, Executable, Level, cpu::DheVectors};
use mprec_representations::{
    Clustering, Dlrm, GroupedBatch, LayerFormat, ModelError, Precision, RepresentationSpec,
    RowFormat, Sharing, Tensor, materialise, quantize,
};
use mprec_tests::{
    fixtures,
    suite::{Runner, Tape, Tolerance, grouped, scores},
};

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
            vectors.compute(feature, 0.., &mut rows, |_| ()).unwrap();
            // Any part alone gives the same vectors, to the rounding of sums.
            let mut last = vec![f32::NAN; dim];
            vectors.compute(feature, [ids - 1], &mut last, |_| ()).unwrap();
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

/// Counts of ids `0..cardinality`, in an order that is not theirs.
fn counts(cardinality: u64) -> Vec<(u32, u64)> {
    (0..cardinality as u32).map(|at| (at * 7 % cardinality as u32, 1 + u64::from(at))).collect()
}

#[test]
fn centroids_for_every_id_give_the_scores_of_the_dhe() {
    let schema = fixtures::schema(&[11, 7, 30]);
    let counts: Vec<_> = [11, 7, 30].map(counts).into();
    for (name, spec) in fixtures::architectures(&schema, 16) {
        let weights = fixtures::weights(&schema, &spec, 5);
        let program = Dlrm::load(&schema, &spec, &weights).unwrap().lower().unwrap();
        let vectors = DheVectors::new(&program, &schema).unwrap();
        let clustered = |centroids, counts: Vec<_>| {
            let clustering = Clustering { centroids, counts };
            let (steps, told) = (clustering.steps(&schema, &spec), AtomicU64::new(0));
            let compute = |feature, ids: &[u64]| {
                let dim = vectors.dim(feature).unwrap();
                let mut rows = vec![f32::NAN; ids.len() * dim];
                vectors.compute(feature, ids.iter().copied(), &mut rows, |_| ()).unwrap();
                Ok::<_, ModelError>(Tensor::new(&[ids.len(), dim], rows))
            };
            let tell = |steps| {
                told.fetch_add(steps, Ordering::Relaxed);
            };
            let result = clustering.apply(&schema, &spec, &weights, compute, &tell);
            assert!(result.is_err() || told.into_inner() == steps, "{name}: {steps}");
            result
        };
        let seen = || counts.iter().map(Vec::as_slice).collect();
        if !spec.features.iter().any(|feature| feature.dhe().is_some()) {
            assert!(clustered(30, seen()).is_err(), "{name} has no DHE");
            continue;
        }
        assert!(clustered(0, seen()).is_err() && clustered(usize::MAX, seen()).is_err());
        let batch = Tape::new(&[2, 2]).batch(&schema, 60);
        let expected = program.interpret(&batch).unwrap();
        let distance = |(spec, weights): &(_, _)| {
            let program = Dlrm::load(&schema, spec, weights).unwrap().lower().unwrap();
            let mut executable = CpuBackend::new().with_cache(CACHE).prepare(&program).unwrap();
            // Twice: then the cache holds vectors.
            scores(&mut *executable, &batch);
            let got = scores(&mut *executable, &batch);
            let off = got.iter().zip(&expected).map(|(got, expected)| (got - expected).abs());
            off.fold(0.0, f32::max)
        };
        let tolerance = Tolerance::OTHER_ORDER.floats;
        // As many as ids: of all that there are, and of all that occur.
        for (centroids, counts) in [(30, Vec::new()), (1000, seen()), (5, seen())] {
            let all = centroids >= 30;
            let off = distance(&clustered(centroids, counts).unwrap());
            assert_eq!(off <= tolerance, all, "{name}, {centroids} centroids: {off}");
        }
        let seen: Vec<&[(u32, u64)]> = counts.iter().map(|counts| &counts[..5]).collect();
        let few = clustered(5, seen).unwrap().0.features[0].clone();
        let RepresentationSpec::Clustered(few) = few else { panic!("{name}: {few:?}") };
        assert_eq!(few.centroids, 5);
    }
}

fn assert_same_bits(executable: &mut dyn Executable, batch: &GroupedBatch, about: &str) {
    let bits = |scores: &[f32]| scores.iter().map(|score| score.to_bits()).collect::<Vec<_>>();
    let plain = scores(executable, &batch.expanded());
    let mut got = vec![f32::MAX; batch.samples()];
    executable.run_grouped(batch, &mut got).unwrap();
    assert_eq!(bits(&got), bits(&plain), "{about}");
}

/// One query, queries that meet in a block, one that fills several, and more than a block has room for.
const GROUPS: [&[u32]; 4] = [&[40], &[20, 100, 30], &[50, 400, 1, 9], &[1; 300]];

#[test]
fn groups_get_the_bits_of_their_plain_form() {
    let schema = fixtures::schema(&[400, 70, 1, 900]);
    let precisions = [
        Precision { rows: RowFormat::F32, layers: LayerFormat::F32 },
        Precision { rows: RowFormat::Int8, layers: LayerFormat::BF16 },
        Precision { rows: RowFormat::Int4, layers: LayerFormat::Int8 },
        Precision { rows: RowFormat::F16, layers: LayerFormat::F32 },
    ];
    for (seed, (name, spec)) in fixtures::architectures(&schema, 16).iter().enumerate() {
        for precision in precisions {
            let weights = fixtures::weights(&schema, spec, seed as u64 + 1);
            let (spec, weights) = quantize(&schema, spec, &weights, precision).unwrap();
            let program = Dlrm::load(&schema, &spec, &weights).unwrap().lower().unwrap();
            for level in Level::available() {
                let backend = CpuBackend::with_level(level).unwrap();
                let mut executable = backend.prepare(&program).unwrap();
                for lengths in GROUPS {
                    let samples = lengths.iter().sum::<u32>() as usize;
                    // A bottom net's rows are fewer, and only layers of 8 bits give each the same bits then.
                    let exact = precision.layers == LayerFormat::Int8 || level == Level::Scalar;
                    for dense in [false, exact] {
                        let sharing = Arc::new(Sharing::new(&[true, false, true, true], dense));
                        let plain = Tape::new(&[]).batch(&schema, samples);
                        let batch = GroupedBatch::of(&plain, sharing, lengths).unwrap();
                        let about = format!("{name}, {precision:?}, {level}, {lengths:?}, {dense}");
                        assert_same_bits(&mut *executable, &batch, &about);
                    }
                }
            }
        }
    }
}

#[test]
fn groups_of_any_bags_get_the_bits_of_their_plain_form_where_rows_do_not_matter() {
    for seed in 0..60_u32 {
        let choices: Vec<u32> = (0..120).map(|at| (at * 29 + 5) ^ (seed * 17 + at / 3)).collect();
        let mut tape = Tape::new(&choices);
        let schema = tape.schema();
        let program = if seed % 2 == 0 {
            tape.variant(&schema, LayerFormat::F32)
        } else {
            tape.tangle(&schema)
        };
        let backend = CpuBackend::with_level(Level::Scalar).unwrap();
        let mut executable = backend.prepare(&program).unwrap();
        for samples in [1, 30, 300] {
            let batch = grouped(&mut tape, &schema, samples);
            assert_same_bits(&mut *executable, &batch, &format!("seed {seed}, {samples}"));
        }
    }
}
