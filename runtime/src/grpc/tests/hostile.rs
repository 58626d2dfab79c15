//! No bytes make the endpoint panic, and none make it answer with a server's error.

use futures_util::{StreamExt as _, stream};
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::{
    Request,
    body::{Bytes, Frame},
    client::conn::http2,
    header::CONTENT_TYPE,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use proptest::prelude::*;
use prost::Message as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::{
    endpoint::ErrorCode,
    grpc::{admit::admit, protocol::inference::ServerLiveRequest, request::parse},
};

const INFER: &str = "/inference.GRPCInferenceService/ModelInfer";

/// What a client sees of a call: HTTP's status, gRPC's, and the code.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    http: u16,
    grpc: Option<i32>,
    code: Option<String>,
}

/// Sends any body to any path, by a client that knows nothing of gRPC.
async fn send(server: &Server, path: &str, content_type: &str, body: Vec<u8>) -> Seen {
    let stream = TcpStream::connect(server.address).await.unwrap();
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = Request::post(format!("http://{}{path}", server.address))
        .header(CONTENT_TYPE, content_type)
        .body(Full::new(Bytes::from(body)))
        .unwrap();
    let reply = async {
        let response = sender.send_request(request).await.unwrap();
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap();
        let text = |name: &str| {
            let value = head.headers.get(name).or_else(|| body.trailers()?.get(name))?;
            Some(value.to_str().unwrap().to_owned())
        };
        Seen {
            http: head.status.as_u16(),
            grpc: text("grpc-status").map(|status| status.parse().unwrap()),
            code: text("mprec-code"),
        }
    };
    let seen = tokio::time::timeout(Duration::from_secs(20), reply).await.expect("no silence");
    connection.abort();
    seen
}

/// A message behind its prefix.
fn framed(flag: u8, message: &[u8]) -> Vec<u8> {
    let mut bytes = vec![flag];
    bytes.extend((message.len() as u32).to_be_bytes());
    bytes.extend(message);
    bytes
}

fn seen(grpc: Code, code: &str) -> Seen {
    Seen { http: 200, grpc: Some(grpc as i32), code: Some(code.to_owned()) }
}

#[tokio::test]
async fn what_is_not_a_message_is_the_clients_fault() {
    let server = Server::start().await;
    let message = request().encode_to_vec();
    let bad = || seen(Code::InvalidArgument, "bad_message");
    for body in [
        vec![],
        vec![0],
        framed(0, &message)[..40].to_vec(),
        // Compressed, says the flag; by no encoding, say the headers.
        framed(1, &message),
        framed(7, &message),
        framed(0, b"\xff\xff\xff"),
        framed(0, &[0x2a, 0].repeat(100_000)),
        framed(0, &[0x0b; 1000]),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
    ] {
        let length = body.len();
        let got = send(&server, INFER, "application/grpc", body).await;
        assert_eq!(got, bad(), "{length} bytes");
    }
    let unset = framed(0, &[]);
    let got = send(&server, INFER, "application/grpc", unset).await;
    assert_eq!(got, seen(Code::NotFound, "unknown_model"));
    let good = send(&server, INFER, "application/grpc+proto", framed(0, &message)).await;
    assert_eq!(good, Seen { http: 200, grpc: Some(0), code: None });
    assert_eq!(server.metric("mprec_requests_in_flight"), 0.0);
}

#[tokio::test]
async fn a_promise_of_gigabytes_takes_no_memory() {
    let server = Server::start().await;
    let mut body = vec![0];
    body.extend(u32::MAX.to_be_bytes());
    let got = send(&server, INFER, "application/grpc", body).await;
    assert_eq!(got, seen(Code::ResourceExhausted, "body_too_large"));
}

#[tokio::test]
async fn calls_that_need_no_key_take_nothing_large_and_nothing_compressed() {
    let server = Server::start().await;
    // A field that the message does not have, which is skipped where it is small.
    let padded = |bytes: usize| {
        let mut message = vec![0x0a, (bytes & 0x7f) as u8 | 0x80, (bytes >> 7) as u8];
        message.resize(3 + bytes, 0);
        framed(0, &message)
    };
    for call in ["ServerLive", "ServerReady"] {
        let path = format!("/inference.GRPCInferenceService/{call}");
        let small = send(&server, &path, "application/grpc", padded(1_000)).await;
        assert_eq!(small, Seen { http: 200, grpc: Some(0), code: None }, "{call}");
        let large = send(&server, &path, "application/grpc", padded(5_000)).await;
        assert_eq!(large, seen(Code::ResourceExhausted, "body_too_large"), "{call}");
    }
    let client = server.client().await;
    let mut client = client.send_compressed(tonic::codec::CompressionEncoding::Gzip);
    let live = client.server_live(ServerLiveRequest {}).await;
    expect_error(live, Code::Unimplemented, "unsupported_encoding");
}

#[tokio::test]
async fn other_calls_and_other_clients_are_told_so() {
    let server = Server::start().await;
    let empty = || framed(0, &[]);
    for path in [
        "/",
        "/inference.GRPCInferenceService",
        "/inference.GRPCInferenceService/",
        "/inference.GRPCInferenceService/SystemSharedMemoryStatus",
        "/inference.GRPCInferenceService/CudaSharedMemoryRegister",
        "/inference.GRPCInferenceService/TraceSetting",
        "/inference.GRPCInferenceService/LogSettings",
        "/grpc.health.v1.Health/List",
        "/other.Service/Call",
        "/v2/health/live",
    ] {
        let got = send(&server, path, "application/grpc", empty()).await;
        assert_eq!(got, seen(Code::Unimplemented, "unknown_route"), "{path}");
    }
    for kind in ["application/json", "application/grpc-web", "application/grpc+json", "text/html"] {
        let got = send(&server, INFER, kind, empty()).await;
        assert_eq!((got.http, got.grpc), (415, None), "{kind}");
    }
}

#[tokio::test]
async fn a_message_that_does_not_come_is_not_waited_for() {
    let config = GrpcConfig { message_timeout: MOMENT, ..GrpcConfig::default() };
    let server = Server::with(config).await;
    let stream = TcpStream::connect(server.address).await.unwrap();
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    // The prefix of a message, and then silence.
    let part = Ok::<_, std::io::Error>(Frame::data(Bytes::from_static(b"\0\0\0")));
    let body = StreamBody::new(stream::once(std::future::ready(part)).chain(stream::pending()));
    let request = Request::post(format!("http://{}{INFER}", server.address))
        .header(CONTENT_TYPE, "application/grpc")
        .body(body)
        .unwrap();
    let response =
        tokio::time::timeout(Duration::from_secs(10), sender.send_request(request)).await;
    let response = response.expect("no silence").unwrap();
    assert_eq!(response.headers()["mprec-code"], "body_timeout");
    assert_eq!(server.metric("mprec_requests_total{code=\"body_timeout\"}"), 1.0);
    connection.abort();
}

#[tokio::test]
async fn what_is_not_http_2_ends_the_connection() {
    let server = Server::start().await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    for bytes in [
        b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\n\r\n".to_vec(),
        vec![0xff; 100],
        // A frame of unknown settings length, one on stream 0 that may not be, one without end.
        [&preface[..], b"\0\0\x05\x04\0\0\0\0\0hello"].concat(),
        [&preface[..], b"\0\0\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0"].concat(),
        [&preface[..], &[0xff; 64]].concat(),
    ] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let _ = stream.write_all(&bytes).await;
        let mut rest = Vec::new();
        let read = stream.read_to_end(&mut rest);
        let _ = tokio::time::timeout(Duration::from_secs(10), read).await.expect("it is closed");
    }
    assert_eq!(scores(&server.infer(request()).await.unwrap()), expected());
}

#[tokio::test]
async fn headers_have_a_limit() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let mut large = tonic::Request::new(request());
    large.metadata_mut().insert("x", "y".repeat(64 << 10).parse().unwrap());
    assert!(client.model_infer(large).await.is_err());
    assert_eq!(scores(client.model_infer(request()).await.unwrap().get_ref()), expected());
}

/// Reads a message as the endpoint does, and asserts that what comes out is a whole batch or a
/// client's error.
fn check(model: &Model, bytes: &[u8]) -> bool {
    let Ok(message) = ModelInferRequest::decode(bytes) else { return false };
    let parsed = admit::<ModelInferRequest>(bytes).and_then(|()| parse(model, message));
    match parsed {
        Ok(parsed) => {
            let batch = parsed.batch.expanded();
            assert!((1..=model.max_samples).contains(&batch.samples()));
            assert_eq!(batch.dense().len(), batch.samples() * 2);
            assert!(score(&batch).iter().all(|score| !score.is_nan()));
            true
        }
        Err(error) => {
            assert!(error.code() != ErrorCode::Internal, "{error}");
            assert!(error.code().status().is_client_error(), "{error}");
            false
        }
    }
}

fn contents() -> impl Strategy<Value = InferTensorContents> {
    (
        prop::collection::vec(any::<f32>(), 0..8),
        prop::collection::vec(-1_i64..40, 0..8),
        prop::collection::vec(-1_i32..4, 0..8),
        prop::collection::vec(any::<bool>(), 0..2),
    )
        .prop_map(|(fp32_contents, int64_contents, int_contents, bool_contents)| {
            InferTensorContents {
                fp32_contents,
                int64_contents,
                int_contents,
                bool_contents,
                ..Default::default()
            }
        })
}

fn input() -> impl Strategy<Value = InferInputTensor> {
    (
        prop_oneof!["dense", "sparse", "sparse_lengths", "sparse_weights", "user_sparse", ".{0,3}"],
        prop_oneof!["FP32", "INT64", "INT32", "BYTES", ".{0,3}"],
        prop::collection::vec(prop_oneof![0_i64..4, any::<i64>()], 0..4),
        prop::option::of(contents()),
    )
        .prop_map(|(name, datatype, shape, contents)| InferInputTensor {
            name,
            datatype,
            shape,
            contents,
            ..Default::default()
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        check(&Fake::new(OutOfVocabulary::Zero).model, &bytes);
    }

    #[test]
    fn any_request_is_survived(
        inputs in prop::collection::vec(input(), 0..5),
        raw in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..5),
        user in any::<bool>(),
    ) {
        let raw_input_contents = raw.into_iter().map(Bytes::from).collect();
        let names = ("user_features", ParameterChoice::StringParam("s1".into()));
        let parameters = if user { with(&[names]).parameters } else { BTreeMap::new() };
        let message = ModelInferRequest { inputs, raw_input_contents, parameters, ..shapes() };
        check(&Fake::new(OutOfVocabulary::Zero).model, &message.encode_to_vec());
    }

    /// Changing any byte of a good request leaves a good request or a client's error.
    #[test]
    fn a_changed_byte_is_survived(
        is_raw in any::<bool>(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let model = &Fake::new(OutOfVocabulary::Zero).model;
        let mut bytes = if is_raw { request() } else { typed() }.encode_to_vec();
        prop_assert!(check(model, &bytes));
        let at = at.index(bytes.len());
        bytes[at] = byte;
        check(model, &bytes);
    }
}
