use super::*;

/// Sends [`request`] with the value at `pointer` replaced (or removed, for null).
async fn with(server: &Server, pointer: &str, value: Value) -> Reply {
    let mut body = request();
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let parent = body.pointer_mut(parent).unwrap();
    match (parent, value) {
        (Value::Object(map), Value::Null) => drop(map.remove(name)),
        (Value::Object(map), value) => drop(map.insert(name.to_owned(), value)),
        (Value::Array(list), value) => list.insert(name.parse().unwrap(), value),
        _ => panic!("{pointer}"),
    }
    server.infer(&body).await
}

#[tokio::test]
async fn what_is_not_a_request_is_bad_json() {
    let server = Server::start().await;
    let many = "{\"name\":\"x\"},".repeat(17);
    for body in [
        "",
        "{",
        "[]",
        "null",
        "{}",
        r#"{"inputs": 3}"#,
        r#"{"inputs": [{"name": "dense"}]}"#,
        r#"{"inputs": [], "inputs": []}"#,
        r#"{"inputs": [{"name":"dense","shape":[1,2],"datatype":"FP32","data":[NaN,1]}]}"#,
        r#"{"inputs": [{"name":"dense","shape":[1,2],"datatype":"FP32","data":["a",1]}]}"#,
        r#"{"inputs": [{"name":"dense","shape":[1.5],"datatype":"FP32","data":[1]}]}"#,
        r#"{"inputs": [{"name":"dense","shape":[1,1,1,1,1,1,1,1,1],"datatype":"FP32","data":[1]}]}"#,
        "{\"inputs\": []} trailing",
        "\u{feff}{\"inputs\": []}",
        &format!("{{\"inputs\": [{}]}}", many.trim_end_matches(',')),
        // Depth: the reader gives up long before the stack does.
        &"[".repeat(1_000_000),
        &format!("{{\"x\": {}", "[".repeat(1_000_000)),
        &format!("{{\"inputs\": [{{\"data\": {}", "[".repeat(1_000_000)),
    ] {
        let reply = server.ask("POST", "/v2/models/ctr/infer", "", body.as_bytes()).await;
        reply.expect_error(400, "bad_json");
        assert!(reply.body.len() < 2000);
    }
    let reply = server.ask("POST", "/v2/models/ctr/infer", "", b"{\"inputs\": \xff}").await;
    reply.expect_error(400, "bad_json");
}

#[tokio::test]
async fn a_long_name_is_not_echoed_in_full() {
    let server = Server::start().await;
    let reply = with(&server, "/inputs/0/name", json!("é".repeat(100_000))).await;
    reply.expect_error(400, "bad_input");
    assert!(reply.body.len() < 2000);
}

#[tokio::test]
async fn inputs_must_be_there_known_and_once() {
    let server = Server::start().await;
    let dense = request()["inputs"][0].clone();
    for (pointer, value) in [
        ("/inputs/0/name", json!("dens")),
        ("/inputs/2", dense),
        ("/inputs/0/data", Value::Null),
        ("/inputs/0/parameters", json!({ "binary_data_size": 16 })),
    ] {
        with(&server, pointer, value).await.expect_error(400, "bad_input");
    }
    let message = server.infer(&json!({ "inputs": [] })).await.expect_error(400, "bad_input");
    assert_eq!(message, "input `dense` is missing");
    let weights = json!({ "name": "sparse_weights", "shape": [6], "datatype": "FP32",
        "data": [1, 1, 1, 1, 1, 1] });
    with(&server, "/inputs/2", weights).await.expect_error(400, "bad_input");
}

#[tokio::test]
async fn shapes_must_agree_with_model_data_and_arithmetic() {
    let server = Server::start().await;
    let huge = 1_u64 << 63;
    for (pointer, value) in [
        ("/inputs/0/shape", json!([2, 3])),
        ("/inputs/0/shape", json!([4])),
        ("/inputs/0/shape", json!([1, 2])),
        ("/inputs/0/shape", json!([])),
        ("/inputs/0/shape", json!([-2, -2])),
        ("/inputs/0/shape", json!([huge, huge])),
        ("/inputs/0/shape", json!([huge, 0])),
        ("/inputs/0/shape", json!([u64::MAX, 2])),
        ("/inputs/0/shape", json!([4294967296_u64, 4294967296_u64])),
        ("/inputs/0/data", json!([0.1, 0.2])),
        ("/inputs/0/data", json!([[0.1, 0.2], [0.3]])),
        ("/inputs/0/data", json!([[[0.1, 0.2], [0.3, 0.4]]])),
        ("/inputs/0/data", json!([[0.1], [0.2], [0.3], [0.4]])),
        ("/inputs/0/data", json!([0.1, [0.2], 0.3, 0.4])),
        ("/inputs/1/shape", json!([3, 2])),
        ("/inputs/1/shape", json!([1, 3])),
        ("/inputs/1/data", json!([])),
    ] {
        with(&server, pointer, value).await.expect_error(400, "wrong_shape");
    }
    let mut none = request();
    for (at, width) in [(0, 2), (1, 3)] {
        none["inputs"][at]["shape"] = json!([0, width]);
        none["inputs"][at]["data"] = json!([]);
    }
    server.infer(&none).await.expect_error(400, "wrong_shape");
}

#[tokio::test]
async fn ragged_lengths_must_add_up() {
    let server = Server::start().await;
    let lengths = |data: Value| {
        let mut body = request();
        body["inputs"][1]["shape"] = json!([6]);
        body["inputs"].as_array_mut().unwrap().push(json!({
            "name": "sparse_lengths", "shape": [2, 3], "datatype": "INT64", "data": data }));
        body
    };
    assert_eq!(server.infer(&lengths(json!([1, 1, 1, 1, 1, 1]))).await.scores(), expected());
    for data in [
        json!([1, 1, 1, 1, 1, 0]),
        json!([1, 1, 1, 1, 1, 2]),
        json!([-1, 1, 1, 1, 1, 3]),
        json!([4294967296_u64, 1, 1, 1, 1, 1]),
        json!([4294967295_u64, 4294967295_u64, 1, 1, 1, 1]),
        json!([1, 1, 1, 1, 1]),
    ] {
        server.infer(&lengths(data)).await.expect_error(400, "wrong_shape");
    }
}

#[tokio::test]
async fn datatypes_must_be_what_the_inputs_take() {
    let server = Server::start().await;
    for (pointer, value) in [
        ("/inputs/0/datatype", json!("FP64")),
        ("/inputs/0/datatype", json!("INT64")),
        ("/inputs/0/datatype", json!("fp32")),
        ("/inputs/0/datatype", json!("")),
        ("/inputs/1/datatype", json!("FP32")),
        ("/inputs/1/datatype", json!("INT32")),
        ("/inputs/1/datatype", json!("BYTES")),
        ("/inputs/1/data", json!([1, 2, 3, 9, 19, 29.0])),
        ("/inputs/1/data", json!([1, 2, 3, 9, 19, 1_u64 << 63])),
    ] {
        with(&server, pointer, value).await.expect_error(400, "wrong_dtype");
    }
    let (body, length) = binary_request(&json!({ "inputs": [
        { "name": "dense", "shape": [2, 2], "datatype": "BYTES",
          "parameters": { "binary_data_size": 16 } },
        { "name": "sparse", "shape": [2, 3], "datatype": "INT64",
          "parameters": { "binary_data_size": 48 } }] }));
    let headers = format!("inference-header-content-length: {length}\r\n");
    let reply = server.ask("POST", "/v2/models/ctr/infer", &headers, &body).await;
    reply.expect_error(400, "wrong_dtype");
}

#[tokio::test]
async fn values_must_be_finite_and_ids_known_where_the_schema_says_so() {
    let server = Server::with(OutOfVocabulary::Refuse, HttpConfig::default()).await;
    assert_eq!(server.infer(&request()).await.scores(), expected());
    for id in [10, -1, i64::MIN, i64::MAX] {
        let mut body = request();
        body["inputs"][1]["data"][3] = json!(id);
        let message = server.infer(&body).await.expect_error(400, "id_out_of_range");
        assert!(message.contains(&id.to_string()), "{message}");
    }
    let mut body = request();
    body["inputs"][0]["data"][0][1] = json!(1e39);
    server.infer(&body).await.expect_error(400, "not_finite");
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let (mut body, length) = binary_request(&json!({}));
        body[length + 4..length + 8].copy_from_slice(&value.to_le_bytes());
        let headers = format!("inference-header-content-length: {length}\r\n");
        let reply = server.ask("POST", "/v2/models/ctr/infer", &headers, &body).await;
        reply.expect_error(400, "not_finite");
    }
}

#[tokio::test]
async fn binary_sizes_must_fit_their_shapes_and_the_body() {
    let server = Server::start().await;
    let (body, length) = binary_request(&json!({}));
    for (headers, body, code) in [
        (format!("{}", length + 10_000), &body[..], "bad_header"),
        ("-1".into(), &body, "bad_header"),
        ("+5".into(), &body, "bad_header"),
        ("99999999999999999999999".into(), &body, "bad_header"),
        ("0".into(), &body, "bad_header"),
        (format!("{}", length - 1), &body, "bad_json"),
        (format!("{}", length + 1), &body, "bad_json"),
        (format!("{length}"), &body[..body.len() - 1], "bad_input"),
        (format!("{length}"), &[&body[..], &[0]].concat(), "bad_input"),
        (format!("{length}\r\ninference-header-content-length: {length}"), &body, "bad_header"),
    ] {
        let headers = format!("inference-header-content-length: {headers}\r\n");
        let reply = server.ask("POST", "/v2/models/ctr/infer", &headers, body).await;
        reply.expect_error(400, code);
    }
    for (shape, size, code) in [
        (json!([2, 2]), json!(15), "wrong_shape"),
        (json!([2, 2]), json!(-16), "bad_parameter"),
        (json!([2, 2]), json!("16"), "bad_parameter"),
        (json!([1_u64 << 62, 2]), json!(0), "wrong_shape"),
        (json!([1_u64 << 61, 4]), json!(0), "wrong_shape"),
        (json!([1_u64 << 60, 2]), json!(1_u64 << 63), "bad_parameter"),
        (json!([1_u64 << 40, 2]), json!(1_u64 << 43), "bad_input"),
    ] {
        let (body, length) = binary_request(&json!({ "inputs": [
            { "name": "dense", "shape": shape, "datatype": "FP32",
              "parameters": { "binary_data_size": size } }] }));
        let headers = format!("inference-header-content-length: {length}\r\n");
        let reply = server.ask("POST", "/v2/models/ctr/infer", &headers, &body).await;
        reply.expect_error(400, code);
    }
}

#[tokio::test]
async fn parameters_headers_and_outputs_are_checked() {
    let server = Server::start().await;
    for parameters in
        [json!({ "sla_ms": -5 }), json!({ "min_qualty": 0.5 }), json!({ "priority": -1 })]
    {
        with(&server, "/parameters", parameters).await.expect_error(400, "bad_parameter");
    }
    let twice = json!([{ "name": "scores" }, { "name": "scores" }]);
    let classes = json!([{ "name": "scores", "parameters": { "classification": 3 } }]);
    for outputs in [json!([{ "name": "logits" }]), twice, classes] {
        with(&server, "/outputs", outputs).await.expect_error(400, "bad_output");
    }
    let body = request().to_string();
    for sla in ["0", "-1", "x", "NaN", "inf", "", "5\r\nmprec-sla-ms: 6"] {
        let headers = format!("mprec-sla-ms: {sla}\r\n");
        let reply = server.ask("POST", "/v2/models/ctr/infer", &headers, body.as_bytes()).await;
        reply.expect_error(400, "bad_header");
    }
}

#[tokio::test]
async fn urls_and_verbs_are_checked() {
    let server = Server::start().await;
    let body = request().to_string();
    for (verb, path, status, code) in [
        ("POST", "/v2/models/cvr/infer", 404, "unknown_model"),
        ("GET", "/v2/models/cvr", 404, "unknown_model"),
        ("GET", "/v2/models/..%2f..%2fetc%2fpasswd", 404, "unknown_model"),
        ("GET", "/v2/models/%00", 404, "unknown_model"),
        ("POST", "/v2/models/ctr/versions/8/infer", 404, "unknown_version"),
        ("GET", "/v2/models/ctr/versions/8/ready", 404, "unknown_version"),
        ("GET", "/v2/models/ctr/../ctr", 404, "unknown_route"),
        ("GET", "/nothing", 404, "unknown_route"),
        ("POST", "/v2/models/ctr/infer/", 404, "unknown_route"),
        ("GET", "/v2/models/ctr/infer", 405, "wrong_verb"),
        ("PUT", "/v2/models/ctr/infer", 405, "wrong_verb"),
        ("POST", "/v2", 405, "wrong_verb"),
        ("DELETE", "/metrics", 405, "wrong_verb"),
        ("BREW", "/v2/health/live", 405, "wrong_verb"),
    ] {
        let reply = server.ask(verb, path, "", body.as_bytes()).await;
        reply.expect_error(status, code);
        if status == 405 {
            let allowed = if path.ends_with("infer") { "post" } else { "get, head" };
            assert_eq!(reply.header("allow"), Some(allowed));
        }
    }
}

#[tokio::test]
async fn too_much_is_refused_before_it_is_read() {
    let config = HttpConfig { max_body_bytes: 1000, ..HttpConfig::default() };
    let server = Server::with(OutOfVocabulary::Zero, config).await;
    let body = request().to_string();
    assert_eq!(server.ask("POST", "/v2/models/ctr/infer", "", body.as_bytes()).await.status, 200);
    // Only the promise of a body: the answer does not wait for it.
    let mut client = server.connect().await;
    let head =
        "POST /v2/models/ctr/infer HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999\r\n\r\n";
    client.stream.write_all(head.as_bytes()).await.unwrap();
    client.reply().await.unwrap().expect_error(413, "body_too_large");
    // Chunks promise nothing.
    let mut client = server.connect().await;
    let head =
        "POST /v2/models/ctr/infer HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
    client.stream.write_all(head.as_bytes()).await.unwrap();
    let _ = client
        .stream
        .write_all(format!("3e9\r\n{}\r\n0\r\n\r\n", "x".repeat(1001)).as_bytes())
        .await;
    client.reply().await.unwrap().expect_error(413, "body_too_large");
}

#[tokio::test]
async fn too_many_samples_are_refused() {
    let server = Server::start().await;
    for (samples, status) in [(1000, 200), (1001, 413)] {
        let body = json!({ "inputs": [
            { "name": "dense", "shape": [samples, 2], "datatype": "FP32",
              "data": vec![0.5; samples * 2] },
            { "name": "sparse", "shape": [samples, 3], "datatype": "INT64",
              "data": vec![1; samples * 3] },
        ]});
        let reply = server.infer(&body).await;
        assert_eq!(reply.status, status);
        if status == 413 {
            reply.expect_error(413, "too_many_samples");
        }
    }
}

#[tokio::test]
async fn refusals_have_their_statuses_at_once_and_later() {
    let server = Server::start().await;
    let wait = Duration::from_micros(2_300_500);
    for (refusal, status, code) in [
        (Refusal::Overloaded { reason: "no path", retry_after: wait }, 429, "overloaded"),
        (Refusal::Quality { min_quality: 0.9, best: 0.8 }, 422, "quality_unreachable"),
        (Refusal::Weighted, 422, "weights_unsupported"),
        (Refusal::DeadlinePassed { late: wait }, 504, "deadline_passed"),
        (Refusal::Unavailable { reason: "stopping" }, 503, "unavailable"),
        (
            Refusal::Failed { path: "table@cpu".into(), message: "secret".into() },
            500,
            "path_failed",
        ),
    ] {
        for behaviour in [Behaviour::Refuse(refusal.clone()), Behaviour::RefuseLater(refusal)] {
            server.service.behave(behaviour);
            let reply = server.infer(&request()).await;
            let message = reply.expect_error(status, code);
            assert!(!message.contains("secret"));
            let overloaded = status == 429;
            assert_eq!(reply.header("retry-after"), overloaded.then_some("3"));
            let retry = reply.json().get("retry_after_ms").cloned();
            assert_eq!(retry, overloaded.then_some(json!(2300)));
        }
    }
    let soon = Refusal::Overloaded { reason: "x", retry_after: Duration::ZERO };
    server.service.behave(Behaviour::Refuse(soon));
    let reply = server.infer(&request()).await;
    assert_eq!(reply.header("retry-after"), Some("1"));
    assert_eq!(reply.json()["retry_after_ms"], 1);
}

#[tokio::test]
async fn a_service_that_breaks_its_promise_is_an_internal_error() {
    let limits = Limits { patience: Duration::from_millis(30), ..Limits::default() };
    let server = Server::with_limits(OutOfVocabulary::Zero, HttpConfig::default(), limits).await;
    for behaviour in [
        Behaviour::Lose,
        Behaviour::Say(vec![0.5]),
        Behaviour::Say(vec![0.5, f32::NAN]),
        Behaviour::Hold,
    ] {
        server.service.behave(behaviour);
        server.infer(&request()).await.expect_error(500, "internal");
    }
}
