//! `mprec profile`: how long each path takes, by batch size.

use std::{
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::ensure;
use clap::Args;
use mprec_backends::{BackendKind, Path, registry};
use mprec_representations::Bundle;
use mprec_router::Profiles;
use mprec_runtime::{
    config::{Declared, MAX_OPERATION_THREADS},
    paths::{Allowance, Loader, PathsError, ResidentPath, bring_up},
    profiler::{Machine, PROFILE_FORMAT, ProfileFile, ProfileOptions, measure},
};

use super::{
    Failure, InputError as _, Output, Run,
    inputs::{Inputs, check_cache, hot_ids, inputs},
    output::{self, Unit},
};

/// How long a path is measured unless a budget is stated.
const SECONDS_PER_PATH: f64 = 4.0;

#[derive(Debug, Args)]
pub(super) struct Profile {
    /// The bundle's folder.
    bundle: PathBuf,
    /// Paths to measure; default: every variant with a quality, on every backend that can be used here (`mprec backends`
    /// lists them), and a line on stderr for each path that its backend cannot run.
    #[arg(long, value_delimiter = ',')]
    paths: Vec<Path>,
    /// Of the default paths, only those on these backends, such as `cpu,onnx`.
    #[arg(long, value_delimiter = ',', conflicts_with = "paths")]
    backends: Vec<BackendKind>,
    /// A prepared folder whose held-out rows are the input; default: made-up rows.
    #[arg(long)]
    data: Option<PathBuf>,
    /// The file to write.
    #[arg(long, short, default_value = "profiles.json")]
    out: PathBuf,
    /// Worker threads that will serve; all run at once while measuring. Default: one per core.
    #[arg(long)]
    workers: Option<u32>,
    /// How long measuring may take, in seconds. Default: 4 for each path.
    #[arg(long)]
    seconds: Option<f64>,
    /// Copy tables to memory of their own first, as `serving.resident_tables` does.
    #[arg(long)]
    resident_tables: bool,
    /// Threads of one operation on `onnx` and `torch:cpu`, as `serving.operation_threads`. Serve with the same.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=i64::from(MAX_OPERATION_THREADS)))]
    operation_threads: u16,
    /// Memory of each worker's cache of vectors, for each path with a DHE; 0 is none. Serve with the same.
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    cache: usize,
}

impl Profile {
    pub(super) fn run(&self, output: &Output) -> Run {
        if self.seconds.is_some_and(|seconds| !(1.0..=3600.0).contains(&seconds)) {
            return Err(Failure::input(anyhow::anyhow!("--seconds must be 1 to 3600")));
        }
        let bundle = Bundle::open(&self.bundle).or_bad_input()?;
        check_cache(self.cache).map_err(Failure::input)?;
        let hot = hot_ids(&bundle, self.data.as_deref(), self.cache)?;
        let resident_tables = self.resident_tables;
        let allowance = Allowance {
            cache_bytes: self.cache,
            hot,
            resident_tables,
            threads: self.operation_threads,
            ..Allowance::default()
        };
        let resident = if self.paths.is_empty() {
            self.usable_paths(&bundle, &allowance, output)?
        } else {
            bring_up(&bundle, &self.paths, &Declared::default(), &allowance).or_bad_input()?
        };
        let inputs = inputs(&bundle, self.data.as_deref(), output)?;
        let seconds = self.seconds.unwrap_or(SECONDS_PER_PATH * resident.len() as f64);
        let budget = Duration::from_secs_f64(seconds);
        let options = ProfileOptions { budget, max_batch: None };
        let profiles = measure_with_bar(&resident, workers(self.workers), options, inputs, output)?;
        let file = profile_file(&bundle, profiles);
        file.save(&self.out)?;
        output.result(&file, || {
            format!(
                "{}\n{}\nwritten to {}",
                describe(&file.machine),
                speeds(&file.paths),
                self.out.display()
            )
        })
    }

    /// Every variant whose quality is known on every backend that can be used here. What a backend other than the native
    /// one cannot run is left out, and said.
    fn usable_paths(
        &self,
        bundle: &Bundle,
        allowance: &Allowance,
        output: &Output,
    ) -> Result<Vec<ResidentPath>, Failure> {
        let on_cpu = default_paths(bundle).or_bad_input()?;
        let declared = Declared::default();
        let mut loader = Loader::new(bundle, &declared, allowance);
        let mut resident = Vec::new();
        for backend in self.usable_backends()? {
            for path in &on_cpu {
                let path = Path::new(path.variant(), backend).or_bad_input()?;
                match loader.bring_up(&path) {
                    Ok(path) => resident.push(path),
                    Err(PathsError::Backend { source, .. }) if backend != BackendKind::Cpu => {
                        let error = anyhow::Error::from(source);
                        output.note(&format!("without `{path}`: {error:#}"));
                    }
                    Err(error) => return Err(error).or_bad_input(),
                }
            }
        }
        ensure_some(&resident).or_bad_input()?;
        Ok(resident)
    }

    /// The backends asked for, each of which must be usable; else all that are, but for the interpreter.
    fn usable_backends(&self) -> Result<Vec<BackendKind>, Failure> {
        for &backend in &self.backends {
            registry::open(backend).or_bad_input()?;
        }
        if !self.backends.is_empty() {
            return Ok(self.backends.clone());
        }
        let usable = registry::all().into_iter().filter(|found| found.state.is_ok());
        let usable = usable.map(|found| found.backend);
        Ok(usable.filter(|&backend| backend != BackendKind::Reference).collect())
    }
}

fn ensure_some(resident: &[ResidentPath]) -> anyhow::Result<()> {
    ensure!(
        !resident.is_empty(),
        "none of the backends can run a variant of the bundle; the lines above say why"
    );
    Ok(())
}

/// Every variant whose quality is known, on the native backend.
pub(super) fn default_paths(bundle: &Bundle) -> anyhow::Result<Vec<Path>> {
    let known = bundle.manifest().variants.iter().filter(|variant| variant.quality.is_some());
    let paths = known
        .map(|variant| Path::new(variant.name.clone(), BackendKind::Cpu))
        .collect::<Result<Vec<_>, _>>()?;
    ensure!(
        !paths.is_empty(),
        "no variant of the bundle has a quality; run `mprec train`, or name --paths"
    );
    Ok(paths)
}

/// Workers per device, given what was asked for: the CPU's, and one for any other.
pub(super) fn workers(asked: Option<u32>) -> impl Fn(&str) -> u32 + Copy {
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32);
    let cpu = asked.unwrap_or(cores);
    move |device| if device == mprec_runtime::paths::CPU { cpu } else { 1 }
}

pub(super) fn measure_with_bar(
    resident: &[ResidentPath],
    workers: impl Fn(&str) -> u32,
    options: ProfileOptions,
    mut inputs: Inputs,
    output: &Output,
) -> Result<Profiles, Failure> {
    let bar = output.bar("profiling", 0, Unit::Steps);
    let profiles = measure(resident, workers, options, &mut inputs, &mut |progress| {
        bar.set_length(progress.of as u64);
        bar.set_position(progress.done as u64);
        bar.set_message(format!("{}, batch {}", progress.path, progress.batch));
    })?;
    bar.finish_and_clear();
    Ok(profiles)
}

pub(super) fn profile_file(bundle: &Bundle, paths: Profiles) -> ProfileFile {
    ProfileFile {
        format: PROFILE_FORMAT,
        machine: Machine::here(),
        model: bundle.manifest().model.clone(),
        version: bundle.manifest().version.clone(),
        measured: true,
        measured_at_unix_seconds: SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .ok()
            .map(|time| time.as_secs()),
        paths,
    }
}

pub(super) fn describe(machine: &Machine) -> String {
    format!("{}, {} cores, {}", machine.cpu, machine.cores, output::bytes(machine.memory_bytes))
}

/// A table of service times, in microseconds.
pub(super) fn speeds(profiles: &Profiles) -> String {
    output::table(
        [
            "path",
            "accuracy",
            "memory",
            "batch 1, p50 µs",
            "batch 128, p50 µs",
            "p99 µs",
            "samples/s per worker",
        ],
        profiles.paths().iter().map(|path| {
            let at = |batch: u32| path.service.points().iter().find(|point| point.batch == batch);
            let p50 = |batch| at(batch).map_or("-".into(), |point| format!("{:.0}", point.p50_us));
            let best = path
                .service
                .points()
                .iter()
                .map(|point| f64::from(point.batch) / point.p50_us * 1e6)
                .fold(0.0, f64::max);
            [
                path.name.clone(),
                format!("{:.4} {}", path.accuracy, path.quality_source),
                output::bytes(path.bytes),
                p50(1),
                p50(128),
                at(128).map_or("-".into(), |point| format!("{:.0}", point.p99_us)),
                format!("{best:.0}"),
            ]
        }),
    )
}
