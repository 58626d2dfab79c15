//! Random rows from tables much larger than the cache, each kernel beside scalar.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use mprec_backends::cpu::{
    matrix::MatrixMut,
    sum_rows::{available, prefetch},
};

/// 256 MB at 16 floats a row.
const FLOATS: usize = 1 << 26;

/// Row numbers in rotation, more than the cache holds rows.
const PICKS: usize = 1 << 20;

fn sum_rows(c: &mut Criterion) {
    let table: Vec<f32> = (0..FLOATS).map(|at| (at % 251) as f32).collect();
    for (dim, rows) in [(16, 128), (64, 128), (16, 1)] {
        let count = FLOATS / dim;
        // A fixed stride, coprime with the number of rows, so that every row is a fresh line.
        let picks: Vec<u64> = (0..PICKS).map(|at| (at * 40_503 % count) as u64).collect();
        let kernels = available();
        let scalar = kernels.last().expect("scalar is always there");

        let mut group = c.benchmark_group("gather");
        group.throughput(Throughput::Bytes((rows * dim * size_of::<f32>()) as u64));
        let mut expected = vec![0.0; rows * dim];
        (scalar.gather)(&table, &picks[..rows], MatrixMut::new(&mut expected, rows, dim, dim));
        for kernel in &kernels {
            for ahead in [false, true] {
                let mut out = vec![0.0; rows * dim];
                (kernel.gather)(&table, &picks[..rows], MatrixMut::new(&mut out, rows, dim, dim));
                assert_eq!(out, expected, "{} is fast but wrong", kernel.level);
                let mut parts = picks.chunks_exact(rows).cycle();
                let mut part = parts.next().expect("there are picks");
                let name = format!("dim={dim}/rows={rows}/prefetch={ahead}");
                group.bench_function(BenchmarkId::new(kernel.level.to_string(), name), |b| {
                    b.iter(|| {
                        if ahead {
                            prefetch(&table, dim, part);
                        }
                        let out = MatrixMut::new(&mut out, rows, dim, dim);
                        (kernel.gather)(black_box(&table), black_box(part), out);
                        part = parts.next().expect("a cycle has no end");
                    });
                });
            }
        }
        group.finish();

        let mut group = c.benchmark_group("sum");
        group.throughput(Throughput::Bytes((rows * dim * size_of::<f32>()) as u64));
        let mut expected = vec![0.0; dim];
        (scalar.sum)(&table, &picks[..rows], None, &mut expected);
        for kernel in &kernels {
            let mut out = vec![0.0; dim];
            (kernel.sum)(&table, &picks[..rows], None, &mut out);
            assert_eq!(out, expected, "{} is fast but wrong", kernel.level);
            let mut parts = picks.chunks_exact(rows).cycle();
            let name = format!("dim={dim}/bag={rows}");
            group.bench_function(BenchmarkId::new(kernel.level.to_string(), name), |b| {
                b.iter(|| {
                    let part = parts.next().expect("a cycle has no end");
                    (kernel.sum)(black_box(&table), black_box(part), None, black_box(&mut out));
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, sum_rows);
criterion_main!(benches);
