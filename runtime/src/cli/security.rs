//! Certificates and keys of a server, and reading them again.

use std::{net::SocketAddr, sync::Arc};

use mprec_runtime::{
    config::{Config, SecurityConfig},
    http::ListenOn,
    metrics::Metrics,
    security::{Certificates, KeyRing},
};

use super::{Failure, InputError as _};

/// What connections are secured with, and the keys that requests need.
pub(super) struct Security {
    pub(super) certificates: Option<Arc<Certificates>>,
    pub(super) keys: Option<Arc<KeyRing>>,
}

impl Security {
    /// Reads the files that the configuration names, and warns of what is less secure than it looks.
    pub(super) fn open(config: &Config) -> Result<Self, Failure> {
        let SecurityConfig { tls, keys } = config.security();
        let certificates = tls.as_ref().map(Certificates::read).transpose().or_bad_input()?;
        let keys = keys.as_ref().map(|file| KeyRing::read(file)).transpose().or_bad_input()?;
        let is_remote = |at: &SocketAddr| !at.ip().is_loopback();
        let listen = config.server().listen.iter().filter_map(|on| match on {
            ListenOn::Tcp(at) => Some(at),
            ListenOn::Unix(_) => None,
        });
        let admin = config.admin();
        let mut admin = admin.http.iter().chain(&admin.grpc);
        let mut places = listen.chain(&config.server().grpc).chain(admin.clone());
        if keys.is_some() && certificates.is_none() && places.any(is_remote) {
            tracing::warn!("keys come over the network in the clear; set `[tls]`");
        }
        let has_clients_ca = tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
        if admin.any(is_remote) && keys.is_none() && !has_clients_ca {
            tracing::warn!(
                "whoever reaches the listeners of `[admin]` may unload models; set `[auth]`"
            );
        }
        Ok(Self { certificates: certificates.map(Arc::new), keys: keys.map(Arc::new) })
    }

    /// What a listener beside the main ones is secured with: on a loopback address nobody but this machine's own processes
    /// can read along, and those who look after the server need no certificates.
    pub(super) fn of_side_listener(&self, at: Option<SocketAddr>) -> Option<Arc<Certificates>> {
        self.certificates.clone().filter(|_| at.is_some_and(|at| !at.ip().is_loopback()))
    }

    /// Reads the files again: those of `config`, or else those of before. What cannot be used leaves things as they are.
    pub(super) fn reload(&self, config: Option<&SecurityConfig>, metrics: &Metrics) {
        let tls = config.map(|config| config.tls.as_ref());
        let keys = config.map(|config| config.keys.as_deref());
        let was = [self.certificates.is_some(), self.keys.is_some()];
        let is = [tls.map(|tls| tls.is_some()), keys.map(|keys| keys.is_some())];
        for (section, (was, is)) in ["[tls]", "[auth]"].into_iter().zip(was.into_iter().zip(is)) {
            if is.is_some_and(|is| is != was) {
                tracing::warn!(section, "switching it on or off takes effect with a restart");
            }
        }
        if let Some(certificates) = &self.certificates {
            match certificates.read_again(tls.flatten()) {
                Ok(()) => tracing::info!("new connections get the certificate as it is now"),
                Err(error) => {
                    let error = format!("{:#}", anyhow::Error::from(error));
                    tracing::error!(error, "new connections get the certificate of before");
                }
            }
        }
        if let Some(ring) = &self.keys {
            match ring.read_again(keys.flatten()) {
                Ok(()) => {
                    self.show_keys(metrics);
                    tracing::info!("the keys were read again");
                }
                Err(error) => {
                    let error = format!("{:#}", anyhow::Error::from(error));
                    tracing::error!(error, "the keys stay as they were");
                }
            }
        }
    }

    /// Has the metrics show how often each key was used.
    pub(super) fn show_keys(&self, metrics: &Metrics) {
        metrics.show_keys(self.keys.as_ref().map(|keys| keys.uses()).unwrap_or_default());
    }
}
