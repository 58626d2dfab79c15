//! Taking connections, wherever they come from and whatever is spoken on them, and stopping without losing a request.

use std::{future::Future, pin::pin, sync::Arc, time::Duration};

use tokio::{sync::watch, task::JoinSet};

use super::{
    accepted::Accepted,
    listener::{Listener, accept},
    scoring::Endpoint,
    secure::Secure,
};
use crate::{metrics::Metrics, service::Service};

/// Wait after an error of `accept`: most are a lack of file descriptors, which only time cures.
const ACCEPT_RETRY: Duration = Duration::from_millis(20);

/// How a server takes connections and lets go of them.
#[derive(Debug, Clone)]
pub(crate) struct Listening {
    /// Most open connections.
    pub(crate) max_connections: usize,
    /// How long connections are still taken after shutdown began.
    pub(crate) drain_delay: Duration,
    /// How long connections may take to finish, after that.
    pub(crate) drain_timeout: Duration,
    /// What a connection beyond the limit is told before it is closed.
    pub(crate) refusal: &'static [u8],
    /// How connections are secured.
    pub(crate) secure: Secure,
}

/// How a server stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Connections that were open when listening stopped and ended by themselves.
    pub finished: usize,
    /// Connections that were cut because the drain limit had passed.
    pub cut: usize,
}

/// Has `connect` serve every connection, once it is secured, until `shutdown` completes, then drains: the endpoint says
/// that it is not ready; after the delay listening ends and `stop` is set, at which connections are
/// to end as soon as they can; what is left after the limit is cut.
pub(crate) async fn listen<S, F>(
    listeners: Vec<Listener>,
    endpoint: &Endpoint<S>,
    listening: Listening,
    shutdown: impl Future<Output = ()>,
    stop: watch::Sender<bool>,
    connect: impl Fn(Accepted) -> F + Clone + Send + Sync + 'static,
) -> Drained
where
    S: Service + ?Sized,
    F: Future<Output = ()> + Send,
{
    let mut first = 0;
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(async {
        shutdown.await;
        tracing::info!("stopping: not ready for new requests");
        endpoint.stop();
        tokio::time::sleep(listening.drain_delay).await;
    });
    loop {
        tokio::select! {
            biased;
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => {}
            accepted = accept(&listeners, &mut first) => match accepted {
                Ok(stream) if connections.len() >= listening.max_connections => {
                    endpoint.metrics.connections_refused.add_one();
                    // To a client that expects TLS it would be noise.
                    let is_plain = !listening.secure.applies_to(&stream);
                    stream.dismiss(if is_plain { listening.refusal } else { &[] });
                }
                Ok(stream) => {
                    if let Accepted::Tcp(stream) = &stream
                        // Without it, small responses would wait for delayed acknowledgements.
                        && let Err(error) = stream.set_nodelay(true)
                    {
                        tracing::debug!(%error, "no-delay could not be set");
                    }
                    let open = Open::new(&endpoint.metrics);
                    let (connect, secure) = (connect.clone(), listening.secure.clone());
                    let stopped = stop.subscribe();
                    // Here, so that no client's handshake holds up those behind it.
                    connections.spawn(async move {
                        if let Some(stream) = secure.of(stream, &open.0, stopped).await {
                            connect(stream).await;
                        }
                        drop(open);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
            },
        }
    }
    drop(listeners);
    stop.send_replace(true);
    drain(connections, listening.drain_timeout).await
}

async fn drain(mut connections: JoinSet<()>, limit: Duration) -> Drained {
    let open = connections.len();
    let all = async { while connections.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(limit, all).await;
    let cut = connections.len();
    connections.shutdown().await;
    if cut > 0 {
        tracing::warn!(cut, "connections were cut because draining took too long");
    }
    Drained { finished: open - cut, cut }
}

/// Counts an open connection while it lives.
struct Open(Arc<Metrics>);

impl Open {
    fn new(metrics: &Arc<Metrics>) -> Self {
        metrics.connections.add(1);
        Self(Arc::clone(metrics))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.connections.add(-1);
    }
}
