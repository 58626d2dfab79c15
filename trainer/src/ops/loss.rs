//! Binary cross entropy of logits.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use mprec_representations::op::sigmoid;

use super::{floats, tensor, with_floats};

/// `Σ ln(1 + exp(z)) - y·z` over the samples, divided by `divisor`. Input `[samples, 1]`; result a
/// scalar. The divisor is the size of the whole step's batch, of which this may be a part.
#[derive(Debug, Clone)]
pub(crate) struct CrossEntropy {
    pub(crate) labels: Arc<[f32]>,
    pub(crate) divisor: usize,
}

impl CrossEntropy {
    pub(crate) fn apply(self, logits: &Tensor) -> Result<Tensor> {
        logits.apply_op1(self)
    }
}

impl CustomOp1 for CrossEntropy {
    fn name(&self) -> &'static str {
        "cross_entropy"
    }

    fn cpu_fwd(&self, logits: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let sum: f64 = floats(logits, layout)?
            .iter()
            .zip(self.labels.iter())
            .map(|(&z, &y)| {
                // max(z, 0) - y·z + ln(1 + exp(-|z|)) is the same without overflow. Unlike `max`,
                // the branch keeps a NaN.
                let positive = if z < 0.0 { 0.0 } else { z };
                f64::from(positive - y * z + (-z.abs()).exp().ln_1p())
            })
            .sum();
        Ok((CpuStorage::F32(vec![(sum / self.divisor as f64) as f32]), Shape::from(())))
    }

    fn bwd(&self, logits: &Tensor, _result: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let factor = gradient.to_scalar::<f32>()? / self.divisor as f32;
        let slopes = with_floats(logits, |logits| {
            logits.iter().zip(self.labels.iter()).map(|(&z, y)| (sigmoid(z) - y) * factor).collect()
        })?;
        Ok(Some(tensor(slopes, logits.dims())?))
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{check_gradient, values},
        *,
    };

    #[test]
    fn gradients_match_differences() {
        let loss = CrossEntropy { labels: [1.0, 0.0, 0.0, 1.0].into(), divisor: 2 };
        check_gradient(&[values(4, 1)], &[&[4, 1]], |inputs| {
            loss.clone().apply(&inputs[0]).unwrap()
        });
    }

    #[test]
    fn large_logits_do_not_overflow_and_nan_stays() {
        let loss = CrossEntropy { labels: [1.0, 0.0].into(), divisor: 1 };
        let value = |logits: Vec<f32>| {
            let logits = tensor(logits, &[2, 1]).unwrap();
            loss.clone().apply(&logits).unwrap().to_scalar::<f32>().unwrap()
        };
        assert_eq!(value(vec![-1000.0, 1000.0]), 2000.0);
        assert!(value(vec![f32::NAN, 0.0]).is_nan());
    }
}
