//! Listening, and stopping without losing a request.

use std::{
    convert::Infallible,
    future::Future,
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use hyper::{server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{sync::watch, time::Instant};

use super::{config::GrpcConfig, health::Watches, inference::Shared, respond::Responder};
use crate::{
    endpoint::{Accepted, Drained, Endpoint, Listener, Listening, Secure, listen},
    security::Protocol,
    service::Service,
};

/// Largest frame that clients may send: a usual request fits one.
const MAX_FRAME_BYTES: u32 = 256 << 10;

/// How long a client without a call may take to leave when it is asked to. One that has not even
/// begun to speak HTTP/2 never does.
const GOODBYE: Duration = Duration::from_secs(1);

/// Serves `endpoint` on all `listeners` until `shutdown` completes, then drains.
///
/// Draining goes in steps: readiness turns false at once; after [`GrpcConfig::drain_delay`]
/// listening stops, clients are told to open no calls, streams end behind what they have in flight,
/// and idle connections close; calls in flight have [`GrpcConfig::drain_timeout`] to finish, and
/// what is left then is cut.
///
/// Runs on the caller's runtime, which needs I/O and timers enabled; every connection and every call
/// is a task.
pub async fn serve<S: Service + ?Sized>(
    listeners: Vec<Listener>,
    endpoint: Arc<Endpoint<S>>,
    config: GrpcConfig,
    shutdown: impl Future<Output = ()>,
) -> Drained {
    let listening = Listening {
        max_connections: config.max_connections,
        drain_delay: config.drain_delay,
        drain_timeout: config.drain_timeout,
        // A client sees its connection closed, and reports UNAVAILABLE.
        refusal: &[],
        secure: Secure {
            certificates: config.tls.clone(),
            protocol: Protocol::Http2,
            timeout: config.handshake_timeout,
        },
    };
    let (stop, stopped) = watch::channel(false);
    let watches = Watches::default();
    let shared = Arc::new(Shared { endpoint: Arc::clone(&endpoint), config, stopped, watches });
    let responder = Arc::new(Responder::new(Arc::clone(&shared)));
    let connect = move |accepted| connection(accepted, Arc::clone(&shared), Arc::clone(&responder));
    listen(listeners, &endpoint, listening, shutdown, stop, connect).await
}

/// Serves one connection to its end.
async fn connection<S: Service + ?Sized>(
    stream: Accepted,
    shared: Arc<Shared<S>>,
    responder: Arc<Responder<S>>,
) {
    let config = &shared.config;
    let calls = Arc::new(Calls::new(config.first_call_timeout));
    let respond = service_fn(|request| {
        let response = Arc::clone(&responder).respond(request, Open::new(&calls));
        async { Ok::<_, Infallible>(response.await) }
    });
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(config.max_streams)
        .max_header_list_size(config.max_header_bytes)
        .max_frame_size(MAX_FRAME_BYTES)
        .keep_alive_interval(config.keepalive_interval)
        .keep_alive_timeout(config.keepalive_timeout);
    let serving = builder.serve_connection(TokioIo::new(stream), respond);
    let mut serving = pin!(serving);
    tokio::select! {
        result = &mut serving => return log(result),
        () = shared.stopped() => {}
        () = calls.idle(Instant::now(), config.idle_timeout) => {}
    }
    serving.as_mut().graceful_shutdown();
    tokio::select! {
        result = serving => log(result),
        // It has nothing to wait for, and still does not leave.
        () = calls.idle(Instant::now(), GOODBYE) => {}
    }
}

fn log(result: hyper::Result<()>) {
    if let Err(error) = result {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// The calls of one connection.
#[derive(Debug)]
struct Calls {
    open: AtomicUsize,
    /// When the last one ended.
    ended: Mutex<Instant>,
    /// Whether there was one, and how long it may take until there is.
    begun: AtomicBool,
    first: Duration,
}

/// A call of a connection, until its response is sent or dropped.
#[derive(Debug)]
pub(super) struct Open(Arc<Calls>);

impl Calls {
    fn new(first: Duration) -> Self {
        Self {
            open: AtomicUsize::new(0),
            ended: Mutex::new(Instant::now()),
            begun: AtomicBool::new(false),
            first,
        }
    }

    /// Completes when there was no call for `limit`, from `start` on, or none at all in the time for the first.
    async fn idle(&self, start: Instant, limit: Duration) {
        loop {
            let limit = if self.begun.load(Relaxed) { limit } else { limit.min(self.first) };
            let ended = *self.ended.lock().unwrap_or_else(PoisonError::into_inner);
            let ended = ended.max(start);
            let now = Instant::now();
            let until = match self.open.load(Relaxed) {
                0 if ended + limit <= now => return,
                0 => ended + limit,
                _ => now + limit,
            };
            tokio::time::sleep_until(until).await;
        }
    }
}

impl Open {
    fn new(calls: &Arc<Calls>) -> Self {
        calls.begun.store(true, Relaxed);
        calls.open.fetch_add(1, Relaxed);
        Self(Arc::clone(calls))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        *self.0.ended.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.0.open.fetch_sub(1, Relaxed);
    }
}
