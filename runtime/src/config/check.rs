//! From the configuration as written to one that holds.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
    net::SocketAddr,
    path::PathBuf,
    time::Duration,
};

use mprec_backends::Path as BackendPath;
use mprec_representations::batch::MAX_IDS;
use mprec_router::PolicyName;

use super::{
    Budgets, Config, ConfigError, ConfigFile, Constraints, Declared, DeclaredQuality, ModelConfig,
    OneOrMany, ProfileConfig, QualityFile, QueueFile, QueueLimits, ServerConfig, Serving,
    ServingFile, VariantFile, default,
    models::{Common, check_admin, check_models, check_repository},
    security::check_security,
};
use crate::{
    http::ListenOn,
    paths::{CPU, device},
    record::RecordOptions,
};

/// More than any one machine's cores.
pub const MAX_OPERATION_THREADS: u16 = 1_024;

/// The nice value of the least priority.
const MAX_NICE: u8 = 19;
/// At five times the capacity of the accurate path, on two cores, 99 % of queries were in time instead of 97 % with 0;
/// see `benches/results/overload-2`.
const DEFAULT_WORKER_NICE: u8 = 10;

/// More than a machine has use for.
const MAX_LISTENERS: usize = 16;

/// Beyond this, `mprec materialise` holds every id's vector in less.
pub const MAX_CACHE_BYTES: usize = 1 << 36;

impl ConfigFile {
    /// Fills in the defaults and proves the values.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] that names the key and what to write instead.
    pub fn check(self) -> Result<Config, ConfigError> {
        // Before anything else, for those who begin with an empty file.
        if self.model.bundle.is_none() && self.models.is_empty() && self.repository.folder.is_none()
        {
            let (key, example) = ("model.bundle", "bundle = \"model\"");
            return Err(ConfigError::Missing { key, example });
        }
        let listen = check_listen(self.server.listen.as_ref())?;
        let grpc = check_grpc(self.server.grpc.as_deref(), &listen)?;
        let metrics = check_metrics(self.server.metrics.as_deref())?;
        let server = ServerConfig {
            listen,
            grpc,
            errors: self.server.errors.unwrap_or_default(),
            metrics,
            status_page: self.server.status_page.unwrap_or(default::STATUS_PAGE),
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
            Some(text) => check_policy("objective.policy", text)?,
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
        let limit_bytes = self.record.limit_bytes.unwrap_or(default::RECORD_LIMIT);
        let limit_bytes = within("record.limit_bytes", limit_bytes, 1 << 20, 1 << 50)?;
        let record = self.record.file.map(|file| RecordOptions { file, limit_bytes });
        let repository = check_repository(self.repository)?;
        let constraints = Constraints { sla, min_quality };
        let common = Common {
            serving: &serving,
            policy: &policy,
            constraints: &constraints,
            profile: &profile,
        };
        let models = check_models(self.model, self.models, repository.folder.as_ref(), &common)?;
        let is_one = record.is_none() || models.len() == 1;
        let expected = "decisions of one model can be recorded; leave it out";
        ensure(is_one, "record.file", format!("of {} models", models.len()), expected)?;
        for model in &models {
            check_fit(&model.policy, &model.serving.paths)?;
        }
        let paths = all_paths(&models, &serving);
        let budgets = check_budgets(self.budgets, &paths)?;
        let declared = Declared {
            quality: check_quality(self.quality, &paths)?,
            files: check_variants(self.variants, &paths)?,
        };
        let admin = check_admin(&self.admin)?;
        let security = check_security(self.tls, self.auth)?;
        Ok(Config {
            models,
            repository,
            admin,
            server,
            security,
            policy,
            constraints,
            serving,
            budgets,
            queue,
            profile,
            declared,
            record,
            drain,
            log_filter: self.log.filter,
        })
    }
}

fn check_listen(listen: Option<&OneOrMany>) -> Result<Vec<ListenOn>, ConfigError> {
    let Some(listen) = listen else { return Ok(vec![ListenOn::Tcp(default::LISTEN)]) };
    let (key, texts) = ("server.listen", listen.as_slice());
    let count = format!("a list of {}", texts.len());
    let expected = format!("name 1 to {MAX_LISTENERS} places");
    ensure((1..=MAX_LISTENERS).contains(&texts.len()), key, count, expected)?;
    let mut checked = Vec::new();
    for text in texts {
        let on = ListenOn::parse(text).ok_or_else(|| ConfigError::Value {
            key: key.into(),
            value: quoted(text),
            expected: "write address and port, for example \"127.0.0.1:8000\", or a socket, \
                       for example \"unix:/run/mprec/http.sock\""
                .into(),
        })?;
        // Port 0 stands for another one each time.
        let is_new = !checked.contains(&on) || matches!(&on, ListenOn::Tcp(at) if at.port() == 0);
        ensure(is_new, key, format!("{} twice", quoted(text)), "name each place once")?;
        checked.push(on);
    }
    Ok(checked)
}

fn check_grpc(text: Option<&str>, listen: &[ListenOn]) -> Result<Option<SocketAddr>, ConfigError> {
    let address = match text {
        None => default::GRPC,
        Some("off") => return Ok(None),
        Some(text) => text.parse().map_err(|_| ConfigError::Value {
            key: "server.grpc".into(),
            value: quoted(text),
            expected: "write address and port, for example \"127.0.0.1:8001\", or \"off\"".into(),
        })?,
    };
    // Port 0 stands for another one each time.
    let is_free = address.port() == 0 || !listen.contains(&ListenOn::Tcp(address));
    let expected = "let it differ from `server.listen`";
    ensure(is_free, "server.grpc", quoted(&address.to_string()), expected)?;
    Ok(Some(address))
}

fn check_metrics(text: Option<&str>) -> Result<Option<SocketAddr>, ConfigError> {
    let Some(text) = text else { return Ok(None) };
    let address = text.parse().map_err(|_| ConfigError::Value {
        key: "server.metrics".into(),
        value: quoted(text),
        expected: "write address and port, for example \"127.0.0.1:8002\"".into(),
    })?;
    Ok(Some(address))
}

fn check_serving(file: ServingFile) -> Result<Serving, ConfigError> {
    if let Some(paths) = &file.paths {
        check_paths("serving.paths", paths)?;
    }
    let paths = file.paths.unwrap_or_default();
    let workers = file.workers;
    let linger_us = file.linger_us.unwrap_or(0);
    let cache_bytes = file.cache_bytes.unwrap_or(0);
    Ok(Serving {
        workers: workers
            .map(|count| within("serving.workers", count, 1, mprec_router::MAX_LANES))
            .transpose()?,
        operation_threads: within(
            "serving.operation_threads",
            file.operation_threads.unwrap_or(1),
            1,
            MAX_OPERATION_THREADS,
        )?,
        pin_workers: file.pin_workers.unwrap_or(false),
        worker_nice: within(
            "serving.worker_nice",
            file.worker_nice.unwrap_or(DEFAULT_WORKER_NICE),
            0,
            MAX_NICE,
        )?,
        resident_tables: file.resident_tables.unwrap_or(false),
        max_batch: file
            .max_batch
            .map(|samples| within("serving.max_batch", samples, 1, mprec_router::MAX_SAMPLES))
            .transpose()?,
        max_parts: file
            .max_parts
            .map(|parts| within("serving.max_parts", parts, 1, mprec_router::MOST_PARTS))
            .transpose()?,
        linger: Duration::from_micros(within("serving.linger_us", linger_us, 0, 1_000_000)?),
        cache_bytes: within("serving.cache_bytes", cache_bytes, 0, MAX_CACHE_BYTES)?,
        paths,
    })
}

pub(super) fn check_paths(key: &str, paths: &[String]) -> Result<(), ConfigError> {
    let expected = "name at least one, such as \"table@cpu\", or leave it out";
    ensure(!paths.is_empty(), key, "empty", expected)?;
    let limit = mprec_router::MAX_PATHS;
    let (count, expected) = (format!("{} paths", paths.len()), format!("at most {limit}"));
    ensure(paths.len() <= limit, key, count, expected)?;
    let mut seen = BTreeSet::new();
    for path in paths {
        if let Err(error) = path.parse::<BackendPath>() {
            ensure(false, key, quoted(path), error)?;
        }
        ensure(seen.insert(path), key, format!("{} twice", quoted(path)), "name each path once")?;
    }
    Ok(())
}

/// The paths of all models; empty if those of one are not known before its bundle is.
fn all_paths(models: &[ModelConfig], serving: &Serving) -> Vec<String> {
    let lists =
        || models.iter().map(|model| &model.serving).chain(models.is_empty().then_some(serving));
    if lists().any(|serving| serving.paths.is_empty()) {
        return Vec::new();
    }
    let paths: BTreeSet<&String> = lists().flat_map(|serving| &serving.paths).collect();
    // In the order in which they were written, if they are of one model.
    match models {
        [] | [_] => lists().flat_map(|serving| serving.paths.clone()).collect(),
        _ => paths.into_iter().cloned().collect(),
    }
}

pub(super) fn check_policy(key: &str, text: &str) -> Result<PolicyName, ConfigError> {
    text.parse::<PolicyName>().map_err(|error| ConfigError::Value {
        key: key.into(),
        value: quoted(text),
        expected: error.to_string(),
    })
}

/// Whether a policy of one path has it. Which paths there are is not known before the bundle is, if none are named.
fn check_fit(policy: &PolicyName, paths: &[String]) -> Result<(), ConfigError> {
    let PolicyName::Static(path) = policy else { return Ok(()) };
    let fits = paths.is_empty() || paths.contains(path);
    let expected = format!("`serving.paths` has {}", paths.join(", "));
    ensure(fits, "objective.policy", quoted(&policy.to_string()), expected)
}

fn check_budgets(file: Budgets, paths: &[String]) -> Result<Budgets, ConfigError> {
    // Paths were read before.
    let devices: BTreeSet<String> = paths
        .iter()
        .filter_map(|path| path.parse::<BackendPath>().ok())
        .map(|path| device(path.backend()))
        .collect();
    // The default paths are all on the CPU.
    let devices = if paths.is_empty() { BTreeSet::from([CPU.to_owned()]) } else { devices };
    for name in file.keys() {
        let known = devices.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        let expected = format!("the devices of `serving.paths` are {known}");
        ensure(devices.contains(name), "budgets", quoted(name), expected)?;
    }
    Ok(file)
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

fn check_variants(
    file: BTreeMap<String, VariantFile>,
    paths: &[String],
) -> Result<BTreeMap<String, PathBuf>, ConfigError> {
    for name in file.keys() {
        let used = paths.iter().any(|path| path.split('@').next() == Some(name));
        let expected = format!(
            "name a path of it in `serving.paths`, such as \"{name}@onnx\", or leave it out"
        );
        ensure(used, "variants", quoted(name), expected)?;
    }
    Ok(file.into_iter().map(|(name, variant)| (name, variant.onnx)).collect())
}

fn check_quality(
    file: BTreeMap<String, QualityFile>,
    paths: &[String],
) -> Result<BTreeMap<String, DeclaredQuality>, ConfigError> {
    let mut checked = BTreeMap::new();
    for (name, QualityFile { accuracy, source }) in file {
        let variant_of = |path: &String| path.split('@').next() == Some(name.as_str());
        let known = paths.is_empty() || paths.iter().any(|path| *path == name || variant_of(path));
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
pub(super) fn within<T: PartialOrd + Display>(
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

pub(super) fn ensure(
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

pub(super) fn quoted(text: &str) -> String {
    format!("{text:?}")
}
