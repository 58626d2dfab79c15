use mprec_representations::{Activation, Int8Weights, Tensor};
use proptest::prelude::*;

use super::*;
use crate::cpu::gemm::tests::values;

const ACTIVATIONS: [Activation; 4] =
    [Activation::None, Activation::Relu, Activation::Sigmoid, Activation::Mish];

struct Case {
    weights: Int8Weights,
    bias: Tensor<f32>,
    activation: Activation,
    rows: usize,
    inputs: usize,
    outputs: usize,
    /// Row-major, without gaps.
    input: Vec<f32>,
}

impl Case {
    fn new(
        (rows, inputs, outputs): (usize, usize, usize),
        activation: Activation,
        seed: u32,
    ) -> Self {
        let weight = Tensor::new(&[outputs, inputs], values(outputs * inputs, seed));
        Self {
            weights: Int8Weights::quantise(&weight),
            bias: Tensor::new(&[outputs], values(outputs, seed + 1)),
            activation,
            rows,
            inputs,
            outputs,
            input: values(rows * inputs, seed + 2),
        }
    }

    /// By the definition.
    fn expected(&self) -> Vec<f32> {
        let mut out = vec![0.0; self.rows * self.outputs];
        let rows = self.input.chunks_exact(self.inputs);
        for (input, out) in rows.zip(out.chunks_exact_mut(self.outputs)) {
            self.weights.apply(input, self.bias.as_slice(), out);
            for out in out {
                *out = self.activation.apply(*out);
            }
        }
        out
    }

    /// With gaps between rows filled with NaN, which nothing may read and which must still be there.
    fn run(&self, kernel: &Kernel, gap: usize) -> Vec<f32> {
        let layer = PackedInt8::new(&self.weights, &self.bias, self.activation, kernel).unwrap();
        let (from, to) = (self.inputs + gap, self.outputs + gap);
        let mut input = vec![f32::NAN; self.rows * from];
        for (row, x) in self.input.chunks_exact(self.inputs).enumerate() {
            input[row * from..][..self.inputs].copy_from_slice(x);
        }
        let mut output = vec![f32::NAN; self.rows * to];
        let mut codes = vec![0xa5_u32; layer.scratch(self.rows).div_ceil(4)];
        (kernel.multiply)(
            Matrix::new(&input, self.rows, self.inputs, from),
            &layer,
            bytemuck::cast_slice_mut(&mut codes),
            MatrixMut::new(&mut output, self.rows, self.outputs, to),
        );
        for row in output.chunks(to) {
            let untouched = row[self.outputs..].iter().all(|x| x.is_nan());
            assert!(untouched, "{}: wrote a gap", kernel.level);
        }
        output.chunks(to).flat_map(|row| row[..self.outputs].to_vec()).collect()
    }

    fn compare(&self, gap: usize) {
        let expected = self.expected();
        for kernel in available() {
            for (at, (got, expected)) in self.run(&kernel, gap).iter().zip(&expected).enumerate() {
                let same = got.to_bits() == expected.to_bits() || got.is_nan() && expected.is_nan();
                assert!(same, "{} at {at}: {got} {expected}", kernel.level);
            }
        }
    }
}

proptest! {
    #[test]
    fn every_kernel_gives_the_bits_of_the_definition(
        shape in (0..30_usize, 1..150_usize, 1..100_usize),
        gap in 0..20_usize,
        activation in prop::sample::select(&ACTIVATIONS[..]),
        seed: u8,
    ) {
        Case::new(shape, activation, u32::from(seed)).compare(gap);
    }
}

#[test]
fn the_layers_of_the_kaggle_model_give_the_same_bits() {
    for rows in [1, 2, 3, 5, 12, 13, 128, 300] {
        for (inputs, outputs) in [(13, 512), (512, 256), (64, 16), (367, 512), (1024, 48)] {
            let mut case = Case::new((rows, inputs, outputs), Activation::Relu, 3);
            case.compare(1);
            // What a layer sees after a ReLU.
            case.input.iter_mut().for_each(|x| *x = x.max(0.0));
            case.compare(0);
        }
    }
}

#[test]
fn the_largest_sums_do_not_saturate() {
    let inputs = mprec_representations::quant::MAX_INPUTS;
    for sign in [1.0, -1.0] {
        let mut case = Case::new((1, inputs, 2), Activation::None, 1);
        case.weights = Int8Weights::quantise(&Tensor::new(&[2, inputs], vec![sign; 2 * inputs]));
        case.input.fill(1.0);
        case.compare(0);
        case.input.fill(-1.0);
        case.compare(0);
    }
}

#[test]
fn rows_that_cannot_be_quantised_give_nan_and_leave_their_neighbours_alone() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, 1e-42, 0.0] {
        for at in [0, 15, 16, 69] {
            let mut case = Case::new((3, 70, 20), Activation::Relu, 5);
            case.input[70..140].fill(if bad == f32::MAX { f32::MIN } else { 0.0 });
            case.input[70 + at] = bad;
            case.compare(0);
        }
    }
}
