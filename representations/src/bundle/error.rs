//! What can be wrong with a bundle.

use std::path::PathBuf;

use crate::{dlrm::ModelError, weights::WeightsError};

/// A bundle that cannot be read, written or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// The file system refused.
    #[error("cannot access `{}`", path.display())]
    Io {
        /// What was accessed.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// The manifest is not JSON of the right form.
    #[error("`{}` is not a valid manifest", path.display())]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// What the parser says.
        #[source]
        source: serde_json::Error,
    },
    /// The manifest is larger than any real one.
    #[error("`{}` has {bytes} bytes; a manifest has at most {limit}", path.display())]
    ManifestSize {
        /// The manifest.
        path: PathBuf,
        /// Its size.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// Written by a version of the format that this build does not know.
    #[error("bundle format {found} is not supported; this build reads format {supported}")]
    Format {
        /// What the manifest says.
        found: u32,
        /// What can be read.
        supported: u32,
    },
    /// The manifest contradicts itself.
    #[error("the manifest is inconsistent: {0}")]
    Inconsistent(String),
    /// The manifest was altered after its digest was written.
    #[error("`{file}` does not match its digest; the bundle is damaged or was edited by hand")]
    ManifestDigest {
        /// The manifest.
        file: &'static str,
    },
    /// There is nothing to check the manifest against.
    #[error(
        "`{file}` is missing, so the manifest cannot be verified; write it with `sha256sum manifest.json`"
    )]
    NoManifestDigest {
        /// The digest's file.
        file: &'static str,
    },
    /// Somebody else wrote the bundle's manifest after this writer had read it.
    #[error(
        "bundle `{}` was changed by another program meanwhile, so nothing of it was replaced; run this again when nothing else \
         writes to it{}",
        folder.display(),
        if written.is_empty() { String::new() } else { format!(" (what this one wrote stays there: {})", written.join(", ")) }
    )]
    Changed {
        /// The bundle.
        folder: PathBuf,
        /// Files that this writer put there and no manifest names yet.
        written: Vec<String>,
    },
    /// No variant of this name.
    #[error("there is no variant `{variant}`; the bundle has {}", known.join(", "))]
    NoVariant {
        /// The name.
        variant: String,
        /// The names there are.
        known: Vec<String>,
    },
    /// A file has another size than the manifest says.
    #[error(
        "`{file}` has {got} bytes, the manifest says {expected}; it is truncated or from another bundle"
    )]
    Size {
        /// The file.
        file: String,
        /// Its size.
        got: u64,
        /// Its size by the manifest.
        expected: u64,
    },
    /// The header of a tensor file cannot be parsed, or places tensors outside the file.
    #[error("the header of `{file}` is damaged{}", tensor.as_ref().map(|name| format!(" at tensor `{name}`")).unwrap_or_default())]
    Header {
        /// The tensor file.
        file: String,
        /// The tensor at which it fails, if it is known.
        tensor: Option<String>,
        /// What the parser says.
        #[source]
        source: safetensors::SafeTensorError,
    },
    /// A tensor's type or shape in the file is not what the manifest says.
    #[error("tensor `{tensor}` in `{file}` is {got}, the manifest says {expected}")]
    Tensor {
        /// The tensor file.
        file: String,
        /// The tensor.
        tensor: String,
        /// Type and shape in the file.
        got: String,
        /// Type and shape by the manifest.
        expected: String,
    },
    /// A tensor does not start where its element type may start.
    #[error(
        "tensor `{tensor}` in `{file}` is not aligned; pad the header with spaces to a multiple of 8 bytes"
    )]
    Unaligned {
        /// The tensor file.
        file: String,
        /// The tensor.
        tensor: String,
    },
    /// The bytes of a tensor are not those that were written.
    #[error("tensor `{tensor}` in `{file}` does not match its digest; the file is damaged")]
    TensorDigest {
        /// The tensor file.
        file: String,
        /// The tensor.
        tensor: String,
    },
    /// The tensors are as written, the rest of the file is not.
    #[error("`{file}` does not match its digest; its header is damaged")]
    FileDigest {
        /// The tensor file.
        file: String,
    },
    /// A file without tensors is not as it was written.
    #[error("`{file}` does not match its digest; it is damaged or from another bundle")]
    RawDigest {
        /// The file.
        file: String,
    },
    /// A parameter is NaN or infinite.
    #[error(
        "tensor `{tensor}` in `{file}` holds {value} at element {at}; parameters must be finite"
    )]
    NotFinite {
        /// The tensor file.
        file: String,
        /// The tensor.
        tensor: String,
        /// Position of the element.
        at: usize,
        /// The value.
        value: f32,
    },
    /// The tensors do not make the architecture that the manifest states.
    #[error("variant `{variant}` cannot be built")]
    Model {
        /// The variant.
        variant: String,
        /// Why.
        #[source]
        source: ModelError,
    },
}

impl BundleError {
    pub(crate) fn io(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        |source| Self::Io { path: path.to_owned(), source }
    }

    /// The tensor that the error is about, if it is about one.
    pub fn tensor(&self) -> Option<&str> {
        match self {
            Self::Header { tensor, .. } => tensor.as_deref(),
            Self::Tensor { tensor, .. }
            | Self::Unaligned { tensor, .. }
            | Self::TensorDigest { tensor, .. }
            | Self::NotFinite { tensor, .. } => Some(tensor),
            Self::Model { source: ModelError::Weights(source), .. } => match source {
                WeightsError::Missing { tensor, .. }
                | WeightsError::DType { tensor, .. }
                | WeightsError::Shape { tensor, .. }
                | WeightsError::Hashes { tensor, .. }
                | WeightsError::Unused { tensor } => Some(tensor),
            },
            _ => None,
        }
    }
}
