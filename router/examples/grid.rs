//! Goodput of every policy over loads and SLAs, on simulated two-lane CPU and CPU-GPU profiles.
#![expect(clippy::print_stdout, reason = "an example that prints a table")]

use std::time::Duration;

use mprec_router::{
    PathProfile, PolicyName, Profiles, QualitySource, ServiceCurve,
    sim::{Arrivals, Service, SimConfig, Sizes, Trace, Until, oracle, simulate},
};

fn path(name: &str, accuracy: f64, lanes: u32, medians: &[(u32, f64)]) -> PathProfile {
    let (variant, device) = name.split_once('@').unwrap_or((name, "cpu"));
    PathProfile {
        name: name.into(),
        variant: variant.into(),
        device: device.into(),
        lanes,
        accuracy,
        quality_source: QualitySource::Declared("example".into()),
        bytes: 0,
        max_batch: None,
        service: ServiceCurve::from_medians(medians, 1.1, 1.25).expect("medians increase"),
    }
}

fn cpu(variant: &str, accuracy: f64, scale: f64) -> PathProfile {
    let medians = [(1, 40.0), (8, 120.0), (128, 1300.0), (512, 5200.0)];
    path(&format!("{variant}@cpu"), accuracy, 2, &medians.map(|(n, us)| (n, us * scale)))
}

fn main() {
    let gpu = |name: &str, accuracy, scale: f64| {
        path(
            name,
            accuracy,
            1,
            &[(1, 300.0), (128, 380.0), (1024, 900.0)].map(|(n, us)| (n, us * scale)),
        )
    };
    let sets = [
        ("2", vec![cpu("table", 0.790, 1.0), cpu("ensemble", 0.792, 3.2)]),
        // Paths of nearly one cost and quality, and one that none should take.
        (
            "near",
            vec![
                cpu("hash", 0.7646, 1.2),
                cpu("table", 0.7646, 1.0),
                cpu("dhe", 0.7658, 1.6),
                cpu("ensemble", 0.7646, 3.2),
            ],
        ),
        ("3", vec![cpu("hash", 0.786, 0.9), cpu("table", 0.790, 1.0), cpu("ensemble", 0.792, 3.2)]),
        (
            "5",
            vec![
                cpu("hash", 0.786, 0.9),
                cpu("table", 0.790, 1.0),
                cpu("dhe", 0.785, 4.0),
                cpu("hybrid", 0.789, 4.8),
                cpu("ensemble", 0.792, 3.2),
            ],
        ),
        (
            "gpu",
            vec![
                cpu("table", 0.7879, 1.0),
                gpu("table@gpu", 0.7879, 1.0),
                gpu("hybrid@gpu", 0.7898, 2.5),
            ],
        ),
        ("gpu2", vec![cpu("table", 0.7879, 1.0), gpu("hybrid@gpu", 0.7898, 2.5)]),
    ];
    let which: Vec<String> = std::env::args().skip(1).collect();
    let mut worst = f64::INFINITY;
    let mut below = 0;
    let mut points = 0;
    for (set, paths) in sets {
        if !which.is_empty() && !which.iter().any(|name| name == set) {
            continue;
        }
        let profiles = Profiles::new(paths).expect("profiles are valid");
        for sizes in ["fixed:128", "lognormal:4.35,1.0", "mlperf"] {
            let sizes: Sizes = sizes.parse().expect("a known form");
            // Load 1: what the table path on the CPU can carry at this mean size.
            let mean = sizes.samples(9).take(100_000).map(f64::from).sum::<f64>() / 1e5;
            let capacity = 2.0 / (mean * 10.16e-6);
            for sla_ms in [2u64, 5, 10, 50, 200] {
                for load in [0.1, 0.3, 0.5, 0.8, 0.95, 1.1, 2.0, 5.0] {
                    let traces = [7, 8, 9].map(|seed| {
                        Trace::generate(
                            &Arrivals::Poisson { rate: load * capacity },
                            &sizes,
                            Until::Queries(10_000),
                            Duration::from_millis(sla_ms),
                            seed,
                        )
                        .expect("a trace")
                    });
                    for service in [Service::Quantiles] {
                        let config = SimConfig { service, ..SimConfig::default() };
                        let mut bound = 0.0;
                        let mut sums = vec![0.0; PolicyName::all(&profiles).len()];
                        let mut detail = String::new();
                        for trace in &traces {
                            bound += oracle(&profiles, trace, &config)
                                .expect("a bound")
                                .correct_in_time_per_s;
                            for (at, policy) in PolicyName::all(&profiles).iter().enumerate() {
                                let report =
                                    simulate(&profiles, policy, trace, &config).expect("a report");
                                sums[at] += report.correct_in_time_per_s;
                                if *policy == PolicyName::MultiPath {
                                    let share = |count: u64| count as f64 / report.offered as f64;
                                    let mix: Vec<String> = report
                                        .paths
                                        .iter()
                                        .filter(|(_, path)| path.answered > 0)
                                        .map(|(name, path)| {
                                            format!("{name} {:.3}", share(path.answered))
                                        })
                                        .collect();
                                    detail = format!(
                                        "in time {:.4} late {:.4} refused {:.4} failed {:.4} p999 {:.2} [{}]",
                                        share(report.in_time),
                                        share(report.late),
                                        share(report.refused),
                                        share(report.failed),
                                        report.p999_ms,
                                        mix.join(", ")
                                    );
                                }
                            }
                        }
                        let ours = sums.pop().unwrap_or(0.0);
                        let (at, best) =
                            sums.iter().copied().enumerate().fold((0, 0.0), |best, next| {
                                if next.1 > best.1 { next } else { best }
                            });
                        let best_name = PolicyName::all(&profiles)[at].to_string();
                        let ratio = ours / f64::max(best, 1e-9);
                        points += 1;
                        if best > 0.0 {
                            worst = worst.min(ratio);
                        }
                        let flag = if ratio < 1.0 {
                            below += 1;
                            if ratio < 0.999 { "!!" } else { "! " }
                        } else {
                            "  "
                        };
                        println!(
                            "{flag} {set:>4} {sizes:<20} sla {sla_ms:>3} load {load:<4} {service:<9} ours/best {ratio:>9.5} of bound {:.4} best {best_name:<20} {detail}",
                            ours / f64::max(bound, 1e-9)
                        );
                    }
                }
            }
        }
    }
    println!("{points} points, {below} below the best other policy, worst {worst:.5}");
}
