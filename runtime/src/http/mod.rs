//! The HTTP endpoint: Open Inference Protocol (KServe v2) over HTTP/1.1, with Triton's binary
//! tensors.
//!
//! | Verb, path | |
//! |---|---|
//! | `POST /v2/models/{m}[/versions/{v}]/infer` | scores |
//! | `GET /v2`, `GET /v2/models/{m}[/versions/{v}]` | what there is |
//! | `GET /v2/models/{m}[/versions/{v}]/config` | Triton's configuration of the model |
//! | `GET /v2/models[/{m}[/versions/{v}]]/stats` | what was done, by model and path |
//! | `GET /v2/openapi.json` | all of this, for programs |
//! | `GET /v2/health/live`, `/v2/health/ready`, `/v2/models/{m}[/versions/{v}]/ready` | 200 or 503 |
//! | `GET /metrics` | Prometheus text |
//! | `GET /`, `GET /status.json` | the [status page](crate::status) and its figures |
//!
//! A request may state its time budget as parameter `sla_ms`, as Triton's parameter `timeout` (µs)
//! and as header `mprec-sla-ms`; the smallest wins, and it counts from the arrival of the request's
//! head to the response. Parameter `min_quality` is the least expected accuracy of the path that
//! may answer. Every error is `{"error": …, "code": …}` with a code of [`ErrorCode`](crate::endpoint::ErrorCode).
//!
//! Where the server has keys, requests for anything but health need one: `authorization: Bearer KEY`
//! (see [`security`](crate::security)).
//!
//! A client that leaves takes its query with it: the receiver of the outcome is dropped, which
//! whoever would run the query can see.

mod coding;
mod config;
mod handler;
mod openapi;
mod pace;
pub(crate) mod percent;
mod reply;
mod repository;
mod request;
mod route;
mod server;
#[cfg(test)]
mod tests;

pub(crate) use self::request::HEADER_LENGTH;
pub use self::{
    config::{HttpConfig, Routes},
    server::serve,
};
pub use crate::endpoint::{ListenError, ListenOn, Listener, SocketFile};
