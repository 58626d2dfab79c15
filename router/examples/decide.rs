//! How long one decision takes: nanoseconds per `decide`, by policy and number of paths.
//!
//! `cargo run --release -p mprec-router --example decide`
#![expect(clippy::print_stdout, reason = "an example that prints a table")]

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use mprec_router::{
    Batch, DeviceId, PathProfile, PolicyName, Profiles, QualitySource, Query, QueryId, Router,
    RouterConfig, ServiceCurve, Time,
};

/// Half of the paths on a CPU with four lanes, half on a GPU with one.
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
            quality_source: QualitySource::Declared("example".into()),
            bytes: 0,
            max_batch: None,
            service: ServiceCurve::from_medians(&medians, 1.1, 1.25).expect("medians increase"),
        }
    };
    Profiles::new((0..paths).map(path).collect()).expect("profiles are valid")
}

fn main() {
    let policies = ["static:variant0@cpu", "fastest", "mp-rec", "multi-path"];
    for paths in [2, 4, 8, 16] {
        for name in policies {
            let name: PolicyName = name.parse().expect("a known policy");
            let router = Router::new(profiles(paths), &name, RouterConfig::default());
            let mut router = router.expect("the policy fits");
            // Load the queues: every lane is busy and some tens of queries wait.
            let mut batch = Batch::default();
            let mut id = 0;
            let mut query = |now: Time| {
                id += 1;
                let samples = 1 + (id * 7_919) % 400;
                Query::new(QueryId(id), samples as usize, now, Duration::from_millis(50))
                    .expect("a size in range")
            };
            let mut now = Time::ZERO;
            for _ in 0..60 {
                now = now + Duration::from_micros(100);
                router.submit(&query(now), now);
                for device in 0..2 {
                    router.next_batch(DeviceId(device), now, &mut batch);
                }
            }
            let waiting = router.state().queued();
            let mut policy = name.build(router.state().profiles()).expect("the policy fits");
            let queries: Vec<_> = (0..1_000)
                .map(|_| {
                    now = now + Duration::from_nanos(300);
                    (now, query(now))
                })
                .collect();
            // Short runs, so that most are not interrupted.
            let mut runs: Vec<f64> = (0..100)
                .flat_map(|_| queries.chunks(20))
                .map(|queries| {
                    let start = Instant::now();
                    for (now, query) in queries {
                        black_box(policy.decide(black_box(query), router.state(), *now));
                    }
                    start.elapsed().as_nanos() as f64 / queries.len() as f64
                })
                .collect();
            runs.sort_by(f64::total_cmp);
            println!(
                "{paths:>2} paths, {waiting:>3} waiting, {name:<20} p50 {:>6.0} ns, p95 {:>6.0} ns",
                runs[runs.len() / 2],
                runs[runs.len() * 95 / 100]
            );
        }
    }
}
