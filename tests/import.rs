//! `mprec import`, end to end: a checkpoint of another project becomes a bundle whose paths score as that project's code.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop here")]

#[expect(dead_code, reason = "this test serves nothing")]
mod served;

use std::{fs, path::Path};

use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::Value;
use served::{json, mprec};

fn data(file: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/import");
    folder.join(file).to_str().unwrap().to_owned()
}

fn case(name: &str) -> Value {
    serde_json::from_slice(&fs::read(data(&format!("{name}.json"))).unwrap()).unwrap()
}

fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value[name].as_array().unwrap()
}

/// The samples of a case as `mprec score` takes them.
fn write_input(path: &Path, case: &Value) {
    let integers = |values: &Value| -> Vec<i64> {
        values.as_array().unwrap().iter().map(|value| value.as_i64().unwrap()).collect()
    };
    let dense: Vec<u8> = list(case, "dense")
        .iter()
        .flat_map(|value| (value.as_f64().unwrap() as f32).to_le_bytes())
        .collect();
    let ids: Vec<Vec<i64>> = list(case, "ids").iter().map(integers).collect();
    let (features, total) = (ids.len(), ids.iter().map(Vec::len).max().unwrap());
    let mut indices = vec![0_i64; features * total];
    for (ids, padded) in ids.iter().zip(indices.chunks_exact_mut(total)) {
        padded[..ids.len()].copy_from_slice(ids);
    }
    let real: Vec<i64> = ids.iter().map(|ids| ids.len() as i64).collect();
    let offsets: Vec<i64> = list(case, "lengths")
        .iter()
        .flat_map(|lengths| {
            let lengths = integers(lengths);
            let start = |at: usize| lengths[..at].iter().sum::<i64>();
            (0..lengths.len()).map(start).collect::<Vec<i64>>()
        })
        .collect();
    let samples = list(case, "scores").len();
    let bytes = |values: &[i64]| -> Vec<u8> {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    };
    let (indices, offsets, real) = (bytes(&indices), bytes(&offsets), bytes(&real));
    let view =
        |dtype, shape: &[usize], bytes| TensorView::new(dtype, shape.to_vec(), bytes).unwrap();
    let views = [
        ("dense", view(Dtype::F32, &[samples, dense.len() / 4 / samples], &dense)),
        ("indices", view(Dtype::I64, &[features, total], &indices)),
        ("offsets", view(Dtype::I64, &[features, samples], &offsets)),
        ("lengths", view(Dtype::I64, &[features], &real)),
    ];
    safetensors::serialize_to_file(views, None, path).unwrap();
}

/// Holds a path to the scores of a case.
fn scores_as_its_code(folder: &Path, bundle: &str, path: &str, name: &str) {
    let case = case(name);
    write_input(&folder.join("input"), &case);
    json(folder, &["score", bundle, "--path", path, "--input", "input", "--output", "scores"]);
    let content = fs::read(folder.join("scores")).unwrap();
    let scores = SafeTensors::deserialize(&content).unwrap();
    let scores = scores.tensor("scores").unwrap().data().chunks_exact(4);
    let expected = list(&case, "scores");
    assert_eq!(scores.len(), expected.len());
    for (score, expected) in scores.zip(expected) {
        let score = f64::from(f32::from_le_bytes(score.try_into().unwrap()));
        let expected = expected.as_f64().unwrap();
        assert!((score - expected).abs() <= 1e-5, "{path}: {score}, not {expected}");
    }
}

fn import(folder: &Path, name: &str, file: &str, out: &str, more: &[&str]) -> Value {
    let (from, arch) = (data(file), data(&format!("{name}.toml")));
    json(folder, &[&["import", "--from", &from, "--arch", &arch, "--out", out], more].concat())
}

#[test]
fn checkpoints_become_paths_that_score_as_their_code() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let table = import(folder, "dlrm-dot", "dlrm-dot.pt", "model", &["--model", "clicks"]);
    assert_eq!(table["variant"], "table");
    assert_eq!(table["layout"], "facebookresearch/dlrm");
    assert_eq!((&table["interaction"], &table["quality"]), (&"dot".into(), &Value::Null));
    // One more variant for the same features, under a name of its own.
    let hybrid = import(folder, "mprec-hybrid", "mprec-hybrid.pt", "model", &["--variant", "both"]);
    assert_eq!((&hybrid["variant"], &hybrid["representation"]), (&"both".into(), &"hybrid".into()));
    let inspected = json(folder, &["inspect", "model", "--verify"]);
    assert_eq!((&inspected["model"], &inspected["verified"]), (&"clicks".into(), &true.into()));
    assert_eq!(list(&inspected, "variants").len(), 2);
    scores_as_its_code(folder, "model", "table@cpu", "dlrm-dot");
    scores_as_its_code(folder, "model", "both@cpu", "mprec-hybrid");

    let crossed = import(folder, "torchrec-dcn", "torchrec-dcn.pt", "dcn", &[]);
    assert_eq!(
        (&crossed["layout"], &crossed["interaction"]),
        (&"torchrec".into(), &"cross".into())
    );
    scores_as_its_code(folder, "dcn", "table@cpu", "torchrec-dcn");
    scores_as_its_code(folder, "dcn", "table@reference", "torchrec-dcn");
}

#[test]
fn the_text_says_that_quality_is_unknown() {
    let folder = tempfile::tempdir().unwrap();
    let (from, arch) = (data("torchrec-dot.safetensors"), data("torchrec-dot.toml"));
    let output =
        mprec(folder.path(), &["import", "--from", &from, "--arch", &arch, "--out", "model"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("quality is UNKNOWN: measure it with `mprec eval model"), "{text}");
}

#[test]
fn what_is_refused_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (dot, arch) = (data("dlrm-dot.pt"), data("dlrm-dot.toml"));
    let refused = |from: &str, arch: &str, more: &[&str], part: &str| {
        let arguments = ["import", "--from", from, "--arch", arch, "--out", "model"];
        let output = mprec(folder, &[&arguments, more].concat());
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains(part) && stderr.lines().count() == 1, "{part}: {stderr}");
    };
    refused(&dot, "kaggle", &[], "3 tables and 0 DHEs for 26 sparse features");
    refused(&dot, "none.toml", &[], "none.toml");
    refused("none.pt", &arch, &[], "none.pt");
    refused(&arch, &arch, &[], "no known format");
    refused(&dot, &arch, &["--variant", "A b"], "--variant A b");
    refused(&dot, &arch, &["--model", "../x"], "--model ../x");
    fs::write(folder.join("bad.toml"), "dense = 3\nrank = 1\nsparse = []").unwrap();
    refused(&dot, "bad.toml", &[], "rank");
    let mut damaged = fs::read(&dot).unwrap();
    // The first byte of the last tensor: behind its name and the padding to 64 bytes.
    let position = damaged.windows(8).position(|window| window == b"/data/10").unwrap();
    let start = position + damaged[position..].windows(2).position(|two| two == b"ZZ").unwrap();
    let first = start + damaged[start..].iter().position(|&byte| byte != b'Z').unwrap();
    damaged[first] ^= 1;
    fs::write(folder.join("damaged.pt"), damaged).unwrap();
    refused("damaged.pt", &arch, &[], "does not match its checksum");
    assert!(!folder.join("model").exists());

    import(folder, "dlrm-dot", "dlrm-dot.pt", "model", &[]);
    let before = fs::read(folder.join("model/manifest.json")).unwrap();
    refused(&dot, &arch, &[], "has a variant `table` already");
    refused(&data("qr-mult.pt"), &data("qr-mult.toml"), &[], "has other features");
    assert_eq!(fs::read(folder.join("model/manifest.json")).unwrap(), before);
}
