//! The dot interaction: products of all pairs of vectors of a sample.

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};

use super::{floats, tensor, with_floats};

/// Inputs: the dense vector `[samples, dim]` and the feature vectors `[samples, features * dim]`.
/// Result: the dense vector, then the products below the diagonal, row by row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dot {
    pub(crate) dim: usize,
    pub(crate) itself: bool,
}

impl Dot {
    pub(crate) fn apply(self, dense: &Tensor, features: &Tensor) -> Result<Tensor> {
        dense.apply_op2(features, self)
    }

    /// Products of a row of the triangle: with all vectors before it, and maybe itself.
    fn pairs(self, row: usize) -> usize {
        if self.itself { row + 1 } else { row }
    }

    fn width(self, vectors: usize) -> usize {
        (0..vectors).map(|row| self.pairs(row)).sum::<usize>() + self.dim
    }

    fn forward(self, dense: &[f32], features: &[f32]) -> (Vec<f32>, usize) {
        let dim = self.dim;
        let samples = dense.len() / dim;
        let vectors = 1 + features.len() / dense.len().max(1);
        let width = self.width(vectors);
        let mut out = vec![0.0; samples * width];
        // One sample's vectors by column, so that a row of products is a sum of whole columns.
        let mut columns = vec![0.0_f32; dim * vectors];
        pulp::Arch::new().dispatch(
            #[inline(always)]
            || {
                let inputs =
                    dense.chunks_exact(dim).zip(features.chunks_exact((vectors - 1) * dim));
                for ((dense, features), out) in inputs.zip(out.chunks_exact_mut(width)) {
                    for (vector, values) in
                        std::iter::once(dense).chain(features.chunks_exact(dim)).enumerate()
                    {
                        for (at, &value) in values.iter().enumerate() {
                            columns[at * vectors + vector] = value;
                        }
                    }
                    out[..dim].copy_from_slice(dense);
                    let mut rest = &mut out[dim..];
                    for row in 0..vectors {
                        let (products, after) = rest.split_at_mut(self.pairs(row));
                        for column in columns.chunks_exact(vectors) {
                            let factor = column[row];
                            for (product, &value) in products.iter_mut().zip(column) {
                                *product += factor * value;
                            }
                        }
                        rest = after;
                    }
                }
            },
        );
        (out, width)
    }

    fn backward(self, dense: &[f32], features: &[f32], gradient: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let dim = self.dim;
        let vectors = 1 + features.len() / dense.len().max(1);
        let width = self.width(vectors);
        let mut to_dense = vec![0.0; dense.len()];
        let mut to_features = vec![0.0; features.len()];
        let mut values = vec![0.0_f32; vectors * dim];
        let mut slopes = vec![0.0_f32; vectors * dim];
        pulp::Arch::new().dispatch(
            #[inline(always)]
            || {
                let inputs =
                    dense.chunks_exact(dim).zip(features.chunks_exact((vectors - 1) * dim));
                let outputs = to_dense
                    .chunks_exact_mut(dim)
                    .zip(to_features.chunks_exact_mut((vectors - 1) * dim));
                for (((dense, features), (to_dense, to_features)), gradient) in
                    inputs.zip(outputs).zip(gradient.chunks_exact(width))
                {
                    values[..dim].copy_from_slice(dense);
                    values[dim..].copy_from_slice(features);
                    slopes.fill(0.0);
                    slopes[..dim].copy_from_slice(&gradient[..dim]);
                    let mut rest = &gradient[dim..];
                    for row in 0..vectors {
                        let (products, after) = rest.split_at(self.pairs(row));
                        for (other, &slope) in products.iter().enumerate() {
                            // d(u·v) = v·du + u·dv; for u = v both terms meet in one vector.
                            for at in 0..dim {
                                slopes[row * dim + at] += slope * values[other * dim + at];
                            }
                            for at in 0..dim {
                                slopes[other * dim + at] += slope * values[row * dim + at];
                            }
                        }
                        rest = after;
                    }
                    to_dense.copy_from_slice(&slopes[..dim]);
                    to_features.copy_from_slice(&slopes[dim..]);
                }
            },
        );
        (to_dense, to_features)
    }
}

impl CustomOp2 for Dot {
    fn name(&self) -> &'static str {
        "dot"
    }

    fn cpu_fwd(
        &self,
        dense: &CpuStorage,
        dense_layout: &Layout,
        features: &CpuStorage,
        features_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let dense = floats(dense, dense_layout)?;
        let (out, width) = self.forward(dense, floats(features, features_layout)?);
        Ok((CpuStorage::F32(out), Shape::from((dense.len() / self.dim, width))))
    }

    fn bwd(
        &self,
        dense: &Tensor,
        features: &Tensor,
        _result: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let gradient = gradient.contiguous()?;
        let (to_dense, to_features) = with_floats(dense, |dense| {
            with_floats(features, |features| {
                with_floats(&gradient, |gradient| self.backward(dense, features, gradient))
            })
        })???;
        Ok((Some(tensor(to_dense, dense.dims())?), Some(tensor(to_features, features.dims())?)))
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{check_gradient, values},
        *,
    };

    #[test]
    fn products_come_row_by_row_below_the_diagonal() {
        let dense = [1.0, 2.0];
        let features = [3.0, 4.0, 5.0, 6.0];
        let (out, _) = Dot { dim: 2, itself: false }.forward(&dense, &features);
        assert_eq!(out, [1.0, 2.0, 11.0, 17.0, 39.0]);
        let (out, _) = Dot { dim: 2, itself: true }.forward(&dense, &features);
        assert_eq!(out, [1.0, 2.0, 5.0, 11.0, 25.0, 17.0, 39.0, 61.0]);
    }

    #[test]
    fn gradients_match_differences() {
        for itself in [false, true] {
            check_gradient(
                &[values(2 * 3, 1), values(2 * 4 * 3, 2)],
                &[&[2, 3], &[2, 12]],
                |inputs| Dot { dim: 3, itself }.apply(&inputs[0], &inputs[1]).unwrap(),
            );
        }
    }
}
