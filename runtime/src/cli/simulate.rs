//! `mprec simulate`: policies on a made-up load, from profiles alone.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use mprec_router::{
    PolicyName, RouterConfig,
    sim::{Arrivals, Report, Service, SimConfig, Sizes, Trace, Until, oracle, simulate},
};
use mprec_runtime::profiler::ProfileFile;
use serde::Serialize;

use super::{
    Failure, InputError as _, Output, Run,
    output::{self, RUN_HEADINGS},
};

#[derive(Debug, Args)]
pub(super) struct Simulate {
    /// Profiles that `mprec profile` wrote, here or elsewhere.
    #[arg(long)]
    profiles: PathBuf,
    /// `multi-path`, `mp-rec`, `fastest`, `static:<path>`, or `all`. May be given several times.
    #[arg(long, default_value = "multi-path")]
    policy: Vec<String>,
    #[command(flatten)]
    load: LoadShape,
    /// End after this many queries instead of a time.
    #[arg(long)]
    queries: Option<usize>,
}

/// What arrives: shared by `simulate` and `load`.
#[derive(Debug, Clone, Args)]
pub(super) struct LoadShape {
    /// Queries per second.
    #[arg(long, default_value_t = 1000.0)]
    pub(super) qps: f64,
    /// When queries come, at the mean rate of --qps: `poisson`, `fixed`, or `file:PATH` with one
    /// arrival time in seconds a line.
    #[arg(long, default_value = "poisson")]
    pub(super) arrivals: String,
    /// Samples per query: `fixed:N`, `lognormal:MU,SIGMA` (of the logarithm), `mlperf`, or `file:PATH`
    /// with one size a line. The default has mean 120.
    #[arg(long, default_value = "lognormal:4.6,0.6")]
    pub(super) sizes: String,
    /// For how long.
    #[arg(long, default_value_t = 10.0)]
    pub(super) seconds: f64,
    /// Time from a query's arrival to its deadline.
    #[arg(long, default_value_t = 10.0)]
    pub(super) sla_ms: f64,
    /// Seed of arrivals and sizes.
    #[arg(long, default_value_t = 1)]
    pub(super) seed: u64,
}

impl LoadShape {
    pub(super) fn sla(&self) -> Result<Duration, Failure> {
        Duration::try_from_secs_f64(self.sla_ms / 1e3)
            .ok()
            .filter(|sla| !sla.is_zero())
            .ok_or_else(|| Failure::input(anyhow::anyhow!("--sla-ms must be above 0")))
    }

    /// The queries to come: the same for every policy and every run.
    pub(super) fn trace(&self, queries: Option<usize>) -> Result<Trace, Failure> {
        let read = |path: &str| std::fs::read_to_string(path);
        let arrivals = match self.arrivals.as_str() {
            rate @ ("poisson" | "fixed") => format!("{rate}:{}", self.qps),
            other => other.to_owned(),
        };
        let arrivals = Arrivals::parse(&arrivals, read).or_bad_input()?;
        let sizes = Sizes::parse(&self.sizes, read).or_bad_input()?;
        let until = queries.map_or(Until::Seconds(self.seconds), Until::Queries);
        Trace::generate(&arrivals, &sizes, until, self.sla()?, self.seed).or_bad_input()
    }
}

#[derive(Serialize)]
struct Several<'a> {
    simulated: bool,
    oracle_correct_in_time_per_s: f64,
    runs: &'a [Report],
}

impl Simulate {
    pub(super) fn run(&self, output: &Output) -> Run {
        let file = ProfileFile::load(&self.profiles).or_bad_input()?;
        let mut policies = Vec::new();
        for name in &self.policy {
            if name == "all" {
                let paths = file.paths.paths().iter();
                policies.extend(paths.map(|path| PolicyName::Static(path.name.clone())));
                policies.extend([PolicyName::Fastest, PolicyName::MpRec, PolicyName::MultiPath]);
            } else {
                policies.push(name.parse::<PolicyName>().or_bad_input()?);
            }
        }
        let trace = self.load.trace(self.queries)?;
        let config = SimConfig {
            service: Service::Quantiles,
            slowdowns: Vec::new(),
            seed: self.load.seed,
            router: RouterConfig::default(),
        };
        let runs = policies
            .iter()
            .map(|policy| simulate(&file.paths, policy, &trace, &config))
            .collect::<Result<Vec<_>, _>>()
            .or_bad_input()?;
        if let [run] = runs.as_slice() {
            return output.result(run, || text(&runs));
        }
        let bound = oracle(&file.paths, &trace, &config)?.correct_in_time_per_s;
        let several = Several { simulated: true, oracle_correct_in_time_per_s: bound, runs: &runs };
        output.result(&several, || {
            format!(
                "{}\nNo policy can exceed {bound:.0} correct in time per second on this trace.",
                text(&runs)
            )
        })
    }
}

fn text(runs: &[Report]) -> String {
    // Which paths answered is in the JSON.
    let [headings @ .., _] = RUN_HEADINGS;
    let table = output::table(
        headings,
        runs.iter().map(|run| {
            let share =
                |part: u64| format!("{:.2} %", 100.0 * part as f64 / run.offered.max(1) as f64);
            [
                run.policy.clone(),
                format!("{:.0}", run.correct_in_time_per_s),
                format!("{:.4}", run.accuracy),
                format!("{:.2}", run.p50_ms),
                format!("{:.2}", run.p95_ms),
                format!("{:.2}", run.p99_ms),
                share(run.late),
                share(run.refused),
                share(run.failed),
            ]
        }),
    );
    let offered = runs.first().map_or(0, |run| run.offered);
    format!("Simulated, {} queries each:\n{table}", output::count(offered))
}
