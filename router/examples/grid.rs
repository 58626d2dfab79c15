//! Goodput of every policy over a grid of loads, SLAs, sizes and arrivals, on simulated two-lane
//! CPU and CPU-GPU profiles: where is `multi-path` below the best other policy?
//!
//! `cargo run --release -p mprec-router --example grid -- [KEY=VALUE]...`
//!
//! `set`, `sizes`, `arrivals`, `sla` and `load` keep the points of that value; several values of
//! one key keep all of them. `seeds=5` and `queries=10000` set how much is simulated; `all=1`
//! prints every point instead of those below.
//!
//! Every policy runs the same traces. A ratio is of sums over the seeds, with the standard error of
//! that ratio from the paired differences; the best other policy is chosen after the fact, which
//! is in its favour. A point *fails* where the ratio is below 1 by more than two standard errors.
#![expect(clippy::print_stdout, reason = "an example that prints a table")]

use std::{
    process::ExitCode,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use mprec_router::{
    PathProfile, PolicyName, Profiles, QualitySource, ServiceCurve,
    sim::{Arrivals, Report, SimConfig, Sizes, Trace, Until, oracle, simulate},
};

const SIZES: [&str; 3] = ["fixed:128", "lognormal:4.35,1.0", "mlperf"];
const SLAS_MS: [u64; 7] = [1, 2, 5, 10, 20, 50, 200];
const LOADS: [f64; 8] = [0.1, 0.3, 0.5, 0.8, 0.95, 1.1, 2.0, 5.0];
/// Poisson; and three times the mean for a fifth of the time, 200 ms on average.
const ARRIVALS: [&str; 2] = ["poisson", "bursty"];

fn path(name: &str, accuracy: f64, lanes: u32, medians: &[(u32, f64)]) -> PathProfile {
    let (variant, device) = name.split_once('@').unwrap_or((name, "cpu"));
    PathProfile {
        name: name.into(),
        variant: variant.into(),
        device: device.into(),
        lanes,
        accuracy,
        quality_source: QualitySource::Declared("example".into()),
        bytes: 0,
        max_batch: None,
        service: ServiceCurve::from_medians(medians, 1.1, 1.25).expect("medians increase"),
    }
}

fn cpu(variant: &str, accuracy: f64, scale: f64) -> PathProfile {
    let medians = [(1, 40.0), (8, 120.0), (128, 1300.0), (512, 5200.0)];
    path(&format!("{variant}@cpu"), accuracy, 2, &medians.map(|(n, us)| (n, us * scale)))
}

fn gpu(variant: &str, accuracy: f64, scale: f64) -> PathProfile {
    let medians = [(1, 300.0), (128, 380.0), (1024, 900.0)];
    path(&format!("{variant}@gpu"), accuracy, 1, &medians.map(|(n, us)| (n, us * scale)))
}

fn sets() -> Vec<(&'static str, Profiles)> {
    let table = || cpu("table", 0.790, 1.0);
    let sets = vec![
        ("2", vec![table(), cpu("ensemble", 0.792, 3.2)]),
        // Paths of nearly one cost and quality, and one that none should take.
        (
            "near",
            vec![
                cpu("hash", 0.7646, 1.2),
                cpu("table", 0.7646, 1.0),
                cpu("dhe", 0.7658, 1.6),
                cpu("ensemble", 0.7646, 3.2),
            ],
        ),
        ("3", vec![cpu("hash", 0.786, 0.9), table(), cpu("ensemble", 0.792, 3.2)]),
        (
            "5",
            vec![
                cpu("hash", 0.786, 0.9),
                table(),
                cpu("dhe", 0.785, 4.0),
                cpu("hybrid", 0.789, 4.8),
                cpu("ensemble", 0.792, 3.2),
            ],
        ),
        (
            "gpu",
            vec![cpu("table", 0.7879, 1.0), gpu("table", 0.7879, 1.0), gpu("hybrid", 0.7898, 2.5)],
        ),
        ("gpu2", vec![cpu("table", 0.7879, 1.0), gpu("hybrid", 0.7898, 2.5)]),
    ];
    let checked = |(name, paths)| (name, Profiles::new(paths).expect("profiles are valid"));
    sets.into_iter().map(checked).collect()
}

/// What the command line keeps.
struct Options {
    keep: Vec<(String, String)>,
    seeds: u64,
    queries: usize,
    all: bool,
}

impl Options {
    fn read() -> Result<Self, String> {
        let mut options = Self { keep: Vec::new(), seeds: 5, queries: 10_000, all: false };
        for argument in std::env::args().skip(1) {
            let (key, value) =
                argument.split_once('=').ok_or(format!("`{argument}` is not KEY=VALUE"))?;
            let number = || value.parse::<usize>().map_err(|_| format!("`{argument}`: no number"));
            match key {
                "set" | "sizes" | "arrivals" | "sla" | "load" => {
                    options.keep.push((key.into(), value.into()));
                }
                "seeds" => options.seeds = (number()? as u64).clamp(2, 100),
                "queries" => options.queries = number()?.clamp(1, 1_000_000),
                "all" => options.all = number()? != 0,
                _ => return Err(format!("`{key}` is no key; see the example's first lines")),
            }
        }
        Ok(options)
    }

    fn keeps(&self, key: &str, value: &str) -> bool {
        let mut asked = self.keep.iter().filter(|(name, _)| name == key).peekable();
        asked.peek().is_none() || asked.any(|(_, kept)| value.starts_with(kept.as_str()))
    }
}

/// One point of the grid.
struct Point<'g> {
    set: &'static str,
    profiles: &'g Profiles,
    sizes: Sizes,
    arrivals: &'static str,
    sla_ms: u64,
    load: f64,
    rate: f64,
}

/// What became of it.
struct Outcome {
    /// Ours over the best other policy's, and its standard error.
    ratio: f64,
    error: f64,
    of_bound: f64,
    /// The best other policy and ours, on the last seed.
    best: Report,
    ours: Report,
}

impl Point<'_> {
    fn trace(&self, options: &Options, seed: u64) -> Trace {
        let arrivals = match self.arrivals {
            "poisson" => Arrivals::Poisson { rate: self.rate },
            _ => Arrivals::Bursty { rate: self.rate, times: 3.0, share: 0.2, seconds: 0.2 },
        };
        let sla = Duration::from_millis(self.sla_ms);
        Trace::generate(&arrivals, &self.sizes, Until::Queries(options.queries), sla, seed)
            .expect("a trace")
    }

    fn run(&self, options: &Options) -> Outcome {
        let policies = PolicyName::all(self.profiles);
        let mut goodput = vec![Vec::new(); policies.len()];
        let mut bound = 0.0;
        let mut last = Vec::new();
        for seed in 0..options.seeds {
            let trace = self.trace(options, 7 + seed);
            let config = SimConfig { seed, ..SimConfig::default() };
            bound += oracle(self.profiles, &trace, &config).expect("a bound").expected_per_s;
            last.clear();
            for (policy, goodput) in policies.iter().zip(&mut goodput) {
                let report = simulate(self.profiles, policy, &trace, &config).expect("a report");
                goodput.push(report.correct_in_time_per_s);
                last.push(report);
            }
        }
        let sum = |values: &[f64]| values.iter().sum::<f64>();
        let ours = goodput.pop().expect("multi-path is the last of all policies");
        let best = (0..goodput.len())
            .max_by(|&a, &b| sum(&goodput[a]).total_cmp(&sum(&goodput[b])))
            .expect("there are other policies");
        let total = sum(&goodput[best]);
        // Where nobody answers anything in time, all are equal.
        let ratio = if total > 0.0 { sum(&ours) / total } else { 1.0 };
        let residuals = ours.iter().zip(&goodput[best]).map(|(ours, best)| ours - ratio * best);
        let squares: f64 = residuals.map(|residual| residual * residual).sum();
        let count = options.seeds as f64;
        let error = (squares * count / (count - 1.0)).sqrt() / total.max(1e-9);
        let of_bound = if bound > 0.0 { sum(&ours) / bound } else { 1.0 };
        let ours = last.pop().expect("multi-path is the last of all policies");
        Outcome { ratio, error, of_bound, best: last.swap_remove(best), ours }
    }

    fn print(&self, outcome: &Outcome) {
        let Outcome { ratio, error, of_bound, best, ours } = outcome;
        let flag = if outcome.fails() { "!!" } else { [" ", "!"][usize::from(*ratio < 1.0)] };
        println!(
            "{flag:<2} {:>4} {:<18} {:<7} sla {:>3} load {:<4} {ratio:>9.5} ± {error:.5} of the best, \
             {of_bound:.4} of the bound; {}",
            self.set,
            self.sizes.to_string(),
            self.arrivals,
            self.sla_ms,
            self.load,
            summary(ours)
        );
        if outcome.fails() {
            println!("{:>80} {}", "best:", summary(best));
        }
    }
}

/// What became of queries, and which paths answered them: all, and in time.
fn summary(report: &Report) -> String {
    let share = |count: u64| count as f64 / report.offered as f64;
    let answered = report.paths.iter().filter(|(_, path)| path.answered > 0);
    let mix = answered.map(|(name, path)| {
        format!("{name} {:.4} ({:.4})", share(path.answered), share(path.in_time))
    });
    format!(
        "{} in time {:.4} late {:.4} refused {:.4} failed {:.4} [{}]",
        report.policy,
        share(report.in_time),
        share(report.late),
        share(report.refused),
        share(report.failed),
        mix.collect::<Vec<_>>().join(", ")
    )
}

impl Outcome {
    fn fails(&self) -> bool {
        self.ratio < 1.0 - 2.0 * self.error - 1e-12
    }
}

fn grid<'g>(sets: &'g [(&'static str, Profiles)], options: &Options) -> Vec<Point<'g>> {
    let mut points = Vec::new();
    for &(set, ref profiles) in sets.iter().filter(|(set, _)| options.keeps("set", set)) {
        for text in SIZES.into_iter().filter(|text| options.keeps("sizes", text)) {
            let sizes: Sizes = text.parse().expect("a known form");
            // Load 1: what the table path on the CPU can carry at this mean size.
            let mean = sizes.samples(9).take(100_000).map(f64::from).sum::<f64>() / 1e5;
            let capacity = 2.0 / (mean * 10.16e-6);
            for arrivals in ARRIVALS.into_iter().filter(|text| options.keeps("arrivals", text)) {
                for sla_ms in SLAS_MS {
                    for load in LOADS {
                        // Numbers are compared whole.
                        let keeps = |key: &str, value: String| {
                            let mut asked = options.keep.iter().filter(|(name, _)| name == key);
                            let any = asked.clone().next().is_some();
                            !any || asked.any(|(_, kept)| *kept == value)
                        };
                        if keeps("sla", sla_ms.to_string()) && keeps("load", load.to_string()) {
                            let (sizes, rate) = (sizes.clone(), load * capacity);
                            let point =
                                Point { set, profiles, sizes, arrivals, sla_ms, load, rate };
                            points.push(point);
                        }
                    }
                }
            }
        }
    }
    points
}

/// Runs every point, on all cores.
fn run(points: &[Point<'_>], options: &Options) -> Vec<Outcome> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(point) = points.get(at) else { return done };
            done.push((at, point.run(options)));
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut outcomes: Vec<(usize, Outcome)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("no point panics")).collect()
    });
    outcomes.sort_by_key(|(at, _)| *at);
    outcomes.into_iter().map(|(_, outcome)| outcome).collect()
}

fn main() -> ExitCode {
    let options = match Options::read() {
        Ok(options) => options,
        Err(message) => {
            println!("{message}");
            return ExitCode::FAILURE;
        }
    };
    let sets = sets();
    let points = grid(&sets, &options);
    let outcomes = run(&points, &options);

    for (point, outcome) in points.iter().zip(&outcomes) {
        if options.all || outcome.ratio < 1.0 {
            point.print(outcome);
        }
    }
    let count = |keep: &dyn Fn(&Outcome) -> bool| outcomes.iter().filter(|at| keep(at)).count();
    let least = |of: fn(&Outcome) -> f64| outcomes.iter().map(of).fold(f64::INFINITY, f64::min);
    println!(
        "{} points: {} below the best other policy, {} of them by more than two standard errors; \
         {} below by over 0.001; worst ratio {:.5}",
        outcomes.len(),
        count(&|outcome| outcome.ratio < 1.0),
        count(&Outcome::fails),
        count(&|outcome| outcome.ratio < 0.999),
        least(|outcome| outcome.ratio)
    );
    println!(
        "of the bound: {} points below 0.95, least {:.4}; their ratio to the best other policy is \
         at least {:.4}",
        count(&|outcome| outcome.of_bound < 0.95),
        least(|outcome| outcome.of_bound),
        least(|outcome| if outcome.of_bound < 0.95 { outcome.ratio } else { f64::INFINITY })
    );
    ExitCode::SUCCESS
}
