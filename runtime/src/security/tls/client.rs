//! The client's side, for the commands that ask a server.

use std::{fmt, io, path::Path, sync::Arc};

use rustls::{ClientConfig, pki_types::ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::pem;
use crate::security::{Io, TlsError};

/// What is asked of a server, and shown to it.
#[derive(Clone)]
pub struct TlsClient(Arc<ClientConfig>);

impl TlsClient {
    /// Trusts servers whose certificate one in `ca` has signed, or is. `identity` is the certificate to show, and its key.
    ///
    /// # Errors
    ///
    /// [`TlsError`], which names the file.
    pub fn new(ca: &Path, identity: Option<(&Path, &Path)>) -> Result<Self, TlsError> {
        let builder = ClientConfig::builder_with_provider(pem::provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| pem::unusable(ca, error))?
            .with_root_certificates(pem::roots(ca)?);
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => builder
                .with_client_auth_cert(pem::certificates(certificate)?, pem::private_key(key)?)
                .map_err(|error| pem::unusable(key, error))?,
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(Arc::new(config)))
    }

    /// Secures a connection to the server of this name, which is a host's or an address.
    pub(crate) async fn connect(&self, host: &str, stream: TcpStream) -> io::Result<Box<dyn Io>> {
        // As URLs write addresses of IPv6.
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(host).map_err(io::Error::other)?;
        Ok(Box::new(TlsConnector::from(Arc::clone(&self.0)).connect(name, stream).await?))
    }
}

impl fmt::Debug for TlsClient {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("TlsClient")
    }
}
