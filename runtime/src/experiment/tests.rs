//! The experiment end to end, on few queries.

use mprec_router::{PolicyName, Profiles, sim::simulate};

use super::{
    outcome::{sim_config, trace},
    *,
};
use crate::bench::Arch;

/// HW-1 and HW-3 with declared quality: one on which everything fits, one on which not.
fn settings() -> Vec<Setting> {
    let hardware = Hardware::example();
    let quality = Quality::declared(Arch::Kaggle);
    let setting = |at: usize| {
        Setting::new(&hardware, &hardware.machines[at], Arch::Kaggle, &quality, &[]).unwrap()
    };
    vec![setting(0), setting(2)]
}

/// Whether this is the set that the policy had; on a machine that holds everything there is no other.
fn keeps(set: &Profiles, outcome: &PolicyOutcome) -> bool {
    let names = set.paths().iter().map(|path| path.name.as_str());
    outcome.paths.is_empty() || names.eq(outcome.paths.iter().map(String::as_str))
}

#[test]
fn a_machine_keeps_the_paths_that_suit_the_load() {
    let (plan, settings) = (Plan::quick(1), &settings()[1..]);
    assert!(settings[0].sets.len() > 1, "the accelerator does not hold everything");
    let points = run(&plan, settings, 2, |_, _| ()).unwrap();
    let ours = |load: f64, sweep: Sweep| {
        let is_here =
            |point: &&Point| (point.sla_ms, point.load, point.sweep) == (10.0, Some(load), sweep);
        points.iter().find(is_here).unwrap().policy("multi-path").unwrap()
    };
    let keeps = |outcome: &PolicyOutcome, path: &str| outcome.paths.iter().any(|name| name == path);
    let light = ours(0.3, Sweep::Accurate);
    assert!(keeps(light, "hybrid@ipu") && light.mix["hybrid@ipu"] > 0.9, "{light:?}");
    let heavy = ours(3.0, Sweep::Cheapest);
    assert!(keeps(heavy, "table@ipu") && !keeps(heavy, "hybrid@ipu"), "{heavy:?}");
}

#[test]
fn every_point_of_the_plan_is_there_and_agrees_with_the_simulator() {
    let (plan, settings) = (Plan::quick(3), settings());
    let cells = plan.cells(&settings);
    let points = run(&plan, &settings, 2, |_, _| ()).unwrap();
    assert_eq!(points.len(), cells.len());
    for (point, cell) in points.iter().zip(&cells).step_by(5) {
        let setting = &settings[cell.setting];
        assert_eq!((point.sla_ms, point.load, point.sweep), (cell.sla_ms, cell.load, cell.sweep));
        let names: Vec<_> = setting.contenders.iter().map(|one| one.policy.to_string()).collect();
        let found: Vec<_> = point.policies.iter().map(|one| one.policy.clone()).collect();
        assert_eq!(names, found);
        let trace = trace(cell, plan.seed).unwrap();
        for outcome in &point.policies {
            let policy: PolicyName = outcome.policy.parse().unwrap();
            // A static path gives the same alone as beside the other candidates.
            let all = setting.candidates.iter().map(|candidate| candidate.profile.clone());
            let profiles = match policy {
                PolicyName::Static(_) => Profiles::new(all.collect()).unwrap(),
                _ => setting.sets.iter().find(|set| keeps(set, outcome)).unwrap().clone(),
            };
            let config = sim_config(plan.seed, cell.queries);
            let report = simulate(&profiles, &policy, &trace, &config).unwrap();
            assert_eq!(outcome.correct_in_time_per_s, report.correct_in_time_per_s);
            assert_eq!((outcome.p50_ms, outcome.p999_ms), (report.p50_ms, report.p999_ms));
            let answered: f64 = outcome.mix.values().sum();
            assert!((answered + outcome.refused + outcome.failed - 1.0).abs() < 1e-9);
            let resident = matches!(policy, PolicyName::Static(_))
                || outcome.correct_in_time_per_s <= point.luckiest_per_s * (1.0 + 1e-6);
            assert!(resident, "{} exceeds the bound", outcome.policy);
        }
    }
}

#[test]
fn the_result_does_not_depend_on_threads() {
    let (plan, settings) = (Plan::quick(1), settings());
    let one = run(&plan, &settings[1..], 1, |_, _| ()).unwrap();
    let three = run(&plan, &settings[1..], 3, |_, _| ()).unwrap();
    assert_eq!(one, three);
}

#[test]
fn budgets_decide_what_is_resident() {
    let hardware = Hardware::example();
    let names = |machine: usize, arch| {
        let machine = &hardware.machines[machine];
        let quality = Quality::declared(arch);
        let setting = Setting::new(&hardware, machine, arch, &quality, &[]).unwrap();
        let names = setting.sets[0].paths().iter().map(|path| path.name.clone());
        names.collect::<Vec<_>>()
    };
    assert_eq!(names(0, Arch::Terabyte).len(), 6, "32 GB hold everything twice");
    for arch in Arch::ALL {
        assert_eq!(names(1, arch), ["dhe@cpu", "dhe@gpu"], "1 GB and 200 MB hold no table");
    }
}

#[test]
fn the_verdict_counts_the_points_that_fail_and_the_page_lists_them() {
    let (plan, settings) = (Plan::quick(1), settings());
    let mut points = run(&plan, &settings, 2, |_, _| ()).unwrap();
    let grid = points.iter().filter(|point| point.load.is_some()).count();
    for point in &mut points {
        point.comparison =
            Comparison { best_other: "fastest".into(), ratio: Some(1.25), of_bound: Some(0.99) };
    }
    points[1].comparison.ratio = Some(0.875);
    points[2].comparison.of_bound = Some(0.5);
    let report = ExperimentReport::new(&plan, &Hardware::example(), &settings, points);
    let [verdict] = report.verdicts.as_slice() else { panic!("one scenario") };
    assert_eq!((verdict.points, verdict.at_least_best), (grid, grid - 1));
    assert_eq!((verdict.near_bound, verdict.worst_ratio), (grid - 1, Some(0.875)));
    assert_eq!(verdict.failing, [1, 2]);
    let page = page::render(&report);
    assert!(page.contains("<td>0.87500</td>") && page.contains("▼ 1.25×"), "{page}");
}
