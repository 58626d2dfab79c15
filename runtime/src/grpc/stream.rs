//! `ModelStreamInfer`: many requests on one call.

use std::{sync::Arc, time::Instant};

use futures_util::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use tonic::{Status, Streaming};

use super::{
    call::Call,
    inference::Shared,
    protocol::inference::{ModelInferRequest, ModelStreamInferResponse},
    reply, status,
};
use crate::{
    endpoint::ApiError,
    metrics::RequestEnd,
    service::{Refusal, Service},
};

/// The responses to `requests`, in their order. Several are worked on at a time, so that they can
/// share a batch; when the client cancels, all of them are dropped.
///
/// A request that fails is answered inside the stream. A message that cannot be read ends it, for
/// where the next one starts is then unknown; so does a message whose key was taken back since the
/// call began, and the server's stop, once what it had taken is answered.
pub(super) fn answers<S: Service + ?Sized>(
    shared: Arc<Shared<S>>,
    call: Call,
    requests: Streaming<ModelInferRequest>,
) -> BoxStream<'static, Result<ModelStreamInferResponse, Status>> {
    let at_a_time = shared.config.max_stream_requests;
    let limit = shared.config.max_message_bytes;
    let end = end_of(Arc::clone(&shared));
    requests
        .take_until(shared.stopped())
        .map(move |request| {
            let arrival = Instant::now();
            let shared = Arc::clone(&shared);
            async move {
                let request = request.map_err(|theirs| status::own(theirs, limit))?;
                if let Err(error) = shared.endpoint.authenticate_again(call.pass) {
                    shared.endpoint.count(arrival).end = RequestEnd::Error(error.code());
                    return Err(status::of(&error));
                }
                let (id, model) = (request.id.clone(), request.model_name.clone());
                let work = shared.infer(request, arrival, call.budget(arrival));
                Ok::<_, Status>(match shared.endpoint.counted(arrival, work).await {
                    Ok(response) => ModelStreamInferResponse {
                        error_message: String::new(),
                        infer_response: Some(response),
                    },
                    Err(error) => reply::error(id, model, &error),
                })
            }
        })
        .buffered(at_a_time)
        .chain(end)
        .boxed()
}

/// What follows the last answer: nothing, or why the server takes no more.
fn end_of<S: Service + ?Sized>(
    shared: Arc<Shared<S>>,
) -> impl futures_util::Stream<Item = Result<ModelStreamInferResponse, Status>> + Send {
    stream::once(async move {
        let stopped = *shared.stopped.borrow();
        stopped.then(|| {
            let refusal = Refusal::Unavailable { reason: "the server is stopping" };
            Err(status::of(&ApiError::from(refusal)))
        })
    })
    .filter_map(std::future::ready)
}
