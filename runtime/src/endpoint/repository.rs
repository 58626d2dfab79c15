//! What clients ask of the model repository, in whatever protocol, held against what can be honoured.

use super::{
    control::{Changed, Control, ControlError, IndexEntry, ModelState},
    error::ApiError,
    model_config::ExpectedConfig,
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
            let expected = expected_config(parameters)?;
            control.load(name, expected)?
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

/// A configuration that is sent along is what the model is expected to have: everything about it is the server's to set, and
/// what is accepted must be honoured.
fn expected_config(parameters: &Parameters) -> Result<Option<ExpectedConfig>, ApiError> {
    let mut expected = None;
    for (name, value) in parameters.iter() {
        if name.starts_with("file:") {
            return Err(bad(name, "is not supported: put the bundle into the repository's folder"));
        }
        if name != "config" {
            return Err(bad(name, "is unknown"));
        }
        let Scalar::Text(text) = value else { return Err(bad(name, "must be JSON in a string")) };
        expected = Some(ExpectedConfig::parse(text).map_err(|problem| bad(name, problem))?);
    }
    Ok(expected)
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
    fn loading_takes_a_configuration_and_nothing_else() {
        let check = |json: &str| expected_config(&serde_json::from_str(json).unwrap());
        assert_eq!(check("{}").unwrap(), None);
        assert!(check(r#"{"config":"{\"name\":\"ctr\"}"}"#).unwrap().is_some());
        for (refused, problem) in [
            (r#"{"file:1/model.safetensors":"AAAA"}"#, "is not supported"),
            (r#"{"config":7}"#, "JSON in a string"),
            (r#"{"config":"{"}"#, "not a JSON object"),
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
