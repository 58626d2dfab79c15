//! What a cache holds, and that its vectors are those that would be computed.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use mprec_backends::{
    Backend, BackendError, CacheStatistics, CpuBackend, Executable, HotId, Level, ReferenceBackend,
};
use mprec_representations::{Batch, BatchShape, LayerFormat, Program, Schema, SparseFeature};
use mprec_tests::suite::Tape;

/// Two features of 300 ids, each with a DHE; the choices say which.
fn dhe(layers: LayerFormat) -> (Schema, Program) {
    let feature = |name: &str| SparseFeature { name: name.into(), cardinality: 300 };
    let sparse = vec![feature("a"), feature("b")];
    let schema = Schema::new(vec!["d".into()], sparse, Default::default()).unwrap();
    // Width 16, dot; for each feature a DHE of 20 hashes and one hidden layer.
    let choices = [0, 0, 4, 9, 0, 1, 20, 1, 0, 4, 9, 0, 1, 20, 1, 0];
    let program = Tape::new(&choices).variant(&schema, layers);
    (schema, program)
}

fn run(executable: &mut dyn Executable, batch: &Batch) -> Vec<f32> {
    let mut scores = vec![f32::NAN; batch.samples()];
    executable.run(batch, &mut scores).unwrap();
    scores
}

fn one_hot(schema: &Schema, ids: &[i64]) -> Batch {
    BatchShape::new(schema).from_rows(vec![0.25; ids.len() / 2], ids).unwrap()
}

#[test]
fn what_was_asked_for_is_not_computed_again() {
    let (schema, program) = dhe(LayerFormat::F32);
    let mut executable = CpuBackend::new().with_cache(1 << 20).prepare(&program).unwrap();
    let ids: Vec<i64> = (0..200).collect();
    let batch = one_hot(&schema, &ids);
    let first = run(&mut *executable, &batch);
    let CacheStatistics { hits, misses, bytes, slots } = executable.cache().unwrap();
    assert_eq!((hits, misses), (0, 200));
    assert!(bytes <= (1 << 20) + 64 && slots * 16 * 4 < bytes && slots > 12_000, "{bytes} {slots}");
    // The vectors are the very ones that were computed, so the scores are the same to the last bit.
    assert_eq!(run(&mut *executable, &batch), first);
    let CacheStatistics { hits, misses, .. } = executable.cache().unwrap();
    assert_eq!((hits, misses), (200, 200));
    let uncached = CpuBackend::new().prepare(&program).unwrap();
    assert!(executable.bytes() >= uncached.bytes() + bytes);
    assert_eq!(uncached.cache(), None);
}

#[test]
fn ids_repeated_in_a_batch_count_once_and_features_do_not_mix() {
    let (schema, program) = dhe(LayerFormat::F32);
    let mut executable = CpuBackend::new().with_cache(1 << 20).prepare(&program).unwrap();
    run(&mut *executable, &one_hot(&schema, &[5, 5, 5, 5, 5, 6]));
    let CacheStatistics { hits, misses, .. } = executable.cache().unwrap();
    assert_eq!((hits, misses), (0, 3), "5 and 6 of one feature are not those of the other");
}

#[test]
fn quantised_layers_give_the_same_bits_with_and_without() {
    let (schema, program) = dhe(LayerFormat::Int8);
    for level in Level::available() {
        let backend = CpuBackend::with_level(level).unwrap();
        let mut plain = backend.prepare(&program).unwrap();
        let mut cached = backend.with_cache(6_000).prepare(&program).unwrap();
        for start in 0..40_i64 {
            let ids: Vec<i64> =
                (0..2 * (1 + start % 9)).map(|at| (at * at * 7 + start) % 300).collect();
            let batch = one_hot(&schema, &ids);
            assert_eq!(run(&mut *cached, &batch), run(&mut *plain, &batch), "{level}");
        }
        let CacheStatistics { hits, misses, .. } = cached.cache().unwrap();
        assert!(hits > 20 && misses > 20, "{hits} hits and {misses} misses");
    }
}

#[test]
fn hot_ids_are_held_from_the_start_in_every_worker() {
    let (schema, program) = dhe(LayerFormat::F32);
    let mut executable = CpuBackend::new().with_cache(64 << 10).prepare(&program).unwrap();
    let hot = |feature, id| HotId { feature, id, count: 1_000 - id };
    let list: Vec<HotId> = (0..150).flat_map(|id| [hot(0, id), hot(1, id)]).collect();
    assert_eq!(executable.remember(&list), 300);
    // Neither another time, nor what is not there.
    assert_eq!(executable.remember(&[hot(0, 3), hot(0, 300), hot(7, 3)]), 0);
    let ids: Vec<i64> = (0..150).flat_map(|id| [id, id]).collect();
    let batch = one_hot(&schema, &ids);
    let mut another = executable.another().unwrap();
    let mut plain = CpuBackend::new().prepare(&program).unwrap();
    let expected = run(&mut *plain, &batch);
    for executable in [&mut executable, &mut another] {
        let got = run(&mut **executable, &batch);
        assert!(got.iter().zip(&expected).all(|(got, expected)| (got - expected).abs() <= 1e-5));
        let CacheStatistics { hits, misses, .. } = executable.cache().unwrap();
        assert_eq!((hits, misses), (300, 0));
    }
    let mut reference = ReferenceBackend.prepare(&program).unwrap();
    assert_eq!((reference.cache(), reference.remember(&list)), (None, 0));
}

#[test]
fn the_first_of_a_list_that_does_not_fit_are_held() {
    let (schema, program) = dhe(LayerFormat::F32);
    let mut executable = CpuBackend::new().with_cache(6_000).prepare(&program).unwrap();
    let slots = executable.cache().unwrap().slots;
    let list: Vec<HotId> = (0..300).map(|id| HotId { feature: 1, id, count: 1 }).collect();
    let held = executable.remember(&list);
    assert!(held > slots / 2 && held <= slots, "{held} of {slots}");
    run(&mut *executable, &one_hot(&schema, &[9, 0, 9, 1, 9, 2]));
    assert_eq!(executable.cache().unwrap().hits, 3);
}

#[test]
fn a_cache_too_small_is_refused_and_a_program_without_dhe_has_none() {
    let (_, program) = dhe(LayerFormat::F32);
    let error = CpuBackend::new().with_cache(100).prepare(&program).unwrap_err();
    assert!(matches!(error, BackendError::CacheTooSmall { bytes: 100, .. }), "{error}");
    let mut tape = Tape::new(&[0; 8]);
    let schema = tape.schema();
    let program = tape.variant(&schema, LayerFormat::F32);
    let executable = CpuBackend::new().with_cache(1 << 20).prepare(&program).unwrap();
    assert_eq!(executable.cache(), None);
}
