//! gRPC's health check: as ready as the endpoint.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures_util::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Request, Response, Status};

use super::{
    inference::Shared,
    protocol::{
        health::{
            HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus,
            health_server,
        },
        inference::grpc_inference_service_server as inference,
    },
    status,
};
use crate::{
    endpoint::ApiError,
    service::{Refusal, Service},
};

/// How often a watched status is looked at.
const WATCH_INTERVAL: Duration = Duration::from_millis(100);

/// Most `Watch` calls at a time, on all connections: they last for ever, and nobody needs a key for them.
pub(super) const MAX_WATCHES: usize = 64;

/// When a client for which there was no room may try again.
const WATCH_RETRY: Duration = Duration::from_secs(10);

/// What all `Watch` calls share.
#[derive(Debug)]
pub(super) struct Watches {
    room: Arc<Semaphore>,
    /// Whether the service was ready, and when that was looked at.
    ready: Mutex<Option<(Instant, bool)>>,
}

impl Default for Watches {
    fn default() -> Self {
        Self { room: Arc::new(Semaphore::new(MAX_WATCHES)), ready: Mutex::new(None) }
    }
}

impl Watches {
    /// Room for one, until it is dropped.
    fn enter(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        Arc::clone(&self.room).try_acquire_owned().map_err(|_| {
            let reason = "too many health watches are open";
            ApiError::from(Refusal::Overloaded { reason, retry_after: WATCH_RETRY })
        })
    }

    /// Whether the service is ready. However many watch it, it is asked once in every interval: the answer takes locks that
    /// queries need, too.
    fn is_ready(&self, ask: impl FnOnce() -> bool) -> bool {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        match *ready {
            Some((at, is_ready)) if at.elapsed() < WATCH_INTERVAL => is_ready,
            _ => {
                let is_ready = ask();
                *ready = Some((Instant::now(), is_ready));
                is_ready
            }
        }
    }
}

/// The service.
#[derive(Debug)]
pub(super) struct Health<S: ?Sized>(pub(super) Arc<Shared<S>>);

impl<S: Service + ?Sized> Shared<S> {
    /// The status that a watch tells. The server's stop is never late.
    fn watched(&self) -> ServingStatus {
        let is_ready = || self.watches.is_ready(|| self.endpoint.service.is_ready());
        serving(!self.endpoint.is_stopping() && is_ready())
    }
}

/// Whether there is such a service here.
fn is_known(service: &str) -> bool {
    [inference::SERVICE_NAME, health_server::SERVICE_NAME, ""].contains(&service)
}

fn serving(is_ready: bool) -> ServingStatus {
    if is_ready { ServingStatus::Serving } else { ServingStatus::NotServing }
}

#[tonic::async_trait]
impl<S: Service + ?Sized> health_server::Health for Health<S> {
    type WatchStream = BoxStream<'static, Result<HealthCheckResponse, Status>>;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        if !is_known(&request.get_ref().service) {
            return Err(Status::not_found("there is no such service"));
        }
        Ok(Response::new(response(serving(self.0.endpoint.is_ready()))))
    }

    /// Ends when the server stops, after it has said that it does not serve.
    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let room = self.0.watches.enter().map_err(|error| status::of(&error))?;
        let is_known = is_known(&request.get_ref().service);
        let state = (Arc::clone(&self.0), room, None);
        let watch = stream::unfold(state, move |(shared, room, last)| async move {
            loop {
                let now = if is_known { shared.watched() } else { ServingStatus::ServiceUnknown };
                if last != Some(now) {
                    return Some((Ok(response(now)), (shared, room, Some(now))));
                }
                if *shared.stopped.borrow() {
                    return None;
                }
                // Whichever comes first, the status is looked at again.
                let _ = tokio::time::timeout(WATCH_INTERVAL, shared.stopped()).await;
            }
        });
        Ok(Response::new(watch.boxed()))
    }
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}
