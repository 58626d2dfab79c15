//! A checked configuration as a file would say it, with every default filled in.

use crate::http::ListenOn;

use super::{
    AdminFile, Config, ConfigFile, ConstraintsFile, LogFile, ModelConfig, ModelFile, ModelsEntry,
    ObjectiveFile, OneOrMany, ProfileSection, QualityFile, QueueFile, RecordFile, RepositoryFile,
    ServerFile, Serving, ServingFile, ShutdownFile, VariantFile,
};

impl Config {
    /// What is in force, by key. Checking it gives this configuration again.
    pub fn effective(&self) -> ConfigFile {
        let (model, models) = match self.models.as_slice() {
            [one] if is_common(self, one) => {
                let bundle = Some(one.bundle.clone());
                (ModelFile { bundle, name: one.name.clone() }, Vec::new())
            }
            several => (ModelFile::default(), several.iter().map(entry).collect()),
        };
        let sla_ms = Some(self.constraints.sla.as_secs_f64() * 1e3);
        let min_quality = self.constraints.min_quality;
        let (tls, auth) = self.security.to_files();
        ConfigFile {
            model,
            models,
            repository: RepositoryFile {
                folder: self.repository.folder.clone(),
                keep_versions: Some(self.repository.keep_versions),
                verify: Some(self.repository.verify),
                watch_seconds: self.repository.watch.map(|watch| watch.as_secs_f64()),
            },
            admin: AdminFile {
                listen: self.admin.http.map(|listen| listen.to_string()),
                grpc: self.admin.grpc.map(|listen| listen.to_string()),
                allow_remote: Some(self.admin.allow_remote),
            },
            server: ServerFile {
                listen: Some(listen(&self.server.listen)),
                grpc: Some(self.server.grpc.map_or("off".to_owned(), |at| at.to_string())),
                errors: Some(self.server.errors),
                metrics: self.server.metrics.map(|at| at.to_string()),
                status_page: Some(self.server.status_page),
                max_body_bytes: Some(self.server.max_body_bytes),
                max_samples: Some(self.server.max_samples),
            },
            tls,
            auth,
            objective: ObjectiveFile { policy: Some(self.policy.to_string()) },
            constraints: ConstraintsFile { sla_ms, min_quality },
            serving: serving(&self.serving),
            budgets: self.budgets.clone(),
            queue: QueueFile {
                max_queries: Some(self.queue.queries),
                max_samples: Some(self.queue.samples),
                max_bytes: Some(self.queue.bytes),
            },
            profile: ProfileSection {
                file: self.profile.file.clone(),
                budget_seconds: Some(self.profile.budget.as_secs_f64()),
            },
            variants: {
                let files = self.declared.files.iter();
                files
                    .map(|(name, onnx)| (name.clone(), VariantFile { onnx: onnx.clone() }))
                    .collect()
            },
            quality: {
                let stated = self.declared.quality.iter();
                let file = |(name, quality): (&String, &super::DeclaredQuality)| {
                    let (accuracy, source) = (quality.accuracy, quality.source.clone());
                    (name.clone(), QualityFile { accuracy, source })
                };
                stated.map(file).collect()
            },
            record: RecordFile {
                file: self.record.as_ref().map(|record| record.file.clone()),
                limit_bytes: self.record.as_ref().map(|record| record.limit_bytes),
            },
            shutdown: ShutdownFile { drain_seconds: Some(self.drain.as_secs_f64()) },
            log: LogFile { filter: self.log_filter.clone() },
        }
    }
}

fn listen(places: &[ListenOn]) -> OneOrMany {
    OneOrMany::Many(places.iter().map(ToString::to_string).collect())
}

/// Whether a model has nothing of its own but its bundle.
fn is_common(config: &Config, model: &ModelConfig) -> bool {
    model.policy == config.policy
        && model.constraints == config.constraints
        && model.serving == config.serving
        && model.profile == config.profile
}

fn entry(model: &ModelConfig) -> ModelsEntry {
    let paths = &model.serving.paths;
    ModelsEntry {
        name: model.name.clone(),
        bundle: Some(model.bundle.clone()),
        paths: (!paths.is_empty()).then(|| paths.clone()),
        policy: Some(model.policy.to_string()),
        sla_ms: Some(model.constraints.sla.as_secs_f64() * 1e3),
        min_quality: model.constraints.min_quality,
        workers: model.serving.workers,
        profile: model.profile.file.clone(),
    }
}

fn serving(serving: &Serving) -> ServingFile {
    let paths = &serving.paths;
    ServingFile {
        paths: (!paths.is_empty()).then(|| paths.clone()),
        workers: serving.workers,
        operation_threads: Some(serving.operation_threads),
        pin_workers: Some(serving.pin_workers),
        worker_nice: Some(serving.worker_nice),
        resident_tables: Some(serving.resident_tables),
        max_batch: serving.max_batch,
        linger_us: Some(u64::try_from(serving.linger.as_micros()).unwrap_or(u64::MAX)),
        max_parts: serving.max_parts,
        cache_bytes: Some(serving.cache_bytes),
    }
}
