//! The HTTP endpoint: Open Inference Protocol (KServe v2) over HTTP/1.1, with Triton's binary
//! tensors.
//!
//! | Verb, path | |
//! |---|---|
//! | `POST /v2/models/{m}[/versions/{v}]/infer` | scores |
//! | `GET /v2`, `GET /v2/models/{m}[/versions/{v}]` | what there is |
//! | `GET /v2/health/live`, `/v2/health/ready`, `/v2/models/{m}[/versions/{v}]/ready` | 200 or 503 |
//! | `GET /metrics` | Prometheus text |
//!
//! A request may state its time budget as parameter `sla_ms`, as Triton's parameter `timeout` (µs)
//! and as header `mprec-sla-ms`; the smallest wins, and it counts from the arrival of the request's
//! head to the response. Parameter `min_quality` is the least expected accuracy of the path that
//! may answer. Every error is `{"error": …, "code": …}` with a code of [`ErrorCode`](crate::endpoint::ErrorCode).
//!
//! A client that leaves takes its query with it: the receiver of the outcome is dropped, which
//! whoever would run the query can see.

mod config;
mod handler;
mod pace;
pub(crate) mod percent;
mod reply;
mod repository;
mod request;
mod route;
mod server;
#[cfg(test)]
mod tests;

pub use self::{
    config::HttpConfig,
    server::{Drained, serve},
};
pub(crate) use self::{handler::SLA_HEADER, request::HEADER_LENGTH};
