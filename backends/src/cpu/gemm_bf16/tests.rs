use half::bf16;
use mprec_representations::{Activation, LayerWeights, Tensor};
use proptest::prelude::*;

use super::*;
use crate::cpu::gemm::tests::values;

const ACTIVATIONS: [Activation; 4] =
    [Activation::None, Activation::Relu, Activation::Sigmoid, Activation::Mish];

/// Runs every kernel on `input`, rows side by side, with gaps of NaN that nothing may read or write.
fn compare(weight: &Tensor<bf16>, activation: Activation, input: &[f32], gap: usize) {
    let (outputs, inputs) = (weight.rows(), weight.width());
    let rows = input.len() / inputs;
    let bias = Tensor::new(&[outputs], values(outputs, 3));
    let definition = LayerWeights::from(weight.clone());
    let mut expected = vec![0.0; rows * outputs];
    for (input, out) in input.chunks_exact(inputs).zip(expected.chunks_exact_mut(outputs)) {
        definition.apply(input, bias.as_slice(), out);
        out.iter_mut().for_each(|out| *out = activation.apply(*out));
    }
    let (from, to) = (inputs + gap, outputs + gap);
    let mut spaced = vec![f32::NAN; rows * from];
    for (row, x) in input.chunks_exact(inputs).enumerate() {
        spaced[row * from..][..inputs].copy_from_slice(x);
    }
    for kernel in available() {
        let layer = PackedBf16::new(weight, &bias, activation, &kernel).unwrap();
        let mut output = vec![f32::NAN; rows * to];
        let mut codes = vec![f32::NAN; layer.scratch(rows).div_ceil(4)];
        (kernel.multiply)(
            Matrix::new(&spaced, rows, inputs, from),
            &layer,
            bytemuck::cast_slice_mut(&mut codes),
            MatrixMut::new(&mut output, rows, outputs, to),
        );
        for (row, expected) in output.chunks(to).zip(expected.chunks(outputs)) {
            assert!(row[outputs..].iter().all(|x| x.is_nan()), "{}: wrote a gap", kernel.level);
            for (at, (&got, &expected)) in row.iter().zip(expected).enumerate() {
                // Sums of up to `inputs` products of about 1 in another order.
                let bound = 1e-6 * (inputs as f32 + 2.0) * (1.0 + expected.abs());
                let same = got == expected || got.is_nan() && expected.is_nan();
                let close = same || (got - expected).abs() <= bound;
                assert!(close, "{} at {at}: {got}, expected {expected}", kernel.level);
            }
        }
    }
}

fn weights(outputs: usize, inputs: usize) -> Tensor<bf16> {
    Tensor::new(&[outputs, inputs], values(outputs * inputs, 1)).map(bf16::from_f32)
}

proptest! {
    #[test]
    fn every_kernel_matches_the_definition(
        rows in prop_oneof![0..30_usize, Just(128)],
        inputs in 1..150_usize,
        outputs in 1..100_usize,
        activation in prop::sample::select(ACTIVATIONS.to_vec()),
        gap in 0..3_usize,
    ) {
        compare(&weights(outputs, inputs), activation, &values(rows * inputs, 2), gap);
    }
}

#[test]
fn inputs_are_rounded_to_even_and_not_cut() {
    // Exactly between two halves, and one bit to either side; the last rounds up into the next power of two.
    let bits = [0x3f80_8000, 0x3f81_8000, 0x3f80_8001, 0x3f80_7fff, 0x3fff_8000_u32];
    for x in bits.map(f32::from_bits) {
        let weight = Tensor::new(&[2, 1], vec![bf16::ONE; 2]);
        let bias = Tensor::new(&[2], vec![0.0; 2]);
        for kernel in available() {
            let layer = PackedBf16::new(&weight, &bias, Activation::None, &kernel).unwrap();
            let (mut out, mut codes) = ([f32::NAN; 2], [f32::NAN; 16]);
            (kernel.multiply)(
                Matrix::new(&[x], 1, 1, 1),
                &layer,
                bytemuck::cast_slice_mut(&mut codes),
                MatrixMut::new(&mut out, 1, 2, 2),
            );
            assert_eq!(out, [bf16::from_f32(x).to_f32(); 2], "{} {:x}", kernel.level, x.to_bits());
        }
    }
}

#[test]
fn what_is_not_finite_stays_so() {
    let weight = weights(33, 7);
    let payload = f32::from_bits(0x7f80_0001);
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, payload, f32::MAX] {
        let mut input = values(3 * 7, 2);
        input[9] = bad;
        compare(&weight, Activation::Relu, &input, 1);
        compare(&weight, Activation::None, &input, 0);
    }
}
