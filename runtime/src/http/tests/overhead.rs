//! How much the endpoint costs beside the model's work.
//!
//! ```text
//! cargo test --release -p mprec-runtime overhead -- --ignored --nocapture
//! ```

use std::time::Instant;

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
    let service = Arc::new(NoWork::default());
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
