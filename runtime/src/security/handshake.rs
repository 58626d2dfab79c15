//! How the beginning of a TLS connection went.

use std::{fmt, io};

use tokio::io::{AsyncRead, AsyncWrite};

use crate::metrics::Label;

/// A connection that bytes go over.
pub(crate) trait Io: AsyncRead + AsyncWrite + fmt::Debug + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + fmt::Debug + Unpin + Send> Io for T {}

/// What is spoken on a connection, as clients are told while they connect (ALPN).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// HTTP/1.1
    Http1,
    /// HTTP/2, as gRPC needs it.
    Http2,
}

/// How a handshake ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HandshakeEnd {
    /// The connection is secure.
    Done,
    /// The client took too long.
    Timeout,
    /// The client left.
    Left,
    /// The client does not speak TLS.
    NotTls,
    /// The client has no certificate, or one that is not trusted, or does not trust this server's.
    Certificate,
    /// Client and server have no version, cipher or protocol in common, or the client breaks the rules.
    Protocol,
}

impl Label for HandshakeEnd {
    const NAMES: &'static [&'static str] =
        &["ok", "timeout", "left", "not_tls", "certificate", "protocol"];

    fn index(self) -> usize {
        self as usize
    }
}

/// A handshake that failed.
#[derive(Debug)]
pub(crate) struct HandshakeError {
    /// As it is counted.
    pub(crate) end: HandshakeEnd,
    /// What the TLS library says.
    pub(crate) source: io::Error,
}
