use futures_util::stream;
use tokio::sync::mpsc;
use tonic::{Request, Streaming};

use super::*;
use crate::grpc::protocol::inference::ModelStreamInferResponse;

/// An open stream: what is sent to it, and what comes back.
struct Open {
    requests: mpsc::UnboundedSender<ModelInferRequest>,
    responses: Streaming<ModelStreamInferResponse>,
}

impl Open {
    async fn at(server: &Server) -> Self {
        Self::with(server, |_| {}).await
    }

    async fn with<F: FnOnce(&mut Request<()>)>(server: &Server, prepare: F) -> Self {
        let (requests, receiver) = mpsc::unbounded_channel();
        let messages = stream::unfold(receiver, |mut receiver| async move {
            Some((receiver.recv().await?, receiver))
        });
        let mut empty = Request::new(());
        prepare(&mut empty);
        let (metadata, extensions, ()) = empty.into_parts();
        let request = Request::from_parts(metadata, extensions, messages);
        let responses = server.client().await.model_stream_infer(request).await.unwrap();
        Self { requests, responses: responses.into_inner() }
    }

    fn send(&self, request: ModelInferRequest) {
        self.requests.send(request).unwrap();
    }

    async fn next(&mut self) -> Result<Option<ModelStreamInferResponse>, Status> {
        tokio::time::timeout(Duration::from_secs(10), self.responses.message())
            .await
            .expect("no silence")
    }
}

fn named(id: usize) -> ModelInferRequest {
    ModelInferRequest { id: id.to_string(), ..request() }
}

#[tokio::test]
async fn requests_are_answered_in_order_and_errors_stand_among_them() {
    let server = Server::start().await;
    let mut open = Open::at(&server).await;
    for id in 0..100 {
        let mut request = named(id);
        if id % 10 == 3 {
            request.inputs[0].name = "dens".into();
        }
        open.send(request);
    }
    for id in 0..100 {
        let message = open.next().await.unwrap().unwrap();
        let response = message.infer_response.unwrap();
        assert_eq!((response.id.as_str(), response.model_name.as_str()), (&*id.to_string(), "ctr"));
        if id % 10 == 3 {
            assert!(message.error_message.contains("`dens`"), "{}", message.error_message);
            let code = ParameterChoice::StringParam("bad_input".into());
            assert_eq!(map_of(&response.parameters), [("code", code)]);
        } else {
            assert_eq!(message.error_message, "");
            assert_eq!(scores(&response), expected());
        }
    }
    drop(open.requests);
    assert!(open.responses.message().await.unwrap().is_none());
    assert_eq!(server.metric("mprec_requests_total{code=\"ok\"}"), 90.0);
    assert_eq!(server.metric("mprec_requests_total{code=\"bad_input\"}"), 10.0);
}

#[tokio::test]
async fn an_overload_on_a_stream_says_when_to_come_back() {
    let server = Server::start().await;
    let retry_after = Duration::from_millis(17);
    server.service.behave(Behaviour::Refuse(Refusal::Overloaded { reason: "full", retry_after }));
    let mut open = Open::at(&server).await;
    open.send(request());
    let response = open.next().await.unwrap().unwrap().infer_response.unwrap();
    assert_eq!(
        map_of(&response.parameters),
        [
            ("code", ParameterChoice::StringParam("overloaded".into())),
            ("retry_after_ms", ParameterChoice::Int64Param(17)),
        ]
    );
}

#[tokio::test]
async fn several_requests_are_worked_on_at_a_time_and_no_more_than_the_limit() {
    let config = GrpcConfig { max_stream_requests: 3, ..GrpcConfig::default() };
    let server = Server::with(config).await;
    server.service.behave(Behaviour::Hold);
    let mut open = Open::at(&server).await;
    for id in 0..5 {
        open.send(named(id));
    }
    until(|| server.service.held.lock().unwrap().len() == 3).await;
    sleep(MOMENT).await;
    assert_eq!(server.service.count(), 3);
    server.service.behave(Behaviour::Score);
    server.service.release();
    for id in 0..5 {
        let response = open.next().await.unwrap().unwrap().infer_response.unwrap();
        assert_eq!(response.id, id.to_string());
    }
}

#[tokio::test]
async fn a_client_that_leaves_takes_all_of_its_queries_with_it() {
    let server = Server::start().await;
    server.service.behave(Behaviour::Hold);
    let open = Open::at(&server).await;
    for id in 0..4 {
        open.send(named(id));
    }
    until(|| server.service.held.lock().unwrap().len() == 4).await;
    drop(open);
    until(|| server.service.held.lock().unwrap().iter().all(|(sender, _)| sender.is_closed()))
        .await;
    until(|| server.metric("mprec_queries_cancelled_total") == 4.0).await;
    assert_eq!(server.metric("mprec_requests_in_flight"), 0.0);
}

#[tokio::test]
async fn the_deadline_of_a_call_is_that_of_all_its_requests() {
    let server = Server::start().await;
    let mut open = Open::with(&server, |request| {
        request.set_timeout(Duration::from_secs(20));
    })
    .await;
    let mut budgets = Vec::new();
    for id in 0..2 {
        open.send(named(id));
        open.next().await.unwrap().unwrap();
        let seen = server.service.last();
        budgets.push(seen.deadline - seen.arrival);
        sleep(MOMENT).await;
    }
    assert!(budgets[0] <= Duration::from_secs(20) && budgets[0] > Duration::from_secs(10));
    assert!(budgets[0] - budgets[1] >= MOMENT, "{budgets:?}");
}

#[tokio::test]
async fn a_stream_ends_behind_what_is_in_flight_when_the_server_stops() {
    let mut server = Server::start().await;
    server.service.behave(Behaviour::Hold);
    let mut open = Open::at(&server).await;
    open.send(request());
    until(|| server.service.held.lock().unwrap().len() == 1).await;
    server.stop();
    sleep(MOMENT).await;
    server.service.release();
    let response = open.next().await.unwrap().unwrap().infer_response.unwrap();
    assert_eq!(scores(&response), expected());
    expect_error(open.next().await, Code::Unavailable, "unavailable");
    assert_eq!(server.task.await.unwrap().cut, 0);
}

#[tokio::test]
async fn a_silent_stream_is_ended_after_a_while() {
    let config = GrpcConfig { stream_timeout: MOMENT * 2, ..GrpcConfig::default() };
    let server = Server::with(config).await;
    let mut open = Open::at(&server).await;
    for _ in 0..3 {
        sleep(MOMENT).await;
        open.send(request());
        assert_eq!(open.next().await.unwrap().unwrap().error_message, "");
    }
    expect_error(open.next().await, Code::DeadlineExceeded, "body_timeout");
}
