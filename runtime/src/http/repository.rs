//! The model repository over HTTP: Triton's `model_repository` extension, and going back to an earlier version.
//!
//! | Verb, path | |
//! |---|---|
//! | `POST` or `GET /v2/repository/index` | every model and version, with its state; `{"ready": true}` only those that answer |
//! | `POST /v2/repository/models/{m}/load` | loads the newest version; replies when it is served, or why it cannot be |
//! | `POST /v2/repository/models/{m}/unload` | drains and frees every version |
//! | `POST /v2/repository/models/{m}/rollback` | beyond the extension: the version before takes over again |

use std::borrow::Cow;

use hyper::{
    HeaderMap, Method, StatusCode,
    header::{HeaderValue, ORIGIN},
};
use serde::Deserialize;

use super::{
    percent::decode,
    reply::{self, Reply},
};
use crate::endpoint::{ApiError, Control, Parameters, Verb, change, index};

/// What a URL asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Action<'a> {
    Index,
    Change(Verb, Cow<'a, str>),
}

/// Where a browser says a request comes from.
const FETCH_SITE: &str = "sec-fetch-site";

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct IndexRequest {
    ready: bool,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct ChangeRequest {
    parameters: Parameters,
}

impl<'a> Action<'a> {
    /// The action of a path such as `/v2/repository/models/ctr/load`.
    pub(super) fn of(path: &'a str) -> Option<Self> {
        let rest = path.strip_prefix("/v2/repository/")?;
        if rest == "index" {
            return Some(Self::Index);
        }
        let (name, verb) = rest.strip_prefix("models/")?.split_once('/')?;
        let verb = match verb {
            "load" => Verb::Load,
            "unload" => Verb::Unload,
            "rollback" => Verb::Rollback,
            _ => return None,
        };
        Some(Self::Change(verb, decode(name)?))
    }

    /// The verbs that it takes, as the `Allow` header has them.
    pub(super) fn verbs(&self) -> &'static str {
        if *self == Self::Index { "GET, HEAD, POST" } else { "POST" }
    }

    /// Whether it takes this verb.
    pub(super) fn takes(&self, method: &Method) -> bool {
        self.verbs().split(", ").any(|verb| verb == method.as_str())
    }
}

/// That no web page asks. A browser on this machine reaches loopback for every page that it shows, and sends such requests
/// without asking anybody; where there are no keys, nothing else would keep them out.
pub(super) fn check_origin(headers: &HeaderMap) -> Result<(), ApiError> {
    if headers.contains_key(ORIGIN) {
        return Err(ApiError::CrossSite { header: "origin" });
    }
    let is_own = |site: &HeaderValue| site == "none" || site == "same-origin";
    if headers.get_all(FETCH_SITE).iter().all(is_own) {
        return Ok(());
    }
    Err(ApiError::CrossSite { header: FETCH_SITE })
}

/// Does what was asked for.
pub(super) async fn respond(
    control: &dyn Control,
    action: Action<'_>,
    body: &[u8],
) -> Result<Reply, ApiError> {
    match action {
        Action::Index => {
            let IndexRequest { ready } = parse(body)?;
            Ok(reply::json(StatusCode::OK, &index(control, ready)))
        }
        Action::Change(verb, name) => {
            let ChangeRequest { parameters } = parse(body)?;
            let changed = change(control, verb, &name, &parameters).await?;
            Ok(reply::json(StatusCode::OK, &changed))
        }
    }
}

/// An empty body stands for no wishes.
fn parse<T: for<'de> Deserialize<'de> + Default>(body: &[u8]) -> Result<T, ApiError> {
    if body.trim_ascii().is_empty() {
        return Ok(T::default());
    }
    serde_json::from_slice(body).map_err(|error| ApiError::BadJson { message: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_url_has_its_action() {
        for (path, action) in [
            ("/v2/repository/index", Some(Action::Index)),
            ("/v2/repository/models/ctr/load", Some(Action::Change(Verb::Load, "ctr".into()))),
            (
                "/v2/repository/models/a%2Fb/unload",
                Some(Action::Change(Verb::Unload, "a/b".into())),
            ),
            (
                "/v2/repository/models/%2e%2e/rollback",
                Some(Action::Change(Verb::Rollback, "..".into())),
            ),
            ("/v2/repository", None),
            ("/v2/repository/index/x", None),
            ("/v2/repository/models/ctr", None),
            ("/v2/repository/models//load", None),
            ("/v2/repository/models/a/b/load", None),
            ("/v2/models/ctr/load", None),
        ] {
            assert_eq!(Action::of(path), action, "{path}");
        }
    }

    #[test]
    fn a_body_may_be_empty_and_holds_nothing_unknown() {
        let parse = |text: &str| parse::<ChangeRequest>(text.as_bytes());
        for fine in ["", " ", "{}", r#"{"parameters":{}}"#, r#"{"parameters":null}"#] {
            assert!(parse(fine).is_ok(), "{fine}");
        }
        for refused in ["[1]", r#"{"model":"x"}"#, "{"] {
            assert!(matches!(parse(refused), Err(ApiError::BadJson { .. })), "{refused}");
        }
    }
}
