//! A prepared folder: what [`prepare`](crate::prepare()) writes and [`Dataset`](crate::Dataset)
//! reads.
//!
//! ```text
//! manifest.json       what the data is and how it was made; written last
//! shard-00000.bin …   the rows, in order; all of the same number of rows but the last
//! vocabulary.bin      the tokens behind the ids (unless hashed or synthetic)
//! table-NAME.csv      tables that the layout joins
//! ```
//!
//! All numbers are little-endian. The same input and options make the same bytes, whatever the
//! number of threads: nothing in the folder tells time, machine or place.

pub(crate) mod manifest;
pub(crate) mod shard;
pub(crate) mod split;
pub(crate) mod vocabulary;
pub(crate) mod writer;

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use memmap2::Mmap;
use sha2::{Digest, Sha256};

pub use self::manifest::{Coding, Manifest, Preprocessing, ShardEntry, SyntheticOrigin};
pub use self::split::{Split, Splits};
pub use self::vocabulary::Vocabulary;
use crate::error::DatasetError;
pub use mprec_representations::bundle::FileEntry;

#[cfg(target_endian = "big")]
compile_error!("prepared folders are little-endian and are mapped as they are");

/// Version of everything in a prepared folder.
pub const FORMAT_VERSION: u64 = 1;

/// The file that makes a folder a prepared one.
pub const MANIFEST: &str = "manifest.json";

/// The file of tokens.
pub const VOCABULARY: &str = "vocabulary.bin";

/// SHA-256 in lower-case hexadecimal.
pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

pub(crate) fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Maps a file of exactly `bytes` bytes, which must not be changed or cut as long as the map is there.
pub(crate) fn map(file: &Path, bytes: u64) -> Result<Mmap, DatasetError> {
    let fail = |source| DatasetError::Read { file: file.into(), source };
    let opened = File::open(file).map_err(fail)?;
    let found = opened.metadata().map_err(fail)?.len();
    if found != bytes {
        return Err(damaged(file, format!("it has {found} bytes where {bytes} are expected")));
    }
    // SAFETY: the map is only read, through references that live as long as it does: as long as a data
    // set is open, or a server has a model. That is sound only while nobody writes into the file or
    // cuts it, which this function asks for, and the docs of `Dataset`, `Preprocessor` and `Bundle` of
    // their users. The program itself removes such files or renames others over them, which leaves
    // their content to the map, and never writes into one.
    unsafe { Mmap::map(&opened) }.map_err(fail)
}

/// Reads a file of at most `limit` bytes.
pub(crate) fn read_limited(file: &Path, limit: u64) -> Result<Vec<u8>, DatasetError> {
    let fail = |source| DatasetError::Read { file: file.into(), source };
    let mut bytes = Vec::new();
    let opened = File::open(file).map_err(fail)?;
    opened.take(limit + 1).read_to_end(&mut bytes).map_err(fail)?;
    if bytes.len() as u64 > limit {
        return Err(damaged(file, format!("it is larger than {limit} bytes")));
    }
    Ok(bytes)
}

pub(crate) fn damaged(file: &Path, reason: impl Into<String>) -> DatasetError {
    DatasetError::Damaged { file: PathBuf::from(file), reason: reason.into() }
}
