use std::path::Path;

use tempfile::TempDir;

use super::*;
use crate::security::{TlsError, TlsFiles, made::Authority};

fn made() -> (TempDir, Authority, TlsFiles) {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path(), "one");
    let files = authority.sign("server");
    (folder, authority, files)
}

fn refusal(files: &TlsFiles) -> TlsError {
    Certificates::read(files).unwrap_err()
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let (folder, authority, files) = made();
    let other = authority.sign("other");
    let client_ca = Some(authority.file());
    assert!(Certificates::read(&TlsFiles { client_ca, ..files.clone() }).is_ok());

    let mixed = TlsFiles { key: other.key, ..files.clone() };
    assert!(matches!(refusal(&mixed), TlsError::Mismatch { .. }));
    let key_as_certificate = TlsFiles { certificate: files.key.clone(), ..files.clone() };
    assert!(matches!(refusal(&key_as_certificate), TlsError::Absent { what: "certificate", .. }));
    let certificate_as_key = TlsFiles { key: files.certificate.clone(), ..files.clone() };
    assert!(matches!(refusal(&certificate_as_key), TlsError::Absent { what: "private key", .. }));

    let bad = folder.path().join("bad.pem");
    let with = |certificate: &Path| TlsFiles { certificate: certificate.into(), ..files.clone() };
    assert!(matches!(refusal(&with(&bad)), TlsError::Read { .. }));
    std::fs::write(&bad, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    assert!(matches!(refusal(&with(&bad)), TlsError::Unusable { .. }));
    let client_ca = Some(bad.clone());
    let error = refusal(&TlsFiles { client_ca, ..files.clone() });
    assert!(matches!(error, TlsError::Unusable { .. }) && error.to_string().contains("bad.pem"));
    std::fs::write(&bad, vec![b'-'; (2 << 20) + 1]).unwrap();
    assert!(matches!(refusal(&with(&bad)), TlsError::TooLarge { .. }));
    assert!(TlsClient::new(&bad, None).is_err());
}

#[test]
fn what_cannot_be_used_replaces_nothing() {
    let (_folder, authority, files) = made();
    let certificates = Certificates::read(&files).unwrap();
    let shown = || format!("{certificates:?}");
    let before = shown();
    let other = authority.sign("other");
    let mixed = TlsFiles { key: other.key.clone(), ..files.clone() };
    assert!(certificates.read_again(Some(&mixed)).is_err());
    assert_eq!(shown(), before);
    certificates.read_again(Some(&other)).unwrap();
    assert!(shown().contains("one-other"));
    certificates.read_again(None).unwrap();
    std::fs::remove_file(&other.key).unwrap();
    assert!(certificates.read_again(None).is_err());
}
