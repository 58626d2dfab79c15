//! Signals: to read the configuration again, and to stop.

use mprec_runtime::{
    config::{Config, ConfigError},
    metrics::Metrics,
    repository::{Recipe, Repository},
};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cli::{security::Security, set_log_filter};

/// Reads the configuration again whenever it is asked to. Never completes.
pub(super) async fn reload_on(
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
        ("[record]", config.record() != started.record()),
        ("[shutdown]", config.drain() != started.drain()),
    ];
    for (section, _) in fixed.iter().filter(|(_, has_changed)| *has_changed) {
        tracing::warn!(section, "it has changed, which takes effect with a restart");
    }
    if let Err(error) = config.log_filter().map_or(Ok(()), set_log_filter) {
        tracing::error!(error = format!("{error:#}"), "what is logged stays as it is");
    }
    let mut recipes = Recipe::all_of(config);
    let kept = Recipe::base_of(started);
    for recipe in &mut recipes {
        // Of sections that take a restart.
        recipe.max_samples = kept.max_samples;
        recipe.record.clone_from(&kept.record);
    }
    match repository.reconcile(recipes) {
        Ok(()) => tracing::info!("the configuration was read again"),
        Err(error) => tracing::error!(%error, "models stay as they are; ask again"),
    }
}

/// Completes when the process is asked to stop.
pub(super) async fn stop_signal() {
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
