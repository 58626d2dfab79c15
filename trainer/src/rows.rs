//! Stored vectors: one table of rows, and how touched rows follow their gradient.

use mprec_representations::{self as model, Bags, RowIndex};
use rand_distr::{Distribution, StandardNormal, Uniform};
use rayon::prelude::*;

use crate::{
    error::TrainError,
    options::{InitialRows, RowOptimizer, RowRule},
    random::{Purpose, stream},
};

/// Rows that one random stream fills, so that threads can share the work.
const ROWS_PER_STREAM: usize = 1 << 14;

/// The rows of one tensor, and what the optimiser remembers of them.
#[derive(Debug)]
pub(crate) struct RowTable {
    /// The tensor's name in a bundle.
    pub(crate) name: String,
    /// The sparse feature whose ids pick rows.
    pub(crate) feature: usize,
    /// How they do.
    pub(crate) index: RowIndex,
    /// Values per row.
    pub(crate) dim: usize,
    values: Values,
    /// Accumulator of each row, for row-wise Adagrad.
    squares: Vec<f32>,
    /// For averaging: `Σ (j - 1)·Δⱼ` over averaged steps j = 1, 2, … with their changes Δⱼ. Then
    /// the mean of the values after steps 1 to n is `values - drift / n`, without touching a row
    /// when nothing changes it.
    drift: Vec<f32>,
}

#[derive(Debug, Clone)]
enum Values {
    Owned(Vec<f32>),
    /// A finished variant's, for scoring.
    Shared(model::Tensor<f32>),
}

/// Which mean of the rows to read: that over this many steps, or none.
pub(crate) type Averaged = Option<u64>;

/// One step's change of a table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowStep<'a> {
    pub(crate) optimizer: &'a RowOptimizer,
    /// Learning rate with the schedule's factor.
    pub(crate) rate: f32,
    /// This is averaged step number j, if any.
    pub(crate) averaged: Averaged,
}

/// Gradient of the vectors of one feature: row `bag` is `values[bag * stride + start..][..dim]`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gradient<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) start: usize,
    pub(crate) stride: usize,
}

impl RowTable {
    /// A table of zeros.
    pub(crate) fn new(
        tensor: &model::TensorSpec,
        feature: usize,
        index: RowIndex,
        optimizer: &RowOptimizer,
        averaged: bool,
    ) -> Result<Self, TrainError> {
        let (rows, dim) = (tensor.shape[0], tensor.shape[1]);
        let count = rows as u128 * dim as u128;
        let squares = match optimizer.rule {
            RowRule::Sgd => 0,
            RowRule::RowWiseAdagrad { .. } => rows,
        };
        let name = &tensor.name;
        // Rows are numbered in 32 bits while a step sorts them.
        if u32::try_from(rows).is_err() {
            return Err(TrainError::Memory { tensor: name.clone(), bytes: count * 4 });
        }
        Ok(Self {
            name: name.clone(),
            feature,
            index,
            dim,
            values: Values::Owned(zeros(name, count)?),
            squares: zeros(name, squares as u128)?,
            drift: zeros(name, if averaged { count } else { 0 })?,
        })
    }

    /// A finished table.
    pub(crate) fn shared(
        name: &str,
        feature: usize,
        index: RowIndex,
        values: model::Tensor<f32>,
    ) -> Self {
        Self {
            name: name.into(),
            feature,
            index,
            dim: values.width(),
            values: Values::Shared(values),
            squares: Vec::new(),
            drift: Vec::new(),
        }
    }

    /// Fills the rows at random around `centre` and forgets what the optimiser knew.
    pub(crate) fn initialise(
        &mut self,
        (initial, centre): (InitialRows, f32),
        rule: RowRule,
        seed: u64,
        at: [u64; 2],
    ) {
        let dim = self.dim;
        let rows = self.rows();
        let values = self.owned();
        values.par_chunks_mut(ROWS_PER_STREAM * dim).enumerate().for_each(|(chunk, values)| {
            let mut random = stream(seed, Purpose::Rows, &[at[0], at[1], chunk as u64]);
            match initial {
                InitialRows::UniformByRows => {
                    let bound = (1.0 / rows as f32).sqrt();
                    let uniform = Uniform::new_inclusive(centre - bound, centre + bound)
                        .expect("bounds are finite and in order");
                    values.fill_with(|| uniform.sample(&mut random));
                }
                InitialRows::Normal { deviation } => values.fill_with(|| {
                    let value: f32 = StandardNormal.sample(&mut random);
                    centre + value * deviation as f32
                }),
            }
        });
        if let RowRule::RowWiseAdagrad { initial, .. } = rule {
            self.squares.fill(initial as f32);
        }
        self.drift.fill(0.0);
    }

    /// Number of rows.
    pub(crate) fn rows(&self) -> usize {
        self.values().len() / self.dim
    }

    /// All rows, as they are now.
    pub(crate) fn values(&self) -> &[f32] {
        match &self.values {
            Values::Owned(values) => values,
            Values::Shared(tensor) => tensor.as_slice(),
        }
    }

    fn owned(&mut self) -> &mut Vec<f32> {
        if let Values::Shared(tensor) = &self.values {
            self.values = Values::Owned(tensor.as_slice().to_vec());
        }
        match &mut self.values {
            Values::Owned(values) => values,
            Values::Shared(_) => unreachable!("shared values were copied above"),
        }
    }

    /// Everything that a checkpoint holds, with the suffix of its name.
    pub(crate) fn state(&mut self) -> [(&'static str, &mut Vec<f32>); 3] {
        self.owned();
        let Values::Owned(values) = &mut self.values else {
            unreachable!("values are owned after `owned`")
        };
        [("", values), (".squares", &mut self.squares), (".drift", &mut self.drift)]
    }

    /// Adds the rows of one bag's ids, each times its weight, to `sum`.
    pub(crate) fn add_bag(&self, bags: Bags<'_>, bag: usize, averaged: Averaged, sum: &mut [f32]) {
        let values = self.values();
        for at in bags.range(bag) {
            let weight = bags.weights().map_or(1.0, |weights| weights[at]);
            let start = self.index.row(bags.ids()[at]) as usize * self.dim;
            for (sum, value) in sum.iter_mut().zip(&values[start..start + self.dim]) {
                *sum += weight * value;
            }
            if let Some(steps) = averaged {
                let share = weight / steps as f32;
                for (sum, drift) in sum.iter_mut().zip(&self.drift[start..start + self.dim]) {
                    *sum -= share * drift;
                }
            }
        }
    }

    /// Moves every row that the bags pick along its gradient, and no other. Returns their number.
    pub(crate) fn update(
        &mut self,
        bags: Bags<'_>,
        gradient: Gradient<'_>,
        step: RowStep<'_>,
    ) -> usize {
        // Row in the upper half and position in the lower, so that sorting groups the uses of a
        // row, in an order that is the same on every run.
        let mut uses: Vec<u64> = bags
            .ids()
            .iter()
            .enumerate()
            .map(|(at, &id)| self.index.row(id) << 32 | at as u64)
            .collect();
        uses.sort_unstable();
        let bag_of: Vec<u32> = if bags.is_one_hot() {
            Vec::new()
        } else {
            (0..bags.len()).flat_map(|bag| bags.range(bag).map(move |_| bag as u32)).collect()
        };
        let mut sum = vec![0.0_f32; self.dim];
        let mut touched = 0;
        for run in uses.chunk_by(|left, right| left >> 32 == right >> 32) {
            sum.fill(0.0);
            for one in run {
                let at = (one & u64::from(u32::MAX)) as usize;
                let bag = if bag_of.is_empty() { at } else { bag_of[at] as usize };
                let weight = bags.weights().map_or(1.0, |weights| weights[at]);
                let start = bag * gradient.stride + gradient.start;
                for (sum, slope) in sum.iter_mut().zip(&gradient.values[start..]) {
                    *sum += weight * slope;
                }
            }
            self.move_row((run[0] >> 32) as usize, &mut sum, step);
            touched += 1;
        }
        touched
    }

    fn move_row(&mut self, row: usize, slope: &mut [f32], step: RowStep<'_>) {
        let range = row * self.dim..(row + 1) * self.dim;
        let Values::Owned(values) = &mut self.values else {
            unreachable!("only tables made for training are updated")
        };
        let values = &mut values[range.clone()];
        if step.optimizer.l2 > 0.0 {
            for (slope, value) in slope.iter_mut().zip(&*values) {
                *slope += step.optimizer.l2 as f32 * value;
            }
        }
        let scale = match step.optimizer.rule {
            RowRule::Sgd => step.rate,
            RowRule::RowWiseAdagrad { epsilon, .. } => {
                let mean = slope.iter().map(|slope| slope * slope).sum::<f32>() / self.dim as f32;
                self.squares[row] += mean;
                step.rate / (self.squares[row].sqrt() + epsilon as f32)
            }
        };
        for (value, slope) in values.iter_mut().zip(&*slope) {
            *value -= scale * slope;
        }
        if let Some(averaged) = step.averaged {
            let weight = scale * (averaged - 1) as f32;
            for (drift, slope) in self.drift[range].iter_mut().zip(&*slope) {
                *drift -= weight * slope;
            }
        }
    }

    /// The rows, averaged if asked; the table is empty afterwards.
    pub(crate) fn take(&mut self, averaged: Averaged) -> Vec<f32> {
        let mut values = std::mem::take(self.owned());
        let drift = std::mem::take(&mut self.drift);
        if let Some(steps) = averaged {
            subtract(&mut values, &drift, steps);
        }
        values
    }

    /// A copy of the rows, averaged if asked.
    pub(crate) fn copy(&self, averaged: Averaged) -> Vec<f32> {
        let mut values = self.values().to_vec();
        if let Some(steps) = averaged {
            subtract(&mut values, &self.drift, steps);
        }
        values
    }
}

fn subtract(values: &mut [f32], drift: &[f32], steps: u64) {
    for (value, drift) in values.iter_mut().zip(drift) {
        *value -= 1.0 / steps as f32 * drift;
    }
}

/// `count` zeros, or an error where `vec!` would end the process.
fn zeros(tensor: &str, count: u128) -> Result<Vec<f32>, TrainError> {
    let error = || TrainError::Memory { tensor: tensor.into(), bytes: count * 4 };
    let length = usize::try_from(count).map_err(|_| error())?;
    let mut values = Vec::new();
    values.try_reserve_exact(length).map_err(|_| error())?;
    values.resize(length, 0.0);
    Ok(values)
}

#[cfg(test)]
mod tests {
    use mprec_representations::{BatchShape, Jagged, Schema, SparseFeature, TensorSpec};

    use super::*;

    const ADAGRAD: RowOptimizer = RowOptimizer {
        rule: RowRule::RowWiseAdagrad { initial: 0.0, epsilon: 1e-8 },
        learning_rate: 0.5,
        l2: 0.0,
    };

    fn table(rows: usize, optimizer: &RowOptimizer, averaged: bool) -> RowTable {
        let tensor = TensorSpec::f32("rows", &[rows, 2]);
        RowTable::new(&tensor, 0, RowIndex::Id, optimizer, averaged).unwrap()
    }

    fn batch(ids: &[i64]) -> model::Batch {
        let sparse = vec![SparseFeature { name: "a".into(), cardinality: 1 << 20 }];
        let schema = Schema::new(vec!["x".into()], sparse, Default::default()).unwrap();
        BatchShape::new(&schema).from_rows(vec![0.0; ids.len()], ids).unwrap()
    }

    fn step(optimizer: &RowOptimizer, averaged: Averaged) -> RowStep<'_> {
        RowStep { optimizer, rate: optimizer.learning_rate as f32, averaged }
    }

    #[test]
    fn adagrad_follows_its_formula_on_summed_gradients() {
        let mut table = table(4, &ADAGRAD, false);
        let batch = batch(&[2, 1, 2]);
        let values = [1.0, 2.0, 0.5, 0.0, 2.0, 2.0];
        let gradient = Gradient { values: &values, start: 0, stride: 2 };
        assert_eq!(table.update(batch.bags(0), gradient, step(&ADAGRAD, None)), 2);
        // Row 2 has gradient (3, 4), G = 12.5; row 1 has (0.5, 0), G = 0.125.
        let expected = [
            0.0,
            0.0,
            -0.5 * 0.5 / 0.125_f32.sqrt(),
            0.0,
            -1.5 / 12.5_f32.sqrt(),
            -2.0 / 12.5_f32.sqrt(),
        ];
        for (got, expected) in table.values().iter().zip(expected) {
            assert!((got - expected).abs() < 1e-6, "{got} {expected}");
        }
        assert_eq!(table.squares, [0.0, 0.125, 12.5, 0.0]);
    }

    #[test]
    fn bags_weights_and_decay_reach_the_rows() {
        let sparse = vec![SparseFeature { name: "a".into(), cardinality: 4 }];
        let schema = Schema::new(vec!["x".into()], sparse, Default::default()).unwrap();
        let jagged =
            Jagged { ids: vec![3, 3, 0], lengths: vec![0, 3], weights: Some(vec![1.0, 0.5, 2.0]) };
        let batch = BatchShape::new(&schema).from_jagged(vec![0.0; 2], &jagged).unwrap();
        let sgd = RowOptimizer { rule: RowRule::Sgd, learning_rate: 1.0, l2: 0.1 };
        let mut table = table(4, &sgd, false);
        table.owned()[6] = 10.0;
        let values = [9.0, 9.0, 9.0, 9.0, 1.0, 2.0];
        let gradient = Gradient { values: &values, start: 1, stride: 3 };
        assert_eq!(table.update(batch.bags(0), gradient, step(&sgd, None)), 2);
        assert_eq!(table.values()[..2], [-2.0, -4.0]);
        assert_eq!(table.values()[6..], [10.0 - 1.5 - 1.0, -3.0]);
    }

    #[test]
    fn the_average_is_that_of_the_values_after_each_step() {
        let mut table = table(3, &ADAGRAD, true);
        let mut sums = [0.0_f32; 6];
        for (at, ids) in [[0, 1], [1, 1], [2, 0]].iter().enumerate() {
            let averaged = Some(at as u64 + 1);
            let values = [1.0, -0.5, at as f32, 0.25];
            let gradient = Gradient { values: &values, start: 0, stride: 2 };
            table.update(batch(ids).bags(0), gradient, step(&ADAGRAD, averaged));
            for (sum, value) in sums.iter_mut().zip(table.values()) {
                *sum += value;
            }
        }
        for (average, sum) in table.copy(Some(3)).iter().zip(sums) {
            assert!((average - sum / 3.0).abs() < 1e-6);
        }
        let mut bag = [0.0; 2];
        table.add_bag(batch(&[1]).bags(0), 0, Some(3), &mut bag);
        assert!((bag[0] - sums[2] / 3.0).abs() < 1e-6);
        assert_eq!(table.copy(Some(3)), table.take(Some(3)));
    }

    #[test]
    fn a_step_reads_and_writes_touched_rows_only() {
        // Rows that nothing touches hold NaN, which any read or write would spread or remove.
        for rows in [1_000, 100_000] {
            let mut table = table(rows, &ADAGRAD, true);
            let touched = [3_usize, 77, 500];
            for row in 0..rows {
                if !touched.contains(&row) {
                    table.owned()[row * 2..][..2].fill(f32::NAN);
                    table.squares[row] = f32::NAN;
                }
            }
            let values = [1.0; 8];
            let gradient = Gradient { values: &values, start: 0, stride: 2 };
            let count =
                table.update(batch(&[3, 77, 500, 3]).bags(0), gradient, step(&ADAGRAD, Some(2)));
            assert_eq!(count, 3);
            for row in 0..rows {
                let kept = touched.contains(&row);
                assert_eq!(table.values()[row * 2].is_finite(), kept);
                assert_eq!(table.squares[row].is_finite(), kept);
                assert_eq!(table.drift[row * 2] != 0.0, kept);
            }
        }
    }

    #[test]
    fn initial_rows_have_the_distribution_asked_for_whatever_the_threads() {
        let mut table = table(40_000, &ADAGRAD, false);
        let rule = ADAGRAD.rule;
        table.initialise((InitialRows::Normal { deviation: 0.05 }, 0.0), rule, 1, [0, 0]);
        let variance = table.values().iter().map(|value| value * value).sum::<f32>() / 80_000.0;
        assert!((variance.sqrt() - 0.05).abs() < 0.001);
        let first = table.copy(None);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        pool.install(|| {
            table.initialise((InitialRows::Normal { deviation: 0.05 }, 0.0), rule, 1, [0, 0]);
        });
        assert_eq!(first, table.values());
        table.initialise((InitialRows::UniformByRows, 0.0), rule, 1, [0, 0]);
        let most = table.values().iter().fold(0.0_f32, |most, value| most.max(value.abs()));
        assert!((0.0049..=0.005).contains(&most));
    }

    #[test]
    fn a_table_beyond_memory_is_an_error() {
        let tensor = TensorSpec::f32("huge", &[1 << 31, 1 << 20]);
        let error = RowTable::new(&tensor, 0, RowIndex::Id, &ADAGRAD, false).unwrap_err();
        assert!(matches!(error, TrainError::Memory { tensor, .. } if tensor == "huge"));
    }
}
