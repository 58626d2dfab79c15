//! What the endpoint says about itself and its models. The load generator reads it back.

use std::collections::BTreeMap;

use mprec_representations::Schema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    inputs::{DENSE, LENGTHS, RAW_DENSE, RAW_SPARSE, SCORES, SPARSE, USER_SPARSE, WEIGHTS},
    outputs::INDICES,
    scoring::Endpoint,
};
use crate::service::{Model, Service};

/// The extensions of the protocol that are implemented.
const EXTENSIONS: &[&str] =
    &["binary_tensor_data", "model_configuration", "parameters", "schedule_policy", "statistics"];

/// Those that are implemented where models may be loaded and unloaded.
const REPOSITORY_EXTENSIONS: &[&str] = &["model_repository", "model_repository(unload_dependents)"];

/// Reply of `GET /v2`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct ServerMetadata {
    /// `mprec`.
    pub name: String,
    /// Version of the server.
    pub version: String,
    /// Implemented extensions of the protocol.
    pub extensions: Vec<String>,
    /// Beyond the protocol: the names of the models.
    pub models: Vec<String>,
}

/// Reply of `GET /v2/models/{m}`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct ModelMetadata {
    /// The model's name.
    pub name: String,
    /// Its versions: the one that is served.
    pub versions: Vec<String>,
    /// `mprec`.
    pub platform: String,
    /// The inputs of the one-hot form; −1 stands for any number of samples.
    pub inputs: Vec<TensorMetadata>,
    /// The output.
    pub outputs: Vec<TensorMetadata>,
    /// Beyond the protocol.
    pub mprec: ModelDetails,
}

/// An input or output, as the protocol describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TensorMetadata {
    /// Its name in requests and replies.
    pub name: String,
    /// Its datatype: `FP32`, `INT64`.
    pub datatype: String,
    /// Its shape, −1 where any size goes.
    pub shape: Vec<i64>,
}

/// What a client needs to know to make good requests.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct ModelDetails {
    /// Version of the model.
    pub version: String,
    /// Its features, with cardinalities.
    #[schemars(with = "serde_json::Value")]
    pub schema: Schema,
    /// Most samples in one request.
    pub max_samples: usize,
    /// Deadline of a request that names none, in milliseconds.
    pub sla_ms: f64,
    /// Expected accuracy of every path.
    pub paths: BTreeMap<String, PathDetails>,
    /// The inputs that replace `sparse` when bags hold any number of ids.
    pub multi_hot_inputs: Vec<TensorMetadata>,
    /// The inputs that replace `dense` and `sparse` when values are raw; absent where the bundle carries no
    /// preprocessing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub raw_inputs: Vec<TensorMetadata>,
    /// The inputs that replace `dense` and `sparse` when the parameter `user_features` names what is sent once.
    #[serde(default)]
    pub user_inputs: Vec<TensorMetadata>,
    /// The outputs of a request with `top_k`.
    #[serde(default)]
    pub top_k_outputs: Vec<TensorMetadata>,
}

/// What a client may know of a path.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PathDetails {
    /// Expected accuracy: the fraction of predictions that are correct.
    pub quality: f64,
}

impl ServerMetadata {
    pub(crate) fn of<S: Service + ?Sized>(endpoint: &Endpoint<S>) -> Self {
        let repository = endpoint.control.as_ref().map_or(&[][..], |_| REPOSITORY_EXTENSIONS);
        let models = endpoint.service.models();
        Self {
            name: "mprec".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            extensions: EXTENSIONS.iter().chain(repository).map(ToString::to_string).collect(),
            models: models.iter().map(|model| model.name.clone()).collect(),
        }
    }
}

impl ModelMetadata {
    pub(crate) fn of(model: &Model) -> Self {
        let tensor = |name: &str, datatype: &str, shape: &[i64]| TensorMetadata {
            name: name.to_owned(),
            datatype: datatype.to_owned(),
            shape: shape.to_vec(),
        };
        // A schema has at most 4,096 features of each kind.
        let (width, features) = (model.shape.dense_width() as i64, model.shape.features() as i64);
        Self {
            name: model.name.clone(),
            versions: vec![model.version.clone()],
            platform: "mprec".to_owned(),
            inputs: vec![
                tensor(DENSE, "FP32", &[-1, width]),
                tensor(SPARSE, "INT64", &[-1, features]),
            ],
            outputs: vec![tensor(SCORES, "FP32", &[-1])],
            mprec: ModelDetails {
                version: model.version.clone(),
                schema: model.schema.clone(),
                max_samples: model.max_samples,
                sla_ms: model.sla.as_secs_f64() * 1e3,
                paths: model
                    .paths
                    .iter()
                    .map(|(name, &quality)| (name.clone(), PathDetails { quality }))
                    .collect(),
                multi_hot_inputs: vec![
                    tensor(SPARSE, "INT64", &[-1]),
                    tensor(LENGTHS, "INT64", &[-1, features]),
                    tensor(WEIGHTS, "FP32", &[-1]),
                ],
                raw_inputs: match model.preprocessor {
                    Some(_) => vec![
                        tensor(RAW_DENSE, "BYTES", &[-1, width]),
                        tensor(RAW_SPARSE, "BYTES", &[-1, features]),
                    ],
                    None => Vec::new(),
                },
                user_inputs: vec![
                    tensor(DENSE, "FP32", &[-1, width]),
                    tensor(USER_SPARSE, "INT64", &[1, -1]),
                    tensor(SPARSE, "INT64", &[-1, -1]),
                ],
                top_k_outputs: vec![tensor(SCORES, "FP32", &[-1]), tensor(INDICES, "INT64", &[-1])],
            },
        }
    }
}
