//! `[tls]` and `[auth]`: what connections are secured with, and whose requests are answered.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::ConfigError;
use crate::security::{Certificates, IS_COMPILED, KeyRing, KeysError, TlsError, TlsFiles};

/// `[tls]`: what connections are secured with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsFile {
    /// The server's certificate, and those between it and one that clients know.
    pub certificate: Option<PathBuf>,
    /// Its private key.
    pub key: Option<PathBuf>,
    /// Who must have signed the certificates of clients.
    pub client_ca: Option<PathBuf>,
}

/// `[auth]`: whose requests are answered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuthFile {
    /// The keys, one of which a request needs.
    pub keys_file: Option<PathBuf>,
}

/// Who may ask, and that nobody else reads along.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SecurityConfig {
    /// The files of TLS; `None` leaves connections as they are.
    pub tls: Option<TlsFiles>,
    /// The file of keys; without one, no request needs a key.
    pub keys: Option<PathBuf>,
}

impl SecurityConfig {
    /// Tries the files, and says what is wrong with each.
    pub fn problems(&self) -> Vec<SecurityProblem> {
        let tls = self.tls.as_ref().and_then(|files| Certificates::read(files).err());
        let keys = self.keys.as_ref().and_then(|file| KeyRing::read(file).err());
        tls.map(Into::into).into_iter().chain(keys.map(Into::into)).collect()
    }

    pub(super) fn to_files(&self) -> (TlsFile, AuthFile) {
        let tls = self.tls.clone().map_or_else(TlsFile::default, |files| TlsFile {
            certificate: Some(files.certificate),
            key: Some(files.key),
            client_ca: files.client_ca,
        });
        (tls, AuthFile { keys_file: self.keys.clone() })
    }
}

/// A file of certificates or keys that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SecurityProblem {
    /// Certificates.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Keys.
    #[error(transparent)]
    Keys(#[from] KeysError),
}

pub(super) fn check_security(tls: TlsFile, auth: AuthFile) -> Result<SecurityConfig, ConfigError> {
    let missing = |key, example| Err(ConfigError::Missing { key, example });
    let tls = match (tls.certificate, tls.key, tls.client_ca) {
        (None, None, None) => None,
        (None, ..) => return missing("tls.certificate", "certificate = \"chain.pem\""),
        (_, None, _) => return missing("tls.key", "key = \"key.pem\""),
        (Some(certificate), Some(key), client_ca) => Some(TlsFiles { certificate, key, client_ca }),
    };
    if let Some(files) = tls.as_ref().filter(|_| !IS_COMPILED) {
        return Err(ConfigError::Value {
            key: "tls.certificate".into(),
            value: format!("{:?}", files.certificate),
            expected: TlsError::NotCompiled.to_string(),
        });
    }
    Ok(SecurityConfig { tls, keys: auth.keys_file })
}
