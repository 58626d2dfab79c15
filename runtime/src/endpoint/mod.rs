//! What every protocol of the endpoint shares.
//!
//! A protocol turns bytes into [`Inputs`] and [`Parameters`], has [`Endpoint::score`] ask the
//! service for scores, and renders the [`Answer`](crate::service::Answer) or the [`ApiError`].
//! Deadlines, quality floors, the names of inputs, errors and what is counted are the same in all.

mod control;
mod error;
#[cfg(test)]
pub(crate) mod fake;
mod inputs;
mod metadata;
mod parameters;
mod scoring;
mod tensor;

pub use self::{
    control::{Change, Changed, Control, ControlError, IndexEntry, ModelState},
    error::{ApiError, ErrorCode},
    metadata::{ModelDetails, ModelMetadata, PathDetails, ServerMetadata, TensorMetadata},
    scoring::{Endpoint, Limits},
};
pub(crate) use self::{
    inputs::{DENSE, Inputs, SCORES, SPARSE},
    parameters::{Parameters, RequestParameters},
    scoring::ScoreQuery,
    tensor::{MAX_RANK, Numbers, Tensor, bad_input, expect_bytes, shape_of, wrong_shape},
};
