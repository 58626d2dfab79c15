//! gRPC's health check: as ready as the endpoint.

use std::{sync::Arc, time::Duration};

use futures_util::{
    StreamExt as _,
    stream::{self, BoxStream},
};
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
};
use crate::service::Service;

/// How often a watched status is looked at.
const WATCH_INTERVAL: Duration = Duration::from_millis(100);

/// The service.
#[derive(Debug)]
pub(super) struct Health<S: ?Sized>(pub(super) Arc<Shared<S>>);

impl<S: Service + ?Sized> Shared<S> {
    /// The status now; `None` for a service that is not here.
    fn health(&self, service: &str) -> Option<ServingStatus> {
        let is_known =
            [inference::SERVICE_NAME, health_server::SERVICE_NAME, ""].contains(&service);
        is_known.then(|| {
            if self.endpoint.is_ready() {
                ServingStatus::Serving
            } else {
                ServingStatus::NotServing
            }
        })
    }
}

#[tonic::async_trait]
impl<S: Service + ?Sized> health_server::Health for Health<S> {
    type WatchStream = BoxStream<'static, Result<HealthCheckResponse, Status>>;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let status = self.0.health(&request.get_ref().service);
        let status = status.ok_or_else(|| Status::not_found("there is no such service"))?;
        Ok(Response::new(response(status)))
    }

    /// Ends when the server stops, after it has said that it does not serve.
    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let service = request.into_inner().service;
        let watch = stream::unfold((Arc::clone(&self.0), None), move |(shared, last)| {
            let service = service.clone();
            async move {
                loop {
                    let now = shared.health(&service).unwrap_or(ServingStatus::ServiceUnknown);
                    if last != Some(now) {
                        return Some((Ok(response(now)), (shared, Some(now))));
                    }
                    if *shared.stopped.borrow() {
                        return None;
                    }
                    // Whichever comes first, the status is looked at again.
                    let _ = tokio::time::timeout(WATCH_INTERVAL, shared.stopped()).await;
                }
            }
        });
        Ok(Response::new(watch.boxed()))
    }
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}
