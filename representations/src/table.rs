//! One row per id: the embedding table as it was trained.

use crate::{
    error::ProgramError,
    op::RowIndex,
    program::ProgramBuilder,
    representation::{Cost, Representation, Vectors},
    rows::Rows,
    weights::{TensorSpec, Weights, WeightsError},
};

/// A table with a row for every id.
#[derive(Debug)]
pub struct Table {
    /// `[cardinality, dim]`
    pub rows: Rows,
}

impl Table {
    pub(crate) fn tensors(feature: usize, cardinality: u64, dim: usize) -> Vec<TensorSpec> {
        vec![TensorSpec::rows(format!("emb_l.{feature}.weight"), cardinality as usize, dim)]
    }

    pub(crate) fn load(
        feature: usize,
        cardinality: u64,
        dim: usize,
        weights: &Weights,
    ) -> Result<Self, WeightsError> {
        Ok(Self { rows: weights.rows(&Self::tensors(feature, cardinality, dim)[0])? })
    }
}

impl Representation for Table {
    fn name(&self) -> &'static str {
        "table"
    }

    fn cost(&self) -> Cost {
        Cost { bytes: self.rows.bytes(), flops_per_id: self.rows.dim() }
    }

    fn lower(&self, feature: usize, program: &mut ProgramBuilder) -> Result<Vectors, ProgramError> {
        let stored = program.bag_sum(feature, self.rows.clone(), RowIndex::Id)?;
        Ok(Vectors { stored: Some(stored), computed: None })
    }
}
