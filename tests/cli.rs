//! The command line, end to end: the real Open Bandit sample, whose features are not Criteo's, from
//! raw rows to answers over HTTP.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop here")]

use std::path::Path;

use serde_json::Value;

#[expect(unreachable_pub, reason = "shared with a crate, where it is public")]
#[path = "src/require.rs"]
mod require;
#[path = "served.rs"]
mod served;

use served::{json, mprec, post, serve, trained};

/// The paths of `profiles.json` to keep resident for some load, with the config served and checked.
fn tuned_and_verified(folder: &Path) {
    let tune = "tune --bundle model --profiles profiles.json --data data --qps 50 --sizes lognormal:3,0.5 \
                --seconds 1 --sla-ms 1000 --replay-seconds 1 --budget cpu=1GiB --out tuned.toml";
    let tuned = json(folder, &tune.split_whitespace().collect::<Vec<_>>());
    assert_eq!((&tuned["proved"], &tuned["pareto_complete"]), (&true.into(), &true.into()));
    let chosen: Vec<&Value> =
        tuned["winner"]["paths"].as_array().unwrap().iter().map(|one| &one["path"]).collect();
    let served = &tuned["replay"]["served"];
    assert!(served["answered"].as_u64().is_some_and(|count| count > 0), "{tuned}");
    assert!(tuned["replay"]["goodput_difference_percent"].is_number(), "{tuned}");
    let checked = json(folder, &["serve", "--config", "tuned.toml", "--check"]);
    assert_eq!(checked["valid"], true);
    assert_eq!(checked["paths"].as_array().unwrap().iter().collect::<Vec<_>>(), chosen);
}

#[test]
fn rows_of_any_schema_become_a_served_model() {
    let folder = trained(&["table", "dhe"]);
    let folder = folder.path();

    let inspected = json(folder, &["inspect", "model", "--verify"]);
    assert_eq!(inspected["verified"], true);
    assert_eq!(inspected["variants"].as_array().unwrap().len(), 3);

    let evaluated = json(folder, &["eval", "model", "--data", "data", "--path", "dhe@cpu"]);
    for name in ["samples", "auc", "logloss", "accuracy", "ece", "samples_per_second"] {
        assert!(evaluated[name].as_f64().is_some_and(|value| value > 0.0), "{name}: {evaluated}");
    }
    let logloss = evaluated["logloss"].as_f64().unwrap();
    let recorded = &inspected["variants"][1]["quality"]["auc"];
    assert_eq!(&evaluated["auc"], recorded, "the bundle states what eval measures");
    let reference = json(folder, &["eval", "model", "--data", "data", "--path", "dhe@reference"]);
    let difference = reference["auc"].as_f64().unwrap() - evaluated["auc"].as_f64().unwrap();
    assert!(difference.abs() < 1e-4, "{difference}");

    let quantize = ["quantize", "model", "--variant", "table", "--data", "data", "--force"];
    let quantised = json(folder, &quantize);
    assert_eq!(quantised["variant"], "table-int8");
    assert!(quantised["bytes"].as_u64().unwrap() < quantised["from_bytes"].as_u64().unwrap());
    let evaluated = json(folder, &["eval", "model", "--data", "data", "--path", "table-int8@cpu"]);
    assert_eq!(evaluated["auc"], quantised["auc"], "the bundle holds what was measured");

    let materialise = ["materialise", "model", "--variant", "dhe"];
    let materialised = json(folder, &materialise);
    assert_eq!(materialised["variant"], "dhe-rows");
    let rows = json(folder, &["eval", "model", "--data", "data", "--path", "dhe-rows@cpu"]);
    let difference = rows["logloss"].as_f64().unwrap() - logloss;
    assert!(difference.abs() < 1e-6, "rows are what the DHE computes: {difference}");

    let mut bench = vec!["bench", "--bundle", "model", "--path", "dhe@cpu", "--seconds", "0.05"];
    assert!(json(folder, &bench)["cache_hit_rate"].is_null());
    bench.extend(["--cache", "65536"]);
    let hit_rate = json(folder, &bench)["cache_hit_rate"].as_f64().unwrap();
    assert!(hit_rate > 0.1 && hit_rate <= 1.0, "{hit_rate}");
    *bench.last_mut().unwrap() = "100";
    assert_eq!(
        mprec(folder, &bench).status.code(),
        Some(2),
        "a cache that holds nothing is refused"
    );
    bench.truncate(bench.len() - 2);
    bench.push("--kernel-times");
    let refused = mprec(folder, &bench);
    assert_eq!(refused.status.code(), Some(2), "`cpu` has no clock for kernels");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("kernels cannot be timed"));

    let profile = [
        "profile",
        "model",
        "--data",
        "data",
        "--out",
        "profiles.json",
        "--seconds",
        "1",
        "--cache",
        "65536",
        "--backends",
        "cpu",
    ];
    let profiled = json(folder, &profile);
    assert_eq!(profiled["paths"].as_array().unwrap().len(), 5);

    const NAMES: [&str; 11] = [
        "offered",
        "answered",
        "in_time",
        "late",
        "refused",
        "failed",
        "samples_in_time",
        "correct_in_time_per_s",
        "p50_ms",
        "p95_ms",
        "p99_ms",
    ];
    let simulate = [
        "simulate",
        "--profiles",
        "profiles.json",
        "--policy",
        "multi-path",
        "--qps",
        "200",
        "--seconds",
        "2",
    ];
    let simulated = json(folder, &simulate);
    tuned_and_verified(folder);
    let (_server, url) = serve(
        folder,
        &[
            "--profiles",
            "profiles.json",
            "--policy",
            "multi-path",
            "--data",
            "data",
            "--cache",
            "65536",
        ],
    );
    let load = [
        "load",
        "--url",
        &url,
        "--qps",
        "50",
        "--sizes",
        "lognormal:3,0.5",
        "--seconds",
        "1",
        "--sla-ms",
        "1000",
        "--data",
        "data",
    ];
    let loaded = json(folder, &load);
    for report in [&simulated, &loaded] {
        for name in NAMES {
            assert!(report[name].is_number(), "{name}: {report}");
        }
        assert!(report["paths"].is_object());
        let count = |name: &str| report[name].as_u64().unwrap();
        assert_eq!(count("offered"), count("answered") + count("refused") + count("failed"));
        assert!(count("answered") > 0);
    }
    assert!(loaded["observed_accuracy"].is_number(), "labels were sent along: {loaded}");
}

/// `table` on every backend that can be used here.
fn paths(folder: &Path) -> Vec<&'static str> {
    let listed = json(folder, &["backends"]);
    let backend =
        |name: &str| listed["backends"].as_array().unwrap().iter().find(|it| it["name"] == name);
    let mut paths = vec!["table@cpu"];
    let onnx = backend("onnx").unwrap();
    if onnx["usable"] == true {
        paths.push("table@onnx");
    } else {
        require::skip("onnx", &onnx["reason"].to_string());
        assert!(onnx["remedy"].is_string(), "{onnx}");
    }
    assert!(backend("cpu").unwrap()["memory_bytes"].as_u64().is_some_and(|bytes| bytes > 1 << 20));
    paths
}

#[test]
fn a_served_score_is_the_score_of_the_file() {
    let folder = trained(&["table", "dhe"]);
    let folder = folder.path();
    for path in paths(folder) {
        score_and_serve(folder, path);
    }
}

#[test]
fn a_profile_has_every_path_that_can_be_used_here() {
    let folder = trained(&["table", "dhe"]);
    let folder = folder.path();
    let profiled = json(folder, &["profile", "model", "--seconds", "4"]);
    let mut names: Vec<&str> = profiled["paths"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["name"].as_str().unwrap())
        .collect();
    for path in paths(folder) {
        assert!(names.contains(&path), "{path}: {names:?}");
    }
    assert!(!names.contains(&"table@reference"), "the interpreter serves nobody: {names:?}");
    names.dedup();
    assert_eq!(names.len(), profiled["paths"].as_array().unwrap().len());

    let unusable = mprec(folder, &["profile", "model", "--backends", "onnx:coreml"]);
    assert_eq!(unusable.status.code(), Some(2), "what is asked for by name must be there");
    let both = ["profile", "model", "--backends", "cpu", "--paths", "table@cpu"];
    assert_eq!(mprec(folder, &both).status.code(), Some(2));
}

fn score_and_serve(folder: &Path, path: &str) {
    let manifest: Value =
        serde_json::from_slice(&std::fs::read(folder.join("model/manifest.json")).unwrap())
            .unwrap();
    let dense = manifest["schema"]["dense"].as_array().unwrap().len();
    let sparse = manifest["schema"]["sparse"].as_array().unwrap().len();

    // Two samples: ids 1 and 0 everywhere.
    let floats: Vec<f32> = (0..2 * dense).map(|at| at as f32 / 10.0).collect();
    let bytes: Vec<u8> = floats.iter().flat_map(|value| value.to_le_bytes()).collect();
    let integers = |values: &[i64]| -> Vec<u8> {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    };
    let indices = integers(&[1, 0].repeat(sparse));
    let offsets = integers(&[0, 1].repeat(sparse));
    use safetensors::{Dtype, SafeTensors, tensor::TensorView};
    let view = |dtype, shape: &[usize], data| TensorView::new(dtype, shape.to_vec(), data).unwrap();
    let input = [
        ("dense", view(Dtype::F32, &[2, dense], &bytes)),
        ("indices", view(Dtype::I64, &[sparse, 2], &indices)),
        ("offsets", view(Dtype::I64, &[sparse, 2], &offsets)),
    ];
    safetensors::serialize_to_file(input, None, &folder.join("batch.safetensors")).unwrap();
    let score = [
        "score",
        "model",
        "--path",
        path,
        "--input",
        "batch.safetensors",
        "--output",
        "out.safetensors",
    ];
    assert_eq!(json(folder, &score)["samples"], 2);
    let content = std::fs::read(folder.join("out.safetensors")).unwrap();
    let scores: Vec<f32> = SafeTensors::deserialize(&content)
        .unwrap()
        .tensor("scores")
        .unwrap()
        .data()
        .chunks_exact(4)
        .map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()))
        .collect();

    json(folder, &["profile", "model", "--paths", path, "--out", "one.json", "--seconds", "1"]);
    let (_server, url) =
        serve(folder, &["--profiles", "one.json", "--paths", path, "--sla-ms", "2000"]);
    let ids: Vec<i64> = [vec![1; sparse], vec![0; sparse]].concat();
    let request = serde_json::json!({
        "inputs": [
            {"name": "dense", "datatype": "FP32", "shape": [2, dense], "data": floats},
            {"name": "sparse", "datatype": "INT64", "shape": [2, sparse], "data": ids},
        ],
    });
    let (status, reply) = post(&url, "/v2/models/ctr/infer", &request.to_string());
    assert_eq!(status, 200, "{reply}");
    assert_eq!(reply["parameters"]["path"], path);
    for (at, score) in scores.iter().enumerate() {
        let served = reply["outputs"][0]["data"][at].as_f64().unwrap() as f32;
        assert!((served - score).abs() < 1e-6, "{served} {score}");
    }
    let (status, reply) = post(&url, "/v2/models/other/infer", &request.to_string());
    assert_eq!((status, &reply["code"]), (404, &Value::from("unknown_model")), "{reply}");
}

#[test]
fn a_variant_becomes_an_onnx_file() {
    let folder = trained(&["table", "dhe"]);
    let folder = folder.path();
    let export = ["export", "onnx", "model", "--variant", "both", "--out", "both.onnx"];
    let written = json(folder, &export);
    assert!(written["data"].is_null());
    let within = std::fs::metadata(folder.join("both.onnx")).unwrap().len();
    assert_eq!(written["bytes"], within);
    let beside = json(folder, &[&export[..], &["--bags", "--max-inline-mib", "0"]].concat());
    assert_eq!(beside["data"], "both.onnx.data");
    assert!(std::fs::metadata(folder.join("both.onnx")).unwrap().len() < within);
    let inspected = json(folder, &["inspect", "model"]);
    assert_eq!(beside["sparse"].as_array().unwrap().len(), inspected["sparse_features"]);
    let missing = mprec(folder, &["export", "onnx", "model", "--variant", "none"]);
    assert_eq!(missing.status.code(), Some(2));
}

#[test]
fn failures_say_whose_they_are() {
    let folder = tempfile::tempdir().unwrap();
    for (arguments, code, text) in [
        (&["inspect", "nowhere"][..], 2, "nowhere"),
        (&["eval", "nowhere", "--data", "x", "--path", "table"], 2, "variant@backend"),
        (&["eval", "nowhere", "--data", "x", "--path", "table@gpu"], 2, "is not a backend"),
        (&["simulate", "--profiles", "none.json"], 2, "none.json"),
        (&["data", "prepare", "missing.txt", "--out", "data"], 2, "missing.txt"),
        (&["serve", "--policy", "best"], 2, "model.bundle"),
        (&["frobnicate"], 2, "unrecognized subcommand"),
        (&["load", "--url", "http://127.0.0.1:1", "--seconds", "1"], 2, "is it running?"),
    ] {
        let output = mprec(folder.path(), arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stderr}");
        assert!(stderr.contains(text), "{arguments:?}: {stderr}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn centroids_are_a_variant_that_is_judged() {
    let folder = trained(&["table", "dhe"]);
    let folder = folder.path();
    let mut cluster = vec!["cluster", "model", "--variant", "dhe", "--data", "data", "--centroids"];
    cluster.extend(["100000", "--name", "dhe-all"]);
    let clustered = json(folder, &cluster);
    assert_eq!((&clustered["variant"], &clustered["from"]), (&"dhe-all".into(), &"dhe".into()));
    let change = clustered["logloss_change"].as_f64().unwrap();
    assert!(change.abs() < 1e-6, "as many centroids as ids change nothing: {change}");
    let evaluated = json(folder, &["eval", "model", "--data", "data", "--path", "dhe-all@cpu"]);
    assert_eq!(evaluated["auc"], clustered["auc"], "the bundle holds what was measured");
    for (name, exit) in [("dhe-all", 2), ("nothing", 1)] {
        *cluster.last_mut().unwrap() = name;
        cluster[3] = if name == "nothing" { "table" } else { "dhe" };
        assert_eq!(mprec(folder, &cluster).status.code(), Some(exit), "{name}");
    }
    let refused = ["cluster", "model", "--variant", "dhe", "--data", "data", "--centroids", "0"];
    assert_eq!(mprec(folder, &refused).status.code(), Some(2), "no centroids");

    let few =
        ["cluster", "model", "--variant", "dhe", "--data", "data", "--centroids", "2", "--force"];
    let clustered = json(folder, &few);
    assert_eq!(clustered["variant"], "dhe-clustered-2");
    let flops = |name: &str| clustered[name].as_u64().unwrap();
    assert!(flops("embedding_flops") < flops("from_embedding_flops"), "{clustered}");
    let bench =
        ["bench", "--bundle", "model", "--path", "dhe-clustered-2@cpu", "--seconds", "0.05"];
    let hit_rate =
        json(folder, &[&bench[..], &["--cache", "65536"]].concat())["cache_hit_rate"].as_f64();
    assert!(
        hit_rate.is_some_and(|rate| rate > 0.1),
        "the exact cache stands before it: {hit_rate:?}"
    );
}

#[test]
fn every_command_explains_itself() {
    let folder = tempfile::tempdir().unwrap();
    for command in [
        "demo",
        "data",
        "train",
        "inspect",
        "eval",
        "score",
        "quantize",
        "materialise",
        "cluster",
        "export",
        "backends",
        "bench",
        "profile",
        "simulate",
        "tune",
        "serve",
        "load",
        "models",
        "top",
        "replay",
    ] {
        let output = mprec(folder.path(), &[command, "--help"]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && text.contains("Usage: mprec"), "{command}: {text}");
        assert!(text.lines().count() > 8, "{command}: {text}");
    }
}

/// What a command prints, both streams, with every figure masked: they differ between machines.
fn masked(folder: &Path, arguments: &[&str]) -> String {
    let output = mprec(folder, arguments);
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    let masked = text.concat().replace(|c: char| c.is_ascii_digit(), "#");
    let lines: Vec<&str> = masked.lines().map(str::trim_end).collect();
    format!("{}\nexit code {}", lines.join("\n"), output.status.code().unwrap())
}

#[test]
fn what_people_read_is_as_it_was() {
    let folder = trained(&["table", "dhe"]);
    let folder = folder.path();
    insta::assert_snapshot!("help", masked(folder, &["--help"]));
    insta::assert_snapshot!("help_quantize", masked(folder, &["quantize", "--help"]));
    insta::assert_snapshot!("help_cluster", masked(folder, &["cluster", "--help"]));
    insta::assert_snapshot!("inspect", masked(folder, &["inspect", "model"]));
    let eval = ["eval", "model", "--data", "data", "--path"];
    for (name, path) in [
        ("unknown_variant", "tabel@cpu"),
        ("unknown_backend", "table@gpu"),
        ("not_compiled", "table@wgpu"),
    ] {
        insta::assert_snapshot!(name, masked(folder, &[&eval[..], &[path]].concat()));
    }
    let ensemble = ["quantize", "model", "--variant", "both", "--data", "data", "--quiet"];
    insta::assert_snapshot!("quantize_an_ensemble", masked(folder, &ensemble));
    std::fs::write(folder.join("bad.toml"), "[server]\nprot = 8000\n").unwrap();
    let serve = ["serve", "--config", "bad.toml", "--bundle", "model"];
    insta::assert_snapshot!("unknown_key", masked(folder, &serve));
}
