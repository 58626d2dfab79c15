//! Everything that an experiment found out: what the JSON file holds and the page shows.

use mprec_router::ServicePoint;
use serde::Serialize;

use super::{
    candidates::Origin,
    hardware::Hardware,
    outcome::{Comparison, Point},
    plan::{Plan, Sweep},
    quality::Scenario,
    setting::{Capacity, Setting},
};

/// The form of the file.
const FORMAT: u32 = 2;

/// What the paper's abstract claims, word for word in numbers: throughput of correct predictions over static tables.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PaperClaim {
    /// `kaggle`, `terabyte`.
    pub model: &'static str,
    /// How many times the throughput of correct predictions.
    pub times: f64,
}

/// From the abstract of arXiv 2302.10872, on the authors' machine.
pub const PAPER_CLAIMS: [PaperClaim; 2] =
    [PaperClaim { model: "kaggle", times: 2.49 }, PaperClaim { model: "terabyte", times: 3.76 }];

/// Everything that an experiment found out.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExperimentReport {
    /// 1.
    pub format: u32,
    /// Every figure of `points` is the simulator's.
    pub simulated: bool,
    /// Seed of traces and service times.
    pub seed: u64,
    /// Queries of a trace.
    pub queries: usize,
    /// Sizes of the grids.
    pub sizes: String,
    /// What the paper claims, of another machine.
    pub paper_claims: [PaperClaim; 2],
    /// The hardware file.
    pub hardware: Hardware,
    /// Models on machines in scenarios.
    pub settings: Vec<SettingReport>,
    /// The claim about the grids, for each scenario.
    pub verdicts: Vec<Verdict>,
    /// Every load.
    pub points: Vec<Point>,
}

/// A model on a machine in a scenario.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SettingReport {
    /// Where accuracies come from.
    pub scenario: Scenario,
    /// The same in words.
    pub quality_source: String,
    /// `kaggle`, `terabyte`.
    pub model: &'static str,
    /// The machine's name.
    pub machine: String,
    /// The machine in a few words.
    pub about: String,
    /// Where service times come from, as captions say it.
    pub basis: String,
    /// The policy that the paper compares with, if its path fits.
    pub baseline: Option<String>,
    /// Load 1 of the sweep `accurate`.
    pub accurate: Capacity,
    /// Load 1 of the sweep `cheapest`.
    pub cheapest: Capacity,
    /// Every path that fits its device's budget.
    pub paths: Vec<PathReport>,
    /// What a reader should know.
    pub notes: Vec<String>,
}

/// A path of a setting.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PathReport {
    /// `table@cpu`.
    pub name: String,
    /// Whether it is in the set that is best over all loads.
    pub resident: bool,
    /// Memory of the published model in this representation; counted.
    pub bytes: u64,
    /// Fraction of samples classified correctly.
    pub accuracy: f64,
    /// Where service times come from.
    pub speed: Origin,
    /// The same in words.
    pub speed_source: String,
    /// Workers of the device.
    pub workers: u32,
    /// Service time by batch size.
    pub service: Vec<ServicePoint>,
}

/// Whether the claim holds in one scenario: ours at least the best of the others, and at least 95 % of the bound, at
/// every point of the grids.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verdict {
    /// Which scenario.
    pub scenario: Scenario,
    /// Points of both grids.
    pub points: usize,
    /// Of these, where ours is at least the best other.
    pub at_least_best: usize,
    /// Where ours is at least 95 % of the bound.
    pub near_bound: usize,
    /// The least ratio of ours to the best other.
    pub worst_ratio: Option<f64>,
    /// The least share of the bound.
    pub worst_of_bound: Option<f64>,
    /// Places, in `points`, of those that fail: first those below the best other, the worst first, then those below
    /// 95 % of the bound, the worst first.
    pub failing: Vec<usize>,
}

impl ExperimentReport {
    /// Puts everything together.
    pub fn new(plan: &Plan, hardware: &Hardware, settings: &[Setting], points: Vec<Point>) -> Self {
        let mut scenarios: Vec<Scenario> =
            settings.iter().map(|setting| setting.scenario).collect();
        scenarios.sort_unstable();
        scenarios.dedup();
        let verdicts =
            scenarios.into_iter().map(|scenario| verdict(scenario, settings, &points)).collect();
        Self {
            format: FORMAT,
            simulated: true,
            seed: plan.seed,
            queries: plan.queries,
            sizes: plan.usual.name.clone(),
            paper_claims: PAPER_CLAIMS,
            hardware: hardware.clone(),
            settings: settings.iter().map(setting_report).collect(),
            verdicts,
            points,
        }
    }

    /// The points of one sweep of one setting, in order.
    pub fn sweep(&self, setting: usize, sweep: Sweep) -> impl Iterator<Item = &Point> {
        self.points.iter().filter(move |point| point.setting == setting && point.sweep == sweep)
    }
}

fn verdict(scenario: Scenario, settings: &[Setting], points: &[Point]) -> Verdict {
    let grid: Vec<(usize, &Point)> = points
        .iter()
        .enumerate()
        .filter(|(_, point)| {
            settings[point.setting].scenario == scenario
                && matches!(point.sweep, Sweep::Accurate | Sweep::Cheapest)
        })
        .collect();
    let count = |holds: fn(&Point) -> bool| grid.iter().filter(|(_, point)| holds(point)).count();
    let least = |of: fn(&Point) -> Option<f64>| {
        grid.iter().filter_map(|(_, point)| of(point)).min_by(f64::total_cmp)
    };
    let mut failing: Vec<usize> = grid
        .iter()
        .filter(|(_, point)| !(point.comparison.at_least_best() && point.comparison.near_bound()))
        .map(|(at, _)| *at)
        .collect();
    let order = |at: usize| {
        let Comparison { ratio, of_bound, .. } = &points[at].comparison;
        let lost = !points[at].comparison.at_least_best();
        let by = if lost { *ratio } else { *of_bound };
        (!lost, by.unwrap_or(f64::INFINITY))
    };
    failing.sort_by(|&a, &b| {
        let ((kind, first), (other, second)) = (order(a), order(b));
        kind.cmp(&other).then(first.total_cmp(&second))
    });
    Verdict {
        scenario,
        points: grid.len(),
        at_least_best: count(|point| point.comparison.at_least_best()),
        near_bound: count(|point| point.comparison.near_bound()),
        worst_ratio: least(|point| point.comparison.ratio),
        worst_of_bound: least(|point| point.comparison.of_bound),
        failing,
    }
}

fn setting_report(setting: &Setting) -> SettingReport {
    let paths = setting.candidates.iter().map(|candidate| PathReport {
        name: candidate.profile.name.clone(),
        resident: setting.sets[0].find(&candidate.profile.name).is_some(),
        bytes: candidate.profile.bytes,
        accuracy: candidate.profile.accuracy,
        speed: candidate.speed,
        speed_source: candidate.speed_source.clone(),
        workers: candidate.profile.lanes,
        service: candidate.profile.service.points().to_vec(),
    });
    SettingReport {
        scenario: setting.scenario,
        quality_source: setting.quality_source.clone(),
        model: setting.arch.name(),
        machine: setting.machine.name.clone(),
        about: setting.machine.about.clone(),
        basis: setting.basis(),
        baseline: setting.baseline(),
        accurate: setting.accurate.clone(),
        cheapest: setting.cheapest.clone(),
        paths: paths.collect(),
        notes: setting.notes.clone(),
    }
}
