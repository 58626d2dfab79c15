//! From the inputs of a request to a batch of the model.
//!
//! | Name | Datatype | Shape | |
//! |---|---|---|---|
//! | `dense` | FP32 | `[n, D]` | |
//! | `sparse` | INT64 | `[n, F]` | one id per feature |
//!
//! or, for any number of ids per feature, with `dense` as before:
//!
//! | Name | Datatype | Shape | |
//! |---|---|---|---|
//! | `sparse` | INT64 | `[total]` | ids, sample by sample and within it feature by feature |
//! | `sparse_lengths` | INT32 or INT64 | `[n, F]` | number of ids of every bag |
//! | `sparse_weights` | FP32 | `[total]` | optional, one weight per id |
//!
//! or, where the bundle carries its preprocessing, what stands in a raw row:
//!
//! | Name | Datatype | Shape | |
//! |---|---|---|---|
//! | `raw_dense` | BYTES or INT64 | `[n, D]` | empty where missing |
//! | `raw_sparse` | BYTES | `[n, F]` | empty where missing |
//!
//! A further form sends what is the user's once for all candidates: see [`user`].

mod user;

use mprec_representations::{Batch, GroupedBatch, Jagged};

use super::{
    error::ApiError,
    parameters::RequestParameters,
    raw,
    tensor::{Tensor, bad_input},
};
use crate::service::Model;

/// Names of the inputs and of the output.
pub(crate) const DENSE: &str = "dense";
pub(crate) const SPARSE: &str = "sparse";
pub(crate) const LENGTHS: &str = "sparse_lengths";
pub(crate) const WEIGHTS: &str = "sparse_weights";
pub(crate) const RAW_DENSE: &str = "raw_dense";
pub(crate) const RAW_SPARSE: &str = "raw_sparse";
pub(crate) const USER_SPARSE: &str = "user_sparse";
pub(crate) const SCORES: &str = "scores";

/// What a request may hold.
#[derive(Debug)]
pub(crate) struct InputRow {
    pub(crate) name: &'static str,
    pub(crate) datatypes: &'static [&'static str],
    pub(crate) about: &'static str,
}

/// Every input.
pub(crate) const INPUTS: [InputRow; 7] = [
    InputRow {
        name: DENSE,
        datatypes: &["FP32"],
        about: "[n, D]: the dense features; with `user_features` also [1, D], for all samples",
    },
    InputRow {
        name: SPARSE,
        datatypes: &["INT64"],
        about: "[n, F]: one id per feature; with `sparse_lengths` [total]: the ids of all bags, sample by sample and \
                within it feature by feature; with `user_features` [n, F − U]: the ids of the other features",
    },
    InputRow {
        name: LENGTHS,
        datatypes: &["INT32", "INT64"],
        about: "[n, F]: number of ids of every bag",
    },
    InputRow {
        name: WEIGHTS,
        datatypes: &["FP32"],
        about: "[total]: one weight per id; needs `sparse_lengths`",
    },
    InputRow {
        name: USER_SPARSE,
        datatypes: &["INT64"],
        about: "[1, U]: the ids of the features that `user_features` names, in its order, for all samples",
    },
    InputRow {
        name: RAW_DENSE,
        datatypes: &["BYTES", "INT64"],
        about: "[n, D]: raw values of the dense features, empty where missing; with `raw_sparse` in place of `dense`",
    },
    InputRow {
        name: RAW_SPARSE,
        datatypes: &["BYTES"],
        about: "[n, F]: raw values of the sparse features, empty where missing; with `raw_dense` in place of `sparse`",
    },
];

/// The inputs that a request may have.
#[derive(Debug, Default)]
pub(crate) struct Inputs<'a> {
    dense: Option<Tensor<'a>>,
    sparse: Option<Tensor<'a>>,
    lengths: Option<Tensor<'a>>,
    weights: Option<Tensor<'a>>,
    raw_dense: Option<Tensor<'a>>,
    raw_sparse: Option<Tensor<'a>>,
    user: Option<Tensor<'a>>,
}

impl<'a> Inputs<'a> {
    /// Adds the input `name`; `tensor` reads it, under its name as the protocol spells it.
    pub(crate) fn add(
        &mut self,
        name: &str,
        tensor: impl FnOnce(&'static str) -> Result<Tensor<'a>, ApiError>,
    ) -> Result<(), ApiError> {
        let (name, slot) = match name {
            DENSE => (DENSE, &mut self.dense),
            SPARSE => (SPARSE, &mut self.sparse),
            LENGTHS => (LENGTHS, &mut self.lengths),
            WEIGHTS => (WEIGHTS, &mut self.weights),
            RAW_DENSE => (RAW_DENSE, &mut self.raw_dense),
            RAW_SPARSE => (RAW_SPARSE, &mut self.raw_sparse),
            USER_SPARSE => (USER_SPARSE, &mut self.user),
            other => {
                return Err(bad_input(
                    other,
                    "is unknown; known are `dense`, `sparse`, `sparse_lengths`, `sparse_weights`, \
                     `user_sparse`, `raw_dense` and `raw_sparse`",
                ));
            }
        };
        if slot.is_some() {
            return Err(bad_input(name, "is given twice"));
        }
        *slot = Some(tensor(name)?);
        Ok(())
    }

    /// Compares the inputs with the model and makes the batch.
    pub(crate) fn batch(
        self,
        model: &Model,
        parameters: &RequestParameters,
    ) -> Result<GroupedBatch, ApiError> {
        if self.raw_dense.is_some() || self.raw_sparse.is_some() {
            return Ok(self.of_raw(model, parameters)?.into());
        }
        if let Some(names) = &parameters.user_features {
            return self.of_user(names, model);
        }
        if self.user.is_some() {
            return Err(bad_input(USER_SPARSE, "needs the parameter `user_features` beside it"));
        }
        Ok(self.of_samples(model)?.into())
    }

    fn of_raw(self, model: &Model, parameters: &RequestParameters) -> Result<Batch, ApiError> {
        let others = [self.dense, self.sparse, self.lengths, self.weights, self.user];
        if let Some(other) = others.iter().flatten().next() {
            return Err(other.bad("cannot stand beside `raw_dense` and `raw_sparse`"));
        }
        let dense = self.raw_dense.ok_or_else(|| missing(RAW_DENSE))?;
        let sparse = self.raw_sparse.ok_or_else(|| missing(RAW_SPARSE))?;
        if parameters.user_features.is_some() {
            return Err(sparse.bad("has all features of every sample: leave `user_features` out"));
        }
        raw::batch(model, dense, sparse)
    }

    fn of_samples(self, model: &Model) -> Result<Batch, ApiError> {
        let dense = self.dense.ok_or_else(|| missing(DENSE))?;
        let sparse = self.sparse.ok_or_else(|| missing(SPARSE))?;
        let (width, features) = (model.shape.dense_width(), model.shape.features());

        let samples = samples_of(&dense, width, model)?;
        let Some(lengths) = self.lengths else {
            if self.weights.is_some() {
                return Err(bad_input(WEIGHTS, "needs `sparse_lengths` beside it"));
            }
            sparse.expect_shape(&[samples, features])?;
            return Ok(model.shape.from_rows(dense.floats()?, &sparse.integers()?)?);
        };
        lengths.expect_shape(&[samples, features])?;
        let lengths = lengths.lengths()?;
        // At most 2^32 - 1 each and 2^32 of them: the sum fits.
        let total = lengths.iter().map(|&length| u64::from(length)).sum::<u64>();
        let total = usize::try_from(total).unwrap_or(usize::MAX);
        sparse.expect_shape(&[total])?;
        let weights = match self.weights {
            Some(weights) => {
                weights.expect_shape(&[total])?;
                Some(weights.floats()?)
            }
            None => None,
        };
        let ids = sparse.integers()?;
        let jagged = by_feature(&Jagged { ids, lengths, weights }, features);
        Ok(model.shape.from_jagged(dense.floats()?, &jagged)?)
    }
}

/// The samples of the dense features, which are `width`.
pub(super) fn samples_of(
    dense: &Tensor<'_>,
    width: usize,
    model: &Model,
) -> Result<usize, ApiError> {
    let samples = dense.shape.first().copied().unwrap_or_default();
    dense.expect_shape(&[samples, width])?;
    count(samples, model, dense)?;
    Ok(samples)
}

fn missing(name: &str) -> ApiError {
    bad_input(name, "is missing")
}

/// Proves that there are samples, as `input` has them, and not too many.
fn count(samples: usize, model: &Model, input: &Tensor<'_>) -> Result<u32, ApiError> {
    if samples == 0 {
        return Err(input.wrong_shape("holds no samples; send at least one"));
    }
    let limit = model.max_samples;
    let counted = u32::try_from(samples).ok().filter(|_| samples <= limit);
    counted.ok_or(ApiError::TooManySamples { samples, limit })
}

/// Turns bags that stand sample by sample into bags that stand feature by feature.
fn by_feature(rows: &Jagged, features: usize) -> Jagged {
    let samples = rows.lengths.len() / features;
    let mut starts = Vec::with_capacity(rows.lengths.len());
    let mut start = 0;
    for &length in &rows.lengths {
        starts.push(start);
        start += length as usize;
    }
    let mut columns = Jagged {
        ids: Vec::with_capacity(rows.ids.len()),
        lengths: Vec::with_capacity(rows.lengths.len()),
        weights: rows.weights.as_ref().map(|weights| Vec::with_capacity(weights.len())),
    };
    for feature in 0..features {
        for sample in 0..samples {
            let bag = sample * features + feature;
            let range = starts[bag]..starts[bag] + rows.lengths[bag] as usize;
            columns.lengths.push(rows.lengths[bag]);
            columns.ids.extend_from_slice(&rows.ids[range.clone()]);
            if let (Some(to), Some(from)) = (&mut columns.weights, &rows.weights) {
                to.extend_from_slice(&from[range]);
            }
        }
    }
    columns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_the_inputs_that_are_taken() {
        let mut inputs = Inputs::default();
        let take = |name| Tensor::of_bytes(name, "FP32".into(), vec![0], &[]);
        for input in &INPUTS {
            inputs.add(input.name, take).unwrap();
            let twice = inputs.add(input.name, take).unwrap_err().to_string();
            assert!(twice.contains("given twice"), "{twice}");
        }
        let message = inputs.add("dens", take).unwrap_err().to_string();
        assert!(INPUTS.iter().all(|input| message.contains(&format!("`{}`", input.name))));
    }
}
