//! From an answer, or an error of a stream, to the message of a response.

use std::{collections::BTreeMap, time::Duration};

use super::protocol::inference::{
    InferParameter, ModelInferResponse, ModelStreamInferResponse, infer_parameter::ParameterChoice,
    model_infer_response::InferOutputTensor,
};
use crate::{
    endpoint::{ApiError, INDICES, Outputs, SCORES},
    service::{Answer, Model},
};

/// The response of an answered query, whose scores are finite.
///
/// `latency` is the time from the request's arrival until now.
pub(super) fn scores(
    model: &Model,
    id: String,
    wanted: Outputs,
    answer: &Answer,
    latency: Duration,
) -> ModelInferResponse {
    let best = wanted.best(&answer.scores);
    let mut outputs = Vec::with_capacity(2);
    let mut contents = Vec::with_capacity(2);
    let mut add = |name: &str, datatype: &str, count: usize, bytes: Vec<u8>| {
        outputs.push(InferOutputTensor {
            name: name.to_owned(),
            datatype: datatype.to_owned(),
            shape: vec![count as i64],
            ..InferOutputTensor::default()
        });
        contents.push(bytes.into());
    };
    if wanted.scores.is_some() {
        let scores = best.as_ref().map_or(&answer.scores, |best| &best.scores);
        let bytes = scores.iter().flat_map(|score| score.to_le_bytes()).collect();
        add(SCORES, "FP32", scores.len(), bytes);
    }
    if let (Some(best), Some(_)) = (&best, wanted.indices) {
        let bytes = best.indices.iter().flat_map(|sample| sample.to_le_bytes()).collect();
        add(INDICES, "INT64", best.indices.len(), bytes);
    }
    ModelInferResponse {
        model_name: model.name.clone(),
        model_version: answer.version.to_string(),
        id,
        parameters: parameters([
            ("path", text(&answer.path)),
            ("variant", text(&answer.variant)),
            ("version", text(&answer.version)),
            ("quality", ParameterChoice::DoubleParam(answer.quality)),
            ("downgraded", ParameterChoice::BoolParam(answer.downgraded)),
            ("queue_us", integer(answer.queue.as_micros())),
            ("compute_us", integer(answer.compute.as_micros())),
            ("predicted_us", integer(answer.predicted.as_micros())),
            ("latency_us", integer(latency.as_micros())),
            ("batch_samples", integer(answer.batch_samples as u128)),
        ]),
        outputs,
        raw_output_contents: contents,
    }
}

/// The message of a stream for a request that was not answered.
pub(super) fn error(id: String, model: String, error: &ApiError) -> ModelStreamInferResponse {
    let body = error.body();
    let mut about = parameters([("code", text(body.code))]);
    if let Some(milliseconds) = body.retry_after_ms {
        about.extend(parameters([("retry_after_ms", integer(milliseconds.into()))]));
    }
    ModelStreamInferResponse {
        error_message: body.error,
        infer_response: Some(ModelInferResponse {
            id,
            model_name: model,
            parameters: about,
            ..ModelInferResponse::default()
        }),
    }
}

fn parameters<const N: usize>(
    pairs: [(&str, ParameterChoice); N],
) -> BTreeMap<String, InferParameter> {
    pairs
        .into_iter()
        .map(|(name, value)| (name.to_owned(), InferParameter { parameter_choice: Some(value) }))
        .collect()
}

fn text(text: &str) -> ParameterChoice {
    ParameterChoice::StringParam(text.to_owned())
}

fn integer(value: u128) -> ParameterChoice {
    ParameterChoice::Int64Param(i64::try_from(value).unwrap_or(i64::MAX))
}
