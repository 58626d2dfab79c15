use std::{cmp::Reverse, collections::BTreeMap, ops::ControlFlow, time::Duration};

use proptest::prelude::*;

use super::*;
use crate::{
    PathProfile, Profiles,
    sim::{Arrivals, SimConfig, Sizes, Trace, Until, simulate},
    testing::path,
};

fn candidate(name: &str, accuracy: f64, bytes: u64, scale: f64) -> Candidate {
    let medians = [(1, 40.0), (8, 120.0), (128, 1300.0), (512, 5200.0)];
    let lanes = if name.ends_with("@cpu") { 2 } else { 1 };
    let medians = medians.map(|(batch, us)| (batch, us * scale));
    let profile = PathProfile { bytes, ..path(name, accuracy, lanes, &medians) };
    Candidate { profile, cache_bytes: None }
}

fn trace(rate: f64, queries: usize, sla_ms: u64) -> Trace {
    let (arrivals, sizes) = (Arrivals::Poisson { rate }, "lognormal:4.6,0.6".parse::<Sizes>());
    let sla = Duration::from_millis(sla_ms);
    Trace::generate(&arrivals, &sizes.unwrap(), Until::Queries(queries), sla, 1).unwrap()
}

fn problem(candidates: Vec<Candidate>, rate: f64) -> Problem {
    Problem {
        candidates,
        budgets: BTreeMap::new(),
        constraints: Constraints::default(),
        objective: Objective::SlaGoodput,
        policy: "multi-path".parse().unwrap(),
        trace: trace(rate, 200, 10),
        sim: SimConfig::default(),
    }
}

/// Five paths of two devices.
fn five() -> Vec<Candidate> {
    vec![
        candidate("hash@cpu", 0.786, 100, 0.7),
        candidate("table@cpu", 0.790, 500, 1.0),
        candidate("hybrid@cpu", 0.792, 700, 3.2),
        candidate("table@gpu", 0.790, 500, 0.4),
        candidate("hybrid@gpu", 0.792, 700, 1.1),
    ]
}

fn find(problem: &Problem, effort: &Effort) -> Result<Found, MappingError> {
    search(problem, effort, &mut |_| ControlFlow::Continue(()))
}

/// No set is simulated unless it might win.
const BRANCH: Effort = Effort { evaluations: 1 << 14, complete_up_to: 0, threads: 2 };
/// Every set is.
const EVERY: Effort = Effort { complete_up_to: 1 << 14, ..BRANCH };

/// Every set that the problem allows, and what it comes to: the slow definition.
fn all_sets(problem: &Problem) -> Vec<Choice> {
    let candidates = &problem.candidates;
    let mut sets = Vec::new();
    for mask in 1_u32..1 << candidates.len() {
        let set: Vec<usize> = (0..candidates.len()).filter(|at| mask >> at & 1 == 1).collect();
        let members = || set.iter().map(|&at| &candidates[at]);
        let caches: Vec<u64> = members().filter_map(|one| one.cache_bytes).collect();
        let Ok(profiles) = Profiles::new(members().map(|one| one.profile.clone()).collect()) else {
            continue; // One path in two ways.
        };
        let bytes = |device: Option<&str>| -> u64 {
            let here = members().filter(|one| device.is_none_or(|name| one.profile.device == name));
            here.map(|one| one.profile.bytes).sum()
        };
        let constraints = &problem.constraints;
        let allowed = caches.windows(2).all(|pair| pair[0] == pair[1])
            && problem.budgets.iter().all(|(device, &budget)| bytes(Some(device)) <= budget)
            && constraints.max_bytes.is_none_or(|most| bytes(None) <= most)
            && members().all(|one| {
                constraints.min_quality.is_none_or(|floor| one.profile.accuracy >= floor)
            });
        if !allowed {
            continue;
        }
        let report = simulate(&profiles, &problem.policy, &problem.trace, &problem.sim).unwrap();
        let measures = Measures::of(&report, bytes(None));
        if constraints.min_accuracy.is_none_or(|least| measures.accuracy + goal::ROUNDING >= least)
            && constraints.min_in_time.is_none_or(|least| measures.in_time >= least)
            && constraints.max_p99_ms.is_none_or(|most| measures.p99_ms <= most)
        {
            sets.push(Choice { candidates: set, measures });
        }
    }
    sets
}

/// The best of all, by the rule of the module's documentation.
fn best_of_all(problem: &Problem) -> Option<Choice> {
    let samples: u32 = problem.trace.queries().iter().map(|query| query.samples).sum();
    let step = TIE * f64::from(samples) / problem.trace.seconds();
    all_sets(problem).into_iter().max_by_key(|choice| {
        let measures = &choice.measures;
        let steps = match problem.objective {
            Objective::SlaGoodput => (measures.correct_in_time_per_s / step).floor() as i64,
            Objective::Throughput => (measures.samples_in_time_per_s / step).floor() as i64,
            Objective::Accuracy => (measures.accuracy * 1e6).round() as i64,
            Objective::Bytes => -(measures.bytes as i64),
        };
        let set = choice.candidates.clone();
        (steps, Reverse(measures.bytes), Reverse(set.len()), Reverse(set))
    })
}

fn any_candidates() -> impl Strategy<Value = Vec<Candidate>> {
    let one = (
        0..4_usize,
        prop::bool::ANY,
        0..4_u32,
        0..6_u64,
        prop::sample::select(vec![0.3, 0.5, 1.0, 1.7, 3.0, 8.0]),
        prop::sample::select(vec![None, Some(0), Some(1_000)]),
        prop::sample::select(vec![None, Some(64), Some(256)]),
    );
    prop::collection::vec(one, 1..=5).prop_map(|drawn| {
        let mut candidates: Vec<Candidate> = Vec::new();
        for (variant, gpu, accuracy, bytes, scale, cache_bytes, max_batch) in drawn {
            let name = format!("v{variant}@{}", if gpu { "gpu" } else { "cpu" });
            let accuracy = 0.786 + 0.002 * f64::from(accuracy);
            let mut candidate = candidate(&name, accuracy, bytes, scale);
            (candidate.cache_bytes, candidate.profile.max_batch) = (cache_bytes, max_batch);
            let key = |one: &Candidate| {
                (one.profile.name.clone(), one.cache_bytes, one.profile.max_batch)
            };
            if !candidates.iter().any(|other| key(other) == key(&candidate)) {
                candidates.push(candidate);
            }
        }
        candidates
    })
}

/// `None` half of the time, else one of the values.
fn perhaps<T: Clone + std::fmt::Debug + 'static>(
    values: Vec<T>,
) -> impl Strategy<Value = Option<T>> {
    prop::option::weighted(0.5, prop::sample::select(values))
}

prop_compose! {
    fn any_problem()(
        candidates in any_candidates(),
        rate in prop::sample::select(vec![100.0, 1_000.0, 4_000.0]),
        objective in prop::sample::select(vec![
            Objective::SlaGoodput, Objective::Throughput, Objective::Accuracy, Objective::Bytes,
        ]),
        budget in perhaps(vec![1, 4, 8]),
        min_quality in perhaps(vec![0.787, 0.789]),
        min_accuracy in perhaps(vec![0.787, 0.7885, 0.79]),
        min_in_time in perhaps(vec![0.3, 0.9, 1.0]),
        max_p99_ms in perhaps(vec![2.0, 8.0]),
        max_bytes in perhaps(vec![3, 9]),
    ) -> Problem {
        let mut problem = problem(candidates, rate);
        let device = problem.candidates[0].profile.device.clone();
        problem.budgets.extend(budget.map(|bytes| (device, bytes)));
        problem.objective = objective;
        problem.constraints =
            Constraints { min_quality, min_accuracy, min_in_time, max_p99_ms, max_bytes };
        problem
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn the_winner_is_the_best_of_all_sets(problem in any_problem()) {
        match (best_of_all(&problem), find(&problem, &BRANCH)) {
            (Some(best), Ok(found)) => {
                prop_assert_eq!(&found.winner, &best);
                prop_assert_eq!(found.proof, Proof::Best);
                prop_assert_eq!(find(&problem, &EVERY).unwrap().winner, best);
            }
            (None, Err(MappingError::Infeasible(reason))) => nearest_values_are_the_nearest(&problem, &reason)?,
            (best, found) => prop_assert!(false, "{best:?} but {found:?}"),
        }
    }

    #[test]
    fn the_front_of_all_sets_holds_whatever_is_not_matched(problem in any_problem()) {
        let Ok(found) = find(&problem, &EVERY) else { return Ok(()) };
        prop_assert!(found.front_complete);
        let near = |a: f64, b: f64, step: f64| a >= b - step;
        for set in all_sets(&problem) {
            let one = &set.measures;
            let matched = found.front.iter().any(|other| {
                let other = &other.measures;
                near(other.correct_in_time_per_s, one.correct_in_time_per_s, 2.0 * TIE * found.offered_per_s)
                    && near(other.accuracy, one.accuracy, 2e-6)
                    && other.bytes <= one.bytes
                    && near(-other.p99_ms, -one.p99_ms, 2e-3)
            });
            prop_assert!(matched, "{set:?} is neither on the front nor matched by it");
        }
    }
}

/// Relaxed to the nearest value there is a set, and a little nearer there is none.
fn nearest_values_are_the_nearest(
    problem: &Problem,
    reason: &Infeasible,
) -> Result<(), TestCaseError> {
    prop_assert!(!reason.bindings.is_empty() && reason.proved);
    for binding in &reason.bindings {
        let with = |value: f64| {
            let mut relaxed = problem.clone();
            if !reason.one_is_enough {
                relaxed.constraints = Constraints::default();
                // What `alone` in `infeasible.rs` says of budgets is left to it.
                relaxed.budgets.clear();
            }
            let constraints = &mut relaxed.constraints;
            match &binding.constraint {
                Constraint::MinQuality => constraints.min_quality = Some(value),
                Constraint::MinAccuracy => constraints.min_accuracy = Some(value),
                Constraint::MinInTime => constraints.min_in_time = Some(value),
                Constraint::MaxP99Ms => constraints.max_p99_ms = Some(value),
                Constraint::MaxBytes => constraints.max_bytes = Some(value as u64),
                Constraint::Budget(device) => {
                    relaxed.budgets.insert(device.clone(), value as u64);
                }
            }
            !all_sets(&relaxed).is_empty()
        };
        prop_assert!(with(binding.nearest), "{binding}");
        if reason.one_is_enough {
            let toward = (binding.wanted - binding.nearest).signum();
            let nearer = match binding.constraint {
                Constraint::MaxBytes | Constraint::Budget(_) => binding.nearest - 1.0,
                Constraint::MaxP99Ms => binding.nearest - 3e-3,
                _ => (binding.nearest + 5e-6).min(1.0),
            };
            prop_assert!((nearer - binding.nearest) * toward >= 0.0, "{binding}");
            let farther = nearer == binding.nearest || nearer < 0.0;
            prop_assert!(farther || !with(nearer), "{binding}");
        }
    }
    Ok(())
}

#[test]
fn a_search_of_many_ends_at_its_budget_and_says_how_far_the_bound_is() {
    let mut candidates = five();
    candidates.extend((0..6).map(|at| {
        let (accuracy, scale) = (0.7865 + 0.0005 * f64::from(at), 0.8 + 0.1 * f64::from(at));
        candidate(&format!("more-{at}@cpu"), accuracy, 50, scale)
    }));
    let problem = problem(candidates, 4_000.0);
    let few = Effort { evaluations: 60, complete_up_to: 0, threads: 1 };
    let found = find(&problem, &few).unwrap();
    assert_eq!(found.evaluations, 60);
    let Proof::Stopped { bound, gap } = found.proof else { panic!("{:?}", found.proof) };
    let goodput = found.winner.measures.correct_in_time_per_s;
    assert!(bound > goodput && (gap - (bound / goodput - 1.0)).abs() < 1e-9, "{found:?}");
    let whole = find(&problem, &BRANCH).unwrap();
    assert_eq!(whole.proof, Proof::Best);
    assert!(whole.winner.measures.correct_in_time_per_s <= bound);
    assert!(whole.winner.measures.correct_in_time_per_s >= goodput);
    assert!(whole.evaluations <= whole.sets as usize && !whole.front_complete);
}

#[test]
fn the_course_of_a_search_does_not_depend_on_its_threads() {
    let problem = problem(five(), 4_000.0);
    let by =
        |threads| find(&problem, &Effort { evaluations: 20, complete_up_to: 0, threads }).unwrap();
    assert_eq!(by(1), by(3));
}

#[test]
fn a_search_that_is_told_to_stop_stops() {
    let mut problem = problem(five(), 1_000.0);
    let mut told = 0;
    let stopped = search(&problem, &BRANCH, &mut |progress| {
        told += 1;
        assert!(progress.evaluations > 0 && progress.evaluations <= progress.at_most);
        ControlFlow::Break(())
    });
    assert_eq!(told, 1);
    assert!(matches!(stopped.unwrap().proof, Proof::Stopped { .. }));
    problem.constraints.max_p99_ms = Some(1e-3);
    let stopped = search(&problem, &BRANCH, &mut |_| ControlFlow::Break(()));
    assert!(matches!(stopped, Err(MappingError::Stopped { .. })), "{stopped:?}");
}

#[test]
fn hopeless_sets_are_not_simulated() {
    let mut candidates = five();
    // Too slow to answer anything in time.
    candidates.extend(
        (0..7)
            .map(|at| candidate(&format!("slow-{at}@cpu"), 0.7 + 0.001 * f64::from(at), 9, 900.0)),
    );
    let mut problem = problem(candidates, 100.0);
    problem.objective = Objective::Bytes;
    problem.constraints.min_in_time = Some(0.9);
    let found = find(&problem, &BRANCH).unwrap();
    assert_eq!(found.proof, Proof::Best);
    assert_eq!(found.winner.candidates, [0], "the smallest that answers");
    assert!(found.evaluations < 400, "{} of {}", found.evaluations, found.sets);
}

#[test]
fn a_candidate_that_another_matches_is_left_out_of_a_large_search_only() {
    let mut candidates = five();
    candidates.push(candidate("worse@cpu", 0.789, 600, 1.1));
    let problem = problem(candidates, 4_000.0);
    assert_eq!(find(&problem, &BRANCH).unwrap().dropped, []);
    let small = Effort { evaluations: 40, ..BRANCH };
    assert_eq!(find(&problem, &small).unwrap().dropped, [(5, 1)]);
}

#[test]
fn each_path_of_a_choice_is_explained_by_what_would_be_otherwise() {
    let mut candidates = five();
    for candidate in &mut candidates {
        candidate.profile.max_batch = Some(256);
    }
    let mut other = candidates[1].clone();
    other.profile.max_batch = Some(16);
    candidates.push(other);
    let problem = problem(candidates, 2_000.0);
    let sets = all_sets(&problem);
    let measures = |set: &[usize]| sets.iter().find(|one| one.candidates == set).unwrap().measures;
    let choice = Choice { candidates: vec![1, 2], measures: measures(&[1, 2]) };
    let [table, hybrid] = &explain(&problem, &choice, 2).unwrap()[..] else { panic!("not two") };
    assert_eq!((table.candidate, hybrid.candidate), (1, 2));
    assert_eq!(table.without, Some(measures(&[2])));
    assert_eq!(table.instead, [(5, measures(&[2, 5]))]);
    assert_eq!(hybrid.without, Some(measures(&[1])));
    assert_eq!(hybrid.instead, []);
    let alone = Choice { candidates: vec![0], measures: measures(&[0]) };
    assert_eq!(explain(&problem, &alone, 1).unwrap()[0].without, None);
}

#[test]
fn wrong_problems_are_refused_by_name() {
    let refusal = |change: &dyn Fn(&mut Problem)| {
        let mut problem = problem(five(), 1_000.0);
        change(&mut problem);
        find(&problem, &BRANCH).unwrap_err().to_string()
    };
    let none = refusal(&|problem| problem.candidates.clear());
    assert!(none.starts_with("there are no candidates"), "{none}");
    let twice = refusal(&|problem| problem.candidates.push(problem.candidates[0].clone()));
    assert!(twice.starts_with("path `hash@cpu` appears twice"), "{twice}");
    let device = refusal(&|problem| {
        problem.budgets.insert("tpu".into(), 1);
    });
    assert!(device.contains("`tpu`") && device.contains("`cpu`, `gpu`"), "{device}");
    let lanes = refusal(&|problem| problem.candidates[0].profile.lanes = 3);
    assert!(lanes.contains("lanes"), "{lanes}");
    let share = refusal(&|problem| problem.constraints.min_in_time = Some(99.0));
    assert_eq!(share, "`min_in_time` is `99`; it must lie in [0, 1]");
    let policy = refusal(&|problem| problem.policy = "static:hash@cpu".parse().unwrap());
    assert!(policy.contains("chooses among paths"), "{policy}");
    let many = refusal(&|problem| {
        let one = problem.candidates[0].clone();
        problem.candidates = vec![one; MAX_CANDIDATES + 1];
    });
    assert!(many.contains("513 candidates"), "{many}");
    let objective = "fun".parse::<Objective>().unwrap_err().to_string();
    assert!(objective.contains("`sla_goodput`"), "{objective}");
}

#[test]
fn a_constraint_that_cannot_be_met_is_named_with_the_nearest_that_can() {
    let mut problem = problem(five(), 1_000.0);
    problem.budgets.insert("cpu".into(), 99);
    problem.budgets.insert("gpu".into(), 600);
    problem.constraints.min_accuracy = Some(0.7915);
    let error = find(&problem, &BRANCH).unwrap_err().to_string();
    assert!(
        error.contains("`min_accuracy` = 0.7915, where 0.79 is the nearest (table@gpu)"),
        "{error}"
    );
    assert!(
        error.contains("`budget of gpu` = 600 bytes, where 700 bytes is the nearest (hybrid@gpu)"),
        "{error}"
    );
    problem.constraints = Constraints { min_quality: Some(0.9), ..Constraints::default() };
    problem.budgets.clear();
    let error = find(&problem, &BRANCH).unwrap_err().to_string();
    let expected = "no set of paths meets the constraints; the binding one is `min_quality` = 0.9, where 0.792 is the nearest (hybrid@cpu)";
    assert_eq!(error, expected);
}
