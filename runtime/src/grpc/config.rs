//! Limits of the gRPC endpoint. Every one bounds something that a client can make large or slow.

use std::{sync::Arc, time::Duration};

use crate::security::Certificates;

/// Limits of the gRPC endpoint; [`GrpcConfig::default`] says where each default comes from.
#[derive(Debug, Clone)]
pub struct GrpcConfig {
    /// What TCP connections are secured with; `None` leaves them plain.
    pub tls: Option<Arc<Certificates>>,
    /// How long a client may take to secure its connection.
    pub handshake_timeout: Duration,
    /// Largest request message, in bytes, before and after decompression.
    pub max_message_bytes: usize,
    /// Most bytes of a request's headers, as HTTP/2 counts them.
    pub max_header_bytes: u32,
    /// Most open connections; more are closed at once.
    pub max_connections: usize,
    /// Most calls at a time on one connection; more wait in the client.
    pub max_streams: u32,
    /// Most requests of one `ModelStreamInfer` that are worked on at a time; more wait.
    pub max_stream_requests: usize,
    /// Time for the message of a call, from its headers.
    pub message_timeout: Duration,
    /// How long a `ModelStreamInfer` may go without a byte from its client.
    pub stream_timeout: Duration,
    /// How long a connection may stay open without a first call; `idle_timeout`, if that is shorter.
    pub first_call_timeout: Duration,
    /// How long a connection may stay open without a call, after its first.
    pub idle_timeout: Duration,
    /// How often a client is asked for a sign of life.
    pub keepalive_interval: Duration,
    /// How long it may take to give one, which also needs it to read what was sent before.
    pub keepalive_timeout: Duration,
    /// How long calls are still taken after shutdown began, while readiness already says no.
    pub drain_delay: Duration,
    /// How long calls in flight may take to finish, after that.
    pub drain_timeout: Duration,
}

impl Default for GrpcConfig {
    fn default() -> Self {
        Self {
            tls: None,
            handshake_timeout: Duration::from_secs(5),
            // As the HTTP endpoint's bodies.
            max_message_bytes: 64 << 20,
            // Hyper's own default; what clients send takes some 300 bytes.
            max_header_bytes: 16 << 10,
            // With the 640 of HTTP, leaves room below the usual limit of 1,024 file descriptors. A
            // client has one connection for all of its calls.
            max_connections: 256,
            // Clients expect at least 100 (RFC 9113, §6.5.2).
            max_streams: 128,
            // Enough to fill a batch from one stream.
            max_stream_requests: 32,
            message_timeout: Duration::from_secs(30),
            stream_timeout: Duration::from_secs(300),
            // Clients connect when they have a call; a stranger that says nothing takes room for them.
            first_call_timeout: Duration::from_secs(10),
            // gRPC's clients connect again by themselves.
            idle_timeout: Duration::from_secs(300),
            keepalive_interval: Duration::from_secs(30),
            keepalive_timeout: Duration::from_secs(20),
            drain_delay: Duration::ZERO,
            drain_timeout: Duration::from_secs(30),
        }
    }
}
