//! Whole models in the Kaggle shape, on the cpu backend and, in small, on the reference backend.
//!
//! One-hot Zipf ids over the cardinalities that [`kaggle`] states.

use std::{hint::black_box, time::Duration};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use mprec_backends::{Backend, CpuBackend, ReferenceBackend};
use mprec_benches::{check, kaggle};

fn end_to_end(c: &mut Criterion) {
    let schema = kaggle::schema();
    for variant in kaggle::VARIANTS {
        let mut group = c.benchmark_group(variant);
        group.sample_size(10).measurement_time(Duration::from_secs(3));
        let representation = kaggle::representation(variant).expect("variants are known");
        let program = kaggle::program(&schema, &representation);
        for samples in [1, 8, 128, 512, 2048] {
            let batches = kaggle::batches(&schema, samples, (65_536 / samples).clamp(32, 1024));
            let backends: [(&str, &dyn Backend); 2] =
                [("cpu", &CpuBackend::new()), ("reference", &ReferenceBackend)];
            for (name, backend) in backends {
                if name == "reference" && samples > 8 {
                    continue;
                }
                let mut executable =
                    backend.prepare(&program).expect("both backends run every operation");
                check(&program, &mut *executable, &batches[0], 8);
                let mut scores = vec![0.0; samples];
                let mut next = batches.iter().cycle();
                group.throughput(Throughput::Elements(samples as u64));
                group.bench_function(BenchmarkId::new(name, samples), |b| {
                    b.iter(|| {
                        let batch = next.next().expect("a cycle has no end");
                        executable.run(black_box(batch), &mut scores).expect("checked above");
                        black_box(&mut scores);
                    });
                });
            }
        }
        group.finish();
    }
}

criterion_group!(benches, end_to_end);
criterion_main!(benches);
