//! Profiles on disk.

use std::{
    fs::{self, File},
    io::Read,
    path::Path,
};

use mprec_router::Profiles;
use serde::{Deserialize, Serialize};

use super::ProfilerError;
use crate::paths::ResidentPath;

/// The version of the file that is written and read.
pub const PROFILE_FORMAT: u32 = 1;

/// 64 paths at 64 points fit many times over.
const MAX_BYTES: u64 = 4 << 20;

/// The profiles of one model's paths on one machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProfileFile {
    /// [`PROFILE_FORMAT`]
    pub format: u32,
    /// The machine.
    pub machine: Machine,
    /// The model.
    pub model: String,
    /// Its version.
    pub version: String,
    /// Whether service times were measured, rather than modelled.
    pub measured: bool,
    /// When, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measured_at_unix_seconds: Option<u64>,
    /// Every path.
    pub paths: Profiles,
}

/// What a measurement was made on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// The CPU's model name.
    pub cpu: String,
    /// Cores that this process may use.
    pub cores: usize,
    /// Memory; 0 if it is not known.
    pub memory_bytes: u64,
}

impl Machine {
    /// This machine. What the system does not tell is `unknown`, or 0.
    pub fn here() -> Self {
        let field = |file: &str, name: &str| {
            let text = fs::read_to_string(file).unwrap_or_default();
            let line = text.lines().find(|line| line.starts_with(name));
            line.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim().to_owned())
        };
        let kib = field("/proc/meminfo", "MemTotal");
        let kib = kib.and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
        Self {
            cpu: field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown".to_owned()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: kib.unwrap_or(0) << 10,
        }
    }
}

impl ProfileFile {
    /// Reads and checks a file.
    ///
    /// # Errors
    ///
    /// [`ProfilerError`], which names the file.
    pub fn load(file: &Path) -> Result<Self, ProfilerError> {
        let fail = |source| ProfilerError::Io { file: file.to_owned(), source };
        let mut content = Vec::new();
        let handle = File::open(file).map_err(fail)?;
        handle.take(MAX_BYTES + 1).read_to_end(&mut content).map_err(fail)?;
        if content.len() as u64 > MAX_BYTES {
            return Err(ProfilerError::TooLarge { file: file.to_owned(), limit: MAX_BYTES });
        }
        let parse = |source| ProfilerError::Parse { file: file.to_owned(), source };
        // The version first: another one may have other fields.
        #[derive(Deserialize)]
        struct Version {
            format: u32,
        }
        let found = serde_json::from_slice::<Version>(&content).map_err(parse)?.format;
        if found != PROFILE_FORMAT {
            return Err(ProfilerError::Format { found });
        }
        serde_json::from_slice(&content).map_err(parse)
    }

    /// Writes the file: the old one or the new one is there at any moment, never a part.
    ///
    /// # Errors
    ///
    /// [`ProfilerError::Io`]
    pub fn save(&self, file: &Path) -> Result<(), ProfilerError> {
        let fail = |source| ProfilerError::Io { file: file.to_owned(), source };
        let mut json = serde_json::to_vec_pretty(self)
            .expect("a profile has string keys and finite numbers, so it is JSON");
        json.push(b'\n');
        let mut temporary = file.as_os_str().to_owned();
        temporary.push(".new");
        fs::write(&temporary, json).map_err(fail)?;
        fs::rename(&temporary, file).map_err(fail)
    }

    /// The profiles of exactly these paths, in their order: speed from this file, quality and bytes
    /// from the paths as they are now.
    ///
    /// A profile of another version of the model is used with a warning: training a model anew
    /// changes its quality, seldom its speed.
    ///
    /// # Errors
    ///
    /// [`ProfilerError`] when the file is of another model, lacks a path, or was measured with another
    /// number of workers than `lanes` says for a path's device.
    pub fn for_paths(
        &self,
        model: &str,
        version: &str,
        resident: &[ResidentPath],
        lanes: impl Fn(&str) -> u32,
        max_batch: Option<u32>,
    ) -> Result<Profiles, ProfilerError> {
        if self.model != model {
            let (found, expected) = (self.model.clone(), model.to_owned());
            return Err(ProfilerError::Model { found, expected });
        }
        if self.version != version {
            let (profiled, served) = (&self.version, version);
            tracing::warn!(profiled, served, "the profile is of another version of the model");
        }
        let mut profiles = Vec::with_capacity(resident.len());
        for path in resident {
            let name = path.path.to_string();
            let Some(id) = self.paths.find(&name) else {
                let known = self.paths.paths().iter().map(|path| path.name.clone()).collect();
                return Err(ProfilerError::NoPath { path: name, known });
            };
            let profile = self.paths.path(id);
            let (found, expected) = (profile.lanes, lanes(&path.device));
            if found != expected {
                return Err(ProfilerError::Lanes { path: name, found, expected });
            }
            let max_batch = max_batch.or(profile.max_batch);
            profiles.push(path.profile(found, max_batch, profile.service.clone()));
        }
        Ok(Profiles::new(profiles)?)
    }
}
