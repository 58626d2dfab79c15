//! Every metric of the server: names, units, labels and buckets.
//!
//! Nothing on the way of a query waits for who looks: counting is a few relaxed atomic additions, and the one
//! lock, around the list of model versions, is shared except when a version is served for the first time.
//!
//! Names start with `mprec_`, durations are in seconds, counters end in `_total`, and labels come
//! from small closed sets: `path` from the paths given at start, `code` and `reason` from enums.
//! Latency is kept in histograms with an edge exactly at the SLA, so that the share in time is
//! `bucket{le="<SLA>"} / count`, also summed over replicas. The same page has Triton's names (`nv_`) for
//! dashboards that were made for it, and those of every client library for the process.
//!
//! Who records what, so that nothing is counted twice:
//!
//! | Who | Calls |
//! |---|---|
//! | a protocol, once for every query it submitted | [`Metrics::record_answer`], [`Metrics::record_refusal`] or [`Metrics::record_cancelled`] |
//! | a protocol, for every request | [`Metrics::record_request`], [`Metrics::requests_in_flight`] |
//! | [`Endpoint::score`](crate::endpoint::Endpoint), for every query | [`Metrics::model`], and the end of its [`QueryInModel`] |
//! | whoever renders the page, before it does | [`Service::observe`](crate::service::Service::observe), which calls [`Metrics::observe_path`] and [`ModelMetrics::observe`] |

mod instrument;
mod labels;
mod machine;
mod model;
mod path;
mod recent;
mod render;
mod repository;
mod server;
mod snapshot;
#[cfg(test)]
mod tests;
mod text;
mod triton;

pub use self::{
    instrument::{Counter, CounterBy, Gauge, Histogram, Label, Level, Sum},
    labels::RequestEnd,
    model::{ModelMetrics, ModelObservation, QueryInModel},
    path::{PathMetrics, PathObservation},
    repository::VersionsObservation,
    server::Metrics,
    snapshot::{MachineSnapshot, ModelSnapshot, PathSnapshot, RecentRefusal, Snapshot},
};
