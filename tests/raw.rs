//! Raw rows end to end: prepared, trained on, and scored offline and by a server that has nothing but the bundle.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop here")]

#[expect(unreachable_pub, reason = "shared with a crate, where it is public")]
#[path = "src/require.rs"]
mod require;
#[expect(dead_code, reason = "what other tests of a server need")]
mod served;

use std::{
    collections::HashMap,
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::Path,
    process::Command,
};

use mprec_datasets::{Dataset, Split, Synthetic, SyntheticOptions};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::{Value, json as object};
use served::{json, mprec, post, start};

const NEW_ROWS: usize = 300;

/// Rows in Criteo's form, every third with missing values. None of them is Criteo's.
fn lines(first: u64, end: u64) -> String {
    let mut options = SyntheticOptions::kaggle(end, 1e5, 1, "unused".into());
    options.cardinalities[2] = 3_000;
    let mut text = Vec::new();
    Synthetic::new(&options).unwrap().write_lines(first..end, &mut text).unwrap();
    let with_gaps = |(at, line): (usize, &str)| {
        let mut values: Vec<&str> = line.split('\t').collect();
        if at % 3 == 0 {
            values[1 + at % 13] = "";
            values[14 + at % 26] = "";
        }
        values.join("\t") + "\n"
    };
    std::str::from_utf8(&text).unwrap().lines().enumerate().map(with_gaps).collect()
}

/// The samples of a prepared folder as a file for `mprec score`.
fn write_features(data: &Path, file: &Path) {
    let dataset = Dataset::open(data).unwrap();
    let batch = dataset.batch(dataset.rows(Split::All)).unwrap().batch;
    let (samples, features) = (batch.samples(), batch.features());
    let dense: Vec<u8> = batch.dense().iter().flat_map(|value| value.to_le_bytes()).collect();
    let indices: Vec<u8> = batch.ids().iter().flat_map(|id| id.to_le_bytes()).collect();
    let offsets = (0..features).flat_map(|_| 0..samples as i64).flat_map(i64::to_le_bytes);
    let offsets: Vec<u8> = offsets.collect();
    let view =
        |dtype, shape: [usize; 2], bytes| TensorView::new(dtype, shape.into(), bytes).unwrap();
    let tensors = [
        ("dense", view(Dtype::F32, [samples, batch.dense_width()], &dense)),
        ("indices", view(Dtype::I64, [features, samples], &indices)),
        ("offsets", view(Dtype::I64, [features, samples], &offsets)),
    ];
    safetensors::serialize_to_file(tensors, None, file).unwrap();
}

/// Scores a file offline. Also how many ids were unknown.
fn score(folder: &Path, input: &str, raw: bool) -> (Vec<f32>, u64) {
    let command = ["score", "model", "--path", "table@cpu", "--output", "scores", "--input", input];
    let report = json(folder, &[&command[..], if raw { &["--raw"] } else { &[] }].concat());
    let bytes = fs::read(folder.join("scores")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let (scores, _) = tensors.tensor("scores").unwrap().data().as_chunks::<4>();
    let scores = scores.iter().map(|score| f32::from_le_bytes(*score)).collect();
    (scores, report["unknown_ids"].as_u64().unwrap())
}

/// What stands in raw rows, without labels.
fn values(rows: &[&str]) -> (Vec<String>, Vec<String>) {
    let columns = |first: usize, end: usize| {
        let of_row = |row: &&str| {
            row.split('\t').skip(first).take(end - first).map(str::to_owned).collect::<Vec<_>>()
        };
        rows.iter().flat_map(of_row).collect()
    };
    (columns(1, 14), columns(14, 40))
}

fn in_json(url: &str, rows: &[&str]) -> Vec<f32> {
    let (dense, sparse) = values(rows);
    let body = object!({ "inputs": [
        { "name": "raw_dense", "shape": [rows.len(), 13], "datatype": "BYTES", "data": dense },
        { "name": "raw_sparse", "shape": [rows.len(), 26], "datatype": "BYTES", "data": sparse },
    ]});
    let (status, reply) = post(url, "/v2/models/ctr/infer", &body.to_string());
    assert_eq!(status, 200, "{reply}");
    serde_json::from_value(reply["outputs"][0]["data"].clone()).unwrap()
}

fn in_binary(url: &str, rows: &[&str]) -> Vec<f32> {
    let framed = |values: Vec<String>| -> Vec<u8> {
        let frame =
            |value: &String| [&(value.len() as u32).to_le_bytes(), value.as_bytes()].concat();
        values.iter().flat_map(frame).collect()
    };
    let (dense, sparse) = values(rows);
    let (dense, sparse) = (framed(dense), framed(sparse));
    let document = object!({ "inputs": [
        { "name": "raw_dense", "shape": [rows.len(), 13], "datatype": "BYTES",
          "parameters": { "binary_data_size": dense.len() } },
        { "name": "raw_sparse", "shape": [rows.len(), 26], "datatype": "BYTES",
          "parameters": { "binary_data_size": sparse.len() } },
    ]})
    .to_string();
    let body = [document.as_bytes(), &dense, &sparse].concat();
    let address = url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    write!(
        stream,
        "POST /v2/models/ctr/infer HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {}\r\n\
         inference-header-content-length: {}\r\n\r\n",
        body.len(),
        document.len()
    )
    .unwrap();
    stream.write_all(&body).unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
    let reply: Value = serde_json::from_str(reply.split_once("\r\n\r\n").unwrap().1).unwrap();
    serde_json::from_value(reply["outputs"][0]["data"].clone()).unwrap()
}

fn assert_close(got: &[f32], expected: &[f32], what: &str) {
    assert_eq!(got.len(), expected.len(), "{what}");
    for (row, (got, expected)) in got.iter().zip(expected).enumerate() {
        // A product's sums depend on the size of the batch by less than this.
        assert!((got - expected).abs() <= 1e-6, "{what}, row {row}: {got} for {expected}");
    }
}

/// A bundle whose server takes no raw values, until it is given what that takes.
fn lost_and_found(folder: &Path, expected: &[f32]) {
    let manifest = folder.join("model/manifest.json");
    let mut stated: Value = serde_json::from_slice(&fs::read(&manifest).unwrap()).unwrap();
    stated["preprocessing"].as_object_mut().unwrap().remove("raw").unwrap();
    fs::write(&manifest, stated.to_string()).unwrap();
    fs::remove_file(folder.join("model/manifest.sha256")).unwrap();
    let command = [
        "score",
        "model",
        "--path",
        "table@cpu",
        "--output",
        "scores",
        "--raw",
        "--input",
        "new.txt",
    ];
    let refused = mprec(folder, &command);
    assert_eq!(refused.status.code(), Some(2));
    let message = String::from_utf8(refused.stderr).unwrap();
    assert!(message.contains("mprec data attach"), "{message}");

    let attached = json(folder, &["data", "attach", "data", "--bundle", "model"]);
    assert!(attached["bytes"].as_u64().unwrap() > 1_000, "{attached}");
    assert_eq!(json(folder, &["inspect", "model", "--verify"])["verified"], true);
    assert_eq!(score(folder, "new.txt", true).0, expected);

    // Other data, of which the same id is another value, is not mixed in.
    let prepare = ["data", "prepare", "new.txt", "--out", "other"];
    json(folder, &prepare);
    for command in [
        &["data", "attach", "other", "--bundle", "model"][..],
        &["train", "hash", "--data", "other", "--out", "model", "--small"],
    ] {
        assert_eq!(mprec(folder, command).status.code(), Some(2), "{command:?}");
    }
}

#[test]
fn raw_rows_score_online_as_they_do_offline() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::write(folder.join("train.txt"), lines(0, 4_000)).unwrap();
    let new = lines(4_000, 4_000 + NEW_ROWS as u64);
    fs::write(folder.join("new.txt"), &new).unwrap();
    json(folder, &["data", "prepare", "train.txt", "--out", "data"]);
    let train = ["train", "table", "--data", "data", "--out", "model", "--small", "--epochs", "1"];
    json(folder, &train);

    // Offline, by way of prepared data and straight from the rows.
    json(folder, &["data", "prepare", "new.txt", "--like", "data", "--out", "new"]);
    write_features(&folder.join("new"), &folder.join("features"));
    let (expected, _) = score(folder, "features", false);
    let (scores, unknown) = score(folder, "new.txt", true);
    assert_eq!(scores, expected, "the same features, so the same bits");
    assert!(unknown > 0 && expected.len() == NEW_ROWS);
    let distinct: HashMap<u32, usize> =
        expected.iter().enumerate().map(|(row, score)| (score.to_bits(), row)).collect();
    assert!(distinct.len() > NEW_ROWS / 2, "scores that tell rows apart");
    lost_and_found(folder, &expected);

    // The server has the bundle, and nothing of the data.
    fs::remove_dir_all(folder.join("data")).unwrap();
    json(folder, &["profile", "model", "--out", "profiles.json", "--seconds", "1"]);
    let (_server, started) = start(
        Command::new(env!("CARGO_BIN_EXE_mprec"))
            .args([
                "serve",
                "--bundle",
                "model",
                "--profiles",
                "profiles.json",
                "--json",
                "--quiet",
            ])
            .args(["--listen", "127.0.0.1:0", "--grpc-listen", "127.0.0.1:0", "--sla-ms", "60000"])
            .current_dir(folder),
    );
    let (url, grpc) = (started["url"].as_str().unwrap(), started["grpc"].as_str().unwrap());

    let rows: Vec<&str> = new.lines().collect();
    assert_close(&in_json(url, &rows), &expected, "all rows in JSON");
    assert_close(&in_binary(url, &rows), &expected, "all rows in binary");
    for (row, score) in rows.iter().zip(&expected).take(60) {
        assert_close(&in_json(url, &[row]), &[*score], "one row in JSON");
        assert_close(&in_binary(url, &[row]), &[*score], "one row in binary");
    }

    // What Triton's client makes of the same rows.
    let named = std::env::var("MPREC_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let found = Command::new(&named).args(["-c", "import tritonclient.grpc"]).output();
    if !found.is_ok_and(|output| output.status.success()) {
        require::skip("tritonclient", &format!("`{named}` has no `tritonclient[grpc]`"));
        return;
    }
    fs::write(folder.join("expected.json"), object!(expected).to_string()).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/clients/raw_rows.py");
    let output = Command::new(named)
        .arg(script)
        .args([grpc, url, "new.txt", "expected.json"])
        .current_dir(folder)
        .output()
        .unwrap();
    let [stdout, stderr] =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(output.status.success() && stdout.contains("\"ok\": true"), "{stdout}\n{stderr}");
}
