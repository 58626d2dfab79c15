//! One user and many candidates, and the best of them.

use super::*;
use crate::endpoint::fake;

/// Three candidates of one user, whose features are `s0` and `s2`, in plain form.
fn plain() -> Value {
    json!({ "inputs": [
        { "name": "dense", "shape": [3, 2], "datatype": "FP32", "data": [[1, 2], [1, 2], [1, 2]] },
        { "name": "sparse", "shape": [3, 3], "datatype": "INT64",
          "data": [[7, 11, 29], [7, 3, 29], [7, 19, 29]] },
    ]})
}

/// The same with what is the user's sent once.
fn once() -> Value {
    json!({ "parameters": { "user_features": "s2, s0" }, "inputs": [
        { "name": "dense", "shape": [1, 2], "datatype": "FP32", "data": [1, 2] },
        { "name": "user_sparse", "shape": [1, 2], "datatype": "INT64", "data": [29, 7] },
        { "name": "sparse", "shape": [3, 1], "datatype": "INT64", "data": [11, 3, 19] },
    ]})
}

fn changed(mut body: Value, pointer: &str, value: Value) -> Value {
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    match body.pointer_mut(parent).unwrap() {
        Value::Array(list) => list.push(value),
        parent => parent[name] = value,
    }
    body
}

#[tokio::test]
async fn what_is_the_users_may_be_sent_once() {
    let server = Server::start().await;
    let expected = server.infer(&plain()).await.scores();
    let batch = server.service.last().batch;
    assert!(batch.per_group().is_none());
    assert_eq!(server.infer(&once()).await.scores(), expected);
    let grouped = server.service.last().batch;
    assert_eq!(*grouped.expanded(), *batch.expanded());
    let of = grouped.per_group().unwrap();
    assert_eq!((of.len(), of.samples(0), of.sharing().dense()), (1, 0..3, true));
    assert_eq!([0, 1, 2].map(|feature| of.sharing().sparse(feature)), [true, false, true]);
    assert_eq!((grouped.bags(0).ids(), grouped.bags(1).ids()), (&[7][..], &[11, 3, 19][..]));

    // Dense values that differ among candidates are sent for each.
    let dense = json!({ "name": "dense", "shape": [3, 2], "datatype": "FP32",
        "data": [[1, 2], [3, 4], [5, 6]] });
    let mut body = once();
    body["inputs"][0] = dense.clone();
    let each = server.infer(&body).await.scores();
    assert!(!server.service.last().batch.per_group().unwrap().sharing().dense());
    let mut body = plain();
    body["inputs"][0] = dense;
    assert_eq!(server.infer(&body).await.scores(), each);
    assert_ne!(each, expected);
}

#[tokio::test]
async fn all_features_may_be_the_users_and_binary_is_read_too() {
    let server = Server::start().await;
    let document = json!({ "parameters": { "user_features": "s0,s1,s2" }, "inputs": [
        { "name": "dense", "shape": [2, 2], "datatype": "FP32", "parameters": { "binary_data_size": 16 } },
        { "name": "user_sparse", "shape": [1, 3], "datatype": "INT64",
          "parameters": { "binary_data_size": 24 } },
        { "name": "sparse", "shape": [2, 0], "datatype": "INT64", "parameters": { "binary_data_size": 0 } },
    ]});
    let mut body = document.to_string().into_bytes();
    let length = body.len();
    body.extend(dense().iter().flat_map(|value| value.to_le_bytes()));
    body.extend([1_i64, 2, 3].iter().flat_map(|value| value.to_le_bytes()));
    let headers = format!("inference-header-content-length: {length}\r\n");
    let scores = server.ask("POST", "/v2/models/ctr/infer", &headers, &body).await.scores();
    let shape = &server.service.model.shape;
    let plain = shape.from_rows(dense(), &[1, 2, 3, 1, 2, 3]).unwrap();
    assert_eq!(scores, fake::score(&plain));
}

#[tokio::test]
async fn user_features_that_do_not_agree_are_refused() {
    let server = Server::with(OutOfVocabulary::Refuse, HttpConfig::default()).await;
    let input = |name: &str, datatype: &str, shape: Value, data: Value| json!({ "name": name, "datatype": datatype, "shape": shape, "data": data });
    for (pointer, value, code, word) in [
        ("/parameters/user_features", json!("s0"), "wrong_shape", "`sparse`"),
        ("/parameters/user_features", json!("s0,s1"), "id_out_of_range", "feature 0"),
        ("/parameters/user_features", json!("s0,x"), "bad_parameter", "`x`"),
        ("/parameters/user_features", json!("s0,s0"), "bad_parameter", "twice"),
        ("/parameters/user_features", json!(""), "bad_parameter", "no sparse feature"),
        ("/parameters/user_features", json!(3), "bad_parameter", "names"),
        ("/parameters", json!({}), "bad_input", "`user_features`"),
        ("/inputs/0/shape", json!([2, 1]), "wrong_shape", "`dense`"),
        ("/inputs/1/shape", json!([2, 1]), "wrong_shape", "`user_sparse`"),
        ("/inputs/1/shape", json!([2]), "wrong_shape", "`user_sparse`"),
        ("/inputs/1/datatype", json!("FP32"), "wrong_dtype", "`user_sparse`"),
        ("/inputs/1/name", json!("user_spars"), "bad_input", "`user_spars`"),
        (
            "/inputs/1",
            input("user_sparse", "INT64", json!([1, 2]), json!([29, 7])),
            "bad_input",
            "twice",
        ),
        ("/inputs/2/shape", json!([1, 3]), "wrong_shape", "`sparse`"),
        ("/inputs/2/data", json!([11, 3, 20]), "id_out_of_range", "feature 1, sample 2"),
        ("/inputs/1/data", json!([30, 7]), "id_out_of_range", "feature 2, sample 0"),
        ("/inputs/0/data", json!([1, 1e39]), "not_finite", ""),
        (
            "/inputs/-",
            input("sparse_lengths", "INT32", json!([3, 1]), json!([1, 1, 1])),
            "bad_input",
            "plain form",
        ),
        (
            "/inputs/-",
            input("sparse_weights", "FP32", json!([3]), json!([1, 1, 1])),
            "bad_input",
            "plain form",
        ),
    ] {
        let reply = server.infer(&changed(once(), pointer, value.clone())).await;
        let message = reply.expect_error(400, code);
        assert!(message.contains(word), "{pointer} {value}: {message}");
    }
    let mut missing = once();
    missing["inputs"].as_array_mut().unwrap().remove(1);
    let message = server.infer(&missing).await.expect_error(400, "bad_input");
    assert_eq!(message, "input `user_sparse` is missing");
    let mut none = once();
    none["inputs"][2] = input("sparse", "INT64", json!([0, 1]), json!([]));
    server.infer(&none).await.expect_error(400, "wrong_shape");
    let mut many = once();
    many["inputs"][2] = input("sparse", "INT64", json!([1001, 1]), json!(vec![1; 1001]));
    server.infer(&many).await.expect_error(413, "too_many_samples");
    assert_eq!(server.service.count(), 0);
}

#[tokio::test]
async fn the_best_come_with_their_indices() {
    let server = Server::start().await;
    server.service.behave(Behaviour::Say(vec![0.25, 0.75, 0.5]));
    for (k, scores, indices) in [
        (1, json!([0.75]), json!([1])),
        (2, json!([0.75, 0.5]), json!([1, 2])),
        (9, json!([0.75, 0.5, 0.25]), json!([1, 2, 0])),
    ] {
        let body = changed(once(), "/parameters/top_k", json!(k));
        let outputs = &server.infer(&body).await.json()["outputs"];
        let shape = json!([scores.as_array().unwrap().len()]);
        let expected = json!([
            { "name": "scores", "datatype": "FP32", "shape": shape, "data": scores },
            { "name": "indices", "datatype": "INT64", "shape": shape, "data": indices },
        ]);
        assert_eq!(outputs, &expected);
    }
    // Equal scores stay in the candidates' order.
    server.service.behave(Behaviour::Say(vec![0.5, 0.75, 0.5]));
    let body = changed(plain(), "/parameters", json!({ "top_k": 2 }));
    assert_eq!(server.infer(&body).await.json()["outputs"][1]["data"], json!([1, 0]));
    let mut named = changed(body.clone(), "/outputs", json!([{ "name": "indices" }]));
    let reply = server.infer(&named).await.json();
    assert_eq!(
        (reply["outputs"].as_array().unwrap().len(), &reply["outputs"][0]["name"]),
        (1, &json!("indices"))
    );
    named["parameters"] = json!({});
    let message = server.infer(&named).await.expect_error(400, "bad_output");
    assert!(message.contains("`top_k`"), "{message}");
    let wrong = changed(body, "/parameters", json!({ "top_k": 0 }));
    server.infer(&wrong).await.expect_error(400, "bad_parameter");
}

#[tokio::test]
async fn the_best_are_sent_in_binary_one_output_behind_the_other() {
    let server = Server::start().await;
    server.service.behave(Behaviour::Say(vec![0.25, 0.75]));
    let with = json!({ "parameters": { "top_k": 2, "binary_data_output": true } });
    let mixed = json!({ "parameters": { "top_k": 2 }, "outputs": [
        { "name": "scores" }, { "name": "indices", "parameters": { "binary_data": true } },
    ]});
    let indices = [1_i64, 0].map(i64::to_le_bytes).concat();
    let both = [[0.75_f32, 0.25].map(f32::to_le_bytes).concat(), indices.clone()].concat();
    for (with, binary) in [(with, both), (mixed, indices)] {
        let (body, length) = binary_request(&with);
        let headers = format!("inference-header-content-length: {length}\r\n");
        let reply = server.ask("POST", "/v2/models/ctr/infer", &headers, &body).await;
        let length = reply.header("inference-header-content-length").unwrap().parse().unwrap();
        let (document, rest) = reply.body.split_at(length);
        assert_eq!(rest, binary);
        let document: Value = serde_json::from_slice(document).unwrap();
        let sizes: Vec<u64> = document["outputs"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|output| output["parameters"]["binary_data_size"].as_u64())
            .collect();
        assert_eq!(sizes.iter().sum::<u64>(), rest.len() as u64);
    }
}

#[tokio::test]
async fn both_extensions_are_described() {
    let server = Server::start().await;
    let model = server.ask("GET", "/v2/models/ctr", "", b"").await.json();
    assert_eq!(
        model["mprec"]["user_inputs"][1],
        json!({ "name": "user_sparse", "datatype": "INT64", "shape": [1, -1] })
    );
    assert_eq!(
        model["mprec"]["top_k_outputs"][1],
        json!({ "name": "indices", "datatype": "INT64", "shape": [-1] })
    );
    // What tools take for required is the plain form.
    let names = |of: &str| {
        let list = model[of].as_array().unwrap();
        list.iter().map(|tensor| tensor["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(
        (names("inputs"), names("outputs")),
        (vec!["dense".to_owned(), "sparse".to_owned()], vec!["scores".to_owned()])
    );
}
