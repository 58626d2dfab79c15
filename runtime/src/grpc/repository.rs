//! The model repository over gRPC: Triton's `model_repository` extension.

use std::collections::BTreeMap;

use super::protocol::inference::{
    ModelRepositoryParameter, RepositoryIndexRequest, RepositoryIndexResponse,
    model_repository_parameter::ParameterChoice, repository_index_response::ModelIndex,
};
use crate::{
    endpoint::{self, ApiError, Control, Endpoint, Parameters, Scalar, Verb},
    service::Service,
};

/// Where models may be loaded and unloaded; elsewhere these calls do not exist.
fn control<S: Service + ?Sized>(endpoint: &Endpoint<S>) -> Result<&dyn Control, ApiError> {
    endpoint.control.as_deref().ok_or(ApiError::UnknownRoute)
}

/// There is one repository, which has no name.
fn check_repository(name: &str) -> Result<(), ApiError> {
    if name.is_empty() {
        return Ok(());
    }
    let (name, problem) = ("repository_name".to_owned(), "must be empty: there is one".to_owned());
    Err(ApiError::BadParameter { name, problem })
}

/// Every model and version with its state.
pub(super) fn index<S: Service + ?Sized>(
    endpoint: &Endpoint<S>,
    request: &RepositoryIndexRequest,
) -> Result<RepositoryIndexResponse, ApiError> {
    let control = control(endpoint)?;
    check_repository(&request.repository_name)?;
    let lines = endpoint::index(control, request.ready).into_iter();
    let models = lines.map(|line| ModelIndex {
        name: line.name,
        version: line.version,
        state: line.state.name().to_owned(),
        reason: line.reason,
    });
    Ok(RepositoryIndexResponse { models: models.collect() })
}

/// Changes what is served of a model.
pub(super) async fn change<S: Service + ?Sized>(
    endpoint: &Endpoint<S>,
    verb: Verb,
    repository: &str,
    model: &str,
    parameters: BTreeMap<String, ModelRepositoryParameter>,
) -> Result<(), ApiError> {
    let control = control(endpoint)?;
    check_repository(repository)?;
    let parameters = Parameters::of(parameters.into_iter().map(|(name, value)| {
        let value = match value.parameter_choice {
            Some(ParameterChoice::BoolParam(value)) => Scalar::Bool(value),
            Some(ParameterChoice::Int64Param(value)) => Scalar::Integer(value),
            Some(ParameterChoice::StringParam(value)) => Scalar::Text(value),
            // Files of a model, which are refused by their names.
            Some(ParameterChoice::BytesParam(_)) | None => Scalar::Other,
        };
        (name, value)
    }))?;
    endpoint::change(control, verb, model, &parameters).await.map(drop)
}
