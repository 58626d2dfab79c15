//! A model as Triton's clients configure themselves by it: its `ModelConfig`.
//!
//! Members are named as in Triton's schema, and only those are there that say something of the model. Its
//! shapes leave out the samples, which are the batch dimension; those of the metadata have it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::inputs::{DENSE, SCORES, SPARSE};
use crate::service::{DEFAULT_PRIORITY, Model, PRIORITY_LEVELS};

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
}
