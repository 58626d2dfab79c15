//! What of a plan depends on the dense values alone: the bottom net. Where groups of samples share those, it runs once
//! per group.

use super::{place::Place, step::Step};

/// Which steps these are, and where their results meet what there is per sample.
#[derive(Debug)]
pub(crate) struct DenseSteps {
    /// By step: whether it reads dense values, or what was made of them alone, and nothing else.
    alone: Vec<bool>,
    /// By step, and once more for the end: what it reads of that beside other things.
    read: Vec<Vec<Place>>,
    /// Whether a step reads the batch's own dense values beside other things.
    mixed: bool,
}

impl DenseSteps {
    /// Of the steps of a plan whose scores are in `score`.
    pub(crate) fn new(steps: &[Step], score: Place) -> Self {
        let mut found = Self { alone: Vec::new(), read: Vec::new(), mixed: false };
        // What is in rows of groups, before the next step.
        let mut made: Vec<Place> = Vec::new();
        for step in steps {
            let inputs = step.inputs();
            let known = |place: &Place| place.buffer.is_none() || made.contains(place);
            let alone = !inputs.is_empty() && inputs.iter().all(known);
            found.alone.push(alone);
            if alone {
                found.read.push(Vec::new());
            } else {
                found.mixed |= inputs.iter().any(|place| place.buffer.is_none());
                let read = |place: &Place| inputs.iter().any(|input| overlap(*place, *input));
                found.read.push(made.extract_if(.., |place| read(place)).collect());
            }
            for output in step.outputs() {
                // Of the same place in memory, what was there has been read for the last time.
                made.retain(|place| !overlap(*place, output));
                if alone {
                    made.push(output);
                }
            }
        }
        found.read.push(made.into_iter().filter(|place| overlap(*place, score)).collect());
        found
    }

    /// Whether step `at` is one.
    pub(crate) fn alone(&self, at: usize) -> bool {
        self.alone[at]
    }

    /// What is to be spread to samples before step `at`, or at the end.
    pub(crate) fn read(&self, at: usize) -> &[Place] {
        &self.read[at]
    }

    /// Whether dense values must be there for every sample.
    pub(crate) fn mixed(&self) -> bool {
        self.mixed
    }

    /// Floats of a group that are spread.
    pub(crate) fn width(&self) -> usize {
        self.read.iter().flatten().map(|place| place.width).sum()
    }
}

/// Whether two places have memory in common. Places of different strides are different matrices, of which one takes the
/// other's place.
fn overlap(one: Place, other: Place) -> bool {
    let ends_before = |one: Place, other: Place| one.offset + one.width <= other.offset;
    one.buffer.is_some()
        && one.buffer == other.buffer
        && (one.stride != other.stride || !(ends_before(one, other) || ends_before(other, one)))
}

#[cfg(test)]
mod tests {
    use mprec_representations::{
        Activation, Combination, Interaction, Program, ProgramBuilder, RowIndex, Rows, Schema,
        Slot, SparseFeature, Tensor,
    };

    use super::*;
    use crate::cpu::{level::Level, plan::Plan};

    fn plan(build: impl Fn(&mut ProgramBuilder, Slot) -> Slot) -> Plan {
        let sparse = vec![SparseFeature { name: "a".into(), cardinality: 3 }];
        let dense = vec!["x".into(), "y".into()];
        let schema = Schema::new(dense, sparse, Default::default()).unwrap();
        let mut program = ProgramBuilder::new(&schema);
        let rows = Rows::F32(Tensor::new(&[3, 2], vec![1.0; 6]));
        let a = program.bag_sum(0, rows, RowIndex::Id).unwrap();
        let met = build(&mut program, a);
        let logit = layer(&mut program, met, 1);
        let program: Program = program.finish(logit).unwrap();
        Plan::new(&program, Level::Scalar).unwrap()
    }

    fn layer(program: &mut ProgramBuilder, input: Slot, outputs: usize) -> Slot {
        let inputs = program.width(input);
        let weight = Tensor::new(&[outputs, inputs], vec![1.0; outputs * inputs]);
        let bias = Tensor::new(&[outputs], vec![0.0; outputs]);
        program.linear(input, weight, bias, Activation::Relu).unwrap()
    }

    #[test]
    fn the_bottom_net_is_alone_until_it_meets_the_vectors() {
        let plan = plan(|program, a| {
            let hidden = layer(program, program.dense(), 5);
            let bottom = layer(program, hidden, 2);
            program.interact(Interaction::Dot { itself: false }, vec![bottom, a]).unwrap()
        });
        let alone = (0..plan.steps.len()).filter(|&at| plan.dense.alone(at)).count();
        assert_eq!((alone, plan.dense.width(), plan.dense.mixed()), (2, 2, false));
        let dot = plan.steps.iter().position(|step| matches!(step, Step::Dot { .. })).unwrap();
        assert_eq!(plan.dense.read(dot).len(), 1);
    }

    #[test]
    fn dense_values_that_meet_vectors_themselves_are_needed_for_every_sample() {
        let product = |program: &mut ProgramBuilder, a| {
            program.combine(Combination::Mult, program.dense(), a).unwrap()
        };
        assert!(plan(product).dense.mixed());
        // A copy among the vectors is of dense values alone.
        let copied = plan(|program, a| {
            program.interact(Interaction::Cat, vec![program.dense(), a]).unwrap()
        });
        assert_eq!((copied.dense.mixed(), copied.dense.width()), (false, 2));
    }

    #[test]
    fn a_score_of_dense_values_alone_is_spread_at_the_end() {
        let plan = plan(|program, _| program.dense());
        assert_eq!(plan.dense.read(plan.steps.len()).len(), 1);
    }
}
