use std::sync::atomic::Ordering::Relaxed;

use super::*;
use crate::grpc::{
    health::MAX_WATCHES,
    protocol::health::{
        HealthCheckRequest,
        health_check_response::ServingStatus::{self, NotServing, ServiceUnknown, Serving},
        health_client::HealthClient,
    },
};

fn of(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.into() }
}

#[tokio::test]
async fn a_check_is_as_ready_as_the_service() {
    let server = Server::start().await;
    let mut client = HealthClient::new(server.channel().await);
    for service in ["", "inference.GRPCInferenceService", "grpc.health.v1.Health"] {
        let status = client.check(of(service)).await.unwrap().get_ref().status();
        assert_eq!(status, Serving, "{service}");
    }
    assert_eq!(client.check(of("other")).await.unwrap_err().code(), Code::NotFound);
    server.service.ready.store(false, Relaxed);
    assert_eq!(client.check(of("")).await.unwrap().get_ref().status(), NotServing);
}

#[tokio::test]
async fn a_watch_tells_every_change_and_ends_with_the_server() {
    let mut server = Server::start().await;
    let mut client = HealthClient::new(server.channel().await);
    let mut unknown = client.watch(of("other")).await.unwrap().into_inner();
    let mut watch = client.watch(of("")).await.unwrap().into_inner();
    let mut next = async |expected: Option<ServingStatus>| {
        let next = tokio::time::timeout(Duration::from_secs(10), watch.message()).await;
        let next = next.expect("it is told").unwrap();
        assert_eq!(next.map(|response| response.status()), expected);
    };
    next(Some(Serving)).await;
    server.service.ready.store(false, Relaxed);
    next(Some(NotServing)).await;
    server.service.ready.store(true, Relaxed);
    next(Some(Serving)).await;
    server.stop();
    next(Some(NotServing)).await;
    next(None).await;
    let status = unknown.message().await.unwrap().map(|response| response.status());
    assert_eq!(status, Some(ServiceUnknown));
    assert!(unknown.message().await.unwrap().is_none());
    assert_eq!(server.task.await.unwrap().cut, 0);
}

#[tokio::test]
async fn watches_have_a_limit_and_make_room_when_they_end() {
    let server = Server::start().await;
    let mut client = HealthClient::new(server.channel().await);
    let mut watches = Vec::new();
    for _ in 0..MAX_WATCHES {
        let mut watch = client.watch(of("")).await.unwrap().into_inner();
        assert_eq!(watch.message().await.unwrap().unwrap().status(), Serving);
        watches.push(watch);
    }
    // The limit is one of all connections, and of watches alone.
    let mut other = HealthClient::new(server.channel().await);
    expect_error(other.watch(of("")).await, Code::ResourceExhausted, "overloaded");
    assert_eq!(other.check(of("")).await.unwrap().get_ref().status(), Serving);
    watches.pop();
    for _ in 0..500 {
        if other.watch(of("")).await.is_ok() {
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("there is never room again");
}
