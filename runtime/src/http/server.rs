//! Listening, and stopping without losing a request.

use std::{convert::Infallible, future::Future, pin::pin, sync::Arc};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::sync::watch;

use super::{
    config::HttpConfig,
    handler::Handler,
    pace::{Paced, Progress},
};
use crate::{
    endpoint::{Accepted, Drained, Endpoint, Listener, Listening, Secure, listen},
    security::Protocol,
    service::Service,
};

/// What a connection beyond the limit is told.
const TOO_MANY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\n\
    content-length: 62\r\nconnection: close\r\nretry-after: 1\r\n\r\n\
    {\"error\":\"too many connections are open\",\"code\":\"unavailable\"}";

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
    let listening = Listening {
        max_connections: config.max_connections,
        drain_delay: config.drain_delay,
        drain_timeout: config.drain_timeout,
        refusal: TOO_MANY,
        secure: Secure {
            certificates: config.tls.clone(),
            protocol: Protocol::Http1,
            timeout: config.handshake_timeout,
        },
    };
    let handler = Arc::new(Handler::new(Arc::clone(&endpoint), config));
    let (stop, stopped) = watch::channel(false);
    let connect = move |accepted| connection(accepted, Arc::clone(&handler), stopped.clone());
    listen(listeners, &endpoint, listening, shutdown, stop, connect).await
}

/// Serves one connection to its end.
async fn connection<S: Service + ?Sized>(
    stream: Accepted,
    handler: Arc<Handler<S>>,
    mut stopped: watch::Receiver<bool>,
) {
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
