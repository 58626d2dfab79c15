//! ONNX Runtime reads tables where they are mapped: a path on it takes no second copy of them.
//!
//! Alone in its process, whose private memory is measured.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use mprec_backends::{Backend as _, OnnxProvider, onnx::OnnxBackend};
use mprec_representations::{
    BatchShape, Bundle, BundleWriter, DlrmSpec, Interaction, RepresentationSpec, ResidentRows,
    Tensor, Weights,
};
use mprec_tests::{fixtures, require, suite};

const DIM: usize = 64;
const ROWS: u64 = 800_000;
/// Bytes of the table.
const TABLE: usize = 4 * DIM * ROWS as usize;

/// Memory of this process that no file backs, in bytes.
fn anonymous() -> usize {
    let rollup = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let line = rollup.lines().find_map(|line| line.strip_prefix("Anonymous:")).unwrap();
    1024 * line.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap()
}

fn write(folder: &Path) {
    let schema = fixtures::schema(&[ROWS]);
    let table = RepresentationSpec::Table { dim: DIM };
    let interaction = Interaction::Dot { itself: false };
    let spec = DlrmSpec::uniform(&schema, &table, interaction, &[8], &[8]);
    let mut weights = Weights::new();
    for tensor in spec.tensors(&schema) {
        let count: usize = tensor.shape.iter().product();
        let values = (0..count).map(|at| (at % 1021) as f32 / 1021.0 - 0.5).collect();
        weights.insert(tensor.name, Tensor::<f32>::new(&tensor.shape, values));
    }
    let mut writer = BundleWriter::create(folder, "m", "1", schema, None).unwrap();
    writer.add("table", &spec, &weights, None).unwrap();
    writer.finish().unwrap();
}

#[test]
fn a_table_on_onnx_runtime_is_not_copied() {
    let library = std::env::var_os("MPREC_ONNX_LIBRARY").map(PathBuf::from);
    let backend = match OnnxBackend::new(library.as_deref(), OnnxProvider::Cpu) {
        Ok(backend) => backend,
        Err(error) => return require::skip("onnx", &error.to_string()),
    };
    let folder = tempfile::tempdir().unwrap();
    write(folder.path());
    let before = anonymous();
    let grown = || anonymous().saturating_sub(before);

    let bundle = Bundle::open(folder.path()).unwrap();
    let program = bundle.program("table").unwrap();
    let mut first = backend.prepare(&program).unwrap();
    let mut second = first.another().unwrap();
    // Ids from all over the table, and so many that most of its pages are read.
    let schema = &bundle.manifest().schema;
    let samples = 4096;
    let ids: Vec<i64> = (0..samples).map(|at| at * 195 % ROWS as i64).collect();
    let dense = vec![0.5; samples as usize * schema.dense().len()];
    let batch = BatchShape::new(schema).from_rows(dense, &ids).unwrap();
    for executable in [&mut first, &mut second] {
        let scores = suite::scores(&mut **executable, &batch);
        let expected = program.interpret(&batch).unwrap();
        for (score, expected) in scores.iter().zip(expected) {
            assert!((score - expected).abs() <= 1e-5, "{score} {expected}");
        }
        assert!(executable.bytes() >= TABLE);
    }
    let mapped = grown();
    assert!(4 * mapped < TABLE, "{mapped} bytes beside a table of {TABLE}");

    // A copy would have been seen.
    let copy = ResidentRows::new().program(&program).unwrap();
    let copied = grown();
    assert!(copied - mapped >= TABLE / 10 * 9, "{copied} bytes after a copy of {TABLE}");
    drop(copy);
    eprintln!("anonymous memory grew by {} KiB for a table of {} KiB", mapped >> 10, TABLE >> 10);
}
