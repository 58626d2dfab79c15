//! The order in which a plan runs a program's operations.
//!
//! Lookups depend on nothing, so all of them run together where the first one stands. What exists
//! per id of a feature depends on nothing outside it, so it runs together too, from the encoder to
//! the sums over bags. Everything else keeps its place.

use std::ops::Range;

use mprec_representations::{Op, Program, RowsOf};

/// Operations, by index into [`Program::ops`], that run as one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stage {
    /// All lookups.
    Gather(Vec<usize>),
    /// All that exists per id of one feature, and its sums over bags.
    Chain {
        /// The sparse feature.
        feature: usize,
        /// In order.
        ops: Vec<usize>,
    },
    /// One operation.
    One(usize),
}

/// Stages in order, and when each operation runs.
#[derive(Debug)]
pub(crate) struct Schedule {
    /// What runs.
    pub(crate) stages: Vec<Stage>,
    /// By operation: the time at which it runs.
    pub(crate) times: Vec<usize>,
    /// By operation: the times of the whole stage that it belongs to.
    pub(crate) spans: Vec<Range<usize>>,
}

impl Schedule {
    pub(crate) fn new(program: &Program) -> Self {
        let ops = program.ops();
        let mut gathered = false;
        let mut chained = vec![false; program.bounds().len()];
        let mut stages = Vec::new();
        for (index, op) in ops.iter().enumerate() {
            if matches!(op, Op::BagSum { .. }) {
                if !gathered {
                    let is_lookup = |&at: &usize| matches!(ops[at], Op::BagSum { .. });
                    stages.push(Stage::Gather((0..ops.len()).filter(is_lookup).collect()));
                    gathered = true;
                }
            } else if let Some(feature) = feature_of(program, op) {
                if !chained[feature] {
                    let belongs = |&at: &usize| feature_of(program, &ops[at]) == Some(feature);
                    let ops = (index..ops.len()).filter(belongs).collect();
                    stages.push(Stage::Chain { feature, ops });
                    chained[feature] = true;
                }
            } else {
                stages.push(Stage::One(index));
            }
        }
        let mut times = vec![0; ops.len()];
        let mut spans = vec![0..0; ops.len()];
        let mut now = 0;
        for stage in &stages {
            let (members, length) = match stage {
                Stage::Gather(members) => (&members[..], 1),
                Stage::Chain { ops, .. } => (&ops[..], ops.len()),
                Stage::One(op) => (std::slice::from_ref(op), 1),
            };
            for (position, &op) in members.iter().enumerate() {
                times[op] = now + position.min(length - 1);
                spans[op] = now..now + length;
            }
            now += length;
        }
        Self { stages, times, spans }
    }
}

/// The feature over whose ids `op` runs, if it runs over ids.
fn feature_of(program: &Program, op: &Op) -> Option<usize> {
    match op {
        Op::BagReduce { feature, .. } => Some(*feature),
        _ => match program.slots()[op.output().index()].rows {
            RowsOf::Ids { feature } => Some(feature),
            RowsOf::Samples => None,
        },
    }
}
