//! Dense features shifted and scaled to mean 0 and variance 1.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::{error::TrainError, examples::Examples};

/// Rows from which mean and deviation are estimated, in runs spread evenly over all rows. Their
/// error is then below a hundredth of a deviation.
const ROWS: usize = 1 << 17;
const RUN: usize = 1 << 10;

/// Mean and standard deviation of every dense feature.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Standardisation {
    mean: Vec<f32>,
    deviation: Vec<f32>,
}

impl Standardisation {
    /// Measures `rows`. A feature that never varies keeps a deviation of 1.
    pub(crate) fn measure(examples: &dyn Examples, rows: Range<usize>) -> Result<Self, TrainError> {
        let width = examples.schema().dense().len();
        let runs = rows.len().div_ceil(RUN);
        let step = runs.div_ceil(ROWS / RUN).max(1);
        let (mut sums, mut squares, mut count) = (vec![0.0_f64; width], vec![0.0_f64; width], 0.0);
        let mut origin: Option<Vec<f64>> = None;
        for run in (0..runs).step_by(step) {
            let start = rows.start + run * RUN;
            let indices: Vec<usize> = (start..rows.end.min(start + RUN)).collect();
            let (batch, _) = examples.gather(&indices).map_err(TrainError::Examples)?;
            for row in batch.dense().chunks_exact(width) {
                // Sums of differences from the first row: large values do not cancel.
                let origin =
                    origin.get_or_insert_with(|| row.iter().copied().map(f64::from).collect());
                for (at, &value) in row.iter().enumerate() {
                    let value = f64::from(value) - origin[at];
                    sums[at] += value;
                    squares[at] += value * value;
                }
                count += 1.0;
            }
        }
        let origin = origin.unwrap_or_else(|| vec![0.0; width]);
        let mut this = Self { mean: Vec::new(), deviation: Vec::new() };
        for at in 0..width {
            let mean = sums[at] / count;
            let deviation = (squares[at] / count - mean * mean).max(0.0).sqrt();
            this.mean.push((origin[at] + mean) as f32);
            this.deviation.push(if deviation > 1e-6 { deviation as f32 } else { 1.0 });
        }
        Ok(this)
    }

    /// Applies it to rows of dense values.
    pub(crate) fn apply(&self, values: &mut [f32]) {
        for row in values.chunks_exact_mut(self.mean.len()) {
            for (at, value) in row.iter_mut().enumerate() {
                *value = (*value - self.mean[at]) / self.deviation[at];
            }
        }
    }

    /// Changes a layer's weight `[out, in]` and bias `[out]`, so that it gives on raw values what
    /// it gave on standardised ones: `W·(x - μ)/σ + b = (W/σ)·x + (b - (W/σ)·μ)`.
    pub(crate) fn fold(&self, weight: &mut [f32], bias: &mut [f32]) {
        for (row, bias) in weight.chunks_exact_mut(self.mean.len()).zip(bias) {
            let mut shift = 0.0;
            for (at, weight) in row.iter_mut().enumerate() {
                *weight /= self.deviation[at];
                shift += f64::from(*weight) * f64::from(self.mean[at]);
            }
            *bias = (f64::from(*bias) - shift) as f32;
        }
    }
}

#[cfg(test)]
mod tests {
    use mprec_representations::{Schema, SparseFeature};

    use super::*;
    use crate::examples::MemoryExamples;

    #[test]
    fn a_folded_layer_gives_on_raw_values_what_it_gave_on_standardised_ones() {
        let sparse = vec![SparseFeature { name: "a".into(), cardinality: 1 }];
        let dense = vec!["x".into(), "y".into(), "constant".into()];
        let schema = Schema::new(dense, sparse, Default::default()).unwrap();
        let values = vec![1.0, -5.0, 7.0, 3.0, -9.0, 7.0, 8.0, -4.0, 7.0];
        let examples =
            MemoryExamples::new(schema, values.clone(), vec![0; 3], vec![0.0; 3]).unwrap();
        let standard = Standardisation::measure(&examples, 0..3).unwrap();
        let mut scaled = values.clone();
        standard.apply(&mut scaled);
        for at in 0..2 {
            let column: Vec<f32> = scaled.iter().skip(at).step_by(3).copied().collect();
            assert!(column.iter().sum::<f32>().abs() < 1e-5);
            assert!((column.iter().map(|x| x * x).sum::<f32>() - 3.0).abs() < 1e-4);
        }
        let (weight, bias) = (vec![0.5, -1.5, 2.0], vec![0.25]);
        let layer = |weight: &[f32], bias: &[f32], row: &[f32]| {
            weight.iter().zip(row).map(|(w, x)| w * x).sum::<f32>() + bias[0]
        };
        let (mut folded_weight, mut folded_bias) = (weight.clone(), bias.clone());
        standard.fold(&mut folded_weight, &mut folded_bias);
        for (raw, scaled) in values.chunks(3).zip(scaled.chunks(3)) {
            let difference =
                layer(&folded_weight, &folded_bias, raw) - layer(&weight, &bias, scaled);
            assert!(difference.abs() < 1e-5);
        }
    }
}
