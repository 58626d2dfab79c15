//! A model on disk: a folder with a manifest and the tensors of its variants.
//!
//! ```text
//! bundle/
//!   manifest.json          schema, preprocessing, and per variant its architecture, tensors, digests, quality
//!   manifest.sha256        digest of the manifest, as `sha256sum manifest.json` prints it
//!   <variant>.safetensors  tensors named as in facebookresearch/dlrm
//!   vocabulary-….bin       optional: the tokens behind the ids; table-….csv, tables that raw rows are joined with
//! ```
//!
//! Opening reads the manifest and the headers of the tensor files and maps the files; it copies no
//! tensor, so a 12 GB table costs nothing at start. Structure is checked before anything is used:
//! names, types, shapes and byte counts of every tensor, against the manifest and against the
//! architecture. [`Bundle::verify`] reads every byte too: digests, and that all floats are finite.
//!
//! The format has its own version, [`FORMAT`]; `docs/bundle.md` describes it for writers in other
//! languages.

mod error;
mod manifest;
mod read;
mod write;

pub use error::BundleError;
pub use manifest::{
    Architecture, DenseTransform, FORMAT, FileEntry, Manifest, Preprocessing, Quality,
    QualitySource, RawRows, TensorEntry, VariantEntry, is_name,
};
pub use read::Bundle;
pub use write::BundleWriter;

/// Name of the manifest within a bundle.
pub const MANIFEST: &str = "manifest.json";

/// Name of the manifest's digest within a bundle.
pub const MANIFEST_DIGEST: &str = "manifest.sha256";

/// SHA-256 in lower-case hexadecimal.
fn digest(bytes: &[u8]) -> String {
    use sha2::Digest;
    hex(&sha2::Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
