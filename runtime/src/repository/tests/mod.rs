//! Versions whose scores tell which they are, over real bundles, engines and files.

mod failure;
mod fixture;
mod life;
mod stress;
mod watching;
