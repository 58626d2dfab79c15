//! What came of one load: every policy's figures, and how ours compares.

use std::{collections::BTreeMap, time::Duration};

use mprec_router::{
    PolicyName, Profiles, Router, RouterConfig, Time,
    sim::{Arrivals, Event, Report, SimConfig, Trace, Until, oracle, simulate, simulate_with},
};
use serde::Serialize;

use super::{
    ExperimentError,
    plan::{Cell, Sweep},
    resident,
    setting::{Contender, Setting},
};

/// Sums of the same numbers in another order may differ by this share.
const ROUNDING: f64 = 1e-9;
/// The share of the bound that is asked of ours.
pub const OF_BOUND: f64 = 0.95;

/// One load on one setting.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Point {
    /// Place of the setting in the report.
    pub setting: usize,
    /// The series that it belongs to.
    pub sweep: Sweep,
    /// Time from arrival to deadline, milliseconds.
    pub sla_ms: f64,
    /// In capacities, in the two grids.
    pub load: Option<f64>,
    /// Queries a second.
    pub rate_per_s: f64,
    /// Queries offered.
    pub queries: usize,
    /// Their sizes, in words.
    pub sizes: String,
    /// Correct predictions in time a second that no policy exceeds on average over service times, on any set of paths that
    /// the machine holds.
    pub bound_per_s: f64,
    /// The same that no single run exceeds, were every batch to take the shortest time that can be drawn.
    pub luckiest_per_s: f64,
    /// Every policy.
    pub policies: Vec<PolicyOutcome>,
    /// Ours beside the rest.
    pub comparison: Comparison,
}

/// A policy under one load. Simulated, every figure.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PolicyOutcome {
    /// Which.
    pub policy: String,
    /// SLA-goodput: correct predictions answered in time, per second of the trace.
    pub correct_in_time_per_s: f64,
    /// The paper's metric: correct predictions answered, late ones too, per second until the last answer.
    pub correct_per_s: f64,
    /// Mean accuracy of the samples answered.
    pub accuracy: f64,
    /// Median latency, milliseconds.
    pub p50_ms: f64,
    /// 95th percentile.
    pub p95_ms: f64,
    /// 99th percentile.
    pub p99_ms: f64,
    /// 99.9th percentile.
    pub p999_ms: f64,
    /// Share of the queries offered that were answered late.
    pub late: f64,
    /// Share refused at admission.
    pub refused: f64,
    /// Share admitted and not answered.
    pub failed: f64,
    /// Share of the queries offered that each path answered.
    pub mix: BTreeMap<String, f64>,
    /// The paths that it keeps, where the machine holds several sets of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
    /// Memory of the paths that it keeps.
    pub bytes: u64,
}

impl PolicyOutcome {
    /// Share of the queries offered that were not answered in time.
    pub fn missed(&self) -> f64 {
        self.late + self.refused + self.failed
    }
}

/// Ours beside the best of the others.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// The best of every static path, `fastest` and `mp-rec` by SLA-goodput.
    pub best_other: String,
    /// SLA-goodput of ours over that of the best other; none where no other answered anything in
    /// time, which is no loss.
    pub ratio: Option<f64>,
    /// SLA-goodput of ours over the bound; none where the bound is 0.
    pub of_bound: Option<f64>,
}

impl Comparison {
    /// Whether ours is at least as good as the best other.
    pub fn at_least_best(&self) -> bool {
        self.ratio.is_none_or(|ratio| ratio >= 1.0 - ROUNDING)
    }

    /// Whether ours is at least the asked share of the bound.
    pub fn near_bound(&self) -> bool {
        self.of_bound.is_none_or(|share| share >= OF_BOUND)
    }
}

impl Point {
    /// The outcome of a policy by its name.
    pub fn policy(&self, name: &str) -> Option<&PolicyOutcome> {
        self.policies.iter().find(|outcome| outcome.policy == name)
    }

    /// The best static path by SLA-goodput.
    pub fn best_static(&self) -> Option<&PolicyOutcome> {
        let fixed = self.policies.iter().filter(|outcome| outcome.policy.starts_with("static:"));
        fixed.max_by(|a, b| a.correct_in_time_per_s.total_cmp(&b.correct_in_time_per_s))
    }
}

/// The trace of a cell: the same for every policy.
///
/// # Errors
///
/// [`ExperimentError::Load`] if it would be empty.
pub(super) fn trace(cell: &Cell, seed: u64) -> Result<Trace, ExperimentError> {
    Ok(Trace::generate(
        &Arrivals::Poisson { rate: cell.rate },
        &cell.sizes.sizes,
        Until::Queries(cell.queries),
        Duration::from_secs_f64(cell.sla_ms / 1e3),
        seed,
    )?)
}

/// How simulations of this seed draw service times. No query is refused for want of memory: how much may wait is a server's
/// setting, and says nothing of a policy.
pub(super) fn sim_config(seed: u64, queries: usize) -> SimConfig {
    let router = RouterConfig { max_queued: queries, ..RouterConfig::default() };
    SimConfig { seed, router, ..SimConfig::default() }
}

/// Simulates every policy under one load.
///
/// # Errors
///
/// [`ExperimentError`] if the load cannot be made.
pub(super) fn simulate_cell(
    setting: &Setting,
    cell: &Cell,
    seed: u64,
) -> Result<Point, ExperimentError> {
    let load = Load::new(cell, seed)?;
    let contenders = setting.contenders.iter();
    let policies = contenders
        .map(|contender| simulate_contender(contender, cell, seed, &load))
        .collect::<Result<Vec<_>, _>>()?;
    let (mut bound_per_s, mut luckiest_per_s) = (0.0, 0.0);
    for set in &setting.sets {
        let bound = oracle(set, &load.trace, &load.config)?;
        bound_per_s = f64::max(bound_per_s, bound.expected_per_s);
        luckiest_per_s = f64::max(luckiest_per_s, bound.correct_in_time_per_s);
    }
    let comparison = compare(&policies, bound_per_s);
    Ok(Point {
        setting: cell.setting,
        sweep: cell.sweep,
        sla_ms: cell.sla_ms,
        load: cell.load,
        rate_per_s: cell.rate,
        queries: cell.queries,
        sizes: cell.sizes.name.clone(),
        bound_per_s,
        luckiest_per_s,
        policies,
        comparison,
    })
}

/// A trace, and how it is simulated.
struct Load {
    trace: Trace,
    config: SimConfig,
}

impl Load {
    fn new(cell: &Cell, seed: u64) -> Result<Self, ExperimentError> {
        Ok(Self { trace: trace(cell, seed)?, config: sim_config(seed, cell.queries) })
    }
}

/// Simulates a policy on the set of paths that served it best in a rehearsal, on another trace of the cell.
fn simulate_contender(
    contender: &Contender,
    cell: &Cell,
    seed: u64,
    load: &Load,
) -> Result<PolicyOutcome, ExperimentError> {
    let Contender { policy, sets } = contender;
    if let [only] = sets.as_slice() {
        return simulate_one(policy, only, load);
    }
    let rehearsal = Load::new(cell, seed.wrapping_add(1))?;
    let mut best: Option<(f64, &Profiles)> = None;
    for set in sets {
        let reached = simulate(set, policy, &rehearsal.trace, &rehearsal.config)?;
        if best.is_none_or(|(most, _)| reached.correct_in_time_per_s > most) {
            best = Some((reached.correct_in_time_per_s, set));
        }
    }
    let set = best.map_or(&sets[0], |(_, set)| set);
    let paths = set.paths().iter().map(|path| path.name.clone()).collect();
    Ok(PolicyOutcome { paths, ..simulate_one(policy, set, load)? })
}

fn simulate_one(
    policy: &PolicyName,
    set: &Profiles,
    load: &Load,
) -> Result<PolicyOutcome, ExperimentError> {
    let Load { trace, config } = load;
    let router = Router::new(set.clone(), policy, config.router.clone())
        .map_err(mprec_router::sim::SimError::from)?;
    let mut last = Time::ZERO;
    let report = simulate_with(router, trace, config, |event| {
        if let Event::Finished { now, .. } = event {
            last = now;
        }
    })?;
    let first = trace.queries().first().map_or(Time::ZERO, |query| query.arrival);
    Ok(outcome(report, last.since(first).as_secs_f64(), resident::bytes(set)))
}

fn outcome(report: Report, wall_s: f64, bytes: u64) -> PolicyOutcome {
    let share = |part: u64| part as f64 / report.offered.max(1) as f64;
    let answered = report.paths.values();
    let correct: f64 = answered.map(|path| path.samples as f64 * path.accuracy).sum();
    let mix = report.paths.iter().filter(|(_, path)| path.answered > 0);
    PolicyOutcome {
        correct_in_time_per_s: report.correct_in_time_per_s,
        correct_per_s: if wall_s > 0.0 { correct / wall_s } else { 0.0 },
        accuracy: report.accuracy,
        p50_ms: report.p50_ms,
        p95_ms: report.p95_ms,
        p99_ms: report.p99_ms,
        p999_ms: report.p999_ms,
        late: share(report.late),
        refused: share(report.refused),
        failed: share(report.failed),
        mix: mix.map(|(name, path)| (name.clone(), share(path.answered))).collect(),
        paths: Vec::new(),
        bytes,
        policy: report.policy,
    }
}

fn compare(policies: &[PolicyOutcome], bound_per_s: f64) -> Comparison {
    let ours = PolicyName::MultiPath.to_string();
    let mut best = ("", 0.0);
    let mut own = 0.0;
    for outcome in policies {
        if outcome.policy == ours {
            own = outcome.correct_in_time_per_s;
        } else if best.0.is_empty() || outcome.correct_in_time_per_s > best.1 {
            best = (&outcome.policy, outcome.correct_in_time_per_s);
        }
    }
    Comparison {
        best_other: best.0.to_owned(),
        ratio: (best.1 > 0.0).then(|| own / best.1),
        of_bound: (bound_per_s > 0.0).then(|| own / bound_per_s),
    }
}
