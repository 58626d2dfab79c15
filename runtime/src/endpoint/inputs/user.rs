//! One user and many candidates: what is the user's is sent once.
//!
//! With the parameter `user_features`, names of sparse features with commas between them:
//!
//! | Name | Datatype | Shape | |
//! |---|---|---|---|
//! | `dense` | FP32 | `[1, D]` or `[n, D]` | one row for all candidates, or one for each |
//! | `user_sparse` | INT64 | `[1, U]` | an id for each of the named features, in the order of the names |
//! | `sparse` | INT64 | `[n, F − U]` | the ids of the other features, in the schema's order |
//!
//! It means what it means in plain form, with the user's values repeated for every candidate.

use std::{collections::HashMap, sync::Arc};

use mprec_representations::{GroupedBatch, Schema, Sharing};

use super::{DENSE, Inputs, LENGTHS, SPARSE, USER_SPARSE, WEIGHTS, count, missing};
use crate::{
    endpoint::{error::ApiError, parameters::USER_FEATURES, tensor::bad_input},
    service::Model,
};

impl Inputs<'_> {
    /// Compares the inputs with the model and makes the batch, given the names of the user's features.
    pub(super) fn of_user(self, names: &str, model: &Model) -> Result<GroupedBatch, ApiError> {
        for (name, given) in [(LENGTHS, &self.lengths), (WEIGHTS, &self.weights)] {
            if given.is_some() {
                return Err(bad_input(
                    name,
                    "cannot be given with `user_features`, where every feature has one id; send the plain form",
                ));
            }
        }
        let (shared, order) = columns(names, &model.schema)?;
        let dense = self.dense.ok_or_else(|| missing(DENSE))?;
        let user = self.user.ok_or_else(|| missing(USER_SPARSE))?;
        let sparse = self.sparse.ok_or_else(|| missing(SPARSE))?;

        let samples = sparse.shape.first().copied().unwrap_or_default();
        sparse.expect_shape(&[samples, shared.len() - order.len()])?;
        let group = count(samples, model, &sparse)?;
        user.expect_shape(&[1, order.len()])?;
        let width = model.shape.dense_width();
        let shares_dense = dense.shape == [1, width];
        if !shares_dense {
            dense.expect_shape(&[samples, width])?;
        }
        let given = user.integers()?;
        let ids: Vec<i64> = order.iter().map(|&at| given[at]).collect();
        let sharing = Arc::new(Sharing::new(&shared, shares_dense));
        let (dense, sparse) = (dense.floats()?, sparse.integers()?);
        Ok(GroupedBatch::from_rows(&model.shape, sharing, &[group], dense, &ids, &sparse)?)
    }
}

/// Longest list of names, in bytes: room for thousands of usual ones.
const MAX_NAMES_BYTES: usize = 64 << 10;

/// Whether each feature of the schema is the user's, and for those that are, in the schema's order, where each stands
/// among the names.
fn columns(names: &str, schema: &Schema) -> Result<(Vec<bool>, Vec<usize>), ApiError> {
    let bad = |problem| ApiError::BadParameter { name: USER_FEATURES.to_owned(), problem };
    if names.len() > MAX_NAMES_BYTES {
        return Err(bad(format!(
            "has {} bytes; at most {MAX_NAMES_BYTES} are allowed",
            names.len()
        )));
    }
    let features = schema.sparse().len();
    let mut places = HashMap::new();
    for (at, name) in names.split(',').map(str::trim).enumerate() {
        if at == features {
            return Err(bad(format!("has more names than the model's {features} sparse features")));
        }
        if places.insert(name, at).is_some() {
            return Err(bad(format!("names `{name}` twice")));
        }
    }
    let mut order = Vec::with_capacity(places.len());
    let mut find = |name: &str| {
        let place = places.remove(name);
        order.extend(place);
        place.is_some()
    };
    let shared = schema.sparse().iter().map(|feature| find(&feature.name)).collect();
    match places.into_iter().min_by_key(|&(_, at)| at) {
        None => Ok((shared, order)),
        Some((name, _)) => {
            Err(bad(format!("names `{name}`, which is no sparse feature of the model")))
        }
    }
}

#[cfg(test)]
mod tests {
    use mprec_representations::SparseFeature;

    use super::*;

    #[test]
    fn names_become_columns_in_the_schemas_order() {
        let sparse =
            ["a", "b", "c"].map(|name| SparseFeature { name: name.into(), cardinality: 5 });
        let schema = Schema::new(vec!["x".into()], sparse.into(), Default::default()).unwrap();
        assert_eq!(columns("c, a", &schema).unwrap(), (vec![true, false, true], vec![1, 0]));
        assert_eq!(columns("b", &schema).unwrap(), (vec![false, true, false], vec![0]));
        for (names, word) in [
            ("a,a", "`a` twice"),
            ("a,d,e", "`d`"),
            ("", "``"),
            ("a,", "``"),
            ("A", "`A`"),
            ("a,b,c,d", "more names than the model's 3"),
            ("d,e,f,g,h", "more names"),
        ] {
            let message = columns(names, &schema).unwrap_err().to_string();
            assert!(message.contains(word), "{message}");
        }
        let longest = format!("a,{}b", " ".repeat(MAX_NAMES_BYTES - 3));
        assert_eq!(columns(&longest, &schema).unwrap().1, [0, 1]);
        let message = columns(&format!("{longest} "), &schema).unwrap_err().to_string();
        assert!(message.contains("65537 bytes; at most 65536"), "{message}");
    }
}
