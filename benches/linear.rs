//! Layers of the Kaggle model and of its DHE decoder, each kernel beside scalar.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use mprec_backends::cpu::{
    gemm::{Packed, available},
    matrix::{Matrix, MatrixMut},
};
use mprec_representations::{Activation, Tensor};

fn values(count: usize) -> Vec<f32> {
    (0..count).map(|at| (at * 37 % 101) as f32 / 50.0 - 1.0).collect()
}

fn linear(c: &mut Criterion) {
    for (inputs, outputs) in [(13, 512), (512, 256), (64, 16), (367, 512), (256, 1), (1024, 512)] {
        let weight = Tensor::new(&[outputs, inputs], values(inputs * outputs));
        let bias = Tensor::new(&[outputs], values(outputs));
        let mut group = c.benchmark_group(format!("linear/{inputs}x{outputs}"));
        for rows in [1, 8, 128] {
            // Elements are floating-point operations.
            group.throughput(Throughput::Elements((2 * rows * inputs * outputs) as u64));
            let input = values(rows * inputs);
            let input = Matrix::new(&input, rows, inputs, inputs);
            let mut expected: Option<Vec<f32>> = None;
            for kernel in available().into_iter().rev() {
                let layer = Packed::new(&weight, &bias, Activation::Relu, &kernel)
                    .expect("a layer fits in memory");
                let mut out = vec![0.0; rows * outputs];
                (kernel.multiply)(input, &layer, MatrixMut::new(&mut out, rows, outputs, outputs));
                let expected = expected.get_or_insert_with(|| out.clone());
                for (got, expected) in out.iter().zip(expected) {
                    let close = (got - *expected).abs() <= 1e-4 * (1.0 + expected.abs());
                    assert!(close, "{} is fast but wrong", kernel.level);
                }
                group.bench_function(BenchmarkId::new(kernel.level.to_string(), rows), |b| {
                    b.iter(|| {
                        let out = MatrixMut::new(&mut out, rows, outputs, outputs);
                        (kernel.multiply)(black_box(input), black_box(&layer), out);
                    });
                });
            }
        }
        group.finish();
    }
}

criterion_group!(benches, linear);
criterion_main!(benches);
