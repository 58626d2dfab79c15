//! The time budget that a request's headers state, whatever protocol they came by.

use std::time::Duration;

use hyper::{HeaderMap, header::HeaderValue};

use super::error::ApiError;

/// Names a request's time budget in milliseconds, for clients and proxies that cannot add
/// parameters to a body.
pub(crate) const SLA_HEADER: &str = "mprec-sla-ms";

/// The time budget that the header [`SLA_HEADER`] states.
pub(crate) fn budget_of(headers: &HeaderMap) -> Result<Option<Duration>, ApiError> {
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
pub(crate) fn only<'a>(
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
