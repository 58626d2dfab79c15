//! Layers of bfloat16 weights in the shapes of the Kaggle model and of its DHE decoder, each kernel beside scalar.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use half::bf16;
use mprec_backends::cpu::{
    gemm_bf16::{PackedBf16, available},
    matrix::{Matrix, MatrixMut},
};
use mprec_representations::{Activation, Tensor};

fn values(count: usize) -> Vec<f32> {
    (0..count).map(|at| (at * 37 % 101) as f32 / 50.0 - 1.0).collect()
}

fn linear_bf16(c: &mut Criterion) {
    for (inputs, outputs) in [(13, 512), (512, 256), (64, 16), (367, 512), (1024, 512)] {
        let weight = Tensor::new(&[outputs, inputs], values(inputs * outputs));
        let weight = weight.map(bf16::from_f32);
        let bias = Tensor::new(&[outputs], values(outputs));
        let mut group = c.benchmark_group(format!("linear_bf16/{inputs}x{outputs}"));
        for rows in [1, 8, 128] {
            // Elements are operations.
            group.throughput(Throughput::Elements((2 * rows * inputs * outputs) as u64));
            let input = values(rows * inputs);
            let input = Matrix::new(&input, rows, inputs, inputs);
            let mut expected: Option<Vec<f32>> = None;
            for kernel in available().into_iter().rev() {
                let layer = PackedBf16::new(&weight, &bias, Activation::Relu, &kernel)
                    .expect("a layer fits in memory");
                // Words, because some kernels' rounded inputs are floats.
                let mut codes = vec![0_u64; layer.scratch(rows).div_ceil(8)];
                let codes: &mut [u8] = bytemuck::cast_slice_mut(&mut codes);
                let mut out = vec![0.0; rows * outputs];
                let output = MatrixMut::new(&mut out, rows, outputs, outputs);
                (kernel.multiply)(input, &layer, codes, output);
                let expected = expected.get_or_insert_with(|| out.clone());
                let off = |(a, b): (&f32, &f32)| (a - b).abs() > 1e-3 * (1.0 + b.abs());
                let wrong = out.iter().zip(&*expected).any(off);
                assert!(!wrong, "{} is fast but wrong", kernel.level);
                group.bench_function(BenchmarkId::new(kernel.level.to_string(), rows), |b| {
                    b.iter(|| {
                        let out = MatrixMut::new(&mut out, rows, outputs, outputs);
                        (kernel.multiply)(black_box(input), black_box(&layer), codes, out);
                    });
                });
            }
        }
        group.finish();
    }
}

criterion_group!(benches, linear_bf16);
criterion_main!(benches);
