use tonic::Request;

use super::*;
use crate::grpc::protocol::inference::{
    ModelMetadataRequest, ModelReadyRequest, model_infer_request::InferRequestedOutputTensor,
};

#[tokio::test]
async fn every_refusal_has_its_status_and_code() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let overloaded = Refusal::Overloaded { reason: "full", retry_after: Duration::from_millis(17) };
    for (refusal, status, code) in [
        (overloaded, Code::ResourceExhausted, "overloaded"),
        (
            Refusal::Quality { min_quality: 0.9, best: 0.8 },
            Code::FailedPrecondition,
            "quality_unreachable",
        ),
        (Refusal::Weighted, Code::FailedPrecondition, "weights_unsupported"),
        (
            Refusal::DeadlinePassed { late: Duration::from_micros(5) },
            Code::DeadlineExceeded,
            "deadline_passed",
        ),
        (Refusal::Unavailable { reason: "stopping" }, Code::Unavailable, "unavailable"),
        (
            Refusal::Failed { path: "table@cpu".into(), message: "secret".into() },
            Code::Internal,
            "path_failed",
        ),
    ] {
        for behaviour in [Behaviour::Refuse(refusal.clone()), Behaviour::RefuseLater(refusal)] {
            server.service.behave(behaviour);
            let result = client.model_infer(request()).await;
            let retry = result.as_ref().unwrap_err().metadata().get("retry-after-ms").cloned();
            assert_eq!(retry.is_some_and(|retry| retry == "17"), code == "overloaded");
            let message = expect_error(result, status, code);
            assert!(!message.contains("secret"), "{message}");
        }
        assert_eq!(server.metric(&format!("mprec_requests_total{{code=\"{code}\"}}")), 2.0);
    }
    for behaviour in
        [Behaviour::Lose, Behaviour::Say(vec![0.5]), Behaviour::Say(vec![0.5, f32::NAN])]
    {
        server.service.behave(behaviour);
        expect_error(client.model_infer(request()).await, Code::Internal, "internal");
    }
}

#[tokio::test]
async fn models_and_versions_must_exist() {
    let server = Server::start().await;
    let mut client = server.client().await;
    for (name, version, code) in
        [("", "", "unknown_model"), ("other", "", "unknown_model"), ("ctr", "8", "unknown_version")]
    {
        let named = ModelInferRequest {
            model_name: name.into(),
            model_version: version.into(),
            ..request()
        };
        expect_error(client.model_infer(named).await, Code::NotFound, code);
        let (name, version) = (name.to_owned(), version.to_owned());
        let ready = ModelReadyRequest { name: name.clone(), version: version.clone() };
        assert!(!client.model_ready(ready).await.unwrap().get_ref().ready, "{code}");
        let metadata = ModelMetadataRequest { name, version };
        expect_error(client.model_metadata(metadata).await, Code::NotFound, code);
    }
}

/// What is sent when `change` was made to a good request.
async fn changed(
    server: &Server,
    change: impl FnOnce(&mut ModelInferRequest),
    code: &str,
) -> String {
    let mut request = request();
    change(&mut request);
    expect_error(server.infer(request).await, Code::InvalidArgument, code)
}

#[tokio::test]
async fn raw_and_typed_contents_do_not_mix() {
    let server = Server::start().await;
    let contents = typed().inputs[0].contents.clone();
    let both = |request: &mut ModelInferRequest| request.inputs[0].contents = contents;
    changed(&server, both, "bad_input").await;
    changed(&server, |request| request.raw_input_contents.clear(), "bad_input").await;
    for count in [1, 3] {
        let raw = |request: &mut ModelInferRequest| {
            request.raw_input_contents = vec![vec![0; 16].into(); count];
        };
        let message = changed(&server, raw, "bad_message").await;
        assert!(message.contains("one for every input"), "{message}");
    }
}

#[tokio::test]
async fn contents_must_be_of_the_datatype_that_is_stated() {
    let server = Server::start().await;
    let wrong = |change: fn(&mut InferTensorContents)| {
        let mut request = typed();
        change(request.inputs[0].contents.as_mut().unwrap());
        request
    };
    for request in [
        wrong(|contents| contents.fp64_contents = vec![1.0; 4]),
        wrong(|contents| contents.bytes_contents = vec![vec![0; 4].into()]),
    ] {
        expect_error(server.infer(request).await, Code::InvalidArgument, "bad_input");
    }
    let few = wrong(|contents| contents.fp32_contents.truncate(3));
    expect_error(server.infer(few).await, Code::InvalidArgument, "wrong_shape");
    let mut texts = typed();
    texts.inputs[0].datatype = "BYTES".into();
    let message = expect_error(server.infer(texts).await, Code::InvalidArgument, "bad_input");
    assert!(message.contains("another datatype"), "{message}");
    let mut none = typed();
    none.inputs[0].datatype = "BYTES".into();
    none.inputs[0].contents = Some(InferTensorContents::default());
    expect_error(server.infer(none).await, Code::InvalidArgument, "wrong_shape");
    let mut raw = super::request();
    raw.inputs[0].datatype = "BYTES".into();
    assert_eq!(server.infer(raw).await.unwrap_err().code(), Code::InvalidArgument);
    for datatype in ["FP64", "fp32", ""] {
        let mut request = typed();
        request.inputs[0].datatype = datatype.into();
        expect_error(server.infer(request).await, Code::InvalidArgument, "wrong_dtype");
        let mut request = super::request();
        request.inputs[0].datatype = datatype.into();
        let error = server.infer(request).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{error}");
    }
}

#[tokio::test]
async fn shapes_inputs_outputs_and_parameters_are_checked() {
    let server = Server::start().await;
    for shape in [
        vec![],
        vec![2],
        vec![2, 3],
        vec![-2, 2],
        vec![0, 2],
        vec![i64::MAX, 2],
        vec![i64::MAX; 8],
        vec![1; 9],
        vec![1 << 32, 1 << 32],
    ] {
        changed(&server, |request| request.inputs[0].shape = shape, "wrong_shape").await;
    }
    changed(&server, |request| request.inputs[0].shape = vec![1; 1000], "bad_message").await;
    let short = |request: &mut ModelInferRequest| {
        request.raw_input_contents[1] = request.raw_input_contents[1].slice(1..);
    };
    changed(&server, short, "wrong_shape").await;
    changed(&server, |request| request.inputs[1].name = "spars".into(), "bad_input").await;
    changed(&server, |request| request.inputs[1].name = "dense".into(), "bad_input").await;
    let none = |request: &mut ModelInferRequest| {
        request.inputs.clear();
        request.raw_input_contents.clear();
    };
    assert_eq!(changed(&server, none, "bad_input").await, "input `dense` is missing");
    let memory = |request: &mut ModelInferRequest| {
        request.inputs[0].parameters =
            with(&[("shared_memory_region", ParameterChoice::StringParam("region".into()))])
                .parameters;
    };
    assert!(changed(&server, memory, "bad_input").await.contains("shared memory"));
    let output =
        |name: &str| InferRequestedOutputTensor { name: name.into(), ..Default::default() };
    for outputs in [vec![output("other")], vec![output("scores"); 2]] {
        changed(&server, |request| request.outputs = outputs, "bad_output").await;
    }
    for (name, value) in [
        ("min_qualty", ParameterChoice::DoubleParam(0.5)),
        ("min_quality", ParameterChoice::DoubleParam(1.5)),
        ("timeout", ParameterChoice::Int64Param(-1)),
        ("priority", ParameterChoice::Uint64Param(u64::MAX)),
        ("sequence_id", ParameterChoice::Int64Param(7)),
    ] {
        let parameters = with(&[(name, value)]).parameters;
        changed(&server, |request| request.parameters = parameters, "bad_parameter").await;
    }
    let many = (0..100).map(|at| (format!("triton_{at}"), InferParameter::default())).collect();
    changed(&server, |request| request.parameters = many, "bad_parameter").await;
    let samples = 1001;
    let many = |request: &mut ModelInferRequest| {
        request.inputs[0].shape = vec![samples, 2];
        request.inputs[1].shape = vec![samples, 3];
        request.raw_input_contents =
            vec![vec![0; samples as usize * 8].into(), vec![0; samples as usize * 24].into()];
    };
    changed(&server, many, "too_many_samples").await;
    let page = server.metric("mprec_requests_total{code=\"wrong_shape\"}");
    assert_eq!(page, 10.0);
}

#[tokio::test]
async fn headers_are_checked() {
    let server = Server::start().await;
    let mut client = server.client().await;
    for (name, value) in
        [("mprec-sla-ms", "0"), ("mprec-sla-ms", "soon"), ("grpc-timeout", "5 minutes")]
    {
        let mut request = Request::new(request());
        request.metadata_mut().insert(name, value.parse().unwrap());
        let result = client.model_infer(request).await;
        expect_error(result, Code::InvalidArgument, "bad_header");
    }
}

#[tokio::test]
async fn messages_have_a_limit_before_and_after_decompression() {
    let server =
        Server::with(GrpcConfig { max_message_bytes: 4096, ..GrpcConfig::default() }).await;
    let large = ModelInferRequest { id: "x".repeat(5000), ..request() };
    let mut client = server.client().await;
    let result = client.model_infer(large.clone()).await;
    expect_error(result, Code::ResourceExhausted, "body_too_large");
    let mut client = client.send_compressed(tonic::codec::CompressionEncoding::Gzip);
    let result = client.model_infer(large).await;
    let message = expect_error(result, Code::ResourceExhausted, "body_too_large");
    assert!(message.contains("4096 bytes"), "{message}");
    assert_eq!(server.metric("mprec_requests_total{code=\"body_too_large\"}"), 2.0);
    // Nothing of it is left behind on the connection.
    assert_eq!(scores(client.model_infer(request()).await.unwrap().get_ref()), expected());
}
