use super::*;

#[tokio::test]
async fn json_and_binary_requests_score_the_same() {
    let server = Server::start().await;
    let reply = server.infer(&request()).await;
    assert_eq!(reply.scores(), expected());
    assert_eq!(reply.header("content-type"), Some("application/json"));
    assert_eq!(reply.header("inference-header-content-length"), None);

    let (body, length) = binary_request(&json!({ "parameters": { "binary_data_output": true } }));
    let headers = format!("Inference-Header-Content-Length: {length}\r\n");
    let reply = server.ask("POST", "/v2/models/ctr/infer", &headers, &body).await;
    assert_eq!(reply.binary().0, expected());

    // Each direction chooses for itself, and an output overrides the request.
    let outputs = json!([{ "name": "scores", "parameters": { "binary_data": false } }]);
    let with = json!({ "parameters": { "binary_data_output": true }, "outputs": outputs });
    let (body, length) = binary_request(&with);
    let headers = format!("Inference-Header-Content-Length: {length}\r\n");
    let reply = server.ask("POST", "/v2/models/ctr/infer", &headers, &body).await;
    assert_eq!(reply.scores(), expected());
    let mut body = request();
    body["outputs"] = json!([{ "name": "scores", "parameters": { "binary_data": true } }]);
    assert_eq!(server.infer(&body).await.binary().0, expected());
    body["outputs"] = json!([{ "name": "scores" }]);
    assert_eq!(server.infer(&body).await.scores(), expected());
    body["outputs"] = json!([]);
    assert_eq!(server.infer(&body).await.scores(), expected());
}

#[tokio::test]
async fn a_json_request_may_state_its_length_and_lack_a_content_type() {
    let server = Server::start().await;
    let body = request().to_string();
    let headers = format!("inference-header-content-length: {}\r\n", body.len());
    let path = "/v2/models/ctr/versions/7/infer";
    let reply = server.ask("POST", path, &headers, body.as_bytes()).await;
    assert_eq!(reply.scores(), expected());
}

#[tokio::test]
async fn members_may_come_in_any_order_and_unknown_ones_pass() {
    let server = Server::start().await;
    let body = r#"{ "future": [{"x": null}], "inputs": [
        { "data": [[1, 2, 3], [9, 19, 29]], "shape": [2, 3], "datatype": "INT64", "name": "sparse" },
        { "data": [0.1, -2.5, 3.25, 0.001], "note": {}, "name": "dense", "datatype": "FP32",
          "parameters": { "content_type": "np" }, "shape": [2, 2] } ] }"#;
    let reply = server.ask("POST", "/v2/models/ctr/infer", "", body.as_bytes()).await;
    assert_eq!(reply.scores(), expected());
}

#[tokio::test]
async fn whole_numbers_are_floats_where_floats_are_asked_for() {
    let server = Server::start().await;
    let mut body = request();
    body["inputs"][0]["data"] = json!([1, 2, 3, 4]);
    let whole = server.infer(&body).await.scores();
    body["inputs"][0]["data"] = json!([[1, 2.0], [3.0, 4]]);
    assert_eq!(server.infer(&body).await.scores(), whole);
}

#[tokio::test]
async fn a_reply_says_how_it_came_about() {
    let server = Server::start().await;
    let mut body = request();
    body["id"] = json!("abc \" 1");
    let reply = server.infer(&body).await.json();
    assert_eq!(reply["id"], "abc \" 1");
    assert_eq!(reply["model_name"], "ctr");
    assert_eq!(reply["model_version"], "7");
    let latency = reply["parameters"]["latency_us"].as_u64().unwrap();
    assert!(latency < 20_000_000, "{latency}");
    assert_eq!(
        reply["parameters"],
        json!({
            "path": "table@cpu", "variant": "table", "version": "7", "quality": 0.75,
            "downgraded": true, "queue_us": 12, "compute_us": 345, "batch_samples": 2,
            "predicted_us": 400, "latency_us": latency,
        })
    );
    for absent in [json!(""), Value::Null] {
        body["id"] = absent;
        assert_eq!(server.infer(&body).await.json().get("id"), None);
    }
}

#[tokio::test]
async fn bags_of_any_length_arrive_at_their_feature() {
    let server = Server::start().await;
    let lengths = [2, 0, 1, 1, 3, 0];
    let ids = [4, 5, 6, 7, 8, 9, 10];
    let weights = [0.5, 1.0, 2.0, 0.25, 1.0, -1.0, 3.0];
    let mut body = json!({ "inputs": [
        { "name": "dense", "shape": [2, 2], "datatype": "FP32", "data": dense() },
        { "name": "sparse", "shape": [7], "datatype": "INT64", "data": ids },
        { "name": "sparse_lengths", "shape": [2, 3], "datatype": "INT32",
          "data": [[2, 0, 1], [1, 3, 0]] },
        { "name": "sparse_weights", "shape": [7], "datatype": "FP32", "data": weights },
    ]});
    let weighted = server.infer(&body).await.scores();
    let batch = server.service.last().batch;
    assert_eq!(batch.bags(0).ids(), [4, 5, 7]);
    assert_eq!(batch.bags(0).weights().unwrap(), [0.5, 1.0, 0.25]);
    assert_eq!(batch.bags(1).ids(), [8, 9, 10]);
    assert_eq!((batch.bags(1).range(0), batch.bags(1).range(1)), (0..0, 0..3));
    assert_eq!(batch.bags(2).ids(), [6]);

    // The same in binary, with lengths of both widths.
    for datatype in ["INT32", "INT64"] {
        let width = if datatype == "INT32" { 4 } else { 8 };
        let document = json!({ "parameters": { "binary_data_output": true }, "inputs": [
            { "name": "sparse_lengths", "shape": [2, 3], "datatype": datatype,
              "parameters": { "binary_data_size": 6 * width } },
            { "name": "sparse_weights", "shape": [7], "datatype": "FP32",
              "parameters": { "binary_data_size": 28 } },
            { "name": "sparse", "shape": [7], "datatype": "INT64",
              "parameters": { "binary_data_size": 56 } },
            { "name": "dense", "shape": [2, 2], "datatype": "FP32", "data": dense() },
        ]});
        let mut bytes = document.to_string().into_bytes();
        let length = bytes.len();
        bytes
            .extend(lengths.iter().flat_map(|length: &i64| length.to_le_bytes()[..width].to_vec()));
        bytes.extend(weights.iter().flat_map(|&weight| (weight as f32).to_le_bytes()));
        bytes.extend(ids.iter().flat_map(|id: &i64| id.to_le_bytes()));
        let headers = format!("inference-header-content-length: {length}\r\n");
        let reply = server.ask("POST", "/v2/models/ctr/infer", &headers, &bytes).await;
        assert_eq!(reply.binary().0, weighted);
    }

    // Without weights, every id counts once.
    body["inputs"].as_array_mut().unwrap().pop();
    assert_ne!(server.infer(&body).await.scores(), weighted);
    assert!(server.service.last().batch.bags(0).weights().is_none());
}

#[tokio::test]
async fn the_smallest_budget_sets_the_deadline() {
    let server = Server::start().await;
    for (parameters, header, milliseconds) in [
        (json!({}), "", 250.0),
        (json!({ "sla_ms": 20 }), "", 20.0),
        (json!({ "sla_ms": 20.5, "timeout": 30_000 }), "", 20.5),
        (json!({ "sla_ms": 20, "timeout": 10_000 }), "mprec-sla-ms: 30\r\n", 10.0),
        (json!({ "sla_ms": 20, "timeout": 0 }), "Mprec-Sla-Ms: 7.5\r\n", 7.5),
        // A client may ask for more than the default, up to the server's limit.
        (json!({ "sla_ms": 90_000 }), "", 90_000.0),
        (json!({ "sla_ms": 1e12 }), "", 600_000.0),
        (json!({ "timeout": i64::MAX }), "", 600_000.0),
    ] {
        let mut body = request();
        body["parameters"] = parameters.clone();
        let body = body.to_string();
        let reply = server.ask("POST", "/v2/models/ctr/infer", header, body.as_bytes()).await;
        assert_eq!(reply.status, 200);
        let query = server.service.last();
        let budget = (query.deadline - query.arrival).as_secs_f64() * 1e3;
        assert!((budget - milliseconds).abs() < 1e-6, "{parameters} {header} {budget}");
    }
}

#[tokio::test]
async fn quality_and_priority_reach_the_service() {
    let server = Server::start().await;
    let mut body = request();
    body["parameters"] = json!({ "min_quality": 0.79, "priority": 2, "triton_x": "y" });
    assert_eq!(server.infer(&body).await.status, 200);
    let query = server.service.last();
    assert_eq!((query.min_quality, query.priority), (Some(0.79), 2));
    assert_eq!(server.infer(&request()).await.status, 200);
    let query = server.service.last();
    assert_eq!((query.min_quality, query.priority), (None, 0));
}

#[tokio::test]
async fn metadata_says_what_a_client_needs() {
    let server = Server::start().await;
    let reply = server.ask("GET", "/v2", "", b"").await.json();
    assert_eq!(reply["name"], "mprec");
    assert_eq!(reply["models"], json!(["ctr"]));
    let extensions = [
        "binary_tensor_data",
        "model_configuration",
        "parameters",
        "schedule_policy",
        "statistics",
    ];
    assert_eq!(reply["extensions"], json!(extensions));

    let by_version = server.ask("GET", "/v2/models/ctr/versions/7", "", b"").await.json();
    let reply = server.ask("GET", "/v2/models/ctr?x=y", "", b"").await.json();
    assert_eq!(reply, by_version);
    assert_eq!(reply["versions"], json!(["7"]));
    assert_eq!(reply["inputs"][0]["shape"], json!([-1, 2]));
    assert_eq!(reply["inputs"][1]["shape"], json!([-1, 3]));
    assert_eq!(reply["outputs"][0]["datatype"], "FP32");
    assert_eq!(reply["mprec"]["sla_ms"], 250.0);
    assert_eq!(reply["mprec"]["paths"]["dhe@cpu"]["quality"], 0.8);
    let metadata: crate::endpoint::ModelMetadata = serde_json::from_value(reply).unwrap();
    assert_eq!(metadata.mprec.schema, server.service.model.schema);
}

#[tokio::test]
async fn health_follows_the_service() {
    let server = Server::start().await;
    let paths = [
        ("/v2/health/ready", json!({ "ready": true })),
        ("/v2/models/ctr/ready", json!({ "name": "ctr", "ready": true })),
        ("/v2/models/ctr/versions/7/ready", json!({ "name": "ctr", "ready": true })),
    ];
    for (path, body) in &paths {
        let reply = server.ask("GET", path, "", b"").await;
        assert_eq!((reply.status, &reply.json()), (200, body));
    }
    server.service.ready.store(false, std::sync::atomic::Ordering::Relaxed);
    for (path, _) in &paths {
        let reply = server.ask("GET", path, "", b"").await;
        assert_eq!((reply.status, &reply.json()["ready"]), (503, &json!(false)));
    }
    assert_eq!(server.ask("GET", "/v2/health/live", "", b"").await.json(), json!({ "live": true }));
}

#[tokio::test]
async fn metrics_count_what_happened() {
    let server = Server::start().await;
    assert_eq!(server.infer(&request()).await.status, 200);
    let mut unknown = request();
    unknown["inputs"][1]["data"] = json!([-1, 2, 3, 9, i64::MAX, 29]);
    assert_eq!(server.infer(&unknown).await.status, 200);
    assert_eq!(server.infer(&json!({})).await.status, 400);
    server.service.behave(Behaviour::RefuseLater(Refusal::Unavailable { reason: "no path is up" }));
    assert_eq!(server.infer(&request()).await.status, 503);
    let reply = server.ask("GET", "/metrics", "", b"").await;
    assert!(reply.header("content-type").unwrap().starts_with("text/plain; version=0.0.4"));
    for (name, value) in [
        ("mprec_requests_total{code=\"ok\"}", 2.0),
        ("mprec_requests_total{code=\"bad_json\"}", 1.0),
        ("mprec_requests_total{code=\"unavailable\"}", 1.0),
        ("mprec_queries_refused_total{reason=\"unavailable\"}", 1.0),
        ("mprec_unknown_ids_total", 2.0),
        ("mprec_queries_answered_total{path=\"table@cpu\",timing=\"in_time\"}", 2.0),
        ("mprec_samples_in_time_total{path=\"table@cpu\"}", 4.0),
        ("mprec_correct_in_time_total{path=\"table@cpu\"}", 3.0),
        ("mprec_query_latency_seconds_bucket{path=\"table@cpu\",le=\"0.25\"}", 2.0),
        ("mprec_request_duration_seconds_count", 4.0),
        ("mprec_requests_in_flight", 0.0),
    ] {
        assert_eq!(server.metric(name), value, "{name}");
    }
}
