//! Unix sockets, beside TCP.

use std::os::unix::fs::PermissionsExt as _;

use tokio::net::UnixStream;

use super::*;
use crate::http::{ListenError, ListenOn, Listener};

/// Sends `GET /v2` and reads until the server closes.
async fn ask(mut stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin) -> String {
    let request = b"GET /v2 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut reply = String::new();
    let read = stream.read_to_string(&mut reply);
    tokio::time::timeout(Duration::from_secs(20), read).await.expect("no silence").unwrap();
    reply
}

#[tokio::test]
async fn one_server_listens_on_tcp_and_on_a_socket() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("http.sock");
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = tcp.local_addr().unwrap();
    let unix = Listener::bind(&ListenOn::Unix(path.clone())).await.unwrap();
    assert_eq!(unix.url().unwrap(), format!("unix:{}", path.display()));
    let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o660, "{mode:o}");

    let endpoint = Endpoint::new(
        Arc::new(Fake::new(OutOfVocabulary::Zero)),
        Arc::new(Metrics::new("test", &[], &[SLA])),
        Limits::default(),
    );
    let (stop, stopped) = oneshot::channel::<()>();
    let listeners = vec![tcp.into(), unix];
    let task = tokio::spawn(serve(listeners, Arc::new(endpoint), HttpConfig::default(), async {
        let _ = stopped.await;
    }));
    for _ in 0..3 {
        let by_socket = ask(UnixStream::connect(&path).await.unwrap()).await;
        let by_tcp = ask(TcpStream::connect(address).await.unwrap()).await;
        assert!(by_socket.starts_with("HTTP/1.1 200") && by_socket.contains("\"mprec\""));
        assert!(by_tcp.starts_with("HTTP/1.1 200"), "{by_tcp}");
    }
    stop.send(()).unwrap();
    task.await.unwrap();
    assert!(!path.exists(), "the socket goes with its server");
}

#[tokio::test]
async fn only_a_socket_that_nobody_listens_on_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("http.sock");
    let on = ListenOn::Unix(path.clone());

    std::fs::write(&path, "precious").unwrap();
    let refused = Listener::bind(&on).await;
    assert!(matches!(refused, Err(ListenError::NotASocket { .. })), "{refused:?}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    std::fs::remove_file(&path).unwrap();

    // A process that was killed leaves its socket behind.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let listener = Listener::bind(&on).await.unwrap();

    let refused = Listener::bind(&on).await;
    assert!(matches!(refused, Err(ListenError::InUse { .. })), "{refused:?}");

    // Whoever took the name meanwhile keeps it.
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "another's").unwrap();
    drop(listener);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "another's");

    let absent = Listener::bind(&ListenOn::Unix(folder.path().join("no/such.sock"))).await;
    let message = absent.unwrap_err().to_string();
    assert!(message.contains("no/such.sock"), "{message}");
}
