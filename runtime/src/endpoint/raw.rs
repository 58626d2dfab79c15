//! Raw values in place of features: the bundle's own preprocessing makes a batch of them.

use mprec_datasets::{RawDense, RawError};
use mprec_representations::Batch;

use super::{
    error::ApiError,
    inputs::{RAW_DENSE, RAW_SPARSE, samples_of},
    tensor::{Tensor, bad_input},
};
use crate::service::Model;

/// Compares raw inputs with the model and makes the batch. Tokens that the bundle does not know count as unknown ids.
pub(super) fn batch(
    model: &Model,
    dense: Tensor<'_>,
    sparse: Tensor<'_>,
) -> Result<Batch, ApiError> {
    let Some(preprocessor) = &model.preprocessor else {
        return Err(ApiError::RawUnsupported { name: model.name.clone() });
    };
    let samples = samples_of(&dense, model.shape.dense_width(), model)?;
    sparse.expect_shape(&[samples, model.shape.features()])?;
    let sparse = sparse.texts("BYTES")?;
    let batch = if dense.is_of("INT64") {
        preprocessor.encode_values(RawDense::Integers(&dense.integers()?), &sparse)
    } else {
        let dense = dense.texts("BYTES or INT64")?;
        preprocessor.encode_values(RawDense::Texts(&dense), &sparse)
    };
    batch.map_err(|error| match error {
        RawError::Batch(error) => error.into(),
        RawError::Value { is_dense: true, .. } => wrong(RAW_DENSE, &error),
        error => wrong(RAW_SPARSE, &error),
    })
}

fn wrong(name: &str, error: &RawError) -> ApiError {
    bad_input(name, &format!("cannot be taken: {error}"))
}
