//! One request: parse, ask the service, render.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use http_body_util::BodyExt as _;
use hyper::{
    HeaderMap, Method, Request, StatusCode,
    body::{Body as _, Bytes, Incoming},
    header::{CONNECTION, CONTENT_ENCODING, HeaderValue},
};

use super::{
    config::HttpConfig,
    pace::Progress,
    reply::{self, Reply},
    repository::{self, Action},
    request::{self, HEADER_LENGTH, Parsed},
    route::{ModelRef, Route},
};
use crate::{
    endpoint::{ApiError, Endpoint, ModelMetadata, ScoreQuery, ServerMetadata},
    service::{Model, Service},
};

/// Names a request's time budget in milliseconds, for clients and proxies that cannot add
/// parameters to a body.
pub(crate) const SLA_HEADER: &str = "mprec-sla-ms";

/// Bodies above this many bytes are parsed on another thread: parsing them takes milliseconds, in
/// which this thread could not serve its other connections.
const PARSE_ASIDE_BYTES: usize = 256 << 10;

/// The extensions of the protocol where models may be loaded and unloaded.
const REPOSITORY_EXTENSIONS: [&str; 2] =
    ["model_repository", "model_repository(unload_dependents)"];

/// What all HTTP connections share.
#[derive(Debug)]
pub(super) struct Handler<S: ?Sized> {
    pub(super) endpoint: Arc<Endpoint<S>>,
    pub(super) config: HttpConfig,
}

impl<S: Service + ?Sized> Handler<S> {
    /// Answers one request, whatever it asks for.
    pub(super) async fn respond(
        self: Arc<Self>,
        request: Request<Incoming>,
        progress: Arc<Progress>,
    ) -> Reply {
        let arrival = Instant::now();
        let _in_progress = progress.begin();
        let mut reply = match self.route(request, arrival).await {
            Ok(reply) => reply,
            Err(error) => reply::error(&error),
        };
        if self.endpoint.is_stopping() {
            // Clients move to another server before this one stops listening.
            reply.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        reply
    }

    async fn route(&self, request: Request<Incoming>, arrival: Instant) -> Result<Reply, ApiError> {
        let (head, body) = request.into_parts();
        if let Some(control) = &self.endpoint.control
            && let Some(action) = Action::of(head.uri.path())
        {
            if !action.takes(&head.method) {
                return Err(ApiError::WrongVerb { allowed: action.verbs() });
            }
            let body = self.read(body).await?;
            return repository::respond(&**control, action, &body).await;
        }
        let route = Route::of(head.uri.path()).ok_or(ApiError::UnknownRoute)?;
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
            Route::Server => {
                let names =
                    self.endpoint.service.models().into_iter().map(|model| model.name.clone());
                let mut metadata = ServerMetadata::of(names);
                if self.endpoint.control.is_some() {
                    metadata.extensions.extend(REPOSITORY_EXTENSIONS.map(str::to_owned));
                }
                Ok(reply::json(StatusCode::OK, &metadata))
            }
            Route::Live => Ok(reply::json(StatusCode::OK, &serde_json::json!({ "live": true }))),
            Route::Ready => Ok(readiness(self.endpoint.is_ready(), None)),
            Route::Metrics => {
                Ok(reply::metrics(self.endpoint.metrics.render(&*self.endpoint.service)))
            }
            Route::Model(model) => {
                let model = self.model(&model)?;
                Ok(reply::json(StatusCode::OK, &ModelMetadata::of(&model)))
            }
            Route::ModelReady(model) => {
                let model = self.model(&model)?;
                Ok(readiness(self.endpoint.is_model_ready(&model), Some(&model.name)))
            }
        }
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
        check_encoding(headers)?;
        let header_budget = budget_of(headers)?;
        let json_bytes = json_bytes_of(headers)?;
        let body = self.read(body).await?;
        let Parsed { batch, mut parameters, reply: form } = parse(&model, body, json_bytes).await?;
        if let Some(budget) = header_budget {
            parameters.limit(budget);
        }
        let query = ScoreQuery { batch, parameters, arrival };
        self.endpoint.score(&model, query, |answer| Ok(reply::scores(&model, &form, answer))).await
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

fn check_encoding(headers: &HeaderMap) -> Result<(), ApiError> {
    match headers.get(CONTENT_ENCODING) {
        Some(encoding) if !encoding.as_bytes().eq_ignore_ascii_case(b"identity") => {
            Err(ApiError::UnsupportedEncoding {
                encoding: String::from_utf8_lossy(encoding.as_bytes()).into_owned(),
            })
        }
        _ => Ok(()),
    }
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

fn budget_of(headers: &HeaderMap) -> Result<Option<Duration>, ApiError> {
    only(headers, SLA_HEADER)?
        .map(|value| {
            let milliseconds = value.to_str().ok().and_then(|text| text.parse::<f64>().ok());
            milliseconds
                .filter(|&milliseconds| milliseconds > 0.0)
                .and_then(|milliseconds| Duration::try_from_secs_f64(milliseconds / 1e3).ok())
                .ok_or(ApiError::BadHeader {
                    name: SLA_HEADER,
                    problem: "must be a number of milliseconds above 0",
                })
        })
        .transpose()
}

/// The only value of a header; two would let a proxy and this server read different requests.
fn only<'a>(
    headers: &'a HeaderMap,
    name: &'static str,
) -> Result<Option<&'a HeaderValue>, ApiError> {
    let mut values = headers.get_all(name).iter();
    let value = values.next();
    if values.next().is_some() {
        return Err(ApiError::BadHeader { name, problem: "stands there twice" });
    }
    Ok(value)
}
