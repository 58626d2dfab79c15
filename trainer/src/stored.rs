//! The stored vectors of all features: from a batch to one matrix, and from that matrix's gradient
//! back to rows.

use std::ops::Range;

use mprec_representations::{
    Batch, Combination, DlrmSpec, RepresentationSpec, RowIndex, Schema, TensorSpec, Weights,
    WeightsError,
};
use rayon::prelude::*;

use crate::{
    error::TrainError,
    options::TrainOptions,
    rows::{Averaged, Gradient, RowStep, RowTable},
};

/// All tables of a variant.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) tables: Vec<RowTable>,
    features: Vec<StoredFeature>,
    width: usize,
}

/// Where one feature's stored vector comes from and goes to.
#[derive(Debug)]
struct StoredFeature {
    feature: usize,
    /// First column in the matrix of all stored vectors.
    start: usize,
    dim: usize,
    source: Source,
}

#[derive(Debug, Clone, Copy)]
enum Source {
    /// Sum of rows of this table.
    Table(usize),
    /// Two such sums combined: quotients in this table, remainders in the next.
    Pair(usize, Combination),
}

impl Stored {
    /// Tables of zeros for `spec`.
    pub(crate) fn new(
        schema: &Schema,
        spec: &DlrmSpec,
        options: &TrainOptions,
    ) -> Result<Self, TrainError> {
        Self::build(schema, spec, |tensor, feature, index| {
            let averaged = options.average_from.is_some();
            RowTable::new(tensor, feature, index, &options.rows, averaged)
        })
    }

    /// The tables of a finished variant.
    pub(crate) fn load(
        schema: &Schema,
        spec: &DlrmSpec,
        weights: &Weights,
    ) -> Result<Self, WeightsError> {
        Self::build(schema, spec, |tensor, feature, index| {
            Ok(RowTable::shared(&tensor.name, feature, index, weights.f32(tensor)?))
        })
    }

    fn build<E>(
        schema: &Schema,
        spec: &DlrmSpec,
        table: impl Fn(&TensorSpec, usize, RowIndex) -> Result<RowTable, E>,
    ) -> Result<Self, E> {
        let mut this = Self { tables: Vec::new(), features: Vec::new(), width: 0 };
        for (feature, (representation, sparse)) in
            spec.features.iter().zip(schema.sparse()).enumerate()
        {
            // A hybrid's first tensor is its table.
            let tensors = representation.tensors(feature, sparse.cardinality);
            let first = this.tables.len();
            let source = match *representation {
                RepresentationSpec::Table { .. } | RepresentationSpec::Hybrid { .. } => {
                    this.tables.push(table(&tensors[0], feature, RowIndex::Id)?);
                    Source::Table(first)
                }
                RepresentationSpec::Hash { rows, .. } => {
                    let index = RowIndex::Remainder { divisor: rows };
                    this.tables.push(table(&tensors[0], feature, index)?);
                    Source::Table(first)
                }
                RepresentationSpec::QuotientRemainder { collisions, combination, .. } => {
                    let divisor = collisions;
                    this.tables.push(table(&tensors[0], feature, RowIndex::Quotient { divisor })?);
                    this.tables.push(table(&tensors[1], feature, RowIndex::Remainder { divisor })?);
                    Source::Pair(first, combination)
                }
                RepresentationSpec::Dhe(_)
                | RepresentationSpec::Materialised { .. }
                | RepresentationSpec::Clustered(_) => continue,
            };
            let dim = this.tables[first].dim;
            this.features.push(StoredFeature { feature, start: this.width, dim, source });
            this.width += representation.widths().0.unwrap_or(0);
        }
        Ok(this)
    }

    /// Values per sample of [`Stored::gather`].
    pub(crate) fn width(&self) -> usize {
        self.width
    }

    /// Gives every table its initial rows; `epoch` varies them when rows are renewed. Remainders
    /// that multiply begin around 1, so that products begin where the rows of a table would.
    pub(crate) fn initialise(&mut self, options: &TrainOptions, epoch: u32) {
        let factors: Vec<usize> = self
            .features
            .iter()
            .filter_map(|feature| match feature.source {
                Source::Pair(table, Combination::Mult) => Some(table + 1),
                _ => None,
            })
            .collect();
        for (at, table) in self.tables.iter_mut().enumerate() {
            let centre = if factors.contains(&at) { 1.0 } else { 0.0 };
            let initial = (options.initial_rows, centre);
            let at = [at as u64, u64::from(epoch)];
            table.initialise(initial, options.rows.rule, options.seed, at);
        }
    }

    /// The stored vectors of `samples` of `batch`, `[samples, width]`.
    pub(crate) fn gather(
        &self,
        batch: &Batch,
        samples: Range<usize>,
        averaged: Averaged,
    ) -> Vec<f32> {
        let mut vectors = vec![0.0; samples.len() * self.width];
        for feature in &self.features {
            let bags = batch.bags(feature.feature);
            let (start, dim) = (feature.start, feature.dim);
            match feature.source {
                Source::Table(table) => {
                    for (row, bag) in vectors.chunks_exact_mut(self.width).zip(samples.clone()) {
                        let vector = &mut row[start..start + dim];
                        self.tables[table].add_bag(bags, bag, averaged, vector);
                    }
                }
                Source::Pair(table, combination) => {
                    let mut pair = [vec![0.0; dim], vec![0.0; dim]];
                    for (row, bag) in vectors.chunks_exact_mut(self.width).zip(samples.clone()) {
                        for (sum, table) in pair.iter_mut().zip(&self.tables[table..]) {
                            sum.fill(0.0);
                            table.add_bag(bags, bag, averaged, sum);
                        }
                        let [left, right] = &pair;
                        combine(combination, left, right, &mut row[start..]);
                    }
                }
            }
        }
        vectors
    }

    /// Moves touched rows along `gradient`, that of [`Stored::gather`] for the whole batch. Returns
    /// how many rows were touched.
    pub(crate) fn update(&mut self, batch: &Batch, gradient: &[f32], step: RowStep<'_>) -> usize {
        // What a product passes on depends on both rows, so it is worked out before either moves.
        let mut gradients: Vec<(Vec<f32>, usize)> = Vec::with_capacity(self.tables.len());
        for feature in &self.features {
            match feature.source {
                Source::Table(_) => gradients.push((Vec::new(), feature.start)),
                Source::Pair(_, Combination::Add) => {
                    gradients.extend([(Vec::new(), feature.start), (Vec::new(), feature.start)]);
                }
                Source::Pair(_, Combination::Concat) => {
                    let second = feature.start + feature.dim;
                    gradients.extend([(Vec::new(), feature.start), (Vec::new(), second)]);
                }
                Source::Pair(table, Combination::Mult) => {
                    // The quotient's gradient holds the remainder's values, and the reverse.
                    for other in [table + 1, table] {
                        gradients.push((self.product_gradient(batch, gradient, feature, other), 0));
                    }
                }
            }
        }
        self.tables
            .par_iter_mut()
            .zip(gradients)
            .map(|(table, (own, start))| {
                let bags = batch.bags(table.feature);
                let gradient = if own.is_empty() {
                    Gradient { values: gradient, start, stride: self.width }
                } else {
                    Gradient { values: &own, start, stride: table.dim }
                };
                table.update(bags, gradient, step)
            })
            .sum()
    }

    fn product_gradient(
        &self,
        batch: &Batch,
        gradient: &[f32],
        feature: &StoredFeature,
        other: usize,
    ) -> Vec<f32> {
        let bags = batch.bags(feature.feature);
        let mut own = vec![0.0; batch.samples() * feature.dim];
        for (bag, (own, slope)) in
            own.chunks_exact_mut(feature.dim).zip(gradient.chunks_exact(self.width)).enumerate()
        {
            self.tables[other].add_bag(bags, bag, None, own);
            for (own, slope) in own.iter_mut().zip(&slope[feature.start..]) {
                *own *= slope;
            }
        }
        own
    }
}

fn combine(combination: Combination, left: &[f32], right: &[f32], out: &mut [f32]) {
    let dim = left.len();
    match combination {
        Combination::Concat => {
            out[..dim].copy_from_slice(left);
            out[dim..2 * dim].copy_from_slice(right);
        }
        Combination::Mult => {
            for (at, out) in out[..dim].iter_mut().enumerate() {
                *out = left[at] * right[at];
            }
        }
        Combination::Add => {
            for (at, out) in out[..dim].iter_mut().enumerate() {
                *out = left[at] + right[at];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use mprec_representations::{BatchShape, Interaction, Jagged, SparseFeature};

    use super::*;
    use crate::options::{RowOptimizer, RowRule};

    /// Objective `Σ slope · vectors`: one step of SGD must move each row by minus the rate times
    /// the objective's difference quotient.
    #[test]
    fn rows_follow_the_gradient_of_the_vectors_they_make() {
        let kinds =
            [RepresentationSpec::Table { dim: 2 }, RepresentationSpec::Hash { dim: 2, rows: 3 }]
                .into_iter()
                .chain([Combination::Mult, Combination::Add, Combination::Concat].map(
                    |combination| RepresentationSpec::QuotientRemainder {
                        dim: 2,
                        collisions: 2,
                        combination,
                    },
                ));
        for kind in kinds {
            let sparse = ["a", "b"].map(|name| SparseFeature { name: name.into(), cardinality: 5 });
            let schema = Schema::new(vec!["x".into()], sparse.into(), Default::default()).unwrap();
            let spec = DlrmSpec::uniform(&schema, &kind, Interaction::Cat, &[], &[]);
            let options = TrainOptions {
                rows: RowOptimizer { rule: RowRule::Sgd, learning_rate: 1.0, l2: 0.0 },
                ..TrainOptions::default()
            };
            let jagged = Jagged {
                ids: vec![4, 1, 0, 4, 3, 3, 2],
                lengths: vec![2, 0, 1, 1, 2, 1],
                weights: Some(vec![1.0, -0.5, 2.0, 1.0, 0.5, 1.0, 3.0]),
            };
            let batch = BatchShape::new(&schema).from_jagged(vec![0.0; 3], &jagged).unwrap();
            let mut stored = Stored::new(&schema, &spec, &options).unwrap();
            let initial = crate::InitialRows::Normal { deviation: 1.0 };
            stored.initialise(&TrainOptions { initial_rows: initial, ..options.clone() }, 0);
            let width = stored.width();
            let slopes: Vec<f32> = (0..3 * width).map(|at| (at % 5) as f32 - 2.0).collect();
            let objective = |stored: &Stored| -> f32 {
                stored.gather(&batch, 0..3, None).iter().zip(&slopes).map(|(v, s)| v * s).sum()
            };
            let before: Vec<Vec<f32>> =
                stored.tables.iter().map(|table| table.copy(None)).collect();
            let mut expected = before.clone();
            for table in 0..before.len() {
                for at in 0..before[table].len() {
                    let mut shifted = |by: f32| {
                        stored.tables[table].state()[0].1[at] = before[table][at] + by;
                        objective(&stored)
                    };
                    let slope = (shifted(0.05) - shifted(-0.05)) / 0.1;
                    shifted(0.0);
                    expected[table][at] -= slope;
                }
            }
            let step = RowStep { optimizer: &options.rows, rate: 1.0, averaged: None };
            stored.update(&batch, &slopes, step);
            for (table, expected) in stored.tables.iter().zip(expected) {
                for (got, expected) in table.values().iter().zip(expected) {
                    assert!((got - expected).abs() < 1e-3, "{kind:?}: {got} {expected}");
                }
            }
        }
    }
}
