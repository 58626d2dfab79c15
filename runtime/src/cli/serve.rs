//! `mprec serve`: the endpoint.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context as _;
use clap::Args;
use futures_util::FutureExt as _;
use mprec_representations::{BatchShape, Bundle};
use mprec_router::Profiles;
use mprec_runtime::{
    config::{Config, ConfigFile, OneOrMany},
    endpoint::{Endpoint, Limits},
    engine::{Backoff, Engine, EngineError, EngineOptions},
    grpc::{self, GrpcConfig},
    http::{self, HttpConfig, ListenOn, Listener, Routes},
    metrics::Metrics,
    paths::{Allowance, ResidentPath, bring_up},
    profiler::{ProfileFile, ProfileOptions},
    service::Model,
    status::StatusPage,
};
use serde::Serialize;

use super::{
    Failure, InputError as _, Output, Run,
    inputs::{hot_ids, inputs},
    profile,
};

#[derive(Debug, Args)]
#[command(
    after_help = "Flags override the config file. Send SIGTERM or press Ctrl-C to drain and stop."
)]
pub(super) struct Serve {
    /// A TOML file; `runtime/mprec.example.toml` documents every key.
    #[arg(long)]
    config: Option<PathBuf>,
    /// The bundle's folder.
    #[arg(long)]
    bundle: Option<PathBuf>,
    /// The model's name in URLs; default: the bundle's.
    #[arg(long)]
    name: Option<String>,
    /// Paths to keep resident; default: every variant with a quality, on `cpu`.
    #[arg(long, value_delimiter = ',')]
    paths: Vec<String>,
    /// `multi-path`, `mp-rec`, `fastest` or `static:<path>`.
    #[arg(long)]
    policy: Option<String>,
    /// Deadline of a query that names none.
    #[arg(long)]
    sla_ms: Option<f64>,
    /// Address and port, or `unix:` and a file; may be given several times. Port 0 takes a free one.
    #[arg(long)]
    listen: Vec<String>,
    /// Address and port of gRPC, or `off`; default: 127.0.0.1:8001.
    #[arg(long, value_name = "LISTEN")]
    grpc_listen: Option<String>,
    /// Address and port of a second listener, for metrics, the status page and health alone; default: none.
    #[arg(long, value_name = "LISTEN")]
    metrics: Option<String>,
    /// Worker threads; default: one per core.
    #[arg(long)]
    workers: Option<u32>,
    /// Profiles that `mprec profile` wrote; default: measure now.
    #[arg(long)]
    profiles: Option<PathBuf>,
    /// A prepared folder: rows to measure with, if measuring now, and ids that caches hold from the start.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Memory of each worker's cache of vectors, for each path with a DHE; default: none.
    #[arg(long, value_name = "BYTES")]
    cache: Option<usize>,
    /// Record every decision to this file, for `mprec replay`. It must not exist yet.
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Largest size of that file; default: 1 GiB. A query takes some 50 bytes. At the limit recording ends, and serving goes on.
    #[arg(long, value_name = "BYTES", requires = "record")]
    record_limit: Option<u64>,
    /// Check the configuration and the bundle, and stop.
    #[arg(long)]
    check: bool,
}

#[derive(Serialize)]
struct Started {
    /// The first of `urls`.
    url: String,
    urls: Vec<String>,
    /// Address and port of gRPC, where it is on.
    #[serde(skip_serializing_if = "Option::is_none")]
    grpc: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metrics_url: Option<String>,
    model: String,
    version: String,
    policy: String,
    paths: Vec<String>,
}

impl Serve {
    pub(super) fn run(&self, output: &Output) -> Run {
        let mut file = match &self.config {
            Some(path) => ConfigFile::read(path).or_bad_input()?,
            None => ConfigFile::default(),
        };
        self.override_keys(&mut file);
        if file.serving.paths.is_none()
            && let Some(folder) = &file.model.bundle
        {
            let bundle = Bundle::open(folder).or_bad_input()?;
            let paths = profile::default_paths(&bundle).or_bad_input()?;
            file.serving.paths = Some(paths.iter().map(ToString::to_string).collect());
        }
        let settings = file.settings();
        let config = file.check().or_bad_input()?;
        let bundle = Bundle::open(&config.model().bundle).or_bad_input()?;
        let paths = config.serving().paths.iter().map(|path| path.parse());
        let paths = paths.collect::<Result<Vec<_>, _>>().or_bad_input()?;
        let bytes = config.serving().cache_bytes;
        let hot = hot_ids(&bundle, self.data.as_deref(), bytes)?;
        let resident_tables = config.serving().resident_tables;
        let budgets = config.budgets().clone();
        let threads = config.serving().operation_threads;
        let allowance = Allowance { cache_bytes: bytes, hot, resident_tables, threads, budgets };
        let resident = bring_up(&bundle, &paths, config.declared(), &allowance).or_bad_input()?;
        if self.check {
            let names: Vec<String> = paths.iter().map(ToString::to_string).collect();
            return output.result(&serde_json::json!({"valid": true, "paths": names}), || {
                let places = config.server().listen.iter().map(ToString::to_string);
                let places = places.collect::<Vec<_>>().join(", ");
                format!("valid: {} on {places}", names.join(", "))
            });
        }
        let profiles = self.profiles(&config, &bundle, &resident, output)?;
        run_server(&config, settings, &bundle, resident, profiles, output)
    }

    fn override_keys(&self, file: &mut ConfigFile) {
        fn set<T: Clone>(key: &mut Option<T>, flag: &Option<T>) {
            if flag.is_some() {
                key.clone_from(flag);
            }
        }
        set(&mut file.model.bundle, &self.bundle);
        set(&mut file.model.name, &self.name);
        set(&mut file.objective.policy, &self.policy);
        set(&mut file.constraints.sla_ms, &self.sla_ms);
        if !self.listen.is_empty() {
            file.server.listen = Some(OneOrMany::Many(self.listen.clone()));
        }
        set(&mut file.server.grpc, &self.grpc_listen);
        set(&mut file.server.metrics, &self.metrics);
        set(&mut file.serving.workers, &self.workers);
        set(&mut file.serving.cache_bytes, &self.cache);
        set(&mut file.profile.file, &self.profiles);
        set(&mut file.record.file, &self.record);
        set(&mut file.record.limit_bytes, &self.record_limit);
        if !self.paths.is_empty() {
            file.serving.paths = Some(self.paths.clone());
        }
    }

    fn profiles(
        &self,
        config: &Config,
        bundle: &Bundle,
        resident: &[ResidentPath],
        output: &Output,
    ) -> Result<Profiles, Failure> {
        let workers = profile::workers(config.serving().workers);
        if let Some(path) = &config.profile().file {
            let manifest = bundle.manifest();
            return ProfileFile::load(path)
                .and_then(|file| {
                    let max_batch = config.serving().max_batch;
                    file.for_paths(&manifest.model, &manifest.version, resident, workers, max_batch)
                })
                .or_bad_input();
        }
        let inputs = inputs(bundle, self.data.as_deref(), output)?;
        let max_batch = config.serving().max_batch;
        let options = ProfileOptions { budget: config.profile().budget, max_batch };
        profile::measure_with_bar(resident, workers, options, inputs, output)
    }
}

fn run_server(
    config: &Config,
    settings: Vec<(String, String)>,
    bundle: &Bundle,
    resident: Vec<ResidentPath>,
    profiles: Profiles,
    output: &Output,
) -> Run {
    let manifest = bundle.manifest();
    let model = Arc::new(Model {
        name: config.model().name.clone().unwrap_or_else(|| manifest.model.clone()),
        version: manifest.version.clone(),
        schema: manifest.schema.clone(),
        shape: BatchShape::new(&manifest.schema),
        max_samples: config.server().max_samples,
        sla: config.constraints().sla,
        paths: profiles.paths().iter().map(|path| (path.name.clone(), path.accuracy)).collect(),
    });
    let names: Vec<String> = model.paths.keys().cloned().collect();
    let options = EngineOptions {
        policy: config.policy().clone(),
        queue: *config.queue(),
        linger: config.serving().linger,
        min_quality: config.constraints().min_quality,
        pin_workers: config.serving().pin_workers,
        record: config.record().cloned(),
        max_parts: config.serving().max_parts,
        recovery: Backoff::default(),
    };
    let engine = Engine::start(Arc::clone(&model), resident, profiles, &options);
    let engine = Arc::new(engine.map_err(|error| match error {
        EngineError::Record(_) => Failure::input(error),
        other => other.into(),
    })?);
    let labels: Vec<&str> = names.iter().map(String::as_str).collect();
    let metrics = Arc::new(Metrics::new(env!("CARGO_PKG_VERSION"), &labels, &[model.sla]));
    let limits = config.server();
    let http = HttpConfig {
        statuses: limits.errors,
        status: limits.status_page.then(|| Arc::new(StatusPage::new(settings))),
        max_body_bytes: limits.max_body_bytes,
        drain_timeout: config.drain(),
        ..HttpConfig::default()
    };
    let grpc = GrpcConfig {
        max_message_bytes: limits.max_body_bytes,
        drain_timeout: config.drain(),
        ..GrpcConfig::default()
    };
    // Connections need little of a core; the workers need the rest.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("mprec-endpoint")
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut listeners = Vec::new();
        for on in &limits.listen {
            listeners.push(Listener::bind(on).await?);
        }
        let urls = listeners.iter().map(Listener::url).collect::<Result<Vec<_>, _>>()?;
        let grpc_listener = match limits.grpc {
            Some(address) => Some(Listener::bind(&ListenOn::Tcp(address)).await.context(
                "gRPC has no port; choose another with `--grpc-listen`, or switch it `off`",
            )?),
            None => None,
        };
        let grpc_url = grpc_listener.as_ref().map(Listener::url).transpose()?;
        let metrics_listener =
            match limits.metrics {
                Some(address) => Some(Listener::bind(&ListenOn::Tcp(address)).await.context(
                    "metrics have no port of their own; choose another with `--metrics`",
                )?),
                None => None,
            };
        let started = Started {
            url: urls[0].clone(),
            urls: urls.clone(),
            grpc: grpc_url.map(|url| url.trim_start_matches("http://").to_owned()),
            metrics_url: metrics_listener.as_ref().map(Listener::url).transpose()?,
            model: model.name.clone(),
            version: model.version.clone(),
            policy: config.policy().to_string(),
            paths: names.clone(),
        };
        output.result(&started, || {
            let metrics = started.metrics_url.as_ref().map(|url| format!("; metrics at {url}"));
            format!(
                "{} version {} at {}{} by policy {}: {}{}",
                started.model,
                started.version,
                started.urls.join(", "),
                started.grpc.as_ref().map(|at| format!(" and grpc://{at}")).unwrap_or_default(),
                started.policy,
                names.join(", "),
                metrics.unwrap_or_default()
            )
        })?;
        let endpoint = Arc::new(Endpoint::new(Arc::clone(&engine), metrics, Limits::default()));
        let stop = stop_signal().shared();
        let grpc = async {
            let listener = grpc_listener?;
            Some(grpc::serve(vec![listener], Arc::clone(&endpoint), grpc, stop.clone()).await)
        };
        let observation = HttpConfig { routes: Routes::Observation, ..http.clone() };
        let watched = async {
            let listeners = vec![metrics_listener?];
            Some(http::serve(listeners, Arc::clone(&endpoint), observation, stop.clone()).await)
        };
        let http = http::serve(listeners, Arc::clone(&endpoint), http, stop.clone());
        let (http, grpc, _) = tokio::join!(http, grpc, watched);
        tracing::info!(?http, ?grpc, "connections are closed");
        Ok::<(), Failure>(())
    })?;
    // What the endpoint took has been answered or cut off; nothing waits for the engine now.
    engine.shutdown(config.drain().min(Duration::from_secs(2)));
    Ok(())
}

/// Completes when the process is asked to stop.
async fn stop_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = match signal(SignalKind::terminate()) {
        Ok(terminate) => terminate,
        Err(error) => {
            tracing::error!(%error, "SIGTERM cannot be caught; it will end the process at once");
            return std::future::pending().await;
        }
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}
