//! The encoder of a DHE with the published hash family, each kernel beside scalar.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use mprec_backends::cpu::{
    hash_encode::{Encoder, available},
    matrix::MatrixMut,
};
use mprec_representations::{HashFamily, Tensor, Transform};

const IDS: usize = 128;
const HASHES: usize = 1024;

fn hash_encode(c: &mut Criterion) {
    let rows = (0..HASHES as i64)
        .flat_map(|at| [1 + at * 7919 % 1_000_002, at * 104_729 % 1_000_003, 1_000_003, 1_000_000]);
    let family = HashFamily::new(Tensor::new(&[HASHES, 4], rows.collect()))
        .expect("a and b are below the prime");
    let ids: Vec<u64> = (0..IDS as u64).map(|at| at * 2_654_435_761 % 10_131_227).collect();
    let mut group = c.benchmark_group("hash_encode");
    // Elements are hashes.
    group.throughput(Throughput::Elements((IDS * HASHES) as u64));
    for transform in [Transform::Uniform, Transform::Gaussian] {
        let encoder = Encoder::new(family.clone(), transform);
        let mut expected: Option<Vec<f32>> = None;
        for kernel in available().into_iter().rev() {
            let mut codes = vec![0.0; IDS * HASHES];
            (kernel.encode)(&encoder, &ids, MatrixMut::new(&mut codes, IDS, HASHES, HASHES));
            let expected = expected.get_or_insert_with(|| codes.clone());
            assert_eq!(&codes, expected, "{} is fast but wrong", kernel.level);
            let id = BenchmarkId::new(kernel.level.to_string(), format!("{transform:?}"));
            group.bench_function(id, |b| {
                b.iter(|| {
                    let codes = MatrixMut::new(&mut codes, IDS, HASHES, HASHES);
                    (kernel.encode)(black_box(&encoder), black_box(&ids), codes);
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, hash_encode);
criterion_main!(benches);
