//! Reads models that others trained: PyTorch checkpoints and safetensors files, without Python.
//!
//! ```text
//! checkpoint ─ Checkpoint::open ─┐
//! Arch (preset or file) ─────────┴─ import ─ schema, architecture, weights ─ BundleWriter
//! ```
//!
//! - A [`Checkpoint`] is a mapped file and where the tensors of a state dict lie in it. Nothing is copied: a table of 12 GB
//!   passes from the checkpoint to the bundle through the page cache.
//! - [`Arch`] says what tensors cannot: names of features, ids, the interaction, preprocessing.
//! - [`import`] finds out the rest from names and shapes: layers and their widths, which representation a feature has, the
//!   cross net. Names may be those of `facebookresearch/dlrm`, of MP-Rec's artifact, or of torchrec.
//!
//! A `.pt` file is a program for Python's unpickler. Here it is read by a machine that knows the few instructions and the
//! names that a state dict needs and runs nothing: any other one is an error. Every count in a file is bounded by the
//! file's size or a named limit before anything is allocated for it.

mod arch;
mod checkpoint;
mod error;
mod layout;
mod model;
mod torch;
mod weights;

pub use arch::{Arch, MAX_ARCH_BYTES};
pub use checkpoint::Checkpoint;
pub use error::{ArchError, ImportError, shown};
pub use layout::Layout;
pub use model::{Imported, import};
