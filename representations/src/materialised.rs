//! A DHE's vectors, computed once for every id and kept as rows: its quality at a table's speed.
//!
//! A trained DHE is a function of the id alone, so nothing is approximated. The rows stand where the computed
//! vector stood, behind all stored ones, because that is the order to which the top net was trained.

use crate::{
    dhe::replace_dhes,
    dlrm::{DlrmSpec, ModelError},
    error::ProgramError,
    op::RowIndex,
    program::ProgramBuilder,
    representation::{Cost, Representation, RepresentationSpec, Vectors},
    rows::Rows,
    schema::Schema,
    table::Table,
    tensor::Tensor,
    weights::{TensorSpec, Weights, WeightsError},
};

/// Rows instead of a DHE, and the table of a hybrid beside them.
#[derive(Debug)]
pub struct Materialised {
    /// The stored half of a hybrid.
    pub table: Option<Table>,
    /// `[cardinality, dim]`: what the DHE computed.
    pub rows: Rows,
}

impl Materialised {
    pub(crate) fn tensors(
        feature: usize,
        cardinality: u64,
        dim: usize,
        beside: Option<usize>,
    ) -> Vec<TensorSpec> {
        let mut tensors =
            beside.map_or(Vec::new(), |beside| Table::tensors(feature, cardinality, beside));
        tensors.push(TensorSpec::rows(rows_name(feature), cardinality as usize, dim));
        tensors
    }

    pub(crate) fn load(
        feature: usize,
        cardinality: u64,
        dim: usize,
        beside: Option<usize>,
        weights: &Weights,
    ) -> Result<Self, WeightsError> {
        let table = beside.map(|beside| Table::load(feature, cardinality, beside, weights));
        let rows = TensorSpec::rows(rows_name(feature), cardinality as usize, dim);
        Ok(Self { table: table.transpose()?, rows: weights.rows(&rows)? })
    }
}

impl Representation for Materialised {
    fn name(&self) -> &'static str {
        "materialised"
    }

    fn cost(&self) -> Cost {
        let rows = Cost { bytes: self.rows.bytes(), flops_per_id: self.rows.dim() };
        self.table.as_ref().map_or(rows, |table| table.cost() + rows)
    }

    fn lower(&self, feature: usize, program: &mut ProgramBuilder) -> Result<Vectors, ProgramError> {
        let stored = match &self.table {
            Some(table) => table.lower(feature, program)?.stored,
            None => None,
        };
        let computed = program.bag_sum(feature, self.rows.clone(), RowIndex::Id)?;
        Ok(Vectors { stored, computed: Some(computed) })
    }
}

/// The architecture and the parameters of `spec` with every DHE replaced by rows. `vectors` gives what the DHE of a
/// feature computes for its ids from 0 on, `[cardinality, dim]`.
///
/// # Errors
///
/// What `vectors` fails with; or a [`ModelError`] when there is no DHE, or tensors are not those of the architecture.
pub fn materialise<E: From<ModelError>>(
    schema: &Schema,
    spec: &DlrmSpec,
    weights: &Weights,
    mut vectors: impl FnMut(usize) -> Result<Tensor<f32>, E>,
) -> Result<(DlrmSpec, Weights), E> {
    let purpose = "for materialising";
    replace_dhes(schema, spec, weights, purpose, |feature, dhe, beside, rows| {
        rows.insert(rows_name(feature), vectors(feature)?);
        Ok(RepresentationSpec::Materialised { dim: dhe.dim, beside })
    })
}

fn rows_name(feature: usize) -> String {
    format!("dhe_l.rows.{feature}")
}
