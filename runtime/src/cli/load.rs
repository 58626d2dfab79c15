//! `mprec load`: an open-loop load on a running server.

use std::{path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};
use mprec_datasets::{Dataset, Split};
use mprec_router::{
    PolicyName, RouterConfig,
    sim::{Report, SimConfig, simulate},
};
use mprec_runtime::{
    engine::router_config,
    load::{LoadOptions, LoadReport, RequestRows, StoredRows, WireFormat, describe, run},
    profiler::ProfileFile,
};
use serde::Serialize;

use super::{
    Failure, InputError as _, Output, Run,
    access::AccessArguments,
    output::{self, RUN_HEADINGS, Unit},
    simulate::LoadShape,
};

/// Rows kept in memory to fill requests from.
const MAX_ROWS: usize = 200_000;

#[derive(Debug, Args)]
#[command(after_help = "\
Open loop: a query is sent when it is due, whatever became of those before, and its latency counts from that moment.
`correct_in_time_per_s` is the sum over queries answered in time of samples × the expected accuracy of the path that
answered, per second.")]
pub(super) struct Load {
    /// The server, such as `http://127.0.0.1:8000`.
    #[arg(long)]
    url: String,
    #[command(flatten)]
    access: AccessArguments,
    /// The model, if the server has several.
    #[arg(long)]
    model: Option<String>,
    #[command(flatten)]
    shape: LoadShape,
    /// A prepared folder whose held-out rows are sent; default: rows made up within the server's schema.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Most queries under way; beyond it the client counts as saturated.
    #[arg(long, default_value_t = 256)]
    connections: usize,
    /// How requests are written.
    #[arg(long, value_enum, default_value_t = Format::Binary)]
    format: Format,
    /// Simulate the same queries from these profiles, and print that beside what was served.
    #[arg(long, value_name = "FILE")]
    compare_profiles: Option<PathBuf>,
    /// The policy that is simulated: the server's.
    #[arg(
        long,
        value_name = "POLICY",
        default_value = "multi-path",
        requires = "compare_profiles"
    )]
    compare_policy: PolicyName,
}

/// A load beside a simulation of it.
#[derive(Serialize)]
struct Compared<'r> {
    #[serde(flatten)]
    served: &'r LoadReport,
    simulated: &'r Report,
    /// Served over simulated correct predictions in time.
    goodput_ratio: f64,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    /// Triton's binary tensors.
    Binary,
    /// JSON.
    Json,
}

impl Load {
    pub(super) fn run(&self, output: &Output) -> Run {
        let mut options = LoadOptions::new(&self.url, self.shape.trace(None)?);
        options.access = self.access.read()?;
        options.model.clone_from(&self.model);
        options.connections = self.connections;
        options.format = match self.format {
            Format::Binary => WireFormat::Binary,
            Format::Json => WireFormat::Json,
        };
        let rows = match &self.data {
            Some(folder) => stored_rows(&Dataset::open(folder).or_bad_input()?)?,
            None => {
                let model =
                    describe(&self.url, &options.access, self.model.as_deref()).or_bad_input()?;
                StoredRows::random(&model.mprec.schema, 16_384, self.shape.seed).or_bad_input()?
            }
        };
        // Before the load, so that a wrong file is no load wasted.
        let simulated = self.simulate(&options)?;
        let served = run_with_bar(&options, &rows, "load", output)?;
        let Some(simulated) = simulated else {
            return output.result(&served, || text(&served));
        };
        let goodput_ratio =
            served.correct_in_time_per_s / simulated.correct_in_time_per_s.max(f64::MIN_POSITIVE);
        let compared = Compared { served: &served, simulated: &simulated, goodput_ratio };
        output.result(&compared, || compared.text())
    }

    /// The same queries without a server, with the settings that an engine has by default.
    fn simulate(&self, options: &LoadOptions) -> Result<Option<Report>, Failure> {
        let Some(file) = &self.compare_profiles else { return Ok(None) };
        let profiles = ProfileFile::load(file).or_bad_input()?.paths;
        let config = SimConfig {
            seed: self.shape.seed,
            router: router_config(RouterConfig::default().max_queued, Duration::ZERO, None),
            ..SimConfig::default()
        };
        simulate(&profiles, &self.compare_policy, &options.trace, &config).map(Some).or_bad_input()
    }
}

impl Compared<'_> {
    fn text(&self) -> String {
        let row = |kind: &str, figures: [f64; 5], counts: [u64; 4]| {
            let [goodput, accuracy, p50, p95, p99] = figures;
            let [offered, late, refused, failed] = counts;
            let share = |part: u64| format!("{:.2} %", 100.0 * part as f64 / offered.max(1) as f64);
            [
                kind.to_owned(),
                format!("{goodput:.0}"),
                format!("{accuracy:.4}"),
                format!("{p50:.2}"),
                format!("{p95:.2}"),
                format!("{p99:.2}"),
                share(late),
                share(refused),
                share(failed),
            ]
        };
        let Self { served, simulated, goodput_ratio } = self;
        let [_, headings @ .., _] = RUN_HEADINGS;
        let headings: Vec<&str> = std::iter::once("").chain(headings).collect();
        let headings: [&str; 9] = headings.try_into().expect("a heading for every figure");
        let s = served;
        let served_row = row(
            "served",
            [s.correct_in_time_per_s, s.accuracy, s.p50_ms, s.p95_ms, s.p99_ms],
            [s.offered, s.late, s.refused, s.failed],
        );
        let s = simulated;
        let simulated_row = row(
            "simulated",
            [s.correct_in_time_per_s, s.accuracy, s.p50_ms, s.p95_ms, s.p99_ms],
            [s.offered, s.late, s.refused, s.failed],
        );
        format!(
            "{}\n\n{}\nServed over simulated, by policy {}: {goodput_ratio:.4}",
            text(served),
            output::table(headings, [served_row, simulated_row]),
            simulated.policy
        )
    }
}

/// Loads, showing how far it is.
pub(super) fn run_with_bar(
    options: &LoadOptions,
    rows: &StoredRows,
    what: &str,
    output: &Output,
) -> Result<LoadReport, Failure> {
    let seconds = options.trace.seconds();
    let bar = output.bar(what, options.trace.queries().len() as u64, Unit::Steps);
    let report = run(options, rows, |progress| {
        bar.set_position(progress.ended);
        bar.set_message(format!(
            "{:.0} of {seconds:.0} s, {} offered, {} in time",
            progress.seconds.min(seconds),
            progress.offered,
            progress.in_time
        ));
    })
    .or_bad_input()?;
    bar.finish_and_clear();
    Ok(report)
}

/// Held-out rows with their labels, as requests send them.
pub(super) fn stored_rows(dataset: &Dataset) -> Result<StoredRows, Failure> {
    let mut range = dataset.rows(Split::HeldOut);
    if range.is_empty() {
        range = dataset.rows(Split::All);
    }
    range.end = range.end.min(range.start + MAX_ROWS);
    let batch = dataset.batch(range)?;
    let (samples, features) = (batch.batch.samples(), batch.batch.features());
    let mut rows = RequestRows {
        dense: batch.batch.dense().to_vec(),
        ids: vec![0; samples * features],
        labels: batch.labels.iter().map(|&label| label > 0.5).collect(),
    };
    for feature in 0..features {
        for (sample, &id) in batch.batch.bags(feature).ids().iter().enumerate() {
            rows.ids[sample * features + feature] = i64::try_from(id)?;
        }
    }
    StoredRows::new(rows, dataset.schema().dense().len(), features).or_bad_input()
}

pub(super) fn text(report: &LoadReport) -> String {
    let share = |part: u64| format!("{:.2} %", 100.0 * part as f64 / report.offered.max(1) as f64);
    let mix = output::table(
        ["path", "answered", "in time", "expected accuracy", "p50 ms", "p99 ms"],
        report.paths.iter().map(|(name, path)| {
            [
                name.clone(),
                output::count(path.answered),
                output::count(path.in_time),
                format!("{:.4}", path.quality),
                format!("{:.2}", path.p50_ms),
                format!("{:.2}", path.p99_ms),
            ]
        }),
    );
    format!(
        "{:.0} correct predictions in time per second over {:.1} s\n\
         {} queries offered: {} in time, {} late, {} refused, {} failed\n\
         latency p50 {:.2} ms, p95 {:.2} ms, p99 {:.2} ms; accuracy {:.4}{}\n{mix}",
        report.correct_in_time_per_s,
        report.seconds,
        output::count(report.offered),
        share(report.in_time),
        share(report.late),
        share(report.refused),
        share(report.failed),
        report.p50_ms,
        report.p95_ms,
        report.p99_ms,
        report.accuracy,
        report.observed_accuracy.map_or(String::new(), |accuracy| format!(
            " expected, {accuracy:.4} observed on the rows' labels"
        )),
    )
}
