//! The section of one model on one machine.

use mprec_router::PolicyName;

use super::{
    super::{
        outcome::{Point, PolicyOutcome},
        plan::{PAPER_RATE, PAPER_SLA_MS, Sweep},
        report::{ExperimentReport, SettingReport},
    },
    anchor, name, percent, thousands, unit,
};
use crate::report::{
    Page,
    chart::{self, Layer, Line},
    heat::{HeatCell, Shade, heat_map},
};

/// The colour of what was not answered: grey.
const REFUSED: usize = 6;

pub(super) fn render(page: &mut Page, report: &ExperimentReport, at: usize) {
    let setting = &report.settings[at];
    page.anchor(&anchor(at), &name(setting));
    page.paragraph(&format!(
        "{}. Quality {}. Load 1 is {}.",
        setting.basis,
        setting.quality_source,
        unit(setting, Sweep::Accurate)
    ));
    for note in &setting.notes {
        page.paragraph(note);
    }
    paths(page, setting);
    for sweep in [Sweep::Accurate, Sweep::Cheapest] {
        grid(page, report, at, sweep);
    }
    lines(page, report, at);
    mix(page, report, at);
    page.subheading(&format!("Every policy at {PAPER_RATE} queries/s, SLA {PAPER_SLA_MS} ms"));
    let paper = report.sweep(at, Sweep::Sla).find(|point| point.sla_ms == PAPER_SLA_MS);
    if let Some(point) = paper {
        outcomes(page, setting, point);
    }
    sizes(page, report, at);
}

fn paths(page: &mut Page, setting: &SettingReport) {
    let rows: Vec<Vec<String>> = setting
        .paths
        .iter()
        .map(|path| {
            let p50 = |batch: u32| {
                let point = path.service.iter().find(|point| point.batch == batch);
                point.map_or("-".into(), |point| format!("{:.0}", point.p50_us))
            };
            vec![
                path.name.clone(),
                if path.resident { "usually" } else { "for some loads" }.to_owned(),
                format!("{:.1} MB", path.bytes as f64 / 1e6),
                percent(path.accuracy),
                p50(1),
                p50(128),
                p50(1024),
                path.speed.word().to_owned(),
            ]
        })
        .collect();
    page.table(
        &[
            "path",
            "kept",
            "bytes, counted",
            "accuracy",
            "p50 µs, batch 1",
            "128",
            "1024",
            "service times",
        ],
        &rows,
        |_| false,
    );
}

fn grid(page: &mut Page, report: &ExperimentReport, at: usize, sweep: Sweep) {
    let points: Vec<&Point> = report.sweep(at, sweep).collect();
    let (slas, loads) =
        (axis(&points, |point| Some(point.sla_ms)), axis(&points, |point| point.load));
    if points.is_empty() {
        return;
    }
    let setting = &report.settings[at];
    let cell = |sla: f64, load: f64| {
        let point = points.iter().find(|point| point.sla_ms == sla && point.load == Some(load));
        point.map_or_else(
            || HeatCell {
                text: String::new(),
                small: String::new(),
                shade: Shade::Even,
                failing: false,
            },
            |point| heat_cell(point),
        )
    };
    let rows: Vec<(String, Vec<HeatCell>)> = slas
        .iter()
        .map(|&sla| (format!("{sla} ms"), loads.iter().map(|&load| cell(sla, load)).collect()))
        .collect();
    let columns: Vec<String> = loads.iter().map(|load| format!("{load}×")).collect();
    page.subheading(&format!(
        "Ours over the best other: SLA by load, in units of {}",
        unit(setting, sweep)
    ));
    page.chart(
        &heat_map("Ratio of SLA-goodput, multi-path over the best of every static path, fastest and mp-rec", "SLA \\ load", &columns, &rows),
        &format!(
            "{}. Small print: ours as a share of the clairvoyant bound. Outlined, and marked with ▼, are points where ours is below the best other or \
             below 95 % of the bound. A dash: no policy answers anything in time.",
            setting.basis
        ),
    );
}

fn heat_cell(point: &Point) -> HeatCell {
    let comparison = &point.comparison;
    let failing = !(comparison.at_least_best() && comparison.near_bound());
    let number = match comparison.ratio {
        Some(ratio) if ratio >= 10.0 => format!("{ratio:.0}×"),
        // Rounding must not hide that a point is below.
        Some(ratio) if !comparison.at_least_best() && ratio > 0.99 => format!("{ratio:.4}×"),
        Some(ratio) => format!("{ratio:.2}×"),
        None => "-".to_owned(),
    };
    let mark = if failing { "▼ " } else { "" };
    HeatCell {
        text: format!("{mark}{number}"),
        small: comparison.of_bound.map_or(String::new(), |share| format!("{:.1} %", 100.0 * share)),
        shade: comparison.ratio.map_or(Shade::Even, Shade::of),
        failing,
    }
}

fn lines(page: &mut Page, report: &ExperimentReport, at: usize) {
    let setting = &report.settings[at];
    let near = |point: &&Point| point.sla_ms == PAPER_SLA_MS;
    let by_load: Vec<&Point> = report.sweep(at, Sweep::Accurate).filter(near).collect();
    page.subheading("SLA-goodput by load and by SLA");
    page.chart(
        &chart::lines(
            &format!("SLA-goodput by load at SLA {PAPER_SLA_MS} ms, as a share of the bound"),
            "load, in capacities of the most accurate path",
            (1.0, "capacity"),
            &series(&by_load, |point| point.load.unwrap_or(0.0)),
        ),
        &format!(
            "SLA-goodput as a share of the clairvoyant bound, by load at SLA {PAPER_SLA_MS} ms. {}.",
            setting.basis
        ),
    );
    let busy = loads_near(report, at, 2.0);
    page.chart(
        &chart::lines(
            "SLA-goodput by SLA at about twice the capacity of the most accurate path, as a share of the bound",
            "SLA, ms",
            (PAPER_SLA_MS, "paper's SLA"),
            &series(&busy, |point| point.sla_ms),
        ),
        &format!(
            "SLA-goodput as a share of the clairvoyant bound, by SLA at load {}. {}.",
            busy.first().and_then(|point| point.load).map_or("-".into(), |load| format!("{load}")),
            setting.basis
        ),
    );
}

/// The points of the grid at the load nearest to this one, by SLA.
fn loads_near(report: &ExperimentReport, at: usize, load: f64) -> Vec<&Point> {
    let grid: Vec<&Point> = report.sweep(at, Sweep::Accurate).collect();
    let loads = axis(&grid, |point| point.load);
    let near = loads.into_iter().min_by(|a, b| (a - load).abs().total_cmp(&(b - load).abs()));
    grid.into_iter().filter(|point| point.load == near).collect()
}

/// A line for every policy, over points in order of `x`.
fn series(points: &[&Point], x: impl Fn(&Point) -> f64) -> Vec<Line> {
    let names = points.first().map_or(&[][..], |point| point.policies.as_slice());
    names
        .iter()
        .map(|named| Line {
            label: named.policy.clone(),
            points: points
                .iter()
                .filter(|point| point.bound_per_s > 0.0)
                .filter_map(|point| {
                    let outcome = point.policy(&named.policy)?;
                    Some((x(point), outcome.correct_in_time_per_s / point.bound_per_s))
                })
                .collect(),
            strong: ours(named),
        })
        .collect()
}

fn mix(page: &mut Page, report: &ExperimentReport, at: usize) {
    let setting = &report.settings[at];
    let points: Vec<&Point> =
        report.sweep(at, Sweep::Accurate).filter(|point| point.sla_ms == PAPER_SLA_MS).collect();
    let labels: Vec<String> =
        points.iter().filter_map(|point| point.load).map(|load| format!("{load}×")).collect();
    page.subheading(&format!("Which path answers, by load, SLA {PAPER_SLA_MS} ms"));
    for policy in [PolicyName::MultiPath, PolicyName::MpRec] {
        let policy = policy.to_string();
        let outcomes: Vec<&PolicyOutcome> =
            points.iter().filter_map(|point| point.policy(&policy)).collect();
        let paths = setting.paths.iter().enumerate();
        let mut layers: Vec<Layer> = paths
            .map(|(colour, path)| Layer {
                label: path.name.clone(),
                values: outcomes
                    .iter()
                    .map(|outcome| outcome.mix.get(&path.name).copied().unwrap_or(0.0))
                    .collect(),
                // Grey is kept for what was not answered.
                colour: if colour < REFUSED { colour } else { colour + 1 },
            })
            .filter(|layer| layer.values.iter().any(|&value| value > 0.0))
            .collect();
        layers.push(Layer {
            label: "refused or failed".into(),
            values: outcomes.iter().map(|outcome| outcome.refused + outcome.failed).collect(),
            colour: REFUSED,
        });
        page.chart(
            &chart::columns(&format!("Path mix by load, {policy}"), &labels, &layers),
            &format!(
                "{policy}: share of the queries offered that each path answered, in time or late. {}.",
                setting.basis
            ),
        );
    }
}

fn outcomes(page: &mut Page, setting: &SettingReport, point: &Point) {
    let rows: Vec<Vec<String>> = point.policies.iter().map(row).collect();
    page.table(
        &[
            "policy",
            "correct in time/s",
            "correct/s, late too",
            "accuracy",
            "p50 ms",
            "p95",
            "p99",
            "p99.9",
            "late",
            "refused",
            "failed",
            "bytes",
        ],
        &rows,
        |at| ours(&point.policies[at]),
    );
    page.paragraph(&format!(
        "{}. No policy can exceed {} correct in time per second. Bytes are counted from shapes.",
        setting.basis,
        thousands(point.bound_per_s)
    ));
}

fn row(outcome: &PolicyOutcome) -> Vec<String> {
    vec![
        outcome.policy.clone(),
        thousands(outcome.correct_in_time_per_s),
        thousands(outcome.correct_per_s),
        percent(outcome.accuracy),
        format!("{:.2}", outcome.p50_ms),
        format!("{:.2}", outcome.p95_ms),
        format!("{:.2}", outcome.p99_ms),
        format!("{:.2}", outcome.p999_ms),
        percent(outcome.late),
        percent(outcome.refused),
        percent(outcome.failed),
        format!("{:.1} MB", outcome.bytes as f64 / 1e6),
    ]
}

fn sizes(page: &mut Page, report: &ExperimentReport, at: usize) {
    page.subheading(&format!("Query sizes at {PAPER_RATE} queries/s, SLA {PAPER_SLA_MS} ms"));
    let rows: Vec<Vec<String>> = report
        .sweep(at, Sweep::Size)
        .map(|point| {
            let of = |policy: PolicyName| point.policy(&policy.to_string());
            let own = of(PolicyName::MultiPath);
            let rule = of(PolicyName::MpRec);
            let figure = |outcome: Option<&PolicyOutcome>| {
                outcome.map_or("-".into(), |outcome| thousands(outcome.correct_in_time_per_s))
            };
            vec![
                point.sizes.clone(),
                figure(own),
                figure(rule),
                figure(point.best_static()),
                point.comparison.ratio.map_or("-".into(), |ratio| format!("{ratio:.4}×")),
                point.comparison.of_bound.map_or("-".into(), percent),
                own.map_or("-".into(), |own| format!("{:.2}", own.p99_ms)),
                own.map_or("-".into(), |own| percent(own.missed())),
            ]
        })
        .collect();
    page.table(
        &[
            "sizes",
            "ours, correct in time/s",
            "mp-rec",
            "best static",
            "ours / best other",
            "ours of bound",
            "ours p99 ms",
            "ours missed",
        ],
        &rows,
        |_| false,
    );
    page.paragraph(&format!("{}.", report.settings[at].basis));
}

fn ours(outcome: &PolicyOutcome) -> bool {
    outcome.policy == PolicyName::MultiPath.to_string()
}

/// The different values along an axis, ascending.
fn axis(points: &[&Point], of: impl Fn(&Point) -> Option<f64>) -> Vec<f64> {
    let mut values: Vec<f64> = points.iter().filter_map(|point| of(point)).collect();
    values.sort_unstable_by(f64::total_cmp);
    values.dedup();
    values
}
