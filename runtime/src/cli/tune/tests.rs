use std::{fs, path::Path};

use clap::Parser as _;
use mprec_router::{PathProfile, Profiles, QualitySource, ServiceCurve};
use mprec_runtime::{
    config::ConfigFile,
    profiler::{Machine, PROFILE_FORMAT, ProfileFile},
};
use serde_json::Value;

use super::{
    super::{Arguments, Command, Failure, Output},
    candidates::by_device,
    *,
};

const EXAMPLE: &str = include_str!("../../../tune.example.toml");

fn path(name: &str, accuracy: f64, bytes: u64, scale: f64) -> PathProfile {
    let medians = [(1, 40.0), (8, 120.0), (128, 1300.0), (512, 5200.0)];
    let medians = medians.map(|(batch, us)| (batch, us * scale));
    PathProfile {
        name: name.into(),
        variant: name.split('@').next().unwrap().into(),
        device: if name.ends_with("cuda:0") { "cuda:0" } else { "cpu" }.into(),
        lanes: if name.ends_with("cuda:0") { 1 } else { 2 },
        accuracy,
        quality_source: QualitySource::Measured,
        bytes,
        max_batch: None,
        service: ServiceCurve::from_medians(&medians, 1.1, 1.25).unwrap(),
    }
}

/// Profiles of a machine with a GPU, in `profiles.json`.
fn profiled(folder: &Path) {
    let declared = QualitySource::Declared("a \"paper\",\nread once".into());
    let paths = vec![
        path("hash@cpu", 0.786, 100 << 20, 0.7),
        path("table@cpu", 0.790, 2 << 30, 1.0),
        path("table@torch:cuda:0", 0.790, 2 << 30, 0.4),
        PathProfile { quality_source: declared, ..path("dhe@torch:cuda:0", 0.792, 50 << 20, 1.2) },
    ];
    let file = ProfileFile {
        format: PROFILE_FORMAT,
        machine: Machine { cpu: "a CPU".into(), cores: 2, memory_bytes: 8 << 30 },
        model: "made-up".into(),
        version: "7".into(),
        measured: false,
        measured_at_unix_seconds: None,
        paths: Profiles::new(paths).unwrap(),
    };
    file.save(&folder.join("profiles.json")).unwrap();
}

/// `mprec tune` with these arguments, in a folder with profiles.
fn tune(folder: &Path, arguments: &[&str]) -> Result<Report, Failure> {
    let (profiles, out) = (folder.join("profiles.json"), folder.join("serve.toml"));
    let line = ["mprec", "tune", "--seconds", "1", "--out"].into_iter().map(OsString::from);
    let mut line: Vec<OsString> = line.chain([out.into()]).collect();
    if !arguments.contains(&"--profiles") {
        line.extend(["--profiles".into(), profiles.into()]);
    }
    line.extend(arguments.iter().map(OsString::from));
    let Command::Tune(command) = Arguments::try_parse_from(line).unwrap().command else {
        panic!("not the command")
    };
    command.tuned(&Output::new(true, true))
}

fn refusal(folder: &Path, arguments: &[&str]) -> String {
    match tune(folder, arguments) {
        Err(Failure::Input(error)) => format!("{error:#}"),
        Err(other) => panic!("not about the input: {other}"),
        Ok(report) => panic!("{}", report.text()),
    }
}

/// The example with every key that it shows commented out put in force.
fn uncommented() -> String {
    let is_key = |line: &str| {
        let key = line.split(" = ").next().unwrap_or_default();
        let letters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_:\"".contains(c);
        line.contains(" = ") && key.chars().all(letters)
    };
    let lines = EXAMPLE.lines().map(|line| match line.strip_prefix("# ") {
        Some(rest) if is_key(rest) => rest,
        _ => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn missing(at: &str, value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Null => found.push(at.to_owned()),
        Value::Object(fields) => {
            assert!(!fields.is_empty(), "`{at}` shows no entry");
            fields.iter().for_each(|(key, value)| missing(&format!("{at}.{key}"), value, found));
        }
        _ => {}
    }
}

#[test]
fn the_example_shows_every_key() {
    let file = TuneFile::parse(&uncommented()).unwrap();
    let mut absent = Vec::new();
    missing("", &serde_json::to_value(&file).unwrap(), &mut absent);
    assert!(absent.is_empty(), "not in the example: {absent:?}");
    assert_eq!(file.budgets["torch:cuda:0"], ByteSize(32 << 30));
    assert_eq!(file.search.cache_sizes, Some(vec![ByteSize(0), ByteSize(64 << 20)]));
}

#[test]
fn the_example_states_the_defaults() {
    let shown = |text| format!("{:?}", TuneFile::parse(text).unwrap().check().unwrap());
    assert_eq!(shown(EXAMPLE), shown("input.bundle = \"model\""));
}

#[test]
fn wrong_keys_and_values_are_refused_with_what_to_write() {
    let refusal = |text: &str| {
        let checked = TuneFile::parse(text).and_then(TuneFile::check);
        format!("{:#}", checked.err().unwrap())
    };
    let cases = [
        ("[objective]\nmaximise = \"fun\"", "line 2: unknown field `maximise`"),
        ("[budgets]\ncpu = \"32 gigs\"", "`32 gigs` is no amount of memory"),
        ("[budgets]\ncpu = -1", "bytes, or a text such as \"32GiB\""),
        ("objective.goal = \"fun\"", "unknown variant `fun`"),
        ("", "give --bundle or --profiles"),
        (
            "input.bundle = \"m\"\nconstraints.sla_ms = 0.0",
            "`constraints.sla_ms` is 0; it must be 0.1 to",
        ),
        ("input.bundle = \"m\"\nload.seconds = 1e9", "`load.seconds` is 1000000000"),
        ("input.bundle = \"m\"\ninput.paths = [\"table\"]", "`input.paths`: table"),
        (
            "input.profiles = \"p\"\nsearch.cache_sizes = [1]",
            "`search.cache_sizes` needs measuring",
        ),
        (
            "input.bundle = \"m\"\ninput.cache_bytes = 1",
            "`search.cache_sizes` says what to measure",
        ),
        ("input.profiles = \"p\"\ninput.workers = 2", "`input.workers` is about measuring"),
        ("input.bundle = \"m\"\nreplay.seconds = nan", "`replay.seconds` is NaN"),
        ("input.bundle = \"m\"\nsearch.evaluations = 0", "`search.evaluations` is 0"),
        ("input.bundle = \"m\"\nobjective.policy = \"best\"", "there is no policy `best`"),
    ];
    for (text, expected) in cases {
        let message = refusal(text);
        assert!(message.contains(expected), "{text}: {message}");
    }
}

#[test]
fn a_profile_file_alone_becomes_a_config_that_can_be_served() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    profiled(folder);
    let arguments = ["--qps", "3000", "--budget", "cpu=1GiB", "--budget", "torch:cuda:0=3GB"];
    let report = tune(folder, &arguments).unwrap().text();
    assert!(report.contains("Pareto set of all sets"), "{report}");
    assert!(report.contains("hash@cpu ("), "the paths, with their batch limits: {report}");

    let text = fs::read_to_string(folder.join("serve.toml")).unwrap();
    let config = ConfigFile::read(&folder.join("serve.toml")).unwrap().check().unwrap();
    let paths = &config.serving().paths;
    assert!(!paths.contains(&"table@cpu".to_owned()), "beyond the budget: {text}");
    assert!(paths.len() >= 2, "no path alone carries this load: {text}");
    assert_eq!(config.serving().workers, Some(2));
    let profiles = ProfileFile::load(config.profile().file.as_deref().unwrap()).unwrap();
    let names: Vec<&str> = profiles.paths.paths().iter().map(|path| path.name.as_str()).collect();
    assert_eq!(names, paths.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(profiles.paths.paths().iter().all(|path| path.max_batch.is_some()));
    assert_eq!((profiles.model.as_str(), profiles.measured), ("made-up", false));
    // Every choice has its reason.
    for path in paths {
        let at = text.lines().position(|line| line.contains(&format!("  \"{path}\","))).unwrap();
        let reasons: Vec<&str> = text.lines().skip(at - 3).take(3).collect();
        assert!(reasons[0].contains("# Accuracy 0.7"), "{reasons:?}");
        assert!(
            reasons[1].contains("# With it") && reasons[1].contains("without it"),
            "{reasons:?}"
        );
        assert!(reasons[2].contains("# Batches of several queries hold at most"), "{reasons:?}");
    }
    assert!(text.contains("of 1.00 GiB ("), "{text}");
    assert!(text.contains("Not replayed: no bundle was given"), "{text}");
    assert!(text.contains("modelled on a CPU"), "{text}");

    // Again, and the result may take the place of the first, but not of a config of somebody's own.
    tune(folder, &["--objective", "bytes", "--qps", "100"]).unwrap();
    let config = ConfigFile::read(&folder.join("serve.toml")).unwrap().check().unwrap();
    assert_eq!(config.serving().paths, ["dhe@torch:cuda:0"], "the smallest that is in time");
    let declared = &config.declared().quality["dhe@torch:cuda:0"];
    assert_eq!(declared.source, "a \"paper\",\nread once");
    fs::write(folder.join("serve.toml"), "# mine\n").unwrap();
    let message = refusal(folder, &["--qps", "100"]);
    assert!(message.contains("was not written by `mprec tune`"), "{message}");
    tune(folder, &["--qps", "100", "--force"]).unwrap();
    let mine = folder.join("serve.profiles.json");
    let message = refusal(folder, &["--profiles", mine.to_str().unwrap()]);
    assert!(message.contains("would take the place of those given"), "{message}");
}

#[test]
fn what_cannot_be_met_is_said_with_what_can() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    profiled(folder);
    let message = refusal(folder, &["--min-quality", "0.8"]);
    assert!(
        message.contains("`min_quality` = 0.8, where 0.792 is the nearest (dhe@torch:cuda:0)"),
        "{message}"
    );
    let message = refusal(folder, &["--budget", "tpu=1GiB"]);
    assert!(message.contains("`tpu`") && message.contains("paths run on cpu, cuda:0"), "{message}");
    let message = refusal(folder, &["--policy", "static:hash@cpu"]);
    assert!(message.contains("chooses among paths"), "{message}");
    let message = refusal(folder, &["--paths", "hybrid@cpu"]);
    assert!(message.contains("the profiles have no path `hybrid@cpu`"), "{message}");
    assert!(!folder.join("serve.toml").exists());
}

#[test]
fn flags_go_before_keys() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    profiled(folder);
    let file = folder.join("tune.toml");
    fs::write(&file, "[load]\nqps = 100.0\n[constraints]\nsla_ms = 25.0\n[budgets]\ncpu = 0\n")
        .unwrap();
    tune(folder, &["--config", file.to_str().unwrap(), "--sla-ms", "12.5"]).unwrap();
    let config = ConfigFile::read(&folder.join("serve.toml")).unwrap().check().unwrap();
    assert_eq!(config.constraints().sla.as_micros(), 12_500);
    assert!(config.serving().paths.iter().all(|path| path.ends_with("cuda:0")));
}

#[test]
fn budgets_go_by_device_or_by_backend() {
    let candidate = |name| mprec_router::mapping::Candidate {
        profile: path(name, 0.79, 1, 1.0),
        cache_bytes: None,
    };
    let candidates = [candidate("a@cpu"), candidate("a@torch:cuda:0")];
    let budgets = |written: &[(&str, u64)]| {
        by_device(&written.iter().map(|&(name, bytes)| (name.into(), bytes)).collect(), &candidates)
    };
    let both = budgets(&[("torch:cuda:0", 5), ("onnx", 7)]).unwrap();
    assert_eq!((both["cuda:0"], both["cpu"]), (5, 7));
    assert!(budgets(&[("cuda:0", 5), ("torch:cuda:0", 5)]).is_ok());
    assert!(budgets(&[("cuda:0", 5), ("torch:cuda:0", 6)]).is_err());
    assert!(budgets(&[("torch:cuda:1", 5)]).is_err());
}
