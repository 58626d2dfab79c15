//! The bodies of calls: a request's with a limit of time, a response's with a mark that it is open.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use hyper::body::{Body, Bytes, Frame, Incoming};
use tokio::time::Sleep;
use tonic::Status;

use super::{server::Open, status};
use crate::endpoint::ApiError;

/// A request's body that ends with an error when its client is too slow.
#[derive(Debug)]
pub(super) struct Timed {
    body: Incoming,
    limit: Duration,
    /// Whether the limit is one of silence, or one of the whole body.
    is_stream: bool,
    /// Set once the body keeps somebody waiting: most are there with their headers.
    timer: Option<Pin<Box<Sleep>>>,
}

/// A response's body, during which its call counts as open.
#[derive(Debug)]
pub(super) struct Tracked {
    body: tonic::body::Body,
    _open: Open,
}

impl Timed {
    /// A body that has to be there `limit` after it is first waited for.
    pub(super) fn whole(body: Incoming, limit: Duration) -> Self {
        Self { body, limit, is_stream: false, timer: None }
    }

    /// A body of which some part has to come in every `limit`.
    pub(super) fn stream(body: Incoming, limit: Duration) -> Self {
        Self { body, limit, is_stream: true, timer: None }
    }
}

impl Body for Timed {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) {
            if this.is_stream {
                this.timer = None;
            }
            let broken = |_| status::of(&ApiError::BodyBroken);
            return Poll::Ready(frame.map(|frame| frame.map_err(broken)));
        }
        let limit = this.limit;
        let timer = this.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        timer
            .as_mut()
            .poll(context)
            .map(|()| Some(Err(status::of(&ApiError::BodyTimeout { limit }))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}

impl Tracked {
    pub(super) fn new(body: tonic::body::Body, open: Open) -> Self {
        Self { body, _open: open }
    }
}

impl Body for Tracked {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}
