//! Operations of the autograd graph that the library lacks or would need several passes for, each
//! with its own gradient.
//!
//! Matrices are row-major. Rows that belong to different features lie one after the other, so that
//! one operation covers all of them ([`linear`]). Every operation is sequential: a step is shared
//! among threads by samples, not within an operation.

pub(crate) mod activation;
pub(crate) mod affine;
pub(crate) mod dot;
pub(crate) mod linear;
pub(crate) mod loss;
mod matmul;
pub(crate) mod pool;

use candle_core::{CpuStorage, Device, Layout, Result, Storage, Tensor};

/// The elements of a contiguous tensor of floats.
pub(crate) fn floats<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&storage.as_slice::<f32>()?[start..end]),
        None => candle_core::bail!("tensor of shape {:?} is not contiguous", layout.shape()),
    }
}

/// Calls `read` with the elements of a contiguous tensor of floats.
pub(crate) fn with_floats<T>(tensor: &Tensor, read: impl FnOnce(&[f32]) -> T) -> Result<T> {
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(storage) => Ok(read(floats(storage, layout)?)),
        _ => candle_core::bail!("tensor is not in host memory"),
    }
}

/// A tensor of these elements.
pub(crate) fn tensor(values: Vec<f32>, shape: &[usize]) -> Result<Tensor> {
    Tensor::from_vec(values, shape, &Device::Cpu)
}

/// Gradients of an operation against differences of its values.
#[cfg(test)]
mod tests {
    use candle_core::{Tensor, Var};

    use super::*;

    /// Checks the gradient of `Σ weights · f(inputs)` for every element of every input, with
    /// `weights` that differ from element to element.
    pub(super) fn check_gradient(
        inputs: &[Vec<f32>],
        shapes: &[&[usize]],
        f: impl Fn(&[Tensor]) -> Tensor,
    ) {
        let objective = |values: &[Tensor]| {
            let out = f(values).flatten_all().unwrap();
            let weights: Vec<f32> =
                (0..out.elem_count()).map(|at| ((at * 7 % 11) as f32 - 4.0) / 5.0).collect();
            let weights = tensor(weights, &[out.elem_count()]).unwrap();
            (out * weights).unwrap().sum_all().unwrap()
        };
        let variables: Vec<Var> = inputs
            .iter()
            .zip(shapes)
            .map(|(values, shape)| Var::from_vec(values.clone(), *shape, &Device::Cpu).unwrap())
            .collect();
        let tensors: Vec<Tensor> = variables.iter().map(|v| v.as_tensor().clone()).collect();
        let gradients = objective(&tensors).backward().unwrap();
        for (input, variable) in variables.iter().enumerate() {
            let gradient =
                gradients.get(variable).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
            for at in 0..inputs[input].len() {
                let shifted = |by: f32| {
                    let values: Vec<Tensor> = inputs
                        .iter()
                        .zip(shapes)
                        .enumerate()
                        .map(|(other, (values, shape))| {
                            let mut values = values.clone();
                            if other == input {
                                values[at] += by;
                            }
                            tensor(values, shape).unwrap()
                        })
                        .collect();
                    f64::from(objective(&values).to_scalar::<f32>().unwrap())
                };
                let slope = (shifted(1e-2) - shifted(-1e-2)) / 2e-2;
                assert!(
                    (slope - f64::from(gradient[at])).abs() < 2e-2 * (1.0 + slope.abs()),
                    "input {input} element {at}: slope {slope}, gradient {}",
                    gradient[at]
                );
            }
        }
    }

    pub(super) fn values(count: usize, seed: usize) -> Vec<f32> {
        let spread =
            (0..count).map(|at| (((at + 1) * (seed * 37 + 101) % 197) as f32 / 98.5 - 1.0) * 1.3);
        // Away from zero, where a ReLU has no slope.
        spread.map(|value| value + 0.03_f32.copysign(value)).collect()
    }
}
