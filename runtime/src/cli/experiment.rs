//! `mprec experiment`: published experiments, as one command each.

use std::{fs, path::PathBuf, time::Instant};

use anyhow::{Context as _, anyhow};
use clap::{Args, Subcommand};
use mprec_representations::Bundle;
use mprec_runtime::{
    bench::Arch,
    experiment::{
        self, ExperimentError, ExperimentReport, Hardware, Plan, Quality, Setting, Verdict,
    },
    profiler::ProfileFile,
};
use serde::Serialize;

use super::{
    Failure, InputError as _, Output, Run,
    data::name_and_file,
    output::{self, Unit},
};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Simulate every policy on the machines of the MP-Rec paper, over loads, SLAs and query sizes.
    MpRec(MpRec),
}

impl Command {
    pub(super) fn run(&self, output: &Output) -> Run {
        match self {
            Self::MpRec(command) => command.run(output),
        }
    }
}

#[derive(Debug, Args)]
#[command(after_help = "\
Without --profiles, service times are modelled from the data sheets of the hardware file by a roofline, and called so. A device
for which a profile speaks is measured as a whole. Example:
  mprec experiment mp-rec --out report --profiles kaggle=profiles.json --bundle kaggle=model")]
pub(super) struct MpRec {
    /// Folder of `report.html` and `report.json`; made if it is not there.
    #[arg(long)]
    out: PathBuf,
    /// Devices and machines, instead of those of `runtime/hardware.example.toml`, which documents every key.
    #[arg(long)]
    hardware: Option<PathBuf>,
    /// Service times of a model, as `mprec profile` wrote them anywhere: `kaggle=FILE` or `terabyte=FILE`. May be given
    /// several times; the first file that has a device speaks for it.
    #[arg(long, value_name = "MODEL=FILE", value_parser = name_and_file)]
    profiles: Vec<(String, PathBuf)>,
    /// Adds the scenario of measured quality for a model, from a bundle's `table`, `table-int8`, `dhe` and `hybrid`:
    /// `kaggle=FOLDER` or `terabyte=FOLDER`.
    #[arg(long, value_name = "MODEL=FOLDER", value_parser = name_and_file)]
    bundle: Vec<(String, PathBuf)>,
    /// `kaggle` or `terabyte`; both if not given.
    #[arg(long)]
    model: Vec<String>,
    /// Machines of the hardware file by name; all of them if not given.
    #[arg(long)]
    machine: Vec<String>,
    /// Few and short loads: to see that everything works.
    #[arg(long)]
    quick: bool,
    /// Threads; all cores if not given. The result does not depend on it.
    #[arg(long)]
    threads: Option<usize>,
    /// Seed of traces and service times.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// What `--json` prints; the file has the rest.
#[derive(Serialize)]
struct Summary<'a> {
    simulated: bool,
    points: usize,
    seconds: f64,
    verdicts: &'a [Verdict],
    page: PathBuf,
    report: PathBuf,
}

impl MpRec {
    fn run(&self, output: &Output) -> Run {
        let (report, seconds) = self.make(output)?;
        let summary = Summary {
            simulated: true,
            points: report.points.len(),
            seconds,
            verdicts: &report.verdicts,
            page: self.page(),
            report: self.json(),
        };
        output.result(&summary, || text(&summary, &report))
    }

    fn page(&self) -> PathBuf {
        self.out.join("report.html")
    }

    fn json(&self) -> PathBuf {
        self.out.join("report.json")
    }

    /// Simulates, writes both files, and says how many seconds the simulations took.
    fn make(&self, output: &Output) -> Result<(ExperimentReport, f64), Failure> {
        let hardware = match &self.hardware {
            Some(file) => Hardware::load(file).or_bad_input()?,
            None => Hardware::example(),
        };
        let settings = self.settings(&hardware)?;
        for note in settings.iter().flat_map(|setting| &setting.notes) {
            output.note(note);
        }
        let plan = if self.quick { Plan::quick(self.seed) } else { Plan::full(self.seed) };
        let threads = match self.threads {
            Some(threads) if (1..=1024).contains(&threads) => threads,
            Some(_) => return Err(Failure::input(anyhow!("--threads must be 1 to 1024"))),
            None => std::thread::available_parallelism().map_or(1, usize::from),
        };
        // Before minutes of work rather than after them.
        fs::create_dir_all(&self.out)
            .with_context(|| format!("could not make `{}`", self.out.display()))
            .or_bad_input()?;
        let total = plan.cells(&settings).len();
        let bar = output.bar("simulating", total as u64, Unit::Points);
        let began = Instant::now();
        let points = experiment::run(&plan, &settings, threads, |done, _| {
            bar.set_position(done as u64);
        })?;
        bar.finish_and_clear();
        let seconds = began.elapsed().as_secs_f64();
        let report = ExperimentReport::new(&plan, &hardware, &settings, points);
        let write = |file: PathBuf, content: &[u8]| {
            fs::write(&file, content)
                .with_context(|| format!("could not write `{}`", file.display()))
        };
        write(self.page(), experiment::page::render(&report).as_bytes())?;
        write(self.json(), &serde_json::to_vec(&report)?)?;
        Ok((report, seconds))
    }

    /// Every model on every machine in every scenario that was asked for.
    fn settings(&self, hardware: &Hardware) -> Result<Vec<Setting>, Failure> {
        let archs = match self.model.as_slice() {
            [] => Arch::ALL.to_vec(),
            named => named.iter().map(|name| arch(name)).collect::<Result<_, _>>()?,
        };
        let machines = hardware.machines.iter().map(|machine| machine.name.as_str());
        for name in &self.machine {
            if !machines.clone().any(|machine| machine == name) {
                return Err(unknown("machine", name, machines.collect::<Vec<_>>().join(", ")));
            }
        }
        for (name, _) in self.profiles.iter().chain(&self.bundle) {
            if !archs.contains(&arch(name)?) {
                let error = anyhow!("there is a file for `{name}`, which --model leaves out");
                return Err(Failure::input(error));
            }
        }
        let mut settings = Vec::new();
        for &arch in &archs {
            let own = |given: &(String, PathBuf)| given.0 == arch.name();
            let files = self.profiles.iter().filter(|given| own(given));
            let files = files.map(|(_, file)| ProfileFile::load(file));
            let files = files.collect::<Result<Vec<_>, _>>().or_bad_input()?;
            let mut qualities = vec![Quality::declared(arch)];
            for (_, folder) in self.bundle.iter().filter(|given| own(given)) {
                let bundle = Bundle::open(folder).or_bad_input()?;
                qualities.push(Quality::measured(arch, bundle.manifest()).or_bad_input()?);
            }
            if qualities.len() > 2 {
                let error = anyhow!("--bundle is given twice for `{}`", arch.name());
                return Err(Failure::input(error));
            }
            for quality in &qualities {
                for machine in &hardware.machines {
                    if self.machine.is_empty() || self.machine.contains(&machine.name) {
                        let setting = Setting::new(hardware, machine, arch, quality, &files);
                        settings.push(setting.or_bad_input()?);
                    }
                }
            }
            let used = settings.iter().any(|setting| {
                let from = setting.candidates.iter();
                setting.arch == arch && from.clone().any(|candidate| candidate.profiled)
            });
            if !files.is_empty() && !used {
                return Err(Failure::input(ExperimentError::Useless {
                    what: "the profile",
                    model: arch.name().to_owned(),
                    reason: "no machine has a device in `measured_as` on which it has a path with a quality",
                }));
            }
        }
        Ok(settings)
    }
}

fn arch(name: &str) -> Result<Arch, Failure> {
    let known = Arch::ALL.map(Arch::name);
    let found = Arch::ALL.into_iter().find(|arch| arch.name() == name);
    found.ok_or_else(|| unknown("model", name, known.join(", ")))
}

fn unknown(what: &'static str, name: &str, known: String) -> Failure {
    Failure::input(ExperimentError::Unknown { what, name: name.to_owned(), known })
}

fn text(summary: &Summary<'_>, report: &ExperimentReport) -> String {
    let rows = summary.verdicts.iter().map(|verdict| {
        let share = |value: Option<f64>| value.map_or("-".into(), |value| format!("{value:.4}"));
        [
            verdict.scenario.word().to_owned(),
            verdict.points.to_string(),
            verdict.at_least_best.to_string(),
            share(verdict.worst_ratio),
            verdict.near_bound.to_string(),
            share(verdict.worst_of_bound),
        ]
    });
    let header = [
        "quality",
        "grid points",
        "ours ≥ best other",
        "least ratio",
        "ours ≥ 95 % of bound",
        "least share",
    ];
    let mut lines = vec![
        format!(
            "Simulated {} loads of {} queries each in {:.1} s. Every figure is simulated.",
            summary.points,
            output::count(report.queries as u64),
            summary.seconds
        ),
        output::table(header, rows),
    ];
    let failing: usize = summary.verdicts.iter().map(|verdict| verdict.failing.len()).sum();
    if failing > 0 {
        lines.push(format!(
            "{failing} points fail one or the other; the page lists them by how much."
        ));
    }
    lines.push(format!(
        "Page: {}\nAll numbers: {}",
        summary.page.display(),
        summary.report.display()
    ));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        command: MpRec,
    }

    fn command(out: &std::path::Path, arguments: &[&str]) -> MpRec {
        let out = out.to_str().unwrap();
        let line = ["x", "--out", out, "--quick", "--threads", "2"];
        Line::parse_from(line.iter().chain(arguments)).command
    }

    #[test]
    fn a_quick_experiment_writes_a_page_and_all_numbers() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("new").join("report");
        let command = command(&out, &["--model", "kaggle"]);
        let Ok((report, _)) = command.make(&Output::new(true, true)) else { panic!("it fails") };
        let json: serde_json::Value =
            serde_json::from_slice(&fs::read(command.json()).unwrap()).unwrap();
        assert_eq!(json, serde_json::to_value(&report).unwrap(), "the file holds every number");
        assert_eq!(json["points"].as_array().unwrap().len(), report.points.len());
        let page = fs::read_to_string(command.page()).unwrap();
        for machine in ["HW-1", "HW-2", "HW-3"] {
            assert!(page.contains(machine), "{machine}");
        }
        for outside in ["<script", "<link", "src=", "url(", "http"] {
            assert!(!page.contains(outside), "the page needs {outside}");
        }
    }

    #[test]
    fn wrong_arguments_are_refused_as_bad_input() {
        let folder = tempfile::tempdir().unwrap();
        for (arguments, expected) in [
            (&["--model", "criteo"][..], "kaggle, terabyte"),
            (&["--machine", "HW-9"], "HW-1, HW-2, HW-3"),
            (&["--profiles", "kaggle=/nowhere.json"], "/nowhere.json"),
            (&["--model", "terabyte", "--bundle", "kaggle=/nowhere"], "--model"),
            (&["--hardware", "/nowhere.toml"], "/nowhere.toml"),
        ] {
            let made = command(folder.path(), arguments).make(&Output::new(true, true));
            match made {
                Err(failure @ Failure::Input(_)) => {
                    let text = failure.to_string();
                    assert!(text.contains(expected), "{arguments:?}: {text}");
                }
                _ => panic!("{arguments:?} is not refused"),
            }
        }
    }
}
