//! The dot interaction in the shapes of the published models, each kernel beside scalar.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use mprec_backends::cpu::{
    interaction::{Pairs, available},
    matrix::{Matrix, MatrixMut},
};

const SAMPLES: usize = 128;

fn interaction(c: &mut Criterion) {
    let mut group = c.benchmark_group("interaction");
    group.throughput(Throughput::Elements(SAMPLES as u64));
    for (count, dim) in [(27, 16), (53, 16), (27, 64)] {
        let pairs = Pairs { count, dim, itself: false };
        let (from, to) = (pairs.width(), pairs.output_width());
        let vectors: Vec<f32> =
            (0..SAMPLES * from).map(|at| (at * 37 % 101) as f32 / 50.0 - 1.0).collect();
        let vectors = Matrix::new(&vectors, SAMPLES, from, from);
        let mut scratch = vec![0.0; pairs.scratch()];
        let mut expected: Option<Vec<f32>> = None;
        for kernel in available().into_iter().rev() {
            let mut out = vec![0.0; SAMPLES * to];
            (kernel.dot)(vectors, pairs, &mut scratch, MatrixMut::new(&mut out, SAMPLES, to, to));
            let expected = expected.get_or_insert_with(|| out.clone());
            for (got, expected) in out.iter().zip(expected) {
                let close = (got - *expected).abs() <= 1e-4;
                assert!(close, "{} is fast but wrong", kernel.level);
            }
            let id = BenchmarkId::new(kernel.level.to_string(), format!("{count}x{dim}"));
            group.bench_function(id, |b| {
                b.iter(|| {
                    let out = MatrixMut::new(&mut out, SAMPLES, to, to);
                    (kernel.dot)(black_box(vectors), pairs, &mut scratch, out);
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, interaction);
criterion_main!(benches);
