//! The gRPC endpoint: the Open Inference Protocol (KServe v2) with the calls that Triton's clients
//! add, and gRPC's own health check.
//!
//! | Service | Calls |
//! |---|---|
//! | `inference.GRPCInferenceService` | `ServerLive`, `ServerReady`, `ModelReady`, `ServerMetadata`, `ModelMetadata`, `ModelInfer`, `ModelStreamInfer`, `ModelConfig`, `ModelStatistics`; where models may be managed, `RepositoryIndex`, `RepositoryModelLoad`, `RepositoryModelUnload` |
//! | `grpc.health.v1.Health` | `Check`, `Watch` |
//!
//! Every other call is answered with UNIMPLEMENTED. Inputs, parameters and errors are those of the
//! HTTP endpoint. Tensors come as `raw_input_contents`, or in the typed `contents`, which take
//! longer to read; scores are sent as `raw_output_contents`.
//!
//! A request may state its time budget as parameter `sla_ms`, as Triton's parameter `timeout` (µs),
//! as metadata `mprec-sla-ms` and as gRPC's own deadline (`grpc-timeout`); the smallest wins, and it
//! counts from the arrival of the request's headers. A client that cancels or leaves takes its query
//! with it: the receiver of the outcome is dropped, which whoever would run the query can see.
//!
//! Where the server has keys, calls but `ServerLive`, `ServerReady` and those of the health check need
//! one as metadata `authorization: Bearer KEY` (see [`security`](crate::security)).
//!
//! An error is a status with metadata `mprec-code`, the name of its
//! [`ErrorCode`](crate::endpoint::ErrorCode), and `retry-after-ms` where a retry may succeed. On a
//! stream it stands inside the message, so that the stream goes on.

mod admit;
mod body;
mod call;
mod codec;
mod config;
mod describe;
mod health;
mod inference;
mod protocol;
mod reply;
mod repository;
mod request;
mod respond;
mod server;
mod status;
mod stream;
#[cfg(test)]
mod tests;

pub use self::{config::GrpcConfig, server::serve};
