//! From an answer, or an error, to a response.

use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::{
    Response, StatusCode,
    body::Bytes,
    header::{
        ACCEPT_ENCODING, ALLOW, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY,
        CONTENT_TYPE, HeaderName, HeaderValue, REFERRER_POLICY, RETRY_AFTER, VARY,
        WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
    },
};
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    coding::{self, Coding},
    request::{HEADER_LENGTH, ReplyForm},
};
use crate::{
    endpoint::{ApiError, INDICES, SCORES, Statuses},
    security::KeyRefusal,
    service::{Answer, Model},
    status::{self, Asset},
};

/// Bodies below this fit one packet anyway.
const CODED_BYTES: usize = 1 << 10;

/// Bodies above this are coded on another thread.
const CODE_ASIDE_BYTES: usize = 64 << 10;

/// A response whose body is at hand.
pub(super) type Reply = Response<Full<Bytes>>;

/// What an inference response says, before any binary data.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "InferenceResponse")]
pub(super) struct Document<'a> {
    model_name: &'a str,
    model_version: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    parameters: Parameters<'a>,
    outputs: Vec<Output<'a>>,
}

/// How the answer came about.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ResponseParameters")]
struct Parameters<'a> {
    /// The path that answered: `table@cpu`.
    path: &'a str,
    /// Its variant.
    variant: &'a str,
    /// Version of the model.
    version: &'a str,
    /// Expected share of its predictions that are correct.
    quality: f64,
    /// Whether a better path was passed over because it would have been late.
    downgraded: bool,
    /// From arrival to the start of the batch.
    queue_us: u64,
    /// The batch's time on its worker.
    compute_us: u64,
    /// Samples of that batch.
    batch_samples: usize,
    /// From arrival to the finish that was expected when the path was chosen.
    predicted_us: u64,
    /// From arrival to the making of this reply.
    latency_us: u64,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ResponseOutput")]
struct Output<'a> {
    name: &'static str,
    datatype: &'static str,
    shape: [usize; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<OutputParameters>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Data<'a>>,
}

/// Values of an output, in JSON or behind it.
#[derive(Clone, Copy, Serialize, JsonSchema)]
#[schemars(rename = "OutputData")]
#[serde(untagged)]
enum Data<'a> {
    Scores(&'a [f32]),
    Indices(&'a [i64]),
}

impl<'a> Data<'a> {
    fn len(self) -> usize {
        match self {
            Self::Scores(values) => values.len(),
            Self::Indices(values) => values.len(),
        }
    }

    /// Its bytes in binary.
    fn bytes(self) -> usize {
        match self {
            Self::Scores(values) => size_of_val(values),
            Self::Indices(values) => size_of_val(values),
        }
    }

    fn write(self, body: &mut Vec<u8>) {
        match self {
            Self::Scores(values) => {
                body.extend(values.iter().flat_map(|score| score.to_le_bytes()));
            }
            Self::Indices(values) => body.extend(values.iter().flat_map(|at| at.to_le_bytes())),
        }
    }

    fn output(self, binary: bool) -> Output<'a> {
        let (name, datatype) = match self {
            Self::Scores(_) => (SCORES, "FP32"),
            Self::Indices(_) => (INDICES, "INT64"),
        };
        let parameters = binary.then(|| OutputParameters { binary_data_size: self.bytes() });
        Output { name, datatype, shape: [self.len()], parameters, data: (!binary).then_some(self) }
    }
}

#[derive(Serialize, JsonSchema)]
struct OutputParameters {
    binary_data_size: usize,
}

/// The response of an answered query, whose scores are finite.
///
/// `latency` is the time from the request's arrival until now.
pub(super) fn scores(model: &Model, form: &ReplyForm, answer: &Answer, latency: Duration) -> Reply {
    let best = form.outputs.best(&answer.scores);
    let scores = Data::Scores(best.as_ref().map_or(&answer.scores, |best| &best.scores));
    let indices = best.as_ref().map(|best| Data::Indices(&best.indices));
    let scores = form.outputs.scores.map(|binary| (scores, binary));
    let indices = indices.and_then(|indices| Some((indices, form.outputs.indices?)));
    let outputs = || scores.into_iter().chain(indices);
    let document = Document {
        model_name: &model.name,
        model_version: &answer.version,
        id: form.id.as_deref(),
        parameters: Parameters {
            path: &answer.path,
            variant: &answer.variant,
            version: &answer.version,
            quality: answer.quality,
            downgraded: answer.downgraded,
            queue_us: answer.queue.as_micros() as u64,
            compute_us: answer.compute.as_micros() as u64,
            batch_samples: answer.batch_samples,
            predicted_us: answer.predicted.as_micros() as u64,
            latency_us: latency.as_micros() as u64,
        },
        outputs: outputs().map(|(data, binary)| data.output(binary)).collect(),
    };
    // A float in JSON takes up to 13 bytes and a comma, the rest about 400.
    let bytes = |(data, binary): (Data<'_>, bool)| {
        if binary { data.bytes() } else { data.len() * 14 }
    };
    let mut body = Vec::with_capacity(512 + outputs().map(bytes).sum::<usize>());
    write_json(&mut body, &document);
    let mut reply;
    if outputs().any(|(_, binary)| binary) {
        let length = HeaderValue::from(body.len());
        for (data, _) in outputs().filter(|&(_, binary)| binary) {
            data.write(&mut body);
        }
        reply = of(StatusCode::OK, "application/octet-stream", body);
        reply.headers_mut().insert(HeaderName::from_static(HEADER_LENGTH), length);
    } else {
        reply = of(StatusCode::OK, "application/json", body);
    }
    reply
}

/// The response of an error.
pub(super) fn error(error: &ApiError, statuses: Statuses) -> Reply {
    let mut reply = json(statuses.of(error.code()), &error.body());
    let headers = reply.headers_mut();
    match error {
        ApiError::WrongVerb { allowed } => {
            headers.insert(ALLOW, HeaderValue::from_static(allowed));
        }
        ApiError::UnsupportedEncoding { .. } => {
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(coding::SUPPORTED));
        }
        ApiError::Unauthenticated { refusal } => {
            let challenge = match refusal {
                KeyRefusal::Missing => "Bearer",
                KeyRefusal::Malformed => "Bearer error=\"invalid_request\"",
                KeyRefusal::Unknown => "Bearer error=\"invalid_token\"",
                KeyRefusal::Scope => "Bearer error=\"insufficient_scope\", scope=\"admin\"",
            };
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        _ => {}
    }
    if let Some(wait) = error.retry_after() {
        // Whole seconds is all that the header can say; the body has milliseconds.
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
    }
    reply
}

/// A JSON response.
pub(super) fn json(status: StatusCode, document: &impl Serialize) -> Reply {
    let mut body = Vec::with_capacity(256);
    write_json(&mut body, document);
    of(status, "application/json", body)
}

/// The page of metrics.
pub(super) fn metrics(page: String) -> Reply {
    of(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", page.into_bytes())
}

/// The response with its body coded, where that makes a text of some size smaller.
pub(super) async fn coded(reply: Reply, coding: Coding) -> Reply {
    let is_text =
        reply.headers().get(CONTENT_TYPE).is_some_and(|kind| kind != "application/octet-stream");
    let (mut head, body) = reply.into_parts();
    // The body is at hand, so this neither waits nor fails.
    let Ok(whole) = body.collect().await;
    let whole = whole.to_bytes();
    if !is_text || whole.len() < CODED_BYTES {
        return Response::from_parts(head, Full::new(whole));
    }
    let text = whole.clone();
    let encode = move || coding.encode(&text);
    let encoded = if whole.len() <= CODE_ASIDE_BYTES {
        encode()
    } else {
        // A panic there has no better answer than the body as it is, which every client takes.
        tokio::task::spawn_blocking(encode).await.unwrap_or_else(|_| Ok(whole.to_vec()))
    };
    match encoded {
        Ok(encoded) if encoded.len() < whole.len() => {
            head.headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
            head.headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
            Response::from_parts(head, Full::new(encoded.into()))
        }
        _ => Response::from_parts(head, Full::new(whole)),
    }
}

/// A file of the status page.
pub(super) fn status(asset: Asset, body: Bytes) -> Reply {
    let mut reply = of(StatusCode::OK, asset.content_type(), body);
    let headers = reply.headers_mut();
    for (name, value) in [
        (CONTENT_SECURITY_POLICY, status::CONTENT_SECURITY_POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    reply
}

fn write_json(body: &mut Vec<u8>, document: &impl Serialize) {
    serde_json::to_writer(body, document)
        .expect("replies have string keys only, and writing to memory cannot fail");
}

fn of(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(Full::new(body.into()));
    *reply.status_mut() = status;
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    reply
}
