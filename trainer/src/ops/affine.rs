//! A scale and a shift per column, for each decoder its own.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};

use super::{floats, tensor, with_floats};

/// `input · scale + shift`, rows `starts[g]..starts[g + 1]` with scale and shift number `g`.
///
/// Inputs `[rows, width]`, scales and shifts `[groups, width]`; result `[rows, width]`.
#[derive(Debug, Clone)]
pub(crate) struct Affine {
    pub(crate) starts: Arc<[usize]>,
}

impl Affine {
    pub(crate) fn apply(self, input: &Tensor, scale: &Tensor, shift: &Tensor) -> Result<Tensor> {
        input.apply_op3(scale, shift, self)
    }

    /// The group of every row.
    fn groups(&self) -> impl Iterator<Item = usize> + '_ {
        self.starts
            .windows(2)
            .enumerate()
            .flat_map(|(group, pair)| std::iter::repeat_n(group, pair[1] - pair[0]))
    }
}

impl CustomOp3 for Affine {
    fn name(&self) -> &'static str {
        "affine"
    }

    fn cpu_fwd(
        &self,
        input: &CpuStorage,
        layout: &Layout,
        scale: &CpuStorage,
        scale_layout: &Layout,
        shift: &CpuStorage,
        shift_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (_, width) = layout.shape().dims2()?;
        let (scale, shift) = (floats(scale, scale_layout)?, floats(shift, shift_layout)?);
        let mut values = floats(input, layout)?.to_vec();
        for (row, group) in values.chunks_exact_mut(width).zip(self.groups()) {
            for (at, value) in row.iter_mut().enumerate() {
                *value = *value * scale[group * width + at] + shift[group * width + at];
            }
        }
        Ok((CpuStorage::F32(values), layout.shape().clone()))
    }

    fn bwd(
        &self,
        input: &Tensor,
        scale: &Tensor,
        _shift: &Tensor,
        _result: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (_, width) = input.dims2()?;
        let mut to_input = vec![0.0; input.elem_count()];
        let mut to_scale = vec![0.0; scale.elem_count()];
        let mut to_shift = vec![0.0; scale.elem_count()];
        let gradient = gradient.contiguous()?;
        with_floats(input, |input| {
            with_floats(scale, |scale| {
                with_floats(&gradient, |gradient| {
                    for (row, group) in self.groups().enumerate() {
                        for at in 0..width {
                            let (here, column) = (row * width + at, group * width + at);
                            to_input[here] = gradient[here] * scale[column];
                            to_scale[column] += gradient[here] * input[here];
                            to_shift[column] += gradient[here];
                        }
                    }
                })
            })
        })???;
        Ok((
            Some(tensor(to_input, input.dims())?),
            Some(tensor(to_scale, scale.dims())?),
            Some(tensor(to_shift, scale.dims())?),
        ))
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
        check_gradient(
            &[values(8, 1), values(4, 2), values(4, 3)],
            &[&[4, 2], &[2, 2], &[2, 2]],
            |inputs| {
                let affine = Affine { starts: [0, 3, 4].into() };
                affine.apply(&inputs[0], &inputs[1], &inputs[2]).unwrap()
            },
        );
    }
}
