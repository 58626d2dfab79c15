//! What is linked against libtorch.

mod affine;
mod backend;
mod constant;
mod encode;
mod error;
mod executable;
mod hash;
mod inputs;
mod layer;
mod library;
mod lookup;
mod meet;
mod plan;
#[cfg(test)]
mod tests;

pub use backend::TorchBackend;
pub use error::TorchError;
pub(super) use library::gpus;
