//! What the conformance suite does not see: that what should run together does, and ends of ranges it does not reach.

use std::sync::Arc;

use memmap2::MmapMut;
use mprec_representations::{
    Activation, Batch, BatchShape, HashFamily, Int8Weights, Interaction, Jagged, LayerWeights,
    Program, ProgramBuilder, RowIndex, Rows, Schema, SparseFeature, Tensor as Parameter, Transform,
};
use tch::{Device, Tensor};

use super::{
    TorchBackend,
    constant::Uploader,
    executable::TorchExecutable,
    layer::Layers,
    meet::Piece,
    plan::{Plan, Step},
};
use crate::{
    backend::{Backend as _, Executable as _},
    path::{BackendKind, TorchDevice},
};

const BACKEND: BackendKind = BackendKind::Torch(TorchDevice::Cpu);

fn value(at: usize) -> f32 {
    ((at * 2_654_435_761) % 1000) as f32 * 0.001 - 0.5
}

fn parameter(shape: &[usize]) -> Parameter<f32> {
    Parameter::new(shape, (0..shape.iter().product()).map(value).collect())
}

fn schema(cardinalities: &[u64]) -> Schema {
    let feature = |(at, &cardinality)| SparseFeature { name: format!("s{at}"), cardinality };
    let sparse = cardinalities.iter().enumerate().map(feature).collect();
    Schema::new(vec!["x".into(), "y".into()], sparse, Default::default()).unwrap()
}

/// A vector of 2 per feature, by `vector`, that meet.
fn program(
    schema: &Schema,
    mut vector: impl FnMut(&mut ProgramBuilder, usize) -> mprec_representations::Slot,
) -> Program {
    let mut program = ProgramBuilder::new(schema);
    let mut vectors = vec![program.dense()];
    for feature in 0..schema.sparse().len() {
        vectors.push(vector(&mut program, feature));
    }
    let met = program.interact(Interaction::Dot { itself: true }, vectors).unwrap();
    let weight = parameter(&[1, program.width(met)]);
    let logit = program.linear(met, weight, parameter(&[1]), Activation::None).unwrap();
    program.finish(logit).unwrap()
}

fn dhe(schema: &Schema) -> Program {
    program(schema, |program, feature| {
        let odd = 2 * feature as i64 + 3;
        let family = HashFamily::new(Parameter::new(&[2, 4], vec![odd, 1, 101, 50, 7, 2, 101, 50]));
        let codes = program.hash_encode(feature, family.unwrap(), Transform::Uniform).unwrap();
        let hidden = program
            .linear(codes, parameter(&[5, 2]), parameter(&[5]), Activation::Sigmoid)
            .unwrap();
        let vector =
            program.linear(hidden, parameter(&[2, 5]), parameter(&[2]), Activation::None).unwrap();
        program.bag_reduce(vector).unwrap()
    })
}

fn one_hot(schema: &Schema, samples: usize) -> Batch {
    let dense = (0..samples * 2).map(value).collect();
    let sparse = schema.sparse();
    let ids: Vec<i64> = (0..samples * sparse.len())
        .map(|at| (at * 31 % sparse[at % sparse.len()].cardinality as usize) as i64)
        .collect();
    BatchShape::new(schema).from_rows(dense, &ids).unwrap()
}

fn agrees(plan: Plan, batch: &Batch) {
    let program = plan.program.clone();
    let mut executable = TorchExecutable::new(Arc::new(plan), BACKEND, 1);
    let mut scores = vec![f32::MAX; batch.samples()];
    executable.run(batch, &mut scores).unwrap();
    let expected = program.interpret(batch).unwrap();
    for (at, (got, expected)) in scores.iter().zip(&expected).enumerate() {
        assert!((got - expected).abs() < 1e-6, "sample {at}: {got}, expected {expected}");
    }
    // Scores that are all alike would agree with much.
    assert!(expected.iter().any(|score| (score - expected[0]).abs() > 1e-4));
}

#[test]
fn decoders_of_all_features_are_one_product_and_stay_together() {
    let schema = schema(&[90, 40, 70]);
    let plan = Plan::new(&dhe(&schema), BACKEND, Device::Cpu).unwrap();
    let kinds: Vec<(usize, &str)> = plan
        .groups
        .iter()
        .map(|group| {
            let kind = match &group.step {
                Step::Encode(_) => "encode",
                Step::Layers(_) => "layers",
                Step::Reduce => "reduce",
                Step::Meet(_) => "meet",
                Step::Sigmoid => "sigmoid",
                _ => "other",
            };
            (group.members.len(), kind)
        })
        .collect();
    let expected = [
        (3, "encode"),
        (3, "layers"),
        (3, "layers"),
        (3, "reduce"),
        (1, "meet"),
        (1, "layers"),
        (1, "sigmoid"),
    ];
    assert_eq!(kinds, expected);
    let Step::Meet(meet) = &plan.groups[4].step else { unreachable!("checked above") };
    let together = Piece::Members { group: 2, start: 0, length: 3 };
    assert_eq!(meet.pieces.0, [Piece::Slot(0), together]);
    agrees(plan, &one_hot(&schema, 37));
}

#[test]
fn tables_that_lie_one_after_another_are_one_lookup() {
    let counts = [30_u64, 5, 12];
    let schema = schema(&counts);
    let rows: usize = counts.iter().sum::<u64>() as usize;
    // The second feature's table is the last in memory, and there is a gap before a further one.
    let starts = [0, 42, 30];
    let mut memory = MmapMut::map_anon((rows + 1 + 30) * 8).unwrap();
    for (at, bytes) in memory.chunks_exact_mut(4).enumerate() {
        bytes.copy_from_slice(&value(at).to_le_bytes());
    }
    let memory = Arc::new(memory.make_read_only().unwrap());
    for gap in [false, true] {
        let program = program(&schema, |program, feature| {
            let start = if gap && feature == 0 { rows + 1 } else { starts[feature] };
            let shape = [counts[feature] as usize, 2];
            let table = Parameter::mapped(&shape, Arc::clone(&memory), start * 8).unwrap();
            program.bag_sum(feature, Rows::F32(table), RowIndex::Id).unwrap()
        });
        let plan = Plan::new(&program, BACKEND, Device::Cpu).unwrap();
        let lookups = plan.groups.iter().filter(|group| matches!(group.step, Step::Lookup(_)));
        let sizes: Vec<usize> = lookups.map(|group| group.members.len()).collect();
        assert_eq!(sizes, if gap { vec![2, 1] } else { vec![3] });
        agrees(plan, &one_hot(&schema, 41));
        let jagged = Jagged {
            ids: (0..30).map(|at| at % 5).collect(),
            lengths: vec![3, 0, 7, 4, 5, 1, 0, 0, 10],
            weights: None,
        };
        let bags = BatchShape::new(&schema).from_jagged((0..6).map(value).collect(), &jagged);
        agrees(Plan::new(&program, BACKEND, Device::Cpu).unwrap(), &bags.unwrap());
    }
}

#[test]
fn long_sums_of_8_bits_are_exact() {
    for inputs in [511, 512, 513, 2000] {
        // Codes at both ends, so that sums are as large as they can be.
        let weight: Vec<f32> =
            (0..3 * inputs).map(|at| if at < inputs { 1.0 } else { value(at) }).collect();
        let weights =
            LayerWeights::from(Int8Weights::quantise(&Parameter::new(&[3, inputs], weight)));
        let bias = parameter(&[3]);
        let mut uploader = Uploader { device: Device::Cpu, bytes: 0 };
        // SAFETY: weights and bias outlive the layers.
        let layers =
            unsafe { Layers::new(&[(&weights, &bias)], Activation::None, &mut uploader) }.unwrap();
        for row in 0..4 {
            let input: Vec<f32> = (0..inputs)
                .map(|at| if row == 0 { 1.0 } else { value(at * (row + 1)) + 0.4 })
                .collect();
            let mut expected = [0.0; 3];
            weights.apply(&input, bias.as_slice(), &mut expected);
            let shaped = Tensor::from_slice(&input).view([1, inputs as i64]);
            let mut got = [0.0_f32; 3];
            layers.run(&shaped, None).unwrap().copy_data(&mut got, 3);
            assert_eq!(got, expected, "{inputs} inputs, row {row}");
        }
    }
}

#[test]
fn parts_of_a_batch_are_cut_by_samples_and_by_ids() {
    let schema = schema(&[90, 40, 70]);
    let program = dhe(&schema);
    let lengths: Vec<u32> = (0..60).map(|at| [1, 0, 30, 2, 3][at % 5]).collect();
    let count: u32 = lengths.iter().sum();
    let jagged = Jagged {
        ids: (0..i64::from(count)).map(|at| at * 7 % 40).collect(),
        lengths,
        weights: Some((0..count).map(|at| value(at as usize)).collect()),
    };
    let bags = BatchShape::new(&schema).from_jagged((0..40).map(value).collect(), &jagged).unwrap();
    for (block, ids) in [(7, 1 << 16), (1 << 10, 8), (1, 1), (4, 35)] {
        for batch in [&bags, &one_hot(&schema, 20)] {
            let mut plan = Plan::new(&program, BACKEND, Device::Cpu).unwrap();
            (plan.block, plan.ids) = (block, ids);
            agrees(plan, batch);
        }
    }
}

#[test]
fn several_threads_give_the_same_scores() {
    let schema = schema(&[90, 40, 70]);
    let program = dhe(&schema);
    let batch = one_hot(&schema, 300);
    let [one, two] = [1, 2].map(|threads| {
        let backend = TorchBackend::new(TorchDevice::Cpu).unwrap().with_threads(threads);
        let mut executable = backend.prepare(&program).unwrap();
        let mut scores = vec![f32::MAX; 300];
        executable.run(&batch, &mut scores).unwrap();
        (scores, tch::get_num_threads())
    });
    assert_eq!((one.1, two.1), (1, 2));
    for (one, two) in one.0.iter().zip(two.0) {
        assert!((one - two).abs() < 1e-6, "{one} {two}");
    }
}
