//! Everything that decides what is learned besides data and architecture.

use serde::{Deserialize, Serialize};

use crate::error::TrainError;

/// How to train. [`TrainOptions::default`] is a sound start; [`Recipe`](crate::Recipe) tunes it for
/// each representation.
///
/// Two runs with equal options, rows and architecture give the same bits on one machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainOptions {
    /// Decides initial weights, hash functions and the order of samples.
    pub seed: u64,
    /// Samples per step.
    pub batch: usize,
    /// Passes over the training rows.
    pub epochs: u32,
    /// In which order a pass visits its rows.
    pub order: Order,
    /// Optimiser of bottom net, top net and decoders.
    pub dense: DenseOptimizer,
    /// Optimiser of stored rows.
    pub rows: RowOptimizer,
    /// How learning rates change over the steps.
    pub schedule: Schedule,
    /// If set, the result is the mean of the weights after each step from this share of the steps
    /// on (Polyak and Juditsky 1992), e.g. 0.5 for the last half. Costs a second copy of the
    /// tables, and no more time per step than rows touched.
    pub average_from: Option<f64>,
    /// Initial values of stored rows.
    pub initial_rows: InitialRows,
    /// Whether rows start anew with every epoch while the nets go on learning. The nets then see
    /// several samplings of noisy rows, and rows cannot overfit by being seen twice. Averaging
    /// starts in the last epoch at the earliest.
    pub renew_rows: bool,
    /// Whether dense features are shifted and scaled to mean 0 and variance 1 over the training
    /// rows. The finished variant needs no such step: it is folded into its first layer.
    pub standardise: bool,
    /// The hash functions of DHEs.
    pub hashes: Hashes,
    /// What to hold out of the training rows, and when to stop.
    pub validation: Validation,
    /// Threads that share each step; 0 for one per core. Sums are ordered by thread, so another
    /// number gives other low-order bits.
    pub threads: usize,
}

/// In which order a pass visits its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case", deny_unknown_fields)]
pub enum Order {
    /// As they happened.
    Time,
    /// At random, by seed and epoch. Blocks of 4,096 consecutive rows are shuffled, then the rows
    /// of as many blocks as make up a window: one window is resident at a time.
    Shuffled {
        /// Rows among which one is drawn; at least all rows for a perfect shuffle.
        window: usize,
    },
}

/// Adam with decoupled weight decay (Kingma and Ba 2015; Loshchilov and Hutter 2019).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DenseOptimizer {
    /// Step size of the bottom and top nets.
    pub learning_rate: f64,
    /// Step size of DHE decoders.
    pub decoder_learning_rate: f64,
    /// Decay of the mean gradient.
    pub beta1: f64,
    /// Decay of the mean squared gradient.
    pub beta2: f64,
    /// Added to the root of the mean squared gradient.
    pub epsilon: f64,
    /// Share of each weight (not bias) lost per step, times the learning rate.
    pub weight_decay: f64,
}

/// How touched rows follow their gradient `g`. Untouched rows are never read nor written.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RowOptimizer {
    /// The rule.
    pub rule: RowRule,
    /// Step size.
    pub learning_rate: f64,
    /// Pull towards zero, added to the gradient as `l2 · row` when a row is touched.
    pub l2: f64,
}

/// Update rule of rows.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "rule", rename_all = "snake_case", deny_unknown_fields)]
pub enum RowRule {
    /// `row -= rate · g`
    Sgd,
    /// One accumulator per row: `G += mean(g²)`, `row -= rate · g / (√G + ε)` (Duchi et al. 2011,
    /// row-wise as in FBGEMM).
    RowWiseAdagrad {
        /// Initial accumulator.
        initial: f64,
        /// ε
        epsilon: f64,
    },
}

/// A factor on all learning rates, by share of the planned steps done.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Schedule {
    /// Share of the steps over which the factor first rises from 0 to 1.
    pub warm_up: f64,
    /// How it falls from there to the last step.
    pub decay: Decay,
    /// It never falls below this.
    pub floor: f64,
}

/// How learning rates fall.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decay {
    /// Not at all.
    #[default]
    Constant,
    /// Along a line to zero.
    Linear,
    /// Along half a cosine to zero.
    Cosine,
}

/// Initial values of stored rows.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "distribution", rename_all = "snake_case", deny_unknown_fields)]
pub enum InitialRows {
    /// Uniform between `±√(1/n)` for a table of `n` rows: that of `facebookresearch/dlrm`.
    UniformByRows,
    /// Normal around zero.
    Normal {
        /// Standard deviation.
        deviation: f64,
    },
}

/// The family from which the hash functions of DHEs are drawn: `((a·id + b) mod prime) mod range`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Hashes {
    /// p. Ids that agree modulo p cannot be told apart, so it must exceed every id. It is taken to
    /// be prime.
    pub prime: i64,
    /// m, the number of distinct values of each hash.
    pub range: i64,
    /// Train even if ids collide modulo p, as MP-Rec's artifact does.
    pub allow_collisions: bool,
}

/// What to hold out of the training rows, and when to stop.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Validation {
    /// Share of the rows, at their end, that is not trained on but judged; 0 for none.
    pub share: f64,
    /// Judgements per epoch, evenly spread, the last at its end.
    pub per_epoch: u32,
    /// If set, training stops after this many judgements in a row that do not lower the log loss,
    /// and the best weights are the result. Costs a second copy of the tables.
    pub patience: Option<u32>,
}

impl Default for TrainOptions {
    fn default() -> Self {
        Self {
            seed: 1,
            batch: 256,
            epochs: 1,
            order: Order::default(),
            dense: DenseOptimizer::default(),
            rows: RowOptimizer::default(),
            schedule: Schedule::default(),
            average_from: Some(0.5),
            initial_rows: InitialRows::Normal { deviation: 0.05 },
            renew_rows: false,
            standardise: true,
            hashes: Hashes::default(),
            validation: Validation::default(),
            threads: 0,
        }
    }
}

impl Default for Order {
    /// A window of 2^20 rows, 170 MB of samples in the Criteo shape.
    fn default() -> Self {
        Self::Shuffled { window: 1 << 20 }
    }
}

impl Default for DenseOptimizer {
    fn default() -> Self {
        Self {
            learning_rate: 1e-3,
            decoder_learning_rate: 1e-3,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.0,
        }
    }
}

impl Default for RowOptimizer {
    fn default() -> Self {
        Self {
            rule: RowRule::RowWiseAdagrad { initial: 0.0, epsilon: 1e-8 },
            learning_rate: 0.05,
            l2: 0.0,
        }
    }
}

impl Default for Schedule {
    fn default() -> Self {
        Self { warm_up: 0.0, decay: Decay::Constant, floor: 0.0 }
    }
}

impl Default for Hashes {
    /// 2^26 - 5, the largest prime below 2^26: six times the largest id of Criteo's logs, and small
    /// enough that the product of two residues is exact in double precision, which is what the CPU
    /// backend's vectorised hashing needs. Larger vocabularies need a larger one, at scalar speed.
    fn default() -> Self {
        Self { prime: (1 << 26) - 5, range: 1_000_000, allow_collisions: false }
    }
}

impl Default for Validation {
    fn default() -> Self {
        Self { share: 0.0, per_epoch: 1, patience: None }
    }
}

impl TrainOptions {
    /// Refuses options outside their range.
    ///
    /// # Errors
    ///
    /// [`TrainError::Option`], which names the first of them.
    pub fn check(&self) -> Result<(), TrainError> {
        let count = |option, value: u64, most: u64| {
            within(option, (1..=most).contains(&value), format!("1 to {most}"), &value)
        };
        count("batch", self.batch as u64, 1 << 20)?;
        count("epochs", u64::from(self.epochs), 10_000)?;
        count("validation.per_epoch", u64::from(self.validation.per_epoch), 10_000)?;
        if let Order::Shuffled { window } = self.order {
            count("order.window", window as u64, 1 << 32)?;
        }
        if let Some(patience) = self.validation.patience {
            count("validation.patience", u64::from(patience), 10_000)?;
        }
        within("threads", self.threads <= 1024, "0 to 1024".into(), &self.threads)?;
        let share = |option, value: f64, most: f64| {
            within(option, (0.0..=most).contains(&value), format!("between 0 and {most}"), &value)
        };
        share("average_from", self.average_from.unwrap_or(0.0), 0.999)?;
        share("schedule.warm_up", self.schedule.warm_up, 1.0)?;
        share("schedule.floor", self.schedule.floor, 1.0)?;
        share("validation.share", self.validation.share, 0.9)?;
        share("dense.beta1", self.dense.beta1, 0.999_999_9)?;
        share("dense.beta2", self.dense.beta2, 0.999_999_9)?;
        if self.validation.patience.is_some() && self.validation.share == 0.0 {
            let expected = "above 0 when `validation.patience` is set".into();
            return within("validation.share", false, expected, &0);
        }
        let positive = |option, value: f64| {
            let fits = value > 0.0 && value.is_finite();
            within(option, fits, "a positive number".into(), &value)
        };
        positive("dense.learning_rate", self.dense.learning_rate)?;
        positive("dense.decoder_learning_rate", self.dense.decoder_learning_rate)?;
        positive("dense.epsilon", self.dense.epsilon)?;
        positive("rows.learning_rate", self.rows.learning_rate)?;
        let not_negative = |option, value: f64| {
            let fits = value >= 0.0 && value.is_finite();
            within(option, fits, "a number not below 0".into(), &value)
        };
        not_negative("dense.weight_decay", self.dense.weight_decay)?;
        not_negative("rows.l2", self.rows.l2)?;
        if let RowRule::RowWiseAdagrad { initial, epsilon } = self.rows.rule {
            not_negative("rows.rule.initial", initial)?;
            positive("rows.rule.epsilon", epsilon)?;
        }
        if let InitialRows::Normal { deviation } = self.initial_rows {
            not_negative("initial_rows.deviation", deviation)?;
        }
        let Hashes { prime, range, .. } = self.hashes;
        let most = mprec_representations::dhe::MAX_PRIME;
        within("hashes.prime", (3..=most).contains(&prime), format!("3 to {most}"), &prime)?;
        let most = mprec_representations::dhe::MAX_RANGE;
        within("hashes.range", (2..=most).contains(&range), format!("2 to {most}"), &range)
    }
}

fn within(
    option: &'static str,
    fits: bool,
    expected: String,
    got: &dyn std::fmt::Display,
) -> Result<(), TrainError> {
    if fits { Ok(()) } else { Err(TrainError::Option { option, expected, got: got.to_string() }) }
}

impl Schedule {
    /// The factor when `done` of the steps, between 0 and 1, are done.
    pub fn factor(&self, done: f64) -> f64 {
        if done < self.warm_up {
            return done / self.warm_up;
        }
        let falling = (done - self.warm_up) / (1.0 - self.warm_up).max(f64::MIN_POSITIVE);
        let factor = match self.decay {
            Decay::Constant => 1.0,
            Decay::Linear => 1.0 - falling,
            Decay::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * falling).cos()),
        };
        factor.max(self.floor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_options_are_valid_and_survive_json() {
        let options = TrainOptions::default();
        options.check().unwrap();
        let json = serde_json::to_string(&options).unwrap();
        assert_eq!(serde_json::from_str::<TrainOptions>(&json).unwrap(), options);
        assert!(serde_json::from_str::<TrainOptions>(r#"{"epoch": 3}"#).is_err());
    }

    #[test]
    fn options_out_of_range_are_refused_by_name() {
        fn refused(name: &str, breaks: impl Fn(&mut TrainOptions)) {
            let mut options = TrainOptions::default();
            breaks(&mut options);
            let error = options.check().unwrap_err();
            assert!(
                matches!(error, TrainError::Option { option, .. } if option == name),
                "{error}"
            );
        }
        refused("batch", |options| options.batch = 0);
        refused("epochs", |options| options.epochs = 0);
        refused("average_from", |options| options.average_from = Some(1.0));
        refused("dense.learning_rate", |options| options.dense.learning_rate = f64::NAN);
        refused("rows.l2", |options| options.rows.l2 = -1.0);
        refused("hashes.range", |options| options.hashes.range = 1);
        refused("hashes.prime", |options| options.hashes.prime = i64::MAX);
        refused("validation.share", |options| options.validation.patience = Some(1));
    }

    #[test]
    fn a_schedule_warms_up_decays_and_keeps_its_floor() {
        let schedule = Schedule { warm_up: 0.1, decay: Decay::Linear, floor: 0.2 };
        assert!((schedule.factor(0.05) - 0.5).abs() < 1e-12);
        assert!((schedule.factor(0.1) - 1.0).abs() < 1e-12);
        assert!((schedule.factor(0.55) - 0.5).abs() < 1e-12);
        assert!((schedule.factor(1.0) - 0.2).abs() < 1e-12);
        let cosine = Schedule { decay: Decay::Cosine, ..Schedule::default() };
        assert!((cosine.factor(0.5) - 0.5).abs() < 1e-12);
    }
}
