//! Which constraint keeps every set out, and how near one can come.
//!
//! Each constraint is dropped in turn, and the set searched for that violates it least while it
//! meets all others. Where there is none, the constraints contradict each other in more than one
//! place, and each is said how far it could be met alone.

use std::ops::ControlFlow;

use super::{
    Binding, Constraint, Constraints, Effort, Infeasible, MappingError, Objective,
    evaluate::Evaluator,
    goal::{Goal, ROUNDING},
    instance::{Instance, Limits},
    search::{Plan, solve},
};

/// The most simulations for one constraint: a reason is worth less time than a winner.
const EVALUATIONS: usize = 1 << 10;

/// Told how many sets were simulated, and how many may be.
type Told<'t> = &'t mut dyn FnMut(usize, usize) -> ControlFlow<()>;

/// Why no set meets the problem's limits; `None` if the search for it was stopped before it found
/// anything.
pub(super) fn diagnose<'p>(
    instance: &Instance<'p>,
    evaluator: &mut Evaluator<'_, 'p>,
    effort: &Effort,
    told: Told<'_>,
) -> Result<Option<Infeasible>, MappingError> {
    let limits = instance.limits();
    let stated = stated(instance, &limits);
    let mut proved = true;
    for one_is_enough in [true, false] {
        let mut bindings = Vec::new();
        for (constraint, wanted) in &stated {
            let relaxed = if one_is_enough {
                without(instance, &limits, constraint)
            } else {
                alone(instance, &limits, constraint)
            };
            let goal = nearness(instance, constraint);
            let evaluations = evaluator.count() + effort.evaluations.min(EVALUATIONS);
            let plan = Plan { goal, limits: &relaxed, every: false, evaluations };
            let solved =
                solve(instance, evaluator, &plan, &mut |count, _, _| told(count, evaluations))?;
            proved &= solved.open.is_none();
            let Some(set) = solved.best else { continue };
            let measures = evaluator.known(&set).expect("the best set was simulated");
            let raw = goal.value(instance, &set, measures).raw;
            let nearest = match constraint {
                // So that what is printed can be met when it is asked for.
                Constraint::MinInTime => down(measures.in_time),
                Constraint::MinQuality | Constraint::MinAccuracy => down(raw),
                Constraint::MaxP99Ms => (raw * 1e3).ceil() / 1e3,
                Constraint::MaxBytes | Constraint::Budget(_) => raw,
            };
            let (constraint, wanted) = (constraint.clone(), *wanted);
            bindings.push(Binding { constraint, wanted, nearest, paths: instance.names(&set) });
        }
        if !bindings.is_empty() {
            return Ok(Some(Infeasible { bindings, one_is_enough, proved }));
        }
    }
    Ok(None)
}

fn down(share: f64) -> f64 {
    ((share + ROUNDING) * 1e6).floor() / 1e6
}

/// Every constraint that is set, with what it asks for.
fn stated(instance: &Instance<'_>, limits: &Limits) -> Vec<(Constraint, f64)> {
    let Constraints { min_quality, min_accuracy, min_in_time, max_p99_ms, max_bytes } =
        limits.constraints;
    let bytes = |bytes: u64| bytes as f64;
    let own = [
        (Constraint::MinQuality, min_quality),
        (Constraint::MinAccuracy, min_accuracy),
        (Constraint::MinInTime, min_in_time),
        (Constraint::MaxP99Ms, max_p99_ms),
        (Constraint::MaxBytes, max_bytes.map(bytes)),
    ];
    let budgets = instance.devices.iter().zip(&limits.budgets);
    let budgets =
        budgets.map(|(device, budget)| (Constraint::Budget(device.clone()), budget.map(bytes)));
    own.into_iter().chain(budgets).filter_map(|(one, wanted)| Some((one, wanted?))).collect()
}

/// The limits but for one.
fn without(instance: &Instance<'_>, limits: &Limits, constraint: &Constraint) -> Limits {
    let mut relaxed = limits.clone();
    let constraints = &mut relaxed.constraints;
    match constraint {
        Constraint::MinQuality => constraints.min_quality = None,
        Constraint::MinAccuracy => constraints.min_accuracy = None,
        Constraint::MinInTime => constraints.min_in_time = None,
        Constraint::MaxP99Ms => constraints.max_p99_ms = None,
        Constraint::MaxBytes => constraints.max_bytes = None,
        Constraint::Budget(device) => {
            for (name, budget) in instance.devices.iter().zip(&mut relaxed.budgets) {
                if name == device {
                    *budget = None;
                }
            }
        }
    }
    relaxed
}

/// No limits but the budgets, and not even those where one of them is the matter.
fn alone(instance: &Instance<'_>, limits: &Limits, constraint: &Constraint) -> Limits {
    let mut relaxed = Limits { constraints: Constraints::default(), ..limits.clone() };
    // Nothing may fit into the budgets, and then nothing else can be said.
    let fits =
        (0..instance.problem.candidates.len() as u16).any(|at| instance.joins(&[], at, &relaxed));
    if matches!(constraint, Constraint::Budget(_)) || !fits {
        relaxed.budgets.fill(None);
    }
    relaxed
}

/// What brings a set nearer to a constraint.
fn nearness(instance: &Instance<'_>, constraint: &Constraint) -> Goal {
    match constraint {
        Constraint::MinQuality => Goal::LeastAccuracy,
        Constraint::MinAccuracy => Goal::Objective(Objective::Accuracy),
        Constraint::MinInTime => Goal::Objective(Objective::Throughput),
        Constraint::MaxP99Ms => Goal::P99,
        Constraint::MaxBytes => Goal::Objective(Objective::Bytes),
        Constraint::Budget(device) => {
            let known = instance.devices.iter().position(|name| name == device);
            Goal::DeviceBytes(known.expect("the constraint was made from the devices"))
        }
    }
}
