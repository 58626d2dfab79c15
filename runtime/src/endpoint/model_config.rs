//! A model as Triton's clients configure themselves by it: its `ModelConfig`.
//!
//! Members are named as in Triton's schema, and only those are there that say something of the model. Its
//! shapes leave out the samples, which are the batch dimension; those of the metadata have it.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::inputs::{DENSE, SCORES, SPARSE};
use crate::service::{DEFAULT_PRIORITY, Model, PRIORITY_LEVELS};

/// Longest text of an [`ExpectedConfig`].
const MAX_EXPECTED_BYTES: usize = 64 << 10;

/// Reply of `GET /v2/models/{m}[/versions/{v}]/config`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ModelConfig {
    /// The model's name.
    pub name: String,
    /// `mprec`.
    pub platform: String,
    /// `mprec`.
    pub backend: String,
    /// Which versions are served.
    pub version_policy: VersionPolicy,
    /// Most samples in one request.
    pub max_batch_size: i64,
    /// The inputs of the one-hot form.
    pub input: Vec<ConfigTensor>,
    /// The output.
    pub output: Vec<ConfigTensor>,
    /// That requests are put together into batches, and what waits for one.
    pub dynamic_batching: DynamicBatching,
    /// How many responses a request gets.
    pub model_transaction_policy: TransactionPolicy,
}

/// Which versions of a model are served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VersionPolicy {
    /// The latest ones.
    pub latest: LatestVersions,
}

/// The latest versions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LatestVersions {
    /// How many.
    pub num_versions: u32,
}

/// An input or output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConfigTensor {
    /// Its name in requests and replies.
    pub name: String,
    /// Triton's name of its datatype: `TYPE_FP32`, `TYPE_INT64`.
    pub data_type: String,
    /// Its shape without the batch dimension.
    pub dims: Vec<i64>,
}

/// How requests become batches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DynamicBatching {
    /// Priorities that are told apart; 1 is the most important.
    pub priority_levels: u32,
    /// The priority of a request that names none.
    pub default_priority_level: u32,
    /// What happens to what waits.
    pub default_queue_policy: QueuePolicy,
}

/// What happens to what waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct QueuePolicy {
    /// `REJECT`: what would be late is answered with an error.
    pub timeout_action: String,
    /// Time budget of a request that names none, in microseconds. It covers more than Triton's: all the time from
    /// arrival to answer.
    pub default_timeout_microseconds: u64,
    /// Whether a request may name its own.
    pub allow_timeout_override: bool,
}

/// How many responses a request gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TransactionPolicy {
    /// Whether other than one.
    pub decoupled: bool,
}

/// A configuration that a client expects a model to have, as JSON of the protocol or of protobuf: names with underscores or in
/// camel case, whole numbers possibly in strings, and whatever has its default value possibly left out.
#[derive(Debug, Clone, PartialEq)]
pub struct ExpectedConfig(Map<String, Value>);

impl ExpectedConfig {
    /// Reads it.
    ///
    /// # Errors
    ///
    /// What is wrong with the text, as a clause about it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text.len() > MAX_EXPECTED_BYTES {
            return Err(format!("is longer than {MAX_EXPECTED_BYTES} bytes"));
        }
        serde_json::from_str(text)
            .map(Self)
            .map_err(|error| format!("is not a JSON object: {error}"))
    }

    /// The first key of which the model's own configuration says something else, such as
    /// `dynamic_batching.priority_levels`.
    pub(crate) fn difference(&self, config: &ModelConfig) -> Option<String> {
        let config = serde_json::to_value(config).unwrap_or_default();
        differing(&Value::Object(self.0.clone()), Some(&config))
    }
}

/// The path to the first value of `expected` that `found` does not have; empty if it is the value itself.
fn differing(expected: &Value, found: Option<&Value>) -> Option<String> {
    let below = |key: &str, rest: String| {
        let key = key.chars().take(64).collect::<String>();
        if rest.is_empty() || rest.starts_with('[') { key + &rest } else { key + "." + &rest }
    };
    match (expected, found) {
        (Value::Object(expected), found) => expected.iter().find_map(|(key, value)| {
            let found = found.and_then(|found| found.get(&*underscored(key)));
            differing(value, found).map(|rest| below(key, rest))
        }),
        (Value::Array(expected), Some(Value::Array(found))) if expected.len() == found.len() => {
            let mut pairs = expected.iter().zip(found).enumerate();
            pairs.find_map(|(at, (expected, found))| {
                differing(expected, Some(found)).map(|rest| below(&format!("[{at}]"), rest))
            })
        }
        (expected, Some(found)) if scalar(expected) == scalar(found) => None,
        (expected, None) if is_default(expected) => None,
        _ => Some(String::new()),
    }
}

/// Whether it says as much as nothing.
fn is_default(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(value) => value.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty() || text == "0",
        Value::Array(values) => values.is_empty(),
        Value::Object(_) => false,
    }
}

/// A value that is compared as a whole; a whole number in a string is that number.
fn scalar(value: &Value) -> Cow<'_, Value> {
    match value.as_str().and_then(|text| text.parse::<i64>().ok()) {
        Some(number) => Cow::Owned(number.into()),
        None => Cow::Borrowed(value),
    }
}

/// `maxBatchSize` is `max_batch_size`.
fn underscored(key: &str) -> String {
    let mut name = String::with_capacity(key.len() + 4);
    for letter in key.chars() {
        if letter.is_ascii_uppercase() {
            name.push('_');
        }
        name.push(letter.to_ascii_lowercase());
    }
    name
}

impl ModelConfig {
    /// The configuration of a model.
    pub(crate) fn of(model: &Model) -> Self {
        let tensor = |name: &str, data_type: &str, dims: &[usize]| ConfigTensor {
            name: name.to_owned(),
            data_type: data_type.to_owned(),
            // A schema has at most 4,096 features of each kind.
            dims: dims.iter().map(|&size| size as i64).collect(),
        };
        Self {
            name: model.name.clone(),
            platform: "mprec".to_owned(),
            backend: "mprec".to_owned(),
            version_policy: VersionPolicy { latest: LatestVersions { num_versions: 1 } },
            max_batch_size: i64::try_from(model.max_samples).unwrap_or(i64::MAX),
            input: vec![
                tensor(DENSE, "TYPE_FP32", &[model.shape.dense_width()]),
                tensor(SPARSE, "TYPE_INT64", &[model.shape.features()]),
            ],
            output: vec![tensor(SCORES, "TYPE_FP32", &[])],
            dynamic_batching: DynamicBatching {
                priority_levels: PRIORITY_LEVELS,
                default_priority_level: DEFAULT_PRIORITY,
                default_queue_policy: QueuePolicy {
                    timeout_action: "REJECT".to_owned(),
                    default_timeout_microseconds: u64::try_from(model.sla.as_micros())
                        .unwrap_or(u64::MAX),
                    allow_timeout_override: true,
                },
            },
            model_transaction_policy: TransactionPolicy { decoupled: false },
        }
    }
}

#[cfg(test)]
mod tests {
    use mprec_representations::OutOfVocabulary;

    use super::*;
    use crate::endpoint::{ModelMetadata, fake::Fake};

    #[test]
    fn shapes_are_those_of_the_metadata_without_the_samples() {
        let model = Fake::new(OutOfVocabulary::Zero).model;
        let (config, metadata) = (ModelConfig::of(&model), ModelMetadata::of(&model));
        assert_eq!(config.max_batch_size, 1000);
        let tensors = config.input.iter().zip(&metadata.inputs);
        for (ours, theirs) in tensors.chain(config.output.iter().zip(&metadata.outputs)) {
            assert_eq!(ours.name, theirs.name);
            assert_eq!(ours.data_type, format!("TYPE_{}", theirs.datatype));
            assert_eq!((theirs.shape[0], &theirs.shape[1..]), (-1, ours.dims.as_slice()));
        }
        assert_eq!((config.input.len(), config.output.len()), (2, 1));
    }

    #[test]
    fn what_a_request_may_leave_out_is_stated() {
        let config = ModelConfig::of(&Fake::new(OutOfVocabulary::Zero).model);
        let batching = config.dynamic_batching;
        assert_eq!((batching.priority_levels, batching.default_priority_level), (3, 2));
        assert_eq!(batching.default_queue_policy.default_timeout_microseconds, 250_000);
    }

    #[test]
    fn a_configuration_that_was_read_is_the_one_that_is_expected() {
        let config = ModelConfig::of(&Fake::new(OutOfVocabulary::Zero).model);
        let difference = |json: &str| ExpectedConfig::parse(json).unwrap().difference(&config);
        let own = serde_json::to_string(&config).unwrap();
        for same in [
            own.as_str(),
            "{}",
            r#"{"name": "ctr", "maxBatchSize": "1000", "ensembleScheduling": {}, "optimization": null}"#,
            r#"{"dynamicBatching": {"defaultQueuePolicy": {"allowTimeoutOverride": true}}}"#,
            r#"{"instance_group": [], "default_model_filename": "", "output": [{"dims": []}]}"#,
        ] {
            assert_eq!(difference(same), None, "{same}");
        }
        for (other, key) in [
            (r#"{"max_batch_size": 8}"#, "max_batch_size"),
            (r#"{"name": "other"}"#, "name"),
            (r#"{"instance_group": [{"count": 2}]}"#, "instance_group"),
            (r#"{"dynamic_batching": {"priority_levels": 1}}"#, "dynamic_batching.priority_levels"),
            (r#"{"input": [{"name": "dense"}, {"dims": [9]}]}"#, "input[1].dims[0]"),
            (r#"{"input": []}"#, "input"),
            (r#"{"parameters": {"x": {"string_value": "y"}}}"#, "parameters.x.string_value"),
        ] {
            assert_eq!(difference(other).as_deref(), Some(key), "{other}");
        }
        assert!(ExpectedConfig::parse("[1]").is_err());
        assert!(ExpectedConfig::parse(&" ".repeat(MAX_EXPECTED_BYTES + 1)).is_err());
    }
}
