//! A DLRM that PyTorch wrote, scored like PyTorch.

use std::path::{Path, PathBuf};

use mprec_backends::{BackendError, Executable, OnnxProvider, onnx::OnnxBackend};
use mprec_representations::{Batch, BatchShape, Jagged, Schema, SparseFeature};
use mprec_tests::require;

/// One batch of `cases.json`: bags as PyTorch has them, and its scores.
#[derive(serde::Deserialize)]
struct Case {
    dense: Vec<f32>,
    offsets: Vec<Vec<usize>>,
    indices: Vec<Vec<i64>>,
    scores: Vec<f32>,
}

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data/dlrm_onnx").join(name)
}

fn shape(dense: usize, cardinalities: &[u64]) -> BatchShape {
    let feature = |(at, &cardinality)| SparseFeature { name: format!("f{at}"), cardinality };
    let sparse = cardinalities.iter().enumerate().map(feature).collect();
    let dense = (0..dense).map(|at| format!("d{at}")).collect();
    BatchShape::new(&Schema::new(dense, sparse, Default::default()).unwrap())
}

fn backend() -> Option<OnnxBackend> {
    let library = std::env::var_os("MPREC_ONNX_LIBRARY").map(PathBuf::from);
    OnnxBackend::new(library.as_deref(), OnnxProvider::Cpu)
        .map_err(|error| require::skip("onnx", &error.to_string()))
        .ok()
}

/// PyTorch's bags as lengths and ids.
fn batch(shape: &BatchShape, case: &Case) -> Batch {
    let mut jagged = Jagged::default();
    for (offsets, ids) in case.offsets.iter().zip(&case.indices) {
        let ends = offsets[1..].iter().copied().chain([ids.len()]);
        jagged.lengths.extend(offsets.iter().zip(ends).map(|(from, to)| (to - from) as u32));
        jagged.ids.extend(ids);
    }
    shape.from_jagged(case.dense.clone(), &jagged).unwrap()
}

fn run(executable: &mut dyn Executable, batch: &Batch) -> Vec<f32> {
    let mut scores = vec![f32::NAN; batch.samples()];
    executable.run(batch, &mut scores).unwrap();
    scores
}

fn close(scores: &[f32], expected: &[f32]) {
    assert_eq!(scores.len(), expected.len());
    for (score, expected) in scores.iter().zip(expected) {
        assert!((score - expected).abs() <= 1e-5, "{score} {expected}");
    }
}

const CARDINALITIES: [u64; 4] = [7, 50, 3, 20];

#[test]
fn a_dlrm_that_pytorch_exported_scores_as_in_pytorch() {
    let Some(backend) = backend() else { return };
    let shape = shape(3, &CARDINALITIES);
    let first = backend.open_file(&file("model.onnx"), &shape).unwrap();
    let cases: Vec<Case> =
        serde_json::from_str(&std::fs::read_to_string(file("cases.json")).unwrap()).unwrap();
    assert!(cases.iter().any(|case| case.indices[0].len() != case.scores.len()), "bags");
    for mut executable in [first.another().unwrap(), first] {
        for case in &cases {
            close(&run(&mut *executable, &batch(&shape, case)), &case.scores);
        }
        assert!(executable.bytes() > 4 * 80 * 4);
    }
}

#[test]
fn bags_of_unequal_features_score_as_each_sample_alone() {
    let Some(backend) = backend() else { return };
    let shape = shape(3, &CARDINALITIES);
    let mut executable = backend.open_file(&file("model.onnx"), &shape).unwrap();
    let dense = vec![0.1, 0.5, 0.9, 0.3, 0.2, 0.7];
    // Two samples; their features have 3, 1, 0 and 2 ids together.
    let jagged = Jagged {
        lengths: vec![1, 2, 0, 1, 0, 0, 2, 0],
        ids: vec![6, 1, 2, 49, 3, 19],
        weights: None,
    };
    let together = run(&mut *executable, &shape.from_jagged(dense.clone(), &jagged).unwrap());
    let first = Jagged { lengths: vec![1, 0, 0, 2], ids: vec![6, 3, 19], weights: None };
    let second = Jagged { lengths: vec![2, 1, 0, 0], ids: vec![1, 2, 49], weights: None };
    for (at, jagged) in [first, second].iter().enumerate() {
        let dense = dense[3 * at..][..3].to_vec();
        let alone = run(&mut *executable, &shape.from_jagged(dense, jagged).unwrap());
        close(&together[at..=at], &alone);
    }
    // Other dense values or ids do change a score.
    assert!((together[0] - together[1]).abs() > 1e-4);
}

#[test]
fn weights_are_refused_and_ones_are_none() {
    let Some(backend) = backend() else { return };
    let shape = shape(3, &CARDINALITIES);
    let mut executable = backend.open_file(&file("model.onnx"), &shape).unwrap();
    let batch = |weight: f32| {
        let weights = Some(vec![1.0, weight, 1.0, 1.0]);
        let jagged = Jagged { lengths: vec![1; 4], ids: vec![1, 2, 0, 3], weights };
        shape.from_jagged(vec![0.5; 3], &jagged).unwrap()
    };
    assert!(!executable.takes_weights());
    assert!(run(&mut *executable, &batch(1.0))[0] > 0.0);
    let mut scores = [7.0];
    let error = executable.run(&batch(0.5), &mut scores).unwrap_err();
    assert!(matches!(error, BackendError::Weighted { .. }) && scores == [7.0], "{error}");
}

#[test]
fn a_file_that_is_something_else_says_what() {
    let Some(backend) = backend() else { return };
    let reason = |name: &str, shape: &BatchShape| {
        let error = backend.open_file(&file(name), shape).unwrap_err();
        assert!(matches!(error, BackendError::File { .. }), "{error}");
        error.to_string()
    };
    let right = shape(3, &CARDINALITIES);
    assert!(reason("none.onnx", &right).contains("No such file"));
    assert!(reason("cases.json", &right).contains("cannot be served"));
    let dense = reason("model.onnx", &shape(5, &CARDINALITIES));
    assert!(dense.contains("dense_x") && dense.contains("[-1, 5]"), "{dense}");
    let features = reason("model.onnx", &shape(3, &[7, 50]));
    assert!(features.contains("offsets") && features.contains("[2, -1]"), "{features}");
}
