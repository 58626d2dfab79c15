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
