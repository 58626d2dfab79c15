//! The configuration as written.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{AdminFile, AuthFile, ByteSize, ConfigError, ModelsEntry, RepositoryFile, TlsFile};
use crate::endpoint::Statuses;

/// Largest configuration file.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Every key of the file; `None` where it is left out.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConfigFile {
    /// `[model]`
    pub model: ModelFile,
    /// `[[models]]`
    pub models: Vec<ModelsEntry>,
    /// `[repository]`
    pub repository: RepositoryFile,
    /// `[admin]`
    pub admin: AdminFile,
    /// `[server]`
    pub server: ServerFile,
    /// `[tls]`
    pub tls: TlsFile,
    /// `[auth]`
    pub auth: AuthFile,
    /// `[objective]`
    pub objective: ObjectiveFile,
    /// `[constraints]`
    pub constraints: ConstraintsFile,
    /// `[serving]`
    pub serving: ServingFile,
    /// `[budgets]`: bytes of all paths on a device, by its name.
    pub budgets: BTreeMap<String, ByteSize>,
    /// `[queue]`
    pub queue: QueueFile,
    /// `[profile]`
    pub profile: ProfileSection,
    /// `[variants.name]`
    pub variants: BTreeMap<String, VariantFile>,
    /// `[quality."variant@backend"]` or `[quality.variant]`
    pub quality: BTreeMap<String, QualityFile>,
    /// `[record]`
    pub record: RecordFile,
    /// `[shutdown]`
    pub shutdown: ShutdownFile,
    /// `[log]`
    pub log: LogFile,
}

/// `[model]`: what is served.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelFile {
    /// The bundle's folder, or a folder of bundles by version.
    pub bundle: Option<PathBuf>,
    /// The name in URLs.
    pub name: Option<String>,
}

/// `[server]`: the endpoint.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerFile {
    /// Where HTTP listens.
    pub listen: Option<OneOrMany>,
    /// Address and port of gRPC, or `off`.
    pub grpc: Option<String>,
    /// Whose statuses errors get.
    pub errors: Option<Statuses>,
    /// Address and port of a listener for metrics.
    pub metrics: Option<String>,
    /// Whether there is a status page.
    pub status_page: Option<bool>,
    /// Largest request body.
    pub max_body_bytes: Option<usize>,
    /// Most samples in one request.
    pub max_samples: Option<usize>,
}

/// A text, or a list of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "a text or a list of texts")]
pub enum OneOrMany {
    /// One.
    One(String),
    /// Any number.
    Many(Vec<String>),
}

impl OneOrMany {
    /// All of them.
    pub fn as_slice(&self) -> &[String] {
        match self {
            Self::One(text) => std::slice::from_ref(text),
            Self::Many(texts) => texts,
        }
    }

    fn as_mut_slice(&mut self) -> &mut [String] {
        match self {
            Self::One(text) => std::slice::from_mut(text),
            Self::Many(texts) => texts,
        }
    }
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
    /// Threads of one operation.
    pub operation_threads: Option<u16>,
    /// Whether each worker keeps to one core.
    pub pin_workers: Option<bool>,
    /// Nice value of the CPU's workers.
    pub worker_nice: Option<u8>,
    /// Whether tables are copied to memory of their own.
    pub resident_tables: Option<bool>,
    /// Most samples in a batch of several queries.
    pub max_batch: Option<u32>,
    /// Wait for a fuller batch.
    pub linger_us: Option<u64>,
    /// Most parts that a query is split into.
    pub max_parts: Option<u32>,
    /// Bytes of a worker's cache for a path.
    pub cache_bytes: Option<usize>,
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

/// `[variants.…]`: a variant that the bundle does not have.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VariantFile {
    /// An ONNX file that another tool wrote.
    pub onnx: PathBuf,
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

/// `[record]`: a log of decisions.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RecordFile {
    /// The log, which must not exist yet.
    pub file: Option<PathBuf>,
    /// Largest size of the log.
    pub limit_bytes: Option<u64>,
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
        let files = config.variants.values_mut().map(|variant| &mut variant.onnx);
        let paths = [&mut config.model.bundle, &mut config.profile.file, &mut config.record.file];
        for text in config.server.listen.iter_mut().flat_map(OneOrMany::as_mut_slice) {
            if let Some(socket) = text.strip_prefix("unix:").filter(|socket| !socket.is_empty()) {
                *text = format!("unix:{}", folder.join(socket).display());
            }
        }
        let models =
            config.models.iter_mut().flat_map(|model| [&mut model.bundle, &mut model.profile]);
        let tls = &mut config.tls;
        let security =
            [&mut tls.certificate, &mut tls.key, &mut tls.client_ca, &mut config.auth.keys_file];
        let paths = paths.into_iter().chain([&mut config.repository.folder]).chain(models);
        let paths = paths.chain(security);
        for path in paths.flatten().chain(files) {
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
}
