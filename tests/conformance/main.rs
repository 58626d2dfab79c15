//! Every backend against the suite.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cpu;
mod onnx;
mod reference;
mod torch;
mod wgpu;
