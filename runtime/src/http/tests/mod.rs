//! The endpoint over real sockets, in front of a service that computes something checkable.

mod coding;
mod connections;
mod errors;
mod extensions;
mod hostile;
mod infer;
mod listening;
mod overhead;
mod ranking;
mod raw;
mod repository;
#[cfg(feature = "tls")]
mod secure;
mod status;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use mprec_representations::OutOfVocabulary;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinHandle,
};

use super::{HttpConfig, serve};
use crate::{
    endpoint::{
        Drained, Endpoint, Limits,
        fake::{Behaviour, Fake, SLA, dense, expected, score, sparse},
    },
    metrics::Metrics,
    service::{Model, Refusal},
};

/// A running server.
struct Server {
    address: SocketAddr,
    service: Arc<Fake>,
    metrics: Arc<Metrics>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Drained>,
}

impl Server {
    async fn start() -> Self {
        Self::with(OutOfVocabulary::Zero, HttpConfig::default()).await
    }

    async fn with(rule: OutOfVocabulary, config: HttpConfig) -> Self {
        Self::with_limits(rule, config, Limits::default()).await
    }

    async fn with_limits(rule: OutOfVocabulary, config: HttpConfig, limits: Limits) -> Self {
        Self::of(Fake::new(rule), config, limits, |endpoint| endpoint).await
    }

    #[cfg(feature = "tls")]
    async fn with_keys(config: HttpConfig, keys: Arc<crate::security::KeyRing>) -> Self {
        let with = |endpoint: Endpoint<Fake>| endpoint.with_keys(keys);
        Self::of(Fake::new(OutOfVocabulary::Zero), config, Limits::default(), with).await
    }

    async fn of(
        fake: Fake,
        config: HttpConfig,
        limits: Limits,
        with: impl FnOnce(Endpoint<Fake>) -> Endpoint<Fake>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let service = Arc::new(fake);
        let metrics = Arc::new(Metrics::new("test", &["table@cpu"], &[SLA]));
        let (stop, stopped) = oneshot::channel();
        let endpoint = with(Endpoint::new(Arc::clone(&service), Arc::clone(&metrics), limits));
        let task = tokio::spawn(serve(vec![listener.into()], Arc::new(endpoint), config, async {
            let _ = stopped.await;
        }));
        Self { address, service, metrics, stop: Some(stop), task }
    }

    async fn connect(&self) -> Client {
        let stream = TcpStream::connect(self.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Client { stream, rest: Vec::new() }
    }

    /// One request on a connection of its own.
    async fn ask(&self, verb: &str, path: &str, headers: &str, body: &[u8]) -> Reply {
        self.connect().await.ask(verb, path, headers, body).await
    }

    async fn infer(&self, body: &Value) -> Reply {
        self.ask("POST", "/v2/models/ctr/infer", "", body.to_string().as_bytes()).await
    }

    /// A line of the metrics page.
    fn metric(&self, name: &str) -> f64 {
        let page = self.metrics.render(&*self.service);
        let found = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        found.unwrap_or_else(|| panic!("{name} in\n{page}")).parse().unwrap()
    }

    async fn stop(mut self) -> Drained {
        self.stop.take().unwrap().send(()).unwrap();
        self.task.await.unwrap()
    }
}

/// A connection on which requests follow each other.
struct Client {
    stream: TcpStream,
    rest: Vec<u8>,
}

#[derive(Debug)]
struct Reply {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Client {
    async fn ask(&mut self, verb: &str, path: &str, headers: &str, body: &[u8]) -> Reply {
        let length = body.len();
        let head = format!(
            "{verb} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n{headers}\r\n"
        );
        self.stream.write_all(head.as_bytes()).await.unwrap();
        // The server may answer and close before it has read all of a hopeless body.
        let _ = self.stream.write_all(body).await;
        self.reply().await.expect("a response came")
    }

    /// The next response; `None` if the server closed instead.
    async fn reply(&mut self) -> Option<Reply> {
        tokio::time::timeout(Duration::from_secs(20), self.read_reply()).await.expect("no silence")
    }

    async fn read_reply(&mut self) -> Option<Reply> {
        loop {
            let end = self.rest.windows(4).position(|bytes| bytes == b"\r\n\r\n");
            if let Some(end) = end {
                let head = String::from_utf8(self.rest[..end].to_vec()).unwrap().to_lowercase();
                let status = head.split(' ').nth(1).unwrap().parse().unwrap();
                let length =
                    header(&head, "content-length").map_or(0, |text| text.parse().unwrap());
                let whole = end + 4 + length;
                if self.rest.len() >= whole {
                    let body = self.rest[end + 4..whole].to_vec();
                    self.rest.drain(..whole);
                    return Some(Reply { status, head, body });
                }
            }
            if self.stream.read_buf(&mut self.rest).await.ok()? == 0 {
                return None;
            }
        }
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim()))
}

impl Reply {
    fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("a JSON body")
    }

    /// Asserts the status and the code of an error.
    #[track_caller]
    fn expect_error(&self, status: u16, code: &str) -> String {
        let body = self.json();
        assert_eq!((self.status, body["code"].as_str().unwrap()), (status, code), "{body}");
        assert_eq!(self.header("content-type"), Some("application/json"));
        body["error"].as_str().unwrap().to_owned()
    }

    /// The scores of a JSON reply.
    #[track_caller]
    fn scores(&self) -> Vec<f32> {
        assert_eq!(self.status, 200, "{}", String::from_utf8_lossy(&self.body));
        let output = &self.json()["outputs"][0];
        assert_eq!((&output["name"], &output["datatype"]), (&json!("scores"), &json!("FP32")));
        let scores: Vec<f32> = serde_json::from_value(output["data"].clone()).unwrap();
        assert_eq!(output["shape"], json!([scores.len()]));
        scores
    }

    /// The scores of a binary reply, and its JSON part.
    #[track_caller]
    fn binary(&self) -> (Vec<f32>, Value) {
        assert_eq!(self.status, 200, "{}", String::from_utf8_lossy(&self.body));
        assert_eq!(self.header("content-type"), Some("application/octet-stream"));
        let length = self.header("inference-header-content-length").unwrap().parse().unwrap();
        let (json, scores) = self.body.split_at(length);
        let document: Value = serde_json::from_slice(json).unwrap();
        let output = &document["outputs"][0];
        assert_eq!(output["parameters"]["binary_data_size"], json!(scores.len()));
        assert!(output.get("data").is_none());
        let scores = scores.chunks(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()));
        (scores.collect(), document)
    }
}

fn request() -> Value {
    json!({ "inputs": [
        { "name": "dense", "shape": [2, 2], "datatype": "FP32", "data": [[0.1, -2.5], [3.25, 1e-3]] },
        { "name": "sparse", "shape": [2, 3], "datatype": "INT64", "data": [1, 2, 3, 9, 19, 29] },
    ]})
}

/// [`request`] in binary: the body, and the length of its JSON part. `with` is merged into it.
fn binary_request(with: &Value) -> (Vec<u8>, usize) {
    let mut document = json!({ "inputs": [
        { "name": "dense", "shape": [2, 2], "datatype": "FP32",
          "parameters": { "binary_data_size": 16 } },
        { "name": "sparse", "shape": [2, 3], "datatype": "INT64",
          "parameters": { "binary_data_size": 48 } },
    ]});
    for (name, value) in with.as_object().unwrap() {
        document[name] = value.clone();
    }
    let mut body = document.to_string().into_bytes();
    let length = body.len();
    body.extend(dense().iter().flat_map(|value| value.to_le_bytes()));
    body.extend(sparse().iter().flat_map(|value| value.to_le_bytes()));
    (body, length)
}
