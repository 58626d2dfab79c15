//! Whether a request may be answered.

use std::time::Instant;

use hyper::{HeaderMap, header::AUTHORIZATION};

use super::{error::ApiError, scoring::Endpoint, secure::Seldom};
use crate::{
    security::{KeyRefusal, Pass, Scope},
    service::Service,
};

/// The scheme of the header, in any case, and the space behind it.
const BEARER: &str = "bearer ";

impl<S: Service + ?Sized> Endpoint<S> {
    /// Whether a request with these headers may be answered: where there are keys, it needs one of them, which where models
    /// are managed must be good for that. What it was let in by is for [`Endpoint::authenticate_again`].
    ///
    /// # Errors
    ///
    /// [`ApiError::Unauthenticated`], which has nothing of the key.
    pub(crate) fn authenticate(&self, headers: &HeaderMap) -> Result<Option<Pass>, ApiError> {
        let Some(keys) = &self.keys else { return Ok(None) };
        let result = bearer(headers).and_then(|key| keys.pass(key, self.need()));
        result.map(Some).map_err(|refusal| self.unauthenticated(refusal))
    }

    /// Whether what a request was let in by still does: keys are taken back while long calls are open.
    ///
    /// # Errors
    ///
    /// As [`Endpoint::authenticate`].
    pub(crate) fn authenticate_again(&self, pass: Option<Pass>) -> Result<(), ApiError> {
        let Some(keys) = &self.keys else { return Ok(()) };
        let result = pass.ok_or(KeyRefusal::Missing);
        let result = result.and_then(|pass| keys.admits_still(pass, self.need()));
        result.map_err(|refusal| self.unauthenticated(refusal))
    }

    /// What a key must be good for here.
    fn need(&self) -> Scope {
        if self.control.is_some() { Scope::Admin } else { Scope::Infer }
    }

    /// The error of a refusal, which is counted.
    fn unauthenticated(&self, refusal: KeyRefusal) -> ApiError {
        self.metrics.unauthenticated.of(refusal).add_one();
        static SELDOM: Seldom = Seldom::new();
        if SELDOM.is_due(Instant::now()) {
            tracing::debug!(?refusal, "a request had no key that lets it in");
        }
        ApiError::Unauthenticated { refusal }
    }
}

/// The key of the only header that has one.
fn bearer(headers: &HeaderMap) -> Result<&[u8], KeyRefusal> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next().ok_or(KeyRefusal::Missing)?.as_bytes();
    // With two, a proxy and this server could see different ones.
    if values.next().is_some() {
        return Err(KeyRefusal::Malformed);
    }
    let (scheme, key) = value.split_at_checked(BEARER.len()).ok_or(KeyRefusal::Malformed)?;
    if !scheme.eq_ignore_ascii_case(BEARER.as_bytes()) {
        return Err(KeyRefusal::Malformed);
    }
    Ok(key.trim_ascii())
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    #[test]
    fn the_header_has_one_key() {
        for (values, key) in [
            (&["Bearer abc"][..], Ok(&b"abc"[..])),
            (&["bearer   abc "], Ok(b"abc")),
            (&[], Err(KeyRefusal::Missing)),
            (&["abc"], Err(KeyRefusal::Malformed)),
            (&["Basic abc"], Err(KeyRefusal::Malformed)),
            (&["Bearerabc"], Err(KeyRefusal::Malformed)),
            (&["Bearer abc", "Bearer abc"], Err(KeyRefusal::Malformed)),
        ] {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(AUTHORIZATION, HeaderValue::from_static(value));
            }
            assert_eq!(bearer(&headers), key, "{values:?}");
        }
    }
}
