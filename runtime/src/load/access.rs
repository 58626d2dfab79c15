//! How a server lets its clients in.

use std::{fmt, io, path::Path};

use hyper::header::HeaderValue;

use crate::security::{TlsClient, TlsError, read_within};

/// Largest file of one key.
const MAX_KEY_BYTES: u64 = 4 << 10;

/// What a client needs beside the URL: trust in the server's certificate, and a key. By default neither.
#[derive(Clone, Default)]
pub struct Access {
    pub(super) tls: Option<TlsClient>,
    pub(super) authorization: Option<HeaderValue>,
}

/// What a client was given and cannot use. Nothing of a key is in it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AccessError {
    /// Certificates.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The file of the key cannot be read.
    #[error("cannot read the key in `{file}`")]
    Read {
        /// The file.
        file: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file has something else.
    #[error("`{file}` has no key, which is one line without spaces")]
    NotAKey {
        /// The file.
        file: String,
    },
}

impl Access {
    /// Trusts servers whose certificate one in the file `ca` has signed, or is, and shows them `identity`, a certificate and
    /// its key.
    ///
    /// # Errors
    ///
    /// [`AccessError::Tls`], which names the file.
    pub fn with_tls(
        self,
        ca: &Path,
        identity: Option<(&Path, &Path)>,
    ) -> Result<Self, AccessError> {
        Ok(Self { tls: Some(TlsClient::new(ca, identity)?), ..self })
    }

    /// Sends the key in `file` with every request.
    ///
    /// # Errors
    ///
    /// [`AccessError::Read`], [`AccessError::NotAKey`].
    pub fn with_key_in(self, file: &Path) -> Result<Self, AccessError> {
        let name = || file.display().to_string();
        let bytes = read_within(file, MAX_KEY_BYTES)
            .map_err(|source| AccessError::Read { file: name(), source })?;
        let key = bytes.as_deref().map(<[u8]>::trim_ascii);
        let key = key.filter(|key| !key.is_empty() && key.iter().all(u8::is_ascii_graphic));
        let value = key.and_then(|key| HeaderValue::from_bytes(&[b"Bearer ", key].concat()).ok());
        let mut value = value.ok_or_else(|| AccessError::NotAKey { file: name() })?;
        value.set_sensitive(true);
        Ok(Self { authorization: Some(value), ..self })
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Access")
            .field("tls", &self.tls.is_some())
            .field("key", &self.authorization.is_some())
            .finish()
    }
}
