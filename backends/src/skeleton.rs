//! A backend that supports nothing: copy this file to begin a new one.
//!
//! 1. Give it a [`BackendKind`] of its own and a place in [`registry`](crate::registry).
//! 2. In `prepare`, match on every [`Op`] of the program. Refuse what
//!    is missing with [`BackendError::Unsupported`], and make ready what is there.
//! 3. Hold it to the reference backend: the conformance suite takes any `Backend`.
//!
//! ```
//! use mprec_backends::{Backend, BackendError, skeleton::SkeletonBackend};
//! # use mprec_representations::{ProgramBuilder, RowIndex, Rows, Schema, SparseFeature, Tensor};
//! # let sparse = vec![SparseFeature { name: "item".into(), cardinality: 1 }];
//! # let schema = Schema::new(vec!["age".into()], sparse, Default::default())?;
//! # let mut program = ProgramBuilder::new(&schema);
//! # let rows = Rows::F32(Tensor::new(&[1, 1], vec![0.0]));
//! # let logit = program.bag_sum(0, rows, RowIndex::Id)?;
//! # let program = program.finish(logit)?;
//!
//! let error = SkeletonBackend.prepare(&program).unwrap_err();
//! assert!(matches!(error, BackendError::Unsupported { what: "bag_sum", .. }));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use mprec_representations::{Op, Program};

use crate::{
    backend::{Backend, Executable},
    error::BackendError,
    path::BackendKind,
};

/// Supports no operation.
#[derive(Debug, Clone, Copy, Default)]
pub struct SkeletonBackend;

impl Backend for SkeletonBackend {
    fn kind(&self) -> BackendKind {
        BackendKind::Wgpu
    }

    fn prepare(&self, program: &Program) -> Result<Box<dyn Executable>, BackendError> {
        let what = program.ops().first().map_or("sigmoid", Op::name);
        Err(BackendError::Unsupported { backend: self.kind(), what })
    }
}
