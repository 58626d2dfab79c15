//! Certificates and keys in files.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, sync::Arc};

use rustls::{
    RootCertStore,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

use crate::security::{TlsError, read_within};

/// A thousand certificates.
const MAX_FILE_BYTES: u64 = 2 << 20;

/// May be read by everybody.
const OTHERS_READ: u32 = 0o004;

/// Named wherever it is needed, so that no other library's choice for the process can replace it.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

pub(super) fn unusable(
    file: &Path,
    error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> TlsError {
    TlsError::Unusable { file: file.to_owned(), source: error.into() }
}

fn read(file: &Path) -> Result<Vec<u8>, TlsError> {
    let bytes = read_within(file, MAX_FILE_BYTES)
        .map_err(|source| TlsError::Read { file: file.to_owned(), source })?;
    bytes.ok_or_else(|| TlsError::TooLarge { file: file.to_owned(), limit: MAX_FILE_BYTES })
}

/// All certificates of a file, which has one at least.
pub(super) fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bytes = read(file)?;
    let found = CertificateDer::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>();
    let found = found.map_err(|error| unusable(file, error))?;
    if found.is_empty() {
        return Err(TlsError::Absent { file: file.to_owned(), what: "certificate" });
    }
    Ok(found)
}

/// The private key of a file: PKCS #8, PKCS #1 or SEC 1, and not encrypted.
pub(super) fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let bytes = read(file)?;
    let key = PrivateKeyDer::from_pem_slice(&bytes)
        .map_err(|_| TlsError::Absent { file: file.to_owned(), what: "private key" })?;
    if fs::metadata(file).is_ok_and(|file| file.permissions().mode() & OTHERS_READ != 0) {
        tracing::warn!(file = %file.display(), "everybody on this machine may read the private key; `chmod o-r` it");
    }
    Ok(key)
}

/// The certificates of a file, as those that others must be signed by.
pub(super) fn roots(file: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file)? {
        roots.add(certificate).map_err(|error| unusable(file, error))?;
    }
    Ok(roots)
}
