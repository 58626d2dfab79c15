//! The endpoint over real sockets, in front of a service that computes something checkable.

mod connections;
mod errors;
mod hostile;
mod infer;
mod overhead;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use mprec_representations::{Batch, BatchShape, OutOfVocabulary, Schema, SparseFeature};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinHandle,
};

use super::{Drained, HttpConfig, serve};
use crate::{
    metrics::Metrics,
    service::{Answer, Model, Outcome, Refusal, ScoreRequest, Service},
};

const SLA: Duration = Duration::from_millis(250);

/// What the fake does with queries.
#[derive(Debug, Clone)]
pub(crate) enum Behaviour {
    Score,
    /// Refuses in `submit`.
    Refuse(Refusal),
    /// Takes the query, and refuses it as its outcome.
    RefuseLater(Refusal),
    /// Takes the query and keeps its sender in [`Fake::held`].
    Hold,
    /// Takes the query and loses it.
    Lose,
    /// Answers with these scores.
    Say(Vec<f32>),
}

/// Scores with [`score`], or misbehaves.
#[derive(Debug)]
pub(crate) struct Fake {
    model: Arc<Model>,
    ready: AtomicBool,
    behaviour: Mutex<Behaviour>,
    seen: Mutex<Vec<ScoreRequest>>,
    held: Mutex<Vec<(oneshot::Sender<Outcome>, Outcome)>>,
}

impl Fake {
    pub(crate) fn new(rule: OutOfVocabulary) -> Self {
        let sparse = [10, 20, 30]
            .iter()
            .enumerate()
            .map(|(at, &cardinality)| SparseFeature { name: format!("s{at}"), cardinality });
        let schema = Schema::new(vec!["a".into(), "b".into()], sparse.collect(), rule).unwrap();
        Self {
            model: Arc::new(Model {
                name: "ctr".into(),
                version: "7".into(),
                shape: BatchShape::new(&schema),
                schema,
                max_samples: 1000,
                sla: SLA,
                paths: BTreeMap::from([("table@cpu".into(), 0.75), ("dhe@cpu".into(), 0.8)]),
            }),
            ready: AtomicBool::new(true),
            behaviour: Mutex::new(Behaviour::Score),
            seen: Mutex::new(Vec::new()),
            held: Mutex::new(Vec::new()),
        }
    }

    pub(crate) fn behave(&self, behaviour: Behaviour) {
        *self.behaviour.lock().unwrap() = behaviour;
    }

    /// Answers what [`Behaviour::Hold`] has kept.
    pub(crate) fn release(&self) {
        for (sender, outcome) in self.held.lock().unwrap().drain(..) {
            // Whoever asked may have left.
            let _ = sender.send(outcome);
        }
    }

    /// The number of queries that came.
    pub(crate) fn count(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    pub(crate) fn last(&self) -> ScoreRequest {
        self.seen.lock().unwrap().pop().expect("a query came")
    }
}

impl Service for Fake {
    fn models(&self) -> Vec<Arc<Model>> {
        vec![Arc::clone(&self.model)]
    }

    fn model(&self, name: &str) -> Option<Arc<Model>> {
        (name == self.model.name).then(|| Arc::clone(&self.model))
    }

    fn is_ready(&self) -> bool {
        self.ready.load(Relaxed)
    }

    fn submit(
        &self,
        _model: &Arc<Model>,
        request: ScoreRequest,
    ) -> Result<oneshot::Receiver<Outcome>, Refusal> {
        let answer = answer(score(&request.batch));
        self.seen.lock().unwrap().push(request);
        let (sender, receiver) = oneshot::channel();
        match self.behaviour.lock().unwrap().clone() {
            Behaviour::Score => drop(sender.send(Ok(answer))),
            Behaviour::Refuse(refusal) => return Err(refusal),
            Behaviour::RefuseLater(refusal) => drop(sender.send(Err(refusal))),
            Behaviour::Hold => self.held.lock().unwrap().push((sender, Ok(answer))),
            Behaviour::Lose => {}
            Behaviour::Say(scores) => drop(sender.send(Ok(self::answer(scores)))),
        }
        Ok(receiver)
    }
}

fn answer(scores: Vec<f32>) -> Answer {
    Answer {
        batch_samples: scores.len(),
        scores,
        path: "table@cpu".into(),
        variant: "table".into(),
        version: "7".into(),
        quality: 0.75,
        downgraded: true,
        queue: Duration::from_micros(12),
        compute: Duration::from_micros(345),
    }
}

/// A number in `(0, 1]` that every dense value, id and weight of a sample changes.
fn score(batch: &Batch) -> Vec<f32> {
    let sample = |sample: usize| {
        let row = &batch.dense()[sample * batch.dense_width()..][..batch.dense_width()];
        let mut sum: f32 = row.iter().enumerate().map(|(at, value)| value * (at + 1) as f32).sum();
        for feature in 0..batch.features() {
            let bags = batch.bags(feature);
            for at in bags.range(sample) {
                let weight = bags.weights().map_or(1.0, |weights| weights[at]);
                sum += weight * (bags.ids()[at] as f32 + 0.5) * (feature * 100 + 1) as f32;
            }
        }
        1.0 / (1.0 + sum.abs() / 100.0)
    };
    (0..batch.samples()).map(sample).collect()
}

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
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let service = Arc::new(Fake::new(rule));
        let metrics = Arc::new(Metrics::new("test", &["table@cpu"], &[SLA]));
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(serve(
            listener,
            Arc::clone(&service),
            Arc::clone(&metrics),
            config,
            async {
                let _ = stopped.await;
            },
        ));
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

/// Two samples.
fn dense() -> Vec<f32> {
    vec![0.1, -2.5, 3.25, 1e-3]
}

fn sparse() -> Vec<i64> {
    vec![1, 2, 3, 9, 19, 29]
}

fn request() -> Value {
    json!({ "inputs": [
        { "name": "dense", "shape": [2, 2], "datatype": "FP32", "data": [[0.1, -2.5], [3.25, 1e-3]] },
        { "name": "sparse", "shape": [2, 3], "datatype": "INT64", "data": [1, 2, 3, 9, 19, 29] },
    ]})
}

/// What [`request`] scores to.
fn expected() -> Vec<f32> {
    let shape = &Fake::new(OutOfVocabulary::Zero).model.shape;
    score(&shape.from_rows(dense(), &sparse()).unwrap())
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
