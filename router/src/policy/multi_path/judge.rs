//! What a query is worth on one path.

use super::DeviceMemory;
use crate::{
    PathId,
    lateness::Lateness,
    predict::{Prediction, tail},
    split::{self, Way},
};

/// A path as an answer to the query.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate {
    pub(super) path: PathId,
    pub(super) device: usize,
    pub(super) accuracy: f64,
    pub(super) prediction: Prediction,
    pub(super) sure: bool,
    /// Probability that it would be in time on an idle device.
    pub(super) alone: f64,
    pub(super) chance: f64,
    pub(super) score: f64,
}

/// How a query is judged on one path.
#[derive(Clone, Copy)]
pub(super) struct Judge<'d> {
    pub(super) device: &'d DeviceMemory,
    /// How often queries of this device were late.
    pub(super) lateness: &'d Lateness,
    pub(super) at: usize,
    pub(super) path: PathId,
    pub(super) accuracy: f64,
    /// Correct predictions that an answer is worth.
    pub(super) value: f64,
    /// The query's whole time budget, and what is left of it.
    pub(super) full_ns: f64,
    pub(super) budget_ns: f64,
    pub(super) waiting_share: f64,
    /// What of the budget must be left for others to join a batch that the whole query begins.
    pub(super) room_ns: f64,
    /// How many times what it costs beyond the last path, whose price is `level_price`, a more accurate one must be worth.
    pub(super) step_up: f64,
    pub(super) level_price: f64,
    /// The price of the lane time that the whole takes.
    pub(super) whole_price: f64,
    /// Whether no parts are looked at where the whole is sure.
    pub(super) is_whole_if_sure: bool,
}

impl split::Judge for Judge<'_> {
    type Way = Candidate;

    // Where it is a part of the loop over the paths, nothing goes through memory.
    #[inline(always)]
    fn judge(self, prediction: Prediction) -> Candidate {
        let Self { lateness, device, at, path, accuracy, value, .. } = self;
        let Self { full_ns, waiting_share, step_up, is_whole_if_sure, .. } = self;
        let room_ns = if prediction.parts == 1 { self.room_ns } else { 0.0 };
        let budget_ns = self.budget_ns - room_ns;
        let spare_ns = budget_ns - (prediction.upper_ns() - prediction.wait_ns);
        let harmless = prediction.slack_behind_ns == f64::INFINITY
            || prediction.cost_ns / device.lanes <= prediction.slack_behind_ns;
        let sure = harmless && prediction.wait_ns <= waiting_share * spare_ns;
        let alone = if sure { 1.0 } else { prediction.chance(full_ns + prediction.wait_ns) };
        let service_spare_ns = budget_ns - prediction.service_ns;
        let may_wait =
            waiting_share >= 1.0 || prediction.wait_ns <= waiting_share * service_spare_ns;
        // The probability that lanes which this query leaves idle become busy.
        let (price, rush) = match prediction.parts as usize {
            1 => (self.whole_price, device.rush),
            parts => (
                device.price.of(device.workload, prediction.cost_ns),
                device.price.become_busy(device.idle.saturating_sub(parts)),
            ),
        };
        let harm = rush * (price + (step_up - 1.0) * (price - self.level_price).max(0.0));
        // What a surer and better path of the device beats in any case needs no closer look.
        let is_beaten =
            sure && is_whole_if_sure && device.best_score > 0.0 && value - harm < device.best_score;
        let chance = if is_beaten {
            1.0
        } else if harmless && may_wait {
            let spare = prediction.spare(budget_ns);
            (1.0 - tail(spare) - lateness.excess(spare)).max(0.0)
        } else {
            0.0
        };
        let score = value * chance - harm;
        Candidate { path, device: at, accuracy, prediction, sure, alone, chance, score }
    }
}

impl Candidate {
    pub(super) fn unjudged(
        path: PathId,
        device: usize,
        accuracy: f64,
        prediction: Prediction,
    ) -> Self {
        let (sure, alone, chance, score) = (false, 0.0, 0.0, 0.0);
        Self { path, device, accuracy, prediction, sure, alone, chance, score }
    }
}

impl Way for Candidate {
    fn is_sure(&self) -> bool {
        self.sure
    }

    fn score(&self) -> f64 {
        self.score
    }

    fn prediction(&self) -> &Prediction {
        &self.prediction
    }
}
