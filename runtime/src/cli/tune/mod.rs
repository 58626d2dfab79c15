//! `mprec tune`: which paths to keep resident, from byte budgets, a load, an objective and constraints.
//!
//! 1. **Candidates**: the paths of a profile file, or those of a bundle, measured now; each at a few
//!    batch limits, and paths with a DHE at a few cache sizes where those are asked for.
//! 2. **Search** ([`mprec_router::mapping`]): sets of them, judged by simulation.
//! 3. **Write** a serving config with the reason for every choice, and the profiles that go with it.
//! 4. **Replay**: the config is served, with the load on it, and what it came to said beside the
//!    simulation. Without a bundle there is nothing to serve, and that is said.

mod candidates;
mod file;
mod replay;
mod report;
#[cfg(test)]
mod tests;
mod written;

use std::{
    ffi::OsString,
    fs,
    io::{ErrorKind, Read as _},
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, anyhow, ensure};
use clap::Args;
use mprec_representations::Bundle;
use mprec_router::{
    Profiles, RouterConfig,
    mapping::{Effort, Explanation, Found, MappingError, Objective, Problem, explain, search},
    sim::SimConfig,
};
use mprec_runtime::{
    config::{ByteSize, ByteSizeError},
    profiler::ProfileFile,
};

use self::{
    candidates::{Candidates, by_device},
    file::{Settings, Source, TuneFile},
    replay::{Replay, replay},
    report::{Origin, Report},
    written::{Chosen, HEADER},
};
use super::{Failure, InputError as _, Output, Run, output::Unit, profile};

#[derive(Debug, Args)]
#[command(after_help = "\
Flags override the config file, whose keys `runtime/tune.example.toml` documents. Start the result with
`mprec serve --config serve.toml`.")]
pub(super) struct Tune {
    /// A TOML file of objective, constraints, budgets and load.
    #[arg(long)]
    config: Option<PathBuf>,
    /// The bundle's folder: measured if there are no --profiles, served to verify the winner.
    #[arg(long)]
    bundle: Option<PathBuf>,
    /// Profiles that `mprec profile` wrote, here or elsewhere: nothing is measured.
    #[arg(long)]
    profiles: Option<PathBuf>,
    /// Paths to choose from; default: all.
    #[arg(long, value_delimiter = ',')]
    paths: Vec<String>,
    /// A prepared folder whose rows are measured and replayed with; default: made-up rows.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Worker threads of the CPU that will serve; default: one per core.
    #[arg(long)]
    workers: Option<u32>,
    /// The most bytes of all paths on a device, as `cpu=32GiB` or `torch:cuda:0=32GiB`. Once for each device.
    #[arg(long, value_name = "DEVICE=SIZE", value_parser = budget)]
    budget: Vec<(String, ByteSize)>,
    /// `sla_goodput` (correct predictions in time per second), `throughput` (samples in time per second), `accuracy` or
    /// `bytes`.
    #[arg(long)]
    objective: Option<Objective>,
    /// The policy that routes: `multi-path`, `mp-rec` or `fastest`.
    #[arg(long)]
    policy: Option<String>,
    /// Time from a query's arrival to its deadline.
    #[arg(long)]
    sla_ms: Option<f64>,
    /// The least accuracy of every path.
    #[arg(long)]
    min_quality: Option<f64>,
    /// The least mean accuracy of what is answered.
    #[arg(long)]
    min_accuracy: Option<f64>,
    /// The least share of the samples that is answered in time; 0.99 for the objectives `accuracy` and `bytes`.
    #[arg(long)]
    min_in_time: Option<f64>,
    /// The most that the 99th percentile of latency may be.
    #[arg(long)]
    max_p99_ms: Option<f64>,
    /// The most bytes of all paths together.
    #[arg(long)]
    max_bytes: Option<ByteSize>,
    /// Queries per second; default: 1000.
    #[arg(long)]
    qps: Option<f64>,
    /// When queries come, as `mprec simulate` takes it; default: `poisson`.
    #[arg(long)]
    arrivals: Option<String>,
    /// Samples per query, as `mprec simulate` takes it; default: `lognormal:4.6,0.6`.
    #[arg(long)]
    sizes: Option<String>,
    /// Length of the load that sets are simulated on; default: 10.
    #[arg(long)]
    seconds: Option<f64>,
    /// Seed of arrivals, sizes and service times.
    #[arg(long)]
    seed: Option<u64>,
    /// With a bundle: cache sizes to try for paths with a DHE, such as `0,64MiB`; default: no cache.
    #[arg(long, value_delimiter = ',', value_name = "SIZES")]
    cache_sizes: Vec<ByteSize>,
    /// Whether to try batch limits other than the usual one.
    #[arg(long, value_name = "true|false")]
    batch_limits: Option<bool>,
    /// The most sets to simulate; default: 16384.
    #[arg(long)]
    evaluations: Option<usize>,
    /// For how long the winner is served to verify it; 0 is not at all. Default: 10.
    #[arg(long)]
    replay_seconds: Option<f64>,
    /// The serving config to write. Its profiles go beside it.
    #[arg(long, short, default_value = "serve.toml")]
    out: PathBuf,
    /// Overwrite a config that `mprec tune` did not write.
    #[arg(long)]
    force: bool,
}

fn budget(text: &str) -> Result<(String, ByteSize), String> {
    let (device, size) = text.rsplit_once('=').ok_or("write DEVICE=SIZE, such as `cpu=32GiB`")?;
    Ok((device.to_owned(), size.parse().map_err(|error: ByteSizeError| error.to_string())?))
}

impl Tune {
    pub(super) fn run(&self, output: &Output) -> Run {
        let report = self.tuned(output)?;
        output.result(&report, || report.text())
    }

    /// Everything but printing the result.
    fn tuned(&self, output: &Output) -> Result<Report, Failure> {
        let settings = self.settings().or_bad_input()?;
        self.check_out(&settings.source).or_bad_input()?;
        // Opened before anything slow, so that a wrong folder is said at once.
        let bundle = settings.source.bundle().map(Bundle::open).transpose().or_bad_input()?;
        let trace = settings.load.trace(None)?;
        let candidates = Candidates::gather(&settings, output)?;
        if let Some(bundle) = &bundle {
            let (found, expected) = (&candidates.origin.model, &bundle.manifest().model);
            if found != expected {
                return Err(Failure::input(anyhow!(
                    "the profiles are of model `{found}`, the bundle is `{expected}`"
                )));
            }
        }
        let problem = Problem {
            budgets: by_device(&settings.budgets, &candidates.all).or_bad_input()?,
            candidates: candidates.all,
            constraints: settings.constraints,
            objective: settings.goal,
            policy: settings.policy.clone(),
            trace,
            sim: SimConfig {
                seed: settings.load.seed,
                router: RouterConfig::default(),
                ..SimConfig::default()
            },
        };
        let found = search_with_bar(&problem, &settings.effort, output)?;
        let explanations = explain(&problem, &found.winner, settings.effort.threads)?;
        let result = Tuned {
            settings: &settings,
            problem: &problem,
            found: &found,
            explanations: &explanations,
            origin: &candidates.origin,
            cache_bytes: candidates.cache_bytes,
        };
        result.write(&self.out, "Not replayed yet.")?;
        let replayed = match (&bundle, settings.replay) {
            (None, _) => Err("no bundle was given, so there is nothing to serve".to_owned()),
            (_, None) => Err("replay.seconds is 0".to_owned()),
            (Some(_), Some(limit)) => {
                let data = settings.data.as_deref();
                let winner = (&problem, &found.winner);
                let replayed = replay(&self.out, data, winner, limit, output);
                Ok(replayed.map_err(|failure| explained(failure, &self.out))?)
            }
        };
        let told = match &replayed {
            Ok(replay) => replay.sentence(),
            Err(reason) => format!("Not replayed: {reason}."),
        };
        result.write(&self.out, &told)?;
        Ok(Report::new(&problem, &found, replayed, result.origin(&self.out)))
    }

    /// The file's keys, and the flags in their place.
    fn settings(&self) -> anyhow::Result<Settings> {
        fn set<T: Clone>(key: &mut Option<T>, flag: &Option<T>) {
            if flag.is_some() {
                key.clone_from(flag);
            }
        }
        fn list<T: Clone>(key: &mut Option<Vec<T>>, flag: &[T]) {
            if !flag.is_empty() {
                *key = Some(flag.to_vec());
            }
        }
        let mut file = match &self.config {
            Some(path) => TuneFile::read(path)?,
            None => TuneFile::default(),
        };
        set(&mut file.input.bundle, &self.bundle);
        set(&mut file.input.profiles, &self.profiles);
        list(&mut file.input.paths, &self.paths);
        set(&mut file.input.data, &self.data);
        set(&mut file.input.workers, &self.workers);
        file.budgets.extend(self.budget.iter().cloned());
        set(&mut file.objective.goal, &self.objective);
        set(&mut file.objective.policy, &self.policy);
        let constraints = &mut file.constraints;
        set(&mut constraints.sla_ms, &self.sla_ms);
        set(&mut constraints.min_quality, &self.min_quality);
        set(&mut constraints.min_accuracy, &self.min_accuracy);
        set(&mut constraints.min_in_time, &self.min_in_time);
        set(&mut constraints.max_p99_ms, &self.max_p99_ms);
        set(&mut constraints.max_bytes, &self.max_bytes);
        let load = &mut file.load;
        set(&mut load.qps, &self.qps);
        set(&mut load.arrivals, &self.arrivals);
        set(&mut load.sizes, &self.sizes);
        set(&mut load.seconds, &self.seconds);
        set(&mut load.seed, &self.seed);
        list(&mut file.search.cache_sizes, &self.cache_sizes);
        set(&mut file.search.batch_limits, &self.batch_limits);
        set(&mut file.search.evaluations, &self.evaluations);
        set(&mut file.replay.seconds, &self.replay_seconds);
        file.check()
    }

    /// Files of somebody's own are not overwritten, and that is found out before the work.
    fn check_out(&self, source: &Source) -> anyhow::Result<()> {
        let out = self.out.display();
        let mut start = Vec::new();
        match fs::File::open(&self.out) {
            Ok(file) => {
                let length = HEADER.len() as u64;
                file.take(length)
                    .read_to_end(&mut start)
                    .with_context(|| format!("cannot read `{out}`"))?;
            }
            Err(error) if error.kind() == ErrorKind::NotFound => start.extend(HEADER.bytes()),
            Err(error) => return Err(error).with_context(|| format!("cannot read `{out}`")),
        }
        ensure!(
            self.force || start == HEADER.as_bytes(),
            "`{out}` was not written by `mprec tune`; name another file with --out, or add --force"
        );
        let written = fs::canonicalize(profiles_of(&self.out)).ok();
        if let Source::Profiles { profiles, .. } = source {
            ensure!(
                written.is_none() || written != fs::canonicalize(profiles).ok(),
                "the profiles of the result would take the place of those given; name another file with --out"
            );
        }
        Ok(())
    }
}

/// The result of a search, to be written.
struct Tuned<'t> {
    settings: &'t Settings,
    problem: &'t Problem,
    found: &'t Found,
    explanations: &'t [Explanation],
    origin: &'t ProfileFile,
    cache_bytes: u64,
}

impl Tuned<'_> {
    /// Writes the profiles and then the config, which names them.
    fn write(&self, out: &Path, replay: &str) -> anyhow::Result<()> {
        let chosen: Vec<_> =
            self.found.winner.candidates.iter().map(|&at| &self.problem.candidates[at]).collect();
        let paths = Profiles::new(chosen.iter().map(|one| one.profile.clone()).collect())?;
        let file = profiles_of(out);
        ProfileFile { paths, ..self.origin.clone() }.save(&file)?;
        let cache = chosen.iter().find_map(|one| one.cache_bytes).unwrap_or(self.cache_bytes);
        let bundle = self.settings.source.bundle().map(fs::canonicalize).transpose()?;
        let name = file.file_name().unwrap_or(file.as_os_str()).to_string_lossy().into_owned();
        let text = Chosen {
            settings: self.settings,
            problem: self.problem,
            found: self.found,
            explanations: self.explanations,
            model: &self.origin.model,
            version: &self.origin.version,
            machine: &self.machine(),
            bundle: bundle.as_deref(),
            profiles: &name,
            cache_bytes: cache,
            replay,
        }
        .text()?;
        fs::write(out, text).with_context(|| format!("cannot write `{}`", out.display()))
    }

    fn machine(&self) -> String {
        let how = if self.origin.measured { "measured" } else { "modelled" };
        format!("{how} on {}", profile::describe(&self.origin.machine))
    }

    fn origin(&self, out: &Path) -> Origin {
        Origin {
            model: self.origin.model.clone(),
            version: self.origin.version.clone(),
            machine: self.machine(),
            sla_ms: self.settings.load.sla_ms,
            config: out.to_owned(),
            profiles: profiles_of(out),
        }
    }
}

/// Where the profiles of a config go: `serve.profiles.json` beside `serve.toml`.
fn profiles_of(config: &Path) -> PathBuf {
    let mut name = config.file_stem().map_or_else(|| OsString::from("serve"), OsString::from);
    name.push(".profiles.json");
    config.with_file_name(name)
}

/// Says what is there although the replay failed.
fn explained(failure: Failure, out: &Path) -> Failure {
    let add = |error: anyhow::Error| {
        error.context(format!(
            "`{}` is written, but serving it to verify it failed (--replay-seconds 0 leaves that out)",
            out.display()
        ))
    };
    match failure {
        Failure::Input(error) => Failure::Input(add(error)),
        Failure::Other(error) => Failure::Other(add(error)),
    }
}

fn search_with_bar(problem: &Problem, effort: &Effort, output: &Output) -> Result<Found, Failure> {
    let bar = output.bar("simulating", 0, Unit::Sets);
    let found = search(problem, effort, &mut |progress| {
        bar.set_length(progress.at_most as u64);
        bar.set_position(progress.evaluations as u64);
        if progress.diagnosing {
            bar.set_message("no set meets the constraints; looking for what can be met");
        } else if let Some(best) = progress.best {
            bar.set_message(format!("best {}", report::figure(best)));
        }
        ControlFlow::Continue(())
    });
    bar.finish_and_clear();
    found.map_err(|error| match error {
        MappingError::Infeasible(_)
        | MappingError::Value { .. }
        | MappingError::Device { .. }
        | MappingError::TooMany { .. } => Failure::input(error),
        _ => error.into(),
    })
}
