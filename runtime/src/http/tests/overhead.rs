//! How much the endpoint costs beside the model's work.
//!
//! ```text
//! cargo test --release -p mprec-runtime overhead -- --ignored --nocapture
//! ```

use std::{collections::BTreeMap, time::Instant};

use mprec_representations::{BatchShape, Schema};

use super::*;
use crate::{
    endpoint::fake::answer,
    http::request::parse,
    service::{Outcome, ScoreRequest, Service},
};

const SAMPLES: usize = 128;
const DENSE: usize = 13;
const SPARSE: usize = 26;

/// Answers at once.
struct NoWork(Arc<Model>);

impl Service for NoWork {
    fn models(&self) -> Vec<Arc<Model>> {
        vec![Arc::clone(&self.0)]
    }

    fn model(&self, name: &str) -> Option<Arc<Model>> {
        (name == self.0.name).then(|| Arc::clone(&self.0))
    }

    fn is_ready(&self) -> bool {
        true
    }

    fn submit(
        &self,
        _model: &Arc<Model>,
        request: ScoreRequest,
    ) -> Result<oneshot::Receiver<Outcome>, Refusal> {
        let (sender, receiver) = oneshot::channel();
        drop(sender.send(Ok(answer(vec![0.123_456; request.batch.samples()]))));
        Ok(receiver)
    }
}

fn kaggle_shape() -> Arc<Model> {
    let schema = Schema::criteo(&[1_000_000; SPARSE]).unwrap();
    Arc::new(Model {
        name: "ctr".into(),
        version: "1".into(),
        shape: BatchShape::new(&schema),
        schema,
        max_samples: 4096,
        sla: SLA,
        paths: BTreeMap::new(),
    })
}

/// The same request in JSON and in binary; the latter with the length of its JSON part.
fn bodies(samples: usize) -> (Vec<u8>, Vec<u8>, usize) {
    let dense: Vec<f32> = (0..samples * DENSE).map(|at| (at as f32 * 0.37).sin() * 5.0).collect();
    let sparse: Vec<i64> = (0..samples * SPARSE).map(|at| at as i64 * 7919 % 1_000_000).collect();
    let json = json!({ "inputs": [
        { "name": "dense", "shape": [samples, DENSE], "datatype": "FP32",
          "data": dense.chunks(DENSE).collect::<Vec<_>>() },
        { "name": "sparse", "shape": [samples, SPARSE], "datatype": "INT64",
          "data": sparse.chunks(SPARSE).collect::<Vec<_>>() },
    ]});
    let mut binary = json!({ "parameters": { "binary_data_output": true }, "inputs": [
        { "name": "dense", "shape": [samples, DENSE], "datatype": "FP32",
          "parameters": { "binary_data_size": dense.len() * 4 } },
        { "name": "sparse", "shape": [samples, SPARSE], "datatype": "INT64",
          "parameters": { "binary_data_size": sparse.len() * 8 } },
    ]})
    .to_string()
    .into_bytes();
    let length = binary.len();
    binary.extend(dense.iter().flat_map(|value| value.to_le_bytes()));
    binary.extend(sparse.iter().flat_map(|value| value.to_le_bytes()));
    (json.to_string().into_bytes(), binary, length)
}

fn report(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |share: f64| times[(times.len() as f64 * share) as usize].as_nanos() as f64 / 1e3;
    let (p50, p95, p99) = (at(0.5), at(0.95), at(0.99));
    eprintln!("{what:<44} p50 {p50:7.1} µs  p95 {p95:7.1} µs  p99 {p99:7.1} µs");
}

#[test]
#[ignore = "a measurement: run it in release mode"]
fn overhead_of_parsing() {
    let model = kaggle_shape();
    let (json, binary, length) = bodies(SAMPLES);
    for (what, body, length) in [("json", &json, None), ("binary", &binary, Some(length))] {
        let times = (0..2000).map(|_| {
            let start = Instant::now();
            let parsed = parse(&model, body, length).unwrap();
            let time = start.elapsed();
            assert_eq!(parsed.batch.samples(), SAMPLES);
            time
        });
        let times = times.collect();
        report(&format!("parse {SAMPLES} samples, {what}, {} bytes", body.len()), times);
    }
}

/// A blocking client on its own thread, one request after the other on one connection: what the
/// client sees, sockets and wake-ups included.
#[test]
#[ignore = "a measurement: run it in release mode"]
fn overhead_of_a_round_trip() {
    use std::{
        io::{Read as _, Write as _},
        net,
    };

    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let service = Arc::new(NoWork(kaggle_shape()));
    let metrics = Arc::new(Metrics::new("test", &["table@cpu"], &[SLA]));
    let endpoint = Endpoint::new(service, Arc::clone(&metrics), Limits::default());
    let server = serve(
        vec![listener.into()],
        Arc::new(endpoint),
        HttpConfig::default(),
        std::future::pending(),
    );
    runtime.spawn(server);
    for samples in [1, SAMPLES] {
        let (json, binary, length) = bodies(samples);
        let extra = format!("inference-header-content-length: {length}\r\n");
        for (what, path, headers, body) in [
            ("GET /v2/health/live", "GET /v2/health/live", "", &Vec::new()),
            ("binary", "POST /v2/models/ctr/infer", extra.as_str(), &binary),
            ("json", "POST /v2/models/ctr/infer", "", &json),
        ] {
            let mut message = format!(
                "{path} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n{headers}\r\n",
                body.len()
            )
            .into_bytes();
            message.extend(body);
            let mut stream = net::TcpStream::connect(address).unwrap();
            stream.set_nodelay(true).unwrap();
            let mut buffer = vec![0; 64 << 10];
            let mut times = Vec::new();
            for round in 0..5500 {
                let start = Instant::now();
                stream.write_all(&message).unwrap();
                let mut got = 0;
                loop {
                    got += stream.read(&mut buffer[got..]).unwrap();
                    let text = &buffer[..got];
                    let Some(end) = text.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
                        continue;
                    };
                    let head = String::from_utf8_lossy(&text[..end]).to_lowercase();
                    assert!(head.starts_with("http/1.1 200"), "{head}");
                    let length: usize = header(&head, "content-length").unwrap().parse().unwrap();
                    if got >= end + 4 + length {
                        break;
                    }
                }
                if round >= 500 {
                    times.push(start.elapsed());
                }
            }
            report(&format!("round trip, {samples} samples, {what}"), times);
        }
    }
    runtime.shutdown_background();
}
