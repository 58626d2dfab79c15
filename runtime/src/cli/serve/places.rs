//! Where a server listens, and what it says of itself when it does.

use std::{fmt, io, net::SocketAddr, sync::Arc};

use anyhow::Context as _;
use mprec_runtime::{
    config::Config,
    http::{ListenOn, Listener},
    security::Certificates,
    service::Model,
};
use serde::Serialize;

use crate::cli::{Failure, security::Security};

/// Listeners that do the same; none where it is not wanted.
pub(super) struct Place {
    pub(super) listeners: Vec<Listener>,
    /// What its connections are secured with.
    pub(super) tls: Option<Arc<Certificates>>,
}

/// Every place.
pub(super) struct Places {
    pub(super) http: Place,
    pub(super) grpc: Place,
    /// Metrics, status and health alone.
    pub(super) metrics: Place,
    /// Where models may be managed.
    pub(super) admin: Place,
    pub(super) admin_grpc: Place,
}

/// The first line of the server, and what `--json` prints.
#[derive(Serialize)]
pub(super) struct Started {
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

impl Place {
    /// Listens there, if anywhere; `otherwise` says what to do where that cannot be.
    async fn bind(
        address: Option<SocketAddr>,
        tls: Option<Arc<Certificates>>,
        otherwise: &'static str,
    ) -> Result<Self, Failure> {
        let mut listeners = Vec::new();
        if let Some(address) = address {
            listeners.push(Listener::bind(&ListenOn::Tcp(address)).await.context(otherwise)?);
        }
        Ok(Self { listeners, tls })
    }

    /// Where clients of HTTP find it.
    fn urls(&self) -> io::Result<Vec<String>> {
        let url = |listener: &Listener| {
            let url = listener.url()?;
            Ok(if self.tls.is_some() { url.replacen("http://", "https://", 1) } else { url })
        };
        self.listeners.iter().map(url).collect()
    }

    /// Address and port, as gRPC's clients name a server.
    fn address(&self) -> io::Result<Option<String>> {
        let url = self.listeners.first().map(Listener::url).transpose()?;
        Ok(url.map(|url| url.trim_start_matches("http://").to_owned()))
    }
}

impl Places {
    /// Begins to listen at all of them.
    pub(super) async fn bind(config: &Config, security: &Security) -> Result<Self, Failure> {
        let (server, admin) = (config.server(), config.admin());
        let tls = || security.certificates.clone();
        let beside = |at| security.of_side_listener(at);
        let mut http = Place { listeners: Vec::new(), tls: tls() };
        for on in &server.listen {
            http.listeners.push(Listener::bind(on).await?);
        }
        let otherwise = "gRPC has no port; choose another with `--grpc-listen`, or switch it `off`";
        let grpc = Place::bind(server.grpc, tls(), otherwise).await?;
        let otherwise = "metrics have no port of their own; choose another with `--metrics`";
        let metrics = Place::bind(server.metrics, beside(server.metrics), otherwise).await?;
        let otherwise = "there is no port for `admin.listen`";
        let for_admin = Place::bind(admin.http, beside(admin.http), otherwise).await?;
        let otherwise = "there is no port for `admin.grpc`";
        let admin_grpc = Place::bind(admin.grpc, beside(admin.grpc), otherwise).await?;
        Ok(Self { http, grpc, metrics, admin: for_admin, admin_grpc })
    }

    /// What to say of a server of `models` that listens at these places.
    pub(super) fn started(&self, models: &[Arc<Model>], policy: String) -> io::Result<Started> {
        let mut described = models.iter().map(|model| StartedModel {
            model: model.name.clone(),
            version: model.version.clone(),
            paths: model.paths.keys().cloned().collect(),
        });
        let urls = self.http.urls()?;
        Ok(Started {
            // There is one at least.
            url: urls.first().cloned().unwrap_or_default(),
            urls,
            grpc: self.grpc.address()?,
            metrics_url: self.metrics.urls()?.pop(),
            admin: self.admin.urls()?.pop(),
            admin_grpc: self.admin_grpc.address()?,
            first: described.next(),
            policy,
            more: described.collect(),
        })
    }
}

impl fmt::Display for StartedModel {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { model, version, paths } = self;
        write!(formatter, "{model} version {version}: {}", paths.join(", "))
    }
}

impl fmt::Display for Started {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_secure = self.url.starts_with("https://");
        let scheme = if is_secure { "grpcs" } else { "grpc" };
        write!(formatter, "{}", self.urls.join(", "))?;
        if let Some(at) = &self.grpc {
            write!(formatter, " and {scheme}://{at}")?;
        }
        write!(formatter, " by policy {}", self.policy)?;
        if let Some(url) = &self.metrics_url {
            write!(formatter, "\nmetrics at {url}")?;
        }
        for model in self.first.iter().chain(&self.more) {
            write!(formatter, "\n{model}")?;
        }
        if let Some(url) = &self.admin {
            write!(formatter, "\nmodels are managed at {url}")?;
        }
        if let Some(at) = &self.admin_grpc {
            write!(formatter, "\nmodels are managed at grpc://{at}")?;
        }
        Ok(())
    }
}
