//! Click data sets: readers, preprocessing, memory-mapped shards, synthetic data.
//!
//! [`prepare()`] turns click logs as downloaded into a folder of memory-mapped shards, and
//! [`Dataset`] reads that folder:
//!
//! ```no_run
//! use mprec_datasets::{Dataset, Layout, PrepareOptions, Split, prepare};
//!
//! let options = PrepareOptions::new(
//!     vec!["train.txt".into()],
//!     "kaggle".into(),
//!     Layout::preset("criteo-kaggle")?,
//! );
//! let report = prepare(&options, |_| ())?;
//! println!("{} rows, {} lines left out", report.manifest.rows, report.manifest.malformed_lines);
//!
//! let dataset = Dataset::open("kaggle".as_ref())?;
//! for batch in dataset.batches(dataset.rows(Split::Test), 128) {
//!     let batch = batch?;
//!     println!("{} samples", batch.batch.samples());
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What a line holds is a [`Layout`]; nothing else knows a data set by name. Rows keep their order
//! throughout, because in click logs it is the order of time: what is held out comes after what
//! trains. [`Preprocessor`] treats raw rows at serving time as the folder's were treated,
//! and a bundle carries it.

mod bundle;
mod dataset;
mod error;
mod permutation;
mod preprocessor;
mod raw;
mod source;

pub mod folder;
pub mod layout;
pub mod prepare;
pub mod read;
pub mod stats;
pub mod synthetic;
pub mod token;

pub use self::bundle::bundle_preprocessing;
pub use self::dataset::{Dataset, LabelledBatch, Rows};
pub use self::error::{DatasetError, LayoutError, MalformedLine, PrepareError};
pub use self::folder::{Coding, Manifest, Split, Splits};
pub use self::layout::Layout;
pub use self::permutation::Permutation;
pub use self::prepare::{
    MalformedLimit, PrepareOptions, PrepareReport, Progress, Recipe, Stage, prepare,
};
pub use self::preprocessor::Preprocessor;
pub use self::raw::{RawDense, RawError, RawProblem};
pub use self::read::{LineError, ValueError};
pub use self::source::Source;
pub use self::stats::AccessStatistics;
pub use self::synthetic::{Synthetic, SyntheticOptions, prepare_synthetic};
pub use self::token::Token;
