//! `mprec simulate`: policies on a made-up load, from profiles alone.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

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
    /// When queries come, at the mean rate of --qps: `poisson`; `fixed`; `bursty:TIMES,SHARE,SECONDS` (TIMES the mean
    /// rate in bursts that take SHARE of the time and last SECONDS on average; `bursty` is `bursty:3,0.1,0.2`);
    /// `diurnal:SWING,PERIOD` (a sine of PERIOD seconds; `diurnal` is `diurnal:0.8,SECONDS` of this run); `deeprecsys`
    /// (whole milliseconds); or `file:PATH` with one arrival time in seconds a line.
    #[arg(long, default_value = "poisson")]
    pub(super) arrivals: String,
    /// Samples per query: `fixed:N`, `lognormal:MU,SIGMA` (of the logarithm), `normal:MEAN,DEVIATION`, `mlperf`, or
    /// `file:PATH` with one size a line. The default has mean 120.
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

    /// What --arrivals says, at the rate of --qps, as the router spells it.
    fn process(&self) -> String {
        let qps = self.qps;
        let (kind, shape) = self.arrivals.split_once(':').unwrap_or((&self.arrivals, ""));
        match (kind, shape) {
            ("poisson" | "fixed", "") => format!("{kind}:{qps}"),
            ("bursty", "") => format!("bursty:{qps},3,0.1,0.2"),
            ("diurnal", "") => format!("diurnal:{qps},0.8,{}", self.seconds),
            ("bursty" | "diurnal", shape) => format!("{kind}:{qps},{shape}"),
            ("deeprecsys", "") => format!("deeprecsys:{}", 1e3 / qps),
            ("file", path) => format!("trace:{path}"),
            _ => self.arrivals.clone(),
        }
    }

    /// The queries to come: the same for every policy and every run.
    pub(super) fn trace(&self, queries: Option<usize>) -> Result<Trace, Failure> {
        let read = |path: &str| std::fs::read_to_string(path);
        let arrivals = self.process();
        let arrivals = Arrivals::parse(&arrivals, read).or_bad_input()?;
        let sizes = Sizes::parse(&self.sizes, read).or_bad_input()?;
        let until = queries.map_or(Until::Seconds(self.seconds), Until::Queries);
        Trace::generate(&arrivals, &sizes, until, self.sla()?, self.seed).or_bad_input()
    }
}

#[derive(Serialize)]
struct Single<'a> {
    #[serde(flatten)]
    run: &'a Report,
    queries_simulated_per_s: f64,
}

#[derive(Serialize)]
struct Several<'a> {
    simulated: bool,
    oracle_correct_in_time_per_s: f64,
    queries_simulated_per_s: f64,
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
            seed: self.load.seed,
            router: RouterConfig::default(),
            ..SimConfig::default()
        };
        let began = Instant::now();
        let runs = policies
            .iter()
            .map(|policy| simulate(&file.paths, policy, &trace, &config))
            .collect::<Result<Vec<_>, _>>()
            .or_bad_input()?;
        let simulated = (runs.len() * trace.queries().len()) as f64;
        let rate = simulated / began.elapsed().as_secs_f64().max(1e-9);
        if let [run] = runs.as_slice() {
            let single = Single { run, queries_simulated_per_s: rate };
            return output.result(&single, || text(&runs, rate));
        }
        let bound = oracle(&file.paths, &trace, &config)?.correct_in_time_per_s;
        let several = Several {
            simulated: true,
            oracle_correct_in_time_per_s: bound,
            queries_simulated_per_s: rate,
            runs: &runs,
        };
        output.result(&several, || {
            format!(
                "{}\nNo policy can exceed {bound:.0} correct in time per second on this trace.",
                text(&runs, rate)
            )
        })
    }
}

/// A run under [`RUN_HEADINGS`], but for the paths.
pub(super) fn row(name: String, run: &Report) -> [String; 9] {
    let share = |part: u64| format!("{:.2} %", 100.0 * part as f64 / run.offered.max(1) as f64);
    [
        name,
        format!("{:.0}", run.correct_in_time_per_s),
        format!("{:.4}", run.accuracy),
        format!("{:.2}", run.p50_ms),
        format!("{:.2}", run.p95_ms),
        format!("{:.2}", run.p99_ms),
        share(run.late),
        share(run.refused),
        share(run.failed),
    ]
}

fn text(runs: &[Report], rate: f64) -> String {
    // Which paths answered is in the JSON.
    let [headings @ .., _] = RUN_HEADINGS;
    let table = output::table(headings, runs.iter().map(|run| row(run.policy.clone(), run)));
    let offered = runs.first().map_or(0, |run| run.offered);
    format!(
        "Simulated, {} queries each, {:.2} million a second:\n{table}",
        output::count(offered),
        rate / 1e6
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(arrivals: &str) -> LoadShape {
        LoadShape {
            qps: 500.0,
            arrivals: arrivals.into(),
            sizes: "fixed:3".into(),
            // Some 200 bursts.
            seconds: 400.0,
            sla_ms: 10.0,
            seed: 1,
        }
    }

    #[test]
    fn every_process_of_the_help_runs_at_the_rate_asked_for() {
        for arrivals in [
            "poisson",
            "fixed",
            "bursty",
            "bursty:2,0.2,0.1",
            "diurnal",
            "diurnal:1,5",
            "deeprecsys",
        ] {
            let Ok(trace) = shape(arrivals).trace(None) else { panic!("{arrivals} is not known") };
            let rate = trace.queries().len() as f64 / trace.seconds();
            assert!((rate / 500.0 - 1.0).abs() < 0.1, "{arrivals}: {rate}");
        }
        assert!(shape("tides").trace(None).is_err());
        assert!(shape("bursty:30,0.1,0.2").trace(None).is_err());
    }

    #[test]
    fn arrivals_are_read_from_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("arrivals.txt");
        std::fs::write(&file, "0.5\n0.75\n").unwrap();
        let Ok(trace) = shape(&format!("file:{}", file.display())).trace(None) else {
            panic!("the file is not read")
        };
        assert_eq!(trace.queries().len(), 2);
    }
}
