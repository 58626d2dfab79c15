//! A server from its first line to its last.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use mprec_runtime::{
    config::{Config, ConfigError},
    endpoint::{Control, Endpoint, Limits},
    grpc::{self, GrpcConfig},
    http::{self, HttpConfig, Routes},
    metrics::Metrics,
    repository::Repository,
    service::Model,
    status::StatusPage,
};
use tokio::{
    runtime::Runtime,
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
};

use super::{
    places::{Place, Places},
    reload::{reload_on, stop_signal},
};
use crate::cli::{Failure, Output, Run, security::Security};

/// What connections run on, and the signal that asks to read the configuration again, which must not end a process that
/// still loads its models.
pub(super) struct Host {
    runtime: Runtime,
    hangup: Signal,
}

impl Host {
    pub(super) fn new() -> Result<Self, Failure> {
        // Connections need little of a core; the workers need the rest.
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("mprec-endpoint")
            .enable_all()
            .build()?;
        let hangup = {
            let _inside = runtime.enter();
            signal(SignalKind::hangup())?
        };
        Ok(Self { runtime, hangup })
    }
}

/// Serves until a signal asks for an end, then drains.
pub(super) fn run(
    Host { runtime, hangup }: Host,
    config: &Config,
    security: &Security,
    repository: Repository,
    models: Vec<Arc<Model>>,
    read_again: &dyn Fn() -> Result<Config, ConfigError>,
    output: &Output,
) -> Run {
    let repository = Arc::new(repository);
    let metrics = Arc::new(metrics_of(config, &models));
    security.show_keys(&metrics);
    runtime.block_on(async {
        let places = Places::bind(config, security).await?;
        let started = places.started(&models, config.policy().to_string())?;
        output.result(&started, || started.to_string())?;
        // A model must not be held on to, or its version could not be freed when it goes.
        drop(models);

        let (stop, stopped) = watch::channel(false);
        let stopping = {
            let mut stopped = stopped;
            // An error would mean that nobody can ask for it any more, which is a stop too.
            async move { drop(stopped.wait_for(|&stopped| stopped).await) }.shared()
        };
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
        let (http, grpc) = protocols_of(config);
        let serve_http = |Place { listeners, tls }, control, routes| {
            let (endpoint, stop) = (endpoint(control), stopping.clone());
            let http = HttpConfig { routes, tls, ..http.clone() };
            async move {
                if listeners.is_empty() {
                    return None;
                }
                Some(http::serve(listeners, endpoint, http, stop).await)
            }
        };
        let serve_grpc = |Place { listeners, tls }, control| {
            let (endpoint, stop) = (endpoint(control), stopping.clone());
            let grpc = GrpcConfig { tls, ..grpc.clone() };
            async move {
                if listeners.is_empty() {
                    return None;
                }
                Some(grpc::serve(listeners, endpoint, grpc, stop).await)
            }
        };
        let control = || Some(Arc::clone(&repository) as Arc<dyn Control>);
        let main = serve_http(places.http, None, Routes::All);
        let main_grpc = serve_grpc(places.grpc, None);
        let watched = serve_http(places.metrics, None, Routes::Observation);
        let admin = serve_http(places.admin, control(), Routes::All);
        let admin_grpc = serve_grpc(places.admin_grpc, control());
        let signals = async {
            tokio::select! {
                () = stop_signal() => {}
                () = reload_on(hangup, read_again, config, &repository, (security, &metrics)) => {}
            }
            stop.send_replace(true);
        };
        let (drained, grpc, ..) =
            tokio::join!(main, main_grpc, watched, admin, admin_grpc, signals);
        tracing::info!(?drained, ?grpc, "connections are closed");
        Ok::<(), Failure>(())
    })?;
    // What the endpoint took has been answered or cut off; nothing waits for the engines now.
    repository.shutdown(config.drain().min(Duration::from_secs(2)));
    Ok(())
}

/// Metrics with a line for every path, and an edge at every SLA.
fn metrics_of(config: &Config, models: &[Arc<Model>]) -> Metrics {
    let names: BTreeSet<&str> =
        models.iter().flat_map(|model| model.paths.keys()).map(String::as_str).collect();
    let names: Vec<&str> = names.into_iter().collect();
    let mut slas: Vec<Duration> = models.iter().map(|model| model.sla).collect();
    slas.push(config.constraints().sla);
    Metrics::new(env!("CARGO_PKG_VERSION"), &names, &slas)
}

fn protocols_of(config: &Config) -> (HttpConfig, GrpcConfig) {
    let server = config.server();
    let page = || Arc::new(StatusPage::new(config.effective().settings()));
    let http = HttpConfig {
        statuses: server.errors,
        status: server.status_page.then(page),
        max_body_bytes: server.max_body_bytes,
        drain_timeout: config.drain(),
        ..HttpConfig::default()
    };
    let grpc = GrpcConfig {
        max_message_bytes: server.max_body_bytes,
        drain_timeout: config.drain(),
        ..GrpcConfig::default()
    };
    (http, grpc)
}
