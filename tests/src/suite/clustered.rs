//! The largest element picks its row: alone, and as what centroids are looked up by.
//!
//! Which row is picked changes with the last bit of two products that are nearly equal, so all values here are small
//! integers: every order of sums gives the same, and equal ones are many.

use mprec_representations::{
    Activation, Batch, ClusteredSpec, Combination, Dlrm, DlrmSpec, HashFamily, Interaction,
    LayerFormat, Precision, ProgramBuilder, RepresentationSpec, RowFormat, Schema, Slot, Tensor,
    Transform, Weights, quantize, weights::DType,
};

use super::{Layers, Runner, Tape};
use crate::fixtures;

/// One batch of every form.
fn batches(schema: &Schema, samples: usize) -> [Batch; 4] {
    [0, 1, 2, 3].map(|form| Tape::new(&[form, 1]).batch(schema, samples))
}

/// -1, 0 or 1.
fn small(tape: &mut Tape<'_>, shape: &[usize]) -> Tensor<f32> {
    let values = (0..shape.iter().product()).map(|_| (tape.random() % 3) as f32 - 1.0);
    Tensor::new(shape, values.collect())
}

/// Hashes whose codes are -1, 0 or 1.
fn family(tape: &mut Tape<'_>, hashes: usize) -> Tensor<i64> {
    let rows = (0..hashes).flat_map(|_| {
        let p = 1_000_003;
        let [a, b] = [tape.random(), tape.random()].map(|random| (random % 1_000_000) as i64);
        [1 + a, b, p, 3]
    });
    Tensor::new(&[hashes, 4], rows.collect())
}

fn parameters(schema: &Schema, spec: &DlrmSpec, tape: &mut Tape<'_>) -> Weights {
    let mut weights = Weights::new();
    for tensor in spec.tensors(schema) {
        let centroids =
            tensor.name.starts_with("dhe_l.centroids") && tensor.name.ends_with(".weight");
        if tensor.dtype == DType::I64 {
            weights.insert(tensor.name, family(tape, tensor.shape[0]));
        } else if centroids {
            weights.insert(tensor.name, small(tape, &tensor.shape));
        } else {
            weights.insert(tensor.name, tape.tensor(&tensor.shape));
        }
    }
    weights
}

/// Numbers of hashes and centroids, and widths, on either side of what kernels do at once.
const SIZES: [(usize, usize, usize); 9] = [
    (2, 1, 4),
    (1, 2, 1),
    (4, 15, 16),
    (16, 16, 17),
    (18, 17, 8),
    (64, 33, 16),
    (8, 130, 3),
    (32, 300, 16),
    (130, 64, 64),
];

pub(super) fn the_nearest_of_centroids(runner: &Runner) {
    let schema = fixtures::schema(&[400, 7, 1]);
    for (at, &(hashes, centroids, dim)) in SIZES.iter().enumerate() {
        for beside in [None, Some(dim)] {
            let transform = Transform::Uniform;
            let clustered = ClusteredSpec { hashes, transform, centroids, dim, beside };
            let representation = RepresentationSpec::Clustered(clustered);
            let interaction = [Interaction::Dot { itself: false }, Interaction::Cat][at % 2];
            let spec = DlrmSpec::uniform(&schema, &representation, interaction, &[8], &[8]);
            let weights = parameters(&schema, &spec, &mut Tape::new(&[at as u32]));
            for layers in [LayerFormat::F32, LayerFormat::BF16, LayerFormat::Int8] {
                let precision = Precision { rows: RowFormat::F32, layers };
                let (spec, weights) = quantize(&schema, &spec, &weights, precision).unwrap();
                let program = Dlrm::load(&schema, &spec, &weights).unwrap().lower().unwrap();
                let layers = match layers {
                    LayerFormat::F32 => Layers::Floats,
                    LayerFormat::BF16 | LayerFormat::Int8 => Layers::Codes,
                };
                for samples in [0, 5, 129] {
                    runner.check(&program, &batches(&schema, samples), layers).unwrap_or_else(
                        |error| panic!("{representation:?}, {precision:?}: {error}"),
                    );
                }
            }
        }
    }
}

type Build = fn(&mut ProgramBuilder, Slot, &mut Tape<'_>) -> Slot;

/// What is made of the codes of an id, 18 each.
const PROGRAMS: &[(&str, Build)] = &[
    ("of codes", |program, codes, tape| {
        let picked = program.pick_largest(codes, small(tape, &[18, 5])).unwrap();
        program.bag_reduce(picked).unwrap()
    }),
    ("beside what it is picked by", |program, codes, tape| {
        let picked = program.pick_largest(codes, small(tape, &[18, 18])).unwrap();
        let both = program.combine(Combination::Concat, picked, codes).unwrap();
        let again = program.pick_largest(both, small(tape, &[36, 3])).unwrap();
        let all = program.combine(Combination::Concat, again, both).unwrap();
        program.bag_reduce(all).unwrap()
    }),
    ("of sums over bags", |program, codes, tape| {
        let sums = program.bag_reduce(codes).unwrap();
        let picked = program.pick_largest(sums, small(tape, &[18, 18])).unwrap();
        program.interact(Interaction::Dot { itself: true }, vec![sums, picked, sums]).unwrap()
    }),
    ("of equals", |program, codes, tape| {
        let (weight, bias) =
            (Tensor::new(&[40, 18], vec![0.0; 40 * 18]), Tensor::new(&[40], vec![0.5; 40]));
        let equals = program.linear(codes, weight, bias, Activation::None).unwrap();
        let picked = program.pick_largest(equals, small(tape, &[40, 4])).unwrap();
        program.bag_reduce(picked).unwrap()
    }),
    ("of no numbers", |program, codes, tape| {
        // A product of 0 and infinity is NaN, and so is nearly every sum of the second column.
        let mut weight = vec![1.0; 3 * 18];
        weight[18..36].fill(f32::INFINITY);
        let bias = Tensor::new(&[3], vec![0.0, 0.0, f32::NEG_INFINITY]);
        let weight = Tensor::new(&[3, 18], weight);
        let values = program.linear(codes, weight, bias, Activation::None).unwrap();
        let picked = program.pick_largest(values, small(tape, &[3, 4])).unwrap();
        program.bag_reduce(picked).unwrap()
    }),
];

pub(super) fn the_largest_picks_its_row(runner: &Runner) {
    let schema = fixtures::schema(&[50, 3]);
    for (name, build) in PROGRAMS {
        let mut tape = Tape::new(&[]);
        let mut program = ProgramBuilder::new(&schema);
        let hashes = HashFamily::new(family(&mut tape, 18)).unwrap();
        let codes = program.hash_encode(0, hashes, Transform::Uniform).unwrap();
        let slot = build(&mut program, codes, &mut tape);
        let (weight, bias) = (tape.tensor(&[1, program.width(slot)]), tape.tensor(&[1]));
        let logit = program.linear(slot, weight, bias, Activation::None).unwrap();
        let program = program.finish(logit).unwrap();
        for samples in [1, 9, 140] {
            runner
                .check(&program, &batches(&schema, samples), Layers::Floats)
                .unwrap_or_else(|error| panic!("{name}: {error}"));
        }
    }
}
