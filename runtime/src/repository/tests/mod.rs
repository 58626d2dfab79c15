//! Versions whose scores tell which they are, over real bundles, engines and files.

mod failure;
mod fixture;
mod life;
mod raw;
mod reconciling;
mod stress;
mod watching;
