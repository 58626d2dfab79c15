//! A client in Rust, on nothing but an HTTP library: asks a server for its model, and for scores in binary.
//!
//!     cargo run --release --package mprec-runtime --example client -- 127.0.0.1:8000 ctr

#![expect(clippy::print_stdout, reason = "an example says what it got")]

use anyhow::{Context as _, ensure};
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, Response, body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;

/// Header that says where in a body JSON ends and tensors begin.
const JSON_BYTES: &str = "inference-header-content-length";

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().context("the server's address is missing: 127.0.0.1:8000")?;
    let model = arguments.next().context("the model's name is missing: ctr")?;

    // One connection, used for all requests.
    let stream = TcpStream::connect(&address).await?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request =
        |verb: &str, path: &str| Request::builder().method(verb).uri(path).header("host", &address);

    // How many features of each kind a sample has.
    let get = request("GET", &format!("/v2/models/{model}")).body(Full::<Bytes>::default())?;
    let (_, metadata) = whole(sender.send_request(get).await?).await?;
    let metadata: Value = serde_json::from_slice(&metadata)?;
    let width = |input: usize| metadata["inputs"][input]["shape"][1].as_u64();
    let (dense, sparse) = width(0).zip(width(1)).context("the server has no such model")?;

    // Two samples; ids are numbers of rows, of which 0 and 1 are in every vocabulary.
    let samples = 2;
    let values: Vec<f32> = vec![0.5; samples * dense as usize];
    let ids: Vec<i64> = (0..samples as i64 * sparse as i64).map(|at| at % 2).collect();
    let document = json!({
        // No answer is better than one after 50 ms, and than one of a model that is right in less than half.
        "parameters": { "sla_ms": 50, "min_quality": 0.5, "binary_data_output": true },
        "inputs": [
            { "name": "dense", "datatype": "FP32", "shape": [samples, dense],
              "parameters": { "binary_data_size": size_of_val(values.as_slice()) } },
            { "name": "sparse", "datatype": "INT64", "shape": [samples, sparse],
              "parameters": { "binary_data_size": size_of_val(ids.as_slice()) } },
        ],
    });
    let mut body = document.to_string().into_bytes();
    let json_bytes = body.len();
    body.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    body.extend(ids.iter().flat_map(|id| id.to_le_bytes()));
    let post = request("POST", &format!("/v2/models/{model}/infer"))
        .header(JSON_BYTES, json_bytes)
        .body(Full::from(body))?;

    let response = sender.send_request(post).await?;
    let json_bytes = response.headers().get(JSON_BYTES).cloned();
    let (status, body) = whole(response).await?;
    ensure!(status == 200, "the server says {status}: {}", String::from_utf8_lossy(&body));
    let json_bytes: usize = json_bytes.context("the reply is not binary")?.to_str()?.parse()?;
    let (json, scores) = body.split_at_checked(json_bytes).context("the reply is too short")?;
    let told: Value = serde_json::from_slice(json)?;
    let (scores, _) = scores.as_chunks();
    let scores: Vec<f32> = scores.iter().map(|&score| f32::from_le_bytes(score)).collect();
    let parameters = &told["parameters"];
    println!(
        "{scores:?} by {} in {} µs; {} µs were expected",
        parameters["path"], parameters["latency_us"], parameters["predicted_us"]
    );
    Ok(())
}

async fn whole(response: Response<hyper::body::Incoming>) -> anyhow::Result<(u16, Bytes)> {
    let status = response.status().as_u16();
    Ok((status, response.into_body().collect().await?.to_bytes()))
}
