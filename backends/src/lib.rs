//! Backends: what executes the programs that variants lower to.
//!
//! | backend | spelled | needs |
//! |---|---|---|
//! | [`ReferenceBackend`] | `reference` | nothing; slow, and the definition of every other |
//! | [`CpuBackend`] | `cpu` | nothing; AVX2 or AVX-512 is used where the machine has it |
//! | [`onnx`] | `onnx` | cargo feature `onnx`; loads ONNX Runtime's library when it is opened |
//! | [`torch`] | `torch:cpu`, `torch:cuda:0` | cargo feature `torch`; is linked against libtorch |
//! | [`wgpu`] | `wgpu` | cargo feature `wgpu`; a Vulkan driver for a GPU is loaded when it is opened |
//!
//! One that is not compiled in answers with [`BackendError::NotCompiled`]. [`registry`] says what this build can open, and
//! opens it.
//!
//! ```
//! use mprec_backends::{BackendKind, registry};
//! # use mprec_representations::{BatchShape, ProgramBuilder, RowIndex, Rows, Schema, SparseFeature, Tensor};
//! # let sparse = vec![SparseFeature { name: "item".into(), cardinality: 3 }];
//! # let schema = Schema::new(vec!["age".into()], sparse, Default::default())?;
//! # let mut program = ProgramBuilder::new(&schema);
//! # let rows = Rows::F32(Tensor::new(&[3, 1], vec![-1.0, 0.0, 1.0]));
//! # let logit = program.bag_sum(0, rows, RowIndex::Id)?;
//! # let program = program.finish(logit)?;
//!
//! let mut executable = registry::open(BackendKind::Cpu)?.prepare(&program)?;
//! let batch = BatchShape::new(&schema).from_rows(vec![0.5, 2.0], &[1, 2])?;
//! let mut scores = [0.0; 2];
//! executable.run(&batch, &mut scores)?;
//! assert_eq!(scores[0], 0.5);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod backend;
mod cache;
pub mod cpu;
mod error;
pub mod onnx;
mod path;
mod reference;
pub mod registry;
pub mod skeleton;
pub mod torch;
pub mod wgpu;

pub use backend::{Backend, Executable, KernelTime};
pub use cache::{CacheStatistics, HotId};
pub use cpu::{CpuBackend, Level};
pub use error::BackendError;
pub use path::{
    BackendKind, MAX_VARIANT, OnnxProvider, ParseBackendError, ParsePathError, Path, TorchDevice,
};
pub use reference::ReferenceBackend;
