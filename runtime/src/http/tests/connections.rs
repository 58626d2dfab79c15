use tokio::time::sleep;

use super::*;

const MOMENT: Duration = Duration::from_millis(150);

/// Waits until `condition` holds, for at most a few seconds.
async fn until(condition: impl Fn() -> bool) {
    for _ in 0..500 {
        if condition() {
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("it never happened");
}

#[tokio::test]
async fn requests_follow_each_other_on_one_connection() {
    let server = Server::start().await;
    let body = request().to_string();
    let mut client = server.connect().await;
    for _ in 0..3 {
        let reply = client.ask("POST", "/v2/models/ctr/infer", "", body.as_bytes()).await;
        assert_eq!(reply.scores(), expected());
        // An error in between does not end the connection.
        client.ask("POST", "/v2/models/ctr/infer", "", b"{").await.expect_error(400, "bad_json");
        assert_eq!(client.ask("GET", "/v2/health/live", "", b"").await.status, 200);
    }
    assert_eq!(server.metric("mprec_connections"), 1.0);
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order_and_garbage_ends_the_connection() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let body = request().to_string();
    let infer = format!(
        "POST /v2/models/ctr/infer HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let live = "GET /v2/health/live HTTP/1.1\r\nhost: x\r\n\r\n";
    let all = format!("{infer}{live}{infer}\0\x01 garbage\r\n\r\n");
    client.stream.write_all(all.as_bytes()).await.unwrap();
    assert_eq!(client.reply().await.unwrap().scores(), expected());
    assert_eq!(client.reply().await.unwrap().json(), json!({ "live": true }));
    assert_eq!(client.reply().await.unwrap().scores(), expected());
    let last = client.reply().await;
    assert!(last.is_none_or(|reply| reply.status == 400));
    assert!(client.reply().await.is_none());
}

#[tokio::test]
async fn bodies_in_chunks_of_any_size_are_read() {
    let server = Server::start().await;
    let (body, length) = binary_request(&json!({ "parameters": { "binary_data_output": true } }));
    for size in [1, 7, body.len()] {
        let mut client = server.connect().await;
        let mut bytes = format!(
            "POST /v2/models/ctr/infer HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\
             inference-header-content-length: {length}\r\n\r\n"
        )
        .into_bytes();
        for chunk in body.chunks(size) {
            bytes.extend(format!("{:x}\r\n", chunk.len()).bytes());
            bytes.extend(chunk);
            bytes.extend(b"\r\n");
        }
        bytes.extend(b"0\r\ntrailer: x\r\n\r\n");
        client.stream.write_all(&bytes).await.unwrap();
        assert_eq!(client.reply().await.unwrap().binary().0, expected());
        assert_eq!(client.ask("GET", "/v2", "", b"").await.status, 200);
    }
}

#[tokio::test]
async fn a_hundred_thousand_chunks_are_one_body() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let head =
        "POST /v2/models/ctr/infer HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
    client.stream.write_all(head.as_bytes()).await.unwrap();
    let spaces = "1\r\n \r\n".repeat(100_000);
    client.stream.write_all(spaces.as_bytes()).await.unwrap();
    let body = request().to_string();
    let last = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    client.stream.write_all(last.as_bytes()).await.unwrap();
    assert_eq!(client.reply().await.unwrap().scores(), expected());
}

#[tokio::test]
async fn a_head_request_gets_a_head() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    client.stream.write_all(b"HEAD /v2/health/ready HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        assert_ne!(client.stream.read_buf(&mut bytes).await.unwrap(), 0);
    }
    assert!(bytes.starts_with(b"HTTP/1.1 200"));
    assert_eq!(client.ask("GET", "/v2/health/ready", "", b"").await.status, 200);
}

#[tokio::test]
async fn a_request_framed_twice_is_not_read_as_two() {
    let server = Server::start().await;
    for framing in [
        "content-length: 5\r\ncontent-length: 6\r\n",
        "content-length: 5\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked, gzip\r\n",
        "transfer-encoding: gzip\r\n",
        "content-length: +5\r\n",
        "content-length: 5, 5\r\n",
        " folded: x\r\n",
    ] {
        let mut client = server.connect().await;
        let smuggled = "GET /v2/health/live HTTP/1.1\r\nhost: x\r\n\r\n";
        let bytes = format!(
            "POST /v2/models/ctr/infer HTTP/1.1\r\nhost: x\r\n{framing}\r\n0\r\n\r\n{smuggled}"
        );
        client.stream.write_all(bytes.as_bytes()).await.unwrap();
        // Nothing behind the head may count as a request, for a proxy may see its end elsewhere.
        assert_eq!(client.reply().await.unwrap().status, 400, "{framing}");
        assert!(client.reply().await.is_none(), "{framing}");
    }
}

#[tokio::test]
async fn heads_have_limits() {
    let server = Server::start().await;
    for headers in ["x: y\r\n".repeat(100), format!("x: {}\r\n", "y".repeat(256 << 10))] {
        let mut client = server.connect().await;
        let bytes = format!("GET /v2 HTTP/1.1\r\nhost: x\r\n{headers}\r\n");
        let _ = client.stream.write_all(bytes.as_bytes()).await;
        let reply = client.reply().await;
        assert!(reply.is_none_or(|reply| reply.status == 431));
    }
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_query_with_it() {
    let server = Server::start().await;
    server.service.behave(Behaviour::Hold);
    let body = request().to_string();
    let mut client = server.connect().await;
    let head = format!(
        "POST /v2/models/ctr/infer HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    client.stream.write_all(head.as_bytes()).await.unwrap();
    until(|| server.service.held.lock().unwrap().len() == 1).await;
    assert_eq!(server.metric("mprec_requests_in_flight"), 1.0);
    assert!(!server.service.held.lock().unwrap()[0].0.is_closed());
    drop(client);
    until(|| server.service.held.lock().unwrap()[0].0.is_closed()).await;
    until(|| server.metric("mprec_requests_in_flight") == 0.0).await;
    assert_eq!(server.metric("mprec_queries_cancelled_total"), 1.0);
    assert_eq!(server.metric("mprec_requests_total{code=\"cancelled\"}"), 1.0);
}

#[tokio::test]
async fn slow_heads_idle_connections_and_slow_bodies_are_cut() {
    let config = HttpConfig {
        head_timeout: MOMENT,
        body_timeout: MOMENT,
        idle_timeout: MOMENT * 4,
        ..HttpConfig::default()
    };
    let server = Server::with(OutOfVocabulary::Zero, config).await;

    // Nothing at all, and a head that trickles.
    let mut silent = server.connect().await;
    let mut slow = server.connect().await;
    let trickle = async {
        for byte in b"GET /v2 HTTP/1.1\r\nhost: x\r\nx: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" {
            if slow.stream.write_all(&[*byte]).await.is_err() {
                break;
            }
            sleep(Duration::from_millis(20)).await;
        }
        slow.reply().await
    };
    let started = std::time::Instant::now();
    let (trickled, silence) = tokio::join!(trickle, silent.reply());
    assert!(trickled.is_none() && silence.is_none());
    assert!(started.elapsed() < Duration::from_secs(8));

    // Between requests there is more time, but not for ever.
    let mut idle = server.connect().await;
    for _ in 0..2 {
        assert_eq!(idle.ask("GET", "/v2", "", b"").await.status, 200);
        sleep(MOMENT * 2).await;
    }
    assert_eq!(idle.ask("GET", "/v2", "", b"").await.status, 200);
    assert!(idle.reply().await.is_none());

    // The second request of a connection has no more time for its head than the first.
    let mut second = server.connect().await;
    assert_eq!(second.ask("GET", "/v2", "", b"").await.status, 200);
    second.stream.write_all(b"GET /v2 HT").await.unwrap();
    let started = std::time::Instant::now();
    assert!(second.reply().await.is_none());
    assert!(started.elapsed() < MOMENT * 4);

    let mut half = server.connect().await;
    let head = "POST /v2/models/ctr/infer HTTP/1.1\r\nhost: x\r\ncontent-length: 50\r\n\r\n{";
    half.stream.write_all(head.as_bytes()).await.unwrap();
    half.reply().await.unwrap().expect_error(408, "body_timeout");
    until(|| server.metric("mprec_connections") == 0.0).await;
}

#[tokio::test]
async fn a_query_may_take_longer_than_the_limits_on_reading() {
    let config = HttpConfig {
        head_timeout: MOMENT,
        idle_timeout: MOMENT,
        body_timeout: MOMENT,
        ..HttpConfig::default()
    };
    let server = Server::with(OutOfVocabulary::Zero, config).await;
    server.service.behave(Behaviour::Hold);
    let mut client = server.connect().await;
    let body = request().to_string();
    let ask = client.ask("POST", "/v2/models/ctr/infer", "", body.as_bytes());
    let answer = async {
        until(|| server.service.held.lock().unwrap().len() == 1).await;
        sleep(MOMENT * 3).await;
        let (sender, outcome) = server.service.held.lock().unwrap().pop().unwrap();
        sender.send(outcome).unwrap();
    };
    let (reply, ()) = tokio::join!(ask, answer);
    assert_eq!(reply.scores(), expected());
    // Later than its deadline of 250 ms: sent all the same, and counted as late.
    let late = "mprec_queries_answered_total{path=\"table@cpu\",timing=\"late\"}";
    assert_eq!(server.metric(late), 1.0);
}

#[tokio::test]
async fn a_response_that_nobody_reads_is_cut() {
    let config = HttpConfig { write_timeout: MOMENT, ..HttpConfig::default() };
    let server = Server::with(OutOfVocabulary::Zero, config).await;
    let client = server.connect().await;
    let many = "GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n".repeat(10_000);
    let (_read, mut write) = client.stream.into_split();
    let _ = tokio::time::timeout(Duration::from_secs(10), write.write_all(many.as_bytes())).await;
    until(|| server.metric("mprec_connections") == 0.0).await;
}

#[tokio::test]
async fn connections_beyond_the_limit_are_told_so() {
    let config = HttpConfig { max_connections: 2, ..HttpConfig::default() };
    let server = Server::with(OutOfVocabulary::Zero, config).await;
    let mut first = server.connect().await;
    let mut second = server.connect().await;
    assert_eq!(first.ask("GET", "/v2", "", b"").await.status, 200);
    assert_eq!(second.ask("GET", "/v2", "", b"").await.status, 200);
    let mut third = server.connect().await;
    third.reply().await.unwrap().expect_error(503, "unavailable");
    assert!(third.reply().await.is_none());
    drop(first);
    until(|| server.metric("mprec_connections") == 1.0).await;
    assert_eq!(server.ask("GET", "/v2", "", b"").await.status, 200);
    assert_eq!(server.metric("mprec_connections_refused_total"), 1.0);
}

#[tokio::test]
async fn draining_answers_what_is_in_flight_and_takes_nothing_new() {
    let config = HttpConfig { drain_delay: MOMENT, ..HttpConfig::default() };
    let mut server = Server::with(OutOfVocabulary::Zero, config).await;
    server.service.behave(Behaviour::Hold);
    let mut waiting = server.connect().await;
    let mut idle = server.connect().await;
    assert_eq!(idle.ask("GET", "/v2/health/ready", "", b"").await.status, 200);
    let body = request().to_string();
    let head = format!(
        "POST /v2/models/ctr/infer HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    waiting.stream.write_all(head.as_bytes()).await.unwrap();
    until(|| server.service.held.lock().unwrap().len() == 1).await;

    server.stop.take().unwrap().send(()).unwrap();
    // Not ready before it stops listening, and clients are asked to go.
    sleep(MOMENT / 5).await;
    let reply = server.ask("GET", "/v2/health/ready", "", b"").await;
    assert_eq!((reply.status, reply.header("connection")), (503, Some("close")));

    // Then idle connections are closed, and new ones refused.
    assert!(idle.reply().await.is_none());
    assert!(TcpStream::connect(server.address).await.is_err());

    let (sender, outcome) = server.service.held.lock().unwrap().pop().unwrap();
    sender.send(outcome).unwrap();
    assert_eq!(waiting.reply().await.unwrap().scores(), expected());
    assert!(waiting.reply().await.is_none());
    let drained = server.task.await.unwrap();
    assert_eq!(drained.cut, 0);
    assert!(drained.finished >= 1);
}

#[tokio::test]
async fn draining_ends_even_if_a_query_does_not() {
    let config = HttpConfig { drain_timeout: MOMENT, ..HttpConfig::default() };
    let server = Server::with(OutOfVocabulary::Zero, config).await;
    server.service.behave(Behaviour::Hold);
    let mut waiting = server.connect().await;
    let body = request().to_string();
    let head = format!(
        "POST /v2/models/ctr/infer HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    waiting.stream.write_all(head.as_bytes()).await.unwrap();
    let service = Arc::clone(&server.service);
    until(|| service.held.lock().unwrap().len() == 1).await;
    assert_eq!(server.stop().await, Drained { finished: 0, cut: 1 });
    assert!(waiting.reply().await.is_none());
    assert!(service.held.lock().unwrap()[0].0.is_closed());
}
