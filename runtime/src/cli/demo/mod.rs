//! `mprec demo`: the whole product in one command.
//!
//! 1. **Data**: real rows as given, or synthetic ones, which every output calls so.
//! 2. **Train** one variant per representation, and an ensemble; measure each on held-out rows.
//! 3. **Profile** every path.
//! 4. **Serve** the bundle once per policy, in a process of its own, and put the same trace of
//!    queries on each: calm, busy, a burst, calm again. Policies take turns for several rounds, and
//!    each is judged by its median round: a shared machine is now faster, now slower, and would
//!    favour whoever was served in a good moment.
//! 5. **Report** what a user came for, as text, JSON and a page.

mod page;
mod trace;

use std::{collections::BTreeMap, ffi::OsStr, fs, path::PathBuf, time::Duration};

use anyhow::{Context as _, anyhow};
use clap::Args;
use mprec_backends::{BackendKind, OnnxProvider, Path, registry};
use mprec_datasets::{
    Coding, Dataset, Layout, PrepareOptions, Recipe, Split, synthetic::SyntheticOptions,
    synthetic::prepare_synthetic,
};
use mprec_representations::{Bundle, BundleWriter, LayerFormat, Precision, RowFormat};
use mprec_router::{PolicyName, Profiles};
use mprec_runtime::{
    config::Declared,
    load::{LoadOptions, LoadReport, StoredRows},
    paths::{Allowance, bring_up},
    profiler::{ProfileFile, ProfileOptions},
};
use serde::Serialize;

use super::{
    Failure, InputError as _, Output, Run, data,
    inputs::inputs,
    load,
    output::{self, RUN_HEADINGS},
    profile,
    quantize::quantised,
    server::Server,
    train::{self, Outcome, Settings},
};

/// Representations that the demo trains.
const VARIANTS: [&str; 4] = ["table", "hash", "dhe", "hybrid"];

/// The most accurate and slowest choice: the mean logit of these two.
const ENSEMBLE: [&str; 2] = ["table", "hybrid"];

/// Served by ONNX Runtime too, where there is one: the fastest and the most accurate. All would double the time that the
/// demo takes.
const ON_ONNX: [&str; 2] = ["table", "ensemble"];

#[derive(Debug, Args)]
#[command(after_help = "\
Without --data the rows are synthetic, in the shape of Criteo Kaggle. Real rows: pass train.txt (or .gz, .xz, .zst) as
downloaded from Criteo, or another layout's files with --layout and --table.")]
pub(super) struct Demo {
    /// Raw click rows, in the order of time.
    #[arg(long, num_args = 1..)]
    data: Vec<PathBuf>,
    /// What a line of --data holds.
    #[arg(long, default_value = "criteo-kaggle")]
    layout: String,
    /// A table that the layout joins, as `name=file`.
    #[arg(long = "table", value_parser = data::name_and_file)]
    tables: Vec<(String, PathBuf)>,
    /// Use at most this many rows; with synthetic data, make so many.
    #[arg(long, default_value_t = 120_000)]
    rows: u64,
    /// Where data, bundle, profiles and report go.
    #[arg(long, default_value = "mprec-demo")]
    out: PathBuf,
    /// Time from a query's arrival to its deadline. The default leaves the most accurate path a choice
    /// on two shared cores; the MP-Rec paper's is 10.
    #[arg(long, default_value_t = 25.0)]
    sla_ms: f64,
    /// Samples per query, as `mprec load` takes them.
    #[arg(long, default_value = "lognormal:4.6,0.6")]
    sizes: String,
    /// Seconds of load for every policy and round.
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    /// Rounds in which all policies take turns; each is judged by its median round.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=99))]
    rounds: u32,
    /// Little data, small nets and short loads: to see that everything works.
    #[arg(long)]
    quick: bool,
    /// Serve the ensemble and its members in 8 bits too, each as a variant with its own quality. Takes a minute more.
    #[arg(long)]
    int8: bool,
    /// Seed of training and load.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Everything the demo found out; also what `--json` prints.
#[derive(Debug, Serialize)]
struct DemoReport {
    data: DataReport,
    machine: String,
    variants: Vec<Outcome>,
    profiles: Profiles,
    load: LoadSummary,
    served: Vec<Served>,
    verdict: Verdict,
    report: PathBuf,
}

#[derive(Debug, Serialize)]
struct DataReport {
    name: String,
    synthetic: bool,
    rows: u64,
    train: usize,
    held_out: usize,
    click_rate: f64,
    malformed_lines: u64,
}

#[derive(Debug, Serialize)]
struct LoadSummary {
    sizes: String,
    seconds: f64,
    rounds: u32,
    sla_ms: f64,
    seed: u64,
    queries: usize,
    samples: u64,
    /// Start in seconds, and queries per second, of every phase.
    phases: Vec<(f64, f64)>,
}

/// One policy's median round.
#[derive(Debug, Serialize)]
struct Served {
    policy: String,
    /// Correct predictions in time per second of every round, from the worst to the best.
    rounds_correct_in_time_per_s: Vec<f64>,
    #[serde(flatten)]
    load: LoadReport,
}

/// The router beside the best that one path alone can do.
#[derive(Debug, Serialize)]
struct Verdict {
    best_static: String,
    best_static_correct_in_time_per_s: f64,
    router_correct_in_time_per_s: f64,
    ratio: f64,
}

impl Demo {
    pub(super) fn run(&self, output: &Output) -> Run {
        fs::create_dir_all(&self.out)
            .with_context(|| format!("cannot create `{}`", self.out.display()))
            .or_bad_input()?;
        let dataset = self.prepare(output)?;
        output.note(&format!(
            "{}: {} rows, {} of them held out",
            dataset.label(),
            output::count(dataset.manifest().rows),
            output::count(dataset.rows(Split::HeldOut).len() as u64)
        ));
        let (bundle, variants) = self.train(&dataset, output)?;
        let profiles = self.profile(&bundle, output)?;
        let rows = load::stored_rows(&dataset)?;
        let sla = Duration::from_secs_f64(self.sla_ms.max(0.1) / 1e3);
        let seconds = if self.quick { self.seconds.min(2.0) } else { self.seconds };
        let plan = trace::Plan::new(&profiles, &self.sizes, seconds, sla, self.seed)?;
        let rounds = if self.quick { 1 } else { self.rounds };
        let policies = policies(&profiles);
        let paths: Vec<&str> = profiles.paths().iter().map(|path| path.name.as_str()).collect();
        let paths = paths.join(",");
        let mut runs: Vec<Vec<LoadReport>> = policies.iter().map(|_| Vec::new()).collect();
        for round in 1..=rounds {
            for (policy, runs) in policies.iter().zip(&mut runs) {
                let load = self.serve(policy, &paths, &plan, &rows, output)?;
                output.note(&format!(
                    "round {round} of {rounds}, {policy:20} {:6.0} correct in time/s, {:.2} % in time, p99 {:.1} ms",
                    load.correct_in_time_per_s,
                    100.0 * load.in_time as f64 / load.offered.max(1) as f64,
                    load.p99_ms
                ));
                runs.push(load);
            }
        }
        let served: Vec<Served> =
            policies.iter().zip(runs).map(|(policy, runs)| Served::median(policy, runs)).collect();
        let report = DemoReport {
            data: data_report(&dataset),
            machine: profile::describe(&mprec_runtime::profiler::Machine::here()),
            variants,
            load: LoadSummary {
                sizes: self.sizes.clone(),
                seconds,
                rounds,
                sla_ms: self.sla_ms,
                seed: self.seed,
                queries: plan.trace.queries().len(),
                samples: plan.trace.queries().iter().map(|query| u64::from(query.samples)).sum(),
                phases: plan.phases,
            },
            profiles,
            verdict: verdict(&served)?,
            served,
            report: self.out.join("report.html"),
        };
        fs::write(self.out.join("report.json"), serde_json::to_vec_pretty(&report)?)?;
        fs::write(&report.report, page::render(&report))?;
        output.result(&report, || report.text())
    }

    /// Serves by one policy and puts the trace on it.
    fn serve(
        &self,
        policy: &PolicyName,
        paths: &str,
        plan: &trace::Plan,
        rows: &StoredRows,
        output: &Output,
    ) -> Result<LoadReport, Failure> {
        let (policy_name, sla_ms) = (policy.to_string(), self.sla_ms.to_string());
        let (bundle, profiles) = (self.out.join("model"), self.out.join("profiles.json"));
        let server = Server::start([
            OsStr::new("--bundle"),
            bundle.as_os_str(),
            OsStr::new("--profiles"),
            profiles.as_os_str(),
            OsStr::new("--paths"),
            OsStr::new(paths),
            OsStr::new("--policy"),
            OsStr::new(&policy_name),
            OsStr::new("--sla-ms"),
            OsStr::new(&sla_ms),
        ])?;
        let warm_up = LoadOptions::new(server.url(), plan.warm_up.clone());
        load::run_with_bar(&warm_up, rows, "warm-up", output)?;
        let options = LoadOptions::new(server.url(), plan.trace.clone());
        let load = load::run_with_bar(&options, rows, &policy_name, output)?;
        server.stop()?;
        Ok(load)
    }

    fn prepare(&self, output: &Output) -> Result<Dataset, Failure> {
        let folder = self.out.join("data");
        let rows = if self.quick { self.rows.min(12_000) } else { self.rows };
        if self.data.is_empty() {
            output.note("no --data: making up SYNTHETIC rows in the shape of Criteo Kaggle");
            // Large vocabularies are cut so that 100 thousand rows can teach them something.
            let mut options = SyntheticOptions::kaggle(rows, 200.0, self.seed, folder.clone());
            options.replace = true;
            let bar = output.bar("making up rows", rows, output::Unit::Rows);
            prepare_synthetic(&options, |progress| bar.set_position(progress.done))?;
            bar.finish_and_clear();
        } else {
            let layout = Layout::preset(&self.layout).or_bad_input()?;
            let mut options =
                PrepareOptions::new(self.data.clone(), folder.clone(), layout.clone());
            let tables: BTreeMap<String, PathBuf> = self.tables.iter().cloned().collect();
            options.recipe = Recipe::New { layout, coding: Coding::default(), tables };
            options.max_rows = Some(rows);
            options.replace = true;
            data::prepare_with_bar(&options, output)?;
        }
        Dataset::open(&folder).map_err(Into::into)
    }

    fn train(&self, dataset: &Dataset, output: &Output) -> Result<(Bundle, Vec<Outcome>), Failure> {
        let folder = self.out.join("model");
        let settings = Settings::recipes(self.seed, self.quick);
        let mut writer = train::new_bundle(&folder, "demo", "1", dataset)?;
        let mut outcomes = Vec::new();
        for name in VARIANTS {
            outcomes.push(train::train_variant(
                name,
                dataset,
                &settings,
                None,
                &mut writer,
                output,
            )?);
        }
        outcomes.push(train::add_ensemble("ensemble", &ENSEMBLE, dataset, &mut writer, output)?);
        if self.int8 {
            outcomes.extend(self.quantise(dataset, &mut writer, output)?);
        }
        let bundle = Bundle::open(&folder)?;
        bundle.verify()?;
        Ok((bundle, outcomes))
    }

    /// The members of the ensemble in 8 bits, and their ensemble.
    fn quantise(
        &self,
        dataset: &Dataset,
        writer: &mut BundleWriter,
        output: &Output,
    ) -> Result<Vec<Outcome>, Failure> {
        let precision = Precision { rows: RowFormat::Int8, layers: LayerFormat::Int8 };
        let names = ENSEMBLE.map(|member| format!("{member}-int8"));
        let mut outcomes = Vec::new();
        for (member, name) in ENSEMBLE.iter().zip(&names) {
            let bundle = Bundle::open(writer.folder())?;
            let quantised = quantised(&bundle, member, name, precision, dataset, output)?;
            quantised.add(name, dataset, writer)?;
            outcomes.push(Outcome {
                variant: name.clone(),
                metrics: quantised.metrics,
                bytes: quantised.bytes,
                train_seconds: None,
                rows_per_second: None,
            });
        }
        let members: Vec<&str> = names.iter().map(String::as_str).collect();
        outcomes.push(train::add_ensemble("ensemble-int8", &members, dataset, writer, output)?);
        Ok(outcomes)
    }

    fn profile(&self, bundle: &Bundle, output: &Output) -> Result<Profiles, Failure> {
        let mut paths = profile::default_paths(bundle)?;
        let onnx = BackendKind::Onnx(OnnxProvider::Cpu);
        match registry::open(onnx) {
            Ok(_) => {
                for variant in ON_ONNX {
                    paths.push(Path::new(variant, onnx)?);
                }
            }
            Err(error) => output.note(&format!("without paths on ONNX Runtime: {error}")),
        }
        let resident = bring_up(bundle, &paths, &Declared::default(), &Allowance::default())?;
        let inputs = inputs(bundle, Some(&self.out.join("data")), output)?;
        let budget = Duration::from_secs(if self.quick { 4 } else { 20 });
        let workers = profile::workers(None);
        let options = ProfileOptions { budget, max_batch: None };
        let profiles = profile::measure_with_bar(&resident, workers, options, inputs, output)?;
        let file: ProfileFile = profile::profile_file(bundle, profiles.clone());
        file.save(&self.out.join("profiles.json"))?;
        Ok(profiles)
    }
}

/// Every path alone, then the policies, ours last.
fn policies(profiles: &Profiles) -> Vec<PolicyName> {
    let paths = profiles.paths().iter().map(|path| PolicyName::Static(path.name.clone()));
    paths.chain([PolicyName::Fastest, PolicyName::MpRec, PolicyName::MultiPath]).collect()
}

fn data_report(dataset: &Dataset) -> DataReport {
    let manifest = dataset.manifest();
    DataReport {
        name: dataset.label(),
        synthetic: manifest.synthetic.is_some(),
        rows: manifest.rows,
        train: dataset.rows(Split::Train).len(),
        held_out: dataset.rows(Split::HeldOut).len(),
        click_rate: dataset.positives(Split::All) as f64 / manifest.rows.max(1) as f64,
        malformed_lines: manifest.malformed_lines,
    }
}

fn verdict(served: &[Served]) -> anyhow::Result<Verdict> {
    let goodput = |run: &&Served| run.load.correct_in_time_per_s;
    let best = served
        .iter()
        .filter(|run| run.policy.starts_with("static:"))
        .max_by(|a, b| goodput(a).total_cmp(&goodput(b)))
        .ok_or_else(|| anyhow!("no path was served alone"))?;
    let ours = PolicyName::MultiPath.to_string();
    let router = served
        .iter()
        .find(|run| run.policy == ours)
        .ok_or_else(|| anyhow!("the router was not served"))?;
    Ok(Verdict {
        best_static: best.policy.clone(),
        best_static_correct_in_time_per_s: goodput(&best),
        router_correct_in_time_per_s: goodput(&router),
        ratio: goodput(&router) / goodput(&best).max(f64::MIN_POSITIVE),
    })
}

impl DataReport {
    fn sentence(&self) -> String {
        let kind = if self.synthetic { "SYNTHETIC rows, not real clicks" } else { "real rows" };
        format!(
            "{}: {} {kind}; trained on the first {}, judged on the last {}; click rate {:.3}",
            self.name,
            output::count(self.rows),
            output::count(self.train as u64),
            output::count(self.held_out as u64),
            self.click_rate
        )
    }
}

impl Verdict {
    fn sentence(&self) -> String {
        let percent = 100.0 * (self.ratio - 1.0);
        let best = &self.best_static;
        if self.ratio >= 1.0 {
            format!(
                "The router beats the best single path ({best}) by {percent:.2} % on this trace."
            )
        } else {
            format!(
                "The router falls {:.2} % short of the best single path ({best}) on this trace.",
                -percent
            )
        }
    }
}

impl DemoReport {
    fn text(&self) -> String {
        let runs = output::table(
            RUN_HEADINGS,
            self.served.iter().map(|run| {
                let row = run.row();
                row.try_into().expect("a row has as many cells as the header")
            }),
        );
        format!(
            "\n{}\n\nQuality on held-out rows:\n{}\n\nSpeed, both cores busy:\n{}\n\n\
             Served over HTTP on {}; {} queries, sizes {}, SLA {} ms, median of {} rounds of {:.0} s:\n{runs}\n\n{}\nReport: {}",
            self.data.sentence(),
            train::table(&self.variants),
            profile::speeds(&self.profiles),
            self.machine,
            output::count(self.load.queries as u64),
            self.load.sizes,
            self.load.sla_ms,
            self.load.rounds,
            self.load.seconds,
            self.verdict.sentence(),
            self.report.display()
        )
    }
}

impl Served {
    /// The round in the middle by goodput; of an even number, the lower one.
    fn median(policy: &PolicyName, mut runs: Vec<LoadReport>) -> Self {
        runs.sort_by(|a, b| a.correct_in_time_per_s.total_cmp(&b.correct_in_time_per_s));
        let rounds_correct_in_time_per_s =
            runs.iter().map(|run| run.correct_in_time_per_s).collect();
        let load = runs.swap_remove((runs.len() - 1) / 2);
        Self { policy: policy.to_string(), rounds_correct_in_time_per_s, load }
    }

    /// The worst and the best round.
    fn spread(&self) -> String {
        let rounds = &self.rounds_correct_in_time_per_s;
        let of = |goodput: Option<&f64>| goodput.map_or("-".into(), |value| format!("{value:.0}"));
        format!("{}–{}", of(rounds.first()), of(rounds.last()))
    }

    /// The figures of one run, as both tables print them.
    fn row(&self) -> Vec<String> {
        let load = &self.load;
        let share =
            |part: u64| format!("{:.2} %", 100.0 * part as f64 / load.offered.max(1) as f64);
        let answered = load.answered.max(1) as f64;
        let mix: Vec<String> = load
            .paths
            .iter()
            .filter(|(_, path)| path.answered > 0)
            .map(|(name, path)| {
                let name = name.strip_suffix("@cpu").unwrap_or(name);
                format!("{name} {:.0} %", 100.0 * path.answered as f64 / answered)
            })
            .collect();
        vec![
            self.policy.clone(),
            format!("{:.0} ({})", load.correct_in_time_per_s, self.spread()),
            format!("{:.4}", load.accuracy),
            format!("{:.2}", load.p50_ms),
            format!("{:.2}", load.p95_ms),
            format!("{:.2}", load.p99_ms),
            share(load.late),
            share(load.refused),
            share(load.failed),
            mix.join(", "),
        ]
    }
}
