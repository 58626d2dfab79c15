//! Bundles: what is written is what is read, damage is found, and anybody can write one.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop here")]

use std::{fs, path::Path, process::Command};

use mprec_representations::{
    BatchShape, Bundle, BundleError, BundleWriter, Dlrm, DlrmSpec, Interaction, LayerFormat,
    Manifest, Op, Precision, RepresentationSpec, RowFormat, Tensor, bundle::MANIFEST_DIGEST,
    quantize,
};
use mprec_tests::{fixtures, require};
use serde_json::{Value, json};
use tempfile::TempDir;

fn small_bundle() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let schema = fixtures::schema(&[3, 5]);
    let table = RepresentationSpec::Table { dim: 2 };
    let spec = DlrmSpec::uniform(&schema, &table, Interaction::Dot { itself: false }, &[], &[2]);
    let mut writer = BundleWriter::create(&folder, "small", "1", schema.clone(), None).unwrap();
    writer.add("table", &spec, &fixtures::weights(&schema, &spec, 1), None).unwrap();
    writer.finish().unwrap();
    folder
}

/// Opens, verifies and scores: what a server does before it serves.
fn use_bundle(folder: &Path) -> Result<Vec<f32>, BundleError> {
    let bundle = Bundle::open(folder)?;
    bundle.verify()?;
    let shape = BatchShape::new(&bundle.manifest().schema);
    let batch = shape.from_rows(vec![0.5, -1.0], &[2, 4]).unwrap();
    Ok(bundle.program("table")?.interpret(&batch).unwrap())
}

fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut files: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn tensor_file(folder: &Path) -> std::path::PathBuf {
    files(folder).into_iter().find(|path| path.extension().unwrap() == "safetensors").unwrap()
}

/// Edits the manifest as a careless person would, digest included.
fn edit_manifest(folder: &Path, edit: impl FnOnce(&mut Value)) {
    let path = folder.join("manifest.json");
    let mut manifest: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    edit(&mut manifest);
    fs::write(&path, serde_json::to_vec(&manifest).unwrap()).unwrap();
    fs::remove_file(folder.join(MANIFEST_DIGEST)).unwrap();
}

#[test]
fn every_variant_survives_the_disk_and_is_not_copied() {
    let folder = tempfile::tempdir().unwrap();
    let schema = fixtures::schema(&[11, 7, 300]);
    fixtures::write_bundle(folder.path(), &schema).unwrap();
    let bundle = Bundle::open(&folder).unwrap();
    bundle.verify().unwrap();
    let batch =
        BatchShape::new(&schema).from_rows(vec![0.1, 0.2, 0.3, 0.4], &[1, 2, 299, 10, 0, 5]);
    let batch = batch.unwrap();
    for (seed, (name, spec)) in fixtures::architectures(&schema, 4).iter().enumerate() {
        let weights = fixtures::weights(&schema, spec, seed as u64 + 1);
        let in_memory =
            mprec_representations::Dlrm::load(&schema, spec, &weights).unwrap().lower().unwrap();
        let on_disk = bundle.program(name).unwrap();
        assert_eq!(on_disk.interpret(&batch).unwrap(), in_memory.interpret(&batch).unwrap());
        for (name, tensor) in bundle.weights(name).unwrap().iter() {
            assert!(tensor.is_mapped(), "{name} was copied");
        }
    }
}

#[test]
fn an_ensemble_is_the_mean_of_its_members_logits() {
    let folder = tempfile::tempdir().unwrap();
    let schema = fixtures::schema(&[11, 7]);
    fixtures::write_bundle(folder.path(), &schema).unwrap();
    let bundle = Bundle::open(&folder).unwrap();
    let batch = BatchShape::new(&schema).from_rows(vec![0.1, 0.9], &[10, 6]).unwrap();
    let logit = |variant: &str| {
        let program = bundle.program(variant).unwrap();
        program.interpret_all(&batch).unwrap().get(program.logit())[0]
    };
    let expected = (logit("table") + logit("hybrid")) / 2.0;
    assert!((logit("ensemble") - expected).abs() < 1e-6);
    assert_ne!(logit("table"), logit("hybrid"));
}

#[test]
fn a_variant_can_be_replaced_and_its_old_file_goes() {
    let folder = small_bundle();
    let before = use_bundle(folder.path()).unwrap();
    let mut writer = BundleWriter::open(&folder).unwrap();
    let schema = writer.manifest().schema.clone();
    let table = RepresentationSpec::Table { dim: 2 };
    let spec = DlrmSpec::uniform(&schema, &table, Interaction::Dot { itself: false }, &[], &[2]);
    writer.add("table", &spec, &fixtures::weights(&schema, &spec, 2), None).unwrap();
    assert_eq!(use_bundle(folder.path()).unwrap(), before, "the old bundle serves until the end");
    writer.finish().unwrap();
    assert_ne!(use_bundle(folder.path()).unwrap(), before);
    assert_eq!(files(folder.path()).len(), 3);
}

#[test]
fn every_truncation_is_found() {
    let folder = small_bundle();
    for path in files(folder.path()) {
        let whole = fs::read(&path).unwrap();
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            let result = use_bundle(folder.path());
            // The digest's file also names the manifest and ends in a line feed, for people.
            let harmless = path.ends_with(MANIFEST_DIGEST) && length >= 64;
            assert_eq!(result.is_ok(), harmless, "{} at {length}: {result:?}", path.display());
        }
        fs::write(&path, &whole).unwrap();
    }
    use_bundle(folder.path()).unwrap();
}

#[test]
fn ten_thousand_bit_flips_are_found_or_harmless() {
    let folder = small_bundle();
    let expected = use_bundle(folder.path()).unwrap();
    let files: Vec<_> =
        files(folder.path()).into_iter().map(|path| (fs::read(&path).unwrap(), path)).collect();
    let total: usize = files.iter().map(|(content, _)| content.len() * 8).sum();
    let (mut found, mut harmless, mut at) = (0, 0, 0_usize);
    for _ in 0..10_000 {
        // A stride coprime to the total visits bits all over the files before any repeats.
        at = (at + 7_919) % total;
        let mut bit = at;
        let (content, path) = files
            .iter()
            .find(|(content, _)| {
                let here = bit < content.len() * 8;
                if !here {
                    bit -= content.len() * 8;
                }
                here
            })
            .unwrap();
        let mut damaged = content.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        fs::write(path, damaged).unwrap();
        match use_bundle(folder.path()) {
            Ok(scores) => {
                assert_eq!(scores, expected, "bit {bit} of {} changes scores", path.display());
                harmless += 1;
            }
            Err(_) => found += 1,
        }
        fs::write(path, content).unwrap();
    }
    assert!(found > 9_000, "{found} found, {harmless} harmless");
}

#[test]
fn wrong_tensors_are_refused_by_name() {
    let wrong = |edit: fn(&mut Value)| {
        let folder = small_bundle();
        edit_manifest(folder.path(), edit);
        let error = Bundle::open(&folder).unwrap_err();
        assert_eq!(error.tensor(), Some("emb_l.1.weight"), "{error}");
    };
    wrong(|manifest| tensor(manifest)["shape"] = json!([5, 3]));
    wrong(|manifest| tensor(manifest)["dtype"] = json!("I64"));
    wrong(|manifest| tensor(manifest)["shape"] = json!([1_u64 << 63, 1_u64 << 63]));
    wrong(|manifest| {
        manifest["variants"][0]["tensors"].as_object_mut().unwrap().remove("emb_l.1.weight");
    });
    fn tensor(manifest: &mut Value) -> &mut Value {
        &mut manifest["variants"][0]["tensors"]["emb_l.1.weight"]
    }
}

#[test]
fn an_architecture_that_the_tensors_do_not_make_is_refused_by_name() {
    for (edit, tensor) in [
        (json!({"representation": "table", "dim": 3}), Some("emb_l.1.weight")),
        (json!({"representation": "table", "dim": 1_u64 << 63}), None),
        (json!({"representation": "hash", "dim": 2, "rows": 4}), Some("emb_l.1.weight")),
        (json!({"representation": "hash", "dim": 2, "rows": 0}), Some("emb_l.1.weight")),
        (
            json!({"representation": "dhe", "hashes": 1_u64 << 63, "hidden": [], "dim": 2}),
            Some("emb_l.1.weight"),
        ),
        (json!({"representation": "clustered", "hashes": 2, "centroids": 0, "dim": 2}), None),
        (
            json!({"representation": "clustered", "hashes": 2, "centroids": 1_u64 << 63, "dim": 2}),
            None,
        ),
        (
            json!({"representation": "clustered", "hashes": 2, "centroids": 3, "dim": 2}),
            Some("emb_l.1.weight"),
        ),
    ] {
        let folder = small_bundle();
        edit_manifest(folder.path(), |manifest| {
            manifest["variants"][0]["architecture"]["features"][1] = edit.clone();
        });
        let error = Bundle::open(&folder).unwrap().program("table").unwrap_err();
        assert!(matches!(error, BundleError::Model { .. }), "{edit}: {error}");
        assert_eq!(error.tensor(), tensor, "{edit}: {error:?}");
    }
}

#[test]
fn other_impossible_manifests_are_refused() {
    let refuse = |edit: fn(&mut Value), expected: &str| {
        let folder = small_bundle();
        edit_manifest(folder.path(), edit);
        let error = Bundle::open(&folder).unwrap_err();
        let mut text = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(error) = cause {
            text += &format!(": {error}");
            cause = error.source();
        }
        assert!(text.contains(expected), "{text}");
    };
    refuse(|manifest| manifest["format"] = json!(2), "format 2 is not supported");
    refuse(|manifest| manifest["colour"] = json!("red"), "unknown field `colour`");
    refuse(|manifest| manifest["version"] = json!("1/../2"), "digits");
    refuse(
        |manifest| manifest["schema"]["sparse"][0]["cardinality"] = json!(u64::MAX),
        "cardinality",
    );
    refuse(|manifest| manifest["variants"][0]["file"] = json!("../x.safetensors"), "own folder");
    refuse(|manifest| manifest["variants"][0]["bytes"] = json!(1), "the manifest says 1");
    refuse(|manifest| manifest["variants"] = json!([]), "0 variants");
}

#[test]
fn quantised_variants_survive_the_disk_and_score_nearly_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let schema = fixtures::schema(&[11, 7, 300]);
    let mut writer = BundleWriter::create(&folder, "small", "1", schema.clone(), None).unwrap();
    let batch =
        BatchShape::new(&schema).from_rows(vec![0.1, 0.2, 0.3, 0.4], &[1, 2, 299, 10, 0, 5]);
    let batch = batch.unwrap();
    let mut expected = Vec::new();
    for (seed, (name, spec)) in fixtures::architectures(&schema, 4).iter().enumerate() {
        let weights = fixtures::weights(&schema, spec, seed as u64 + 1);
        let full = Dlrm::load(&schema, spec, &weights).unwrap().lower().unwrap();
        let full = full.interpret(&batch).unwrap();
        for (rows, layers) in [
            (RowFormat::F16, LayerFormat::F32),
            (RowFormat::BF16, LayerFormat::BF16),
            (RowFormat::Int8, LayerFormat::F32),
            (RowFormat::Int4, LayerFormat::F32),
            (RowFormat::F32, LayerFormat::Int8),
            (RowFormat::Int8, LayerFormat::Int8),
        ] {
            let precision = Precision { rows, layers };
            let (spec, weights) = quantize(&schema, spec, &weights, precision).unwrap();
            let name = format!("{name}-{}-{}", rows.name(), layers.name());
            writer.add(&name, &spec, &weights, None).unwrap();
            let program = Dlrm::load(&schema, &spec, &weights).unwrap().lower().unwrap();
            expected.push((name, program.interpret(&batch).unwrap(), full.clone()));
            assert!(quantize(&schema, &spec, &weights, precision).is_err(), "quantised twice");
        }
    }
    writer.finish().unwrap();
    let bundle = Bundle::open(&folder).unwrap();
    bundle.verify().unwrap();
    for (name, expected, full) in expected {
        let got = bundle.program(&name).unwrap().interpret(&batch).unwrap();
        assert_eq!(got, expected, "{name}");
        for (got, full) in got.iter().zip(full) {
            assert!((got - full).abs() < 0.02, "{name}: {got}, in full precision {full}");
        }
    }
}

#[test]
fn nan_parameters_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let schema = fixtures::schema(&[3, 5]);
    let (_, spec) = fixtures::architectures(&schema, 4).remove(0);
    let mut weights = fixtures::weights(&schema, &spec, 1);
    let mut rows = vec![0.0; 12];
    rows[7] = f32::NAN;
    weights.insert("emb_l.0.weight", Tensor::new(&[3, 4], rows));
    let mut writer = BundleWriter::create(&folder, "nan", "1", schema, None).unwrap();
    writer.add("table", &spec, &weights, None).unwrap();
    writer.finish().unwrap();
    let error = Bundle::open(&folder).unwrap().verify().unwrap_err();
    assert!(
        matches!(&error, BundleError::NotFinite { tensor, at: 7, .. } if tensor == "emb_l.0.weight")
    );
}

#[test]
fn a_quantised_row_without_a_finite_scale_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let schema = fixtures::schema(&[3, 5]);
    let (_, spec) = fixtures::architectures(&schema, 4).remove(0);
    let weights = fixtures::weights(&schema, &spec, 1);
    let precision = Precision { rows: RowFormat::Int8, layers: LayerFormat::F32 };
    let (spec, mut weights) = quantize(&schema, &spec, &weights, precision).unwrap();
    // Three rows of 4 codes, scale and bias; the second row's scale becomes infinite.
    let mut rows = weights.get("emb_l.0.weight").unwrap().as_bytes().to_vec();
    rows[12..14].copy_from_slice(&[0x00, 0x7c]);
    weights.insert("emb_l.0.weight", Tensor::new(&[3, 8], rows));
    let mut writer = BundleWriter::create(&folder, "inf", "1", schema, None).unwrap();
    writer.add("table", &spec, &weights, None).unwrap();
    writer.finish().unwrap();
    let error = Bundle::open(&folder).unwrap().verify().unwrap_err();
    assert!(
        matches!(&error, BundleError::NotFinite { tensor, at: 12, .. } if tensor == "emb_l.0.weight"),
        "{error}"
    );
}

#[test]
fn a_header_of_hostile_size_is_refused() {
    let folder = small_bundle();
    let path = tensor_file(folder.path());
    let mut content = fs::read(&path).unwrap();
    for length in [u64::MAX, 1 << 63, 1 << 40, content.len() as u64] {
        content[..8].copy_from_slice(&length.to_le_bytes());
        fs::write(&path, &content).unwrap();
        let error = Bundle::open(&folder).unwrap_err();
        assert!(matches!(error, BundleError::Header { .. }), "{error}");
    }
}

/// Python with safetensors and numpy, or nothing and a line that says so.
fn python() -> Option<String> {
    let python = std::env::var("MPREC_PYTHON").unwrap_or_else(|_| "python3".into());
    let has_package = Command::new(&python).args(["-c", "import numpy, safetensors"]).output();
    if !has_package.is_ok_and(|output| output.status.success()) {
        require::skip(
            "python",
            "`pip install safetensors numpy` and set MPREC_PYTHON to test this",
        );
        return None;
    }
    Some(python)
}

/// Vectors of ids 0 to 299 of feature 2 of a `clustered` variant, one a line.
const NEAREST: &str = "
import sys, numpy
from safetensors.numpy import load_file
tensors = load_file(sys.argv[1])
a, b, p, m = tensors['dhe_l.hash_params.2'].T
ids = numpy.arange(300)[:, None]
codes = ((a * ids + b) % p % m).astype('f4') / (m - 1).astype('f4') * 2 - 1
nearest = (codes @ tensors['dhe_l.centroids.2.weight'].T).argmax(axis=1)
for vector in tensors['dhe_l.centroids.2.vectors'][nearest]:
    print(*vector)
";

#[test]
fn python_finds_the_same_centroids() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let schema = fixtures::schema(&[11, 7, 300]);
    fixtures::write_bundle(folder.path(), &schema).unwrap();
    let bundle = Bundle::open(&folder).unwrap();
    let file = bundle.manifest().variant("clustered").unwrap().file.clone().unwrap();
    let path = folder.path().join(file);
    let output = Command::new(&python).args(["-c", NEAREST]).arg(path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let expected: Vec<f32> = text.split_whitespace().map(|x| x.parse().unwrap()).collect();

    let ids: Vec<i64> = (0..300).flat_map(|id| [0, 0, id]).collect();
    let batch = BatchShape::new(&schema).from_rows(vec![0.0; 600], &ids).unwrap();
    let program = bundle.program("clustered").unwrap();
    let values = program.interpret_all(&batch).unwrap();
    let picked = |op: &&Op| matches!(op, Op::PickLargest { .. });
    let last = program.ops().iter().rfind(picked).unwrap();
    assert_eq!(values.get(last.output()), expected);
}

#[test]
fn a_bundle_written_by_python_is_read() {
    let Some(python) = python() else { return };
    // The script is the one that the documentation prints.
    let page = include_str!("../docs/bundle.md");
    let script = page.split("```python\n").nth(1).unwrap().split("```").next().unwrap();
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("write.py"), script).unwrap();
    let output = Command::new(&python)
        .args(["write.py", "bundle"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let bundle = Bundle::open(folder.path().join("bundle")).unwrap();
    bundle.verify().unwrap();
    let Manifest { model, schema, .. } = bundle.manifest();
    assert_eq!(model, "tiny");
    let batch = BatchShape::new(schema).from_rows(vec![1.0], &[2, 1]).unwrap();
    // By hand: bottom relu(1·[0.5, -0.5] + [0, 1]) = [0.5, 0.5]; rows [0.2, 0.4] and [0.1, 0.1];
    // products 0.3, 0.1, 0.06; the top net sums all five inputs: 1.46.
    let expected = 1.0 / (1.0 + (-1.46_f32).exp());
    let score = bundle.program("table").unwrap().interpret(&batch).unwrap()[0];
    assert!((score - expected).abs() < 1e-6, "{score} {expected}");
}
