use mprec_representations::{Activation, Tensor};
use proptest::prelude::*;

use super::*;

const ACTIVATIONS: [Activation; 4] =
    [Activation::None, Activation::Relu, Activation::Sigmoid, Activation::Mish];

/// Deterministic values in -1..1 that no two neighbours share.
pub(in crate::cpu) fn values(count: usize, seed: u32) -> Vec<f32> {
    (0..count as u32)
        .map(|at| {
            let mixed = (at + 1).wrapping_mul(2_654_435_761).wrapping_add(seed.wrapping_mul(97));
            f32::from((mixed >> 16) as u16) / 32_768.0 - 1.0
        })
        .collect()
}

/// Runs one layer with one kernel. Gaps between rows are filled with NaN, which nothing may read,
/// and must still be there afterwards.
fn run(
    kernel: &Kernel,
    (rows, inputs, outputs): (usize, usize, usize),
    gap: usize,
    activation: Activation,
    seed: u32,
) -> Vec<f32> {
    let weight = Tensor::new(&[outputs, inputs], values(outputs * inputs, seed));
    let bias = Tensor::new(&[outputs], values(outputs, seed + 1));
    let layer = Packed::new(&weight, &bias, activation, kernel).unwrap();
    let (from, to) = (inputs + gap, outputs + gap);
    let mut input = vec![f32::NAN; rows * from];
    for (row, x) in values(rows * inputs, seed + 2).chunks(inputs).enumerate() {
        input[row * from..][..inputs].copy_from_slice(x);
    }
    let mut output = vec![f32::NAN; rows * to];
    (kernel.multiply)(
        Matrix::new(&input, rows, inputs, from),
        &layer,
        MatrixMut::new(&mut output, rows, outputs, to),
    );
    for row in output.chunks(to) {
        assert!(row[outputs..].iter().all(|x| x.is_nan()), "{}: wrote a gap", kernel.level);
    }
    output.chunks(to).flat_map(|row| row[..outputs].to_vec()).collect()
}

/// Every term is below 1, so each of the `inputs` additions rounds by at most half a unit in the
/// last place of a sum below `inputs`; the activations' slopes are below 1.1.
fn tolerance(inputs: usize) -> f32 {
    f32::EPSILON * (inputs as f32 + 2.0) * (inputs as f32).sqrt().max(2.0)
}

fn compare(shape: (usize, usize, usize), gap: usize, activation: Activation, seed: u32) {
    let kernels = available();
    let expected = run(kernels.last().unwrap(), shape, gap, activation, seed);
    for kernel in &kernels {
        let got = run(kernel, shape, gap, activation, seed);
        for (at, (got, expected)) in got.iter().zip(&expected).enumerate() {
            let close = (got - expected).abs() <= tolerance(shape.1);
            assert!(close, "{} {shape:?} at {at}: {got} {expected}", kernel.level);
        }
    }
}

proptest! {
    #[test]
    fn every_kernel_is_within_tolerance_of_scalar(
        shape in (0..30_usize, 1..80_usize, 1..100_usize),
        gap in 0..20_usize,
        activation in prop::sample::select(&ACTIVATIONS[..]),
        seed: u8,
    ) {
        compare(shape, gap, activation, u32::from(seed));
    }
}

#[test]
fn the_layers_of_the_kaggle_model_are_within_tolerance() {
    for rows in [1, 2, 3, 5, 12, 13, 128] {
        for (inputs, outputs) in [(13, 512), (512, 256), (64, 16), (367, 512), (256, 1), (1024, 48)]
        {
            compare((rows, inputs, outputs), 1, Activation::Relu, 3);
        }
    }
}

#[test]
fn nan_infinity_and_negative_zero_pass_as_in_the_definition() {
    let weight = Tensor::new(&[1, 1], vec![1.0]);
    let bias = Tensor::new(&[1], vec![-0.0]);
    for kernel in available() {
        for (x, expected) in [(f32::NAN, f32::NAN), (f32::INFINITY, f32::INFINITY), (-1.0, 0.0)] {
            let layer = Packed::new(&weight, &bias, Activation::Relu, &kernel).unwrap();
            let mut output = [5.0];
            (kernel.multiply)(
                Matrix::new(&[x], 1, 1, 1),
                &layer,
                MatrixMut::new(&mut output, 1, 1, 1),
            );
            let same = output[0].to_bits() == expected.to_bits();
            assert!(same || (output[0].is_nan() && expected.is_nan()), "{} {x}", kernel.level);
        }
    }
}
