//! Rows made up by a seed: for tests, and for machines without the data.
//!
//! Row *i* depends on the seed and on *i* alone, so rows can be made in any order and by any
//! number of threads, and a part of a data set is the same as that part of a larger one.
//!
//! - **Ids** of each feature follow Zipf's law over its cardinality: id *r* is the *r*-th most
//!   frequent, as a vocabulary orders them; the least frequent one is id 0.
//! - **Dense** values are `ln(1 + x)` of log-normal integers x, some of them missing.
//! - **Labels** follow a planted logistic model of both (see [`Synthetic::probability`]), so that a
//!   model can be better or worse at them. How good the planted model is itself is in the manifest.
//!
//! Features are independent of each other and nothing changes over time, unlike in real clicks.
//! Every output names such data synthetic.

mod cardinalities;
mod draw;
mod options;
mod planted;
mod rows;
mod write;
mod zipf;

pub use self::cardinalities::{CRITEO_KAGGLE, CRITEO_TERABYTE, scaled_down};
pub use self::options::SyntheticOptions;
pub use self::rows::{Synthetic, SyntheticRows};
pub use self::write::prepare_synthetic;
