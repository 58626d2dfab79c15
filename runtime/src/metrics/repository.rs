//! Which versions of which models are served, and how loading them went.

use std::sync::{Mutex, PoisonError};

use super::{server::Metrics, text::Page};

/// What the repository says of a model at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct VersionsObservation {
    /// Its name.
    pub name: String,
    /// The version that is served, if one is.
    pub version: Option<String>,
    /// When that was loaded, in seconds since 1970.
    pub loaded_unix_seconds: f64,
    /// Versions that hold memory: the one that is served, those kept to go back to, those that finish.
    pub resident_versions: usize,
    /// Versions that took over since the start.
    pub loads: u64,
    /// Loads that failed since the start.
    pub failures: u64,
    /// Times that an earlier version was taken back.
    pub rollbacks: u64,
}

/// The latest observation. Models come and go, so that there is nothing to keep beside it.
#[derive(Debug, Default)]
pub(super) struct Versions(Mutex<Vec<VersionsObservation>>);

impl Metrics {
    /// Takes down which models are served, before every rendering.
    pub fn observe_versions(&self, models: Vec<VersionsObservation>) {
        *self.versions.0.lock().unwrap_or_else(PoisonError::into_inner) = models;
    }
}

impl Versions {
    pub(super) fn render(&self, page: &mut Page) {
        let models = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if models.is_empty() {
            return;
        }
        let served = || models.iter().filter_map(|model| Some((model, model.version.as_deref()?)));
        let name = "mprec_model_loaded_timestamp_seconds";
        page.start(name, "gauge", "When that version was loaded, in seconds since 1970.");
        for (model, version) in served() {
            let labels = [("model", model.name.as_str()), ("version", version)];
            page.value(name, &labels, model.loaded_unix_seconds);
        }
        type Read = fn(&VersionsObservation) -> u64;
        let counts: [(&str, &str, &str, Read); 4] = [
            (
                "mprec_model_resident_versions",
                "gauge",
                "Versions that hold memory: served, kept to go back to, or finishing.",
                |model| model.resident_versions as u64,
            ),
            ("mprec_model_loads_total", "counter", "Versions that took over.", |model| model.loads),
            (
                "mprec_model_load_failures_total",
                "counter",
                "Loads that failed and changed nothing.",
                |model| model.failures,
            ),
            (
                "mprec_model_rollbacks_total",
                "counter",
                "Times that an earlier version was taken back.",
                |model| model.rollbacks,
            ),
        ];
        for (name, kind, help, read) in counts {
            page.start(name, kind, help);
            for model in models.iter() {
                page.value(name, &[("model", &model.name)], read(model));
            }
        }
    }
}
