//! The simulator against what must always hold, against queueing theory, and the policies against
//! each other.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop here")]

mod profile;

use std::{collections::HashMap, time::Duration};

use mprec_router::{
    Decision, DeviceId, PathId, PathProfile, PathSet, PolicyName, Priority, Profiles, Router,
    RouterConfig, Time,
    policy::MultiPath,
    sim::{
        Arrivals, Event, Report, Service, SimConfig, Sizes, Slowdown, Trace, TraceQuery, Until,
        oracle, simulate, simulate_with,
    },
};
use proptest::prelude::*;

fn path(name: &str, accuracy: f64, lanes: u32, medians: &[(u32, f64)]) -> PathProfile {
    profile::path(name, accuracy, lanes, medians, 1.25)
}

fn cpu(variant: &str, accuracy: f64, scale: f64) -> PathProfile {
    let medians = [(1, 40.0), (8, 120.0), (128, 1300.0), (512, 5200.0)];
    path(&format!("{variant}@cpu"), accuracy, 2, &medians.map(|(n, us)| (n, us * scale)))
}

fn two_paths() -> Profiles {
    Profiles::new(vec![cpu("table", 0.790, 1.0), cpu("ensemble", 0.792, 3.2)]).unwrap()
}

fn poisson(rate: f64, sizes: &Sizes, queries: usize, sla: Duration, seed: u64) -> Trace {
    Trace::generate(&Arrivals::Poisson { rate }, sizes, Until::Queries(queries), sla, seed).unwrap()
}

fn run(profiles: &Profiles, policy: &str, trace: &Trace, config: &SimConfig) -> Report {
    simulate(profiles, &policy.parse().unwrap(), trace, config).unwrap()
}

/// What became of a query.
#[derive(Debug, Clone, Copy, PartialEq)]
enum End {
    Answered,
    Refused,
    Expired,
}

/// A query that runs in parts.
struct InParts {
    path: PathId,
    parts: u32,
    /// Offset and samples of the parts that have been started, in order.
    started: Vec<(u32, u32)>,
}

/// Runs a policy and checks everything that must hold at every moment.
fn check_invariants(
    profiles: &Profiles,
    policy: &PolicyName,
    trace: &Trace,
    config: &SimConfig,
) -> Report {
    let mut ends: HashMap<u64, End> = HashMap::new();
    let mut busy: HashMap<(DeviceId, u16), bool> = HashMap::new();
    let mut split: HashMap<u64, InParts> = HashMap::new();
    let mut last = Time::ZERO;
    let mut end = |id: u64, how: End| {
        assert_eq!(ends.insert(id, how), None, "query {id} ended twice");
    };
    let router = Router::new(profiles.clone(), policy, config.router.clone()).unwrap();
    let report = simulate_with(router, trace, config, |event| match event {
        Event::Decided { now, query, decision } => {
            assert!(now >= last);
            last = now;
            match decision {
                Decision::Refuse(_) => end(query.id().0, End::Refused),
                Decision::Admit(admission) => {
                    let accuracy = profiles.path(admission.path).accuracy;
                    assert!(accuracy >= query.min_quality(), "a floor was broken");
                    assert!(query.paths().contains(admission.path), "a path that cannot run it");
                    assert!(admission.upper_finish >= admission.predicted_finish);
                    assert!(admission.parts >= 1 && admission.parts <= query.samples());
                    if admission.parts > 1 {
                        let device = profiles.device_of(admission.path);
                        let lanes = profiles.devices()[usize::from(device.0)].lanes;
                        assert!(
                            admission.parts <= lanes.min(config.router.max_parts.unwrap_or(16))
                        );
                        assert_eq!(*policy, PolicyName::MultiPath, "a baseline split a query");
                        let (path, parts) = (admission.path, admission.parts);
                        let parts = InParts { path, parts, started: Vec::new() };
                        split.insert(query.id().0, parts);
                    }
                }
            }
        }
        Event::Started { now, batch, .. } => {
            assert!(now >= last);
            last = now;
            let lane = (batch.device, batch.lane.0);
            assert!(!busy.insert(lane, true).unwrap_or(false), "two batches on a lane");
            assert_eq!(profiles.device_of(batch.path), batch.device);
            assert!(!batch.queries.is_empty());
            let samples: u32 = batch.queries.iter().map(|query| query.samples).sum();
            assert_eq!(samples, batch.samples);
            let limit = profiles.path(batch.path).batch_limit();
            assert!(
                batch.queries.len() == 1 || samples <= limit,
                "{samples} samples above {limit}"
            );
            let mut together = HashMap::new();
            for query in &batch.queries {
                assert!(query.deadline > now, "expired work was run");
                let before = together.insert(query.id, ());
                assert_eq!(before, None, "two parts of a query in one batch");
                let whole = &trace.queries()[query.id.0 as usize];
                match split.get_mut(&query.id.0) {
                    None => assert_eq!((query.offset, query.samples), (0, whole.samples)),
                    Some(parts) => {
                        assert_eq!(parts.path, batch.path, "parts on two paths");
                        parts.started.push((query.offset, query.samples));
                    }
                }
            }
            let deadlines = batch.queries.windows(2);
            assert!(deadlines.into_iter().all(|pair| pair[0].deadline <= pair[1].deadline));
        }
        Event::Finished { now, batch } => {
            assert!(now >= last);
            last = now;
            assert_eq!(busy.insert((batch.device, batch.lane.0), false), Some(true));
            for query in &batch.ended {
                end(query.id.0, End::Answered);
                assert_eq!(query.samples, trace.queries()[query.id.0 as usize].samples);
                // The parts of an answered query cover its samples exactly.
                if let Some(InParts { parts, started, .. }) = split.remove(&query.id.0) {
                    assert_eq!(started.len(), parts as usize);
                    let covered = started.iter().fold(0, |at, &(offset, samples)| {
                        assert_eq!(offset, at);
                        at + samples
                    });
                    assert_eq!(covered, query.samples);
                }
            }
        }
        Event::Expired { now, queries } => {
            for query in queries {
                assert!(query.deadline <= now, "handed back before its deadline");
                end(query.id.0, End::Expired);
            }
        }
        Event::Settled { router, .. } => {
            // Work conserving: whatever waits, waits because every lane of its device is busy.
            for id in profiles.ids() {
                if !router.state().path(id).queue.is_empty() {
                    assert_eq!(router.state().lanes(profiles.device_of(id)).idle(), 0);
                }
            }
            let waiting: usize = profiles.ids().map(|id| router.state().path(id).queue.len()).sum();
            assert_eq!(waiting, router.state().queued());
            assert!(waiting <= config.router.max_queued);
        }
        _ => {}
    })
    .unwrap();
    assert_eq!(ends.len(), trace.queries().len(), "a query never ended");
    let count = |how| ends.values().filter(|&&end| end == how).count() as u64;
    assert_eq!(report.offered, trace.queries().len() as u64);
    assert_eq!(report.answered, count(End::Answered));
    assert_eq!(report.refused, count(End::Refused));
    assert_eq!(report.failed, count(End::Expired));
    assert_eq!(report.answered, report.in_time + report.late);
    assert_eq!(report.paths.values().map(|path| path.answered).sum::<u64>(), report.answered);
    report
}

/// One to four paths on one or two devices.
fn any_profiles() -> impl Strategy<Value = Profiles> {
    let one = (0.5f64..1.0, 0usize..2, 5.0f64..500.0, 0.5f64..20.0, prop::option::of(1u32..300));
    (prop::collection::vec(one, 1..5), 1u32..4, 1u32..4).prop_map(|(paths, cpu, gpu)| {
        let make = |(at, (accuracy, device, fixed, per_sample, max_batch))| {
            let device: usize = device;
            let device = ["cpu", "gpu"][device];
            let name = format!("variant{at}@{device}");
            let time = |n: u32| fixed + per_sample * f64::from(n);
            let medians = [1, 64, 512].map(|n| (n, time(n)));
            let lanes = if device == "cpu" { cpu } else { gpu };
            PathProfile { max_batch, ..path(&name, accuracy, lanes, &medians) }
        };
        Profiles::new(paths.into_iter().enumerate().map(make).collect()).unwrap()
    })
}

fn any_trace() -> impl Strategy<Value = Trace> {
    // Most queries can run on every path, some on one alone.
    let paths = prop_oneof![8 => Just(u64::MAX), 1 => Just(1), 1 => Just(2)];
    let picky = prop::bool::weighted(0.1);
    let query = (0u64..2_000, 1u32..400, 100u64..20_000, picky, 0usize..3, paths);
    prop::collection::vec(query, 1..400).prop_map(|queries| {
        let mut now = Time::ZERO;
        let make = |(gap, samples, sla, picky, class, paths): (u64, u32, u64, bool, usize, u64)| {
            now = now + Duration::from_micros(gap);
            TraceQuery {
                arrival: now,
                samples,
                sla: Duration::from_micros(sla),
                min_quality: if picky { 0.8 } else { 0.0 },
                priority: [Priority::Low, Priority::Normal, Priority::High][class],
                paths: PathSet::from_bits(paths),
            }
        };
        Trace::new(queries.into_iter().map(make).collect()).unwrap()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn every_policy_keeps_the_invariants_and_stays_below_the_oracle(
        profiles in any_profiles(),
        trace in any_trace(),
        service in prop::sample::select(vec![Service::Quantiles, Service::Median, Service::Exponential]),
        max_queued in prop::sample::select(vec![5usize, 4_096]),
        max_parts in prop::sample::select(vec![None, Some(1), Some(2)]),
        seed in 0u64..1_000,
    ) {
        let router = RouterConfig { max_queued, max_parts, ..RouterConfig::default() };
        let config = SimConfig { service, seed, router, ..SimConfig::default() };
        let bound = oracle(&profiles, &trace, &config).unwrap();
        for policy in PolicyName::all(&profiles) {
            let report = check_invariants(&profiles, &policy, &trace, &config);
            prop_assert!(
                report.correct_in_time_per_s <= bound.correct_in_time_per_s * (1.0 + 1e-9),
                "{} {} > {}", policy, report.correct_in_time_per_s, bound.correct_in_time_per_s
            );
        }
    }
}

#[test]
fn equal_arguments_give_equal_reports() {
    let sizes: Sizes = "lognormal:4.3,1".parse().unwrap();
    let trace = poisson(2_000.0, &sizes, 5_000, Duration::from_millis(10), 5);
    let config = SimConfig { seed: 3, ..SimConfig::default() };
    for policy in PolicyName::all(&two_paths()) {
        let once = simulate(&two_paths(), &policy, &trace, &config).unwrap();
        assert_eq!(once, simulate(&two_paths(), &policy, &trace, &config).unwrap());
    }
}

/// Mean wait, in milliseconds, of a queue with one sample per batch and no deadline to speak of.
///
/// Mean waits converge slowly: one moment of a full queue is felt by thousands after it. So the mean is
/// corrected by what is known exactly: where lanes were busier than they are on average, waits were
/// longer. The utilisation is a control variate, with the coefficient that the runs show.
fn mean_wait_ms(lanes: u32, utilisation: f64, service: Service) -> f64 {
    let profile =
        PathProfile { max_batch: Some(1), ..path("one@cpu", 0.8, lanes, &[(1, 1_000.0)]) };
    let profiles = Profiles::new(vec![profile]).unwrap();
    let rate = utilisation * f64::from(lanes) * 1_000.0;
    let router = RouterConfig { max_queued: 1_000_000, ..RouterConfig::default() };
    let one = |seed: u64| {
        let config = SimConfig { service, seed, router: router.clone(), ..SimConfig::default() };
        let trace = poisson(rate, &Sizes::Fixed(1), 100_000, Duration::from_secs(3_600), seed);
        let report = run(&profiles, "static:one@cpu", &trace, &config);
        (report.mean_wait_ms, report.utilisation["cpu"] - utilisation)
    };
    // What is hardly busy forgets soon.
    let each = if utilisation > 0.6 { 8 } else { 2 };
    let runs: Vec<(f64, f64)> = std::thread::scope(|scope| {
        let one = &one;
        let half = |from: u64| move || (from..from + each).map(one).collect::<Vec<_>>();
        let halves = [0, each].map(|from| scope.spawn(half(from)));
        halves.into_iter().flat_map(|half| half.join().unwrap()).collect()
    });
    let mean = |of: fn(&(f64, f64)) -> f64| runs.iter().map(of).sum::<f64>() / runs.len() as f64;
    let (wait, excess) = (mean(|run| run.0), mean(|run| run.1));
    let together: f64 = runs.iter().map(|run| (run.0 - wait) * (run.1 - excess)).sum();
    let square: f64 = runs.iter().map(|run| (run.1 - excess).powi(2)).sum();
    wait - together / square * excess
}

#[test]
fn mean_waits_agree_with_queueing_theory() {
    let close = |simulated: f64, exact: f64, what: &str| {
        let error = (simulated / exact - 1.0).abs();
        assert!(error < 0.02, "{what}: simulated {simulated:.4} ms, exact {exact:.4} ms");
    };
    for rho in [0.5, 0.8] {
        // Pollaczek–Khinchine: W = ρ·(1 + c²)/(2(1 - ρ)) service times.
        close(mean_wait_ms(1, rho, Service::Median), rho / (2.0 * (1.0 - rho)), "M/D/1");
        close(mean_wait_ms(1, rho, Service::Exponential), rho / (1.0 - rho), "M/M/1");
        // Erlang C with c servers: W = C(c, cρ) / (c(1 - ρ)) service times.
        let (servers, load) = (4u32, 4.0 * rho);
        let mut term = 1.0;
        let mut sum = 1.0;
        for k in 1..servers {
            term *= load / f64::from(k);
            sum += term;
        }
        let last = term * load / f64::from(servers) / (1.0 - rho);
        let erlang_c = last / (sum + last);
        let exact = erlang_c / (f64::from(servers) * (1.0 - rho));
        close(mean_wait_ms(servers, rho, Service::Exponential), exact, "M/M/4");
    }
}

/// A full path of 4 ms and a cheap one of 1 ms on two workers, one sample each, 20 ms to answer.
fn overload(load: f64, policy: &str) -> Report {
    let full = PathProfile { max_batch: Some(1), ..path("full@cpu", 1.0, 2, &[(1, 4_000.0)]) };
    let cheap = PathProfile { max_batch: Some(1), ..path("cheap@cpu", 0.97, 2, &[(1, 1_000.0)]) };
    let profiles = Profiles::new(vec![full, cheap]).unwrap();
    let trace = poisson(load * 500.0, &Sizes::Fixed(1), 40_000, Duration::from_millis(20), 11);
    run(&profiles, policy, &trace, &SimConfig::default())
}

#[test]
fn under_overload_downgrading_saves_what_a_static_path_loses() {
    let share = |report: &Report| report.in_time as f64 / report.offered as f64;
    let double = overload(2.0, "multi-path");
    assert!(share(&double) >= 0.99, "{}", share(&double));
    assert!(share(&overload(2.0, "static:full@cpu")) < 0.10);
    assert!(share(&overload(2.0, "mp-rec")) < 0.10, "it is blind to the queue");
    // The cheap path carries four times the full path's load, so at five times a fifth is refused.
    let fivefold = overload(5.0, "multi-path");
    assert!(share(&fivefold) > 0.97 * 0.8, "{}", share(&fivefold));
    assert!(fivefold.late as f64 <= 0.002 * fivefold.offered as f64, "{} late", fivefold.late);
    let light = overload(0.5, "multi-path");
    assert!(share(&light) > 0.999 && light.accuracy > 0.995, "{}", light.accuracy);
}

#[test]
fn what_the_most_accurate_path_can_carry_alone_it_keeps() {
    // Two fifths of what the accurate path carries, with an SLA far above its queue.
    let profiles = Profiles::new(vec![cpu("table", 0.7646, 1.0), cpu("dhe", 0.7658, 1.6)]).unwrap();
    let rate = 0.4 * 2.0 / (120.0 * 10.16e-6 * 1.6);
    let sizes: Sizes = "lognormal:4.6,0.6".parse().unwrap();
    for seed in 1..4 {
        let trace = poisson(rate, &sizes, 10_000, Duration::from_millis(50), seed);
        let report = run(&profiles, "multi-path", &trace, &SimConfig::default());
        assert_eq!(report.in_time, 10_000, "seed {seed}");
        // A few while the load is not known yet.
        assert!(report.downgraded < 10, "seed {seed}: {}", report.downgraded);
    }
}

#[test]
fn queries_are_downgraded_before_any_is_refused() {
    // Within the cheap path's capacity, nothing is refused; beyond the full path's, much is downgraded.
    let report = overload(3.0, "multi-path");
    assert!(report.downgraded > report.offered / 2);
    assert!(report.refused < report.offered / 200, "{} refused", report.refused);
}

#[test]
fn a_slowdown_in_mid_run_is_absorbed() {
    let trace = poisson(500.0, &Sizes::Fixed(128), 20_000, Duration::from_millis(20), 2);
    let from = Time::from_secs_f64(10.0);
    let slowdowns = vec![Slowdown { from, device: None, factor: 1.5 }];
    let config = SimConfig { slowdowns, ..SimConfig::default() };
    let profiles = two_paths();
    let router = Router::new(profiles.clone(), &PolicyName::MultiPath, RouterConfig::default());
    let mut batches = 0;
    let (mut late_soon, mut late_after, mut after) = (0, 0, 0);
    simulate_with(router.unwrap(), &trace, &config, |event| {
        if let Event::Finished { now, batch } = event
            && now > from
        {
            batches += 1;
            let late = batch.queries.iter().filter(|query| now > query.deadline).count();
            if batches <= 200 {
                late_soon += late;
            } else {
                late_after += late;
                after += batch.queries.len();
            }
        }
    })
    .unwrap();
    assert!(late_soon <= 20, "{late_soon} late while it was learnt");
    assert!(after > 5_000 && late_after * 1_000 < after, "{late_after} late of {after} afterwards");
}

#[test]
fn margins_cover_the_share_of_batches_that_was_asked_for() {
    let profiles = two_paths();
    let sizes: Sizes = "lognormal:4.35,0.6".parse().unwrap();
    let covered = |coverage: f64, slowdowns: Vec<Slowdown>| {
        let trace = poisson(900.0, &sizes, 40_000, Duration::from_millis(30), 9);
        let router = RouterConfig { coverage, ..RouterConfig::default() };
        let config = SimConfig { slowdowns, ..SimConfig::default() };
        let router = Router::new(profiles.clone(), &PolicyName::MultiPath, router).unwrap();
        let mut last = 0.0;
        let report = simulate_with(router, &trace, &config, |event| {
            if let Event::Settled { router, .. } = event {
                let (mut batches, mut kept) = (0.0, 0.0);
                for path in profiles.ids() {
                    let correction = &router.state().path(path).correction;
                    batches += correction.observations() as f64;
                    kept += correction.observations() as f64 * correction.coverage();
                }
                last = kept / f64::max(batches, 1.0);
            }
        });
        (last, report.unwrap())
    };
    let slower = |seconds: f64, factor| Slowdown {
        from: Time::from_secs_f64(seconds),
        device: None,
        factor,
    };
    for coverage in [0.95, 0.99] {
        let misses = 1.0 - coverage;
        let runs = [
            ("steady", vec![]),
            // To 1.4 times in forty steps.
            (
                "drift",
                (1..=40).map(|at| slower(f64::from(at), 1.0 + 0.01 * f64::from(at))).collect(),
            ),
            ("slowdown", vec![slower(20.0, 1.5)]),
        ];
        for (what, slowdowns) in runs {
            let (batches, report) = covered(coverage, slowdowns);
            assert!((batches - coverage).abs() < 0.3 * misses, "{what}: {batches} of batches");
            assert!(
                report.late as f64 <= misses * report.answered as f64,
                "{what}: {}",
                report.late
            );
        }
    }
}

#[test]
fn a_dominated_path_is_never_taken() {
    let mut paths = vec![cpu("hash", 0.7646, 1.2), cpu("table", 0.7646, 1.0)];
    paths.extend([cpu("dhe", 0.7658, 1.6), cpu("ensemble", 0.7646, 3.2)]);
    let profiles = Profiles::new(paths).unwrap();
    let sizes: Sizes = "lognormal:4.35,1.0".parse().unwrap();
    for rate in [100.0, 700.0, 3_000.0] {
        let trace = poisson(rate, &sizes, 5_000, Duration::from_millis(10), 3);
        let report = run(&profiles, "multi-path", &trace, &SimConfig::default());
        assert!(report.paths["table@cpu"].answered > 0);
        for path in ["hash@cpu", "ensemble@cpu"] {
            assert_eq!(report.paths[path].answered, 0, "{path} at {rate} queries a second");
        }
    }
}

#[test]
fn hysteresis_keeps_quality_from_flapping_and_costs_nothing() {
    let profiles = two_paths();
    // Between the ensemble's capacity and the table's, where both must be used.
    let trace = poisson(900.0, &Sizes::Fixed(128), 20_000, Duration::from_millis(30), 4);
    let run = |times: f64| {
        let policy = MultiPath::new(&profiles).with_hysteresis(times);
        let config = RouterConfig::default();
        let router = Router::with_policy(profiles.clone(), Box::new(policy), config).unwrap();
        let mut changes = 0;
        let mut last = None;
        let report = simulate_with(router, &trace, &SimConfig::default(), |event| {
            if let Event::Decided { decision, .. } = event {
                changes += u32::from(last.is_some() && decision.path() != last);
                last = decision.path();
            }
        });
        (changes, report.unwrap().correct_in_time_per_s)
    };
    let (without, goodput_without) = run(1.0);
    let (with, goodput_with) = run(2.0);
    assert!(with < without, "{with} changes with hysteresis, {without} without");
    assert!(goodput_with > 0.999 * goodput_without);
}

#[test]
fn under_overload_lower_classes_are_refused_first() {
    let profiles = two_paths();
    let base = poisson(4_000.0, &Sizes::Fixed(128), 30_000, Duration::from_millis(10), 6);
    let classes = [Priority::Low, Priority::Normal, Priority::High];
    let class_of = |at: usize| classes[[0, 0, 1, 1, 1, 1, 1, 1, 1, 2][at % 10]];
    let queries = base.queries().iter().enumerate();
    let queries =
        queries.map(|(at, query)| TraceQuery { priority: class_of(at), ..*query }).collect();
    let trace = Trace::new(queries).unwrap();
    let mut refused = HashMap::new();
    let mut offered = HashMap::new();
    let router = Router::new(profiles, &PolicyName::MultiPath, RouterConfig::default()).unwrap();
    simulate_with(router, &trace, &SimConfig::default(), |event| {
        if let Event::Decided { query, decision, .. } = event {
            *offered.entry(query.priority()).or_insert(0.0) += 1.0;
            if decision.path().is_none() {
                *refused.entry(query.priority()).or_insert(0.0) += 1.0;
            }
        }
    })
    .unwrap();
    let share = |class| refused.get(&class).copied().unwrap_or(0.0) / offered[&class];
    assert!(share(Priority::High) < 0.05, "{}", share(Priority::High));
    assert!(share(Priority::Normal) > share(Priority::High));
    assert!(share(Priority::Low) > share(Priority::Normal) + 0.1);
}

/// What `multi-path` makes of a load on two lanes when it may split queries, and when it may not.
fn split_and_whole(load: f64, sizes: &str) -> (Report, Report) {
    let sizes: Sizes = sizes.parse().unwrap();
    let mean = sizes.samples(9).take(50_000).map(f64::from).sum::<f64>() / 5e4;
    let rate = load * 2.0 / (mean * 10.16e-6);
    let trace = poisson(rate, &sizes, 20_000, Duration::from_millis(10), 12);
    let run = |max_parts| {
        let router = RouterConfig { max_parts, ..RouterConfig::default() };
        let config = SimConfig { router, ..SimConfig::default() };
        run(&two_paths(), "multi-path", &trace, &config)
    };
    (run(None), run(Some(1)))
}

#[test]
fn splitting_answers_what_no_lane_alone_can_and_costs_nothing_in_overload() {
    for sizes in ["mlperf", "lognormal:4.35,1.0"] {
        // 10 ms: the largest queries take two lanes, or are late.
        let (split, whole) = split_and_whole(0.3, sizes);
        assert!(split.split > split.offered / 50, "{sizes}: {}", split.split);
        assert!(split.in_time > whole.in_time, "{sizes}: {} {}", split.in_time, whole.in_time);
        assert!(split.p99_ms < whole.p99_ms, "{sizes}: {} {}", split.p99_ms, whole.p99_ms);
        let (split, whole) = split_and_whole(3.0, sizes);
        let ratio = split.correct_in_time_per_s / whole.correct_in_time_per_s;
        assert!(ratio > 0.995, "{sizes}: {ratio}");
    }
}

#[test]
fn a_lingering_batch_fills_up() {
    let mut gpu = path("table@gpu", 0.79, 1, &[(1, 300.0), (512, 500.0)]);
    gpu.max_batch = Some(512);
    let profiles = Profiles::new(vec![gpu]).unwrap();
    let trace = poisson(2_000.0, &Sizes::Fixed(16), 4_000, Duration::from_millis(20), 1);
    let batches = |linger_us| {
        let router = RouterConfig { linger_us, ..RouterConfig::default() };
        let config = SimConfig { router, ..SimConfig::default() };
        let report = run(&profiles, "multi-path", &trace, &config);
        assert_eq!(report.in_time, report.offered);
        report.batches
    };
    assert!(batches(4_000) * 2 < batches(0));
}

#[test]
fn recorded_service_times_are_taken_in_order_and_again_from_the_first() {
    let profiles = Profiles::new(vec![path("a@cpu", 0.8, 1, &[(1, 1_000.0)])]).unwrap();
    let (arrivals, sla) = (Arrivals::Fixed { rate: 100.0 }, Duration::from_millis(100));
    let trace = Trace::generate(&arrivals, &Sizes::Fixed(1), Until::Queries(5), sla, 1).unwrap();
    let with = |ratios| SimConfig { ratios: vec![ratios], ..SimConfig::default() };
    let config = with(vec![1.0, 3.0]);
    let router =
        Router::new(profiles.clone(), &"fastest".parse().unwrap(), RouterConfig::default());
    let mut times = Vec::new();
    simulate_with(router.unwrap(), &trace, &config, |event| {
        if let Event::Started { service, .. } = event {
            times.push(service.as_secs_f64());
        }
    })
    .unwrap();
    let mean = profiles.paths()[0].service.mean(1).as_secs_f64();
    let ratios: Vec<f64> = times.iter().map(|time| (time / mean).round()).collect();
    assert_eq!(ratios, [1.0, 3.0, 1.0, 3.0, 1.0]);
    assert!(oracle(&profiles, &trace, &config).unwrap().correct_in_time > 3.9);
    let wrong = simulate(&profiles, &PolicyName::Fastest, &trace, &with(vec![0.0]));
    assert!(wrong.unwrap_err().to_string().contains("positive"));
}
