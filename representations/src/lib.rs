//! What a model is: schema, batches, representations, and the programs that backends execute.
//!
//! A **representation** says how the ids of one sparse feature become vectors: a table of rows, a
//! smaller hashed table, a DHE that computes the vector, or a hybrid of both. A **variant** is a
//! whole model around one choice of them. It lowers to a [`Program`]: a short straight-line list of
//! [`Op`]s, which any backend can execute and whose meaning the interpreter here defines.
//!
//! ```
//! use mprec_representations::{
//!     BatchShape, Dlrm, DlrmSpec, Interaction, RepresentationSpec, Schema, SparseFeature, Tensor,
//!     Weights, weights::DType,
//! };
//!
//! let sparse = vec![SparseFeature { name: "item".into(), cardinality: 3 }];
//! let schema = Schema::new(vec!["age".into()], sparse, Default::default())?;
//! let table = RepresentationSpec::Table { dim: 2 };
//! let spec = DlrmSpec::uniform(&schema, &table, Interaction::Dot { itself: false }, &[], &[4]);
//!
//! // Parameters come from a bundle; here every one is 0.1.
//! let mut weights = Weights::new();
//! for tensor in spec.tensors(&schema) {
//!     let values = vec![0.1; tensor.shape.iter().product()];
//!     weights.insert(tensor.name, Tensor::new(&tensor.shape, values));
//! }
//! let program = Dlrm::load(&schema, &spec, &weights)?.lower()?;
//!
//! let batch = BatchShape::new(&schema).from_rows(vec![0.5, 2.0], &[1, 2])?;
//! let scores = program.interpret(&batch)?;
//! assert!(scores.len() == 2 && scores.iter().all(|score| (0.5..0.7).contains(score)));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod batch;
pub mod bundle;
mod clustered;
pub mod dhe;
mod dlrm;
pub mod error;
mod hashed;
mod hybrid;
mod interpret;
mod layer;
mod materialised;
pub mod op;
pub mod program;
pub mod quant;
mod representation;
mod resident;
mod rows;
pub mod schema;
mod table;
mod tensor;
pub mod weights;

pub use batch::{Bags, Batch, BatchShape, GroupedBatch, Jagged, PerGroup, Sharing};
pub use bundle::{Bundle, BundleError, BundleWriter, Manifest, Quality};
pub use clustered::{Clustered, ClusteredSpec, Clustering};
pub use dhe::{Dhe, DheSpec, HashFamily};
pub use dlrm::{CrossSpec, Dlrm, DlrmSpec, MAX_LAYERS, ModelError};
pub use error::{BatchError, ProgramError, SchemaError};
pub use hashed::{Hashed, QuotientRemainder};
pub use hybrid::Hybrid;
pub use interpret::Values;
pub use layer::LayerWeights;
pub use materialised::{Materialised, materialise};
pub use op::{
    Activation, Combination, Interaction, Op, RowIndex, RowsOf, Slot, SlotShape, Transform,
};
pub use program::{Program, ProgramBuilder};
pub use quant::{FusedRows, Int8Weights, LayerFormat, Precision, RowFormat, quantize};
pub use representation::{Cost, Representation, RepresentationSpec, Vectors};
pub use resident::ResidentRows;
pub use rows::Rows;
pub use schema::{OutOfVocabulary, Schema, SparseFeature};
pub use table::Table;
pub use tensor::{Element, Tensor};
pub use weights::{AnyTensor, TensorSpec, Weights, WeightsError};
