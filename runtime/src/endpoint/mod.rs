//! What every protocol of the endpoint shares.
//!
//! A protocol turns bytes into `Inputs` and `Parameters`, has `Endpoint::score` ask the
//! service for scores, and renders the [`Answer`](crate::service::Answer) or the [`ApiError`].
//! Deadlines, quality floors, the names of inputs, errors and what is counted are the same in all.

mod accepted;
mod access;
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
mod raw;
mod repository;
mod scoring;
mod secure;
mod statistics;
mod statuses;
mod tensor;

pub(crate) use self::{
    accepted::Accepted,
    budget::{SLA_HEADER, budget_of, only},
    error::ErrorBody,
    inputs::{DENSE, INPUTS, Inputs, SCORES, SPARSE},
    listen::{Listening, listen},
    load::LoadForm,
    outputs::{INDICES, Outputs},
    parameters::{Parameters, REQUEST_PARAMETERS, RequestParameters, Scalar},
    repository::{Verb, change, index},
    scoring::ScoreQuery,
    secure::Secure,
    tensor::{MAX_RANK, Numbers, Tensor, Texts, bad_input, expect_bytes, shape_of, wrong_shape},
};
pub use self::{
    control::{Change, Changed, Control, ControlError, IndexEntry, ModelState},
    error::{ApiError, ErrorCode},
    listen::Drained,
    listener::{ListenError, ListenOn, Listener, SocketFile},
    metadata::{ModelDetails, ModelMetadata, PathDetails, ServerMetadata, TensorMetadata},
    model_config::{
        ConfigTensor, DynamicBatching, ExpectedConfig, LatestVersions, ModelConfig, QueuePolicy,
        TransactionPolicy, VersionPolicy,
    },
    scoring::{Endpoint, Limits},
    statistics::{
        BatchStatistics, DurationStatistics, InferenceStatistics, MemoryUsage, ModelStatistics,
        Statistics,
    },
    statuses::Statuses,
};
