//! Listening, and stopping without losing a request.

use std::{convert::Infallible, future::Future, pin::pin, sync::Arc, time::Duration};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
    task::JoinSet,
};

use super::{
    config::HttpConfig,
    handler::Handler,
    listener::{Accepted, Listener, accept},
    pace::{Paced, Progress},
};
use crate::{endpoint::Endpoint, metrics::Metrics, service::Service};

/// Wait after an error of `accept`: most are a lack of file descriptors, which only time cures.
const ACCEPT_RETRY: Duration = Duration::from_millis(20);

/// What a connection beyond the limit is told.
const TOO_MANY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\n\
    content-length: 62\r\nconnection: close\r\nretry-after: 1\r\n\r\n\
    {\"error\":\"too many connections are open\",\"code\":\"unavailable\"}";

/// How a server stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Connections that were open when listening stopped and ended by themselves.
    pub finished: usize,
    /// Connections that were cut because the drain limit had passed.
    pub cut: usize,
}

/// Serves `endpoint` on all `listeners` until `shutdown` completes, then drains.
///
/// Draining goes in steps: readiness turns false at once and responses ask clients to close; after
/// [`HttpConfig::drain_delay`] listening stops and idle connections close; requests in flight
/// have [`HttpConfig::drain_timeout`] to finish, and what is left then is cut.
///
/// Runs on the caller's runtime, which needs I/O and timers enabled; every connection is a task.
pub async fn serve<S: Service + ?Sized>(
    listeners: Vec<Listener>,
    endpoint: Arc<Endpoint<S>>,
    config: HttpConfig,
    shutdown: impl Future<Output = ()>,
) -> Drained {
    let handler = Arc::new(Handler::new(endpoint, config));
    let mut first = 0;
    let (stop, stopped) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(async {
        shutdown.await;
        tracing::info!("stopping: not ready for new requests");
        handler.endpoint.stop();
        tokio::time::sleep(handler.config.drain_delay).await;
    });
    loop {
        tokio::select! {
            biased;
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => {}
            accepted = accept(&listeners, &mut first) => match accepted {
                Ok(stream) if connections.len() >= handler.config.max_connections => {
                    handler.endpoint.metrics.connections_refused.add_one();
                    stream.dismiss(TOO_MANY);
                }
                Ok(Accepted::Tcp(stream)) => {
                    // Without it, small responses would wait for the client's delayed acknowledgements.
                    if let Err(error) = stream.set_nodelay(true) {
                        tracing::debug!(%error, "no-delay could not be set");
                    }
                    connections.spawn(connection(stream, Arc::clone(&handler), stopped.clone()));
                }
                Ok(Accepted::Unix(stream)) => {
                    connections.spawn(connection(stream, Arc::clone(&handler), stopped.clone()));
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
    drain(connections, handler.config.drain_timeout).await
}

/// Serves one connection to its end.
async fn connection<S: Service + ?Sized>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    handler: Arc<Handler<S>>,
    mut stopped: watch::Receiver<bool>,
) {
    let _open = Open::new(&handler.endpoint.metrics);
    let progress = Arc::new(Progress::default());
    let io = TokioIo::new(Paced::new(stream, Arc::clone(&progress), &handler.config));
    let respond = service_fn(|request| {
        let reply = Arc::clone(&handler).respond(request, Arc::clone(&progress));
        async { Ok::<_, Infallible>(reply.await) }
    });
    let serving = http1::Builder::new()
        // `Paced` keeps the time instead.
        .header_read_timeout(None)
        .max_buf_size(handler.config.max_head_bytes.max(8192))
        .max_headers(handler.config.max_headers)
        .serve_connection(io, respond);
    let mut serving = pin!(serving);
    let mut stop = pin!(async {
        // An error would mean that the server is gone, which is a stop too.
        let _ = stopped.wait_for(|&stopped| stopped).await;
    });
    let result = tokio::select! {
        result = &mut serving => result,
        () = &mut stop => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a connection ended early");
    }
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
struct Open<'a>(&'a Metrics);

impl<'a> Open<'a> {
    fn new(metrics: &'a Metrics) -> Self {
        metrics.connections.add(1);
        Self(metrics)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.connections.add(-1);
    }
}
