//! Trains variants on the CPU, and reads those that others trained: [`import`].
//!
//! [`train`] fits the [`DlrmSpec`](mprec_representations::DlrmSpec) of any variant to
//! [`Examples`], such as a prepared [`Dataset`](mprec_datasets::Dataset). One step is:
//!
//! 1. gather the rows that the batch picks, and encode its distinct ids for DHEs;
//! 2. run the dense parts forward and backward, as a graph of the `candle` library in which the
//!    gathered vectors are a leaf;
//! 3. move the dense parameters by Adam, and by their share of the leaf's gradient the touched
//!    rows, and no others: a step costs the same whatever the size of the tables.
//!
//! Threads share a step by samples. Equal seeds and numbers of threads give equal bits, also across
//! an interruption ([`Checkpoints`]).
//!
//! ```
//! use std::ops::ControlFlow;
//!
//! use mprec_representations::{Dlrm, Schema, SparseFeature};
//! use mprec_trainer::{MemoryExamples, Metrics, Recipe, Scorer, Shape, train};
//!
//! // 400 samples whose label follows from the id; use a `Dataset` for real ones.
//! let sparse = vec![SparseFeature { name: "item".into(), cardinality: 20 }];
//! let schema = Schema::new(vec!["age".into()], sparse, Default::default())?;
//! let ids: Vec<i64> = (0..400).map(|row| row * 7 % 20).collect();
//! let labels = ids.iter().map(|&id| f32::from(u8::from(id < 8))).collect();
//! let examples = MemoryExamples::new(schema.clone(), vec![0.5; 400], ids, labels)?;
//!
//! let mut recipe = Recipe::table(&schema, &Shape::small());
//! recipe.options.batch = 32;
//! let variant = train(&examples, 0..320, &recipe.spec, &recipe.options, None, &mut |progress| {
//!     eprintln!("step {} of {}: loss {:.4}", progress.step, progress.steps, progress.loss);
//!     ControlFlow::Continue(())
//! })?;
//!
//! // Quality on rows that were not trained on, and the program that serves it.
//! let scorer = Scorer::new(&schema, &variant.spec, &variant.weights)?;
//! let (logits, labels) = scorer.score(&examples, 320..400)?;
//! assert!(Metrics::from_logits(&logits, &labels)?.auc > 0.99);
//! let program = Dlrm::load(&schema, &variant.spec, &variant.weights)?.lower()?;
//! # assert_eq!(program.bounds(), [20]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod checkpoint;
mod dense;
mod encode;
mod error;
mod examples;
pub mod import;
mod initial;
mod model;
mod net;
mod ops;
pub mod options;
mod order;
mod progress;
pub mod quality;
mod random;
mod recipe;
mod rows;
mod run;
mod standardise;
mod stored;
mod variant;

pub use checkpoint::Checkpoints;
pub use error::TrainError;
pub use examples::{Examples, ExamplesError, MemoryExamples};
pub use options::{InitialRows, Order, TrainOptions};
pub use progress::{HistoryPoint, Progress};
pub use quality::{Metrics, QualityError};
pub use recipe::{Recipe, Shape};
pub use run::train;
pub use variant::{Scorer, TrainSummary, TrainedVariant};
