use std::time::Instant;

use tokio::io::AsyncReadExt as _;

use super::*;
use crate::grpc::protocol::inference::ServerLiveRequest;

async fn is_live(client: &mut Client) -> bool {
    client.server_live(ServerLiveRequest {}).await.is_ok_and(|reply| reply.get_ref().live)
}

#[tokio::test]
async fn calls_of_one_connection_do_not_wait_for_each_other() {
    let server = Server::start().await;
    server.service.behave(Behaviour::Hold);
    let client = server.client().await;
    let calls: Vec<_> = (0..20)
        .map(|_| {
            let mut client = client.clone();
            tokio::spawn(async move { client.model_infer(request()).await })
        })
        .collect();
    until(|| server.service.held.lock().unwrap().len() == 20).await;
    assert!(is_live(&mut client.clone()).await);
    assert_eq!(server.metric("mprec_connections"), 1.0);
    server.service.release();
    for call in calls {
        assert_eq!(scores(call.await.unwrap().unwrap().get_ref()), expected());
    }
}

#[tokio::test]
async fn a_call_that_is_cancelled_takes_its_query_with_it() {
    let server = Server::start().await;
    server.service.behave(Behaviour::Hold);
    let client = server.client().await;
    let mut other = client.clone();
    let call = tokio::spawn(async move { other.model_infer(request()).await });
    until(|| server.service.held.lock().unwrap().len() == 1).await;
    assert_eq!(server.metric("mprec_requests_in_flight"), 1.0);
    assert!(!server.service.held.lock().unwrap()[0].0.is_closed());
    call.abort();
    until(|| server.service.held.lock().unwrap()[0].0.is_closed()).await;
    until(|| server.metric("mprec_requests_in_flight") == 0.0).await;
    assert_eq!(server.metric("mprec_queries_cancelled_total"), 1.0);
    assert_eq!(server.metric("mprec_requests_total{code=\"cancelled\"}"), 1.0);
    // The connection stays.
    assert!(is_live(&mut client.clone()).await);
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_queries_with_it() {
    let server = Server::start().await;
    server.service.behave(Behaviour::Hold);
    let mut client = server.client().await;
    let call = tokio::spawn(async move { client.model_infer(request()).await });
    until(|| server.service.held.lock().unwrap().len() == 1).await;
    call.abort();
    until(|| server.metric("mprec_connections") == 0.0).await;
    assert!(server.service.held.lock().unwrap()[0].0.is_closed());
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed() {
    let server = Server::with(GrpcConfig { max_connections: 1, ..GrpcConfig::default() }).await;
    let mut first = server.client().await;
    assert!(is_live(&mut first).await);
    let mut second = TcpStream::connect(server.address).await.unwrap();
    assert_eq!(second.read(&mut [0; 64]).await.unwrap_or_default(), 0);
    assert_eq!(server.metric("mprec_connections_refused_total"), 1.0);
    drop(first);
    until(|| server.metric("mprec_connections") == 0.0).await;
    assert!(is_live(&mut server.client().await).await);
}

#[tokio::test]
async fn idle_and_silent_connections_are_closed_and_busy_ones_are_not() {
    let config = GrpcConfig { idle_timeout: MOMENT, ..GrpcConfig::default() };
    let server = Server::with(config).await;
    // One that never speaks, one that has nothing to say, and one that waits for an answer.
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    let mut idle = server.client().await;
    assert!(is_live(&mut idle).await);
    server.service.behave(Behaviour::Hold);
    let mut busy = server.client().await;
    let call = tokio::spawn(async move { busy.model_infer(request()).await });
    until(|| server.metric("mprec_connections") == 1.0).await;
    let started = Instant::now();
    let mut bytes = Vec::new();
    let _ = silent.read_to_end(&mut bytes).await;
    assert!(started.elapsed() < Duration::from_secs(10));
    sleep(MOMENT * 3).await;
    assert_eq!(server.metric("mprec_connections"), 1.0);
    server.service.release();
    assert_eq!(scores(call.await.unwrap().unwrap().get_ref()), expected());
    until(|| server.metric("mprec_connections") == 0.0).await;
    // The client connects again by itself.
    assert!(is_live(&mut idle).await);
}

#[tokio::test]
async fn a_connection_without_a_first_call_is_closed_early() {
    use tokio::io::AsyncWriteExt as _;
    let config = GrpcConfig { first_call_timeout: MOMENT * 4, ..GrpcConfig::default() };
    let server = Server::with(config).await;
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    let mut greeting = TcpStream::connect(server.address).await.unwrap();
    greeting.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let mut client = server.client().await;
    assert!(is_live(&mut client).await);
    for stream in [&mut silent, &mut greeting] {
        let mut bytes = Vec::new();
        let read = stream.read_to_end(&mut bytes);
        let _ = tokio::time::timeout(Duration::from_secs(10), read).await.expect("it is closed");
    }
    // One that had a call may be idle for longer.
    sleep(MOMENT * 4).await;
    assert_eq!(server.metric("mprec_connections"), 1.0);
    assert!(is_live(&mut client).await);
}

#[tokio::test]
async fn a_peer_that_gives_no_sign_of_life_is_cut() {
    use tokio::io::AsyncWriteExt as _;
    let config = GrpcConfig {
        keepalive_interval: MOMENT,
        keepalive_timeout: MOMENT,
        ..GrpcConfig::default()
    };
    let server = Server::with(config).await;
    let mut dead = TcpStream::connect(server.address).await.unwrap();
    // It begins as a client does, with the preface and empty settings, and answers no ping.
    dead.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let mut alive = server.client().await;
    assert!(is_live(&mut alive).await);
    let mut bytes = Vec::new();
    let read = dead.read_to_end(&mut bytes);
    let _ = tokio::time::timeout(Duration::from_secs(10), read).await.expect("it is cut");
    sleep(MOMENT * 4).await;
    assert_eq!(server.metric("mprec_connections"), 1.0);
    assert!(is_live(&mut alive).await);
}

#[tokio::test]
async fn draining_answers_what_is_in_flight_and_takes_nothing_new() {
    let config = GrpcConfig { drain_delay: MOMENT * 2, ..GrpcConfig::default() };
    let mut server = Server::with(config).await;
    server.service.behave(Behaviour::Hold);
    let mut idle = server.client().await;
    assert!(is_live(&mut idle).await);
    let mut busy = server.client().await;
    let call = tokio::spawn(async move { busy.model_infer(request()).await });
    until(|| server.service.held.lock().unwrap().len() == 1).await;

    server.stop();
    // Not ready before it stops listening.
    sleep(MOMENT / 5).await;
    let ready = crate::grpc::protocol::inference::ServerReadyRequest {};
    assert!(!idle.server_ready(ready).await.unwrap().get_ref().ready);
    until(|| server.metric("mprec_connections") == 1.0).await;
    assert!(TcpStream::connect(server.address).await.is_err());
    assert!(!is_live(&mut idle).await);

    server.service.release();
    assert_eq!(scores(call.await.unwrap().unwrap().get_ref()), expected());
    assert_eq!(server.task.await.unwrap().cut, 0);
}

#[tokio::test]
async fn draining_ends_even_if_a_query_does_not() {
    let config = GrpcConfig { drain_timeout: MOMENT, ..GrpcConfig::default() };
    let mut server = Server::with(config).await;
    server.service.behave(Behaviour::Hold);
    let mut client = server.client().await;
    let call = tokio::spawn(async move { client.model_infer(request()).await });
    let service = Arc::clone(&server.service);
    until(|| service.held.lock().unwrap().len() == 1).await;
    server.stop();
    assert_eq!(server.task.await.unwrap(), Drained { finished: 0, cut: 1 });
    assert!(call.await.unwrap().is_err());
}
