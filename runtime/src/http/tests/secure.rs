use std::path::Path;

use tempfile::TempDir;
use tokio::{io::AsyncRead, io::AsyncWrite, time::sleep};

use super::*;
use crate::{
    http::Routes,
    load::Access,
    security::{Certificates, KeyRing, NewKey, Scope, TlsClient, TlsFiles, made::Authority},
};

const MOMENT: Duration = Duration::from_millis(200);

/// A server that speaks TLS, and what its clients trust.
struct Secured {
    server: Server,
    folder: TempDir,
    authority: Authority,
    certificates: Arc<Certificates>,
}

impl Secured {
    async fn start(with: impl FnOnce(&mut HttpConfig, &mut TlsFiles)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new(folder.path(), "one");
        let mut config = HttpConfig::default();
        let mut files = authority.sign("server");
        with(&mut config, &mut files);
        let certificates = Arc::new(Certificates::read(&files).unwrap());
        config.tls = Some(Arc::clone(&certificates));
        let server = Server::with(OutOfVocabulary::Zero, config).await;
        Self { server, folder, authority, certificates }
    }

    fn client(&self) -> TlsClient {
        TlsClient::new(&self.authority.file(), None).unwrap()
    }

    async fn ask(&self, client: &TlsClient, path: &str) -> std::io::Result<(u16, String)> {
        let stream = TcpStream::connect(self.server.address).await?;
        exchange(client.connect("127.0.0.1", stream).await?, path, "").await
    }

    fn handshakes(&self, result: &str) -> f64 {
        self.server.metric(&format!("mprec_tls_handshakes_total{{result=\"{result}\"}}"))
    }

    async fn until(&self, result: &str, count: f64) {
        for _ in 0..500 {
            if self.handshakes(result) == count {
                return;
            }
            sleep(Duration::from_millis(10)).await;
        }
        panic!("{result}: {} and not {count}", self.handshakes(result));
    }
}

/// One request; the connection is read to its end.
async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    path: &str,
    headers: &str,
) -> std::io::Result<(u16, String)> {
    let head = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\r\n");
    stream.write_all(head.as_bytes()).await?;
    let mut reply = String::new();
    tokio::time::timeout(Duration::from_secs(20), stream.read_to_string(&mut reply)).await??;
    let status = reply.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok((status.ok_or(std::io::ErrorKind::UnexpectedEof)?, reply.to_lowercase()))
}

#[tokio::test]
async fn requests_come_over_tls() {
    let secured = Secured::start(|_, _| ()).await;
    let (status, _) = secured.ask(&secured.client(), "/v2/models/ctr").await.unwrap();
    assert_eq!(status, 200);
    // Name and address must be the certificate's, and its signer known.
    let stream = TcpStream::connect(secured.server.address).await.unwrap();
    assert!(secured.client().connect("example.org", stream).await.is_err());
    let stranger = Authority::new(secured.folder.path(), "two");
    let stranger = TlsClient::new(&stranger.file(), None).unwrap();
    assert!(secured.ask(&stranger, "/v2").await.is_err());
    secured.until("certificate", 2.0).await;
    assert_eq!(secured.handshakes("ok"), 1.0);

    let access = Access::default().with_tls(&secured.authority.file(), None).unwrap();
    let url = format!("https://{}", secured.server.address);
    let ready = move || crate::load::is_ready(&url, &access).unwrap();
    assert!(tokio::task::spawn_blocking(ready).await.unwrap());
}

#[tokio::test]
async fn who_does_not_speak_tls_is_closed_and_counted() {
    let secured = Secured::start(|_, _| ()).await;
    let mut plain = secured.server.connect().await;
    plain.stream.write_all(b"GET /v2 HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut bytes = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(20), plain.stream.read_to_end(&mut bytes))
        .await
        .expect("it is closed");
    assert!(!bytes.starts_with(b"HTTP"), "{bytes:?}");
    secured.until("not_tls", 1.0).await;
    drop(secured.server.connect().await);
    secured.until("left", 1.0).await;
    assert_eq!(secured.ask(&secured.client(), "/v2").await.unwrap().0, 200);
}

#[tokio::test]
async fn a_slow_handshake_holds_nobody_up_counts_as_a_connection_and_ends() {
    let limits = |config: &mut HttpConfig, _: &mut TlsFiles| {
        config.handshake_timeout = MOMENT * 4;
        config.max_connections = 3;
    };
    let secured = Secured::start(limits).await;
    // One that says nothing, and one that stops in the middle of its first message.
    let mut silent = secured.server.connect().await;
    let mut slow = secured.server.connect().await;
    slow.stream.write_all(&[22, 3, 1, 1, 0, 1, 0]).await.unwrap();
    assert_eq!(secured.ask(&secured.client(), "/v2").await.unwrap().0, 200);
    assert_eq!(secured.handshakes("timeout"), 0.0, "it was answered before those were given up");
    let mut third = secured.server.connect().await;
    let until = tokio::time::Instant::now() + MOMENT * 2;
    while secured.server.metric("mprec_connections") < 3.0 {
        assert!(tokio::time::Instant::now() < until, "handshakes are connections");
        sleep(Duration::from_millis(5)).await;
    }
    let mut beyond = secured.server.connect().await;
    let mut bytes = Vec::new();
    let _ = beyond.stream.read_to_end(&mut bytes).await;
    assert!(bytes.is_empty(), "plain text to a client of TLS would be noise: {bytes:?}");
    assert_eq!(secured.server.metric("mprec_connections_refused_total"), 1.0);
    secured.until("timeout", 3.0).await;
    for client in [&mut silent, &mut slow, &mut third] {
        let closed = client.stream.read_to_end(&mut bytes);
        let _ = tokio::time::timeout(Duration::from_secs(20), closed).await.expect("it is closed");
    }
}

#[tokio::test]
async fn a_handshake_does_not_keep_the_server_from_stopping() {
    let secured = Secured::start(|config, _| config.handshake_timeout = MOMENT * 1000).await;
    let _silent = secured.server.connect().await;
    while secured.server.metric("mprec_connections") < 1.0 {
        sleep(Duration::from_millis(5)).await;
    }
    let stopped = tokio::time::timeout(Duration::from_secs(20), secured.server.stop()).await;
    assert_eq!(stopped.unwrap(), Drained { finished: 1, cut: 0 });
}

#[tokio::test]
async fn only_clients_with_a_certificate_are_let_in_if_that_is_asked_for() {
    let mut clients = None;
    let secured = Secured::start(|_, files| {
        let folder = files.certificate.parent().unwrap();
        let authority = Authority::new(folder, "clients");
        files.client_ca = Some(authority.file());
        clients = Some(authority);
    })
    .await;
    let clients = clients.unwrap();
    let ca = secured.authority.file();
    let with = |files: TlsFiles| TlsClient::new(&ca, Some((&files.certificate, &files.key)));
    let good = with(clients.sign("client")).unwrap();
    assert_eq!(secured.ask(&good, "/v2").await.unwrap().0, 200);
    assert!(secured.ask(&secured.client(), "/v2").await.is_err());
    secured.until("certificate", 1.0).await;
    // One that the server's own authority has signed, which is not that of the clients.
    let stranger = with(secured.authority.sign("client")).unwrap();
    assert!(secured.ask(&stranger, "/v2").await.is_err());
    secured.until("certificate", 2.0).await;
}

#[tokio::test]
async fn new_connections_get_the_new_certificate_and_old_ones_live_on() {
    let secured = Secured::start(|_, _| ()).await;
    let stream = TcpStream::connect(secured.server.address).await.unwrap();
    let old = secured.client().connect("localhost", stream).await.unwrap();

    let second = Authority::new(secured.folder.path(), "two");
    let files = second.sign("server");
    let client = TlsClient::new(&second.file(), None).unwrap();
    assert!(secured.ask(&client, "/v2").await.is_err());
    let damaged = TlsFiles { key: "no/such.key".into(), ..files.clone() };
    assert!(secured.certificates.read_again(Some(&damaged)).is_err());
    assert_eq!(secured.ask(&secured.client(), "/v2").await.unwrap().0, 200);

    secured.certificates.read_again(Some(&files)).unwrap();
    assert_eq!(secured.ask(&client, "/v2").await.unwrap().0, 200);
    assert!(secured.ask(&secured.client(), "/v2").await.is_err());
    assert_eq!(exchange(old, "/v2", "").await.unwrap().0, 200);
}

/// A ring with these keys.
fn ring(file: &Path, keys: &[&NewKey]) -> Arc<KeyRing> {
    let lines: Vec<_> = keys.iter().map(|key| key.line()).collect();
    std::fs::write(file, lines.join("\n")).unwrap();
    Arc::new(KeyRing::read(file).unwrap())
}

fn bearer(key: &str) -> String {
    format!("authorization: Bearer {key}\r\n")
}

#[tokio::test]
async fn every_url_but_health_needs_a_key() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.txt");
    let key = NewKey::new("web", Scope::Infer).unwrap().unwrap();
    let keys = ring(&file, &[&key]);
    let server = Server::with_keys(HttpConfig::default(), Arc::clone(&keys)).await;
    let mut paths = vec!["/".to_owned(), "/status.json".into(), "/nothing".into()];
    for row in crate::http::route::ROUTES {
        paths.extend(
            row.paths()
                .map(|path| path.replace("{model_name}", "ctr").replace("{model_version}", "7")),
        );
    }
    paths.push("/v2/repository/index".into());
    for path in &paths {
        for verb in ["GET", "POST", "DELETE"] {
            let reply = server.ask(verb, path, "", b"").await;
            if path.starts_with("/v2/health/") {
                assert_eq!(reply.status, if verb == "GET" { 200 } else { 405 }, "{verb} {path}");
                continue;
            }
            reply.expect_error(401, "unauthenticated");
            assert_eq!(reply.header("www-authenticate"), Some("bearer"), "{path}");
            let wrong = bearer(&key.key().replace("mprec", "mpreC"));
            let reply = server.ask(verb, path, &wrong, b"").await;
            let message = reply.expect_error(401, "unauthenticated");
            assert!(reply.header("www-authenticate").unwrap().contains("invalid_token"));
            assert!(!message.to_lowercase().contains(&key.key()[6..]), "{message}");
            let with_key = server.ask(verb, path, &bearer(key.key()), b"").await;
            assert!(![401, 403].contains(&with_key.status), "{verb} {path}");
        }
    }
    let body = request().to_string();
    let infer = |headers: String| {
        let (server, body) = (&server, &body);
        async move { server.ask("POST", "/v2/models/ctr/infer", &headers, body.as_bytes()).await }
    };
    assert_eq!(infer(bearer(key.key())).await.scores(), expected());
    let twice = bearer(key.key()) + &bearer(key.key());
    infer(twice).await.expect_error(401, "unauthenticated");
    infer("authorization: Basic eA==\r\n".into()).await.expect_error(401, "unauthenticated");
    assert_eq!(server.service.count(), 1, "nothing else came through");
    let reason = |reason: &str| {
        server.metric(&format!("mprec_requests_unauthenticated_total{{reason=\"{reason}\"}}"))
    };
    assert_eq!((reason("malformed"), reason("scope")), (2.0, 0.0));
    assert!(reason("missing") == reason("unknown") && reason("missing") > 30.0);
    assert!(server.metric("mprec_requests_total{code=\"unauthenticated\"}") > 2.0);

    // The keys are replaced while the server runs.
    let next = NewKey::new("next", Scope::Infer).unwrap().unwrap();
    std::fs::write(&file, next.line()).unwrap();
    keys.read_again(None).unwrap();
    infer(bearer(key.key())).await.expect_error(401, "unauthenticated");
    assert_eq!(infer(bearer(next.key())).await.scores(), expected());
}

#[tokio::test]
async fn who_watches_needs_no_key_on_a_listener_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let key = NewKey::new("web", Scope::Infer).unwrap().unwrap();
    let keys = ring(&folder.path().join("keys.txt"), &[&key]);
    let config = HttpConfig { routes: Routes::Observation, ..HttpConfig::default() };
    let server = Server::with_keys(config, keys).await;
    for path in ["/metrics", "/", "/status.json", "/v2/health/ready"] {
        assert_eq!(server.ask("GET", path, "", b"").await.status, 200, "{path}");
    }
    server.ask("GET", "/v2/models/ctr", "", b"").await.expect_error(404, "unknown_route");
}
