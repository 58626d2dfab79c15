use std::fs;

use tonic::{
    metadata::MetadataValue,
    transport::{Certificate, ClientTlsConfig, Identity},
};

use super::*;
use crate::{
    grpc::protocol::{
        health::{HealthCheckRequest, health_client::HealthClient},
        inference::{
            ModelConfigRequest, ModelMetadataRequest, ModelReadyRequest, ModelStatisticsRequest,
            ServerLiveRequest, ServerMetadataRequest, ServerReadyRequest,
        },
    },
    security::{Certificates, KeyRing, NewKey, Scope, made::Authority},
};

async fn secure_channel(
    server: &Server,
    tls: ClientTlsConfig,
) -> Result<Channel, tonic::transport::Error> {
    let endpoint =
        tonic::transport::Endpoint::from_shared(format!("https://{}", server.address)).unwrap();
    endpoint.tls_config(tls.domain_name("localhost"))?.connect().await
}

#[tokio::test]
async fn calls_come_over_tls() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path(), "one");
    let clients = Authority::new(folder.path(), "clients");
    let mut files = authority.sign("server");
    files.client_ca = Some(clients.file());
    let tls = Some(Arc::new(Certificates::read(&files).unwrap()));
    let server = Server::with(GrpcConfig { tls, ..GrpcConfig::default() }).await;

    let trusting = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(fs::read(authority.file()).unwrap()));
    let shown = clients.sign("client");
    let identity =
        Identity::from_pem(fs::read(shown.certificate).unwrap(), fs::read(shown.key).unwrap());
    let channel = secure_channel(&server, trusting.clone().identity(identity)).await.unwrap();
    let response = GrpcInferenceServiceClient::new(channel).model_infer(request()).await.unwrap();
    assert_eq!(scores(response.get_ref()), expected());

    // TLS 1.3 lets a client begin before it is told that it may not: the first call fails at the latest.
    let refused = match secure_channel(&server, trusting).await {
        Err(_) => true,
        Ok(channel) => {
            GrpcInferenceServiceClient::new(channel).model_infer(request()).await.is_err()
        }
    };
    assert!(refused);
    let plain = format!("http://{}", server.address);
    let plain = tonic::transport::Endpoint::from_shared(plain).unwrap().connect().await;
    let refused = match plain {
        Err(_) => true,
        Ok(channel) => {
            GrpcInferenceServiceClient::new(channel).model_infer(request()).await.is_err()
        }
    };
    assert!(refused);
    let handshakes =
        |result| server.metric(&format!("mprec_tls_handshakes_total{{result=\"{result}\"}}"));
    until(|| handshakes("certificate") >= 1.0 && handshakes("not_tls") >= 1.0).await;
    assert_eq!((handshakes("ok"), server.service.count()), (1.0, 1));
}

fn with_key<T>(message: T, key: Option<&str>) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    if let Some(key) = key {
        let value: MetadataValue<_> = format!("Bearer {key}").parse().unwrap();
        request.metadata_mut().insert("authorization", value);
    }
    request
}

#[tokio::test]
async fn every_call_but_health_needs_a_key() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.txt");
    let key = NewKey::new("web", Scope::Infer).unwrap().unwrap();
    fs::write(&file, key.line()).unwrap();
    let keys = Arc::new(KeyRing::read(&file).unwrap());
    let server = Server::with_keys(Arc::clone(&keys)).await;
    let channel = server.channel().await;
    let mut client = GrpcInferenceServiceClient::new(channel.clone());

    assert!(client.server_live(ServerLiveRequest {}).await.unwrap().get_ref().live);
    assert!(client.server_ready(ServerReadyRequest {}).await.unwrap().get_ref().ready);
    let mut health = HealthClient::new(channel);
    health.check(HealthCheckRequest::default()).await.unwrap();

    let name = || "ctr".to_owned();
    for (presented, is_good) in [(None, false), (Some("wrong"), false), (Some(key.key()), true)] {
        macro_rules! call {
            ($method:ident, $message:expr) => {{
                let result = client.$method(with_key($message, presented)).await.map(drop);
                if is_good {
                    result.unwrap();
                } else {
                    let message = expect_error(result, Code::Unauthenticated, "unauthenticated");
                    assert!(!message.contains("wrong"), "{message}");
                }
            }};
        }
        call!(model_infer, request());
        call!(model_ready, ModelReadyRequest { name: name(), ..Default::default() });
        call!(server_metadata, ServerMetadataRequest {});
        call!(model_metadata, ModelMetadataRequest { name: name(), ..Default::default() });
        call!(model_config, ModelConfigRequest { name: name(), ..Default::default() });
        call!(model_statistics, ModelStatisticsRequest::default());
        call!(model_stream_infer, futures_util::stream::iter([request()]));
    }
    assert_eq!(server.metric("mprec_requests_total{code=\"unauthenticated\"}"), 2.0);
    let reason = |reason: &str| {
        server.metric(&format!("mprec_requests_unauthenticated_total{{reason=\"{reason}\"}}"))
    };
    assert_eq!((reason("missing"), reason("unknown")), (7.0, 7.0));
    assert_eq!(keys.uses()[0].1.get(), 7);

    // A stream that is open while its key is taken back.
    let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
    let messages = futures_util::stream::poll_fn(move |context| receiver.poll_recv(context));
    let stream = client.model_stream_infer(with_key(messages, Some(key.key()))).await.unwrap();
    let mut stream = stream.into_inner();
    sender.send(request()).unwrap();
    let answer = stream.message().await.unwrap().unwrap().infer_response.unwrap();
    assert_eq!(scores(&answer), expected());

    let next = NewKey::new("next", Scope::Infer).unwrap().unwrap();
    fs::write(&file, next.line()).unwrap();
    keys.read_again(None).unwrap();
    sender.send(request()).unwrap();
    expect_error(stream.message().await, Code::Unauthenticated, "unauthenticated");
    assert_eq!(server.metric("mprec_requests_total{code=\"unauthenticated\"}"), 3.0);
    let old = client.model_infer(with_key(request(), Some(key.key()))).await;
    expect_error(old, Code::Unauthenticated, "unauthenticated");
    let new = client.model_infer(with_key(request(), Some(next.key()))).await.unwrap();
    assert_eq!(scores(new.get_ref()), expected());
}
