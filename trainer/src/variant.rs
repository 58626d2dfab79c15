//! A finished variant, and scoring with it.

use std::ops::Range;

use candle_core::Tensor;
use mprec_representations::{
    self as model, Batch, BatchShape, DlrmSpec, Schema, Weights, WeightsError,
};
use serde::{Deserialize, Serialize};

use crate::{
    dense::Dense,
    error::TrainError,
    examples::Examples,
    initial::each_encoder,
    model::Model,
    net::Net,
    progress::HistoryPoint,
    run::{check, gather},
    stored::Stored,
};

/// Samples scored at a time.
const BATCH: usize = 4096;

/// What training gives.
#[derive(Debug, Clone)]
pub struct TrainedVariant {
    /// The architecture.
    pub spec: DlrmSpec,
    /// The parameters, with the names of [`DlrmSpec::tensors`].
    pub weights: Weights,
    /// How it came about.
    pub summary: TrainSummary,
}

/// What a manifest may tell of a training run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainSummary {
    /// Steps done.
    pub steps: u64,
    /// Rows trained on, counting each as often as it was seen.
    pub rows: u64,
    /// Running training loss at the end.
    pub loss: f64,
    /// Rows per second, without validation and checkpoints; since the last resumption.
    pub rows_per_second: f64,
    /// Whether it stopped before the planned number of steps.
    pub stopped_early: bool,
    /// Judgements on validation rows, in order.
    pub history: Vec<HistoryPoint>,
}

/// Scores samples with a finished variant through the trainer's own arithmetic, in batches and on
/// all threads of the current rayon pool. It is held to the reference interpreter within 1e-5.
#[derive(Debug)]
pub struct Scorer {
    shape: BatchShape,
    model: Model,
    parameters: Vec<Tensor>,
}

impl Scorer {
    /// Takes the parameters of `spec` from `weights`. Tables are shared, not copied.
    ///
    /// # Errors
    ///
    /// [`TrainError::Model`] when the architecture does not fit the schema, or a tensor is missing
    /// or of another type or shape.
    pub fn new(schema: &Schema, spec: &DlrmSpec, weights: &Weights) -> Result<Self, TrainError> {
        let net = Net::new(schema, spec)?;
        let find = |name: &String, shape: &[usize]| -> Result<model::Tensor<f32>, WeightsError> {
            weights.f32(&model::TensorSpec::f32(name, shape))
        };
        let mut values = Vec::new();
        for parameter in net.parameters() {
            let mut grouped = Vec::with_capacity(parameter.names.len() * parameter.group_len());
            for name in &parameter.names {
                let tensor = find(name, &parameter.shape).map_err(model::ModelError::from)?;
                grouped.extend_from_slice(tensor.as_slice());
            }
            values.push(grouped);
        }
        let encoders = each_encoder(&net, |spec, feature| {
            let name = format!("dhe_l.hash_params.{feature}");
            weights.typed(&model::TensorSpec::new::<i64>(name, &[spec.hashes, 4]))
        })?;
        let stored = Stored::load(schema, spec, weights).map_err(model::ModelError::from)?;
        let dense = Dense::new(&net, values, false)?;
        let model = Model { net, dense, stored, encoders, standardisation: None };
        let shape = BatchShape::new(schema);
        Ok(Self { shape, parameters: model.scoring_parameters(None)?, model })
    }

    /// One logit per sample.
    ///
    /// # Errors
    ///
    /// [`TrainError::Model`] when the batch has other features.
    pub fn logits(&self, batch: &Batch) -> Result<Vec<f32>, TrainError> {
        check(batch, &self.shape)?;
        Ok(self.model.logits(&self.parameters, batch, None)?)
    }

    /// Logits and labels of some rows, in order.
    ///
    /// # Errors
    ///
    /// When rows cannot be read, or have other features.
    pub fn score(
        &self,
        examples: &dyn Examples,
        rows: Range<usize>,
    ) -> Result<(Vec<f32>, Vec<f32>), TrainError> {
        score(examples, &self.shape, rows, |batch| self.logits(batch))
    }
}

/// Logits and labels of some rows, in order.
pub(crate) fn score(
    examples: &dyn Examples,
    shape: &BatchShape,
    rows: Range<usize>,
    logits_of: impl Fn(&Batch) -> Result<Vec<f32>, TrainError>,
) -> Result<(Vec<f32>, Vec<f32>), TrainError> {
    let (mut logits, mut labels) = (Vec::new(), Vec::new());
    let mut start = rows.start;
    while start < rows.end {
        let end = rows.end.min(start + BATCH);
        let indices: Vec<usize> = (start..end).collect();
        let (batch, truth) = gather(examples, &indices, shape)?;
        logits.extend(logits_of(&batch)?);
        labels.extend(truth);
        start = end;
    }
    Ok((logits, labels))
}
