//! The status page, and the listener for those who watch.

use super::*;
use crate::http::Routes;

#[tokio::test]
async fn the_page_and_its_files_are_served_with_a_strict_policy() {
    let server = Server::start().await;
    server.infer(&request()).await.scores();
    for (path, content_type, part) in [
        ("/", "text/html; charset=utf-8", "ctr version 7"),
        ("/status.css", "text/css; charset=utf-8", "prefers-color-scheme"),
        ("/status.js", "text/javascript; charset=utf-8", "status.json"),
        ("/status.json", "application/json", "\"in_time\":1"),
    ] {
        let reply = server.ask("GET", path, "", b"").await;
        let body = String::from_utf8(reply.body.clone()).unwrap();
        assert_eq!(
            (reply.status, reply.header("content-type")),
            (200, Some(content_type)),
            "{path}"
        );
        assert!(body.contains(part), "{path}: {body}");
        let policy = reply.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
    }
    server.ask("POST", "/", "", b"").await.expect_error(405, "wrong_verb");
    server.stop().await;
}

#[tokio::test]
async fn a_listener_for_those_who_watch_answers_no_query() {
    let config = HttpConfig { routes: Routes::Observation, ..HttpConfig::default() };
    let server = Server::with(OutOfVocabulary::Zero, config).await;
    for path in ["/", "/status.json", "/metrics", "/v2/health/ready", "/v2/health/live"] {
        assert_eq!(server.ask("GET", path, "", b"").await.status, 200, "{path}");
    }
    server.infer(&request()).await.expect_error(404, "unknown_route");
    for path in ["/v2", "/v2/models/ctr", "/v2/models/ctr/ready"] {
        server.ask("GET", path, "", b"").await.expect_error(404, "unknown_route");
    }
    assert_eq!(server.service.count(), 0);
    server.stop().await;
}

#[tokio::test]
async fn a_server_can_be_without_a_page() {
    let config = HttpConfig { status: None, ..HttpConfig::default() };
    let server = Server::with(OutOfVocabulary::Zero, config).await;
    for path in ["/", "/status.json", "/status.js"] {
        server.ask("GET", path, "", b"").await.expect_error(404, "unknown_route");
    }
    server.stop().await;
}
