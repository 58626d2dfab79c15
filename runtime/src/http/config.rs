//! Limits of the HTTP endpoint. Every one bounds something that a client can make large or slow.

use std::{sync::Arc, time::Duration};

use crate::{endpoint::Statuses, security::Certificates, status::StatusPage};

/// What a listener serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Routes {
    /// Everything.
    All,
    /// Metrics, the status page and health: for those who watch the server.
    Observation,
}

/// Limits of the HTTP endpoint; [`HttpConfig::default`] says where each default comes from.
#[derive(Debug, Clone)]
pub struct HttpConfig {
    /// Whose statuses errors get.
    pub statuses: Statuses,
    /// What is served here.
    pub routes: Routes,
    /// The status page; `None` has none.
    pub status: Option<Arc<StatusPage>>,
    /// What TCP connections are secured with; `None` leaves them plain.
    pub tls: Option<Arc<Certificates>>,
    /// How long a client may take to secure its connection.
    pub handshake_timeout: Duration,
    /// Largest request body, in bytes; of one that is sent compressed, also what it holds.
    pub max_body_bytes: usize,
    /// Size of the buffer that must hold a request's head (request line and headers), in bytes; at
    /// least 8192. Bodies pass through it too, and a larger one takes fewer reads.
    pub max_head_bytes: usize,
    /// Most headers of one request.
    pub max_headers: usize,
    /// Most open connections; more get a 503 and are closed.
    pub max_connections: usize,
    /// Time for a request's head, from its first byte.
    pub head_timeout: Duration,
    /// Time for a request's body, from the end of its head.
    pub body_timeout: Duration,
    /// How long a connection may stay open between requests.
    pub idle_timeout: Duration,
    /// How long a client may leave a response unread.
    pub write_timeout: Duration,
    /// How long requests are still taken after shutdown began, while `ready` already says no. Give
    /// it the time that a load balancer needs to notice.
    pub drain_delay: Duration,
    /// How long requests in flight may take to finish, after that.
    pub drain_timeout: Duration,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            statuses: Statuses::Distinct,
            routes: Routes::All,
            status: Some(Arc::default()),
            tls: None,
            handshake_timeout: Duration::from_secs(5),
            // Triton's default; 2,048 multi-hot samples of 214 ids take 3.5 MB.
            max_body_bytes: 64 << 20,
            max_head_bytes: 64 << 10,
            max_headers: 64,
            // With gRPC's 256, leaves room below the usual limit of 1,024 file descriptors.
            max_connections: 640,
            head_timeout: Duration::from_secs(5),
            body_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(60),
            write_timeout: Duration::from_secs(30),
            drain_delay: Duration::ZERO,
            drain_timeout: Duration::from_secs(30),
        }
    }
}
