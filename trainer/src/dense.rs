//! Dense parameters under training: values in the graph, and what Adam remembers of them.

use std::sync::Mutex;

use candle_core::{
    CpuStorage, Device, InplaceOp1, Layout, Storage, Tensor, Var, backprop::GradStore,
};
use rayon::prelude::*;

use crate::{
    net::{Net, Parameter, Part, Role},
    ops::{tensor, with_floats},
    options::DenseOptimizer,
};

/// Elements that one thread updates at a time.
const CHUNK: usize = 1 << 14;

/// All dense parameters of a net.
#[derive(Debug)]
pub(crate) struct Dense {
    parameters: Vec<Trained>,
}

#[derive(Debug)]
struct Trained {
    variable: Var,
    /// Mean gradient.
    first: Vec<f32>,
    /// Mean squared gradient.
    second: Vec<f32>,
    /// Mean of the values over averaged steps; empty without averaging.
    mean: Vec<f32>,
    decays: bool,
    decoder: bool,
}

/// One step of Adam.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DenseStep<'a> {
    pub(crate) optimizer: &'a DenseOptimizer,
    /// The schedule's factor.
    pub(crate) factor: f64,
    /// Steps done before this one.
    pub(crate) done: u64,
    /// This is averaged step number j, if any.
    pub(crate) averaged: Option<u64>,
}

impl Dense {
    /// Parameters of `net` with these values, in the order of [`Net::parameters`].
    pub(crate) fn new(
        net: &Net,
        values: Vec<Vec<f32>>,
        averaged: bool,
    ) -> candle_core::Result<Self> {
        let trained = |(parameter, values): (&Parameter, Vec<f32>)| {
            let count = values.len();
            Ok(Trained {
                variable: Var::from_vec(values, parameter.grouped_shape(), &Device::Cpu)?,
                first: vec![0.0; count],
                second: vec![0.0; count],
                mean: vec![0.0; if averaged { count } else { 0 }],
                decays: parameter.role == Role::Weight,
                decoder: parameter.part != Part::Net,
            })
        };
        let parameters = net.parameters().iter().zip(values).map(trained);
        Ok(Self { parameters: parameters.collect::<candle_core::Result<_>>()? })
    }

    /// The values as nodes of the graph.
    pub(crate) fn tensors(&self) -> Vec<Tensor> {
        self.parameters.iter().map(|trained| trained.variable.as_tensor().clone()).collect()
    }

    /// The averages as tensors that no gradient is sought for.
    pub(crate) fn averages(&self) -> candle_core::Result<Vec<Tensor>> {
        let average = |trained: &Trained| tensor(trained.mean.clone(), trained.variable.dims());
        self.parameters.iter().map(average).collect()
    }

    /// Takes the gradients of all parameters out of `store`, in order.
    pub(crate) fn gradients(&self, store: &mut GradStore) -> Vec<Option<Tensor>> {
        self.parameters.iter().map(|trained| store.remove(&trained.variable)).collect()
    }

    /// Moves all parameters along the sums of the gradients in `shards`, each in the order of the
    /// parameters.
    pub(crate) fn update(
        &mut self,
        shards: &[Vec<Option<Tensor>>],
        step: DenseStep<'_>,
    ) -> candle_core::Result<()> {
        self.parameters.iter_mut().enumerate().try_for_each(|(at, trained)| {
            trained.update(shards.iter().filter_map(|shard| shard[at].as_ref()).collect(), step)
        })
    }

    /// Everything that a checkpoint holds of parameter `at`, with the suffix of its name.
    pub(crate) fn state(&mut self, at: usize) -> [(&'static str, &mut Vec<f32>); 3] {
        let Trained { first, second, mean, .. } = &mut self.parameters[at];
        [(".first", first), (".second", second), (".mean", mean)]
    }

    /// [`Dense::state`] of all parameters at once.
    pub(crate) fn states(&self) -> Vec<[(&'static str, &[f32]); 3]> {
        let states = self.parameters.iter().map(|Trained { first, second, mean, .. }| {
            [(".first", &first[..]), (".second", &second[..]), (".mean", &mean[..])]
        });
        states.collect()
    }

    /// A copy of the values of parameter `at`.
    pub(crate) fn values(&self, at: usize) -> candle_core::Result<Vec<f32>> {
        with_floats(self.parameters[at].variable.as_tensor(), <[f32]>::to_vec)
    }

    /// Replaces the values of parameter `at`.
    pub(crate) fn set(&mut self, at: usize, values: Vec<f32>) -> candle_core::Result<()> {
        let variable = &self.parameters[at].variable;
        variable.set(&tensor(values, variable.dims())?)
    }
}

impl Trained {
    fn update(&mut self, gradients: Vec<&Tensor>, step: DenseStep<'_>) -> candle_core::Result<()> {
        let guards: Vec<_> = gradients.iter().map(|tensor| tensor.storage_and_layout()).collect();
        let slices = guards.iter().map(|(storage, layout)| match &**storage {
            Storage::Cpu(storage) => crate::ops::floats(storage, layout),
            _ => candle_core::bail!("gradient is not in host memory"),
        });
        let slices = slices.collect::<candle_core::Result<Vec<_>>>()?;
        if slices.is_empty() {
            return Ok(());
        }
        let DenseOptimizer {
            learning_rate,
            decoder_learning_rate,
            beta1,
            beta2,
            epsilon,
            weight_decay,
        } = *step.optimizer;
        let rate = step.factor * if self.decoder { decoder_learning_rate } else { learning_rate };
        // Steps beyond 2^31 change neither power, both of which are 0 by then.
        let steps = i32::try_from(step.done + 1).unwrap_or(i32::MAX);
        let adam = Adam {
            gradients: slices,
            moments: Mutex::new(Moments {
                first: &mut self.first,
                second: &mut self.second,
                mean: step.averaged.is_some().then_some(&mut self.mean[..]),
            }),
            beta1: beta1 as f32,
            beta2: beta2 as f32,
            rate: (rate / (1.0 - beta1.powi(steps))) as f32,
            correction: (1.0 / (1.0 - beta2.powi(steps))) as f32,
            epsilon: epsilon as f32,
            keep: if self.decays { (1.0 - rate * weight_decay) as f32 } else { 1.0 },
            share: step.averaged.map_or(0.0, |steps| 1.0 / steps as f32),
        };
        self.variable.inplace_op1(&adam)
    }
}

/// The arithmetic of one step, applied in place.
struct Adam<'a> {
    gradients: Vec<&'a [f32]>,
    /// In a lock only because the library hands out this operation by shared reference.
    moments: Mutex<Moments<'a>>,
    beta1: f32,
    beta2: f32,
    rate: f32,
    correction: f32,
    epsilon: f32,
    keep: f32,
    share: f32,
}

struct Moments<'a> {
    first: &'a mut [f32],
    second: &'a mut [f32],
    mean: Option<&'a mut [f32]>,
}

impl InplaceOp1 for Adam<'_> {
    fn name(&self) -> &'static str {
        "adam"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        let (CpuStorage::F32(values), Some((start, end))) = (storage, layout.contiguous_offsets())
        else {
            candle_core::bail!("parameter is not a contiguous tensor of floats")
        };
        let mut moments = self.moments.lock().map_err(|_| {
            candle_core::Error::Msg("a thread that updated parameters has panicked".into())
        })?;
        let Moments { first, second, mean } = &mut *moments;
        values[start..end]
            .par_chunks_mut(CHUNK)
            .zip(first.par_chunks_mut(CHUNK))
            .zip(second.par_chunks_mut(CHUNK))
            .enumerate()
            .for_each(|(chunk, ((values, first), second))| {
                let range = chunk * CHUNK..chunk * CHUNK + values.len();
                self.move_chunk(range, values, first, second);
            });
        if let Some(mean) = mean {
            let pairs = mean.par_chunks_mut(CHUNK).zip(values[start..end].par_chunks(CHUNK));
            pairs.for_each(|(mean, values)| {
                pulp::Arch::new().dispatch(
                    #[inline(always)]
                    || {
                        for (mean, value) in mean.iter_mut().zip(values) {
                            *mean += (value - *mean) * self.share;
                        }
                    },
                );
            });
        }
        Ok(())
    }
}

impl Adam<'_> {
    fn move_chunk(
        &self,
        range: std::ops::Range<usize>,
        values: &mut [f32],
        first: &mut [f32],
        second: &mut [f32],
    ) {
        let summed: Vec<f32>;
        let gradient = match self.gradients.as_slice() {
            [only] => &only[range],
            many => {
                let mut sum = many[0][range.clone()].to_vec();
                for gradient in &many[1..] {
                    for (sum, value) in sum.iter_mut().zip(&gradient[range.clone()]) {
                        *sum += value;
                    }
                }
                summed = sum;
                &summed[..]
            }
        };
        pulp::Arch::new().dispatch(
            #[inline(always)]
            || {
                let moments = first.iter_mut().zip(second);
                for ((value, &slope), (first, second)) in
                    values.iter_mut().zip(gradient).zip(moments)
                {
                    *first += (1.0 - self.beta1) * (slope - *first);
                    *second += (1.0 - self.beta2) * (slope * slope - *second);
                    let root = (*second * self.correction).sqrt() + self.epsilon;
                    *value = *value * self.keep - self.rate * *first / root;
                }
            },
        );
    }
}

#[cfg(test)]
mod tests {
    use mprec_representations::{DlrmSpec, Interaction, RepresentationSpec, Schema, SparseFeature};

    use super::*;

    #[test]
    fn adam_follows_its_formula_over_two_steps_and_averages() {
        let sparse = vec![SparseFeature { name: "a".into(), cardinality: 2 }];
        let schema = Schema::new(vec!["x".into()], sparse, Default::default()).unwrap();
        let table = RepresentationSpec::Table { dim: 1 };
        let spec = DlrmSpec::uniform(&schema, &table, Interaction::Cat, &[], &[]);
        let net = Net::new(&schema, &spec).unwrap();
        let values = net.parameters().iter().map(|p| vec![0.5; p.group_len()]).collect();
        let mut dense = Dense::new(&net, values, true).unwrap();
        let optimizer =
            DenseOptimizer { weight_decay: 0.1, learning_rate: 0.01, ..Default::default() };
        let (mut weight, mut first, mut second, mut mean) = (0.5_f64, 0.0, 0.0, 0.0);
        for done in 0..2_u64 {
            let slope = 0.3 - done as f64;
            let shard = |share: f64| -> Vec<Option<Tensor>> {
                let gradient = |p: &Parameter| {
                    tensor(vec![(slope * share) as f32; p.group_len()], &p.grouped_shape()).unwrap()
                };
                net.parameters().iter().map(|p| Some(gradient(p))).collect()
            };
            let step =
                DenseStep { optimizer: &optimizer, factor: 0.5, done, averaged: Some(done + 1) };
            dense.update(&[shard(0.25), shard(0.75)], step).unwrap();
            let rate = 0.005;
            first = 0.9 * first + 0.1 * slope;
            second = 0.999 * second + 0.001 * slope * slope;
            let steps = done as i32 + 1;
            let (mean_slope, mean_square) =
                (first / (1.0 - 0.9_f64.powi(steps)), second / (1.0 - 0.999_f64.powi(steps)));
            weight = weight * (1.0 - rate * 0.1) - rate * mean_slope / (mean_square.sqrt() + 1e-8);
            mean += weight / 2.0;
        }
        assert!((f64::from(dense.values(0).unwrap()[0]) - weight).abs() < 1e-6);
        let average = dense.averages().unwrap()[0].flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert!((f64::from(average[0]) - mean).abs() < 1e-6);
        // Biases do not decay.
        let undecayed = weight - f64::from(dense.values(1).unwrap()[0]);
        assert!(undecayed < -1e-4);
    }
}
