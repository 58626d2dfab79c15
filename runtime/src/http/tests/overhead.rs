//! How much the endpoint costs beside the model's work.
//!
//! ```text
//! cargo test --release -p mprec-runtime overhead -- --ignored --nocapture
//! ```

use std::{
    io::{Read as _, Write as _},
    net,
    time::Instant,
};

use core_affinity::CoreId;
use tokio::runtime::Runtime;

use super::*;
use crate::{
    endpoint::no_work::{DENSE, NoWork, SAMPLES, SPARSE, report},
    http::request::parse,
};

/// The same request in JSON and in binary; the latter with the length of its JSON part.
fn bodies(samples: usize) -> (Vec<u8>, Vec<u8>, usize) {
    let (dense, sparse) = NoWork::tensors(samples);
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

#[test]
#[ignore = "a measurement: run it in release mode"]
fn overhead_of_parsing() {
    let model = NoWork::default().0;
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

/// A blocking client of one connection.
struct Blocking {
    stream: net::TcpStream,
    buffer: Vec<u8>,
}

impl Blocking {
    fn connect(address: SocketAddr) -> Self {
        let stream = net::TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: vec![0; 64 << 10] }
    }

    /// Sends a request and reads its reply, which must be 200.
    fn ask(&mut self, message: &[u8]) {
        self.stream.write_all(message).unwrap();
        let mut got = 0;
        loop {
            let read = self.stream.read(&mut self.buffer[got..]).unwrap();
            assert_ne!(read, 0, "the server closed");
            got += read;
            let text = &self.buffer[..got];
            let Some(end) = text.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
                continue;
            };
            let head = String::from_utf8_lossy(&text[..end]).to_lowercase();
            assert!(head.starts_with("http/1.1 200"), "{head}");
            let length: usize = header(&head, "content-length").unwrap().parse().unwrap();
            if got >= end + 4 + length {
                return;
            }
        }
    }
}

fn message(request: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head =
        format!("{request} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n{headers}\r\n");
    [head.as_bytes(), body].concat()
}

/// A server in front of no work, on one thread, which is pinned to `core` if there is one.
fn server_of_no_work(core: Option<CoreId>) -> (Runtime, SocketAddr) {
    let pin = move || {
        assert!(core.is_none_or(core_affinity::set_for_current));
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .on_thread_start(pin)
        .enable_all()
        .build()
        .unwrap();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let metrics = Arc::new(Metrics::new("test", &["table@cpu"], &[SLA]));
    let endpoint = Endpoint::new(Arc::new(NoWork::default()), metrics, Limits::default());
    let config = HttpConfig::default();
    runtime.spawn(serve(vec![listener.into()], Arc::new(endpoint), config, std::future::pending()));
    (runtime, address)
}

/// A blocking client on its own thread, one request after the other on one connection: what the
/// client sees, sockets and wake-ups included.
#[test]
#[ignore = "a measurement: run it in release mode"]
fn overhead_of_a_round_trip() {
    let (runtime, address) = server_of_no_work(None);
    for samples in [1, SAMPLES] {
        let (json, binary, length) = bodies(samples);
        let extra = format!("inference-header-content-length: {length}\r\n");
        for (what, request, headers, body) in [
            ("GET /v2/health/live", "GET /v2/health/live", "", &Vec::new()),
            ("binary", "POST /v2/models/ctr/infer", extra.as_str(), &binary),
            ("json", "POST /v2/models/ctr/infer", "", &json),
        ] {
            let message = message(request, headers, body);
            let mut client = Blocking::connect(address);
            let mut times = Vec::new();
            for round in 0..5500 {
                let start = Instant::now();
                client.ask(&message);
                if round >= 500 {
                    times.push(start.elapsed());
                }
            }
            report(&format!("round trip, {samples} samples, {what}"), times);
        }
    }
    runtime.shutdown_background();
}

/// Four blocking clients on one core, and the server on another: queries that it answers on that core in a second.
#[test]
#[ignore = "a measurement: run it in release mode, on two cores"]
fn overhead_of_many_queries() {
    const SECONDS: f64 = 3.0;
    let cores = core_affinity::get_core_ids().unwrap();
    let [servers, clients] = cores[..] else { panic!("it needs two cores: taskset -c A,B") };
    let (runtime, address) = server_of_no_work(Some(servers));
    for samples in [1, SAMPLES] {
        let (_, binary, length) = bodies(samples);
        let headers = format!("inference-header-content-length: {length}\r\n");
        let message = &message("POST /v2/models/ctr/infer", &headers, &binary);
        let client = move || {
            assert!(core_affinity::set_for_current(clients));
            let mut client = Blocking::connect(address);
            let (start, mut asked) = (Instant::now(), 0);
            while start.elapsed().as_secs_f64() < SECONDS {
                client.ask(message);
                asked += 1;
            }
            asked
        };
        let asked: i32 = std::thread::scope(|scope| {
            let clients: Vec<_> = (0..4).map(|_| scope.spawn(client)).collect();
            clients.into_iter().map(|client| client.join().unwrap()).sum()
        });
        eprintln!("{samples} samples, binary: {:.0} queries/s", f64::from(asked) / SECONDS);
    }
    runtime.shutdown_background();
}
