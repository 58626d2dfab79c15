//! Why a checkpoint is not imported.

use std::path::PathBuf;

use mprec_representations::{ModelError, SchemaError, WeightsError};

/// An architecture file that says nothing usable.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchError {
    /// The file system refused.
    #[error("cannot read `{}`", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Larger than any real one.
    #[error("`{}` is larger than {limit} bytes; an architecture file has a line or two per feature", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit.
        limit: u64,
    },
    /// Not TOML or JSON, a key that is not known, or a value of the wrong type.
    #[error("in architecture file `{}`, line {line}: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What the parser says, which names the key.
        message: String,
    },
    /// A key contradicts another.
    #[error("key `{key}`: {what}")]
    Key {
        /// The key.
        key: &'static str,
        /// What is wrong and what to do.
        what: String,
    },
}

/// A checkpoint that is not imported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// The file system refused.
    #[error("cannot read `{}`", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Not a format that is read.
    #[error("`{}` is {found}; {remedy}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What it seems to be.
        found: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// The zip archive around a PyTorch checkpoint is damaged or made to deceive.
    #[error("the archive is not one that `torch.save` writes: {what}")]
    Archive {
        /// What is wrong.
        what: String,
    },
    /// The pickle of a PyTorch checkpoint is damaged, or uses more than a state dict needs.
    #[error("`data.pkl` cannot be read at byte {at}: {what}")]
    Pickle {
        /// Position of the instruction.
        at: usize,
        /// What is wrong.
        what: String,
    },
    /// The pickle names something of Python that is not tensors.
    #[error(
        "`data.pkl` asks for `{name}` at byte {at}, which is neither tensors nor numbers, and nothing of a checkpoint is \
         executed; save the model's `state_dict()` alone"
    )]
    Global {
        /// Position of the instruction.
        at: usize,
        /// Module and name.
        name: String,
    },
    /// The header of a safetensors file is damaged.
    #[error("the header of `{}` is damaged", path.display())]
    Safetensors {
        /// The file.
        path: PathBuf,
        /// What the parser says.
        #[source]
        source: safetensors::SafeTensorError,
    },
    /// The checkpoint holds no state dict where one is looked for.
    #[error("the checkpoint holds no state dict: {what}")]
    NoStateDict {
        /// What is there.
        what: String,
    },
    /// A tensor contradicts its own storage, or is laid out otherwise than row by row.
    #[error("tensor `{tensor}` {what}")]
    Tensor {
        /// The tensor.
        tensor: String,
        /// What is wrong and what to do.
        what: String,
    },
    /// A tensor is of an element type that a bundle does not hold.
    #[error("tensor `{tensor}` is {got}, expected {expected}; convert it in Python before saving")]
    DType {
        /// The tensor.
        tensor: String,
        /// What it is.
        got: String,
        /// What it must be.
        expected: String,
    },
    /// The bytes of a tensor do not have the checksum that the archive states.
    #[error(
        "entry `{entry}` does not match its checksum; the file is damaged (or was saved without checksums: then \
         import it with `--no-checksums`)"
    )]
    Checksum {
        /// Entry of the archive.
        entry: String,
    },
    /// A parameter is NaN or infinite.
    #[error("tensor `{tensor}` holds {value} at element {at}; parameters must be finite")]
    NotFinite {
        /// The tensor.
        tensor: String,
        /// Position of the element.
        at: usize,
        /// The value.
        value: f32,
    },
    /// Names that are not those of a known model.
    #[error("tensor `{tensor}` belongs to no model that is known here: {what}")]
    Names {
        /// A tensor.
        tensor: String,
        /// What is known.
        what: &'static str,
    },
    /// The checkpoint's tables and DHEs are not those of the features.
    #[error(
        "the checkpoint has {tables} tables and {dhes} DHEs for {features} sparse features{hint}"
    )]
    Features {
        /// Tables there are.
        tables: usize,
        /// DHEs there are.
        dhes: usize,
        /// Sparse features of the architecture.
        features: usize,
        /// What to do.
        hint: &'static str,
    },
    /// Something that tensors cannot tell is not stated.
    #[error("{key} is needed: {why}")]
    Unstated {
        /// What is not in the architecture file.
        key: String,
        /// Why.
        why: String,
    },
    /// What the architecture states contradicts the checkpoint.
    #[error("the architecture states {stated}, the checkpoint has {found}")]
    Contradiction {
        /// By the architecture.
        stated: String,
        /// By the checkpoint.
        found: String,
    },
    /// The features cannot be.
    #[error("the features of the architecture cannot be")]
    Schema(#[from] SchemaError),
    /// A tensor is missing, left over, or of another type or shape.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The model contradicts itself.
    #[error(transparent)]
    Model(ModelError),
}

impl From<ModelError> for ImportError {
    fn from(error: ModelError) -> Self {
        match error {
            ModelError::Weights(error) => Self::Weights(error),
            other => Self::Model(other),
        }
    }
}

/// Longest part of a foreign text that an error repeats.
const SHOWN: usize = 80;

/// A text of a file for a message: printable, and cut if it is long.
pub fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(SHOWN).flat_map(char::escape_debug).collect();
    if text.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    shown
}
