//! The configuration as written.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
    fs::File,
    io::Read,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use mprec_backends::Path as BackendPath;
use mprec_representations::{batch::MAX_IDS, bundle::is_name};
use mprec_router::PolicyName;
use serde::{Deserialize, Serialize};

use super::{
    Config, ConfigError, Constraints, DeclaredQuality, ModelConfig, ProfileConfig, QueueLimits,
    ServerConfig, Serving, default,
};

/// Largest configuration file.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Every key of the file; `None` where it is left out.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConfigFile {
    /// `[model]`
    pub model: ModelFile,
    /// `[server]`
    pub server: ServerFile,
    /// `[objective]`
    pub objective: ObjectiveFile,
    /// `[constraints]`
    pub constraints: ConstraintsFile,
    /// `[serving]`
    pub serving: ServingFile,
    /// `[queue]`
    pub queue: QueueFile,
    /// `[profile]`
    pub profile: ProfileSection,
    /// `[quality."variant@backend"]` or `[quality.variant]`
    pub quality: BTreeMap<String, QualityFile>,
    /// `[shutdown]`
    pub shutdown: ShutdownFile,
    /// `[log]`
    pub log: LogFile,
}

/// `[model]`: what is served.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelFile {
    /// The bundle's folder.
    pub bundle: Option<PathBuf>,
    /// The name in URLs.
    pub name: Option<String>,
}

/// `[server]`: the endpoint.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerFile {
    /// Address and port of HTTP.
    pub listen: Option<String>,
    /// Largest request body.
    pub max_body_bytes: Option<usize>,
    /// Most samples in one request.
    pub max_samples: Option<usize>,
}

/// `[objective]`: what is maximised, and how.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ObjectiveFile {
    /// How a path is chosen.
    pub policy: Option<String>,
}

/// `[constraints]`: what an answer must keep to.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConstraintsFile {
    /// Deadline of a query that names none.
    pub sla_ms: Option<f64>,
    /// Quality floor of a query that names none.
    pub min_quality: Option<f64>,
}

/// `[serving]`: paths and workers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServingFile {
    /// The paths to keep resident.
    pub paths: Option<Vec<String>>,
    /// Worker threads of the CPU.
    pub workers: Option<u32>,
    /// Whether each worker keeps to one core.
    pub pin_workers: Option<bool>,
    /// Most samples in a batch of several queries.
    pub max_batch: Option<u32>,
    /// Wait for a fuller batch.
    pub linger_us: Option<u64>,
}

/// `[queue]`: what may wait.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QueueFile {
    /// Queries.
    pub max_queries: Option<usize>,
    /// Samples of all queries.
    pub max_samples: Option<usize>,
    /// Bytes of all queries.
    pub max_bytes: Option<usize>,
}

/// `[profile]`: where service times come from.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProfileSection {
    /// A file that `mprec profile` wrote.
    pub file: Option<PathBuf>,
    /// How long measuring may take.
    pub budget_seconds: Option<f64>,
}

/// `[quality.…]`: an accuracy that was not measured on the bundle.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QualityFile {
    /// Fraction of predictions that are correct.
    pub accuracy: f64,
    /// Where the figure comes from.
    pub source: String,
}

/// `[shutdown]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ShutdownFile {
    /// How long queries that were taken may still run.
    pub drain_seconds: Option<f64>,
}

/// `[log]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogFile {
    /// Which events are logged.
    pub filter: Option<String>,
}

impl ConfigFile {
    /// Reads a file. Relative paths in it are taken from the file's folder.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] that names the file, and the line where it is not what it should be.
    pub fn read(file: &Path) -> Result<Self, ConfigError> {
        let fail = |source| ConfigError::Read { file: file.to_owned(), source };
        let handle = File::open(file).map_err(fail)?;
        let mut text = String::new();
        // One byte more than allowed tells a file of the limit from a longer one.
        let bytes = handle.take(MAX_FILE_BYTES + 1).read_to_string(&mut text).map_err(fail)? as u64;
        if bytes > MAX_FILE_BYTES {
            let (file, limit) = (file.to_owned(), MAX_FILE_BYTES);
            return Err(ConfigError::TooLarge { file, bytes, limit });
        }
        let mut config = Self::parse(&text, file)?;
        let folder = file.parent().unwrap_or(Path::new(""));
        for path in [&mut config.model.bundle, &mut config.profile.file].into_iter().flatten() {
            *path = folder.join(&path);
        }
        Ok(config)
    }

    /// Parses text; `file` is what errors name.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Parse`]
    pub fn parse(text: &str, file: &Path) -> Result<Self, ConfigError> {
        toml::from_str(text).map_err(|error| {
            let start = error.span().map_or(0, |span| span.start.min(text.len()));
            ConfigError::Parse {
                file: file.to_owned(),
                line: 1 + text.as_bytes()[..start].iter().filter(|&&byte| byte == b'\n').count(),
                message: error.message().to_owned(),
            }
        })
    }

    /// Fills in the defaults and proves the values.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] that names the key and what to write instead.
    pub fn check(self) -> Result<Config, ConfigError> {
        let Some(bundle) = self.model.bundle else {
            return Err(ConfigError::Missing {
                key: "model.bundle",
                example: "bundle = \"model\"",
            });
        };
        if let Some(name) = &self.model.name {
            let expected = "use 1 to 128 of `a-z 0-9 _ . -`";
            ensure(is_name(name), "model.name", quoted(name), expected)?;
        }
        let listen = match &self.server.listen {
            None => default::LISTEN,
            Some(text) => text.parse::<SocketAddr>().map_err(|_| ConfigError::Value {
                key: "server.listen".into(),
                value: quoted(text),
                expected: "write address and port, for example \"127.0.0.1:8000\"".into(),
            })?,
        };
        let server = ServerConfig {
            listen,
            max_body_bytes: within(
                "server.max_body_bytes",
                self.server.max_body_bytes.unwrap_or(default::MAX_BODY_BYTES),
                1_024,
                1 << 30,
            )?,
            max_samples: within(
                "server.max_samples",
                self.server.max_samples.unwrap_or(default::MAX_SAMPLES),
                1,
                mprec_router::MAX_SAMPLES as usize,
            )?,
        };
        let serving = check_serving(self.serving)?;
        let policy = match &self.objective.policy {
            None => default::POLICY,
            Some(text) => check_policy(text, &serving.paths)?,
        };
        let sla = self.constraints.sla_ms.map_or(Ok(default::SLA), |sla_ms| {
            within("constraints.sla_ms", sla_ms, 0.1, 3_600_000.0)
                .map(|sla_ms| Duration::from_secs_f64(sla_ms / 1e3))
        })?;
        let min_quality = self.constraints.min_quality;
        let min_quality = min_quality
            .map(|floor| within("constraints.min_quality", floor, 0.0, 1.0))
            .transpose()?;
        let queue = check_queue(self.queue)?;
        let fits = queue.samples >= server.max_samples;
        let expected = format!(
            "let it hold at least one request of `server.max_samples` = {}",
            server.max_samples
        );
        ensure(fits, "queue.max_samples", queue.samples, expected)?;
        let profile = ProfileConfig {
            file: self.profile.file,
            budget: seconds("profile.budget_seconds", self.profile.budget_seconds, 1.0)?
                .unwrap_or(default::PROFILE_BUDGET),
        };
        let drain = seconds("shutdown.drain_seconds", self.shutdown.drain_seconds, 0.0)?
            .unwrap_or(default::DRAIN);
        let quality = check_quality(self.quality, &serving.paths)?;
        let log_filter = self.log.filter.unwrap_or_else(|| default::LOG_FILTER.to_owned());
        Ok(Config {
            model: ModelConfig { bundle, name: self.model.name },
            server,
            policy,
            constraints: Constraints { sla, min_quality },
            serving,
            queue,
            profile,
            quality,
            drain,
            log_filter,
        })
    }
}

fn check_serving(file: ServingFile) -> Result<Serving, ConfigError> {
    let key = "serving.paths";
    let paths = file.paths.unwrap_or_default();
    if paths.is_empty() {
        return Err(ConfigError::Missing { key, example: "paths = [\"table@cpu\"]" });
    }
    let limit = mprec_router::MAX_PATHS;
    ensure(
        paths.len() <= limit,
        key,
        format!("{} paths", paths.len()),
        format!("at most {limit}"),
    )?;
    let mut seen = BTreeSet::new();
    for path in &paths {
        if let Err(error) = path.parse::<BackendPath>() {
            ensure(false, key, quoted(path), error)?;
        }
        ensure(seen.insert(path), key, format!("{} twice", quoted(path)), "name each path once")?;
    }
    let workers = file.workers;
    let linger_us = file.linger_us.unwrap_or(0);
    Ok(Serving {
        workers: workers
            .map(|count| within("serving.workers", count, 1, mprec_router::MAX_LANES))
            .transpose()?,
        pin_workers: file.pin_workers.unwrap_or(false),
        max_batch: file
            .max_batch
            .map(|samples| within("serving.max_batch", samples, 1, mprec_router::MAX_SAMPLES))
            .transpose()?,
        linger: Duration::from_micros(within("serving.linger_us", linger_us, 0, 1_000_000)?),
        paths,
    })
}

fn check_policy(text: &str, paths: &[String]) -> Result<PolicyName, ConfigError> {
    let key = "objective.policy";
    let policy = text.parse::<PolicyName>().map_err(|error| ConfigError::Value {
        key: key.into(),
        value: quoted(text),
        expected: error.to_string(),
    })?;
    if let PolicyName::Static(path) = &policy {
        let expected = format!("`serving.paths` has {}", paths.join(", "));
        ensure(paths.contains(path), key, quoted(text), expected)?;
    }
    Ok(policy)
}

fn check_queue(file: QueueFile) -> Result<QueueLimits, ConfigError> {
    // Eight bytes an id: within this limit all that waits fits into one batch's ids.
    let most_bytes = 8 * MAX_IDS;
    Ok(QueueLimits {
        queries: within(
            "queue.max_queries",
            file.max_queries.unwrap_or(default::QUEUE_QUERIES),
            1,
            1_000_000,
        )?,
        samples: within(
            "queue.max_samples",
            file.max_samples.unwrap_or(default::QUEUE_SAMPLES),
            1,
            1 << 30,
        )?,
        bytes: within(
            "queue.max_bytes",
            file.max_bytes.unwrap_or(default::QUEUE_BYTES),
            1 << 10,
            most_bytes,
        )?,
    })
}

fn check_quality(
    file: BTreeMap<String, QualityFile>,
    paths: &[String],
) -> Result<BTreeMap<String, DeclaredQuality>, ConfigError> {
    let mut checked = BTreeMap::new();
    for (name, QualityFile { accuracy, source }) in file {
        let variant_of = |path: &String| path.split('@').next() == Some(name.as_str());
        let known = paths.iter().any(|path| *path == name || variant_of(path));
        let expected = format!("`serving.paths` has {}", paths.join(", "));
        ensure(known, "quality", quoted(&name), expected)?;
        let accuracy = within(&format!("quality.\"{name}\".accuracy"), accuracy, 0.0, 1.0)?;
        let expected = "say where the accuracy comes from, in at most 200 characters";
        let told = !source.trim().is_empty() && source.chars().count() <= 200;
        ensure(told, &format!("quality.\"{name}\".source"), quoted(&source), expected)?;
        checked.insert(name, DeclaredQuality { accuracy, source });
    }
    Ok(checked)
}

fn seconds(key: &str, value: Option<f64>, least: f64) -> Result<Option<Duration>, ConfigError> {
    value.map(|value| within(key, value, least, 3_600.0).map(Duration::from_secs_f64)).transpose()
}

/// `value` if it lies in `least..=most`; NaN does not.
fn within<T: PartialOrd + Display>(
    key: &str,
    value: T,
    least: T,
    most: T,
) -> Result<T, ConfigError> {
    if value >= least && value <= most {
        return Ok(value);
    }
    Err(ConfigError::Value {
        key: key.into(),
        value: value.to_string(),
        expected: format!("it must be {least} to {most}"),
    })
}

fn ensure(
    holds: bool,
    key: &str,
    value: impl Display,
    expected: impl Display,
) -> Result<(), ConfigError> {
    if holds {
        return Ok(());
    }
    let (value, expected) = (value.to_string(), expected.to_string());
    Err(ConfigError::Value { key: key.into(), value, expected })
}

fn quoted(text: &str) -> String {
    format!("{text:?}")
}
