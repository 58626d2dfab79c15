//! Hash codes, exact on every device.
//!
//! On a CPU they are computed by the native backend's kernels, as libtorch has no fast remainder of integers. On a GPU
//! they are computed there, in integers of 64 bits: residues lie below 2^31, so `a·(id mod p) + b` lies below 2^62.

use std::f64::consts::TAU;

use mprec_representations::{HashFamily, Transform};
use tch::{Kind, TchError, Tensor};

use super::constant::{Constant, Uploader};

/// Families of one size and transform, on the device.
#[derive(Debug)]
pub(super) struct Families {
    transform: Transform,
    hashes: i64,
    /// `[features, 1, hashes]` each, without the first dimension if there is one feature.
    a: Constant,
    b: Constant,
    p: Constant,
    m: Constant,
    /// What hash values are divided by, as floats: `m - 1`, or `m` for the Gaussian transform.
    most: Constant,
}

impl Families {
    pub(super) fn new(
        families: &[&HashFamily],
        transform: Transform,
        uploader: &mut Uploader,
    ) -> Result<Self, TchError> {
        let (count, hashes) = (families.len() as i64, families[0].len() as i64);
        let shape = if count > 1 { vec![count, 1, hashes] } else { vec![1, hashes] };
        let values = |at: usize| -> Vec<i64> {
            let rows = families.iter().flat_map(|family| {
                (0..family.len()).map(move |hash| family.parameters().row(hash)[at])
            });
            rows.collect()
        };
        let mut column = |at: usize| {
            uploader.keep(&Tensor::f_from_slice(&values(at))?.f_view(shape.as_slice())?)
        };
        let (a, b, p, m) = (column(0)?, column(1)?, column(2)?, column(3)?);
        let less = i64::from(transform == Transform::Uniform);
        let most: Vec<f32> = values(3).iter().map(|m| (m - less) as f32).collect();
        let most = uploader.keep(&Tensor::f_from_slice(&most)?.f_view(shape.as_slice())?)?;
        Ok(Self { transform, hashes, a, b, p, m, most })
    }

    /// Codes `[features, ids, hashes]` of ids `[features, ids]`. With `one`, those of that feature alone, of ids `[ids]`.
    pub(super) fn encode(&self, ids: &Tensor, one: Option<usize>) -> Result<Tensor, TchError> {
        let of = |constant: &Constant| match one {
            Some(at) if constant.dim() == 3 => constant.f_select(0, at as i64),
            _ => Ok(constant.shallow_clone()),
        };
        let (p, m, most) = (of(&self.p)?, of(&self.m)?, of(&self.most)?);
        let mut hash = ids.f_unsqueeze(-1)?.f_fmod_tensor(&p)?;
        let _ = hash.f_multiply_(&of(&self.a)?)?;
        hash = hash.f_add(&of(&self.b)?)?;
        let _ = hash.f_fmod_tensor_(&p)?;
        let _ = hash.f_fmod_tensor_(&m)?;
        // Below 2^24, so exact.
        let hash = hash.f_to_kind(Kind::Float)?;
        match self.transform {
            Transform::Uniform => {
                let mut share = hash.f_divide(&most)?;
                let _ = share.f_multiply_scalar_(2.0)?;
                share.f_add_scalar(-1.0)
            }
            Transform::Gaussian => {
                let value = hash.f_add_scalar(1.0)?.f_divide(&most)?;
                // Pairs are neighbours: the first of each gives the radius, the second the angle.
                let shape = hash.size();
                let pairs = [&shape[..shape.len() - 1], &[self.hashes / 2, 2]].concat();
                let value = value.f_view(pairs.as_slice())?;
                let radius = value.f_select(-1, 0)?.f_log()?.f_multiply_scalar(-2.0)?.f_sqrt()?;
                let angle = value.f_select(-1, 1)?.f_multiply_scalar(TAU)?;
                let left = radius.f_mul(&angle.f_cos()?)?;
                let right = radius.f_mul(&angle.f_sin()?)?;
                Tensor::f_stack(&[left, right], -1)?.f_view(shape.as_slice())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use mprec_representations::Tensor as Parameter;
    use tch::Device;

    use super::*;

    /// The arithmetic that a GPU does, done on a CPU.
    #[test]
    fn codes_are_those_of_the_definition() {
        let large = 1_i64 << 31;
        let families = [
            [[large - 2, large - 1, large, 7], [large - 2, large - 2, large - 1, 1 << 24]],
            [[1_000_002, 1_000_002, 1_000_003, 1_000_000], [1, 1, 2, 2]],
        ]
        .map(|rows| HashFamily::new(Parameter::new(&[2, 4], rows.concat())).unwrap());
        let ids = [0, 1, 1_000_003, large - 1, large, large + 1, (1 << 40) - 1];
        for transform in [Transform::Uniform, Transform::Gaussian] {
            for together in [true, false] {
                let mut uploader = Uploader { device: Device::Cpu, bytes: 0 };
                let all: Vec<&HashFamily> = families.iter().collect();
                let both = Families::new(&all, transform, &mut uploader).unwrap();
                let one_by_one = Tensor::from_slice(&ids);
                let codes = if together {
                    let ids = Tensor::stack(&[one_by_one.shallow_clone(), one_by_one], 0);
                    both.encode(&ids, None).unwrap()
                } else {
                    let of = |at| both.encode(&one_by_one, Some(at)).unwrap();
                    Tensor::stack(&[of(0), of(1)], 0)
                };
                let mut got = vec![0.0_f32; 2 * ids.len() * 2];
                let length = got.len();
                codes.copy_data(&mut got, length);
                let mut got = got.chunks_exact(2);
                for family in &families {
                    for id in ids {
                        let mut expected = [0.0; 2];
                        family.encode(id as u64, transform, &mut expected);
                        let got = got.next().unwrap();
                        let off = match transform {
                            Transform::Uniform => 0.0,
                            Transform::Gaussian => 2e-6,
                        };
                        for (got, expected) in got.iter().zip(expected) {
                            let size = expected.abs().max(1.0);
                            assert!((got - expected).abs() <= off * size, "{id}: {got} {expected}");
                        }
                    }
                }
            }
        }
    }
}
