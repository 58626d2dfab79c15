//! From a URL's path to what it names.

use std::borrow::Cow;

use super::percent::decode;
use crate::status::Asset;

/// What a URL names.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Route<'a> {
    Server,
    Live,
    Ready,
    Metrics,
    OpenApi,
    Status(Asset),
    Model(ModelRef<'a>),
    ModelReady(ModelRef<'a>),
    ModelConfig(ModelRef<'a>),
    /// Of one model, or of all.
    Statistics(Option<ModelRef<'a>>),
    Infer(ModelRef<'a>),
}

/// A model, and a version if the URL has one. Both are compared with what the service holds and
/// used for nothing else, so that no spelling can reach a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ModelRef<'a> {
    pub(super) name: Cow<'a, str>,
    pub(super) version: Option<Cow<'a, str>>,
}

/// One line of the OpenAPI document.
#[derive(Debug)]
pub(super) struct RouteRow {
    pub(super) verb: &'static str,
    /// With `{model_name}` where one stands, and then also with a version.
    pub(super) path: &'static str,
    /// A name for programs.
    pub(super) id: &'static str,
    pub(super) about: &'static str,
    pub(super) shown: Shown,
}

/// What a route answers with.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shown {
    Server,
    Model,
    ModelConfig,
    Statistics,
    Scores,
    Object,
    Text,
}

/// Every route.
pub(super) const ROUTES: &[RouteRow] = &[
    row("GET", "/v2", "serverMetadata", "The server and its extensions", Shown::Server),
    row("GET", "/v2/health/live", "serverLive", "That the server runs", Shown::Object),
    row(
        "GET",
        "/v2/health/ready",
        "serverReady",
        "200 if queries can be answered, else 503",
        Shown::Object,
    ),
    row("GET", "/metrics", "metrics", "Prometheus text", Shown::Text),
    row("GET", "/v2/openapi.json", "openApi", "This document", Shown::Object),
    row(
        "GET",
        "/v2/models/stats",
        "allStatistics",
        "What was done, for all models",
        Shown::Statistics,
    ),
    row(
        "GET",
        "/v2/models/{model_name}",
        "modelMetadata",
        "The model's features, paths and limits",
        Shown::Model,
    ),
    row(
        "GET",
        "/v2/models/{model_name}/ready",
        "modelReady",
        "200 if the model can answer, else 503",
        Shown::Object,
    ),
    row(
        "GET",
        "/v2/models/{model_name}/config",
        "modelConfig",
        "Triton's configuration of the model",
        Shown::ModelConfig,
    ),
    row(
        "GET",
        "/v2/models/{model_name}/stats",
        "modelStatistics",
        "What was done, by model and path",
        Shown::Statistics,
    ),
    row(
        "POST",
        "/v2/models/{model_name}/infer",
        "modelInfer",
        "Scores, one per sample",
        Shown::Scores,
    ),
];

const fn row(
    verb: &'static str,
    path: &'static str,
    id: &'static str,
    about: &'static str,
    shown: Shown,
) -> RouteRow {
    RouteRow { verb, path, id, about, shown }
}

impl RouteRow {
    /// The path, and the one with a version if there may be one.
    pub(super) fn paths(&self) -> impl Iterator<Item = String> {
        let model = "{model_name}";
        let versioned = self
            .path
            .contains(model)
            .then(|| self.path.replace(model, &format!("{model}/versions/{{model_version}}")));
        std::iter::once(self.path.to_owned()).chain(versioned)
    }
}

impl<'a> Route<'a> {
    /// The route of a path such as `/v2/models/ctr/infer`.
    pub(super) fn of(path: &'a str) -> Option<Self> {
        let mut parts = path.strip_prefix('/')?.split('/');
        match parts.next()? {
            "metrics" => return parts.next().is_none().then_some(Self::Metrics),
            "v2" => {}
            name if parts.next().is_none() => return Asset::of(name).map(Self::Status),
            _ => return None,
        }
        let rest: Vec<&str> = parts.take(6).collect();
        match rest.as_slice() {
            [] => Some(Self::Server),
            ["openapi.json"] => Some(Self::OpenApi),
            ["health", "live"] => Some(Self::Live),
            ["health", "ready"] => Some(Self::Ready),
            ["models", "stats"] => Some(Self::Statistics(None)),
            ["models", name, "versions", version, rest @ ..] => Self::of_model(
                ModelRef { name: decode(name)?, version: Some(decode(version)?) },
                rest,
            ),
            ["models", name, rest @ ..] => {
                Self::of_model(ModelRef { name: decode(name)?, version: None }, rest)
            }
            _ => None,
        }
    }

    fn of_model(model: ModelRef<'a>, rest: &[&str]) -> Option<Self> {
        match rest {
            [] => Some(Self::Model(model)),
            ["ready"] => Some(Self::ModelReady(model)),
            ["config"] => Some(Self::ModelConfig(model)),
            ["stats"] => Some(Self::Statistics(Some(model))),
            ["infer"] => Some(Self::Infer(model)),
            _ => None,
        }
    }

    /// Whether the route is for those who watch the server, and not for its clients.
    pub(super) fn is_observation(&self) -> bool {
        matches!(self, Self::Metrics | Self::Status(_) | Self::Live | Self::Ready)
    }

    /// The verbs that the route takes, as the `Allow` header has them.
    pub(super) fn verbs(&self) -> &'static str {
        match self {
            Self::Infer(_) => "POST",
            _ => "GET, HEAD",
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn model(name: &'static str, version: Option<&'static str>) -> ModelRef<'static> {
        ModelRef { name: name.into(), version: version.map(Into::into) }
    }

    #[test]
    fn every_url_has_its_route() {
        for (path, route) in [
            ("/v2", Some(Route::Server)),
            ("/v2/health/live", Some(Route::Live)),
            ("/v2/health/ready", Some(Route::Ready)),
            ("/metrics", Some(Route::Metrics)),
            ("/v2/openapi.json", Some(Route::OpenApi)),
            ("/", Some(Route::Status(Asset::Page))),
            ("/status.json", Some(Route::Status(Asset::Figures))),
            ("/status.js", Some(Route::Status(Asset::Script))),
            ("/status.css", Some(Route::Status(Asset::Style))),
            ("/v2/models/ctr", Some(Route::Model(model("ctr", None)))),
            ("/v2/models/a%20b%2Fc", Some(Route::Model(model("a b/c", None)))),
            ("/v2/models/ctr/versions/3", Some(Route::Model(model("ctr", Some("3"))))),
            ("/v2/models/ctr/ready", Some(Route::ModelReady(model("ctr", None)))),
            ("/v2/models/ctr/config", Some(Route::ModelConfig(model("ctr", None)))),
            ("/v2/models/stats", Some(Route::Statistics(None))),
            ("/v2/models/ctr/stats", Some(Route::Statistics(Some(model("ctr", None))))),
            (
                "/v2/models/ctr/versions/3/stats",
                Some(Route::Statistics(Some(model("ctr", Some("3"))))),
            ),
            ("/v2/models/ctr/infer", Some(Route::Infer(model("ctr", None)))),
            ("/v2/models/ctr/versions/3/infer", Some(Route::Infer(model("ctr", Some("3"))))),
            // A model may be called `versions`.
            ("/v2/models/versions/infer", Some(Route::Infer(model("versions", None)))),
            ("", None),
            ("//", None),
            ("/status.json/", None),
            ("/status.html", None),
            ("/v2/", None),
            ("/v2/models", None),
            ("/v2/models/", None),
            ("/v2/models//infer", None),
            ("/v2/models/ctr/", None),
            ("/v2/models/ctr/infer/", None),
            ("/v2/models/ctr/versions//infer", None),
            ("/v2/models/%zz", None),
            ("/v2/models/%f", None),
            ("/v2/models/%ff", None),
            ("/v2/models/ctr/versions/3/infer/x/y/z", None),
            ("/metrics/x", None),
            ("/v3", None),
        ] {
            assert_eq!(Route::of(path), route, "{path}");
        }
    }

    #[test]
    fn the_table_has_every_route_and_its_verb() {
        let mut kinds = std::collections::BTreeSet::new();
        for row in ROUTES {
            for path in row.paths() {
                let path = path.replace("{model_name}", "m").replace("{model_version}", "1");
                let route = Route::of(&path).unwrap_or_else(|| panic!("{path} has no route"));
                assert!(route.verbs().contains(row.verb), "{path}");
                let name = format!("{route:?}");
                kinds.insert(name.split('(').next().unwrap_or_default().to_owned());
            }
        }
        // As many as `Route` has variants; statistics count once.
        assert_eq!(kinds.len(), 10, "{kinds:?}");
    }

    proptest! {
        #[test]
        fn any_path_has_a_route_or_none(path in "(/v2|/v2/models)?[/%a-f0-9.é]{0,24}") {
            let _ = Route::of(&path);
        }
    }
}
