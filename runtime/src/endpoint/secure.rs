//! From a connection that was accepted to one that is as secure as the listener promises.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::watch;

use super::accepted::Accepted;
use crate::{
    metrics::Metrics,
    security::{Certificates, HandshakeEnd, HandshakeError, Protocol},
};

/// How TCP connections are secured. A Unix socket is this machine's own, and its file says who may use it.
#[derive(Debug, Clone)]
pub(crate) struct Secure {
    /// `None` leaves them as they are.
    pub(crate) certificates: Option<Arc<Certificates>>,
    /// What is spoken.
    pub(crate) protocol: Protocol,
    /// How long a client may take.
    pub(crate) timeout: Duration,
}

impl Secure {
    /// Whether this connection is to be secured.
    pub(super) fn applies_to(&self, accepted: &Accepted) -> bool {
        self.certificates.is_some() && matches!(accepted, Accepted::Tcp(_))
    }

    /// The connection, secured if it is to be; `None`, and counted, if that failed, or if the server stops first.
    pub(super) async fn of(
        &self,
        accepted: Accepted,
        metrics: &Metrics,
        mut stopped: watch::Receiver<bool>,
    ) -> Option<Accepted> {
        let (stream, certificates) = match (accepted, &self.certificates) {
            (Accepted::Tcp(stream), Some(certificates)) => (stream, certificates),
            (accepted, _) => return Some(accepted),
        };
        let handshake = certificates.accept(self.protocol, stream);
        let result = tokio::select! {
            result = tokio::time::timeout(self.timeout, handshake) => result,
            _ = stopped.wait_for(|&stopped| stopped) => return None,
        };
        let result = result.unwrap_or_else(|_| {
            let source = io::ErrorKind::TimedOut.into();
            Err(HandshakeError { end: HandshakeEnd::Timeout, source })
        });
        match result {
            Ok(stream) => {
                metrics.handshakes.of(HandshakeEnd::Done).add_one();
                Some(Accepted::Tls(stream))
            }
            Err(HandshakeError { end, source }) => {
                metrics.handshakes.of(end).add_one();
                static SELDOM: Seldom = Seldom::new();
                if SELDOM.is_due(Instant::now()) {
                    tracing::debug!(error = %source, ?end, "a TLS handshake failed");
                }
                None
            }
        }
    }
}

/// Keeps what anybody can cause from filling the log: once a second. The metrics have the number.
#[derive(Debug)]
pub(super) struct Seldom(Mutex<Option<Instant>>);

impl Seldom {
    pub(super) const fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// Whether the last time is a second ago.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let due = last.is_none_or(|last| now.duration_since(last) >= Duration::from_secs(1));
        if due {
            *last = Some(now);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once_a_second_is_seldom() {
        let (seldom, start) = (Seldom::new(), Instant::now());
        let due = |milliseconds| seldom.is_due(start + Duration::from_millis(milliseconds));
        assert_eq!(
            [0, 10, 999, 1000, 1500, 2000].map(due),
            [true, false, false, true, false, true]
        );
    }
}
