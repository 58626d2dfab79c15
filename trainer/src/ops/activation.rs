//! Activations at the end of a decoder.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use mprec_representations::Activation;

use super::{floats, tensor, with_floats};

/// Applies an [`Activation`] to every element.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Activate(pub(crate) Activation);

impl Activate {
    pub(crate) fn apply(self, input: &Tensor) -> Result<Tensor> {
        if self.0 == Activation::None { Ok(input.clone()) } else { input.apply_op1(self) }
    }

    fn slope(self, x: f32) -> f32 {
        match self.0 {
            Activation::None => 1.0,
            Activation::Relu => f32::from(u8::from(x > 0.0)),
            Activation::Sigmoid => {
                let y = self.0.apply(x);
                y * (1.0 - y)
            }
            // x·tanh(s) with s = ln(1 + exp(x)): tanh(s) + x·(1 - tanh²(s))·sigmoid(x).
            Activation::Mish if x > 20.0 => 1.0,
            Activation::Mish => {
                let t = x.exp().ln_1p().tanh();
                t + x * (1.0 - t * t) * Activation::Sigmoid.apply(x)
            }
        }
    }
}

impl CustomOp1 for Activate {
    fn name(&self) -> &'static str {
        "activate"
    }

    fn cpu_fwd(&self, input: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let values = floats(input, layout)?.iter().map(|&x| self.0.apply(x)).collect();
        Ok((CpuStorage::F32(values), layout.shape().clone()))
    }

    fn bwd(&self, input: &Tensor, _result: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let values = with_floats(input, |input| {
            with_floats(&gradient.contiguous()?, |gradient| {
                input.iter().zip(gradient).map(|(&x, slope)| self.slope(x) * slope).collect()
            })
        })??;
        Ok(Some(tensor(values, input.dims())?))
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
        for activation in
            [Activation::None, Activation::Relu, Activation::Sigmoid, Activation::Mish]
        {
            check_gradient(&[values(12, 1)], &[&[3, 4]], |inputs| {
                Activate(activation).apply(&inputs[0]).unwrap()
            });
        }
    }
}
