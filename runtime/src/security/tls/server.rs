//! The server's side.

use std::{fmt, io, sync::Arc};

use arc_swap::ArcSwap;
use rustls::{Error, InconsistentKeys, ServerConfig, server::WebPkiClientVerifier};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::pem;
use crate::security::{HandshakeEnd, HandshakeError, Io, Protocol, TlsError, TlsFiles};

/// The certificate that clients are shown, and what is asked of theirs. Connections never wait for who replaces it.
pub struct Certificates {
    loaded: ArcSwap<Loaded>,
}

struct Loaded {
    files: TlsFiles,
    http1: Arc<ServerConfig>,
    http2: Arc<ServerConfig>,
}

impl Certificates {
    /// Reads the files, and proves that the key is the certificate's. Warns of a private key that everybody may read.
    ///
    /// # Errors
    ///
    /// [`TlsError`], which names the file.
    pub fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        Ok(Self { loaded: ArcSwap::from_pointee(Loaded::read(files)?) })
    }

    /// Reads `files`, or else the files of before, again. Connections that are open stay as they are.
    ///
    /// # Errors
    ///
    /// [`TlsError`], and then new connections get what they got before.
    pub fn read_again(&self, files: Option<&TlsFiles>) -> Result<(), TlsError> {
        let old = self.loaded.load_full();
        let new = Loaded::read(files.unwrap_or(&old.files))?;
        self.loaded.store(Arc::new(new));
        Ok(())
    }

    /// Secures a connection. How long that may take is the caller's affair.
    pub(crate) async fn accept(
        &self,
        protocol: Protocol,
        stream: TcpStream,
    ) -> Result<Box<dyn Io>, HandshakeError> {
        let config = {
            let loaded = self.loaded.load();
            Arc::clone(match protocol {
                Protocol::Http1 => &loaded.http1,
                Protocol::Http2 => &loaded.http2,
            })
        };
        match TlsAcceptor::from(config).accept(stream).await {
            Ok(stream) => Ok(Box::new(stream)),
            Err(source) => Err(HandshakeError { end: end_of(&source), source }),
        }
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Certificates").field(&self.loaded.load().files).finish()
    }
}

impl Loaded {
    fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        let chain = pem::certificates(&files.certificate)?;
        let key = pem::private_key(&files.key)?;
        let builder = ServerConfig::builder_with_provider(pem::provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| pem::unusable(&files.certificate, error))?;
        let builder = match &files.client_ca {
            None => builder.with_no_client_auth(),
            Some(file) => {
                let roots = Arc::new(pem::roots(file)?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, pem::provider());
                let verifier = verifier.build().map_err(|error| pem::unusable(file, error))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let config = builder.with_single_cert(chain, key).map_err(|error| match error {
            Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => TlsError::Mismatch {
                certificate: files.certificate.clone(),
                key: files.key.clone(),
            },
            // Certificates are looked at before keys, and their errors are of another kind.
            error @ Error::InvalidCertificate(_) => pem::unusable(&files.certificate, error),
            error => pem::unusable(&files.key, error),
        })?;
        let with = |protocol: &[u8]| {
            let mut config = config.clone();
            config.alpn_protocols = vec![protocol.to_vec()];
            Arc::new(config)
        };
        Ok(Self { files: files.clone(), http1: with(b"http/1.1"), http2: with(b"h2") })
    }
}

/// What an error of a handshake is counted as.
fn end_of(error: &io::Error) -> HandshakeEnd {
    let theirs = error.get_ref().and_then(|error| error.downcast_ref::<Error>());
    match theirs {
        None => HandshakeEnd::Left,
        Some(Error::InvalidMessage(_)) => HandshakeEnd::NotTls,
        Some(Error::NoCertificatesPresented | Error::InvalidCertificate(_)) => {
            HandshakeEnd::Certificate
        }
        Some(Error::AlertReceived(alert)) => {
            use rustls::AlertDescription as Alert;
            match alert {
                Alert::BadCertificate
                | Alert::UnsupportedCertificate
                | Alert::CertificateRevoked
                | Alert::CertificateExpired
                | Alert::CertificateUnknown
                | Alert::UnknownCA => HandshakeEnd::Certificate,
                _ => HandshakeEnd::Protocol,
            }
        }
        Some(_) => HandshakeEnd::Protocol,
    }
}
