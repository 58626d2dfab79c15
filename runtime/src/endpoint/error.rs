//! Every way in which a request can fail, with its status and its stable code. This is the only
//! place that maps errors to statuses.

use std::time::Duration;

use hyper::StatusCode as Http;
use mprec_representations::BatchError;
use schemars::JsonSchema;
use serde::Serialize;
use tonic::Code as Grpc;

use super::control::ControlError;
use crate::{metrics::Label, security::KeyRefusal, service::Refusal};

/// Why a request got no answer.
///
/// Messages go to clients: they name what the client sent and never what the server holds.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ApiError {
    /// The body, or the part that the header says is JSON, is not a JSON request.
    #[error("the request is not valid JSON of an inference request: {message}")]
    BadJson {
        /// What the parser says, with line and column.
        message: String,
    },
    /// A gRPC message that is not framed or encoded as one, or is built to take more memory than any
    /// request needs.
    #[error("the request is not a valid message: {message}")]
    BadMessage {
        /// What is wrong with it.
        message: String,
    },
    /// A header that the endpoint reads has an impossible value.
    #[error("header `{name}` {problem}")]
    BadHeader {
        /// The header.
        name: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A request parameter is unknown or has an impossible value.
    #[error("parameter `{name}` {problem}")]
    BadParameter {
        /// The parameter.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
    /// An input is missing, unknown, repeated, or holds no usable data.
    #[error("input `{name}` {problem}")]
    BadInput {
        /// The input.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
    /// An output that does not exist, or in a form that does not.
    #[error("output `{name}` {problem}")]
    BadOutput {
        /// The output.
        name: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A shape that the model, the other inputs or the data contradict.
    #[error("input `{name}` {problem}")]
    WrongShape {
        /// The input.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A datatype that the input does not take.
    #[error("input `{name}` takes {expected}, not `{got}`")]
    WrongDtype {
        /// The input.
        name: String,
        /// What it takes.
        expected: &'static str,
        /// What was given.
        got: String,
    },
    /// Raw values for a model that cannot take any.
    #[error(
        "model `{name}` takes no raw values, as its bundle carries no preprocessing; send `dense` and `sparse`, or put \
         it into the bundle with `mprec data attach`"
    )]
    RawUnsupported {
        /// The model.
        name: String,
    },
    /// The samples are not a batch of the model's schema.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// A raw value that is not listed, of a model that refuses such.
    #[error("value of feature `{feature}` of sample {sample} is not in the model's vocabulary")]
    NotListed {
        /// The sparse feature.
        feature: String,
        /// The sample, from 0.
        sample: usize,
    },
    /// More samples than one request may hold.
    #[error("the request has {samples} samples; at most {limit} are allowed, so split it")]
    TooManySamples {
        /// Samples given.
        samples: usize,
        /// The limit.
        limit: usize,
    },
    /// A body above the limit.
    #[error("the body is larger than {limit} bytes; send fewer samples, or raise the limit")]
    BodyTooLarge {
        /// The limit.
        limit: usize,
    },
    /// The body did not arrive in time.
    #[error("the body did not arrive within {} ms", limit.as_millis())]
    BodyTimeout {
        /// The limit.
        limit: Duration,
    },
    /// The connection broke, or its framing is wrong, in the middle of the body.
    #[error("the body could not be read to its end")]
    BodyBroken,
    /// A body in a coding that is not known, or in several.
    #[error(
        "content encoding `{encoding}` is not supported; known are gzip, deflate, zstd, identity"
    )]
    UnsupportedEncoding {
        /// What the header says.
        encoding: String,
    },
    /// A body that is not what its coding says.
    #[error("the body is not `{encoding}` from its first byte to its last")]
    BadEncoding {
        /// The coding.
        encoding: &'static str,
    },
    /// No such model.
    #[error("there is no model `{name}`")]
    UnknownModel {
        /// The name in the URL.
        name: String,
    },
    /// The model has another version.
    #[error("model `{name}` has no version `{version}`")]
    UnknownVersion {
        /// The name in the URL.
        name: String,
        /// The version in the URL.
        version: String,
    },
    /// No such URL.
    #[error("there is nothing at this URL")]
    UnknownRoute,
    /// The URL exists, with other verbs.
    #[error("this URL takes {allowed}")]
    WrongVerb {
        /// The verbs that it takes, as the `Allow` header has them.
        allowed: &'static str,
    },
    /// No key, or one that does not let this request in.
    #[error("{}", match refusal {
        KeyRefusal::Missing => "a key is needed; send it as `authorization: Bearer KEY`",
        KeyRefusal::Malformed => "the header `authorization` is not `Bearer` and one key",
        KeyRefusal::Unknown => "the key is none of this server's",
        KeyRefusal::Scope => "the key is not good for this; a key of scope `admin` is needed",
    })]
    Unauthenticated {
        /// What is wrong with the key.
        refusal: KeyRefusal,
    },
    /// A web page asks, where models are managed.
    #[error(
        "models are not managed from web pages, and header `{header}` says that this is one; ask by a program, such as `mprec models`"
    )]
    CrossSite {
        /// What says so.
        header: &'static str,
    },
    /// The service did not answer the query.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A model was not loaded, unloaded or rolled back.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The server's own fault.
    #[error("internal error: {message}")]
    Internal {
        /// What happened.
        message: &'static str,
    },
}

/// The stable name of a kind of [`ApiError`], for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is explained at the error of its name")]
#[non_exhaustive]
pub enum ErrorCode {
    BadJson,
    BadMessage,
    BadHeader,
    BadParameter,
    BadInput,
    BadOutput,
    WrongShape,
    WrongDtype,
    IdOutOfRange,
    NotFinite,
    TooManySamples,
    BodyTooLarge,
    BodyTimeout,
    BodyBroken,
    UnsupportedEncoding,
    BadEncoding,
    UnknownModel,
    UnknownVersion,
    UnknownRoute,
    WrongVerb,
    Unauthenticated,
    Forbidden,
    CrossSite,
    Overloaded,
    QualityUnreachable,
    WeightsUnsupported,
    RawUnsupported,
    DeadlinePassed,
    Unavailable,
    PathFailed,
    LoadFailed,
    Internal,
}

/// Code, name, status of HTTP and of gRPC: one row for every [`ErrorCode`], in its order.
const CODES: [(ErrorCode, &str, Http, Grpc); 32] = [
    (ErrorCode::BadJson, "bad_json", Http::BAD_REQUEST, Grpc::InvalidArgument),
    (ErrorCode::BadMessage, "bad_message", Http::BAD_REQUEST, Grpc::InvalidArgument),
    (ErrorCode::BadHeader, "bad_header", Http::BAD_REQUEST, Grpc::InvalidArgument),
    (ErrorCode::BadParameter, "bad_parameter", Http::BAD_REQUEST, Grpc::InvalidArgument),
    (ErrorCode::BadInput, "bad_input", Http::BAD_REQUEST, Grpc::InvalidArgument),
    (ErrorCode::BadOutput, "bad_output", Http::BAD_REQUEST, Grpc::InvalidArgument),
    (ErrorCode::WrongShape, "wrong_shape", Http::BAD_REQUEST, Grpc::InvalidArgument),
    (ErrorCode::WrongDtype, "wrong_dtype", Http::BAD_REQUEST, Grpc::InvalidArgument),
    (ErrorCode::IdOutOfRange, "id_out_of_range", Http::BAD_REQUEST, Grpc::InvalidArgument),
    (ErrorCode::NotFinite, "not_finite", Http::BAD_REQUEST, Grpc::InvalidArgument),
    (ErrorCode::TooManySamples, "too_many_samples", Http::PAYLOAD_TOO_LARGE, Grpc::InvalidArgument),
    (ErrorCode::BodyTooLarge, "body_too_large", Http::PAYLOAD_TOO_LARGE, Grpc::ResourceExhausted),
    (ErrorCode::BodyTimeout, "body_timeout", Http::REQUEST_TIMEOUT, Grpc::DeadlineExceeded),
    (ErrorCode::BodyBroken, "body_broken", Http::BAD_REQUEST, Grpc::InvalidArgument),
    (
        ErrorCode::UnsupportedEncoding,
        "unsupported_encoding",
        Http::UNSUPPORTED_MEDIA_TYPE,
        Grpc::Unimplemented,
    ),
    (ErrorCode::BadEncoding, "bad_encoding", Http::BAD_REQUEST, Grpc::InvalidArgument),
    (ErrorCode::UnknownModel, "unknown_model", Http::NOT_FOUND, Grpc::NotFound),
    (ErrorCode::UnknownVersion, "unknown_version", Http::NOT_FOUND, Grpc::NotFound),
    (ErrorCode::UnknownRoute, "unknown_route", Http::NOT_FOUND, Grpc::Unimplemented),
    (ErrorCode::WrongVerb, "wrong_verb", Http::METHOD_NOT_ALLOWED, Grpc::Unimplemented),
    (ErrorCode::Unauthenticated, "unauthenticated", Http::UNAUTHORIZED, Grpc::Unauthenticated),
    (ErrorCode::Forbidden, "forbidden", Http::FORBIDDEN, Grpc::PermissionDenied),
    (ErrorCode::CrossSite, "cross_site", Http::FORBIDDEN, Grpc::PermissionDenied),
    (ErrorCode::Overloaded, "overloaded", Http::TOO_MANY_REQUESTS, Grpc::ResourceExhausted),
    (
        ErrorCode::QualityUnreachable,
        "quality_unreachable",
        Http::UNPROCESSABLE_ENTITY,
        Grpc::FailedPrecondition,
    ),
    (
        ErrorCode::WeightsUnsupported,
        "weights_unsupported",
        Http::UNPROCESSABLE_ENTITY,
        Grpc::FailedPrecondition,
    ),
    (
        ErrorCode::RawUnsupported,
        "raw_unsupported",
        Http::UNPROCESSABLE_ENTITY,
        Grpc::FailedPrecondition,
    ),
    (ErrorCode::DeadlinePassed, "deadline_passed", Http::GATEWAY_TIMEOUT, Grpc::DeadlineExceeded),
    (ErrorCode::Unavailable, "unavailable", Http::SERVICE_UNAVAILABLE, Grpc::Unavailable),
    (ErrorCode::PathFailed, "path_failed", Http::INTERNAL_SERVER_ERROR, Grpc::Internal),
    (ErrorCode::LoadFailed, "load_failed", Http::BAD_REQUEST, Grpc::InvalidArgument),
    (ErrorCode::Internal, "internal", Http::INTERNAL_SERVER_ERROR, Grpc::Internal),
];

impl ErrorCode {
    /// The name, as it stands in the reply's `code`.
    pub fn name(self) -> &'static str {
        CODES[self.index()].1
    }

    /// The HTTP status.
    pub fn status(self) -> Http {
        CODES[self.index()].2
    }

    /// The gRPC status.
    pub fn grpc_status(self) -> Grpc {
        CODES[self.index()].3
    }

    /// Whether the server chose not to answer a good query: too busy, too late, not good enough.
    pub fn is_refusal(self) -> bool {
        matches!(
            self,
            Self::Overloaded | Self::QualityUnreachable | Self::DeadlinePassed | Self::Unavailable
        )
    }

    /// The code of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        CODES.iter().find(|row| row.1 == name).map(|row| row.0)
    }
}

impl Label for ErrorCode {
    const NAMES: &'static [&'static str] = &{
        let mut names = [""; CODES.len()];
        let mut at = 0;
        while at < CODES.len() {
            names[at] = CODES[at].1;
            at += 1;
        }
        names
    };

    fn index(self) -> usize {
        self as usize
    }
}

/// Longest message that is sent, in characters.
const MAX_MESSAGE: usize = 400;

/// What is sent for an error.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Error")]
pub(crate) struct ErrorBody {
    /// What is wrong, and what to do.
    pub(crate) error: String,
    /// What is wrong, for programs.
    pub(crate) code: &'static str,
    /// When a retry may succeed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) retry_after_ms: Option<u64>,
}

impl ApiError {
    /// Its stable code.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::BadJson { .. } => ErrorCode::BadJson,
            Self::BadMessage { .. } => ErrorCode::BadMessage,
            Self::BadHeader { .. } => ErrorCode::BadHeader,
            Self::BadParameter { .. } => ErrorCode::BadParameter,
            Self::BadInput { .. } => ErrorCode::BadInput,
            Self::BadOutput { .. } => ErrorCode::BadOutput,
            Self::WrongShape { .. } => ErrorCode::WrongShape,
            Self::WrongDtype { .. } => ErrorCode::WrongDtype,
            Self::RawUnsupported { .. } => ErrorCode::RawUnsupported,
            Self::Batch(BatchError::OutOfVocabulary { .. }) | Self::NotListed { .. } => {
                ErrorCode::IdOutOfRange
            }
            Self::Batch(BatchError::NotFinite { .. } | BatchError::Weight { .. }) => {
                ErrorCode::NotFinite
            }
            Self::Batch(BatchError::TooLarge { .. }) => ErrorCode::BodyTooLarge,
            Self::Batch(_) => ErrorCode::WrongShape,
            Self::TooManySamples { .. } => ErrorCode::TooManySamples,
            Self::BodyTooLarge { .. } => ErrorCode::BodyTooLarge,
            Self::BodyTimeout { .. } => ErrorCode::BodyTimeout,
            Self::BodyBroken => ErrorCode::BodyBroken,
            Self::UnsupportedEncoding { .. } => ErrorCode::UnsupportedEncoding,
            Self::BadEncoding { .. } => ErrorCode::BadEncoding,
            Self::UnknownModel { .. } => ErrorCode::UnknownModel,
            Self::UnknownVersion { .. } => ErrorCode::UnknownVersion,
            Self::UnknownRoute => ErrorCode::UnknownRoute,
            Self::WrongVerb { .. } => ErrorCode::WrongVerb,
            Self::Unauthenticated { refusal: KeyRefusal::Scope } => ErrorCode::Forbidden,
            Self::Unauthenticated { .. } => ErrorCode::Unauthenticated,
            Self::CrossSite { .. } => ErrorCode::CrossSite,
            Self::Refused(refusal) => match refusal {
                Refusal::Overloaded { .. } => ErrorCode::Overloaded,
                Refusal::Quality { .. } => ErrorCode::QualityUnreachable,
                Refusal::Weighted => ErrorCode::WeightsUnsupported,
                Refusal::DeadlinePassed { .. } => ErrorCode::DeadlinePassed,
                Refusal::Unavailable { .. } => ErrorCode::Unavailable,
                Refusal::Failed { .. } => ErrorCode::PathFailed,
            },
            Self::Control(error) => match error {
                ControlError::Unknown { .. } | ControlError::NotLoaded { .. } => {
                    ErrorCode::UnknownModel
                }
                ControlError::NoPrevious { .. } => ErrorCode::UnknownVersion,
                ControlError::Load { .. } => ErrorCode::LoadFailed,
                ControlError::Busy { .. } => ErrorCode::Overloaded,
                ControlError::Stopping => ErrorCode::Unavailable,
            },
            Self::Internal { .. } => ErrorCode::Internal,
        }
    }

    /// When a retry may succeed, if the service said so.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused(Refusal::Overloaded { retry_after, .. }) => Some(*retry_after),
            _ => None,
        }
    }

    pub(crate) fn body(&self) -> ErrorBody {
        let retry = self.retry_after();
        let mut error = match self {
            // What the device said may name addresses and files; it is logged, not sent.
            Self::Refused(Refusal::Failed { path, .. }) => {
                format!("path `{path}` failed; the server's log has the cause")
            }
            other => other.to_string(),
        };
        // What the client sent is quoted, and may be as long as a body.
        if let Some((at, _)) = error.char_indices().nth(MAX_MESSAGE) {
            error.truncate(at);
            error.push('…');
        }
        ErrorBody {
            error,
            code: self.code().name(),
            // At least 1, so that nobody reads "at once" into a rounded 0.
            retry_after_ms: retry.map(|wait| (wait.as_millis() as u64).max(1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_codes_is_in_the_order_of_the_enum() {
        for (at, (code, name, http, grpc)) in CODES.into_iter().enumerate() {
            assert_eq!(code.index(), at, "{name}");
            assert_eq!(ErrorCode::from_name(name), Some(code));
            assert!(http.is_client_error() || http.is_server_error(), "{name}");
            assert_ne!(grpc, Grpc::Ok, "{name}");
        }
        assert_eq!(ErrorCode::Internal.index() + 1, CODES.len());
    }

    #[test]
    fn a_failed_path_is_reported_without_what_the_device_said() {
        let refusal =
            Refusal::Failed { path: "table@cpu".into(), message: "secret address".into() };
        assert!(!ApiError::from(refusal).body().error.contains("secret"));
    }
}
