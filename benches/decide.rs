//! One decision of each policy, by number of paths, on a machine with full lanes and queues.
//!
//! The aim for `multi-path` is 1 µs with 16 paths (median).

use std::{hint::black_box, time::Duration};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use mprec_router::{
    Batch, Decision, DeviceId, PathProfile, PolicyName, Profiles, QualitySource, Query, QueryId,
    Router, RouterConfig, ServiceCurve, Time,
};

/// Queries in rotation.
const QUERIES: usize = 1_000;

/// Half of the paths on a CPU with four lanes, half on a GPU with one. The slower a path, the more
/// accurate it is, so that every path counts.
fn profiles(paths: usize) -> Profiles {
    let path = |at: usize| {
        let device = ["cpu", "gpu"][at % 2];
        let scale = 1.0 + 0.3 * at as f64;
        let sizes = [1, 4, 16, 64, 128, 256, 512, 1024];
        let medians = sizes.map(|n| (n, scale * (30.0 + 10.0 * f64::from(n))));
        PathProfile {
            name: format!("variant{at}@{device}"),
            variant: format!("variant{at}"),
            device: device.into(),
            lanes: if device == "cpu" { 4 } else { 1 },
            accuracy: 0.78 + 0.001 * at as f64,
            quality_source: QualitySource::Declared("a benchmark".into()),
            bytes: 0,
            max_batch: None,
            service: ServiceCurve::from_medians(&medians, 1.1, 1.25).expect("medians increase"),
        }
    };
    Profiles::new((0..paths).map(path).collect()).expect("profiles are valid")
}

fn query(id: u64, now: Time) -> Query {
    let samples = 1 + (id * 7_919) % 400;
    Query::new(QueryId(id), samples as usize, now, Duration::from_millis(50))
        .expect("a size in range")
}

/// A router whose lanes are busy and whose queues hold some tens of queries.
fn loaded(paths: usize, name: &PolicyName) -> (Router, Time) {
    let mut router = Router::new(profiles(paths), name, RouterConfig::default())
        .expect("the policy fits the profiles");
    let mut batch = Batch::default();
    let mut now = Time::ZERO;
    for id in 0..60 {
        now = now + Duration::from_micros(100);
        router.submit(&query(id, now), now);
        for device in 0..2 {
            router.next_batch(DeviceId(device), now, &mut batch);
        }
    }
    (router, now)
}

fn decide(c: &mut Criterion) {
    let mut group = c.benchmark_group("decide");
    group.throughput(Throughput::Elements(1));
    for name in ["static:variant0@cpu", "fastest", "mp-rec", "multi-path"] {
        let name: PolicyName = name.parse().expect("a known policy");
        for paths in [2, 4, 8, 16] {
            let (router, start) = loaded(paths, &name);
            let state = router.state();
            let mut policy = name.build(state.profiles()).expect("the policy fits");
            let moments: Vec<(Query, Time)> = (0..QUERIES as u64)
                .map(|at| {
                    let now = start + Duration::from_nanos(300 * at);
                    (query(1_000 + at, now), now)
                })
                .collect();

            // A promise is kept by the prediction that it came with, and the same question
            // to an equal policy has the same answer.
            let mut twin = name.build(state.profiles()).expect("the policy fits");
            for (query, now) in &moments {
                let decision = policy.decide(query, state, *now);
                assert_eq!(decision, twin.decide(query, state, *now), "{name} is not a function");
                if let Decision::Admit(admission) = decision {
                    let prediction = state.predict(admission.path, query, *now);
                    assert_eq!(admission.upper_finish, prediction.upper_finish(*now), "{name}");
                }
            }

            let mut next = moments.iter().cycle();
            group.bench_function(BenchmarkId::new(name.to_string(), paths), |b| {
                b.iter(|| {
                    let (query, now) = next.next().expect("a cycle has no end");
                    policy.decide(black_box(query), black_box(state), *now)
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, decide);
criterion_main!(benches);
