//! `tune.toml`, and the flags that override it.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, anyhow, bail, ensure};
use mprec_backends::Path as BackendPath;
use mprec_router::{
    PolicyName,
    mapping::{Constraints, Effort, Objective},
};
use mprec_runtime::config::ByteSize;
use serde::{Deserialize, Serialize};

use super::super::simulate::LoadShape;

/// Largest file.
const MAX_BYTES: u64 = 1 << 20;

/// Every key; `None` where it is left out. `runtime/tune.example.toml` documents them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct TuneFile {
    pub(super) input: InputSection,
    pub(super) objective: ObjectiveSection,
    pub(super) constraints: ConstraintsSection,
    /// By device (`cpu`, `cuda:0`) or backend (`torch:cuda:0`).
    pub(super) budgets: BTreeMap<String, ByteSize>,
    pub(super) load: LoadSection,
    pub(super) search: SearchSection,
    pub(super) replay: ReplaySection,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct InputSection {
    pub(super) bundle: Option<PathBuf>,
    pub(super) profiles: Option<PathBuf>,
    pub(super) cache_bytes: Option<ByteSize>,
    pub(super) paths: Option<Vec<String>>,
    pub(super) data: Option<PathBuf>,
    pub(super) workers: Option<u32>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ObjectiveSection {
    pub(super) goal: Option<Objective>,
    pub(super) policy: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ConstraintsSection {
    pub(super) sla_ms: Option<f64>,
    pub(super) min_quality: Option<f64>,
    pub(super) min_accuracy: Option<f64>,
    pub(super) min_in_time: Option<f64>,
    pub(super) max_p99_ms: Option<f64>,
    pub(super) max_bytes: Option<ByteSize>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct LoadSection {
    pub(super) qps: Option<f64>,
    pub(super) arrivals: Option<String>,
    pub(super) sizes: Option<String>,
    pub(super) seconds: Option<f64>,
    pub(super) seed: Option<u64>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct SearchSection {
    pub(super) cache_sizes: Option<Vec<ByteSize>>,
    pub(super) batch_limits: Option<bool>,
    pub(super) evaluations: Option<usize>,
    pub(super) complete_up_to: Option<usize>,
    pub(super) threads: Option<usize>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ReplaySection {
    pub(super) seconds: Option<f64>,
}

impl TuneFile {
    /// Reads a file. Relative names of files in it are taken from its folder.
    pub(super) fn read(file: &Path) -> anyhow::Result<Self> {
        let handle =
            File::open(file).with_context(|| format!("cannot read `{}`", file.display()))?;
        let mut text = String::new();
        let read = handle.take(MAX_BYTES + 1).read_to_string(&mut text);
        let bytes = read.with_context(|| format!("cannot read `{}`", file.display()))?;
        ensure!(bytes as u64 <= MAX_BYTES, "`{}` is over {MAX_BYTES} bytes", file.display());
        let mut parsed = Self::parse(&text).with_context(|| format!("in `{}`", file.display()))?;
        let folder = file.parent().unwrap_or(Path::new(""));
        let input = &mut parsed.input;
        for path in [&mut input.bundle, &mut input.profiles, &mut input.data].into_iter().flatten()
        {
            *path = folder.join(&path);
        }
        Ok(parsed)
    }

    pub(super) fn parse(text: &str) -> anyhow::Result<Self> {
        toml::from_str(text).map_err(|error| {
            let start = error.span().map_or(0, |span| span.start.min(text.len()));
            let line = 1 + text.as_bytes()[..start].iter().filter(|&&byte| byte == b'\n').count();
            anyhow!("line {line}: {}", error.message())
        })
    }

    /// Fills in the defaults and proves the values that nothing else proves.
    pub(super) fn check(self) -> anyhow::Result<Settings> {
        let Self { input, objective, constraints, budgets, load, search, replay } = self;
        let source = match (input.bundle, input.profiles) {
            (bundle, Some(profiles)) => Source::Profiles { profiles, bundle },
            (Some(bundle), None) => Source::Bundle(bundle),
            (None, None) => bail!("there is nothing to tune: give --bundle or --profiles"),
        };
        let measured = matches!(source, Source::Bundle(_));
        ensure!(
            measured || search.cache_sizes.is_none(),
            "`search.cache_sizes` needs measuring: give a bundle and no profiles; `input.cache_bytes` says under which cache profiles were measured"
        );
        ensure!(
            !measured || input.cache_bytes.is_none(),
            "`input.cache_bytes` is about `input.profiles`; without them `search.cache_sizes` says what to measure"
        );
        let mut cache_sizes: Vec<u64> = match search.cache_sizes {
            Some(sizes) => sizes.iter().map(|size| size.0).collect(),
            None => vec![input.cache_bytes.map_or(0, |size| size.0)],
        };
        cache_sizes.sort_unstable();
        cache_sizes.dedup();
        ensure!((1..=8).contains(&cache_sizes.len()), "`search.cache_sizes` holds 1 to 8 sizes");
        let paths = input.paths.unwrap_or_default();
        let paths = paths
            .iter()
            .map(|path| {
                path.parse::<BackendPath>().with_context(|| format!("`input.paths`: {path}"))
            })
            .collect::<Result<Vec<_>, _>>()?;
        if let Some(workers) = input.workers {
            ensure!(
                measured,
                "`input.workers` is about measuring; the profiles say with how many workers they go"
            );
            within("input.workers", f64::from(workers), 1.0, f64::from(mprec_router::MAX_LANES))?;
        }
        let goal = objective.goal.unwrap_or_default();
        let policy = match objective.policy {
            Some(name) => name.parse()?,
            None => PolicyName::MultiPath,
        };
        let sla_ms = constraints.sla_ms.unwrap_or(10.0);
        within("constraints.sla_ms", sla_ms, 0.1, 3_600_000.0)?;
        let least = matches!(goal, Objective::Accuracy | Objective::Bytes).then_some(MIN_IN_TIME);
        let wanted = Constraints {
            min_quality: constraints.min_quality,
            min_accuracy: constraints.min_accuracy,
            min_in_time: constraints.min_in_time.or(least),
            max_p99_ms: constraints.max_p99_ms,
            max_bytes: constraints.max_bytes.map(|size| size.0),
        };
        let load = LoadShape {
            qps: load.qps.unwrap_or(1_000.0),
            arrivals: load.arrivals.unwrap_or_else(|| "poisson".to_owned()),
            sizes: load.sizes.unwrap_or_else(|| "lognormal:4.6,0.6".to_owned()),
            seconds: load.seconds.unwrap_or(10.0),
            sla_ms,
            seed: load.seed.unwrap_or(1),
        };
        within("load.seconds", load.seconds, 0.1, 86_400.0)?;
        let usual = Effort::default();
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let effort = Effort {
            evaluations: search.evaluations.unwrap_or(usual.evaluations),
            complete_up_to: search.complete_up_to.unwrap_or(usual.complete_up_to),
            threads: search.threads.unwrap_or(cores),
        };
        within("search.evaluations", effort.evaluations as f64, 1.0, 1e6)?;
        within("search.complete_up_to", effort.complete_up_to as f64, 0.0, 1e6)?;
        within("search.threads", effort.threads as f64, 1.0, 256.0)?;
        let replay_seconds = replay.seconds.unwrap_or(10.0);
        within("replay.seconds", replay_seconds, 0.0, 600.0)?;
        Ok(Settings {
            source,
            paths,
            data: input.data,
            workers: input.workers,
            goal,
            policy,
            constraints: wanted,
            budgets: budgets.into_iter().map(|(device, size)| (device, size.0)).collect(),
            load,
            cache_sizes,
            batch_limits: search.batch_limits.unwrap_or(true),
            effort,
            replay: (replay_seconds > 0.0).then(|| Duration::from_secs_f64(replay_seconds)),
        })
    }
}

/// A set that answers little is accurate and small; without saying more, nearly all is to be answered.
const MIN_IN_TIME: f64 = 0.99;

fn within(key: &str, value: f64, least: f64, most: f64) -> anyhow::Result<()> {
    ensure!(value >= least && value <= most, "`{key}` is {value}; it must be {least} to {most}");
    Ok(())
}

/// Where speeds come from.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Source {
    /// They are measured now.
    Bundle(PathBuf),
    /// From a file; the bundle, if given, is for the replay and the config.
    Profiles { profiles: PathBuf, bundle: Option<PathBuf> },
}

impl Source {
    pub(super) fn bundle(&self) -> Option<&Path> {
        match self {
            Self::Bundle(bundle) => Some(bundle),
            Self::Profiles { bundle, .. } => bundle.as_deref(),
        }
    }
}

/// What was asked for, with defaults filled in.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) source: Source,
    /// The paths to choose from; empty is all.
    pub(super) paths: Vec<BackendPath>,
    pub(super) data: Option<PathBuf>,
    pub(super) workers: Option<u32>,
    pub(super) goal: Objective,
    pub(super) policy: PolicyName,
    pub(super) constraints: Constraints,
    /// By device or backend, as written.
    pub(super) budgets: BTreeMap<String, u64>,
    pub(super) load: LoadShape,
    /// Sorted, each once, at least one.
    pub(super) cache_sizes: Vec<u64>,
    pub(super) batch_limits: bool,
    pub(super) effort: Effort,
    /// For how long the winner is served; `None` is not at all.
    pub(super) replay: Option<Duration>,
}
