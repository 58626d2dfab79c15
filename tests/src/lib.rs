//! What the end-to-end tests share.

pub mod fixtures;
pub mod require;
pub mod suite;
