//! `[model]`, `[[models]]`, `[repository]` and `[admin]`: which models are served, and how they are changed.

use std::{collections::BTreeSet, net::SocketAddr, path::PathBuf, time::Duration};

use mprec_representations::bundle::is_name;
use mprec_router::PolicyName;
use serde::{Deserialize, Serialize};

use super::{
    ConfigError, Constraints, ModelFile, ProfileConfig, Serving,
    check::{check_paths, check_policy, ensure, quoted, within},
};

/// More models than one machine has memory for.
const MAX_MODELS: usize = 256;

/// Each holds memory.
const MAX_KEPT_VERSIONS: usize = 16;

/// An entry of `[[models]]`: what is left out is as the other sections say.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelsEntry {
    /// The name in URLs.
    pub name: Option<String>,
    /// The bundle's folder, or a folder of bundles by version.
    pub bundle: Option<PathBuf>,
    /// The paths to keep resident.
    pub paths: Option<Vec<String>>,
    /// How a path is chosen.
    pub policy: Option<String>,
    /// Deadline of a query that names none.
    pub sla_ms: Option<f64>,
    /// Quality floor of a query that names none.
    pub min_quality: Option<f64>,
    /// Worker threads of the CPU.
    pub workers: Option<u32>,
    /// A file that `mprec profile` wrote.
    pub profile: Option<PathBuf>,
}

/// `[repository]`: how versions come and go.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RepositoryFile {
    /// The folder of models that may be loaded by name.
    pub folder: Option<PathBuf>,
    /// Earlier versions of each model that stay resident.
    pub keep_versions: Option<usize>,
    /// Whether bundles are verified before they replace what is served.
    pub verify: Option<bool>,
    /// How often bundles are looked at.
    pub watch_seconds: Option<f64>,
}

/// `[admin]`: the listeners on which models may be loaded and unloaded.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdminFile {
    /// Address and port of HTTP.
    pub listen: Option<String>,
    /// Address and port of gRPC.
    pub grpc: Option<String>,
    /// Whether the address may be another than of this machine's own loopback.
    pub allow_remote: Option<bool>,
}

/// Where models may be loaded and unloaded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AdminConfig {
    /// Address and port of HTTP; `None` is nowhere.
    pub http: Option<SocketAddr>,
    /// Address and port of gRPC; `None` is nowhere.
    pub grpc: Option<SocketAddr>,
    /// Whether they may be others than loopback addresses.
    pub allow_remote: bool,
}

/// A model that is served from the start.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig {
    /// The name in URLs; `None` takes the bundle's.
    pub name: Option<String>,
    /// The bundle's folder, or a folder of bundles by version.
    pub bundle: PathBuf,
    /// How a path is chosen.
    pub policy: PolicyName,
    /// What an answer must keep to.
    pub constraints: Constraints,
    /// Paths and workers.
    pub serving: Serving,
    /// Where service times come from.
    pub profile: ProfileConfig,
}

/// How versions come and go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepositoryConfig {
    /// The folder of models that may be loaded by name; `None` allows no others than those configured.
    pub folder: Option<PathBuf>,
    /// Earlier versions of each model that stay resident.
    pub keep_versions: usize,
    /// Whether bundles are verified before they replace what is served.
    pub verify: bool,
    /// How often bundles are looked at; `None` is never.
    pub watch: Option<Duration>,
}

/// What every model has unless it says otherwise.
#[derive(Debug, Clone)]
pub(super) struct Common<'a> {
    pub(super) serving: &'a Serving,
    pub(super) policy: &'a PolicyName,
    pub(super) constraints: &'a Constraints,
    pub(super) profile: &'a ProfileConfig,
}

pub(super) fn check_models(
    one: ModelFile,
    several: Vec<ModelsEntry>,
    folder: Option<&PathBuf>,
    common: &Common<'_>,
) -> Result<Vec<ModelConfig>, ConfigError> {
    if let Some(name) = &one.name {
        check_name("model.name", name)?;
    }
    if several.is_empty() {
        let Some(bundle) = one.bundle else {
            // With a folder to load from, it is fine to begin with nothing.
            return if folder.is_some() {
                Ok(Vec::new())
            } else {
                Err(ConfigError::Missing { key: "model.bundle", example: "bundle = \"model\"" })
            };
        };
        return Ok(vec![ModelConfig {
            name: one.name,
            bundle,
            policy: common.policy.clone(),
            constraints: common.constraints.clone(),
            serving: common.serving.clone(),
            profile: common.profile.clone(),
        }]);
    }
    let alone = one == ModelFile::default();
    let expected = "use `[model]` for one model and `[[models]]` for several, not both";
    ensure(alone, "models", format!("{} models beside `[model]`", several.len()), expected)?;
    let few = several.len() <= MAX_MODELS;
    ensure(few, "models", format!("{} models", several.len()), format!("at most {MAX_MODELS}"))?;
    let shared = common.profile.file.is_none() || several.len() == 1;
    let expected = "a profile is of one model; name it as `profile` of `[[models]]`";
    ensure(shared, "profile.file", "of several models", expected)?;
    let mut names = BTreeSet::new();
    let mut models = Vec::with_capacity(several.len());
    for (at, entry) in several.into_iter().enumerate() {
        let Some(name) = entry.name else {
            return Err(ConfigError::Missing { key: "models.name", example: "name = \"ctr\"" });
        };
        let key = |field: &str| format!("models[{at}].{field}");
        check_name(&key("name"), &name)?;
        let is_new = names.insert(name.clone());
        ensure(is_new, &key("name"), format!("{} twice", quoted(&name)), "name each model once")?;
        let in_folder = || folder.map(|folder| folder.join(&name));
        let Some(bundle) = entry.bundle.or_else(in_folder) else {
            let (key, example) = ("models.bundle", "bundle = \"model\"");
            return Err(ConfigError::Missing { key, example });
        };
        let mut serving = common.serving.clone();
        if let Some(paths) = entry.paths {
            check_paths(&key("paths"), &paths)?;
            serving.paths = paths;
        }
        if let Some(workers) = entry.workers {
            let workers = within(&key("workers"), workers, 1, mprec_router::MAX_LANES)?;
            serving.workers = Some(workers);
        }
        let policy = match &entry.policy {
            None => common.policy.clone(),
            Some(text) => check_policy(&key("policy"), text)?,
        };
        let mut constraints = common.constraints.clone();
        if let Some(sla_ms) = entry.sla_ms {
            let sla_ms = within(&key("sla_ms"), sla_ms, 0.1, 3_600_000.0)?;
            constraints.sla = Duration::from_secs_f64(sla_ms / 1e3);
        }
        if let Some(floor) = entry.min_quality {
            constraints.min_quality = Some(within(&key("min_quality"), floor, 0.0, 1.0)?);
        }
        let mut profile = common.profile.clone();
        if entry.profile.is_some() {
            profile.file = entry.profile;
        }
        models.push(ModelConfig {
            name: Some(name),
            bundle,
            policy,
            constraints,
            serving,
            profile,
        });
    }
    Ok(models)
}

/// A name that can stand in a URL, and in the repository's folder.
fn check_name(key: &str, name: &str) -> Result<(), ConfigError> {
    let expected = "use 1 to 128 of `a-z 0-9 _ . -`, not beginning with `.`";
    ensure(is_name(name) && !name.starts_with('.'), key, quoted(name), expected)
}

pub(super) fn check_repository(file: RepositoryFile) -> Result<RepositoryConfig, ConfigError> {
    let keep_versions = file.keep_versions.unwrap_or(1);
    let watch = file
        .watch_seconds
        .map(|seconds| within("repository.watch_seconds", seconds, 0.1, 86_400.0))
        .transpose()?;
    Ok(RepositoryConfig {
        folder: file.folder,
        keep_versions: within("repository.keep_versions", keep_versions, 0, MAX_KEPT_VERSIONS)?,
        verify: file.verify.unwrap_or(true),
        watch: watch.map(Duration::from_secs_f64),
    })
}

pub(super) fn check_admin(file: &AdminFile) -> Result<AdminConfig, ConfigError> {
    let may_be_remote = file.allow_remote.unwrap_or(false);
    let check = |key: &str, text: &String| {
        let listen = text.parse::<SocketAddr>().map_err(|_| ConfigError::Value {
            key: key.into(),
            value: quoted(text),
            expected: "write address and port, for example \"127.0.0.1:8003\"".into(),
        })?;
        let expected = "whoever reaches it may unload models: use a loopback address, or set `admin.allow_remote = true`";
        ensure(listen.ip().is_loopback() || may_be_remote, key, quoted(text), expected)?;
        Ok(listen)
    };
    let http = file.listen.as_ref().map(|text| check("admin.listen", text)).transpose()?;
    let grpc = file.grpc.as_ref().map(|text| check("admin.grpc", text)).transpose()?;
    if let (Some(http), Some(grpc)) = (http, grpc) {
        let is_free = http != grpc || http.port() == 0;
        ensure(
            is_free,
            "admin.grpc",
            quoted(&grpc.to_string()),
            "let it differ from `admin.listen`",
        )?;
    }
    Ok(AdminConfig { http, grpc, allow_remote: may_be_remote })
}
