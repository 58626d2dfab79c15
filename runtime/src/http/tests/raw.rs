//! Raw values over HTTP: what offline preprocessing makes of the same rows is what is scored.

use super::*;
use crate::endpoint::fake::{RAW, raw_lines};

async fn server() -> Server {
    Server::of(Fake::raw(), HttpConfig::default(), Limits::default(), |endpoint| endpoint).await
}

/// The scores of rows that a file has.
fn offline(server: &Server, rows: &[[&str; 5]]) -> Vec<f32> {
    let preprocessor = server.service.model.preprocessor.as_ref().unwrap();
    score(&preprocessor.encode(raw_lines(rows).as_bytes()).unwrap().batch)
}

fn body(rows: &[[&str; 5]]) -> Value {
    let dense: Vec<&str> = rows.iter().flat_map(|row| &row[..2]).copied().collect();
    let sparse: Vec<&[&str]> = rows.iter().map(|row| &row[2..]).collect();
    json!({ "inputs": [
        { "name": "raw_dense", "shape": [rows.len(), 2], "datatype": "BYTES", "data": dense },
        { "name": "raw_sparse", "shape": [rows.len(), 3], "datatype": "BYTES", "data": sparse },
    ]})
}

/// Elements of a binary tensor.
fn framed(values: &[&[u8]]) -> Vec<u8> {
    let frame = |value: &&[u8]| [&(value.len() as u32).to_le_bytes(), *value].concat();
    values.iter().flat_map(frame).collect()
}

async fn send(server: &Server, document: &Value, binary: &[u8]) -> Reply {
    let json = document.to_string();
    let headers = format!("inference-header-content-length: {}\r\n", json.len());
    let body = [json.as_bytes(), binary].concat();
    server.ask("POST", "/v2/models/ctr/infer", &headers, &body).await
}

fn document(dense: usize, sparse: usize) -> Value {
    json!({ "inputs": [
        { "name": "raw_dense", "shape": [1, 2], "datatype": "BYTES",
          "parameters": { "binary_data_size": dense } },
        { "name": "raw_sparse", "shape": [1, 3], "datatype": "BYTES",
          "parameters": { "binary_data_size": sparse } },
    ]})
}

#[tokio::test]
async fn raw_rows_score_as_offline_in_json_and_in_binary() {
    let server = server().await;
    // The last row is new: two of its values were never seen.
    let rows: Vec<[&str; 5]> =
        RAW.into_iter().chain([["9", "1e3", "0000000c", "hat", "red"]]).collect();
    let expected = offline(&server, &rows);
    assert_eq!(server.infer(&body(&rows)).await.scores(), expected);
    assert_eq!(server.service.last().batch.unknown_ids(), 2);
    assert_eq!(server.metric("mprec_unknown_ids_total"), 2.0);

    for (row, score) in rows.iter().zip(&expected) {
        assert_eq!(server.infer(&body(&[*row])).await.scores(), [*score], "{row:?}");
        let bytes: Vec<&[u8]> = row.iter().map(|value| value.as_bytes()).collect();
        let (dense, sparse) = (framed(&bytes[..2]), framed(&bytes[2..]));
        let binary = [&dense[..], &sparse].concat();
        let reply = send(&server, &document(dense.len(), sparse.len()), &binary).await;
        assert_eq!(reply.scores(), [*score], "{row:?}");
    }

    // Integers that are none of them missing.
    let mut integers = body(&[["3", "4", "0000000a", "shoe", "red"]]);
    let expected = server.infer(&integers).await.scores();
    integers["inputs"][0]["datatype"] = json!("INT64");
    integers["inputs"][0]["data"] = json!([3, 4]);
    assert_eq!(server.infer(&integers).await.scores(), expected);
}

#[tokio::test]
async fn tokens_are_bytes_of_any_encoding() {
    let server = server().await;
    let expected = offline(&server, &[["1", "2", "0000000a", "never seen", "red"]]);
    let (dense, sparse) = (framed(&[b"1", b"2"]), framed(&[b"0000000a", b"\xff\xfe\0", b"red"]));
    let binary = [&dense[..], &sparse].concat();
    let reply = send(&server, &document(dense.len(), sparse.len()), &binary).await;
    assert_eq!(reply.scores(), expected);
}

#[tokio::test]
async fn binary_elements_that_do_not_fill_the_tensor_are_refused() {
    let server = server().await;
    let dense = framed(&[b"1", b"2"]);
    let sparse = framed(&[b"0000000a", b"shoe", b"red"]);
    let mut long = sparse.clone();
    long[..4].copy_from_slice(&u32::MAX.to_le_bytes());
    let mut short = sparse.clone();
    short[0] -= 1;
    let two = framed(&[b"0000000a", b"shoe and red"]);
    let four = framed(&[b"0000000a", b"shoe", b"red", b""]);
    let lengths = vec![0xff; 12];
    for wrong in [&long, &short, &two, &four, &lengths, &sparse[..sparse.len() - 1].to_vec()] {
        let binary = [&dense[..], wrong].concat();
        let reply = send(&server, &document(dense.len(), wrong.len()), &binary).await;
        let message = reply.expect_error(400, "wrong_shape");
        assert!(message.contains("raw_sparse"), "{message}");
    }
    for size in [0, 11, 4_000_000_000_000_000_000] {
        let reply = send(&server, &document(dense.len(), size), &dense).await;
        reply.expect_error(400, if size < 12 { "wrong_shape" } else { "bad_input" });
    }
    let mut huge = document(dense.len(), 0);
    huge["inputs"][1]["shape"] = json!([1_u64 << 40, 1_u64 << 22]);
    send(&server, &huge, &dense).await.expect_error(400, "wrong_shape");
    assert_eq!(server.service.count(), 0);
}

#[tokio::test]
async fn values_that_no_raw_row_has_are_refused_by_name() {
    let server = server().await;
    let good = ["3", "0.5", "0000000a", "shoe", "red"];
    let long = "x".repeat(64 << 10);
    for (at, value, says) in [
        (0, "3.5", "integer"),
        (0, "three", "integer"),
        (1, "nan", "finite"),
        (1, "1e99", "finite"),
        (2, "a", "hexadecimal"),
        (2, "0000000g", "hexadecimal"),
        (3, "red, blue", "delimiter"),
        (3, "a\nb", "line end"),
        (4, "\"red\"", "quote"),
        (4, long.as_str(), "bytes together"),
    ] {
        let mut wrong = good;
        wrong[at] = value;
        let message = server.infer(&body(&[good, wrong])).await.expect_error(400, "bad_input");
        let input = if at < 2 { "`raw_dense`" } else { "`raw_sparse`" };
        assert!(message.contains(says) && message.contains(input), "{value:.20}: {message}");
        assert!(message.contains("sample 1"), "{message}");
        let feature = ["`a`", "`b`", "`s0`", "`s1`", "`s2`"][at];
        assert!(message.contains(feature) || value.len() > 100, "{message}");
    }
    assert_eq!(server.service.count(), 0);
}

#[tokio::test]
async fn raw_inputs_come_both_and_alone_and_of_their_datatypes() {
    let server = server().await;
    let change = |change: &dyn Fn(&mut Value)| {
        let mut body = body(&RAW[..1]);
        change(&mut body["inputs"]);
        body
    };
    for (code, wrong) in [
        ("bad_input", change(&|inputs| drop(inputs.as_array_mut().unwrap().pop()))),
        ("bad_input", change(&|inputs| drop(inputs.as_array_mut().unwrap().remove(0)))),
        (
            "bad_input",
            change(&|inputs| {
                let dense =
                    json!({ "name": "dense", "shape": [1, 2], "datatype": "FP32", "data": [1, 2] });
                inputs.as_array_mut().unwrap().push(dense);
            }),
        ),
        ("bad_input", change(&|inputs| inputs[0]["name"] = json!("raw_sparse"))),
        ("wrong_shape", change(&|inputs| inputs[0]["shape"] = json!([2, 1]))),
        ("wrong_shape", change(&|inputs| inputs[1]["shape"] = json!([3]))),
        (
            "wrong_shape",
            change(&|inputs| {
                inputs[0]["shape"] = json!([0, 2]);
                inputs[0]["data"] = json!([]);
            }),
        ),
        ("wrong_dtype", change(&|inputs| inputs[1]["datatype"] = json!("INT64"))),
        ("wrong_dtype", change(&|inputs| inputs[1]["data"] = json!([1, 2, 3]))),
        ("wrong_dtype", change(&|inputs| inputs[0]["datatype"] = json!("FP32"))),
        ("wrong_dtype", change(&|inputs| inputs[0]["datatype"] = json!("INT64"))),
        ("bad_json", change(&|inputs| inputs[1]["data"] = json!(["0000000a", 1, "x"]))),
        ("bad_json", change(&|inputs| inputs[1]["data"] = json!(["0000000a", null, "x"]))),
    ] {
        server.infer(&wrong).await.expect_error(400, code);
    }
    // Strings are no features.
    let features = json!({ "inputs": [
        { "name": "dense", "shape": [1, 2], "datatype": "FP32", "data": ["1", "2"] },
        { "name": "sparse", "shape": [1, 3], "datatype": "INT64", "data": [1, 1, 1] },
    ]});
    server.infer(&features).await.expect_error(400, "wrong_dtype");
    let many = vec![RAW[0]; 1001];
    server.infer(&body(&many)).await.expect_error(413, "too_many_samples");
    assert_eq!(server.service.count(), 0);
}

#[tokio::test]
async fn a_model_without_preprocessing_says_how_it_gets_one() {
    let server = Server::start().await;
    let message = server.infer(&body(&RAW)).await.expect_error(422, "raw_unsupported");
    assert!(message.contains("mprec data attach") && message.contains("`ctr`"), "{message}");
    let metadata = server.ask("GET", "/v2/models/ctr", "", b"").await.json();
    assert!(metadata["mprec"].get("raw_inputs").is_none(), "{metadata}");
}

#[tokio::test]
async fn raw_inputs_are_told_of_as_the_other_optional_ones_are() {
    let server = server().await;
    let metadata = server.ask("GET", "/v2/models/ctr", "", b"").await.json();
    assert_eq!(
        metadata["mprec"]["raw_inputs"],
        json!([
            { "name": "raw_dense", "datatype": "BYTES", "shape": [-1, 2] },
            { "name": "raw_sparse", "datatype": "BYTES", "shape": [-1, 3] },
        ])
    );
    // Clients that take every input for required see the two that are enough.
    assert_eq!(metadata["inputs"].as_array().unwrap().len(), 2);
    let config = server.ask("GET", "/v2/models/ctr/config", "", b"").await.json();
    assert_eq!(config["input"].as_array().unwrap().len(), 2);
}
