//! Operations one by one, so that a failure names the one to look at.

use mprec_representations::{
    Activation, Batch, BatchShape, Combination, FusedRows, HashFamily, Int8Weights, Interaction,
    Program, ProgramBuilder, ProgramError, RowIndex, Rows, Schema, Slot, SparseFeature, Tensor,
    Transform,
};

use super::{Runner, Tape};

fn schema(cardinalities: &[u64]) -> Schema {
    let feature = |(at, &cardinality)| SparseFeature { name: format!("s{at}"), cardinality };
    let sparse = cardinalities.iter().enumerate().map(feature).collect();
    Schema::new(vec!["x".into(), "y".into(), "z".into()], sparse, Default::default()).unwrap()
}

/// One batch of every form.
fn batches(schema: &Schema) -> [Batch; 4] {
    [0, 1, 2, 3].map(|form| Tape::new(&[form, 1]).batch(schema, 9))
}

/// A program that ends with the sum of what `build` makes, each column with its own weight.
fn program(
    schema: &Schema,
    tape: &mut Tape<'_>,
    build: impl FnOnce(&mut ProgramBuilder, &mut Tape<'_>) -> Result<Slot, ProgramError>,
) -> Program {
    let mut program = ProgramBuilder::new(schema);
    let slot = build(&mut program, tape).unwrap();
    let weight = tape.tensor(&[1, program.width(slot)]);
    let bias = tape.tensor(&[1]);
    let logit = program.linear(slot, weight, bias, Activation::None).unwrap();
    program.finish(logit).unwrap()
}

type Build = fn(&mut ProgramBuilder, &mut Tape<'_>) -> Result<Slot, ProgramError>;

fn rows(program: &mut ProgramBuilder, tape: &mut Tape<'_>) -> Result<Slot, ProgramError> {
    let table = Rows::F32(tape.tensor(&[20, 3]));
    program.bag_sum(0, table, RowIndex::Id)
}

fn codes(program: &mut ProgramBuilder, tape: &mut Tape<'_>) -> Result<Slot, ProgramError> {
    let family = HashFamily::new(tape.family(4)).unwrap();
    program.hash_encode(1, family, Transform::Uniform)
}

fn activated(
    program: &mut ProgramBuilder,
    tape: &mut Tape<'_>,
    activation: Activation,
) -> Result<Slot, ProgramError> {
    let dense = program.dense();
    // Wide values, so that activations meet their ends.
    let weight = Tensor::new(&[5, 3], (0..15).map(|_| tape.value(40.0)).collect());
    let bias = tape.tensor(&[5]);
    program.linear(dense, weight, bias, activation)
}

fn met(
    program: &mut ProgramBuilder,
    tape: &mut Tape<'_>,
    interaction: Interaction,
) -> Result<Slot, ProgramError> {
    let (dense, row) = (program.dense(), rows(program, tape)?);
    let other = rows(program, tape)?;
    program.interact(interaction, vec![dense, row, other, row])
}

fn combined(
    program: &mut ProgramBuilder,
    tape: &mut Tape<'_>,
    combination: Combination,
) -> Result<Slot, ProgramError> {
    let (left, right) = (program.dense(), rows(program, tape)?);
    program.combine(combination, left, right)
}

const OPERATIONS: &[(&str, Build)] = &[
    ("bag_sum", rows),
    ("hash_encode, bag_reduce", |program, tape| {
        let codes = codes(program, tape)?;
        program.bag_reduce(codes)
    }),
    ("linear per id", |program, tape| {
        let codes = codes(program, tape)?;
        let (weight, bias) = (tape.tensor(&[3, 4]), tape.tensor(&[3]));
        let decoded = program.linear(codes, weight, bias, Activation::Relu)?;
        program.bag_reduce(decoded)
    }),
    ("linear", |program, tape| activated(program, tape, Activation::None)),
    ("linear, relu", |program, tape| activated(program, tape, Activation::Relu)),
    ("linear, sigmoid", |program, tape| activated(program, tape, Activation::Sigmoid)),
    ("linear, mish", |program, tape| activated(program, tape, Activation::Mish)),
    ("affine", |program, tape| {
        let (dense, scale, shift) = (program.dense(), tape.tensor(&[3]), tape.tensor(&[3]));
        program.affine(dense, scale, shift)
    }),
    ("combine, mult", |program, tape| combined(program, tape, Combination::Mult)),
    ("combine, add", |program, tape| combined(program, tape, Combination::Add)),
    ("combine, concat", |program, tape| combined(program, tape, Combination::Concat)),
    ("interact, dot", |program, tape| met(program, tape, Interaction::Dot { itself: false })),
    ("interact, dot with itself", |program, tape| {
        met(program, tape, Interaction::Dot { itself: true })
    }),
    ("interact, dot of one", |program, _| {
        let dense = program.dense();
        program.interact(Interaction::Dot { itself: false }, vec![dense])
    }),
    ("interact, cat", |program, tape| met(program, tape, Interaction::Cat)),
    ("a layer of a cross net", |program, tape| {
        let (dense, row) = (program.dense(), rows(program, tape)?);
        let met = program.interact(Interaction::Cat, vec![dense, row])?;
        let mut slot = met;
        for _ in 0..2 {
            let (narrow, wide) = (tape.tensor(&[2, 6]), tape.tensor(&[6, 2]));
            slot = program.cross(met, slot, narrow, wide, tape.tensor(&[6]))?;
        }
        Ok(slot)
    }),
    ("mean", |program, tape| {
        let (dense, row) = (program.dense(), rows(program, tape)?);
        program.mean(vec![dense, row, row])
    }),
    ("mean of one", |program, _| {
        let dense = program.dense();
        program.mean(vec![dense])
    }),
];

pub(super) fn every_operation(runner: &Runner) {
    let schema = schema(&[20, 1000]);
    for (name, build) in OPERATIONS {
        let program = program(&schema, &mut Tape::new(&[]), build);
        runner
            .check_within(&program, &batches(&schema), runner.tolerance.floats)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

pub(super) fn rows_of_every_format_by_every_index(runner: &Runner) {
    let schema = schema(&[300, 5]);
    let indices = [
        RowIndex::Id,
        RowIndex::Remainder { divisor: 7 },
        RowIndex::Quotient { divisor: 7 },
        RowIndex::Remainder { divisor: u64::MAX },
        RowIndex::Quotient { divisor: u64::MAX },
    ];
    for index in indices {
        // Widths that do and do not fill a vector, and for 4 bits a last byte half used.
        for dim in [1, 5, 16] {
            for format in ["f32", "int8", "int4"] {
                let program = program(&schema, &mut Tape::new(&[]), |program, tape| {
                    let rows = tape.tensor(&[index.rows_for(300) as usize, dim]);
                    let rows = match format {
                        "f32" => Rows::F32(rows),
                        "int8" => Rows::Fused(FusedRows::quantise(&rows, 8)),
                        _ => Rows::Fused(FusedRows::quantise(&rows, 4)),
                    };
                    program.bag_sum(0, rows, index)
                });
                runner
                    .check_within(&program, &batches(&schema), runner.tolerance.floats)
                    .unwrap_or_else(|error| panic!("{format}, {dim} wide, {index:?}: {error}"));
            }
        }
    }
}

/// Ranges are so small that a hash that is off by one moves the score by far more than the tolerance, and moduli and ids
/// so large that anything but exact 64-bit arithmetic gives another hash.
pub(super) fn hashes_are_exact(runner: &Runner) {
    let schema = schema(&[1 << 40]);
    let large = 1_i64 << 31;
    let families = [
        [[large - 2, large - 1, large, 7], [large - 2, large - 2, large - 1, 11]],
        [[1_000_002, 1_000_002, 1_000_003, 5], [1, 0, 1_000_003, 16]],
        [[1, 0, 2, 2], [1, 1, 2, 2]],
    ];
    let ids = [0, 1, (1 << 40) - 1, large - 1, large, large + 1, 987_654_321_987, 1_000_003];
    let batch = BatchShape::new(&schema).from_rows(vec![0.0; 3 * ids.len()], &ids).unwrap();
    for family in families {
        for transform in [Transform::Uniform, Transform::Gaussian] {
            let mut program = ProgramBuilder::new(&schema);
            let family = HashFamily::new(Tensor::new(&[2, 4], family.concat())).unwrap();
            let codes = program.hash_encode(0, family, transform).unwrap();
            let codes = program.bag_reduce(codes).unwrap();
            let weight = Tensor::new(&[1, 2], vec![1.0, 0.3]);
            let bias = Tensor::new(&[1], vec![0.0]);
            let logit = program.linear(codes, weight, bias, Activation::None).unwrap();
            let program = program.finish(logit).unwrap();
            runner
                .check_within(&program, std::slice::from_ref(&batch), runner.tolerance.floats)
                .unwrap();
        }
    }
}

/// A single layer of 8 bits, read from dense values that are the same bits everywhere: the definition leaves nothing open,
/// so only the sigmoid may round otherwise. Values are scaled so that codes saturate what 16 bits can sum.
pub(super) fn layers_of_8_bits_are_exact(runner: &Runner) {
    let dense: Vec<String> = (0..70).map(|at| format!("d{at}")).collect();
    let sparse = vec![SparseFeature { name: "s".into(), cardinality: 1 }];
    let schema = Schema::new(dense, sparse, Default::default()).unwrap();
    let mut tape = Tape::new(&[]);
    for magnitude in [0.0_f32, 1e-42, 1e-3, 1.0, 300.0, 1e30, 3e38] {
        for sign in [-1.0, 0.0, 1.0] {
            // Ends at one side of zero or both.
            let mut value = || {
                let value = tape.value(1.0);
                magnitude * if sign == 0.0 { value } else { sign * value.abs() }
            };
            let values: Vec<f32> = (0..9 * 70).map(|_| value()).collect();
            let batch = BatchShape::new(&schema).from_rows(values, &[0; 9]).unwrap();
            let scale = 1.0 / magnitude.clamp(1e-3, 1e30);
            let mut program = ProgramBuilder::new(&schema);
            let weight: Vec<f32> =
                (0..140).map(|at| if at < 70 { scale } else { tape.value(scale) }).collect();
            let weight = Int8Weights::quantise(&Tensor::new(&[2, 70], weight));
            let (bias, dense) = (tape.tensor(&[2]), program.dense());
            let both = program.linear(dense, weight, bias, Activation::None).unwrap();
            let weight = Tensor::new(&[1, 2], vec![0.02, 0.05]);
            let bias = Tensor::new(&[1], vec![0.0]);
            let logit = program.linear(both, weight, bias, Activation::None).unwrap();
            let program = program.finish(logit).unwrap();
            runner
                .check_within(&program, std::slice::from_ref(&batch), runner.tolerance.floats)
                .unwrap_or_else(|error| panic!("values of {magnitude}, sign {sign}: {error}"));
        }
    }
}
