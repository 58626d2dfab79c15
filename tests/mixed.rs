//! One server whose paths are on different backends: the router uses each as deadlines, quality floors and load ask.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop here")]

#[expect(unreachable_pub, reason = "shared with a crate, where it is public")]
#[path = "src/require.rs"]
mod require;
mod served;

use std::{collections::BTreeMap, fs, path::Path, thread};

use serde_json::{Value, json as object};
use served::{json, post, serve, trained};

/// The example's paths, each on the backend that it names, or else on `cpu`.
fn config(folder: &Path) -> (String, Vec<String>) {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("mixed.example.toml");
    let mut text = fs::read_to_string(example).unwrap();
    let backends = json(folder, &["backends"]);
    let usable = |name: &str| {
        let mut entries = backends["backends"].as_array().unwrap().iter();
        entries.any(|entry| entry["name"] == name && entry["usable"] == true)
    };
    let mut paths = vec!["table@cpu".to_owned()];
    for (variant, backend) in [("dhe", "onnx"), ("hybrid", "torch:cpu")] {
        let named = format!("{variant}@{backend}");
        assert!(text.contains(&format!("\"{named}\"")));
        if usable(backend) {
            paths.push(named);
        } else {
            let family = backend.split(':').next().unwrap();
            require::skip(
                family,
                &format!("`{named}` cannot be used; `{variant}@cpu` takes its place"),
            );
            text = text.replace(&named, &format!("{variant}@cpu"));
            paths.push(format!("{variant}@cpu"));
        }
    }
    (text, paths)
}

/// A profile in which the paths take 0.1, 5 and 50 ms whatever the batch: what a machine makes of them is not the matter.
fn profile(folder: &Path, paths: &[String]) {
    let arguments = ["profile", "model", "--out", "profiles.json", "--seconds", "1", "--paths"];
    json(folder, &[&arguments[..], &[&paths.join(",")]].concat());
    let file = folder.join("profiles.json");
    let mut profiles: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    for (path, micros) in profiles["paths"].as_array_mut().unwrap().iter_mut().zip([1e2, 5e3, 5e4])
    {
        for point in path["service"].as_array_mut().unwrap() {
            for quantile in ["p50_us", "p95_us", "p99_us"] {
                point[quantile] = object!(micros);
            }
        }
    }
    fs::write(file, profiles.to_string()).unwrap();
}

fn request(folder: &Path, parameters: &Value) -> String {
    let manifest = fs::read(folder.join("model/manifest.json")).unwrap();
    let schema = &serde_json::from_slice::<Value>(&manifest).unwrap()["schema"];
    let count = |kind: &str| schema[kind].as_array().unwrap().len();
    let (dense, sparse) = (count("dense"), count("sparse"));
    object!({
        "inputs": [
            {"name": "dense", "datatype": "FP32", "shape": [1, dense], "data": vec![0.5; dense]},
            {"name": "sparse", "datatype": "INT64", "shape": [1, sparse], "data": vec![0; sparse]},
        ],
        "parameters": parameters,
    })
    .to_string()
}

#[test]
fn every_backend_answers_what_it_is_best_for() {
    let folder = trained(&["table", "dhe", "hybrid"]);
    let folder = folder.path();
    let (config, paths) = config(folder);
    fs::write(folder.join("mixed.toml"), config).unwrap();
    profile(folder, &paths);
    let start = || serve(folder, &["--config", "mixed.toml", "--profiles", "profiles.json"]);
    let ask = |url: &str, parameters: Value| {
        post(url, "/v2/models/ctr/infer", &request(folder, &parameters))
    };

    // First queries, when nothing has corrected the profile yet. 5 ms is too long for any but the table; a busy machine
    // may miss this deadline altogether.
    let (server, url) = start();
    match ask(&url, object!({"sla_ms": 4})) {
        (200, reply) => assert_eq!(reply["parameters"]["path"], paths[0].as_str()),
        (status, reply) => assert_eq!(status, 504, "{reply}"),
    }
    drop(server);

    let (_server, url) = start();
    let answered = |parameters| {
        let (status, reply) = ask(&url, parameters);
        assert_eq!(status, 200, "{reply}");
        let score = reply["outputs"][0]["data"][0].as_f64().unwrap();
        assert!(score > 0.0 && score < 1.0);
        reply["parameters"]["path"].as_str().unwrap().to_owned()
    };
    // With time, a better path; the best, at ten times that for little, where a floor asks for it.
    assert_eq!(answered(object!({"sla_ms": 40})), paths[1]);
    assert_eq!(answered(object!({"sla_ms": 2000, "min_quality": 0.7896})), paths[2]);

    // A burst from many clients: all are answered, and how often by whom is told.
    let tally = thread::scope(|scope| {
        let clients: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let answers = (0..5).map(|_| answered(object!({"sla_ms": 10_000})));
                    answers.collect::<Vec<_>>()
                })
            })
            .collect();
        let mut tally = BTreeMap::<String, usize>::new();
        for path in clients.into_iter().flat_map(|client| client.join().unwrap()) {
            *tally.entry(path).or_default() += 1;
        }
        tally
    });
    assert_eq!(tally.values().sum::<usize>(), 40, "{tally:?}");
    assert!(tally.keys().all(|path| paths.contains(path)), "{tally:?}");
}
