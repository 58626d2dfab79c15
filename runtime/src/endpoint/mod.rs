//! What every protocol of the endpoint shares.
//!
//! A protocol turns bytes into `Inputs` and `Parameters`, has `Endpoint::score` ask the
//! service for scores, and renders the [`Answer`](crate::service::Answer) or the [`ApiError`].
//! Deadlines, quality floors, the names of inputs, errors and what is counted are the same in all.

mod budget;
mod control;
mod error;
#[cfg(test)]
pub(crate) mod fake;
mod inputs;
mod listen;
mod listener;
mod load;
mod metadata;
mod model_config;
#[cfg(test)]
pub(crate) mod no_work;
mod outputs;
mod parameters;
mod scoring;
mod statistics;
mod statuses;
mod tensor;

pub(crate) use self::{
    budget::{SLA_HEADER, budget_of, only},
    error::ErrorBody,
    inputs::{DENSE, INPUTS, Inputs, SCORES, SPARSE},
    listen::{Listening, listen},
    listener::Accepted,
    load::LoadForm,
    outputs::{INDICES, Outputs},
    parameters::{Parameters, REQUEST_PARAMETERS, RequestParameters, Scalar},
    scoring::ScoreQuery,
    tensor::{MAX_RANK, Numbers, Tensor, bad_input, expect_bytes, shape_of, wrong_shape},
};
pub use self::{
    control::{Change, Changed, Control, ControlError, IndexEntry, ModelState},
    error::{ApiError, ErrorCode},
    listen::Drained,
    listener::{ListenError, ListenOn, Listener, SocketFile},
    metadata::{ModelDetails, ModelMetadata, PathDetails, ServerMetadata, TensorMetadata},
    model_config::{
        ConfigTensor, DynamicBatching, LatestVersions, ModelConfig, QueuePolicy, TransactionPolicy,
        VersionPolicy,
    },
    scoring::{Endpoint, Limits},
    statistics::{
        BatchStatistics, DurationStatistics, InferenceStatistics, MemoryUsage, ModelStatistics,
        Statistics,
    },
    statuses::Statuses,
};
