//! Models written as ONNX files are what others take for ONNX, and score alike there.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod third_party;

use std::{
    collections::BTreeMap,
    io::Write as _,
    process::{Command, Stdio},
};

use mprec_backends::onnx::{ExportError, Form, write_model};
use mprec_representations::{
    Batch, Dlrm, LayerFormat, Precision, Program, RowFormat, Schema, quantize,
};
use mprec_tests::{
    fixtures, require,
    suite::{Tape, Tolerance},
};
use serde_json::{Value, json};

fn names(schema: &Schema) -> Vec<String> {
    schema.sparse().iter().map(|feature| feature.name.clone()).collect()
}

/// The inputs of a model, as `run.py` takes them.
fn inputs(batch: &Batch, schema: &Schema, form: Form) -> Value {
    let samples = batch.samples();
    let mut inputs = serde_json::Map::new();
    let shape = [samples, batch.dense_width()];
    inputs.insert("dense".into(), json!(["float32", shape, batch.dense()]));
    for (feature, name) in names(schema).iter().enumerate() {
        let bags = batch.bags(feature);
        let count = bags.ids().len();
        match form {
            Form::OneHot => {
                inputs.insert(format!("ids.{name}"), json!(["int64", [samples, 1], bags.ids()]));
            }
            Form::Bags => {
                let of_sample = |bag| vec![bag; bags.range(bag).len()];
                let owners: Vec<usize> = (0..samples).flat_map(of_sample).collect();
                let weights = bags.weights().map_or(vec![1.0; count], <[f32]>::to_vec);
                inputs.insert(format!("ids.{name}"), json!(["int64", [count], bags.ids()]));
                inputs.insert(format!("bags.{name}"), json!(["int64", [count], owners]));
                inputs.insert(format!("weights.{name}"), json!(["float32", [count], weights]));
            }
        }
    }
    Value::Object(inputs)
}

/// Every architecture of the fixtures, in full precision and in 8 and 4 bits.
fn programs(schema: &Schema) -> Vec<(String, Program, f32)> {
    let mut programs = Vec::new();
    for (name, spec) in fixtures::architectures(schema, 4) {
        let weights = fixtures::weights(schema, &spec, 3);
        for (rows, layers, tolerance) in [
            (RowFormat::F32, LayerFormat::F32, Tolerance::OTHER_ORDER.floats),
            (RowFormat::F16, LayerFormat::BF16, Tolerance::OTHER_ORDER.codes),
            (RowFormat::Int8, LayerFormat::Int8, Tolerance::OTHER_ORDER.codes),
            (RowFormat::Int4, LayerFormat::F32, Tolerance::OTHER_ORDER.floats),
        ] {
            let precision = Precision { rows, layers };
            let (spec, weights) = quantize(schema, &spec, &weights, precision).unwrap();
            let program = Dlrm::load(schema, &spec, &weights).unwrap().lower().unwrap();
            let name = format!("{name}-{}-{}", rows.name(), layers.name());
            programs.push((name, program, tolerance));
        }
    }
    programs
}

#[test]
fn python_checks_and_runs_what_was_written() {
    let python = std::env::var("MPREC_PYTHON").unwrap_or_else(|_| "python3".into());
    let has = Command::new(&python).args(["-c", "import numpy, onnx, onnxruntime"]).output();
    if !has.is_ok_and(|output| output.status.success()) {
        let what = "`pip install numpy onnx onnxruntime` and set MPREC_PYTHON to test this";
        return require::skip("onnx", what);
    }
    let schema = fixtures::schema(&[60, 1000, 5]);
    let folder = tempfile::tempdir().unwrap();
    let (mut asked, mut expected) = (serde_json::Map::new(), BTreeMap::new());
    for (name, program, tolerance) in programs(&schema) {
        for (form, choice) in [(Form::OneHot, 0), (Form::Bags, 2)] {
            // With no room within the model, its large parameters go to the file beside it.
            for max_inline in [0, 1 << 20] {
                let path = folder.path().join(format!("{name}-{form:?}-{max_inline}.onnx"));
                let batch = Tape::new(&[choice, 1]).batch(&schema, 17);
                let written =
                    write_model(&program, form, &names(&schema), &path, max_inline).unwrap();
                assert_eq!(written.data.is_some(), max_inline == 0);
                let on_disk = |path| std::fs::metadata(path).map_or(0, |file| file.len());
                let bytes = on_disk(path.clone()) + written.data.map_or(0, on_disk);
                assert_eq!(written.bytes, bytes);
                let path = path.to_str().unwrap().to_owned();
                asked.insert(path.clone(), inputs(&batch, &schema, form));
                expected.insert(path, (program.interpret(&batch).unwrap(), tolerance));
            }
        }
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/onnx_file/run.py");
    let mut child = Command::new(&python)
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let text = serde_json::to_vec(&asked).unwrap();
    child.stdin.take().unwrap().write_all(&text).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "the checker or the runtime refused; see above");
    let answered: BTreeMap<String, Vec<f32>> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answered.len(), 7 * 4 * 2 * 2);
    for (path, (expected, tolerance)) in expected {
        assert_eq!(answered[&path].len(), expected.len(), "{path}");
        for (got, expected) in answered[&path].iter().zip(expected) {
            assert!((got - expected).abs() <= tolerance, "{path}: {got}, expected {expected}");
        }
    }
}

#[test]
fn what_cannot_be_written_says_which_file() {
    let schema = fixtures::schema(&[5]);
    let (_, program, _) = programs(&schema).remove(0);
    let write = |path: &str| write_model(&program, Form::OneHot, &names(&schema), path.as_ref(), 0);
    let error = write("/nonexistent/model.onnx").unwrap_err();
    assert!(matches!(error, ExportError::Write { .. }), "{error}");
    assert!(error.to_string().contains("/nonexistent/model.onnx"), "{error}");
    assert!(matches!(write("..").unwrap_err(), ExportError::Name { .. }));
}
