//! The nearest of some centroids instead of a DHE's decoder (MP-Rec's decoder cache): cheaper, and not the same.
//!
//! 1. **Encode** as the DHE does.
//! 2. **Pick** the centroid whose direction has the largest product with the code, the first of equals.
//! 3. Its **stored vector** is the id's.
//!
//! Where the code of every id is a centroid, nothing changes, unless two of them have the same direction. Otherwise ids
//! that share a centroid become one. Codes say nothing of what ids have in common, so that the more ids share centroids,
//! the more a model forgets.

mod clustering;
mod k_means;
#[cfg(test)]
mod tests;

pub use clustering::Clustering;
pub(crate) use clustering::check_centroids;
use serde::{Deserialize, Serialize};

use crate::{
    dhe::HashFamily,
    error::ProgramError,
    layer::LayerWeights,
    op::{Activation, Transform},
    program::ProgramBuilder,
    representation::{Cost, Representation, Vectors},
    table::Table,
    tensor::Tensor,
    weights::{TensorSpec, Weights, WeightsError},
};

/// Centroids without their parameters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusteredSpec {
    /// Number of hashes, k.
    pub hashes: usize,
    /// How hash values become floats.
    #[serde(default)]
    pub transform: Transform,
    /// How many centroids there are, N.
    pub centroids: usize,
    /// Width of the vector.
    pub dim: usize,
    /// Width of the table beside it, if it was a hybrid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beside: Option<usize>,
}

impl ClusteredSpec {
    pub(crate) fn tensors(&self, feature: usize, cardinality: u64) -> Vec<TensorSpec> {
        let Self { hashes, centroids, dim, beside, .. } = *self;
        let mut tensors =
            beside.map_or(Vec::new(), |beside| Table::tensors(feature, cardinality, beside));
        // The layer's bias is zero and not stored.
        let [directions, _] = TensorSpec::layer(&centroids_name(feature), centroids, hashes);
        tensors.extend([
            HashFamily::tensor(feature, hashes),
            directions,
            TensorSpec::f32(vectors_name(feature), &[centroids, dim]),
        ]);
        tensors
    }
}

/// Centroids of a DHE's codes with a vector each, and the table of a hybrid beside them.
#[derive(Debug)]
pub struct Clustered {
    /// The stored half of a hybrid.
    pub table: Option<Table>,
    /// The encoder.
    pub family: HashFamily,
    /// Its transform.
    pub transform: Transform,
    /// `[N, k]`: directions, of length 1.
    pub centroids: LayerWeights,
    /// `[N, dim]`
    pub vectors: Tensor<f32>,
}

impl Clustered {
    pub(crate) fn load(
        feature: usize,
        cardinality: u64,
        spec: &ClusteredSpec,
        weights: &Weights,
    ) -> Result<Self, WeightsError> {
        let table = spec.beside.map(|beside| Table::load(feature, cardinality, beside, weights));
        let own = ClusteredSpec { beside: None, ..spec.clone() }.tensors(feature, cardinality);
        Ok(Self {
            table: table.transpose()?,
            family: HashFamily::load(feature, spec.hashes, weights)?,
            transform: spec.transform,
            centroids: weights.layer(&own[1])?,
            vectors: weights.f32(&own[2])?,
        })
    }
}

impl Representation for Clustered {
    fn name(&self) -> &'static str {
        "clustered"
    }

    fn cost(&self) -> Cost {
        let products = 2 * self.centroids.outputs() * self.centroids.inputs();
        let computed = Cost {
            bytes: self.centroids.bytes() + self.vectors.bytes(),
            flops_per_id: products + self.centroids.outputs(),
        };
        let computed = self.family.cost(self.transform) + computed;
        self.table.as_ref().map_or(computed, |table| table.cost() + computed)
    }

    fn lower(&self, feature: usize, program: &mut ProgramBuilder) -> Result<Vectors, ProgramError> {
        let stored = match &self.table {
            Some(table) => table.lower(feature, program)?.stored,
            None => None,
        };
        let code = program.hash_encode(feature, self.family.clone(), self.transform)?;
        let count = self.centroids.outputs();
        let none = Tensor::new(&[count], vec![0.0; count]);
        let products = program.linear(code, self.centroids.clone(), none, Activation::None)?;
        let vectors = program.pick_largest(products, self.vectors.clone())?;
        Ok(Vectors { stored, computed: Some(program.bag_reduce(vectors)?) })
    }
}

fn centroids_name(feature: usize) -> String {
    format!("dhe_l.centroids.{feature}")
}

fn vectors_name(feature: usize) -> String {
    format!("dhe_l.centroids.{feature}.vectors")
}
