//! Which HTTP status an error gets.

use hyper::StatusCode;

use super::ErrorCode;

/// Whose statuses are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Statuses {
    /// One that tells kinds of errors apart: 429 for overload, 504 for a deadline that passed, 503 for a
    /// server that is not available.
    #[default]
    Distinct,
    /// Triton's, for clients and proxies that were made for it: 503 for all of these, 400 for whatever the
    /// request got wrong, 501 for what is not supported. The codes in the bodies stay as they are.
    Triton,
}

impl Statuses {
    /// The status of an error.
    pub fn of(self, code: ErrorCode) -> StatusCode {
        let distinct = code.status();
        if self == Self::Distinct {
            return distinct;
        }
        match code {
            ErrorCode::Overloaded | ErrorCode::DeadlinePassed => StatusCode::SERVICE_UNAVAILABLE,
            ErrorCode::UnsupportedEncoding
            | ErrorCode::WeightsUnsupported
            | ErrorCode::RawUnsupported => StatusCode::NOT_IMPLEMENTED,
            ErrorCode::BodyTooLarge
            | ErrorCode::BodyTimeout
            | ErrorCode::TooManySamples
            | ErrorCode::QualityUnreachable => StatusCode::BAD_REQUEST,
            _ => distinct,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Label as _;

    #[test]
    fn triton_knows_few_statuses() {
        for name in ErrorCode::NAMES {
            let code = ErrorCode::from_name(name).unwrap();
            assert_eq!(Statuses::Distinct.of(code), code.status());
            let status = Statuses::Triton.of(code).as_u16();
            assert!([400, 401, 403, 404, 405, 500, 501, 503].contains(&status), "{name}: {status}");
        }
        assert_eq!(Statuses::Triton.of(ErrorCode::Overloaded).as_u16(), 503);
        assert_eq!(Statuses::Triton.of(ErrorCode::DeadlinePassed).as_u16(), 503);
        assert_eq!(Statuses::Triton.of(ErrorCode::UnsupportedEncoding).as_u16(), 501);
    }
}
