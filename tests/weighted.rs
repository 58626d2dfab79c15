//! A server with another tool's model, which takes no weights of ids, beside one of the bundle's that does.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop here")]

#[expect(unreachable_pub, reason = "shared with a crate, where it is public")]
#[path = "src/require.rs"]
mod require;
#[expect(dead_code, reason = "this test trains nothing")]
mod served;

use std::{fs, path::Path};

use mprec_representations::{
    BundleWriter, DlrmSpec, Interaction, RepresentationSpec, Schema, SparseFeature, Tensor, Weights,
};
use serde_json::{Value, json as object};
use served::{json, post, serve};

/// A bundle of one `table` for the features of `data/dlrm_onnx`.
fn bundle(folder: &Path) {
    let feature = |(at, &cardinality)| SparseFeature { name: format!("f{at}"), cardinality };
    let sparse = [7, 50, 3, 20].iter().enumerate().map(feature).collect();
    let dense = (0..3).map(|at| format!("d{at}")).collect();
    let schema = Schema::new(dense, sparse, Default::default()).unwrap();
    let table = RepresentationSpec::Table { dim: 4 };
    let interaction = Interaction::Dot { itself: false };
    let spec = DlrmSpec::uniform(&schema, &table, interaction, &[8], &[8]);
    let mut weights = Weights::new();
    for (seed, tensor) in spec.tensors(&schema).into_iter().enumerate() {
        let count: usize = tensor.shape.iter().product();
        let value = |at: usize| (((at + seed) * 7_919) % 101) as f32 / 101.0 - 0.5;
        let values: Vec<f32> = (0..count).map(value).collect();
        weights.insert(tensor.name, Tensor::new(&tensor.shape, values));
    }
    let mut writer = BundleWriter::create(folder.join("model"), "ctr", "1", schema, None).unwrap();
    writer.add("table", &spec, &weights, None).unwrap();
    writer.finish().unwrap();
}

/// One sample whose four bags have an id each, of this weight.
fn request(weight: Option<f32>) -> String {
    let input = |name: &str, datatype: &str, shape: &[usize], data: Value| object!({"name": name, "datatype": datatype, "shape": shape, "data": data});
    let mut inputs = vec![
        input("dense", "FP32", &[1, 3], object!([0.1, 0.2, 0.3])),
        input("sparse", "INT64", &[4], object!([1, 2, 0, 3])),
        input("sparse_lengths", "INT32", &[1, 4], object!([1, 1, 1, 1])),
    ];
    if let Some(weight) = weight {
        inputs.push(input("sparse_weights", "FP32", &[4], object!([1.0, weight, 1.0, 1.0])));
    }
    object!({"inputs": inputs, "parameters": {"sla_ms": 30_000}}).to_string()
}

#[test]
fn weighted_queries_are_answered_by_paths_that_take_weights_or_refused_as_such() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    bundle(folder);
    let backends = json(folder, &["backends"]);
    let mut entries = backends["backends"].as_array().unwrap().iter();
    let onnx = entries.find(|entry| entry["name"] == "onnx").unwrap();
    if onnx["usable"] != true {
        return require::skip("onnx", onnx["reason"].as_str().unwrap_or("it cannot be used"));
    }
    let theirs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/dlrm_onnx/model.onnx");
    // What another tool wrote is the better one, so that it is taken where it can be.
    let config = |paths: &[&str]| {
        let quality = |path: &&str| {
            let (variant, _) = path.split_once('@').unwrap();
            let accuracy = if variant == "theirs" { 0.9 } else { 0.8 };
            format!("[quality.{variant}]\naccuracy = {accuracy}\nsource = \"made up\"\n")
        };
        let quality: String = paths.iter().map(quality).collect();
        format!(
            "[serving]\npaths = {paths:?}\n\
             [objective]\npolicy = \"mp-rec\"\n\
             [profile]\nbudget_seconds = 1.0\n\
             [variants.theirs]\nonnx = {theirs:?}\n{quality}"
        )
    };
    let ask = |url: &str, weight| post(url, "/v2/models/ctr/infer", &request(weight));
    let answered = |url: &str, weight| {
        let (status, reply) = ask(url, weight);
        assert_eq!(status, 200, "{reply}");
        reply["parameters"]["path"].as_str().unwrap().to_owned()
    };

    fs::write(folder.join("both.toml"), config(&["table@cpu", "theirs@onnx"])).unwrap();
    let (server, url) = serve(folder, &["--config", "both.toml"]);
    assert_eq!(answered(&url, None), "theirs@onnx");
    assert_eq!(answered(&url, Some(0.5)), "table@cpu");
    assert_eq!(answered(&url, Some(1.0)), "theirs@onnx");
    drop(server);

    fs::write(folder.join("theirs.toml"), config(&["theirs@onnx"])).unwrap();
    let (_server, url) = serve(folder, &["--config", "theirs.toml"]);
    let (status, reply) = ask(&url, Some(0.5));
    assert_eq!((status, &reply["code"]), (422, &object!("weights_unsupported")), "{reply}");
    assert_eq!(answered(&url, None), "theirs@onnx");
}
