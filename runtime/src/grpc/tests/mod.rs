//! The endpoint over real sockets, in front of a service that computes something checkable.

mod connections;
mod errors;
mod health;
mod hostile;
mod infer;
mod overhead;
mod ranking;
mod raw;
mod repository;
#[cfg(feature = "tls")]
mod secure;
mod stream;

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use mprec_representations::OutOfVocabulary;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinHandle,
    time::sleep,
};
use tonic::{Code, Status, transport::Channel};

use super::{
    GrpcConfig,
    protocol::inference::{
        InferParameter, InferTensorContents, ModelInferRequest, ModelInferResponse,
        grpc_inference_service_client::GrpcInferenceServiceClient,
        infer_parameter::ParameterChoice, model_infer_request::InferInputTensor,
    },
    serve,
};
use crate::{
    endpoint::{
        Control, Drained, Endpoint, Limits,
        fake::{Behaviour, Fake, SLA, dense, expected, score, sparse},
    },
    metrics::Metrics,
    service::{Model, Refusal},
};

const MOMENT: Duration = Duration::from_millis(150);

/// A running server.
struct Server {
    address: SocketAddr,
    service: Arc<Fake>,
    metrics: Arc<Metrics>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Drained>,
}

type Client = GrpcInferenceServiceClient<Channel>;

impl Server {
    async fn start() -> Self {
        Self::with(GrpcConfig::default()).await
    }

    async fn with(config: GrpcConfig) -> Self {
        Self::of(fake(), config, |endpoint| endpoint).await
    }

    /// One on which models may be managed.
    async fn with_control(control: Arc<dyn Control>) -> Self {
        Self::of(fake(), GrpcConfig::default(), |endpoint| endpoint.with_control(control)).await
    }

    #[cfg(feature = "tls")]
    async fn with_keys(keys: Arc<crate::security::KeyRing>) -> Self {
        Self::of(fake(), GrpcConfig::default(), |endpoint| endpoint.with_keys(keys)).await
    }

    async fn of(
        fake: Fake,
        config: GrpcConfig,
        with: impl FnOnce(Endpoint<Fake>) -> Endpoint<Fake>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let service = Arc::new(fake);
        let metrics = Arc::new(Metrics::new("test", &["table@cpu"], &[SLA]));
        let (stop, stopped) = oneshot::channel();
        let endpoint = Endpoint::new(Arc::clone(&service), Arc::clone(&metrics), Limits::default());
        let endpoint = with(endpoint);
        let task = tokio::spawn(serve(vec![listener.into()], Arc::new(endpoint), config, async {
            let _ = stopped.await;
        }));
        Self { address, service, metrics, stop: Some(stop), task }
    }

    async fn channel(&self) -> Channel {
        let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{}", self.address));
        endpoint.unwrap().connect().await.unwrap()
    }

    /// A client with a connection of its own.
    async fn client(&self) -> Client {
        GrpcInferenceServiceClient::new(self.channel().await)
    }

    async fn infer(&self, request: ModelInferRequest) -> Result<ModelInferResponse, Status> {
        Ok(self.client().await.model_infer(request).await?.into_inner())
    }

    /// A line of the metrics page.
    fn metric(&self, name: &str) -> f64 {
        let page = self.metrics.render(&*self.service);
        let found = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        found.unwrap_or_else(|| panic!("{name} in\n{page}")).parse().unwrap()
    }

    fn stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }
}

fn fake() -> Fake {
    Fake::new(OutOfVocabulary::Zero)
}

/// Waits until `condition` holds, for at most a few seconds.
async fn until(condition: impl Fn() -> bool) {
    for _ in 0..500 {
        if condition() {
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("it never happened");
}

/// Two samples, without their data.
fn shapes() -> ModelInferRequest {
    let input = |name: &str, datatype: &str, shape: &[i64]| InferInputTensor {
        name: name.into(),
        datatype: datatype.into(),
        shape: shape.to_vec(),
        ..Default::default()
    };
    ModelInferRequest {
        model_name: "ctr".into(),
        id: "a".into(),
        inputs: vec![input("dense", "FP32", &[2, 2]), input("sparse", "INT64", &[2, 3])],
        ..Default::default()
    }
}

/// Two samples, as clients send them.
fn request() -> ModelInferRequest {
    let dense: Vec<u8> = dense().iter().flat_map(|value| value.to_le_bytes()).collect();
    let sparse: Vec<u8> = sparse().iter().flat_map(|value| value.to_le_bytes()).collect();
    ModelInferRequest { raw_input_contents: vec![dense.into(), sparse.into()], ..shapes() }
}

/// Two samples in typed contents.
fn typed() -> ModelInferRequest {
    let mut request = shapes();
    request.inputs[0].contents =
        Some(InferTensorContents { fp32_contents: dense(), ..Default::default() });
    request.inputs[1].contents =
        Some(InferTensorContents { int64_contents: sparse(), ..Default::default() });
    request
}

fn with(pairs: &[(&str, ParameterChoice)]) -> ModelInferRequest {
    let entry = |(name, value): &(&str, ParameterChoice)| {
        ((*name).to_owned(), InferParameter { parameter_choice: Some(value.clone()) })
    };
    ModelInferRequest { parameters: pairs.iter().map(entry).collect(), ..request() }
}

/// The scores of a response, whose form is checked.
#[track_caller]
fn scores(response: &ModelInferResponse) -> Vec<f32> {
    assert_eq!((response.outputs.len(), response.raw_output_contents.len()), (1, 1));
    let output = &response.outputs[0];
    assert_eq!((output.name.as_str(), output.datatype.as_str()), ("scores", "FP32"));
    assert!(output.contents.is_none());
    let (values, rest) = response.raw_output_contents[0].as_chunks();
    assert!(rest.is_empty());
    assert_eq!(output.shape, [values.len() as i64]);
    values.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
}

/// Asserts the status and the code of an error, whose message it returns.
#[track_caller]
fn expect_error<T: std::fmt::Debug>(result: Result<T, Status>, status: Code, code: &str) -> String {
    let error = result.unwrap_err();
    let found = error.metadata().get("mprec-code").map(|code| code.to_str().unwrap());
    assert_eq!((error.code(), found), (status, Some(code)), "{error}");
    error.message().to_owned()
}

fn map_of(parameters: &BTreeMap<String, InferParameter>) -> Vec<(&str, ParameterChoice)> {
    parameters
        .iter()
        .map(|(name, value)| (name.as_str(), value.parameter_choice.clone().unwrap()))
        .collect()
}
