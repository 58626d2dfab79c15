//! From an error to a gRPC status, and from what tonic says of a request to an error.

use tonic::{Code, Status, metadata::MetadataValue};

use crate::endpoint::{ApiError, ErrorCode};

/// Metadata with the name of the error's [`ErrorCode`].
pub(super) const CODE: &str = "mprec-code";

/// Metadata with the milliseconds after which a retry may succeed.
pub(super) const RETRY_AFTER: &str = "retry-after-ms";

/// The status of an error.
pub(super) fn of(error: &ApiError) -> Status {
    let body = error.body();
    let mut status = Status::new(error.code().grpc_status(), body.error);
    let metadata = status.metadata_mut();
    metadata.insert(CODE, MetadataValue::from_static(body.code));
    if let Some(milliseconds) = body.retry_after_ms {
        metadata.insert(RETRY_AFTER, milliseconds.into());
    }
    status
}

/// The code of a status that [`of`] made.
pub(super) fn code(status: &Status) -> Option<ErrorCode> {
    ErrorCode::from_name(status.metadata().get(CODE)?.to_str().ok()?)
}

/// A status that tonic made before or instead of a handler, as this endpoint says it. `limit` is
/// the largest message.
pub(super) fn own(status: Status, limit: usize) -> Status {
    if code(&status).is_some() {
        return status;
    }
    match status.code() {
        // Too large before decompression, and after it.
        Code::OutOfRange | Code::ResourceExhausted => of(&ApiError::BodyTooLarge { limit }),
        // Framing and compression: all that tonic finds wrong is what it has received.
        Code::Internal => of(&ApiError::BadMessage { message: status.message().to_owned() }),
        Code::Unimplemented => {
            let mut status = status;
            let code = MetadataValue::from_static(ErrorCode::UnsupportedEncoding.name());
            status.metadata_mut().insert(CODE, code);
            status
        }
        _ => status,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::service::Refusal;

    #[test]
    fn an_overload_says_when_to_come_back() {
        let retry_after = Duration::from_micros(100);
        let error = ApiError::from(Refusal::Overloaded { reason: "busy", retry_after });
        let status = of(&error);
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert_eq!(code(&status), Some(ErrorCode::Overloaded));
        assert_eq!(status.metadata().get(RETRY_AFTER).unwrap(), "1");
    }

    #[test]
    fn what_tonic_says_becomes_a_code_of_this_server() {
        for (theirs, code) in [
            (Status::out_of_range("large"), ErrorCode::BodyTooLarge),
            (Status::resource_exhausted("large"), ErrorCode::BodyTooLarge),
            (Status::internal("flag"), ErrorCode::BadMessage),
            (Status::unimplemented("zstd"), ErrorCode::UnsupportedEncoding),
        ] {
            assert_eq!(self::code(&own(theirs, 7)), Some(code));
        }
        let ours = of(&ApiError::UnknownRoute);
        assert_eq!(code(&own(ours, 7)), Some(ErrorCode::UnknownRoute));
    }
}
