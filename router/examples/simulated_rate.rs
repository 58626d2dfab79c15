//! How many queries the simulator runs through each policy per second of its own time, from a light load to one that fills every queue.
//!
//! `cargo run --release -p mprec-router --example simulated_rate`
#![expect(clippy::print_stdout, reason = "an example that prints a table")]

use std::time::{Duration, Instant};

use mprec_router::{
    PathProfile, PolicyName, Profiles, QualitySource, ServiceCurve,
    sim::{Arrivals, SimConfig, Sizes, Trace, Until, simulate},
};

fn path(variant: &str, accuracy: f64, scale: f64) -> PathProfile {
    let medians = [(1, 40.0), (8, 120.0), (128, 1300.0), (512, 5200.0)];
    let medians = medians.map(|(samples, us)| (samples, us * scale));
    PathProfile {
        name: format!("{variant}@cpu"),
        variant: variant.into(),
        device: "cpu".into(),
        lanes: 8,
        accuracy,
        quality_source: QualitySource::Declared("example".into()),
        bytes: 0,
        max_batch: None,
        service: ServiceCurve::from_medians(&medians, 1.1, 1.25).expect("medians increase"),
    }
}

fn main() {
    let paths = vec![path("table", 0.790, 1.0), path("hybrid", 0.792, 3.0)];
    let profiles = Profiles::new(paths).expect("profiles are valid");
    // Load 1 is what 8 lanes at 100 samples per millisecond can do; queries of 20 run alone do less.
    for load in [0.5, 0.95, 2.0] {
        let arrivals = Arrivals::Poisson { rate: load * 40_000.0 };
        let sla = Duration::from_millis(10);
        let trace =
            Trace::generate(&arrivals, &Sizes::Fixed(20), Until::Queries(1_000_000), sla, 1)
                .expect("a trace");
        for policy in ["static:table@cpu", "fastest", "mp-rec", "multi-path"] {
            let policy: PolicyName = policy.parse().expect("a known policy");
            let began = Instant::now();
            let report =
                simulate(&profiles, &policy, &trace, &SimConfig::default()).expect("a report");
            let rate = report.offered as f64 / began.elapsed().as_secs_f64();
            println!(
                "load {load:<4} {policy:<17} {:6.2} M queries/s, {} batches, {} in time",
                rate / 1e6,
                report.batches,
                report.in_time
            );
        }
    }
}
