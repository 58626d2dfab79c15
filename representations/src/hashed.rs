//! Fewer rows than ids: the hash trick, and the quotient–remainder trick that undoes its collisions.

use crate::{
    error::ProgramError,
    op::{Combination, RowIndex},
    program::ProgramBuilder,
    representation::{Cost, Representation, Vectors},
    rows::Rows,
    weights::{TensorSpec, Weights, WeightsError},
};

/// A table in which id `x` has row `x mod rows`, so that ids share rows.
#[derive(Debug)]
pub struct Hashed {
    /// `[min(rows, cardinality), dim]`
    pub rows: Rows,
    /// The divisor.
    pub divisor: u64,
}

impl Hashed {
    /// A feature with fewer ids than `rows` keeps no rows that nothing can pick.
    pub(crate) fn tensors(
        feature: usize,
        cardinality: u64,
        dim: usize,
        rows: u64,
    ) -> Vec<TensorSpec> {
        let rows = rows.min(cardinality) as usize;
        vec![TensorSpec::rows(format!("emb_l.{feature}.weight"), rows, dim)]
    }

    pub(crate) fn load(
        feature: usize,
        cardinality: u64,
        dim: usize,
        rows: u64,
        weights: &Weights,
    ) -> Result<Self, WeightsError> {
        let tensors = Self::tensors(feature, cardinality, dim, rows);
        Ok(Self { rows: weights.rows(&tensors[0])?, divisor: rows })
    }
}

impl Representation for Hashed {
    fn name(&self) -> &'static str {
        "hash"
    }

    fn cost(&self) -> Cost {
        Cost { bytes: self.rows.bytes(), flops_per_id: self.rows.dim() }
    }

    fn lower(&self, feature: usize, program: &mut ProgramBuilder) -> Result<Vectors, ProgramError> {
        let index = RowIndex::Remainder { divisor: self.divisor };
        let stored = program.bag_sum(feature, self.rows.clone(), index)?;
        Ok(Vectors { stored: Some(stored), computed: None })
    }
}

/// Quotient–remainder embedding (Shi et al. 2020, arXiv 1909.02107): every id has its own pair of
/// rows, one from each of two small tables.
///
/// A bag is summed in each table first and the sums are combined, as `facebookresearch/dlrm` does.
/// For bags of several ids and [`Combination::Mult`] that is not the sum of the products.
#[derive(Debug)]
pub struct QuotientRemainder {
    /// `[⌈cardinality / collisions⌉, dim]`
    pub quotients: Rows,
    /// `[collisions, dim]`
    pub remainders: Rows,
    /// Ids that share a quotient row.
    pub collisions: u64,
    /// How the two rows become one.
    pub combination: Combination,
}

impl QuotientRemainder {
    pub(crate) fn tensors(
        feature: usize,
        cardinality: u64,
        dim: usize,
        collisions: u64,
    ) -> Vec<TensorSpec> {
        // A divisor of zero is refused by the program; here it must only not panic.
        let quotients = cardinality.div_ceil(collisions.max(1)) as usize;
        vec![
            TensorSpec::rows(format!("emb_l.{feature}.weight_q"), quotients, dim),
            TensorSpec::rows(format!("emb_l.{feature}.weight_r"), collisions as usize, dim),
        ]
    }

    pub(crate) fn load(
        feature: usize,
        cardinality: u64,
        (dim, collisions, combination): (usize, u64, Combination),
        weights: &Weights,
    ) -> Result<Self, WeightsError> {
        let tensors = Self::tensors(feature, cardinality, dim, collisions);
        Ok(Self {
            quotients: weights.rows(&tensors[0])?,
            remainders: weights.rows(&tensors[1])?,
            collisions,
            combination,
        })
    }
}

impl Representation for QuotientRemainder {
    fn name(&self) -> &'static str {
        "quotient_remainder"
    }

    fn cost(&self) -> Cost {
        Cost {
            bytes: self.quotients.bytes() + self.remainders.bytes(),
            flops_per_id: 3 * self.quotients.dim(),
        }
    }

    fn lower(&self, feature: usize, program: &mut ProgramBuilder) -> Result<Vectors, ProgramError> {
        let divisor = self.collisions;
        let quotient =
            program.bag_sum(feature, self.quotients.clone(), RowIndex::Quotient { divisor })?;
        let remainder =
            program.bag_sum(feature, self.remainders.clone(), RowIndex::Remainder { divisor })?;
        let stored = program.combine(self.combination, quotient, remainder)?;
        Ok(Vectors { stored: Some(stored), computed: None })
    }
}
