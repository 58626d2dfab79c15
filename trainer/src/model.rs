//! A variant under training: its parts, one step, and scoring.

use std::ops::Range;

use candle_core::{Device, Tensor, Var};
use mprec_representations::{self as model, Batch, DlrmSpec, Schema, Weights};
use rayon::prelude::*;

use crate::{
    dense::{Dense, DenseStep},
    encode::Encoder,
    error::TrainError,
    initial,
    net::Net,
    ops::{loss::CrossEntropy, with_floats},
    options::TrainOptions,
    rows::{Averaged, RowStep},
    standardise::Standardisation,
    stored::Stored,
};

/// Fewest samples worth a thread of their own.
const SAMPLES_PER_THREAD: usize = 32;

/// Everything that a step changes or reads.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) net: Net,
    pub(crate) dense: Dense,
    pub(crate) stored: Stored,
    pub(crate) encoders: Vec<Vec<Encoder>>,
    pub(crate) standardisation: Option<Standardisation>,
}

/// What is fixed for one step.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Step<'a> {
    pub(crate) options: &'a TrainOptions,
    /// The schedule's factor.
    pub(crate) factor: f64,
    /// Steps done before this one.
    pub(crate) done: u64,
    /// This is averaged step number j, if any.
    pub(crate) averaged: Averaged,
}

/// What a step tells.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Mean loss of the batch before the step.
    pub(crate) loss: f64,
    /// Logits of the batch before the step.
    pub(crate) logits: Vec<f32>,
    /// Rows that were changed.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "tests count rows; serving has no use for it")
    )]
    pub(crate) touched: usize,
}

/// Gradients from one thread's part of a batch.
struct Shard {
    loss: f64,
    logits: Vec<f32>,
    dense: Vec<Option<Tensor>>,
    stored: Vec<f32>,
}

impl Model {
    /// A model with initial weights.
    pub(crate) fn new(
        schema: &Schema,
        spec: &DlrmSpec,
        options: &TrainOptions,
        standardisation: Option<Standardisation>,
    ) -> Result<Self, TrainError> {
        let net = Net::new(schema, spec)?;
        let encoders = initial::encoders(&net, schema, options)?;
        let mut stored = Stored::new(schema, spec, options)?;
        stored.initialise(options, 0);
        let values = (0..net.parameters().len()).map(|at| {
            let parameter = &net.parameters()[at];
            initial::values(parameter, at, net.decoder_of(at), options.seed)
        });
        let dense = Dense::new(&net, values.collect(), options.average_from.is_some())?;
        Ok(Self { net, dense, stored, encoders, standardisation })
    }

    /// One step on `batch`, shared among the threads of the current pool.
    pub(crate) fn step(
        &mut self,
        batch: &Batch,
        labels: &[f32],
        step: Step<'_>,
    ) -> Result<Outcome, TrainError> {
        let parameters = self.dense.tensors();
        let shards = shards(batch.samples())
            .into_par_iter()
            .map(|samples| self.shard(&parameters, batch, labels, samples))
            .collect::<candle_core::Result<Vec<Shard>>>()?;
        let (mut loss, mut logits) = (0.0, Vec::with_capacity(labels.len()));
        let mut stored = Vec::with_capacity(labels.len() * self.stored.width());
        let mut dense = Vec::with_capacity(shards.len());
        for shard in shards {
            loss += shard.loss;
            logits.extend(shard.logits);
            stored.extend(shard.stored);
            dense.push(shard.dense);
        }
        if !loss.is_finite() {
            return Err(TrainError::Diverged { step: step.done });
        }
        // The graph shares the parameters' memory and would see them change.
        drop(parameters);
        let Step { options, factor, done, averaged } = step;
        self.dense
            .update(&dense, DenseStep { optimizer: &options.dense, factor, done, averaged })?;
        let rate = (options.rows.learning_rate * factor) as f32;
        let touched = if self.stored.width() > 0 {
            let step = RowStep { optimizer: &options.rows, rate, averaged };
            self.stored.update(batch, &stored, step)
        } else {
            0
        };
        Ok(Outcome { loss, logits, touched })
    }

    fn shard(
        &self,
        parameters: &[Tensor],
        batch: &Batch,
        labels: &[f32],
        samples: Range<usize>,
    ) -> candle_core::Result<Shard> {
        let leaf = match self.stored.width() {
            0 => None,
            width => {
                let vectors = self.stored.gather(batch, samples.clone(), None);
                Some(Var::from_vec(vectors, (samples.len(), width), &Device::Cpu)?)
            }
        };
        let vectors = leaf.as_ref().map(|leaf| leaf.as_tensor().clone());
        let logits = self.forward(parameters, batch, samples.clone(), vectors)?;
        let loss = CrossEntropy { labels: labels[samples].into(), divisor: labels.len() };
        let loss = loss.apply(&logits)?;
        let mut gradients = loss.backward()?;
        let stored = match &leaf {
            None => Vec::new(),
            Some(leaf) => match gradients.remove(leaf) {
                Some(gradient) => with_floats(&gradient, <[f32]>::to_vec)?,
                None => vec![0.0; leaf.elem_count()],
            },
        };
        Ok(Shard {
            loss: f64::from(loss.to_scalar::<f32>()?),
            logits: with_floats(&logits, <[f32]>::to_vec)?,
            dense: self.dense.gradients(&mut gradients),
            stored,
        })
    }

    fn forward(
        &self,
        parameters: &[Tensor],
        batch: &Batch,
        samples: Range<usize>,
        stored: Option<Tensor>,
    ) -> candle_core::Result<Tensor> {
        let width = batch.dense_width();
        let mut dense = batch.dense()[samples.start * width..samples.end * width].to_vec();
        if let Some(standardisation) = &self.standardisation {
            standardisation.apply(&mut dense);
        }
        let input = self.net.input(batch, samples, dense, stored, &self.encoders)?;
        self.net.forward(parameters, input)
    }

    /// The parameters to score with: averaged or as they are, without gradients.
    pub(crate) fn scoring_parameters(
        &self,
        averaged: Averaged,
    ) -> candle_core::Result<Vec<Tensor>> {
        match averaged {
            Some(_) => self.dense.averages(),
            None => Ok(self.dense.tensors().iter().map(Tensor::detach).collect()),
        }
    }

    /// Logits of a batch with [`Model::scoring_parameters`], shared among the threads of the
    /// current pool.
    pub(crate) fn logits(
        &self,
        parameters: &[Tensor],
        batch: &Batch,
        averaged: Averaged,
    ) -> candle_core::Result<Vec<f32>> {
        let parts = shards(batch.samples()).into_par_iter().map(|samples| {
            let stored = match self.stored.width() {
                0 => None,
                width => {
                    let vectors = self.stored.gather(batch, samples.clone(), averaged);
                    Some(crate::ops::tensor(vectors, &[samples.len(), width])?)
                }
            };
            let logits = self.forward(parameters, batch, samples, stored)?;
            with_floats(&logits, <[f32]>::to_vec)
        });
        Ok(parts.collect::<candle_core::Result<Vec<_>>>()?.concat())
    }

    /// The weights as a bundle holds them, averaged if asked. The rows are moved out.
    pub(crate) fn into_weights(mut self, averaged: Averaged) -> candle_core::Result<Weights> {
        let mut weights = Weights::new();
        let mut values = Vec::new();
        for (at, tensor) in self.scoring_parameters(averaged)?.iter().enumerate() {
            values.push((at, with_floats(tensor, <[f32]>::to_vec)?));
        }
        if let Some(standardisation) = &self.standardisation
            && let [(_, weight), (_, bias), ..] = &mut values[..]
        {
            // The bottom net's first layer is the first that a net adds.
            standardisation.fold(weight, bias);
        }
        for (at, values) in values {
            let parameter = &self.net.parameters()[at];
            for (name, values) in parameter.names.iter().zip(values.chunks(parameter.group_len())) {
                weights.insert(name, model::Tensor::new(&parameter.shape, values.to_vec()));
            }
        }
        for table in &mut self.stored.tables {
            let shape = [table.rows(), table.dim];
            let values = table.take(averaged);
            weights.insert(&table.name, model::Tensor::new(&shape, values));
        }
        self.insert_hashes(&mut weights);
        Ok(weights)
    }

    fn insert_hashes(&self, weights: &mut Weights) {
        for (decoder, encoders) in self.net.decoders().iter().zip(&self.encoders) {
            for (feature, encoder) in decoder.features.iter().zip(encoders) {
                let name = format!("dhe_l.hash_params.{feature}");
                weights.insert(name, encoder.parameters().clone());
            }
        }
    }
}

/// Splits samples among the threads of the current pool, evenly.
fn shards(samples: usize) -> Vec<Range<usize>> {
    let most = samples.div_ceil(SAMPLES_PER_THREAD).max(1);
    let count = rayon::current_num_threads().min(most);
    (0..count).map(|at| samples * at / count..samples * (at + 1) / count).collect()
}

#[cfg(test)]
mod tests {
    use mprec_representations::{
        Activation, BatchShape, Combination, DheSpec, Dlrm, Interaction, Jagged,
        RepresentationSpec, SparseFeature, Transform,
    };

    use super::*;
    use crate::{examples::MemoryExamples, options::InitialRows};

    fn schema(cardinality: u64) -> Schema {
        let sparse = ["a", "b", "c"].map(|name| SparseFeature { name: name.into(), cardinality });
        Schema::new(vec!["x".into(), "y".into()], sparse.into(), Default::default()).unwrap()
    }

    fn dhe(hidden: Vec<usize>, activation: Activation, normalised: bool, dim: usize) -> DheSpec {
        DheSpec { hashes: 8, transform: Transform::Uniform, hidden, dim, activation, normalised }
    }

    /// Bags of none to three weighted ids.
    fn jagged(schema: &Schema) -> Batch {
        let jagged = Jagged {
            ids: (0..15).map(|at| at * 37 % 100).collect(),
            lengths: vec![1, 0, 3, 1, 2, 2, 0, 0, 1, 1, 3, 1],
            weights: Some((0..15).map(|at| (at % 4) as f32 / 2.0 - 0.5).collect()),
        };
        let dense = (0..8).map(|at| at as f32 * 0.7 - 2.0).collect();
        BatchShape::new(schema).from_jagged(dense, &jagged).unwrap()
    }

    fn specs() -> Vec<DlrmSpec> {
        let schema = schema(100);
        let dot = Interaction::Dot { itself: false };
        let pair = |combination| RepresentationSpec::QuotientRemainder {
            dim: 4,
            collisions: 7,
            combination,
        };
        let gaussian = DheSpec {
            transform: Transform::Gaussian,
            ..dhe(vec![], Activation::Sigmoid, false, 4)
        };
        let plain = dhe(vec![6, 5], Activation::None, false, 4);
        let mixes = [
            (dot, vec![RepresentationSpec::Table { dim: 4 }; 3]),
            (
                Interaction::Dot { itself: true },
                vec![RepresentationSpec::Hash { dim: 4, rows: 9 }; 3],
            ),
            (dot, vec![RepresentationSpec::Dhe(plain.clone()); 3]),
            (dot, vec![RepresentationSpec::Hybrid { dim: 4, dhe: plain.clone() }; 3]),
            // Decoders of two shapes, in an order that neither has by itself.
            (
                dot,
                vec![
                    RepresentationSpec::Dhe(plain.clone()),
                    RepresentationSpec::Hybrid {
                        dim: 4,
                        dhe: dhe(vec![3], Activation::Mish, true, 4),
                    },
                    RepresentationSpec::Dhe(plain),
                ],
            ),
            (
                Interaction::Cat,
                vec![
                    RepresentationSpec::Dhe(dhe(vec![5], Activation::Relu, true, 3)),
                    RepresentationSpec::Dhe(gaussian),
                    RepresentationSpec::Hybrid {
                        dim: 2,
                        dhe: dhe(vec![5], Activation::Relu, false, 6),
                    },
                ],
            ),
            (
                dot,
                vec![
                    pair(Combination::Mult),
                    pair(Combination::Add),
                    RepresentationSpec::Table { dim: 4 },
                ],
            ),
            (
                Interaction::Cat,
                vec![
                    pair(Combination::Concat),
                    pair(Combination::Mult),
                    RepresentationSpec::Dhe(dhe(vec![], Activation::None, false, 5)),
                ],
            ),
        ];
        let mut specs = Vec::new();
        for (interaction, features) in mixes {
            let mut spec = DlrmSpec::new(&schema, features, interaction, &[5], &[7, 3]);
            *spec.bottom.last_mut().unwrap() = 4;
            spec.top[0] = spec.interaction_width();
            specs.push(spec);
        }
        specs
    }

    fn trained(spec: &DlrmSpec, options: &TrainOptions) -> Model {
        let schema = schema(100);
        let rows: Vec<f32> = (0..40).map(|at| (at * 13 % 17) as f32 * 3.0).collect();
        let examples =
            MemoryExamples::new(schema.clone(), rows, vec![0; 60], vec![0.0; 20]).unwrap();
        let standard = Standardisation::measure(&examples, 0..20).unwrap();
        let mut model = Model::new(&schema, spec, options, Some(standard)).unwrap();
        for done in 0..3 {
            let averaged = (done > 0).then_some(done);
            let step = Step { options, factor: 1.0, done, averaged };
            model.step(&jagged(&schema), &[1.0, 0.0, 0.0, 1.0], step).unwrap();
        }
        model
    }

    #[test]
    fn what_was_trained_is_what_the_interpreter_computes() {
        let schema = schema(100);
        let options = TrainOptions {
            initial_rows: InitialRows::Normal { deviation: 0.5 },
            ..TrainOptions::default()
        };
        let batch = jagged(&schema);
        for spec in specs() {
            for averaged in [Some(2), None] {
                let model = trained(&spec, &options);
                let parameters = model.scoring_parameters(averaged).unwrap();
                let logits = model.logits(&parameters, &batch, averaged).unwrap();
                let weights = model.into_weights(averaged).unwrap();
                let program = Dlrm::load(&schema, &spec, &weights).unwrap().lower().unwrap();
                let values = program.interpret_all(&batch).unwrap();
                for (got, expected) in logits.iter().zip(values.get(program.logit())) {
                    let tolerance = 1e-5 * (1.0 + expected.abs());
                    assert!((got - expected).abs() < tolerance, "{spec:?}: {got} {expected}");
                }
            }
        }
    }

    #[test]
    fn steps_of_one_thread_and_of_many_agree_but_for_rounding() {
        let options = TrainOptions::default();
        for spec in specs() {
            let logits = |threads| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                pool.install(|| {
                    let schema = schema(100);
                    let mut model = Model::new(&schema, &spec, &options, None).unwrap();
                    let shape = BatchShape::new(&schema);
                    let ids: Vec<i64> = (0..3 * 150).map(|at| at * 31 % 100).collect();
                    let dense = (0..300).map(|at| (at % 7) as f32 - 3.0).collect();
                    let batch = shape.from_rows(dense, &ids).unwrap();
                    let labels: Vec<f32> = (0..150).map(|at| (at % 2) as f32).collect();
                    for done in 0..3 {
                        let step = Step { options: &options, factor: 1.0, done, averaged: None };
                        model.step(&batch, &labels, step).unwrap();
                    }
                    let parameters = model.scoring_parameters(None).unwrap();
                    model.logits(&parameters, &batch, None).unwrap()
                })
            };
            for (one, many) in logits(1).iter().zip(logits(4)) {
                assert!((one - many).abs() < 1e-3, "{spec:?}: {one} {many}");
            }
        }
    }

    #[test]
    fn a_step_touches_as_many_rows_whatever_the_size_of_the_tables() {
        let options = TrainOptions { average_from: None, ..TrainOptions::default() };
        let touched = |cardinality| {
            let schema = schema(cardinality);
            let table = RepresentationSpec::Table { dim: 4 };
            let dot = Interaction::Dot { itself: false };
            let spec = DlrmSpec::uniform(&schema, &table, dot, &[], &[4]);
            let mut model = Model::new(&schema, &spec, &options, None).unwrap();
            let ids = [3, 900, 7, 3, 900, 8, 3, 901, 9];
            let batch = BatchShape::new(&schema).from_rows(vec![0.5; 6], &ids).unwrap();
            let step = Step { options: &options, factor: 1.0, done: 0, averaged: None };
            model.step(&batch, &[1.0, 0.0, 1.0], step).unwrap().touched
        };
        // One of the first feature, two of the second, three of the third.
        assert_eq!((touched(1_000), touched(1 << 20)), (6, 6));
    }
}
