//! Bodies that are compressed, either way.

use super::*;
use crate::http::coding::Coding;

const ALL: [Coding; 3] = [Coding::Gzip, Coding::Deflate, Coding::Zstd];

#[tokio::test]
async fn compressed_requests_score_the_same() {
    let server = Server::start().await;
    let json = request().to_string();
    let (binary, length) = binary_request(&json!({}));
    for coding in ALL {
        let headers = format!("content-encoding: {}\r\n", coding.name());
        let body = coding.encode(json.as_bytes()).unwrap();
        let reply = server.ask("POST", "/v2/models/ctr/infer", &headers, &body).await;
        assert_eq!(reply.scores(), expected(), "{coding:?}");
        // Lengths are those of the decoded body.
        let headers = format!("{headers}inference-header-content-length: {length}\r\n");
        let body = coding.encode(&binary).unwrap();
        let reply = server.ask("POST", "/v2/models/ctr/infer", &headers, &body).await;
        assert_eq!(reply.scores(), expected(), "{coding:?}");
    }
}

#[tokio::test]
async fn what_a_body_expands_to_is_limited_like_a_body() {
    let config = HttpConfig { max_body_bytes: 20_000, ..HttpConfig::default() };
    let server = Server::with(OutOfVocabulary::Zero, config).await;
    let mut padded = request().to_string();
    padded.push_str(&" ".repeat(1 << 20));
    for coding in ALL {
        let headers = format!("content-encoding: {}\r\n", coding.name());
        let body = coding.encode(padded.as_bytes()).unwrap();
        assert!(body.len() < 20_000, "{}", body.len());
        let reply = server.ask("POST", "/v2/models/ctr/infer", &headers, &body).await;
        reply.expect_error(413, "body_too_large");
        let body = request().to_string();
        let reply = server.ask("POST", "/v2/models/ctr/infer", &headers, body.as_bytes()).await;
        let message = reply.expect_error(400, "bad_encoding");
        assert!(message.contains(coding.name()), "{message}");
    }
    assert_eq!(server.service.count(), 0);
}

#[tokio::test]
async fn large_texts_are_compressed_for_those_who_ask() {
    let server = Server::start().await;
    let samples = 900;
    let scores: Vec<f32> = (0..samples).map(|at| at as f32 / 1000.0).collect();
    server.service.behave(Behaviour::Say(scores.clone()));
    let body = json!({ "inputs": [
        { "name": "dense", "shape": [samples, 2], "datatype": "FP32", "data": vec![0.5; samples * 2] },
        { "name": "sparse", "shape": [samples, 3], "datatype": "INT64", "data": vec![1; samples * 3] },
    ]});
    let plain = server.infer(&body).await;
    assert_eq!(plain.header("content-encoding"), None);
    for coding in ALL {
        let headers = format!("accept-encoding: br, {}\r\n", coding.name());
        let path = "/v2/models/ctr/infer";
        let mut reply = server.ask("POST", path, &headers, body.to_string().as_bytes()).await;
        assert_eq!(reply.header("content-encoding"), Some(coding.name()));
        assert_eq!(reply.header("vary"), Some("accept-encoding"));
        assert!(reply.body.len() < plain.body.len());
        reply.body = coding.decode(&reply.body, 1 << 20).unwrap();
        assert_eq!(reply.scores(), scores);
    }
    // Small ones, and raw floats, are not worth it.
    let reply = server.ask("GET", "/v2", "accept-encoding: gzip\r\n", b"").await;
    assert_eq!((reply.header("content-encoding"), &reply.json()["name"]), (None, &json!("mprec")));
    let mut binary = body;
    binary["parameters"] = json!({ "binary_data_output": true });
    let body = binary.to_string();
    let headers = "accept-encoding: gzip\r\n";
    let reply = server.ask("POST", "/v2/models/ctr/infer", headers, body.as_bytes()).await;
    assert_eq!(reply.header("content-encoding"), None);
    assert_eq!(reply.binary().0, scores);
}

#[tokio::test]
async fn an_unknown_coding_is_told_the_known_ones() {
    let server = Server::start().await;
    let body = request().to_string();
    for coding in ["br", "gzip, gzip", "compress"] {
        let headers = format!("content-encoding: {coding}\r\n");
        let reply = server.ask("POST", "/v2/models/ctr/infer", &headers, body.as_bytes()).await;
        let message = reply.expect_error(415, "unsupported_encoding");
        assert!(message.contains(coding) && message.contains("zstd"), "{message}");
        assert_eq!(reply.header("accept-encoding"), Some("gzip, deflate, zstd, identity"));
    }
}
