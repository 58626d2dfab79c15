//! What clients ask of the model repository, in whatever protocol, held against what can be honoured.

use serde_json::{Map, Value};

use super::{
    control::{Changed, Control, ControlError, IndexEntry, ModelState},
    error::ApiError,
    parameters::{Parameters, Scalar},
};

/// What is to be done to a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    /// Load its newest version.
    Load,
    /// Drain and free every version.
    Unload,
    /// Have the version before take over again.
    Rollback,
}

/// Every model and version, or those that answer.
pub(crate) fn index(control: &dyn Control, only_ready: bool) -> Vec<IndexEntry> {
    let mut index = control.index();
    index.retain(|line| !only_ready || line.state == ModelState::Ready);
    index
}

/// Does it to model `name`, and waits until it is done.
///
/// # Errors
///
/// [`ApiError::BadParameter`] for a parameter that would not be honoured, [`ApiError::Control`] when nothing was changed.
pub(crate) async fn change(
    control: &dyn Control,
    verb: Verb,
    name: &str,
    parameters: &Parameters,
) -> Result<Changed, ApiError> {
    let change = match verb {
        Verb::Load => {
            check_load(name, parameters)?;
            control.load(name)?
        }
        Verb::Unload => {
            check_unload(parameters)?;
            control.unload(name)?
        }
        Verb::Rollback => {
            parameters.iter().next().map_or(Ok(()), |(name, _)| Err(bad(name, "is unknown")))?;
            control.rollback(name)?
        }
    };
    // The sender is dropped when the server stops first.
    Ok(change.await.unwrap_or(Err(ControlError::Stopping))?)
}

fn bad(name: &str, problem: impl Into<String>) -> ApiError {
    // The client chose the name, and may have chosen a long one.
    let name = name.chars().take(64).collect();
    ApiError::BadParameter { name, problem: problem.into() }
}

/// A configuration that is sent along is taken if it changes nothing. Everything else about a model is the server's: what
/// is accepted must be honoured.
fn check_load(model: &str, parameters: &Parameters) -> Result<(), ApiError> {
    for (name, value) in parameters.iter() {
        if name.starts_with("file:") {
            return Err(bad(name, "is not supported: put the bundle into the repository's folder"));
        }
        if name != "config" {
            return Err(bad(name, "is unknown"));
        }
        let Scalar::Text(text) = value else { return Err(bad(name, "must be JSON in a string")) };
        let config: Map<String, Value> = serde_json::from_str(text)
            .map_err(|error| bad(name, format!("is not a JSON object: {error}")))?;
        for (key, value) in &config {
            if key != "name" || value.as_str() != Some(model) {
                let key = key.chars().take(64).collect::<String>();
                let problem =
                    format!("sets `{key}`, which is the server's to set: change its config file");
                return Err(bad(name, problem));
            }
        }
    }
    Ok(())
}

/// No model depends on another here, so that the answer to the question is the same either way.
fn check_unload(parameters: &Parameters) -> Result<(), ApiError> {
    for (name, value) in parameters.iter() {
        if name != "unload_dependents" {
            return Err(bad(name, "is unknown"));
        }
        if !matches!(value, Scalar::Bool(_)) {
            return Err(bad(name, "must be true or false"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_changes_nothing_may_be_configured() {
        let check = |json: &str| check_load("ctr", &serde_json::from_str(json).unwrap());
        for fine in ["{}", r#"{"config":"{}"}"#, r#"{"config":"{\"name\":\"ctr\"}"}"#] {
            assert!(check(fine).is_ok(), "{fine}");
        }
        for (refused, problem) in [
            (r#"{"file:1/model.safetensors":"AAAA"}"#, "is not supported"),
            (r#"{"config":7}"#, "JSON in a string"),
            (r#"{"config":"{"}"#, "not a JSON object"),
            (r#"{"config":"{\"max_batch_size\":8}"}"#, "`max_batch_size`"),
            (r#"{"config":"{\"name\":\"other\"}"}"#, "`name`"),
            (r#"{"force":true}"#, "is unknown"),
        ] {
            let error = check(refused).unwrap_err().to_string();
            assert!(error.contains(problem), "{refused}: {error}");
        }
    }

    #[test]
    fn unloading_takes_one_wish() {
        let check = |json: &str| check_unload(&serde_json::from_str(json).unwrap());
        assert!(check("{}").is_ok());
        assert!(check(r#"{"unload_dependents":true}"#).is_ok());
        assert!(check(r#"{"unload_dependents":1}"#).is_err());
        assert!(check(r#"{"force":true}"#).is_err());
    }
}
