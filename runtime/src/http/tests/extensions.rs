//! Triton's extensions that are questions about models.

use super::*;

#[tokio::test]
async fn a_model_states_its_configuration() {
    let server = Server::start().await;
    for path in ["/v2/models/ctr/config", "/v2/models/ctr/versions/7/config"] {
        let config = server.ask("GET", path, "", b"").await.json();
        assert_eq!((&config["name"], &config["max_batch_size"]), (&json!("ctr"), &json!(1000)));
        let dense = json!({ "name": "dense", "data_type": "TYPE_FP32", "dims": [2] });
        assert_eq!(config["input"][0], dense);
        assert_eq!(config["output"][0]["dims"], json!([]));
    }
    let reply = server.ask("GET", "/v2/models/ctr/versions/8/config", "", b"").await;
    reply.expect_error(404, "unknown_version");
    server.ask("POST", "/v2/models/ctr/config", "", b"").await.expect_error(405, "wrong_verb");
}

#[tokio::test]
async fn statistics_are_of_one_model_or_of_all() {
    let server = Server::start().await;
    for _ in 0..3 {
        server.infer(&request()).await.scores();
    }
    for path in ["/v2/models/stats", "/v2/models/ctr/stats", "/v2/models/ctr/versions/7/stats"] {
        let statistics = server.ask("GET", path, "", b"").await.json();
        let rows = statistics["model_stats"].as_array().unwrap();
        let names: Vec<_> = rows.iter().map(|row| row["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["ctr", "ctr:table@cpu"]);
        for row in rows {
            assert_eq!(row["inference_stats"]["success"]["count"], 3);
        }
        assert_eq!(rows[0]["inference_stats"]["fail"]["count"], 4);
    }
    server.ask("GET", "/v2/models/x/stats", "", b"").await.expect_error(404, "unknown_model");
}

#[tokio::test]
async fn what_is_advertised_is_there() {
    let server = Server::start().await;
    let extensions = server.ask("GET", "/v2", "", b"").await.json()["extensions"].clone();
    let extensions: Vec<String> = serde_json::from_value(extensions).unwrap();
    for (extension, path) in [
        ("model_configuration", "/v2/models/ctr/config"),
        ("statistics", "/v2/models/ctr/stats"),
        ("model_repository", "/v2/repository/index"),
        ("trace", "/v2/trace/setting"),
        ("logging", "/v2/logging"),
        ("system_shared_memory", "/v2/systemsharedmemory/status"),
    ] {
        let status = server.ask("GET", path, "", b"").await.status;
        // One that takes other verbs is there, too.
        let is_there = status == 200 || status == 405;
        assert_eq!(extensions.iter().any(|name| name == extension), is_there, "{extension}");
    }
}

#[tokio::test]
async fn the_load_is_reported_to_those_who_ask() {
    let server = Server::start().await;
    let body = request().to_string();
    let ask = async |headers: &str| {
        server.ask("POST", "/v2/models/ctr/infer", headers, body.as_bytes()).await
    };
    assert_eq!(ask("").await.header("endpoint-load-metrics"), None);
    let reply = ask("endpoint-load-metrics-format: text\r\n").await;
    let report = reply.header("endpoint-load-metrics").unwrap();
    assert!(report.starts_with("text application_utilization=0.25"), "{report}");
    let reply = ask("Endpoint-Load-Metrics-Format: JSON\r\n").await;
    let report = reply.header("endpoint-load-metrics").unwrap();
    let report: Value = serde_json::from_str(report.strip_prefix("json ").unwrap()).unwrap();
    assert_eq!(report["named_metrics"]["queued_samples"], 20.0);
    ask("endpoint-load-metrics-format: bin\r\n").await.expect_error(400, "bad_header");
}

#[tokio::test]
async fn statuses_may_be_tritons() {
    let statuses = crate::endpoint::Statuses::Triton;
    let config = HttpConfig { statuses, max_body_bytes: 5_000, ..HttpConfig::default() };
    let server = Server::with(OutOfVocabulary::Zero, config).await;
    let retry_after = Duration::from_millis(20);
    let overloaded = Refusal::Overloaded { reason: "no path can answer in time", retry_after };
    let late = Refusal::DeadlinePassed { late: Duration::from_micros(5) };
    for (refusal, code) in [(overloaded, "overloaded"), (late, "deadline_passed")] {
        server.service.behave(Behaviour::Refuse(refusal));
        server.infer(&request()).await.expect_error(503, code);
    }
    let reply = server.ask("POST", "/v2/models/ctr/infer", "", &[b' '; 6_000]).await;
    reply.expect_error(400, "body_too_large");
    let headers = "content-encoding: br\r\n";
    let reply = server.ask("POST", "/v2/models/ctr/infer", headers, b"{}").await;
    reply.expect_error(501, "unsupported_encoding");
}

#[tokio::test]
async fn the_endpoint_describes_itself() {
    let server = Server::start().await;
    let document = server.ask("GET", "/v2/openapi.json", "", b"").await.json();
    assert_eq!(document["openapi"], "3.1.0");
    for path in document["paths"].as_object().unwrap().keys() {
        let path = path.replace("{model_name}", "ctr").replace("{model_version}", "7");
        if !path.ends_with("/infer") {
            assert_eq!(server.ask("GET", &path, "", b"").await.status, 200, "{path}");
        }
    }
}
