//! Where a model's newest bundle lies, and what tells one state of it from another.

use std::{
    fs::{self, File},
    io::Read as _,
    path::{Path, PathBuf},
};

use mprec_representations::bundle::MANIFEST;
use sha2::{Digest as _, Sha256};

use super::LoadError;

/// More versions of a model are not looked at.
const MAX_VERSIONS: usize = 10_000;

/// As large as the largest manifest that a bundle may have.
const MAX_MANIFEST_BYTES: u64 = 64 << 20;

/// More files of a bundle are not looked at.
const MAX_FILES: usize = 4_096;

/// A state of a bundle, and of its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stamp {
    /// The bundle's folder.
    pub(super) folder: PathBuf,
    /// SHA-256 of its manifest, which states the digest of everything else.
    digest: [u8; 32],
    /// SHA-256 of the names, sizes and times of all files: it changes while a bundle is being copied.
    files: [u8; 32],
}

impl Stamp {
    /// The newest bundle of a model's folder: the folder's own, or else that of its highest number.
    pub(super) fn newest(folder: &Path) -> Result<Self, LoadError> {
        if folder.join(MANIFEST).is_file() {
            return Self::of(folder);
        }
        let fail = |source| LoadError::Io { path: folder.to_owned(), source };
        let mut newest: Option<(u64, PathBuf)> = None;
        for entry in fs::read_dir(folder).map_err(fail)?.take(MAX_VERSIONS) {
            let entry = entry.map_err(fail)?;
            let number = entry.file_name().to_str().and_then(version_number);
            if let Some(number) = number
                && newest.as_ref().is_none_or(|(highest, _)| number > *highest)
                && entry.path().join(MANIFEST).is_file()
            {
                newest = Some((number, entry.path()));
            }
        }
        let none = || LoadError::NoBundle { folder: folder.to_owned() };
        Self::of(&newest.ok_or_else(none)?.1)
    }

    /// The bundle in `folder` as it is now.
    pub(super) fn of(folder: &Path) -> Result<Self, LoadError> {
        let path = folder.join(MANIFEST);
        let fail = |source| LoadError::Io { path: path.clone(), source };
        let file = File::open(&path).map_err(fail)?;
        let mut content = Vec::new();
        file.take(MAX_MANIFEST_BYTES).read_to_end(&mut content).map_err(fail)?;
        let digest = Sha256::digest(&content).into();
        let fail = |source| LoadError::Io { path: folder.to_owned(), source };
        let mut files = Vec::new();
        for entry in fs::read_dir(folder).map_err(fail)?.take(MAX_FILES) {
            let entry = entry.map_err(fail)?;
            // One that is gone meanwhile is a change that the next look sees.
            let Ok(data) = entry.metadata() else { continue };
            files.push((entry.file_name(), data.len(), data.modified().ok()));
        }
        files.sort();
        let files = Sha256::digest(format!("{files:?}")).into();
        Ok(Self { folder: folder.to_owned(), digest, files })
    }

    /// Whether it is the same bundle, whenever its files were written.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.folder == other.folder && self.digest == other.digest
    }
}

/// The number that a folder of a version is named after: digits without a leading zero.
pub(super) fn version_number(name: &str) -> Option<u64> {
    let plain = name.bytes().all(|byte| byte.is_ascii_digit()) && !name.starts_with('0');
    if plain { name.parse().ok() } else { None }
}
