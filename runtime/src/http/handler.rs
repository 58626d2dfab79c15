//! One request: parse, ask the service, render.

use std::{sync::Arc, time::Instant};

use http_body_util::BodyExt as _;
use hyper::{
    HeaderMap, Method, Request, StatusCode,
    body::{Body as _, Bytes, Incoming},
    header::{CONNECTION, HeaderName, HeaderValue},
};
use tokio::sync::Semaphore;

use super::{
    coding::Coding,
    config::{HttpConfig, Routes},
    openapi,
    pace::Progress,
    reply::{self, Reply},
    repository::{self, Action},
    request::{self, HEADER_LENGTH, Parsed},
    route::{ModelRef, Route},
};
use crate::{
    endpoint::{
        ApiError, Endpoint, LoadForm, ModelConfig, ModelMetadata, ScoreQuery, ServerMetadata,
        budget_of, only,
    },
    metrics::RequestEnd,
    service::{Answer, Model, Service},
};

/// Asks for a report of the server's load with the response.
pub(super) const LOAD_FORMAT_HEADER: &str = "endpoint-load-metrics-format";

/// The report.
const LOAD_HEADER: &str = "endpoint-load-metrics";

/// Bodies above this many bytes are parsed on another thread: parsing them takes milliseconds, in
/// which this thread could not serve its other connections.
const PARSE_ASIDE_BYTES: usize = 256 << 10;

/// What all HTTP connections share.
#[derive(Debug)]
pub(super) struct Handler<S: ?Sized> {
    pub(super) endpoint: Arc<Endpoint<S>>,
    pub(super) config: HttpConfig,
    /// For decoding bodies: each may take as much memory as the largest body, and a core.
    decoders: Arc<Semaphore>,
}

/// Bodies that are decoded at once.
const DECODERS: usize = 4;

impl<S: Service + ?Sized> Handler<S> {
    pub(super) fn new(endpoint: Arc<Endpoint<S>>, config: HttpConfig) -> Self {
        Self { endpoint, config, decoders: Arc::new(Semaphore::new(DECODERS)) }
    }

    /// Answers one request, whatever it asks for.
    pub(super) async fn respond(
        self: Arc<Self>,
        request: Request<Incoming>,
        progress: Arc<Progress>,
    ) -> Reply {
        let arrival = Instant::now();
        let _in_progress = progress.begin();
        let wanted = Coding::wanted(request.headers());
        let mut reply = match self.route(request, arrival).await {
            Ok(reply) => reply,
            Err(error) => reply::error(&error, self.config.statuses),
        };
        if let Some(coding) = wanted {
            reply = reply::coded(reply, coding).await;
        }
        if self.endpoint.is_stopping() {
            // Clients move to another server before this one stops listening.
            reply.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        reply
    }

    async fn route(&self, request: Request<Incoming>, arrival: Instant) -> Result<Reply, ApiError> {
        let (head, body) = request.into_parts();
        let route = Route::of(head.uri.path());
        // Before anything else is said: without a key, what there is and what there is not looks the same.
        if !self.is_open(route.as_ref())
            && let Err(error) = self.endpoint.authenticate(&head.headers)
        {
            if matches!(route, Some(Route::Infer(_))) {
                self.endpoint.count(arrival).end = RequestEnd::Error(error.code());
            }
            return Err(error);
        }
        if let Some(control) = &self.endpoint.control
            && let Some(action) = Action::of(head.uri.path())
        {
            repository::check_origin(&head.headers)?;
            if !action.takes(&head.method) {
                return Err(ApiError::WrongVerb { allowed: action.verbs() });
            }
            let body = self.read(body).await?;
            return repository::respond(&**control, action, &body).await;
        }
        let route = route.ok_or(ApiError::UnknownRoute)?;
        if self.config.routes == Routes::Observation && !route.is_observation() {
            return Err(ApiError::UnknownRoute);
        }
        let is_allowed = match (&route, &head.method) {
            (Route::Infer(_), method) => method == Method::POST,
            (_, method) => method == Method::GET || method == Method::HEAD,
        };
        if !is_allowed {
            return Err(ApiError::WrongVerb { allowed: route.verbs() });
        }
        match route {
            Route::Infer(model) => {
                let work = self.infer(&model, &head.headers, body, arrival);
                self.endpoint.counted(arrival, work).await
            }
            Route::Server => Ok(reply::json(StatusCode::OK, &ServerMetadata::of(&self.endpoint))),
            Route::OpenApi => Ok(reply::json(StatusCode::OK, openapi::document())),
            Route::Live => Ok(reply::json(StatusCode::OK, &serde_json::json!({ "live": true }))),
            Route::Ready => Ok(readiness(self.endpoint.is_ready(), None)),
            Route::Metrics => {
                Ok(reply::metrics(self.endpoint.metrics.render(&*self.endpoint.service)))
            }
            Route::Status(asset) => {
                let page = self.config.status.as_ref().ok_or(ApiError::UnknownRoute)?;
                Ok(reply::status(asset, page.render(asset, &self.endpoint)))
            }
            Route::Model(model) => {
                let model = self.model(&model)?;
                Ok(reply::json(StatusCode::OK, &ModelMetadata::of(&model)))
            }
            Route::ModelConfig(model) => {
                let model = self.model(&model)?;
                Ok(reply::json(StatusCode::OK, &ModelConfig::of(&model)))
            }
            Route::Statistics(model) => {
                let (name, version) = match &model {
                    Some(model) => (Some(&*model.name), model.version.as_deref()),
                    None => (None, None),
                };
                let statistics = self.endpoint.statistics(name, version)?;
                Ok(reply::json(StatusCode::OK, &statistics))
            }
            Route::ModelReady(model) => {
                let model = self.model(&model)?;
                Ok(readiness(self.endpoint.is_model_ready(&model), Some(&model.name)))
            }
        }
    }

    /// Whether nobody needs a key for this: health, and what a listener for those who watch has.
    fn is_open(&self, route: Option<&Route<'_>>) -> bool {
        self.config.routes == Routes::Observation
            || matches!(route, Some(Route::Live | Route::Ready))
    }

    fn model(&self, named: &ModelRef<'_>) -> Result<Arc<Model>, ApiError> {
        self.endpoint.model(&named.name, named.version.as_deref())
    }

    async fn infer(
        &self,
        model: &ModelRef<'_>,
        headers: &HeaderMap,
        body: Incoming,
        arrival: Instant,
    ) -> Result<Reply, ApiError> {
        let model = self.model(model)?;
        let coding = Coding::of_body(headers)?;
        let header_budget = budget_of(headers)?;
        let json_bytes = json_bytes_of(headers)?;
        let load_form = load_form_of(headers)?;
        let body = self.read(body).await?;
        let parsed = match coding {
            None => parse(&model, body, json_bytes).await?,
            Some(coding) => self.decode(&model, coding, body, json_bytes).await?,
        };
        let Parsed { batch, mut parameters, reply: form } = parsed;
        if let Some(budget) = header_budget {
            parameters.limit(budget);
        }
        let query = ScoreQuery { batch, parameters, arrival };
        let render = |answer: &Answer| Ok(reply::scores(&model, &form, answer, arrival.elapsed()));
        let mut reply = self.endpoint.score(&model, query, render).await?;
        if let Some(form) = load_form
            && let Some(load) = self.endpoint.service.load(&model)
            && let Ok(report) = HeaderValue::from_str(&form.report(&load))
        {
            reply.headers_mut().insert(HeaderName::from_static(LOAD_HEADER), report);
        }
        Ok(reply)
    }

    /// Decodes a body and parses what it holds. Both on another thread: a small body may hold a large one.
    async fn decode(
        &self,
        model: &Arc<Model>,
        coding: Coding,
        body: Bytes,
        json_bytes: Option<usize>,
    ) -> Result<Parsed, ApiError> {
        let decoders = Arc::clone(&self.decoders);
        let permit = decoders.acquire_owned().await.expect("nobody closes it");
        let (model, limit) = (Arc::clone(model), self.config.max_body_bytes);
        tokio::task::spawn_blocking(move || {
            // Held to the end of the work, which goes on if the client leaves.
            let _permit = permit;
            let body = coding.decode(&body, limit)?;
            request::parse(&model, &body, json_bytes)
        })
        .await
        .unwrap_or(Err(ApiError::Internal { message: "the request could not be decoded" }))
    }

    /// Reads a body to its end, within the limits of size and time.
    async fn read(&self, body: Incoming) -> Result<Bytes, ApiError> {
        let limit = self.config.max_body_bytes;
        if body.size_hint().lower() > limit as u64 {
            return Err(ApiError::BodyTooLarge { limit });
        }
        let timeout = self.config.body_timeout;
        tokio::time::timeout(timeout, collect(body, limit))
            .await
            .map_err(|_| ApiError::BodyTimeout { limit: timeout })?
    }
}

fn readiness(ready: bool, model: Option<&str>) -> Reply {
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    match model {
        Some(name) => reply::json(status, &serde_json::json!({ "name": name, "ready": ready })),
        None => reply::json(status, &serde_json::json!({ "ready": ready })),
    }
}

async fn parse(
    model: &Arc<Model>,
    body: Bytes,
    json_bytes: Option<usize>,
) -> Result<Parsed, ApiError> {
    if body.len() <= PARSE_ASIDE_BYTES {
        return request::parse(model, &body, json_bytes);
    }
    let model = Arc::clone(model);
    tokio::task::spawn_blocking(move || request::parse(&model, &body, json_bytes))
        .await
        .unwrap_or(Err(ApiError::Internal { message: "the request could not be parsed" }))
}

/// The data of a body of at most `limit` bytes. Memory grows with what arrives, never with what a
/// header promises.
async fn collect(mut body: Incoming, limit: usize) -> Result<Bytes, ApiError> {
    let mut first = Bytes::new();
    let mut whole = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| ApiError::BodyBroken)?;
        let Ok(data) = frame.into_data() else { continue };
        if first.len().max(whole.len()) + data.len() > limit {
            return Err(ApiError::BodyTooLarge { limit });
        }
        if first.is_empty() {
            // The usual body comes in one piece, and is not copied.
            first = data;
        } else {
            if whole.is_empty() {
                whole.extend_from_slice(&first);
            }
            whole.extend_from_slice(&data);
        }
    }
    Ok(if whole.is_empty() { first } else { whole.into() })
}

fn load_form_of(headers: &HeaderMap) -> Result<Option<LoadForm>, ApiError> {
    only(headers, LOAD_FORMAT_HEADER)?
        .map(|value| {
            value.to_str().ok().and_then(LoadForm::of).ok_or(ApiError::BadHeader {
                name: LOAD_FORMAT_HEADER,
                problem: "must be `text` or `json`",
            })
        })
        .transpose()
}

fn json_bytes_of(headers: &HeaderMap) -> Result<Option<usize>, ApiError> {
    only(headers, HEADER_LENGTH)?
        .map(|value| {
            // `parse` would also take a leading `+`.
            let digits =
                value.to_str().ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
            digits.and_then(|digits| digits.parse().ok()).ok_or(ApiError::BadHeader {
                name: HEADER_LENGTH,
                problem: "must be a whole number of bytes",
            })
        })
        .transpose()
}
