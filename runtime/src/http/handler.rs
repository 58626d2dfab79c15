//! One request: parse, ask the service, render.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
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
    error::ApiError,
    metadata::{ModelMetadata, ServerMetadata},
    pace::Progress,
    reply::{self, Reply},
    request::{self, HEADER_LENGTH, Parsed},
    route::{ModelRef, Route},
};
use crate::{
    metrics::{Metrics, RequestEnd},
    service::{Model, ScoreRequest, Service},
};

/// Names a request's time budget in milliseconds, for clients and proxies that cannot add
/// parameters to a body.
pub(crate) const SLA_HEADER: &str = "mprec-sla-ms";

/// Bodies above this many bytes are parsed on another thread: parsing them takes milliseconds, in
/// which this thread could not serve its other connections.
const PARSE_ASIDE_BYTES: usize = 256 << 10;

/// What all connections share.
#[derive(Debug)]
pub(super) struct Endpoint<S: ?Sized> {
    pub(super) metrics: Arc<Metrics>,
    pub(super) config: HttpConfig,
    /// Set when the server begins to stop.
    pub(super) stopping: AtomicBool,
    pub(super) service: Arc<S>,
}

impl<S: Service + ?Sized> Endpoint<S> {
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
        if self.stopping.load(Relaxed) {
            // Clients move to another server before this one stops listening.
            reply.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        reply
    }

    async fn route(&self, request: Request<Incoming>, arrival: Instant) -> Result<Reply, ApiError> {
        let (head, body) = request.into_parts();
        let route = Route::of(head.uri.path()).ok_or(ApiError::UnknownRoute)?;
        let is_allowed = match (&route, &head.method) {
            (Route::Infer(_), method) => method == Method::POST,
            (_, method) => method == Method::GET || method == Method::HEAD,
        };
        if !is_allowed {
            return Err(ApiError::WrongVerb { allowed: route.verbs() });
        }
        match route {
            Route::Infer(model) => self.infer(&model, &head.headers, body, arrival).await,
            Route::Server => {
                let names = self.service.models().into_iter().map(|model| model.name.clone());
                Ok(reply::json(StatusCode::OK, &ServerMetadata::of(names)))
            }
            Route::Live => Ok(reply::json(StatusCode::OK, &serde_json::json!({ "live": true }))),
            Route::Ready => Ok(self.readiness(None)),
            Route::Metrics => Ok(reply::metrics(self.metrics.render(&*self.service))),
            Route::Model(model) => {
                let model = self.model(&model)?;
                Ok(reply::json(StatusCode::OK, &ModelMetadata::of(&model)))
            }
            Route::ModelReady(model) => Ok(self.readiness(Some(&self.model(&model)?.name))),
        }
    }

    fn readiness(&self, model: Option<&str>) -> Reply {
        let ready = !self.stopping.load(Relaxed) && self.service.is_ready();
        let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        match model {
            Some(name) => reply::json(status, &serde_json::json!({ "name": name, "ready": ready })),
            None => reply::json(status, &serde_json::json!({ "ready": ready })),
        }
    }

    fn model(&self, named: &ModelRef<'_>) -> Result<Arc<Model>, ApiError> {
        let unknown = || ApiError::UnknownModel { name: named.name.clone().into_owned() };
        let model = self.service.model(&named.name).ok_or_else(unknown)?;
        match &named.version {
            Some(version) if *version != model.version => Err(ApiError::UnknownVersion {
                name: model.name.clone(),
                version: version.clone().into_owned(),
            }),
            _ => Ok(model),
        }
    }

    /// Scores, and counts the request however it ends: also when the client leaves, which drops
    /// this future where it stands.
    async fn infer(
        &self,
        model: &ModelRef<'_>,
        headers: &HeaderMap,
        body: Incoming,
        arrival: Instant,
    ) -> Result<Reply, ApiError> {
        let mut counted = Counted { metrics: &self.metrics, arrival, end: RequestEnd::Cancelled };
        self.metrics.requests_in_flight.add(1);
        let result = self.score(model, headers, body, arrival).await;
        counted.end = match &result {
            Ok(_) => RequestEnd::Answered,
            Err(error) => RequestEnd::Error(error.code()),
        };
        result
    }

    async fn score(
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
        let parsed = parse(&model, body, json_bytes).await?;

        let samples = parsed.batch.samples();
        self.metrics.unknown_ids.add(parsed.batch.unknown_ids() as u64);
        let budget = match (parsed.budget, header_budget) {
            (Some(one), Some(other)) => one.min(other),
            (one, other) => one.or(other).unwrap_or(model.sla),
        };
        let deadline = arrival + budget.min(self.config.max_sla);
        let request = ScoreRequest {
            batch: parsed.batch,
            arrival,
            deadline,
            min_quality: parsed.min_quality,
            priority: parsed.priority,
        };
        let answer = self.ask(&model, request).await?;
        let reply = reply::scores(&model, &parsed.reply, &answer, samples)?;
        let now = Instant::now();
        self.metrics.record_answer(&answer, samples, now - arrival, now <= deadline);
        Ok(reply)
    }

    /// Hands the query to the service and waits for its outcome.
    async fn ask(
        &self,
        model: &Arc<Model>,
        request: ScoreRequest,
    ) -> Result<crate::service::Answer, ApiError> {
        let deadline = request.deadline;
        let outcome = match self.service.submit(model, request) {
            Err(refusal) => Err(refusal),
            Ok(receiver) => {
                let mut waiting = Waiting { metrics: &self.metrics, over: false };
                let limit = tokio::time::Instant::from_std(deadline + self.config.patience);
                let received = tokio::time::timeout_at(limit, receiver).await;
                waiting.over = true;
                match received {
                    Ok(Ok(outcome)) => outcome,
                    Ok(Err(_)) => {
                        return Err(ApiError::Internal { message: "the query was dropped" });
                    }
                    Err(_) => {
                        return Err(ApiError::Internal {
                            message: "the query got no outcome long after its deadline",
                        });
                    }
                }
            }
        };
        outcome.map_err(|refusal| {
            self.metrics.record_refusal(&refusal);
            refusal.into()
        })
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

/// Counts a request when it ends.
struct Counted<'a> {
    metrics: &'a Metrics,
    arrival: Instant,
    end: RequestEnd,
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.metrics.requests_in_flight.add(-1);
        self.metrics.record_request(self.end, self.arrival.elapsed());
    }
}

/// Counts a query whose client leaves while it waits.
struct Waiting<'a> {
    metrics: &'a Metrics,
    over: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if !self.over {
            self.metrics.record_cancelled();
        }
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
