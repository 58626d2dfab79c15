//! What a caller learns while training runs.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use crate::quality::{Metrics, auc};

/// Share of the latest step in the running loss.
const LOSS_SHARE: f64 = 0.02;

/// Samples over which the running AUC looks back.
const RECENT: usize = 1 << 14;

/// How often the running AUC is worked out anew.
const EVERY: Duration = Duration::from_millis(500);

/// Where training stands. Handed to the caller's function after every step.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Progress {
    /// Steps done.
    pub step: u64,
    /// Steps planned; early stopping may do with less.
    pub steps: u64,
    /// The epoch, from 1.
    pub epoch: u32,
    /// Epochs planned.
    pub epochs: u32,
    /// Training rows seen, counting each as often as it was seen.
    pub rows: u64,
    /// Exponentially weighted mean of the steps' losses, each taken before the step's change.
    pub loss: f64,
    /// AUC over the most recent 16,384 rows, each scored before it was trained on. In a first
    /// epoch these are rows never seen before. Absent while there are too few.
    pub recent_auc: Option<f64>,
    /// The latest judgement on the held-out validation rows.
    pub validation: Option<Metrics>,
    /// Rows per second, over this run and without the time for validation and checkpoints.
    pub rows_per_second: f64,
    /// Time since training, or its resumption, began.
    pub elapsed: Duration,
    /// Time that the remaining steps will take at this rate.
    pub remaining: Duration,
}

/// One judgement on validation rows during training.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct HistoryPoint {
    /// Steps done.
    pub step: u64,
    /// The epoch, from 1.
    pub epoch: u32,
    /// Running training loss at this point.
    pub loss: f64,
    /// Quality on the validation rows. Absent where they cannot be judged, being of one class.
    pub validation: Option<Metrics>,
}

/// Keeps the running figures.
#[derive(Debug)]
pub(crate) struct Tracker {
    started: Instant,
    /// Time that was not spent on steps.
    paused: Duration,
    rows: u64,
    pub(crate) loss: f64,
    recent: VecDeque<(f32, f32)>,
    recent_auc: Option<f64>,
    judged: Instant,
}

impl Tracker {
    /// Begins with the running loss of an earlier run, if any.
    pub(crate) fn new(loss: Option<f64>) -> Self {
        let now = Instant::now();
        Self {
            started: now,
            paused: Duration::ZERO,
            rows: 0,
            loss: loss.unwrap_or(f64::NAN),
            recent: VecDeque::with_capacity(RECENT),
            recent_auc: None,
            judged: now,
        }
    }

    /// Notes a step.
    pub(crate) fn step(&mut self, loss: f64, logits: &[f32], labels: &[f32]) {
        self.rows += labels.len() as u64;
        self.loss =
            if self.loss.is_nan() { loss } else { self.loss + LOSS_SHARE * (loss - self.loss) };
        let surplus = (self.recent.len() + labels.len()).saturating_sub(RECENT);
        self.recent.drain(..surplus.min(self.recent.len()));
        self.recent.extend(logits.iter().copied().zip(labels.iter().copied()));
        if self.judged.elapsed() >= EVERY {
            let (logits, labels): (Vec<f32>, Vec<f32>) = self.recent.iter().copied().unzip();
            self.recent_auc = auc(&logits, &labels);
            self.judged = Instant::now();
        }
    }

    /// Runs something that is not a step.
    pub(crate) fn paused<T>(&mut self, other: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = other();
        self.paused += start.elapsed();
        result
    }

    /// Fills in what this keeps.
    pub(crate) fn report(&self, at: Progress, rows_left: u64) -> Progress {
        let elapsed = self.started.elapsed();
        let busy = elapsed.saturating_sub(self.paused).as_secs_f64().max(1e-9);
        let rows_per_second = self.rows as f64 / busy;
        Progress {
            loss: self.loss,
            recent_auc: self.recent_auc,
            rows_per_second,
            elapsed,
            remaining: Duration::try_from_secs_f64(rows_left as f64 / rows_per_second)
                .unwrap_or(Duration::MAX),
            ..at
        }
    }
}
