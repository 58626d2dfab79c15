//! From one vector per distinct id to one vector per bag.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

use super::{floats, tensor, with_floats};

/// One id in one bag.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Use {
    /// Which vector of the result it adds to.
    pub(crate) bag: u32,
    /// Which vector of the input is added.
    pub(crate) vector: u32,
    /// Its weight.
    pub(crate) weight: f32,
}

/// Sums the vectors of each bag's ids, each times its weight.
///
/// Input `[vectors, dim]`; result `[samples, bags per sample * dim]`.
#[derive(Debug, Clone)]
pub(crate) struct Pool {
    pub(crate) uses: Arc<[Use]>,
    pub(crate) samples: usize,
    pub(crate) bags: usize,
}

impl Pool {
    pub(crate) fn apply(self, vectors: &Tensor) -> Result<Tensor> {
        vectors.apply_op1(self)
    }
}

impl CustomOp1 for Pool {
    fn name(&self) -> &'static str {
        "pool"
    }

    fn cpu_fwd(&self, vectors: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (_, dim) = layout.shape().dims2()?;
        let vectors = floats(vectors, layout)?;
        let mut sums = vec![0.0; self.samples * self.bags * dim];
        for &Use { bag, vector, weight } in self.uses.iter() {
            let sum = &mut sums[bag as usize * dim..][..dim];
            for (sum, value) in sum.iter_mut().zip(&vectors[vector as usize * dim..][..dim]) {
                *sum += weight * value;
            }
        }
        Ok((CpuStorage::F32(sums), Shape::from((self.samples, self.bags * dim))))
    }

    fn bwd(&self, vectors: &Tensor, _result: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let (count, dim) = vectors.dims2()?;
        let mut slopes = vec![0.0; count * dim];
        with_floats(&gradient.contiguous()?, |gradient| {
            for &Use { bag, vector, weight } in self.uses.iter() {
                let slope = &mut slopes[vector as usize * dim..][..dim];
                for (slope, value) in slope.iter_mut().zip(&gradient[bag as usize * dim..][..dim]) {
                    *slope += weight * value;
                }
            }
        })?;
        Ok(Some(tensor(slopes, &[count, dim])?))
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
        let uses = [(0, 1, 1.0), (0, 0, -0.5), (3, 1, 2.0), (2, 2, 1.0)]
            .map(|(bag, vector, weight)| Use { bag, vector, weight });
        let pool = Pool { uses: uses.into(), samples: 2, bags: 2 };
        check_gradient(&[values(6, 1)], &[&[3, 2]], |inputs| {
            pool.clone().apply(&inputs[0]).unwrap()
        });
        let sums =
            pool.apply(&tensor(vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0], &[3, 2]).unwrap()).unwrap();
        let sums = sums.to_vec2::<f32>().unwrap();
        assert_eq!(sums, [[2.5, 3.0, 0.0, 0.0], [5.0, 6.0, 6.0, 8.0]]);
    }
}
