//! The interpreter, which defines every operation, against vectors made by PyTorch.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop here")]

use std::{collections::BTreeSet, fs, path::Path};

use mprec_representations::{
    BatchShape, Dlrm, DlrmSpec, Jagged, Op, Schema, Tensor, Weights, dhe::fold_batch_norm,
};
use safetensors::{Dtype, SafeTensors};

const TOLERANCE: f32 = 1e-5;

#[derive(serde::Deserialize)]
struct Case {
    schema: Schema,
    architecture: DlrmSpec,
}

fn floats(tensors: &SafeTensors<'_>, name: &str) -> Vec<f32> {
    let data = tensors.tensor(name).unwrap().data();
    data.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect()
}

fn integers(tensors: &SafeTensors<'_>, name: &str) -> Vec<i64> {
    let data = tensors.tensor(name).unwrap().data();
    data.chunks_exact(8).map(|bytes| i64::from_le_bytes(bytes.try_into().unwrap())).collect()
}

fn parameters(tensors: &SafeTensors<'_>) -> Weights {
    let mut weights = Weights::new();
    for (name, view) in tensors.tensors() {
        let shape = view.shape();
        if name.starts_with("input.") || name.starts_with("expected.") {
            continue;
        }
        if let Some(feature) =
            name.strip_prefix("batch_norm.").and_then(|rest| rest.strip_suffix(".gamma"))
        {
            let part = |part: &str| floats(tensors, &format!("batch_norm.{feature}.{part}"));
            let [gamma, beta, mean, variance] = ["gamma", "beta", "mean", "variance"].map(part);
            let (scale, shift) = fold_batch_norm(&gamma, &beta, &mean, &variance, 1e-5);
            weights.insert(format!("dhe_l.dhe_norms.{feature}.scale"), scale);
            weights.insert(format!("dhe_l.dhe_norms.{feature}.shift"), shift);
        } else if name.starts_with("batch_norm.") {
            continue;
        } else if view.dtype() == Dtype::I64 {
            weights.insert(&name, Tensor::new(shape, integers(tensors, &name)));
        } else {
            weights.insert(&name, Tensor::new(shape, floats(tensors, &name)));
        }
    }
    weights
}

fn assert_close(what: &str, got: &[f32], expected: &[f32]) {
    assert_eq!(got.len(), expected.len(), "{what}");
    for (at, (got, expected)) in got.iter().zip(expected).enumerate() {
        let bound = TOLERANCE * expected.abs().max(1.0);
        assert!((got - expected).abs() <= bound, "{what}, value {at}: {got} is not {expected}");
    }
}

#[test]
fn every_representation_matches_pytorch() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    let mut seen = BTreeSet::new();
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let case: Case = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let content = fs::read(path.with_extension("safetensors")).unwrap();
        let tensors = SafeTensors::deserialize(&content).unwrap();
        let program = Dlrm::load(&case.schema, &case.architecture, &parameters(&tensors))
            .unwrap_or_else(|error| panic!("{name}: {error}"))
            .lower()
            .unwrap();
        let jagged = Jagged {
            ids: integers(&tensors, "input.ids"),
            lengths: integers(&tensors, "input.lengths")
                .iter()
                .map(|&length| length as u32)
                .collect(),
            weights: tensors
                .tensor("input.weights")
                .ok()
                .map(|_| floats(&tensors, "input.weights")),
        };
        let batch = BatchShape::new(&case.schema)
            .from_jagged(floats(&tensors, "input.dense"), &jagged)
            .unwrap();
        let values = program.interpret_all(&batch).unwrap();
        let interaction =
            program.ops().iter().find(|op| matches!(op, Op::Interact { .. })).unwrap().output();
        assert_close(
            &format!("{name}, interaction"),
            values.get(interaction),
            &floats(&tensors, "expected.interaction"),
        );
        assert_close(
            &format!("{name}, scores"),
            values.get(program.score()),
            &floats(&tensors, "expected.scores"),
        );
        seen.insert(name);
    }
    assert_eq!(seen.len(), 27, "cases are missing: {seen:?}");
}
