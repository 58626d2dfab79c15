//! The demo's report as a page.

use mprec_runtime::report::{
    Page,
    chart::{self, Bar, Layer, Line},
};

use super::{DemoReport, Served, output::RUN_HEADINGS};

/// The whole page.
pub(super) fn render(report: &DemoReport) -> String {
    let mut page =
        Page::new("mprec demo", &format!("{}; {}", report.data.sentence(), report.machine));
    if report.data.synthetic {
        page.warning(
            "The rows are synthetic: quality figures say how well the planted model was learnt, nothing about real clicks.",
        );
    }
    page.heading("Correct predictions answered in time, per second");
    page.paragraph(&report.verdict.sentence());
    page.chart(
        &goodput(report),
        "Sum over queries answered within the SLA of samples × measured accuracy of the path that answered, per second. \
         Every policy got the same trace, in turns, and is shown by its median round; measured over HTTP, load generator on the same cores.",
    );
    let rows: Vec<Vec<String>> = report.served.iter().map(Served::row).collect();
    page.table(&RUN_HEADINGS, &rows, |at| is_router(&report.served[at]));
    page.heading("Latency");
    page.chart(
        &latency(report),
        "Share of answered queries within a latency, counted from the scheduled moment of sending (no coordinated omission).",
    );
    for run in report.served.iter().filter(|run| !run.policy.starts_with("static:")) {
        page.heading(&format!("Path mix over time: {}", run.policy));
        page.chart(&mix(run, report), &phases(report));
    }
    page.heading("Quality on held-out rows");
    let rows: Vec<Vec<String>> = report
        .variants
        .iter()
        .map(|outcome| {
            let metrics = &outcome.metrics;
            let figures = [
                metrics.auc,
                metrics.logloss,
                metrics.normalised_entropy,
                metrics.accuracy,
                metrics.ece,
            ];
            let mut row = vec![outcome.variant.clone()];
            row.extend(figures.map(|figure| format!("{figure:.4}")));
            row.push(super::output::bytes(outcome.bytes as u64));
            row
        })
        .collect();
    page.table(
        &["variant", "AUC", "log loss", "normalised entropy", "accuracy", "ECE", "memory"],
        &rows,
        |_| false,
    );
    page.paragraph(
        "Quality is data: which representation is best depends on the rows. On about 100 thousand rows a table is both fastest \
         and the best single variant; the order of the MP-Rec paper (hybrid over DHE over table) is for 45.8 million rows and is not claimed here.",
    );
    page.heading("Speed");
    let rows: Vec<Vec<String>> = report
        .profiles
        .paths()
        .iter()
        .map(|path| {
            let p50 = |batch: u32| {
                let point = path.service.points().iter().find(|point| point.batch == batch);
                point.map_or("-".into(), |point| format!("{:.0}", point.p50_us))
            };
            vec![path.name.clone(), p50(1), p50(8), p50(128), p50(512), p50(2048)]
        })
        .collect();
    page.table(&["path, p50 µs per batch", "1", "8", "128", "512", "2048"], &rows, |_| false);
    page.render()
}

fn is_router(run: &Served) -> bool {
    run.policy == "multi-path"
}

fn goodput(report: &DemoReport) -> String {
    let bars: Vec<Bar> = report
        .served
        .iter()
        .map(|run| Bar {
            label: run.policy.clone(),
            value: run.load.correct_in_time_per_s,
            text: format!(
                "{:.0}  ({:.2} % in time)",
                run.load.correct_in_time_per_s,
                100.0 * run.load.in_time as f64 / run.load.offered.max(1) as f64
            ),
            strong: is_router(run),
        })
        .collect();
    chart::bars("Correct predictions in time per second, by policy", &bars)
}

fn latency(report: &DemoReport) -> String {
    let lines: Vec<Line> = report
        .served
        .iter()
        .map(|run| Line {
            label: run.policy.clone(),
            points: run.load.latency_cdf.iter().map(|point| (point.ms, point.fraction)).collect(),
            strong: is_router(run),
        })
        .collect();
    let sla = report.load.sla_ms;
    chart::lines("Latency distribution by policy", "latency, ms", (sla, "SLA"), &lines)
}

/// The colour of what was not answered: grey.
const REFUSED: usize = 6;

fn mix(run: &Served, report: &DemoReport) -> String {
    let windows = &run.load.windows;
    let paths = report.profiles.paths().iter().enumerate();
    let mut layers: Vec<Layer> = paths
        .map(|(colour, path)| Layer {
            label: path.name.clone(),
            values: windows
                .iter()
                .map(|window| window.paths.get(&path.name).copied().unwrap_or(0) as f64)
                .collect(),
            // Grey is kept for what was not answered.
            colour: if colour < REFUSED { colour } else { colour + 1 },
        })
        .filter(|layer| layer.values.iter().any(|&value| value > 0.0))
        .collect();
    layers.push(Layer {
        label: "refused or failed".into(),
        values: windows.iter().map(|window| (window.refused + window.failed) as f64).collect(),
        colour: REFUSED,
    });
    let title = format!("Queries per path over time, {}", run.policy);
    chart::layers(&title, report.load.seconds, &layers)
}

fn phases(report: &DemoReport) -> String {
    let phases: Vec<String> = report
        .load
        .phases
        .iter()
        .map(|(start, rate)| format!("{rate:.0}/s from {start:.1} s"))
        .collect();
    format!("Answered queries per quarter second. Offered: {}.", phases.join(", "))
}
