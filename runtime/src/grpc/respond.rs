//! One call: which service it is for, its headers, and how it is counted.

use std::{convert::Infallible, sync::Arc, time::Instant};

use hyper::{
    Request, Response, StatusCode,
    body::Incoming,
    header::{CONTENT_TYPE, HeaderMap, HeaderValue},
};
use tonic::{
    Code, Status,
    body::Body,
    codec::CompressionEncoding::{Deflate, Gzip},
    codegen::Service as _,
};

use super::{
    body::{Timed, Tracked},
    call::Call,
    health::Health,
    inference::{Inference, Shared},
    protocol::{
        health::health_server::{self, HealthServer},
        inference::grpc_inference_service_server::{self as inference, GrpcInferenceServiceServer},
    },
    server::Open,
    status,
};
use crate::{
    endpoint::{ApiError, ErrorCode},
    metrics::RequestEnd,
    security::Pass,
    service::Service,
};

/// Largest message of calls that nobody needs a key for.
const MAX_HEALTH_BYTES: usize = 4 << 10;

/// The services, and what leads to them.
#[derive(Debug)]
pub(super) struct Responder<S: Service + ?Sized> {
    shared: Arc<Shared<S>>,
    inference: GrpcInferenceServiceServer<Inference<S>>,
    /// The same, for its calls that nobody needs a key for.
    open: GrpcInferenceServiceServer<Inference<S>>,
    health: HealthServer<Health<S>>,
}

impl<S: Service + ?Sized> Responder<S> {
    pub(super) fn new(shared: Arc<Shared<S>>) -> Self {
        let inference = GrpcInferenceServiceServer::new(Inference(Arc::clone(&shared)))
            // The limit holds for what comes out of decompression, too. Responses are too small to
            // be worth compressing.
            .accept_compressed(Gzip)
            .accept_compressed(Deflate)
            .max_decoding_message_size(shared.config.max_message_bytes);
        // Strangers can have nothing large read, and nothing decompressed.
        let open = GrpcInferenceServiceServer::new(Inference(Arc::clone(&shared)))
            .max_decoding_message_size(MAX_HEALTH_BYTES);
        let health = HealthServer::new(Health(Arc::clone(&shared)))
            .max_decoding_message_size(MAX_HEALTH_BYTES);
        Self { shared, inference, open, health }
    }

    /// Answers one call, whatever it asks for.
    pub(super) async fn respond(
        self: Arc<Self>,
        request: Request<Incoming>,
        open: Open,
    ) -> Response<Tracked> {
        let arrival = Instant::now();
        self.route(request, arrival).await.map(|body| Tracked::new(body, open))
    }

    async fn route(&self, request: Request<Incoming>, arrival: Instant) -> Response<Body> {
        if !is_grpc(request.headers()) {
            // As the protocol has it for a client that speaks something else.
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return response;
        }
        let call = request.uri().path().strip_prefix('/').and_then(|path| path.split_once('/'));
        // Before anything else is said: without a key, what there is and what there is not looks the same.
        let pass = if is_open(call) {
            None
        } else {
            match self.shared.endpoint.authenticate(request.headers()) {
                Ok(pass) => pass,
                Err(error) => {
                    if call == Some((inference::SERVICE_NAME, "ModelInfer")) {
                        self.shared.endpoint.count(arrival).end = RequestEnd::Error(error.code());
                    }
                    return status::of(&error).into_http();
                }
            }
        };
        match call {
            Some((inference::SERVICE_NAME, "ModelInfer")) => {
                self.infer(request, arrival, pass).await
            }
            Some((inference::SERVICE_NAME, _)) if is_open(call) => {
                settle(self.open.clone().call(self.whole(request)).await, MAX_HEALTH_BYTES)
            }
            Some((inference::SERVICE_NAME, _)) => self.inference(request, arrival, pass).await,
            Some((health_server::SERVICE_NAME, _)) => {
                settle(self.health.clone().call(self.whole(request)).await, MAX_HEALTH_BYTES)
            }
            _ => status::of(&ApiError::UnknownRoute).into_http(),
        }
    }

    /// A request whose message has to come in time.
    fn whole(&self, request: Request<Incoming>) -> Request<Timed> {
        request.map(|body| Timed::whole(body, self.shared.config.message_timeout))
    }

    /// A request to score is counted from its headers to its response, and as cancelled if it is
    /// dropped before that.
    async fn infer(
        &self,
        request: Request<Incoming>,
        arrival: Instant,
        pass: Option<Pass>,
    ) -> Response<Body> {
        let mut counted = self.shared.endpoint.count(arrival);
        let response = self.inference(request, arrival, pass).await;
        counted.end = match response.extensions().get::<Status>() {
            None => RequestEnd::Answered,
            Some(status) => RequestEnd::Error(status::code(status).unwrap_or(ErrorCode::Internal)),
        };
        response
    }

    async fn inference(
        &self,
        mut request: Request<Incoming>,
        arrival: Instant,
        pass: Option<Pass>,
    ) -> Response<Body> {
        let config = &self.shared.config;
        match Call::of(request.headers(), arrival, pass) {
            Ok(call) => request.extensions_mut().insert(call),
            Err(error) => return status::of(&error).into_http(),
        };
        let is_stream = request.uri().path().ends_with("/ModelStreamInfer");
        let request = if is_stream {
            request.map(|body| Timed::stream(body, config.stream_timeout))
        } else {
            self.whole(request)
        };
        settle(self.inference.clone().call(request).await, config.max_message_bytes)
    }
}

/// A response as this endpoint says it, where tonic answered instead of a handler; `limit` is the
/// largest message.
fn settle(response: Result<Response<Body>, Infallible>, limit: usize) -> Response<Body> {
    let Ok(response) = response;
    if let Some(theirs) = response.extensions().get::<Status>() {
        if status::code(theirs).is_some() {
            return response;
        }
        return status::own(theirs.clone(), limit).into_http();
    }
    let status = response.headers().get("grpc-status").map(HeaderValue::as_bytes);
    if status.is_some_and(|status| Code::from_bytes(status) == Code::Unimplemented) {
        return status::of(&ApiError::UnknownRoute).into_http();
    }
    response
}

/// Whether nobody needs a key for this call: health, in either service.
fn is_open(call: Option<(&str, &str)>) -> bool {
    matches!(
        call,
        Some(
            (health_server::SERVICE_NAME, _)
                | (inference::SERVICE_NAME, "ServerLive" | "ServerReady")
        )
    )
}

/// Whether the content type is gRPC's, with or without the name of the encoding.
fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    matches!(kind, Some(b"application/grpc" | b"application/grpc+proto"))
}
