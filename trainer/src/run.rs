//! The loop over steps.

use std::ops::{ControlFlow, Range};

use mprec_representations::{Batch, BatchShape, DlrmSpec, ModelError, ProgramError, Schema};

use crate::{
    checkpoint::{Checkpoints, Position, Run, Snapshot, read_tensors},
    error::TrainError,
    examples::Examples,
    model::{Model, Step},
    options::TrainOptions,
    order::EpochOrder,
    progress::{HistoryPoint, Progress, Tracker},
    quality::Metrics,
    rows::Averaged,
    standardise::Standardisation,
    variant::{TrainSummary, TrainedVariant, score},
};

/// Trains `spec` on `rows` of `examples`.
///
/// `progress` is called after every step and may stop training by returning
/// [`ControlFlow::Break`]. With `checkpoints`, state is saved every so many steps and when training
/// is stopped, and the latest checkpoint in the folder, if any, is where it goes on: the result
/// has the same bits as that of a run that was never interrupted.
///
/// Memory: each stored row takes `dim + 1` floats with row-wise Adagrad, `2·dim + 1` with
/// averaging, and `dim` more with early stopping; besides that a window of row numbers, and a few
/// batches.
///
/// # Errors
///
/// [`TrainError`]: options or architecture that cannot work, rows or checkpoints that cannot be
/// read, memory that does not suffice, a loss that is no longer a number, or
/// [`TrainError::Stopped`] when `progress` asked to stop.
pub fn train(
    examples: &dyn Examples,
    rows: Range<usize>,
    spec: &DlrmSpec,
    options: &TrainOptions,
    checkpoints: Option<&Checkpoints>,
    progress: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
) -> Result<TrainedVariant, TrainError> {
    options.check()?;
    if rows.start > rows.end || rows.end > examples.rows() {
        let (start, end) = (rows.start, rows.end);
        return Err(TrainError::Rows { start, end, rows: examples.rows() });
    }
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(options.threads)
        .thread_name(|at| format!("mprec-train-{at}"))
        .build()?;
    let mut session = Session::new(examples, rows, spec, options, pool)?;
    if let Some(checkpoints) = checkpoints {
        session.resume(checkpoints)?;
    }
    session.run(checkpoints, progress)?;
    session.finish()
}

/// One call of [`train`].
struct Session<'a> {
    examples: &'a dyn Examples,
    spec: &'a DlrmSpec,
    options: &'a TrainOptions,
    shape: BatchShape,
    /// Rows to learn from.
    training: Range<usize>,
    /// Rows to judge on.
    held_out: Range<usize>,
    steps_per_epoch: u64,
    pool: rayon::ThreadPool,
    model: Model,
    run: Run,
    at: Position,
    best: Option<Snapshot>,
    tracker: Tracker,
    stopped_early: bool,
}

impl<'a> Session<'a> {
    fn new(
        examples: &'a dyn Examples,
        rows: Range<usize>,
        spec: &'a DlrmSpec,
        options: &'a TrainOptions,
        pool: rayon::ThreadPool,
    ) -> Result<Self, TrainError> {
        let schema: &Schema = examples.schema();
        let held_out = (rows.len() as f64 * options.validation.share) as usize;
        let training = rows.start..rows.end - held_out;
        if training.is_empty() {
            let (start, end) = (rows.start, rows.end);
            return Err(TrainError::Rows { start, end, rows: examples.rows() });
        }
        let standardisation = match options.standardise {
            true => Some(Standardisation::measure(examples, training.clone())?),
            false => None,
        };
        let model = pool.install(|| Model::new(schema, spec, options, standardisation))?;
        Ok(Self {
            examples,
            spec,
            options,
            shape: BatchShape::new(schema),
            steps_per_epoch: training.len().div_ceil(options.batch) as u64,
            held_out: training.end..rows.end,
            training,
            run: Run::new(schema, spec, options, &rows, pool.current_num_threads()),
            pool,
            model,
            at: Position::default(),
            best: None,
            tracker: Tracker::new(None),
            stopped_early: false,
        })
    }

    fn steps(&self) -> u64 {
        self.steps_per_epoch * u64::from(self.options.epochs)
    }

    fn resume(&mut self, checkpoints: &Checkpoints) -> Result<(), TrainError> {
        let Some((path, state)) = checkpoints.read_state(&self.run)? else {
            return Ok(());
        };
        self.at = state.at;
        self.model.standardisation = state.standardisation;
        if self.at.best.is_some() {
            self.best = Some(self.snapshot()?);
        }
        read_tensors(&path, &mut self.model, self.best.as_mut())?;
        self.tracker = Tracker::new(self.at.loss);
        Ok(())
    }

    fn run(
        &mut self,
        checkpoints: Option<&Checkpoints>,
        progress: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
    ) -> Result<(), TrainError> {
        let mut batch_rows = Vec::with_capacity(self.options.batch);
        while self.at.step < self.steps() && !self.is_out_of_patience() {
            let epoch = (self.at.step / self.steps_per_epoch) as u32;
            let skip = (self.at.step % self.steps_per_epoch) as usize * self.options.batch;
            let Range { start, end } = self.training.clone();
            let options = self.options;
            let mut order = EpochOrder::new(start..end, options.order, options.seed, epoch, skip);
            if options.renew_rows && epoch > 0 && skip == 0 {
                self.pool.install(|| self.model.stored.initialise(options, epoch));
            }
            loop {
                order.next(options.batch, &mut batch_rows);
                if batch_rows.is_empty() {
                    break;
                }
                self.step(&batch_rows)?;
                self.judge_if_due()?;
                let stop = progress(&self.progress(epoch)).is_break();
                self.save_if_due(checkpoints, stop)?;
                if stop && self.at.step < self.steps() {
                    return Err(TrainError::Stopped { step: self.at.step, steps: self.steps() });
                }
                if self.is_out_of_patience() {
                    break;
                }
            }
        }
        self.stopped_early = self.at.step < self.steps();
        Ok(())
    }

    fn step(&mut self, rows: &[usize]) -> Result<(), TrainError> {
        let (batch, labels) = gather(self.examples, rows, &self.shape)?;
        let (done, steps) = (self.at.step, self.steps());
        let averaged = self.average_start().is_some_and(|start| done >= start);
        let step = Step {
            options: self.options,
            // The middle of the step: a decay to zero does not waste the last one, and a warm-up
            // not the first.
            factor: self.options.schedule.factor((done as f64 + 0.5) / steps as f64),
            done,
            averaged: averaged.then_some(self.at.averaged + 1),
        };
        let outcome = self.pool.install(|| self.model.step(&batch, &labels, step))?;
        self.tracker.step(outcome.loss, &outcome.logits, &labels);
        self.at.averaged += u64::from(averaged);
        self.at.step += 1;
        self.at.rows += labels.len() as u64;
        self.at.loss = Some(self.tracker.loss);
        Ok(())
    }

    /// The first averaged step. Renewed rows share no history with those of an earlier epoch.
    fn average_start(&self) -> Option<u64> {
        let share = self.options.average_from?;
        let start = (self.steps() as f64 * share) as u64;
        let last_epoch = self.steps() - self.steps_per_epoch;
        Some(if self.options.renew_rows { start.max(last_epoch) } else { start })
    }

    /// The mean that the result is, if averaging has begun.
    fn averaged(&self) -> Averaged {
        (self.at.averaged > 0).then_some(self.at.averaged)
    }

    fn judge_if_due(&mut self) -> Result<(), TrainError> {
        let per_epoch = u64::from(self.options.validation.per_epoch);
        let within = (self.at.step - 1) % self.steps_per_epoch + 1;
        // Judgement j of an epoch comes after ⌈j / per_epoch⌉ of its steps.
        let judged = |steps: u64| steps * per_epoch / self.steps_per_epoch;
        if judged(within) == judged(within - 1) {
            return Ok(());
        }
        let mut tracker = std::mem::replace(&mut self.tracker, Tracker::new(None));
        let validation = tracker.paused(|| self.judge());
        self.tracker = tracker;
        let validation = validation?;
        self.at.history.push(HistoryPoint {
            step: self.at.step,
            epoch: ((self.at.step - 1) / self.steps_per_epoch) as u32 + 1,
            loss: self.tracker.loss,
            validation,
        });
        if let (Some(metrics), Some(_)) = (validation, self.options.validation.patience) {
            match self.at.best {
                Some((lowest, waited)) if metrics.logloss >= lowest => {
                    self.at.best = Some((lowest, waited + 1));
                }
                _ => {
                    self.at.best = Some((metrics.logloss, 0));
                    self.best = Some(self.snapshot()?);
                }
            }
        }
        Ok(())
    }

    /// Quality on the held-out rows, if there are any of both classes.
    fn judge(&self) -> Result<Option<Metrics>, TrainError> {
        if self.held_out.is_empty() {
            return Ok(None);
        }
        let averaged = self.averaged();
        let parameters = self.model.scoring_parameters(averaged)?;
        let (logits, labels) = score(self.examples, &self.shape, self.held_out.clone(), |batch| {
            Ok(self.pool.install(|| self.model.logits(&parameters, batch, averaged))?)
        })?;
        Ok(Metrics::from_logits(&logits, &labels).ok())
    }

    fn is_out_of_patience(&self) -> bool {
        matches!((self.at.best, self.options.validation.patience),
            (Some((_, waited)), Some(patience)) if waited >= patience)
    }

    fn snapshot(&self) -> Result<Snapshot, TrainError> {
        let averaged = self.averaged();
        let dense = self.model.scoring_parameters(averaged)?;
        let dense = dense.iter().map(|tensor| crate::ops::with_floats(tensor, <[f32]>::to_vec));
        Ok(Snapshot {
            dense: dense.collect::<candle_core::Result<_>>()?,
            rows: self.model.stored.tables.iter().map(|table| table.copy(averaged)).collect(),
        })
    }

    fn save_if_due(
        &mut self,
        checkpoints: Option<&Checkpoints>,
        stop: bool,
    ) -> Result<(), TrainError> {
        let Some(checkpoints) = checkpoints else { return Ok(()) };
        if !stop && !self.at.step.is_multiple_of(checkpoints.every.max(1)) {
            return Ok(());
        }
        let Self { run, at, model, best, tracker, .. } = self;
        tracker.paused(|| checkpoints.write(run, at, model, best.as_ref()))
    }

    fn progress(&self, epoch: u32) -> Progress {
        let left = (self.steps() - self.at.step) * self.options.batch as u64;
        self.tracker.report(
            Progress {
                step: self.at.step,
                steps: self.steps(),
                epoch: epoch + 1,
                epochs: self.options.epochs,
                rows: self.at.rows,
                validation: self.at.history.last().and_then(|point| point.validation),
                ..Progress::default()
            },
            left,
        )
    }

    fn finish(mut self) -> Result<TrainedVariant, TrainError> {
        let rows_per_second = self.progress(0).rows_per_second;
        let mut averaged = self.averaged();
        if let Some(best) = self.best.take() {
            averaged = None;
            for (at, values) in best.dense.into_iter().enumerate() {
                self.model.dense.set(at, values)?;
            }
            for (table, values) in self.model.stored.tables.iter_mut().zip(best.rows) {
                *table.state()[0].1 = values;
            }
        }
        let weights = self.model.into_weights(averaged)?;
        let summary = TrainSummary {
            steps: self.at.step,
            rows: self.at.rows,
            loss: self.tracker.loss,
            rows_per_second,
            stopped_early: self.stopped_early,
            history: self.at.history,
        };
        Ok(TrainedVariant { spec: self.spec.clone(), weights, summary })
    }
}

/// Fetches rows, and refuses what does not look as the schema promised: indices into tables rest
/// on its bounds.
pub(crate) fn gather(
    examples: &dyn Examples,
    rows: &[usize],
    shape: &BatchShape,
) -> Result<(Batch, Vec<f32>), TrainError> {
    let (batch, labels) = examples.gather(rows).map_err(TrainError::Examples)?;
    check(&batch, shape)?;
    let fail = |message: String| Err(TrainError::Examples(message.into()));
    if labels.len() != rows.len() || batch.samples() != rows.len() {
        let (samples, labels) = (batch.samples(), labels.len());
        return fail(format!(
            "{samples} samples with {labels} labels came for {} rows; training needs labels",
            rows.len()
        ));
    }
    match labels.iter().position(|&label| label != 0.0 && label != 1.0) {
        Some(at) => fail(format!("label {} of row {} is neither 0 nor 1", labels[at], rows[at])),
        None => Ok((batch, labels)),
    }
}

/// Refuses a batch of other features.
pub(crate) fn check(batch: &Batch, shape: &BatchShape) -> Result<(), TrainError> {
    let expected = shape.empty();
    if batch.dense_width() == expected.dense_width() && batch.bounds() == expected.bounds() {
        return Ok(());
    }
    Err(TrainError::Model(ModelError::Program(ProgramError::Batch {
        dense: (batch.dense_width(), expected.dense_width()),
        sparse: (batch.features(), expected.features()),
    })))
}
