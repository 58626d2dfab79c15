//! Checkpoints of PyTorch 1.6 and later: a zip archive of stored entries.
//!
//! ```text
//! archive/data.pkl    a pickle in which every storage is named by its key
//! archive/data/KEY    the bytes of a storage, padded to 64 bytes
//! archive/byteorder   `little`, where it is there
//! ```
//!
//! Both formats are read by machines of our own that are as small as what `torch.save` writes: libraries read all of them,
//! and what is left out here is what an attacker would use.

mod archive;
mod pickle;
mod state;

use super::{
    checkpoint::{Contents, Storage},
    error::ImportError,
};
use archive::Archive;

/// Why an archive is not a checkpoint.
#[derive(Debug)]
pub(super) enum TorchError {
    /// It is a program.
    Script,
    Import(ImportError),
}

impl<E: Into<ImportError>> From<E> for TorchError {
    fn from(error: E) -> Self {
        Self::Import(error.into())
    }
}

/// The tensors of the state dict in a file.
pub(super) fn read(file: &[u8]) -> Result<Contents, TorchError> {
    let archive = Archive::open(file)?;
    if archive.find("constants.pkl").is_some() {
        return Err(TorchError::Script);
    }
    let data = archive.find("data.pkl").ok_or_else(|| archive::error("it has no `data.pkl`"))?;
    if let Some(order) = archive.find("byteorder")
        && &file[order.range.clone()] != b"little"
    {
        let what = "its tensors are big-endian; save it anew on a little-endian machine";
        return Err(archive::error(what).into());
    }
    let pickle = pickle::load(&file[data.range.clone()])?;
    let (tensors, keys) = state::tensors(&pickle, &archive)?;
    let storages = keys.into_iter().map(|entry| Storage {
        entry: entry.name.to_owned(),
        range: entry.range.clone(),
        crc32: entry.crc32,
    });
    Ok((tensors, storages.collect()))
}
