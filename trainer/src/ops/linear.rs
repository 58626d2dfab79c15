//! `relu(input · weightᵀ + bias)`, for one layer or for the same layer of many decoders at once.

use std::{ops::Range, sync::Arc};

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};

use super::{
    floats,
    matmul::{Matrix, multiply},
    tensor, with_floats,
};

/// A linear layer of `groups`: rows `starts[g]..starts[g + 1]` of the input go through weight and
/// bias number `g`.
///
/// Inputs `[rows, in]`, weights `[groups, out, in]`, biases `[groups, out]`; result `[rows, out]`.
#[derive(Debug, Clone)]
pub(crate) struct Linear {
    starts: Arc<[usize]>,
    relu: bool,
    input_gradient: bool,
}

impl Linear {
    /// `input_gradient` is false where the input is data, which saves a third of the gradient.
    pub(crate) fn new(starts: Arc<[usize]>, relu: bool, input_gradient: bool) -> Self {
        Self { starts, relu, input_gradient }
    }

    pub(crate) fn apply(self, input: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
        input.apply_op3(weight, bias, self)
    }

    fn groups(&self) -> impl Iterator<Item = (usize, Range<usize>)> + '_ {
        self.starts.windows(2).map(|pair| pair[0]..pair[1]).enumerate()
    }

    fn forward(
        &self,
        input: &[f32],
        weight: &[f32],
        bias: &[f32],
        (out, inner): (usize, usize),
    ) -> Vec<f32> {
        let rows = self.starts.last().copied().unwrap_or(0);
        let mut values = Vec::with_capacity(rows * out);
        for (group, rows) in self.groups() {
            for _ in rows.clone() {
                values.extend_from_slice(&bias[group * out..][..out]);
            }
            multiply(
                &mut values[rows.start * out..],
                (rows.len(), inner, out),
                Matrix::new(&input[rows.start * inner..rows.end * inner], inner),
                Matrix::new(&weight[group * out * inner..][..out * inner], inner).t(),
                true,
            );
        }
        if self.relu {
            pulp::Arch::new().dispatch(
                #[inline(always)]
                || {
                    for value in &mut values {
                        // Not `max`, which would turn NaN to 0 and hide that training diverged.
                        *value = if *value < 0.0 { 0.0 } else { *value };
                    }
                },
            );
        }
        values
    }

    fn backward(
        &self,
        [input, weight, result, gradient]: [&[f32]; 4],
        (out, inner): (usize, usize),
    ) -> (Option<Vec<f32>>, Vec<f32>, Vec<f32>) {
        let masked: Vec<f32>;
        let gradient = if self.relu {
            masked = mask(gradient, result);
            &masked[..]
        } else {
            gradient
        };
        let mut to_input = self.input_gradient.then(|| vec![0.0; input.len()]);
        let mut to_weight = vec![0.0; weight.len()];
        let mut to_bias = vec![0.0; (self.starts.len() - 1) * out];
        for (group, rows) in self.groups() {
            let weights = group * out * inner..(group + 1) * out * inner;
            let gradient = &gradient[rows.start * out..rows.end * out];
            let by_row = Matrix::new(gradient, out);
            let input = Matrix::new(&input[rows.start * inner..rows.end * inner], inner);
            multiply(
                &mut to_weight[weights.clone()],
                (out, rows.len(), inner),
                by_row.t(),
                input,
                false,
            );
            if let Some(to_input) = &mut to_input {
                let weight = Matrix::new(&weight[weights], inner);
                let to_rows = &mut to_input[rows.start * inner..rows.end * inner];
                multiply(to_rows, (rows.len(), out, inner), by_row, weight, false);
            }
            let to_bias = &mut to_bias[group * out..][..out];
            for row in gradient.chunks_exact(out) {
                for (sum, value) in to_bias.iter_mut().zip(row) {
                    *sum += value;
                }
            }
        }
        (to_input, to_weight, to_bias)
    }
}

/// The gradient where the result is above zero.
fn mask(gradient: &[f32], result: &[f32]) -> Vec<f32> {
    pulp::Arch::new().dispatch(
        #[inline(always)]
        || {
            gradient
                .iter()
                .zip(result)
                .map(|(&gradient, &result)| if result > 0.0 { gradient } else { 0.0 })
                .collect()
        },
    )
}

/// Widths `(out, in)` of a weight `[groups, out, in]`.
fn widths(weight: &Shape) -> Result<(usize, usize)> {
    let (_, out, inner) = weight.dims3()?;
    Ok((out, inner))
}

impl CustomOp3 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        input: &CpuStorage,
        input_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (out, inner) = widths(weight_layout.shape())?;
        let values = self.forward(
            floats(input, input_layout)?,
            floats(weight, weight_layout)?,
            floats(bias, bias_layout)?,
            (out, inner),
        );
        let rows = values.len() / out;
        Ok((CpuStorage::F32(values), Shape::from((rows, out))))
    }

    fn bwd(
        &self,
        input: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        result: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let widths = widths(weight.shape())?;
        let gradient = gradient.contiguous()?;
        let (to_input, to_weight, to_bias) = with_floats(input, |input_values| {
            with_floats(weight, |weight| {
                with_floats(result, |result| {
                    with_floats(&gradient, |gradient| {
                        self.backward([input_values, weight, result, gradient], widths)
                    })
                })
            })
        })????;
        let to_input = to_input.map(|values| tensor(values, input.dims())).transpose()?;
        let to_weight = tensor(to_weight, weight.dims())?;
        let to_bias = tensor(to_bias, bias.dims())?;
        Ok((to_input, Some(to_weight), Some(to_bias)))
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{check_gradient, values},
        *,
    };

    #[test]
    fn rows_go_through_the_layer_of_their_group() {
        let layer = Linear::new([0, 1, 3].into(), true, true);
        let out = layer.forward(&[1.0, 2.0, 3.0], &[2.0, -5.0], &[0.5, 1.0], (1, 1));
        assert_eq!(out, [2.5, 0.0, 0.0]);
    }

    #[test]
    fn gradients_match_differences() {
        for relu in [false, true] {
            let starts: Arc<[usize]> = [0, 2, 2, 5].into();
            check_gradient(
                &[values(5 * 3, 1), values(3 * 4 * 3, 2), values(3 * 4, 3)],
                &[&[5, 3], &[3, 4, 3], &[3, 4]],
                |inputs| {
                    let layer = Linear::new(Arc::clone(&starts), relu, true);
                    layer.apply(&inputs[0], &inputs[1], &inputs[2]).unwrap()
                },
            );
        }
    }
}
