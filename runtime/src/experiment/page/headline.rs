//! The first section, and the table of points that fail.

use mprec_router::PolicyName;

use super::{
    super::{
        outcome::{OF_BOUND, Point, PolicyOutcome},
        plan::{PAPER_RATE, PAPER_SLA_MS, Sweep},
        report::{ExperimentReport, Verdict},
    },
    percent, short_name, thousands,
};
use crate::report::{
    Page,
    chart::{self, Bar},
};

/// Loads of the headline, in capacities of the most accurate path.
const LOADS: [f64; 3] = [1.0, 2.0, 5.0];

pub(super) fn render(page: &mut Page, report: &ExperimentReport) {
    page.heading("Ours beside the paper's rule and the best static path");
    for verdict in &report.verdicts {
        page.paragraph(&sentence(report, verdict));
    }
    page.paragraph(
        "The paper's abstract claims 2.49 times (Kaggle) and 3.76 times (Terabyte) the throughput of correct predictions of a static \
         table on the CPU, on the authors' CPU-GPU machine. The ratios below are of simulated machines, with other software, loads and \
         profiles: they are not comparable with those two numbers, machine to machine.",
    );
    page.chart(&bars(report), &caption(report));
    let mut rows = Vec::new();
    for point in shown(report) {
        let setting = &report.settings[point.setting];
        let ours = goodput(point, &PolicyName::MultiPath);
        let rule = goodput(point, &PolicyName::MpRec);
        let ratio =
            |over: f64| if over > 0.0 { format!("{:.3}×", ours / over) } else { "-".into() };
        let fixed = point.best_static();
        let (throughput, goodput_ratio) = over_baseline(report, point);
        rows.push(vec![
            short_name(setting),
            load(point),
            thousands(ours),
            ratio(rule),
            fixed.map_or("-".into(), |fixed| ratio(fixed.correct_in_time_per_s)),
            fixed.map_or("-".into(), |fixed| short(&fixed.policy)),
            throughput,
            goodput_ratio,
            point.comparison.of_bound.map_or("-".into(), percent),
        ]);
    }
    page.table(
        &[
            "machine, model, quality",
            "load",
            "ours, correct in time/s",
            "over mp-rec",
            "over best static",
            "which",
            "throughput over table@cpu (paper's metric)",
            "in time over table@cpu",
            "of bound",
        ],
        &rows,
        |_| false,
    );
    page.paragraph(&format!(
        "Simulated. SLA {PAPER_SLA_MS} ms. Loads are in capacities of the most accurate resident path; the last line of each machine is the paper's \
         {PAPER_RATE} queries/s. The paper's metric counts late answers, over the time until the last one; whether the paper does is unknown. \
         A dash: the table does not fit that CPU's budget, or answered nothing in time.",
    ));
}

/// Every point of the grids that fails the claim.
pub(super) fn failing(page: &mut Page, report: &ExperimentReport) {
    page.heading("Points that fail the claim");
    page.paragraph(&format!(
        "The claim: ours gives at least as many correct predictions in time as the best of every static path, fastest and mp-rec, and at \
         least {} of the clairvoyant bound, at every point of the grids. The bound is one on average over service times and knows nothing of the \
         order of arrivals, so that it can lie above what any schedule reaches. Simulated.",
        percent(OF_BOUND)
    ));
    let mut rows = Vec::new();
    for verdict in &report.verdicts {
        for &at in &verdict.failing {
            let point = &report.points[at];
            let setting = &report.settings[point.setting];
            let own = point.policy(&PolicyName::MultiPath.to_string());
            rows.push(vec![
                short_name(setting),
                format!("{}", point.sla_ms),
                load(point),
                super::capacity(setting, point.sweep).path.clone(),
                point.comparison.ratio.map_or("-".into(), |ratio| format!("{ratio:.5}")),
                short(&point.comparison.best_other),
                point.comparison.of_bound.map_or("-".into(), percent),
                own.map_or("-".into(), |own| percent(own.missed())),
            ]);
        }
    }
    if rows.is_empty() {
        page.paragraph("None.");
        return;
    }
    page.table(
        &[
            "machine, model, quality",
            "SLA ms",
            "load",
            "of",
            "ours / best other",
            "best other",
            "ours of bound",
            "ours missed",
        ],
        &rows,
        |_| false,
    );
}

fn sentence(report: &ExperimentReport, verdict: &Verdict) -> String {
    let quality = report.settings.iter().find(|setting| setting.scenario == verdict.scenario);
    let quality = quality.map_or("", |setting| setting.quality_source.as_str());
    let worst = verdict.worst_ratio.map_or("-".into(), |ratio| format!("{ratio:.4}"));
    format!(
        "Quality {quality}: ours (multi-path) is at least the best of every static path, fastest and mp-rec at {} of {} points of the grids \
         (least ratio {worst}), and at least {} of the clairvoyant bound at {} (least {}). Points that fail are marked and listed.",
        verdict.at_least_best,
        verdict.points,
        percent(OF_BOUND),
        verdict.near_bound,
        verdict.worst_of_bound.map_or("-".into(), percent),
    )
}

/// The points of the headline: the paper's SLA under a few loads, and the paper's load.
fn shown(report: &ExperimentReport) -> impl Iterator<Item = &Point> {
    report.points.iter().filter(|point| {
        point.sla_ms == PAPER_SLA_MS
            && match point.sweep {
                Sweep::Accurate => point.load.is_some_and(|load| LOADS.contains(&load)),
                Sweep::Sla => true,
                Sweep::Cheapest | Sweep::Size => false,
            }
    })
}

/// Bars at twice the capacity of the most accurate path, or what is nearest to it.
fn bars(report: &ExperimentReport) -> String {
    let mut bars = Vec::new();
    for (at, setting) in report.settings.iter().enumerate() {
        let near = |point: &Point| (point.load.unwrap_or(0.0) - 2.0).abs();
        let grid = report.sweep(at, Sweep::Accurate).filter(|point| point.sla_ms == PAPER_SLA_MS);
        let Some(point) = grid.min_by(|a, b| near(a).total_cmp(&near(b))) else { continue };
        if point.bound_per_s <= 0.0 {
            continue;
        }
        let fixed = point.best_static().map_or(0.0, |fixed| fixed.correct_in_time_per_s);
        for (label, value, strong) in [
            ("ours", goodput(point, &PolicyName::MultiPath), true),
            ("mp-rec", goodput(point, &PolicyName::MpRec), false),
            ("best static", fixed, false),
        ] {
            let share = value / point.bound_per_s;
            bars.push(Bar {
                label: format!("{}: {label}", short_name(setting)),
                value: share,
                text: format!("{} ({}/s)", percent(share), thousands(value)),
                strong,
            });
        }
    }
    chart::bars("SLA-goodput as a share of the clairvoyant bound", &bars)
}

fn caption(report: &ExperimentReport) -> String {
    let mut bases: Vec<&str> =
        report.settings.iter().map(|setting| setting.basis.as_str()).collect();
    bases.sort_unstable();
    bases.dedup();
    format!(
        "SLA-goodput as a share of the clairvoyant bound at SLA {PAPER_SLA_MS} ms and the load of the grid that is nearest to twice what the most accurate \
         path carries. {}.",
        bases.join(". ")
    )
}

/// Ours over the paper's baseline: by the paper's metric, and by SLA-goodput.
fn over_baseline(report: &ExperimentReport, point: &Point) -> (String, String) {
    let baseline = report.settings[point.setting].baseline.as_ref();
    let (Some(own), Some(base)) = (
        point.policy(&PolicyName::MultiPath.to_string()),
        baseline.and_then(|name| point.policy(name)),
    ) else {
        return ("-".into(), "-".into());
    };
    let ratio = |of: fn(&PolicyOutcome) -> f64| {
        if of(base) > 0.0 { format!("{:.2}×", of(own) / of(base)) } else { "-".into() }
    };
    (ratio(|outcome| outcome.correct_per_s), ratio(|outcome| outcome.correct_in_time_per_s))
}

fn goodput(point: &Point, policy: &PolicyName) -> f64 {
    point.policy(&policy.to_string()).map_or(0.0, |outcome| outcome.correct_in_time_per_s)
}

fn load(point: &Point) -> String {
    point
        .load
        .map_or_else(|| format!("{}/s", thousands(point.rate_per_s)), |load| format!("{load}×"))
}

/// A policy without what every static one has in common.
fn short(policy: &str) -> String {
    policy.strip_prefix("static:").unwrap_or(policy).to_owned()
}
