//! What a model is: schema, batches, representations, and the programs that backends execute.

pub mod batch;
pub mod error;
pub mod schema;

pub use batch::{Bags, Batch, BatchShape, Jagged};
pub use error::{BatchError, SchemaError};
pub use schema::{OutOfVocabulary, Schema, SparseFeature};
