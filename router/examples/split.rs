//! What splitting large queries does: `multi-path` with and without, on simulated CPU profiles.
//!
//! `cargo run --release -p mprec-router --example split`
#![expect(clippy::print_stdout, reason = "an example that prints a table")]

use std::time::Duration;

use mprec_router::{
    PathProfile, PolicyName, Profiles, QualitySource, RouterConfig, ServiceCurve,
    sim::{Arrivals, Report, SimConfig, Sizes, Trace, Until, simulate},
};

fn cpu(variant: &str, accuracy: f64, scale: f64, lanes: u32) -> PathProfile {
    let medians = [(1, 40.0), (8, 120.0), (128, 1300.0), (512, 5200.0)];
    let medians = medians.map(|(n, us)| (n, us * scale));
    PathProfile {
        name: format!("{variant}@cpu"),
        variant: variant.into(),
        device: "cpu".into(),
        lanes,
        accuracy,
        quality_source: QualitySource::Declared("example".into()),
        bytes: 0,
        max_batch: None,
        service: ServiceCurve::from_medians(&medians, 1.1, 1.25).expect("medians increase"),
    }
}

fn main() {
    let paths = |names: &[&str], lanes| {
        let all = [("table", 0.790, 1.0), ("ensemble", 0.792, 3.2)];
        let chosen = all.into_iter().filter(|(name, ..)| names.contains(name));
        let paths = chosen.map(|(name, accuracy, scale)| cpu(name, accuracy, scale, lanes));
        Profiles::new(paths.collect()).expect("profiles are valid")
    };
    println!(
        "{:<16} lanes {:<20} load  SLA ms   p50 ms whole/split   p99 ms whole/split   correct in time/s whole/split   ratio  split %",
        "paths", "sizes"
    );
    for (names, lanes) in [
        (&["table"][..], 2),
        (&["table", "ensemble"][..], 2),
        (&["table"][..], 8),
        (&["table", "ensemble"][..], 8),
    ] {
        let profiles = paths(names, lanes);
        for text in ["mlperf", "lognormal:4.35,1.0"] {
            let sizes: Sizes = text.parse().expect("a known form");
            let mean = sizes.samples(9).take(100_000).map(f64::from).sum::<f64>() / 1e5;
            let capacity = f64::from(lanes) / (mean * 10.16e-6);
            for sla_ms in [5u64, 10, 50] {
                for load in [0.3, 0.8, 2.0] {
                    let (mut whole, mut split) = (Sum::default(), Sum::default());
                    for seed in 7..10 {
                        let trace = Trace::generate(
                            &Arrivals::Poisson { rate: load * capacity },
                            &sizes,
                            Until::Queries(20_000),
                            Duration::from_millis(sla_ms),
                            seed,
                        )
                        .expect("a trace");
                        for (max_parts, sum) in [(Some(1), &mut whole), (None, &mut split)] {
                            let router = RouterConfig { max_parts, ..RouterConfig::default() };
                            let config = SimConfig { router, ..SimConfig::default() };
                            let report =
                                simulate(&profiles, &PolicyName::MultiPath, &trace, &config)
                                    .expect("a report");
                            sum.add(&report);
                        }
                    }
                    println!(
                        "{:<16} {lanes:>5} {text:<20} {load:>4} {sla_ms:>7}   {:>8.2} {:>8.2}    {:>8.2} {:>8.2}      {:>12.0} {:>12.0}   {:>8.5} {:>7.2}",
                        names.join("+"),
                        whole.p50_ms / 3.0,
                        split.p50_ms / 3.0,
                        whole.p99_ms / 3.0,
                        split.p99_ms / 3.0,
                        whole.correct / 3.0,
                        split.correct / 3.0,
                        split.correct / whole.correct,
                        100.0 * split.split / split.offered
                    );
                }
            }
        }
    }
}

#[derive(Default)]
struct Sum {
    p50_ms: f64,
    p99_ms: f64,
    correct: f64,
    split: f64,
    offered: f64,
}

impl Sum {
    fn add(&mut self, report: &Report) {
        self.p50_ms += report.p50_ms;
        self.p99_ms += report.p99_ms;
        self.correct += report.correct_in_time_per_s;
        self.split += report.split as f64;
        self.offered += report.offered as f64;
    }
}
