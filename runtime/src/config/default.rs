//! Values of keys that are left out, and where each comes from.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use mprec_router::PolicyName;

/// Triton's HTTP port; loopback, because without `[auth]` and `[tls]` everybody may ask.
pub(super) const LISTEN: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8000);

/// Triton's gRPC port, on loopback as well.
pub(super) const GRPC: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8001);

/// It shows what `/metrics` has, and the settings with secrets hidden; by default only this machine can ask.
pub(super) const STATUS_PAGE: bool = true;

/// Triton's default. 4,096 samples of Criteo's shape as JSON take about 2 MB.
pub(super) const MAX_BODY_BYTES: usize = 64 << 20;

/// Twenty times the 99.9th percentile of a log-normal query with mean 128 and σ 0.5.
pub(super) const MAX_SAMPLES: usize = 4_096;

/// The policy that this project is about.
pub(super) const POLICY: PolicyName = PolicyName::MultiPath;

/// The latency target of the published evaluation.
pub(super) const SLA: Duration = Duration::from_millis(10);

/// At 10 ms of SLA no queue of one machine holds more and answers in time.
pub(super) const QUEUE_QUERIES: usize = 4_096;

/// 64 samples a query at the limit of queries.
pub(super) const QUEUE_SAMPLES: usize = 262_144;

/// Room for the samples above with one id per feature, four times over.
pub(super) const QUEUE_BYTES: usize = 256 << 20;

/// Seven paths at twelve batch sizes get a quarter of a second each.
pub(super) const PROFILE_BUDGET: Duration = Duration::from_secs(20);

/// Some 20 million queries.
pub(super) const RECORD_LIMIT: u64 = 1 << 30;

/// Less than the 30 s that orchestrators wait between SIGTERM and SIGKILL.
pub(super) const DRAIN: Duration = Duration::from_secs(10);
