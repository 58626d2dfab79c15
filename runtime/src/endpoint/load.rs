//! How busy the server is, as load balancers ask for it with a request (ORCA).

use std::fmt::Write as _;

use crate::service::Load;

/// Forms of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LoadForm {
    Text,
    Json,
}

impl LoadForm {
    /// The form by the name that clients use.
    pub(crate) fn of(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "text" => Some(Self::Text),
            "json" => Some(Self::Json),
            _ => None,
        }
    }

    /// The report, as its header has it.
    pub(crate) fn report(self, load: &Load) -> String {
        let metrics = [
            ("queued_queries", load.queued_queries as f64),
            ("queued_samples", load.queued_samples as f64),
            ("busy_workers", f64::from(load.busy_workers)),
            ("workers", f64::from(load.workers)),
            ("paths_up", f64::from(load.paths_up)),
        ];
        let utilization = load.utilization;
        match self {
            Self::Text => {
                let mut text = format!("TEXT application_utilization={utilization:.4}");
                for (name, value) in metrics {
                    // Writing to a string cannot fail.
                    let _ = write!(text, ", named_metrics.{name}={value}");
                }
                text
            }
            Self::Json => {
                let named: serde_json::Map<_, _> =
                    metrics.iter().map(|&(name, value)| (name.to_owned(), value.into())).collect();
                let report = serde_json::json!({
                    "application_utilization": (utilization * 1e4).round() / 1e4,
                    "named_metrics": named,
                });
                format!("JSON {report}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_say_the_same() {
        let load = Load {
            utilization: 1.234_56,
            queued_queries: 3,
            queued_samples: 400,
            busy_workers: 2,
            workers: 2,
            paths_up: 1,
        };
        assert_eq!(
            LoadForm::Text.report(&load),
            "TEXT application_utilization=1.2346, named_metrics.queued_queries=3, \
             named_metrics.queued_samples=400, named_metrics.busy_workers=2, \
             named_metrics.workers=2, named_metrics.paths_up=1"
        );
        let json = LoadForm::Json.report(&load);
        let json: serde_json::Value =
            serde_json::from_str(json.strip_prefix("JSON ").unwrap()).unwrap();
        assert_eq!(json["application_utilization"], 1.2346);
        assert_eq!(json["named_metrics"]["queued_samples"], 400.0);
        assert_eq!(LoadForm::of("JSON"), Some(LoadForm::Json));
        assert_eq!(LoadForm::of("bin"), None);
    }
}
