//! What the endpoint says about itself and its models, as messages.

use std::collections::BTreeMap;

use super::protocol::inference::{
    self, ModelMetadataResponse, ServerMetadataResponse, StatisticDuration,
    model_config::SchedulingChoice,
    model_metadata_response,
    model_queue_policy::TimeoutAction,
    model_version_policy::{Latest, PolicyChoice},
};
use crate::endpoint::{
    ConfigTensor, DurationStatistics, ModelConfig, ModelMetadata, ModelStatistics, ServerMetadata,
    TensorMetadata,
};

/// What the server says about itself.
pub(super) fn server(metadata: ServerMetadata) -> ServerMetadataResponse {
    ServerMetadataResponse {
        name: metadata.name,
        version: metadata.version,
        extensions: metadata.extensions,
    }
}

/// What it says about a model.
pub(super) fn model(metadata: ModelMetadata) -> ModelMetadataResponse {
    let details = metadata.mprec;
    let tensors = |tensors: Vec<TensorMetadata>| {
        let tensor = |TensorMetadata { name, datatype, shape }| {
            model_metadata_response::TensorMetadata { name, datatype, shape }
        };
        tensors.into_iter().map(tensor).collect()
    };
    ModelMetadataResponse {
        name: metadata.name,
        versions: metadata.versions,
        platform: metadata.platform,
        inputs: tensors(metadata.inputs),
        outputs: tensors(metadata.outputs),
        properties: BTreeMap::from([
            ("max_samples".to_owned(), details.max_samples.to_string()),
            ("sla_ms".to_owned(), details.sla_ms.to_string()),
        ]),
    }
}

/// How Triton's tools configure themselves by a model.
pub(super) fn config(config: ModelConfig) -> inference::ModelConfig {
    // A name that the protocol does not have reads as its invalid type, as tools know it.
    let data_type =
        |name: &str| inference::DataType::from_str_name(name).unwrap_or_default().into();
    let batching = config.dynamic_batching;
    let policy = batching.default_queue_policy;
    inference::ModelConfig {
        name: config.name,
        platform: config.platform,
        backend: config.backend,
        version_policy: Some(inference::ModelVersionPolicy {
            policy_choice: Some(PolicyChoice::Latest(Latest {
                num_versions: config.version_policy.latest.num_versions,
            })),
        }),
        max_batch_size: i32::try_from(config.max_batch_size).unwrap_or(i32::MAX),
        input: config
            .input
            .into_iter()
            .map(|ConfigTensor { name, data_type: kind, dims }| inference::ModelInput {
                name,
                data_type: data_type(&kind),
                dims,
            })
            .collect(),
        output: config
            .output
            .into_iter()
            .map(|ConfigTensor { name, data_type: kind, dims }| inference::ModelOutput {
                name,
                data_type: data_type(&kind),
                dims,
            })
            .collect(),
        scheduling_choice: Some(SchedulingChoice::DynamicBatching(
            inference::ModelDynamicBatching {
                priority_levels: batching.priority_levels.into(),
                default_priority_level: batching.default_priority_level.into(),
                default_queue_policy: Some(inference::ModelQueuePolicy {
                    timeout_action: TimeoutAction::from_str_name(&policy.timeout_action)
                        .unwrap_or_default()
                        .into(),
                    default_timeout_microseconds: policy.default_timeout_microseconds,
                    allow_timeout_override: policy.allow_timeout_override,
                }),
            },
        )),
        model_transaction_policy: Some(inference::ModelTransactionPolicy {
            decoupled: config.model_transaction_policy.decoupled,
        }),
    }
}

/// One row of the statistics.
pub(super) fn statistics(row: ModelStatistics) -> inference::ModelStatistics {
    let time = |DurationStatistics { count, ns }| Some(StatisticDuration { count, ns });
    let stats = row.inference_stats;
    inference::ModelStatistics {
        name: row.name,
        version: row.version,
        last_inference: row.last_inference,
        inference_count: row.inference_count,
        execution_count: row.execution_count,
        inference_stats: Some(inference::InferStatistics {
            success: time(stats.success),
            fail: time(stats.fail),
            queue: time(stats.queue),
            compute_input: time(stats.compute_input),
            compute_infer: time(stats.compute_infer),
            compute_output: time(stats.compute_output),
            cache_hit: time(stats.cache_hit),
            cache_miss: time(stats.cache_miss),
        }),
        batch_stats: row
            .batch_stats
            .into_iter()
            .map(|batch| inference::InferBatchStatistics {
                batch_size: batch.batch_size,
                compute_input: time(batch.compute_input),
                compute_infer: time(batch.compute_infer),
                compute_output: time(batch.compute_output),
            })
            .collect(),
        memory_usage: row
            .memory_usage
            .into_iter()
            .map(|memory| inference::MemoryUsage {
                r#type: memory.kind,
                id: memory.id,
                byte_size: memory.byte_size,
            })
            .collect(),
    }
}
