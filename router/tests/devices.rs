//! `multi-path` on a machine with a CPU and a GPU that each hold several paths, simulated.

mod profile;

use std::time::Duration;

use mprec_router::{
    PathProfile, PolicyName, Profiles,
    sim::{Arrivals, Report, SimConfig, Sizes, Trace, Until, oracle, simulate},
};

fn path(name: &str, lanes: u32, accuracy: f64, medians: &[(u32, f64)]) -> PathProfile {
    profile::path(name, accuracy, lanes, medians, 1.15)
}

/// Two lanes of a CPU and one of a GPU, on which a table is cheap and two better paths cost nearly the same.
fn machine() -> Profiles {
    Profiles::new(vec![
        path("table@cpu", 2, 0.7879, &[(1, 113.0), (64, 255.0), (1024, 3338.0)]),
        path("hybrid@cpu", 2, 0.7898, &[(1, 4238.0), (64, 13158.0), (1024, 209364.0)]),
        path("table@gpu", 1, 0.7879, &[(1, 153.0), (128, 166.0), (1024, 279.0)]),
        path("dhe@gpu", 1, 0.7894, &[(1, 326.0), (128, 1041.0), (1024, 7267.0)]),
        path("hybrid@gpu", 1, 0.7898, &[(1, 329.0), (128, 1056.0), (1024, 7393.0)]),
    ])
    .expect("profiles are valid")
}

fn trace(rate: f64, sla_ms: u64, queries: usize) -> Trace {
    let sizes: Sizes = "lognormal:4.73,0.5".parse().expect("a known form");
    let sla = Duration::from_millis(sla_ms);
    let arrivals = Arrivals::Poisson { rate };
    Trace::generate(&arrivals, &sizes, Until::Queries(queries), sla, 1).expect("a trace")
}

fn run(policy: &PolicyName, rate: f64, sla_ms: u64, queries: usize) -> Report {
    let trace = trace(rate, sla_ms, queries);
    let config = SimConfig { seed: 1, ..SimConfig::default() };
    simulate(&machine(), policy, &trace, &config).expect("a report")
}

/// The first query has an idle machine. Those after it must not fill it with the best path before the load is
/// known, and a device that gains by batching must not be left idle while the queues of another fill.
#[test]
fn a_cold_start_into_overload_loses_little() {
    for (rate, sla_ms) in [(75_000.0, 200), (110_000.0, 100), (180_000.0, 200)] {
        let ours = run(&PolicyName::MultiPath, rate, sla_ms, 6_000);
        let fastest = run(&PolicyName::Fastest, rate, sla_ms, 6_000);
        let ratio = ours.correct_in_time_per_s / fastest.correct_in_time_per_s;
        assert!(ratio > 0.99, "{ratio} at {rate} queries/s, SLA {sla_ms} ms");
        let cheap = |name: &str| name.starts_with("table");
        let dear = ours.paths.iter().filter(|(name, _)| !cheap(name));
        let dear: u64 = dear.map(|(_, path)| path.answered).sum();
        assert!(dear <= 1, "{dear} on dear paths at {rate} queries/s, SLA {sla_ms} ms");
    }
}

/// Two paths of one device wait for each other: what is admitted to one must still be in time when others join
/// batches ahead of it.
#[test]
fn paths_that_share_a_device_keep_each_others_deadlines_at_the_limit() {
    for (rate, sla_ms) in [(2_100.0, 20), (3_100.0, 20), (3_100.0, 50), (5_200.0, 50)] {
        let report = run(&PolicyName::MultiPath, rate, sla_ms, 6_000);
        let missed = report.late + report.failed;
        let share = missed as f64 / report.offered as f64;
        assert!(share < 0.01, "{share} late at {rate} queries/s, SLA {sla_ms} ms");
    }
}

/// In overload a query that had nothing to spare would begin a batch that nobody can join, and the next one again: a
/// device would run small batches, at a fraction of what it can do.
#[test]
fn batches_fill_in_overload() {
    let accelerator = path("dhe@ipu", 1, 0.8099, &[(1, 100.0), (64, 130.0), (2048, 2_050.0)]);
    let machine = Profiles::new(vec![accelerator]).expect("a valid profile");
    for (rate, sla_ms) in [(24_000.0, 5), (40_000.0, 5), (40_000.0, 10)] {
        let (trace, config) = (trace(rate, sla_ms, 6_000), SimConfig::default());
        let ours = simulate(&machine, &PolicyName::MultiPath, &trace, &config).expect("a report");
        let bound = oracle(&machine, &trace, &config).expect("a bound");
        let share = ours.correct_in_time_per_s / bound.correct_in_time_per_s;
        assert!(share > 0.85, "{share} of the bound at {rate} queries/s, SLA {sla_ms} ms");
    }
}
