//! The model repository over HTTP: Triton's `model_repository` extension, and going back to an earlier version.
//!
//! | Verb, path | |
//! |---|---|
//! | `POST` or `GET /v2/repository/index` | every model and version, with its state; `{"ready": true}` only those that answer |
//! | `POST /v2/repository/models/{m}/load` | loads the newest version; replies when it is served, or why it cannot be |
//! | `POST /v2/repository/models/{m}/unload` | drains and frees every version |
//! | `POST /v2/repository/models/{m}/rollback` | beyond the extension: the version before takes over again |

use std::borrow::Cow;

use hyper::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    percent::decode,
    reply::{self, Reply},
};
use crate::endpoint::{ApiError, Change, Control, ControlError, ModelState};

/// What a URL asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Action<'a> {
    Index,
    Load(Cow<'a, str>),
    Unload(Cow<'a, str>),
    Rollback(Cow<'a, str>),
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct IndexRequest {
    ready: bool,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct ChangeRequest {
    parameters: Map<String, Value>,
}

impl<'a> Action<'a> {
    /// The action of a path such as `/v2/repository/models/ctr/load`.
    pub(super) fn of(path: &'a str) -> Option<Self> {
        let rest = path.strip_prefix("/v2/repository/")?;
        if rest == "index" {
            return Some(Self::Index);
        }
        let (name, verb) = rest.strip_prefix("models/")?.split_once('/')?;
        let name = decode(name)?;
        match verb {
            "load" => Some(Self::Load(name)),
            "unload" => Some(Self::Unload(name)),
            "rollback" => Some(Self::Rollback(name)),
            _ => None,
        }
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

/// Does what was asked for.
pub(super) async fn respond(
    control: &dyn Control,
    action: Action<'_>,
    body: &[u8],
) -> Result<Reply, ApiError> {
    let change = match &action {
        Action::Index => {
            let IndexRequest { ready } = parse(body)?;
            let mut index = control.index();
            index.retain(|line| !ready || line.state == ModelState::Ready);
            return Ok(reply::json(StatusCode::OK, &index));
        }
        Action::Load(name) => {
            check_load(name, &parse::<ChangeRequest>(body)?.parameters)?;
            control.load(name)?
        }
        Action::Unload(name) => {
            check_unload(&parse::<ChangeRequest>(body)?.parameters)?;
            control.unload(name)?
        }
        Action::Rollback(name) => {
            none_of(&parse::<ChangeRequest>(body)?.parameters)?;
            control.rollback(name)?
        }
    };
    Ok(reply::json(StatusCode::OK, &done(change).await?))
}

async fn done(change: Change) -> Result<crate::endpoint::Changed, ApiError> {
    // The sender is dropped when the server stops first.
    Ok(change.await.unwrap_or(Err(ControlError::Stopping))?)
}

/// An empty body stands for no wishes.
fn parse<T: for<'de> Deserialize<'de> + Default>(body: &[u8]) -> Result<T, ApiError> {
    if body.trim_ascii().is_empty() {
        return Ok(T::default());
    }
    serde_json::from_slice(body).map_err(|error| ApiError::BadJson { message: error.to_string() })
}

fn bad(name: &str, problem: impl Into<String>) -> ApiError {
    ApiError::BadParameter { name: name.to_owned(), problem: problem.into() }
}

/// A configuration that is sent along is taken if it changes nothing. Everything else about a model is the server's: what
/// is accepted must be honoured.
fn check_load(model: &str, parameters: &Map<String, Value>) -> Result<(), ApiError> {
    for (name, value) in parameters {
        if name.starts_with("file:") {
            return Err(bad(name, "is not supported: put the bundle into the repository's folder"));
        }
        if name != "config" {
            return Err(bad(name, "is unknown"));
        }
        let text = value.as_str().ok_or_else(|| bad(name, "must be JSON in a string"))?;
        let config: Map<String, Value> = serde_json::from_str(text)
            .map_err(|error| bad(name, format!("is not a JSON object: {error}")))?;
        for (key, value) in &config {
            if key != "name" || value.as_str() != Some(model) {
                let key = key.chars().take(64).collect::<String>();
                return Err(bad(
                    name,
                    format!("sets `{key}`, which is the server's to set: change its config file"),
                ));
            }
        }
    }
    Ok(())
}

/// No model depends on another here, so that the answer to the question is the same either way.
fn check_unload(parameters: &Map<String, Value>) -> Result<(), ApiError> {
    for (name, value) in parameters {
        if name != "unload_dependents" {
            return Err(bad(name, "is unknown"));
        }
        if !value.is_boolean() {
            return Err(bad(name, "must be true or false"));
        }
    }
    Ok(())
}

fn none_of(parameters: &Map<String, Value>) -> Result<(), ApiError> {
    parameters.keys().next().map_or(Ok(()), |name| Err(bad(name, "is unknown")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_url_has_its_action() {
        for (path, action) in [
            ("/v2/repository/index", Some(Action::Index)),
            ("/v2/repository/models/ctr/load", Some(Action::Load("ctr".into()))),
            ("/v2/repository/models/a%2Fb/unload", Some(Action::Unload("a/b".into()))),
            ("/v2/repository/models/%2e%2e/rollback", Some(Action::Rollback("..".into()))),
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
    fn only_what_changes_nothing_may_be_configured() {
        let check = |text: &str| {
            let request: ChangeRequest = parse(text.as_bytes())?;
            check_load("ctr", &request.parameters)
        };
        for fine in [
            "",
            " ",
            "{}",
            r#"{"parameters":{}}"#,
            r#"{"parameters":{"config":"{}"}}"#,
            r#"{"parameters":{"config":"{\"name\":\"ctr\"}"}}"#,
        ] {
            assert!(check(fine).is_ok(), "{fine}");
        }
        for (refused, problem) in [
            ("[1]", "not valid JSON"),
            (r#"{"model":"x"}"#, "unknown field"),
            (r#"{"parameters":{"file:1/model.safetensors":"AAAA"}}"#, "is not supported"),
            (r#"{"parameters":{"config":7}}"#, "JSON in a string"),
            (r#"{"parameters":{"config":"{"}}"#, "not a JSON object"),
            (r#"{"parameters":{"config":"{\"max_batch_size\":8}"}}"#, "`max_batch_size`"),
            (r#"{"parameters":{"config":"{\"name\":\"other\"}"}}"#, "`name`"),
            (r#"{"parameters":{"force":true}}"#, "is unknown"),
        ] {
            let error = check(refused).unwrap_err().to_string();
            assert!(error.contains(problem), "{refused}: {error}");
        }
    }
}
