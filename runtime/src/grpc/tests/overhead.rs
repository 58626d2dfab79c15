//! How much gRPC costs beside HTTP with binary tensors, which `http::tests::overhead` measures:
//!
//! ```text
//! cargo test --release -p mprec-runtime overhead -- --ignored --nocapture --test-threads 1
//! ```

use std::{
    io::{Read as _, Write as _},
    net,
    time::Instant,
};

use prost::Message as _;

use super::*;
use crate::{
    endpoint::no_work::{DENSE, NoWork, SAMPLES, SPARSE, report},
    grpc::request::parse,
};

fn kaggle_request(samples: usize) -> ModelInferRequest {
    let mut request = request();
    request.inputs[0].shape = vec![samples as i64, DENSE as i64];
    request.inputs[1].shape = vec![samples as i64, SPARSE as i64];
    let (dense, sparse) = NoWork::tensors(samples);
    let dense: Vec<u8> = dense.iter().flat_map(|value| value.to_le_bytes()).collect();
    let sparse: Vec<u8> = sparse.iter().flat_map(|value| value.to_le_bytes()).collect();
    request.raw_input_contents = vec![dense.into(), sparse.into()];
    request
}

#[test]
#[ignore = "a measurement: run it in release mode"]
fn overhead_of_parsing() {
    let model = NoWork::default().0;
    let bytes: hyper::body::Bytes = kaggle_request(SAMPLES).encode_to_vec().into();
    let times = (0..2000).map(|_| {
        let start = Instant::now();
        let message = ModelInferRequest::decode(bytes.clone()).unwrap();
        let parsed = parse(&model, message).unwrap();
        let time = start.elapsed();
        assert_eq!(parsed.batch.samples(), SAMPLES);
        time
    });
    report(&format!("parse {SAMPLES} samples, grpc, {} bytes", bytes.len()), times.collect());
}

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// Headers that use no table, so that they are the same in every call.
fn headers(path: &str) -> Vec<u8> {
    let pairs = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "x"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    let mut bytes = Vec::new();
    for (name, value) in pairs {
        // A literal that is not indexed; both lengths are below 127.
        bytes.push(0);
        for text in [name, value] {
            bytes.push(text.len() as u8);
            bytes.extend(text.bytes());
        }
    }
    bytes
}

/// A blocking client on its own thread that speaks just enough HTTP/2, as the HTTP measurement's
/// client speaks just enough HTTP/1.1: what is compared is the servers.
struct Raw {
    stream: net::TcpStream,
    buffer: Vec<u8>,
    /// Bytes of the buffer that are filled.
    filled: usize,
}

const HEADERS: u8 = 1;
const DATA: u8 = 0;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const ACK: u8 = 1;

impl Raw {
    fn connect(address: SocketAddr) -> Self {
        let mut stream = net::TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        hello.extend(frame(SETTINGS, 0, 0, &[]));
        // Responses never use up what they may.
        hello.extend(frame(WINDOW_UPDATE, 0, 0, &(i32::MAX as u32 - 65_535).to_be_bytes()));
        stream.write_all(&hello).unwrap();
        Self { stream, buffer: vec![0; 64 << 10], filled: 0 }
    }

    /// One call; returns the length of its response's data.
    fn call(&mut self, id: u32, headers: &[u8], message: &[u8]) -> usize {
        let mut bytes = frame(HEADERS, END_HEADERS, id, headers);
        let mut chunks = message.chunks(16 << 10).peekable();
        while let Some(chunk) = chunks.next() {
            let end = if chunks.peek().is_none() { END_STREAM } else { 0 };
            bytes.extend(frame(DATA, end, id, chunk));
        }
        self.stream.write_all(&bytes).unwrap();
        let mut data = 0;
        loop {
            let mut at = 0;
            while let Some(head) = self.buffer[at..self.filled].first_chunk::<9>() {
                let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
                let (kind, flags) = (head[3], head[4]);
                let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
                if at + 9 + length > self.filled {
                    break;
                }
                let payload = self.buffer[at + 9..at + 9 + length].to_vec();
                at += 9 + length;
                match kind {
                    SETTINGS if flags & ACK == 0 => {
                        self.stream.write_all(&frame(SETTINGS, ACK, 0, &[])).unwrap();
                    }
                    PING if flags & ACK == 0 => {
                        self.stream.write_all(&frame(PING, ACK, 0, &payload)).unwrap();
                    }
                    DATA if stream == id => data += length,
                    HEADERS if stream == id && flags & END_STREAM != 0 => {
                        self.buffer.copy_within(at..self.filled, 0);
                        self.filled -= at;
                        return data;
                    }
                    _ => {}
                }
            }
            self.buffer.copy_within(at..self.filled, 0);
            self.filled -= at;
            let read = self.stream.read(&mut self.buffer[self.filled..]).unwrap();
            assert_ne!(read, 0, "the server closed");
            self.filled += read;
        }
    }
}

/// What the client sees, sockets and wake-ups included.
#[test]
#[ignore = "a measurement: run it in release mode"]
fn overhead_of_a_round_trip() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let metrics = Arc::new(Metrics::new("test", &["table@cpu"], &[SLA]));
    let endpoint = Endpoint::new(Arc::new(NoWork::default()), metrics, Limits::default());
    let config = GrpcConfig::default();
    runtime.spawn(serve(vec![listener.into()], Arc::new(endpoint), config, std::future::pending()));
    for samples in [1, SAMPLES] {
        let message = kaggle_request(samples).encode_to_vec();
        let mut infer = vec![0];
        infer.extend((message.len() as u32).to_be_bytes());
        infer.extend(message);
        // An empty message.
        let live = vec![0; 5];
        for (call, body, least) in [("ServerLive", &live, 7), ("ModelInfer", &infer, samples * 4)] {
            let headers = headers(&format!("/inference.GRPCInferenceService/{call}"));
            let mut client = Raw::connect(address);
            let mut times = Vec::new();
            for round in 0..5500 {
                let start = Instant::now();
                let data = client.call(round * 2 + 1, &headers, body);
                if round >= 500 {
                    times.push(start.elapsed());
                }
                assert!(data >= least, "{data} bytes of a response");
            }
            report(&format!("round trip, {samples} samples, grpc {call}"), times);
        }
    }
    runtime.shutdown_background();
}
