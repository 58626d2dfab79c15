//! The service of the Open Inference Protocol: translate, ask the endpoint, render.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::stream::BoxStream;
use tokio::sync::watch;
use tonic::{Request, Response, Status, Streaming};

use super::{
    GrpcConfig,
    call::Call,
    describe,
    health::Watches,
    protocol::inference::{
        ModelConfigRequest, ModelConfigResponse, ModelInferRequest, ModelInferResponse,
        ModelMetadataRequest, ModelMetadataResponse, ModelReadyRequest, ModelReadyResponse,
        ModelStatisticsRequest, ModelStatisticsResponse, ModelStreamInferResponse,
        RepositoryIndexRequest, RepositoryIndexResponse, RepositoryModelLoadRequest,
        RepositoryModelLoadResponse, RepositoryModelUnloadRequest, RepositoryModelUnloadResponse,
        ServerLiveRequest, ServerLiveResponse, ServerMetadataRequest, ServerMetadataResponse,
        ServerReadyRequest, ServerReadyResponse,
        grpc_inference_service_server::GrpcInferenceService, infer_parameter::ParameterChoice,
    },
    reply, repository,
    request::{self, Parsed},
    status, stream,
};
use crate::{
    endpoint::{ApiError, Endpoint, ModelConfig, ModelMetadata, ScoreQuery, ServerMetadata, Verb},
    service::{Model, Service},
};

/// Requests above this many bytes are parsed on another thread: that takes milliseconds, in which
/// this thread could not serve its other calls.
const PARSE_ASIDE_BYTES: usize = 256 << 10;

/// What all gRPC calls share.
#[derive(Debug)]
pub(super) struct Shared<S: ?Sized> {
    pub(super) endpoint: Arc<Endpoint<S>>,
    pub(super) config: GrpcConfig,
    /// Turns true when calls that could last for ever have to end.
    pub(super) stopped: watch::Receiver<bool>,
    pub(super) watches: Watches,
}

/// The service.
#[derive(Debug)]
pub(super) struct Inference<S: ?Sized>(pub(super) Arc<Shared<S>>);

impl<S: ?Sized> Shared<S> {
    /// Completes when calls that could last for ever have to end.
    pub(super) fn stopped(&self) -> impl Future<Output = ()> + Send + 'static + use<S> {
        let mut stopped = self.stopped.clone();
        async move {
            // An error would mean that the server is gone, which is a stop too.
            let _ = stopped.wait_for(|&stopped| stopped).await;
        }
    }
}

impl<S: Service + ?Sized> Shared<S> {
    /// Scores one request, within `budget` if there is one.
    pub(super) async fn infer(
        &self,
        request: ModelInferRequest,
        arrival: Instant,
        budget: Option<Duration>,
    ) -> Result<ModelInferResponse, ApiError> {
        let model = self.model(&request.model_name, &request.model_version)?;
        let Parsed { batch, mut parameters, outputs, id } = parse(&model, request).await?;
        if let Some(budget) = budget {
            parameters.limit(budget);
        }
        let query = ScoreQuery { batch, parameters, arrival };
        let render = |answer: &_| Ok(reply::scores(&model, id, outputs, answer, arrival.elapsed()));
        self.endpoint.score(&model, query, render).await
    }

    fn model(&self, name: &str, version: &str) -> Result<Arc<Model>, ApiError> {
        self.endpoint.model(name, named(version))
    }
}

/// About how many bytes have to be read to parse a request: those of its tensors and of its parameters that are texts.
fn bytes_of(request: &ModelInferRequest) -> usize {
    let texts = request.parameters.values().filter_map(|value| match &value.parameter_choice {
        Some(ParameterChoice::StringParam(text)) => Some(text.len()),
        _ => None,
    });
    let raw = request.raw_input_contents.iter().map(|bytes| bytes.len()).sum::<usize>();
    let typed = request.inputs.iter().filter_map(|input| input.contents.as_ref());
    let typed = typed.map(|contents| {
        contents.fp32_contents.len() * 4
            + contents.int64_contents.len() * 8
            + contents.int_contents.len() * 4
            // Each is looked up.
            + contents.bytes_contents.iter().map(|text| text.len() + 8).sum::<usize>()
    });
    raw + typed.sum::<usize>() + texts.sum::<usize>()
}

async fn parse(model: &Arc<Model>, request: ModelInferRequest) -> Result<Parsed, ApiError> {
    if bytes_of(&request) <= PARSE_ASIDE_BYTES {
        return request::parse(model, request);
    }
    let model = Arc::clone(model);
    tokio::task::spawn_blocking(move || request::parse(&model, request))
        .await
        .unwrap_or(Err(ApiError::Internal { message: "the request could not be parsed" }))
}

/// What the headers of this request say; every request passes where they are read.
pub(super) fn call<T>(request: &Request<T>) -> Result<Call, Status> {
    request.extensions().get().copied().ok_or_else(|| {
        status::of(&ApiError::Internal { message: "the call's headers were not read" })
    })
}

#[tonic::async_trait]
impl<S: Service + ?Sized> GrpcInferenceService for Inference<S> {
    type ModelStreamInferStream = BoxStream<'static, Result<ModelStreamInferResponse, Status>>;

    async fn server_live(
        &self,
        _request: Request<ServerLiveRequest>,
    ) -> Result<Response<ServerLiveResponse>, Status> {
        Ok(Response::new(ServerLiveResponse { live: true }))
    }

    async fn server_ready(
        &self,
        _request: Request<ServerReadyRequest>,
    ) -> Result<Response<ServerReadyResponse>, Status> {
        Ok(Response::new(ServerReadyResponse { ready: self.0.endpoint.is_ready() }))
    }

    async fn model_ready(
        &self,
        request: Request<ModelReadyRequest>,
    ) -> Result<Response<ModelReadyResponse>, Status> {
        let ModelReadyRequest { name, version } = request.into_inner();
        // One that does not exist is not ready, as Triton says it: clients poll for models that are to come.
        let model = self.0.model(&name, &version);
        let ready = model.is_ok_and(|model| self.0.endpoint.is_model_ready(&model));
        Ok(Response::new(ModelReadyResponse { ready }))
    }

    async fn server_metadata(
        &self,
        _request: Request<ServerMetadataRequest>,
    ) -> Result<Response<ServerMetadataResponse>, Status> {
        Ok(Response::new(describe::server(ServerMetadata::of(&self.0.endpoint))))
    }

    async fn model_metadata(
        &self,
        request: Request<ModelMetadataRequest>,
    ) -> Result<Response<ModelMetadataResponse>, Status> {
        let ModelMetadataRequest { name, version } = request.into_inner();
        let model = self.0.model(&name, &version).map_err(|error| status::of(&error))?;
        Ok(Response::new(describe::model(ModelMetadata::of(&model))))
    }

    async fn model_infer(
        &self,
        request: Request<ModelInferRequest>,
    ) -> Result<Response<ModelInferResponse>, Status> {
        let call = call(&request)?;
        let budget = call.budget(call.arrival);
        let response = self.0.infer(request.into_inner(), call.arrival, budget).await;
        response.map(Response::new).map_err(|error| status::of(&error))
    }

    async fn model_stream_infer(
        &self,
        request: Request<Streaming<ModelInferRequest>>,
    ) -> Result<Response<Self::ModelStreamInferStream>, Status> {
        let call = call(&request)?;
        Ok(Response::new(stream::answers(Arc::clone(&self.0), call, request.into_inner())))
    }

    async fn model_config(
        &self,
        request: Request<ModelConfigRequest>,
    ) -> Result<Response<ModelConfigResponse>, Status> {
        let ModelConfigRequest { name, version } = request.into_inner();
        let model = self.0.model(&name, &version).map_err(|error| status::of(&error))?;
        let config = Some(describe::config(ModelConfig::of(&model)));
        Ok(Response::new(ModelConfigResponse { config }))
    }

    async fn model_statistics(
        &self,
        request: Request<ModelStatisticsRequest>,
    ) -> Result<Response<ModelStatisticsResponse>, Status> {
        let ModelStatisticsRequest { name, version } = request.into_inner();
        let statistics = self.0.endpoint.statistics(named(&name), named(&version));
        let rows = statistics.map_err(|error| status::of(&error))?.model_stats;
        let model_stats = rows.into_iter().map(describe::statistics).collect();
        Ok(Response::new(ModelStatisticsResponse { model_stats }))
    }

    async fn repository_index(
        &self,
        request: Request<RepositoryIndexRequest>,
    ) -> Result<Response<RepositoryIndexResponse>, Status> {
        repository::index(&self.0.endpoint, &request.into_inner())
            .map(Response::new)
            .map_err(|error| status::of(&error))
    }

    async fn repository_model_load(
        &self,
        request: Request<RepositoryModelLoadRequest>,
    ) -> Result<Response<RepositoryModelLoadResponse>, Status> {
        let RepositoryModelLoadRequest { repository_name, model_name, parameters } =
            request.into_inner();
        repository::change(&self.0.endpoint, Verb::Load, &repository_name, &model_name, parameters)
            .await
            .map(|()| Response::new(RepositoryModelLoadResponse {}))
            .map_err(|error| status::of(&error))
    }

    async fn repository_model_unload(
        &self,
        request: Request<RepositoryModelUnloadRequest>,
    ) -> Result<Response<RepositoryModelUnloadResponse>, Status> {
        let RepositoryModelUnloadRequest { repository_name, model_name, parameters } =
            request.into_inner();
        repository::change(
            &self.0.endpoint,
            Verb::Unload,
            &repository_name,
            &model_name,
            parameters,
        )
        .await
        .map(|()| Response::new(RepositoryModelUnloadResponse {}))
        .map_err(|error| status::of(&error))
    }
}

/// A name where one is given.
fn named(name: &str) -> Option<&str> {
    Some(name).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::protocol::inference::{
        InferParameter, InferTensorContents, model_infer_request::InferInputTensor,
    };

    #[test]
    fn whatever_has_to_be_read_counts() {
        let text = ParameterChoice::StringParam("x".repeat(1_000));
        let parameter = InferParameter { parameter_choice: Some(text) };
        let contents = InferTensorContents {
            fp32_contents: vec![0.5; 10],
            bytes_contents: vec![vec![0; 100].into(), vec![0; 50].into()],
            ..Default::default()
        };
        let input = InferInputTensor { contents: Some(contents), ..Default::default() };
        let request = ModelInferRequest {
            parameters: [("user_features".to_owned(), parameter)].into(),
            inputs: vec![input],
            raw_input_contents: vec![vec![0; 10_000].into()],
            ..Default::default()
        };
        assert_eq!(bytes_of(&request), 1_000 + 40 + 150 + 2 * 8 + 10_000);
        assert_eq!(bytes_of(&ModelInferRequest::default()), 0);
    }
}
