//! `mprec serve`: the endpoint.

use std::{
    collections::BTreeSet,
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use clap::Args;
use futures_util::FutureExt as _;
use indicatif::ProgressBar;
use mprec_backends::HotId;
use mprec_representations::Bundle;
use mprec_runtime::{
    config::{Budgets, Config, ConfigError, ConfigFile, OneOrMany},
    endpoint::{Control, Endpoint, Limits},
    engine::EngineError,
    grpc::{self, GrpcConfig},
    http::{self, HttpConfig, ListenOn, Listener, Routes},
    metrics::Metrics,
    profiler::Progress,
    repository::{Inputs, LoadError, Recipe, Repository, RepositoryOptions, Rows, RowsError},
    service::Model,
    status::StatusPage,
};
use serde::Serialize;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
};

use super::{
    Failure, InputError as _, Output, Run,
    inputs::{MADE_UP, hot_ids, inputs},
    output::Unit,
    security::Security,
};

#[derive(Debug, Args)]
#[command(
    after_help = "Flags override variables such as MPREC_SERVER_LISTEN, which override the config file. Send SIGTERM or press Ctrl-C to drain and stop, SIGHUP to read the config file again and load models that changed."
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
    /// Where models may be loaded and unloaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    admin: Option<String>,
    /// The same, over gRPC.
    #[serde(skip_serializing_if = "Option::is_none")]
    admin_grpc: Option<String>,
    /// Of the first model, which is the only one as a rule; absent where it begins with none.
    #[serde(flatten)]
    first: Option<StartedModel>,
    policy: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    more: Vec<StartedModel>,
}

#[derive(Serialize)]
struct StartedModel {
    model: String,
    version: String,
    paths: Vec<String>,
}

impl fmt::Display for StartedModel {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { model, version, paths } = self;
        write!(formatter, "{model} version {version}: {}", paths.join(", "))
    }
}

impl Serve {
    pub(super) fn run(&self, variables: &[(String, String)], output: &Output) -> Run {
        let file = self.file(variables).or_bad_input()?;
        if self.check {
            return check(file, output);
        }
        let config = file.check().or_bad_input()?;
        let recipes = Recipe::all_of(&config);
        set_log_filter(&config)?;
        let read_again = || self.file(variables)?.check();
        run_server(self, &config, recipes, &read_again, output)
    }

    /// The configuration as it is now: the file, then variables, then flags.
    fn file(&self, variables: &[(String, String)]) -> Result<ConfigFile, ConfigError> {
        let file = match &self.config {
            Some(path) => ConfigFile::read(path)?,
            None => ConfigFile::default(),
        };
        let mut file = file.with_variables(variables.iter().cloned())?;
        self.override_keys(&mut file);
        Ok(file)
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
}

/// Tries everything but measuring, and says all that is wrong, or what is in force.
fn check(file: ConfigFile, output: &Output) -> Run {
    let problems = file.problems();
    if !problems.is_empty() {
        let lines: Vec<String> =
            problems.into_iter().map(|error| format!("{:#}", anyhow::Error::from(error))).collect();
        return Err(Failure::input(anyhow::anyhow!(lines.join("\n"))));
    }
    let config = file.check().or_bad_input()?;
    let (mut paths, mut problems) = (Vec::new(), Vec::new());
    let mut resident = Budgets::new();
    for recipe in Recipe::all_of(&config) {
        match recipe.try_out(config.budgets(), &resident) {
            Ok(tried) => {
                paths.extend(tried.paths);
                for (device, bytes) in tried.bytes {
                    resident.entry(device).or_default().0 += bytes.0;
                }
            }
            Err(error) => {
                let name = recipe.name.as_ref().map(|name| format!("model `{name}`: "));
                let error = anyhow::Error::from(error);
                problems.push(format!("{}{error:#}", name.unwrap_or_default()));
            }
        }
    }
    let security = config.security().problems();
    problems.extend(security.into_iter().map(|error| format!("{:#}", anyhow::Error::from(error))));
    if !problems.is_empty() {
        return Err(Failure::input(anyhow::anyhow!(problems.join("\n"))));
    }
    let effective = config.effective();
    let text = toml::to_string(&effective)?;
    let result = serde_json::json!({"valid": true, "paths": paths, "effective": effective});
    output.result(&result, || {
        let places: Vec<String> = config.server().listen.iter().map(ToString::to_string).collect();
        format!("{text}\n# valid: {} on {}", paths.join(", "), places.join(", "))
    })
}

fn set_log_filter(config: &Config) -> Result<(), Failure> {
    config.log_filter().map_or(Ok(()), super::set_log_filter).or_bad_input()
}

/// Rows of a prepared folder, or made up; a bar while measuring.
struct ServedRows {
    data: Option<PathBuf>,
    output: Output,
    bar: Mutex<Option<ProgressBar>>,
}

impl ServedRows {
    fn bar(&self) -> MutexGuard<'_, Option<ProgressBar>> {
        self.bar.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rows for ServedRows {
    fn inputs(&self, bundle: &Bundle) -> Result<Inputs, RowsError> {
        // The note that they are made up belongs to measuring.
        let inputs = inputs(bundle, self.data.as_deref(), &self.output.quiet());
        inputs.map_err(|failure| failure.to_string().into())
    }

    fn hot_ids(&self, bundle: &Bundle, cache_bytes: usize) -> Result<Vec<HotId>, RowsError> {
        let hot = hot_ids(bundle, self.data.as_deref(), cache_bytes);
        hot.map_err(|failure| failure.to_string().into())
    }

    fn measuring(&self, progress: Progress<'_>) {
        let mut bar = self.bar();
        let bar = bar.get_or_insert_with(|| {
            if self.data.is_none() {
                self.output.note(MADE_UP);
            }
            self.output.bar("profiling", 0, Unit::Steps)
        });
        bar.set_length(progress.of as u64);
        bar.set_position(progress.done as u64);
        bar.set_message(format!("{}, batch {}", progress.path, progress.batch));
    }
}

/// The repository with every configured model, and what each is.
fn load_all(
    serve: &Serve,
    config: &Config,
    recipes: Vec<Recipe>,
    output: &Output,
) -> Result<(Repository, Vec<Arc<Model>>), Failure> {
    let repository = config.repository();
    let options = RepositoryOptions {
        folder: repository.folder.clone(),
        base: Recipe::base_of(config),
        budgets: config.budgets().clone(),
        keep_versions: repository.keep_versions,
        verify: repository.verify,
        drain: config.drain(),
        watch: repository.watch,
    };
    let rows =
        Arc::new(ServedRows { data: serve.data.clone(), output: *output, bar: Mutex::default() });
    let repository = Repository::new(options, Box::new(Arc::clone(&rows)))?;
    let models = recipes.into_iter().map(|recipe| repository.start(recipe));
    let models = models.collect::<Result<Vec<_>, _>>().map_err(|error| match error {
        LoadError::Engine(EngineError::Record(_)) => Failure::input(error),
        LoadError::Engine(_) | LoadError::Internal { .. } => error.into(),
        other => Failure::input(other),
    })?;
    if let Some(bar) = rows.bar().take() {
        bar.finish_and_clear();
    }
    Ok((repository, models))
}

fn run_server(
    serve: &Serve,
    config: &Config,
    recipes: Vec<Recipe>,
    read_again: &dyn Fn() -> Result<Config, ConfigError>,
    output: &Output,
) -> Run {
    // Before the models, which take longer.
    let security = Security::open(config)?;
    let (repository, models) = load_all(serve, config, recipes, output)?;
    let repository = Arc::new(repository);
    let names: BTreeSet<&str> =
        models.iter().flat_map(|model| model.paths.keys()).map(String::as_str).collect();
    let names: Vec<&str> = names.into_iter().collect();
    let mut slas: Vec<Duration> = models.iter().map(|model| model.sla).collect();
    slas.push(config.constraints().sla);
    let metrics = Arc::new(Metrics::new(env!("CARGO_PKG_VERSION"), &names, &slas));
    security.show_keys(&metrics);
    let limits = config.server();
    let http = HttpConfig {
        statuses: limits.errors,
        status: limits
            .status_page
            .then(|| Arc::new(StatusPage::new(config.effective().settings()))),
        max_body_bytes: limits.max_body_bytes,
        drain_timeout: config.drain(),
        ..HttpConfig::default()
    };
    let grpc_config = GrpcConfig {
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
        let is_secure = security.certificates.is_some();
        let url_of = |listener: &Listener, is_secure: bool| {
            let url = listener.url()?;
            Ok(if is_secure { url.replacen("http://", "https://", 1) } else { url })
        };
        let urls = listeners.iter().map(|listener| url_of(listener, is_secure));
        let urls = urls.collect::<std::io::Result<Vec<_>>>()?;
        let at = |address: Option<std::net::SocketAddr>| address.map(ListenOn::Tcp);
        let grpc_listener = bind(
            at(limits.grpc),
            "gRPC has no port; choose another with `--grpc-listen`, or switch it `off`",
        );
        let grpc_listener = grpc_listener.await?;
        let metrics_listener = bind(
            at(limits.metrics),
            "metrics have no port of their own; choose another with `--metrics`",
        );
        let metrics_listener = metrics_listener.await?;
        let admin = config.admin();
        let admin_http = bind(at(admin.http), "there is no port for `admin.listen`").await?;
        let admin_grpc = bind(at(admin.grpc), "there is no port for `admin.grpc`").await?;
        let metrics_tls = security.of_side_listener(limits.metrics);
        let admin_tls = security.of_side_listener(admin.http);
        let admin_grpc_tls = security.of_side_listener(admin.grpc);
        let url = |listener: &Option<Listener>, is_secure| {
            listener.as_ref().map(|listener| url_of(listener, is_secure)).transpose()
        };
        // gRPC's own names have no scheme.
        let grpc_at = |listener: &Option<Listener>| {
            url(listener, false)
                .map(|url| url.map(|url| url.trim_start_matches("http://").to_owned()))
        };
        let mut described = models.iter().map(|model| StartedModel {
            model: model.name.clone(),
            version: model.version.clone(),
            paths: model.paths.keys().cloned().collect(),
        });
        let started = Started {
            url: urls[0].clone(),
            urls,
            grpc: grpc_at(&grpc_listener)?,
            metrics_url: url(&metrics_listener, metrics_tls.is_some())?,
            admin: url(&admin_http, admin_tls.is_some())?,
            admin_grpc: grpc_at(&admin_grpc)?,
            first: described.next(),
            policy: config.policy().to_string(),
            more: described.collect(),
        };
        // Before anybody can know that there is a server to be sent a signal.
        let hangup = signal(SignalKind::hangup())?;
        output.result(&started, || {
            let models = started.first.iter().chain(&started.more);
            let scheme = if is_secure { "grpcs" } else { "grpc" };
            let grpc = started.grpc.as_ref().map(|at| format!(" and {scheme}://{at}"));
            let places = format!("{}{}", started.urls.join(", "), grpc.unwrap_or_default());
            let mut lines = vec![format!("{places} by policy {}", started.policy)];
            lines.extend(started.metrics_url.iter().map(|url| format!("metrics at {url}")));
            lines.extend(models.map(ToString::to_string));
            lines.extend(started.admin.iter().map(|url| format!("models are managed at {url}")));
            let grpc = started.admin_grpc.iter();
            lines.extend(grpc.map(|at| format!("models are managed at grpc://{at}")));
            lines.join("\n")
        })?;
        // A model must not be held on to, or its version could not be freed when it goes.
        drop(models);
        let endpoint = |control: Option<Arc<dyn Control>>| {
            let limits = Limits::default();
            let mut endpoint = Endpoint::new(Arc::clone(&repository), Arc::clone(&metrics), limits);
            if let Some(control) = control {
                endpoint = endpoint.with_control(control);
            }
            if let Some(keys) = &security.keys {
                endpoint = endpoint.with_keys(Arc::clone(keys));
            }
            Arc::new(endpoint)
        };
        let (stop, stopped) = watch::channel(false);
        let stopping = {
            let mut stopped = stopped;
            // An error would mean that nobody can ask for it any more, which is a stop too.
            async move { drop(stopped.wait_for(|&stopped| stopped).await) }.shared()
        };
        let serve_http = |listeners: Vec<Listener>, control, routes, tls| {
            let (endpoint, stop) = (endpoint(control), stopping.clone());
            let http = HttpConfig { routes, tls, ..http.clone() };
            async move {
                match listeners.is_empty() {
                    true => None,
                    false => Some(http::serve(listeners, endpoint, http, stop).await),
                }
            }
        };
        let serve_grpc = |listener: Option<Listener>, control, tls| {
            let (endpoint, stop) = (endpoint(control), stopping.clone());
            let grpc_config = GrpcConfig { tls, ..grpc_config.clone() };
            async move {
                let listener = listener?;
                Some(grpc::serve(vec![listener], endpoint, grpc_config, stop).await)
            }
        };
        let control = || Some(Arc::clone(&repository) as Arc<dyn Control>);
        let tls = || security.certificates.clone();
        let one = |listener: Option<Listener>| listener.into_iter().collect();
        let main = serve_http(listeners, None, Routes::All, tls());
        let watched = serve_http(one(metrics_listener), None, Routes::Observation, metrics_tls);
        let admin = serve_http(one(admin_http), control(), Routes::All, admin_tls);
        let grpc = serve_grpc(grpc_listener, None, tls());
        let admin_grpc = serve_grpc(admin_grpc, control(), admin_grpc_tls);
        let signals = async {
            tokio::select! {
                () = stop_signal() => {}
                () = reload_on(hangup, read_again, config, &repository, (&security, &metrics)) => {}
            }
            stop.send_replace(true);
        };
        let (drained, grpc, ..) = tokio::join!(main, grpc, admin, admin_grpc, watched, signals);
        tracing::info!(?drained, ?grpc, "connections are closed");
        Ok::<(), Failure>(())
    })?;
    // What the endpoint took has been answered or cut off; nothing waits for the engines now.
    repository.shutdown(config.drain().min(Duration::from_secs(2)));
    Ok(())
}

/// Listens there, if anywhere; `otherwise` says what to do where that cannot be.
async fn bind(on: Option<ListenOn>, otherwise: &'static str) -> Result<Option<Listener>, Failure> {
    match on {
        Some(on) => Ok(Some(Listener::bind(&on).await.context(otherwise)?)),
        None => Ok(None),
    }
}

/// Reads the configuration again whenever it is asked to. Never completes.
async fn reload_on(
    mut hangup: Signal,
    read_again: &dyn Fn() -> Result<Config, ConfigError>,
    started: &Config,
    repository: &Repository,
    (security, metrics): (&Security, &Metrics),
) {
    while hangup.recv().await.is_some() {
        match read_again() {
            Ok(config) => {
                reload(&config, started, repository);
                security.reload(Some(config.security()), metrics);
            }
            Err(error) => {
                let error = format!("{:#}", anyhow::Error::from(error));
                tracing::error!(error, "the configuration stays as it is");
                // A key that was taken back must not live on because of a mistake elsewhere.
                security.reload(None, metrics);
            }
        }
    }
    std::future::pending::<()>().await;
}

/// Takes over what can be while serving: models and how they are served, and what is logged.
fn reload(config: &Config, started: &Config, repository: &Repository) {
    let fixed = [
        ("[server]", config.server() != started.server()),
        ("[admin]", config.admin() != started.admin()),
        ("[repository]", config.repository() != started.repository()),
        ("[budgets]", config.budgets() != started.budgets()),
        ("[shutdown]", config.drain() != started.drain()),
    ];
    for (section, _) in fixed.iter().filter(|(_, has_changed)| *has_changed) {
        tracing::warn!(section, "it has changed, which takes effect with a restart");
    }
    if let Err(error) = config.log_filter().map_or(Ok(()), super::set_log_filter) {
        tracing::error!(error = format!("{error:#}"), "what is logged stays as it is");
    }
    match repository.reconcile(Recipe::all_of(config)) {
        Ok(()) => tracing::info!("the configuration was read again"),
        Err(error) => tracing::error!(%error, "models stay as they are; ask again"),
    }
}

/// Completes when the process is asked to stop.
async fn stop_signal() {
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
