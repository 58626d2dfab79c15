//! How a model is served: everything that its versions have in common.

use std::{path::PathBuf, time::Duration};

use mprec_backends::{BackendKind, Path};
use mprec_representations::bundle::Bundle;
use mprec_router::PolicyName;

use super::LoadError;
use crate::{
    config::{Config, Declared, ProfileConfig, QueueLimits, Serving},
    engine::{Backoff, EngineOptions},
    paths::CPU,
    record::RecordOptions,
};

/// How a model is served.
#[derive(Debug, Clone, PartialEq)]
pub struct Recipe {
    /// Its name in URLs; `None` takes that of the first bundle.
    pub name: Option<String>,
    /// Its bundle, or a folder of bundles that are named by their versions' numbers.
    pub folder: PathBuf,
    /// How a path is chosen.
    pub policy: PolicyName,
    /// Deadline of a query that names none.
    pub sla: Duration,
    /// Quality floor of a query that names none.
    pub min_quality: Option<f64>,
    /// Most samples in one request.
    pub max_samples: usize,
    /// Paths and workers. No paths stand for every variant with a quality, on the native backend.
    pub serving: Serving,
    /// What may wait.
    pub queue: QueueLimits,
    /// Where service times come from.
    pub profile: ProfileConfig,
    /// Accuracies and files of variants beside what the bundle says.
    pub declared: Declared,
    /// Where the decisions of the first version are recorded to.
    pub record: Option<RecordOptions>,
}

/// The workers of each of several models, so that together they are as many as there are cores; at least one each.
fn share(models: usize) -> Option<u32> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    (models > 1).then(|| (cores / models).max(1) as u32)
}

impl Recipe {
    /// The models that a configuration names.
    ///
    /// Where it does not say how many workers each has, the CPU's cores are divided among them.
    pub fn all_of(config: &Config) -> Vec<Self> {
        let models = config.models().iter();
        models
            .map(|model| Self {
                name: model.name.clone(),
                folder: model.bundle.clone(),
                policy: model.policy.clone(),
                sla: model.constraints.sla,
                min_quality: model.constraints.min_quality,
                serving: Serving {
                    workers: model.serving.workers.or_else(|| share(config.models().len())),
                    ..model.serving.clone()
                },
                profile: model.profile.clone(),
                ..Self::base_of(config)
            })
            .collect()
    }

    /// How a model is served that the configuration does not name: as the common sections say.
    pub fn base_of(config: &Config) -> Self {
        // Profiles and logs of decisions are of one model, which is not this one.
        let profile = ProfileConfig { file: None, ..config.profile().clone() };
        let record = config.record().filter(|_| config.models().len() == 1).cloned();
        Self {
            name: None,
            folder: config.repository().folder.clone().unwrap_or_default(),
            policy: config.policy().clone(),
            sla: config.constraints().sla,
            min_quality: config.constraints().min_quality,
            max_samples: config.server().max_samples,
            serving: Serving {
                workers: config.serving().workers.or_else(|| share(config.models().len())),
                ..config.serving().clone()
            },
            queue: *config.queue(),
            profile,
            declared: config.declared().clone(),
            record,
        }
    }

    /// The paths to bring up from this bundle.
    pub(super) fn paths(&self, bundle: &Bundle) -> Result<Vec<Path>, LoadError> {
        if !self.serving.paths.is_empty() {
            let paths = self.serving.paths.iter().map(|path| path.parse());
            return paths
                .collect::<Result<_, _>>()
                .map_err(|error| LoadError::Internal { message: format!("{error}") });
        }
        let known = bundle.manifest().variants.iter().filter(|variant| variant.quality.is_some());
        // A bundle's names of variants were checked by the rules of paths.
        let paths: Vec<Path> = known
            .filter_map(|variant| Path::new(variant.name.clone(), BackendKind::Cpu).ok())
            .collect();
        if paths.is_empty() { Err(LoadError::NoPaths) } else { Ok(paths) }
    }

    /// Workers of a device: the CPU's, and one for any other.
    pub(super) fn workers(&self, device: &str) -> u32 {
        let cores = || std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32);
        if device == CPU { self.serving.workers.unwrap_or_else(cores) } else { 1 }
    }

    /// The engine of a version; only the first is recorded, because the log must be a new file.
    pub(super) fn engine(&self, is_first: bool) -> EngineOptions {
        EngineOptions {
            policy: self.policy.clone(),
            queue: self.queue,
            linger: self.serving.linger,
            min_quality: self.min_quality,
            pin_workers: self.serving.pin_workers,
            worker_nice: self.serving.worker_nice,
            record: self.record.clone().filter(|_| is_first),
            max_parts: self.serving.max_parts,
            recovery: Backoff::default(),
        }
    }
}
