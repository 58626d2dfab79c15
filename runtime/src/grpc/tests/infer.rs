use tonic::Request;

use super::*;
use crate::grpc::protocol::inference::{
    DataType, ModelConfigRequest, ModelMetadataRequest, ModelReadyRequest, ModelStatisticsRequest,
    ServerLiveRequest, ServerMetadataRequest, ServerReadyRequest, StatisticDuration,
    model_config::SchedulingChoice, model_infer_request::InferRequestedOutputTensor,
};

#[tokio::test]
async fn raw_and_typed_contents_give_the_same_scores() {
    let server = Server::start().await;
    let mut client = server.client().await;
    for request in [request(), typed()] {
        let response = client.model_infer(request).await.unwrap().into_inner();
        assert_eq!(scores(&response), expected());
        assert_eq!((response.model_name.as_str(), response.model_version.as_str()), ("ctr", "7"));
        assert_eq!(response.id, "a");
        let text = |text: &str| ParameterChoice::StringParam(text.into());
        let mut parameters = response.parameters.clone();
        let latency = parameters.remove("latency_us").unwrap().parameter_choice;
        assert!(matches!(latency, Some(ParameterChoice::Int64Param(1..))), "{latency:?}");
        assert_eq!(
            map_of(&parameters),
            [
                ("batch_samples", ParameterChoice::Int64Param(2)),
                ("compute_us", ParameterChoice::Int64Param(345)),
                ("downgraded", ParameterChoice::BoolParam(true)),
                ("path", text("table@cpu")),
                ("predicted_us", ParameterChoice::Int64Param(400)),
                ("quality", ParameterChoice::DoubleParam(0.75)),
                ("queue_us", ParameterChoice::Int64Param(12)),
                ("variant", text("table")),
                ("version", text("7")),
            ]
        );
    }
    assert_eq!(server.metric("mprec_requests_total{code=\"ok\"}"), 2.0);
    assert_eq!(server.metric("mprec_connections"), 1.0);
}

#[tokio::test]
async fn bags_of_any_size_are_read() {
    let server = Server::start().await;
    let lengths = [2, 0, 1, 1, 1, 0];
    let ids: [i64; 5] = [1, 2, 29, 3, 4];
    let weights = [0.5_f32, 1.0, 2.0, 1.5, 1.0];
    let mut raw = request();
    raw.inputs[1].shape = vec![5];
    raw.inputs.push(InferInputTensor {
        name: "sparse_lengths".into(),
        datatype: "INT32".into(),
        shape: vec![2, 3],
        ..Default::default()
    });
    raw.inputs.push(InferInputTensor {
        name: "sparse_weights".into(),
        datatype: "FP32".into(),
        shape: vec![5],
        ..Default::default()
    });
    let mut contents = raw.clone();
    let bytes = |values: &[[u8; 4]]| values.concat().into();
    raw.raw_input_contents[1] = ids.map(i64::to_le_bytes).concat().into();
    raw.raw_input_contents.push(bytes(&lengths.map(i32::to_le_bytes)));
    raw.raw_input_contents.push(bytes(&weights.map(f32::to_le_bytes)));
    let of_raw = scores(&server.infer(raw).await.unwrap());

    contents.raw_input_contents.clear();
    let typed = [
        InferTensorContents { fp32_contents: dense(), ..Default::default() },
        InferTensorContents { int64_contents: ids.to_vec(), ..Default::default() },
        InferTensorContents { int_contents: lengths.to_vec(), ..Default::default() },
        InferTensorContents { fp32_contents: weights.to_vec(), ..Default::default() },
    ];
    for (input, typed) in contents.inputs.iter_mut().zip(typed) {
        input.contents = Some(typed);
    }
    assert_eq!(scores(&server.infer(contents).await.unwrap()), of_raw);
    assert_eq!(score(&server.service.last().batch.expanded()), of_raw);
    assert_ne!(of_raw, expected());
}

#[tokio::test]
async fn the_smallest_budget_of_all_wins() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let ms = |ms: u64| ("sla_ms", ParameterChoice::Int64Param(ms as i64));
    let us = |us: u64| ("timeout", ParameterChoice::Int64Param(us as i64));
    // Parameters, metadata in milliseconds, gRPC's deadline in seconds, and what it comes to.
    for (pairs, metadata, deadline, budget_ms) in [
        (&[][..], None, None, 250),
        (&[ms(4000)], None, None, 4000),
        (&[ms(4000), us(3_000_000)], None, None, 3000),
        (&[ms(4000)], Some("2000"), None, 2000),
        (&[ms(4000)], Some("2000.0"), Some(60), 2000),
        (&[ms(40_000)], Some("30000"), Some(20), 20_000),
        (&[], None, Some(20), 20_000),
    ] {
        let mut request = Request::new(with(pairs));
        if let Some(metadata) = metadata {
            request.metadata_mut().insert("mprec-sla-ms", metadata.parse().unwrap());
        }
        if let Some(seconds) = deadline {
            request.set_timeout(Duration::from_secs(seconds));
        }
        client.model_infer(request).await.unwrap();
        let seen = server.service.last();
        let budget = seen.deadline - seen.arrival;
        assert_eq!(budget.as_millis(), budget_ms, "{pairs:?} {metadata:?} {deadline:?}");
    }
}

#[tokio::test]
async fn parameters_reach_the_service() {
    let server = Server::start().await;
    let request = with(&[
        ("priority", ParameterChoice::Uint64Param(1)),
        ("min_quality", ParameterChoice::DoubleParam(0.7)),
        ("triton_enable_empty_final_response", ParameterChoice::BoolParam(true)),
        ("sequence_id", ParameterChoice::StringParam(String::new())),
    ]);
    server.infer(request).await.unwrap();
    let seen = server.service.last();
    assert_eq!((seen.priority, seen.min_quality), (1, Some(0.7)));
}

#[tokio::test]
async fn outputs_and_versions_may_be_named() {
    let server = Server::start().await;
    let output = InferRequestedOutputTensor { name: "scores".into(), ..Default::default() };
    let named = ModelInferRequest { model_version: "7".into(), outputs: vec![output], ..request() };
    assert_eq!(scores(&server.infer(named).await.unwrap()), expected());
}

#[tokio::test]
async fn compressed_requests_are_read() {
    use tonic::codec::CompressionEncoding::{Deflate, Gzip};
    let server = Server::start().await;
    for encoding in [Gzip, Deflate] {
        let client = server.client().await;
        let mut client = client.send_compressed(encoding).accept_compressed(encoding);
        let response = client.model_infer(request()).await.unwrap();
        assert_eq!(response.metadata().get("grpc-encoding"), None);
        assert_eq!(scores(response.get_ref()), expected());
    }
}

#[tokio::test]
async fn a_large_request_is_parsed_aside() {
    let server = Server::start().await;
    let samples = 1000;
    let ids = 40;
    let mut large = request();
    large.inputs[0].shape = vec![samples, 2];
    large.inputs[1].shape = vec![samples * 3 * ids];
    large.inputs.push(InferInputTensor {
        name: "sparse_lengths".into(),
        datatype: "INT64".into(),
        shape: vec![samples, 3],
        ..Default::default()
    });
    large.raw_input_contents = vec![
        vec![0; samples as usize * 2 * 4].into(),
        vec![0; (samples * 3 * ids) as usize * 8].into(),
        [ids.to_le_bytes()].repeat(samples as usize * 3).concat().into(),
    ];
    let response = server.infer(large).await.unwrap();
    assert_eq!(scores(&response).len(), 1000);
}

#[tokio::test]
async fn the_server_and_its_models_are_described() {
    let server = Server::start().await;
    let mut client = server.client().await;
    assert!(client.server_live(ServerLiveRequest {}).await.unwrap().get_ref().live);
    assert!(client.server_ready(ServerReadyRequest {}).await.unwrap().get_ref().ready);
    let ctr = || ModelReadyRequest { name: "ctr".into(), version: "7".into() };
    assert!(client.model_ready(ctr()).await.unwrap().get_ref().ready);
    server.service.ready.store(false, std::sync::atomic::Ordering::Relaxed);
    assert!(client.server_live(ServerLiveRequest {}).await.unwrap().get_ref().live);
    assert!(!client.server_ready(ServerReadyRequest {}).await.unwrap().get_ref().ready);
    assert!(!client.model_ready(ctr()).await.unwrap().get_ref().ready);

    let about = client.server_metadata(ServerMetadataRequest {}).await.unwrap().into_inner();
    assert_eq!((about.name.as_str(), about.version.as_str()), ("mprec", env!("CARGO_PKG_VERSION")));
    assert!(about.extensions.contains(&"schedule_policy".to_owned()));

    let request = ModelMetadataRequest { name: "ctr".into(), version: String::new() };
    let model = client.model_metadata(request).await.unwrap().into_inner();
    assert_eq!((model.name.as_str(), &model.versions[..]), ("ctr", &["7".to_owned()][..]));
    let tensors: Vec<_> = model.inputs.iter().chain(&model.outputs).collect();
    let tensors: Vec<_> = tensors
        .iter()
        .map(|tensor| (tensor.name.as_str(), tensor.datatype.as_str(), tensor.shape.as_slice()))
        .collect();
    assert_eq!(
        tensors,
        [("dense", "FP32", &[-1, 2][..]), ("sparse", "INT64", &[-1, 3]), ("scores", "FP32", &[-1]),]
    );
    assert_eq!(model.properties["max_samples"], "1000");
}

#[tokio::test]
async fn a_model_is_configured_and_its_work_counted_as_over_http() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let request = ModelConfigRequest { name: "ctr".into(), version: "7".into() };
    let config = client.model_config(request).await.unwrap().into_inner().config.unwrap();
    assert_eq!((config.name.as_str(), config.max_batch_size), ("ctr", 1000));
    let input = &config.input[1];
    assert_eq!(
        (input.name.as_str(), input.data_type(), &*input.dims),
        ("sparse", DataType::TypeInt64, &[3][..])
    );
    let Some(SchedulingChoice::DynamicBatching(batching)) = config.scheduling_choice else {
        panic!("requests are batched");
    };
    let policy = batching.default_queue_policy.unwrap();
    assert_eq!(
        (policy.default_timeout_microseconds, policy.allow_timeout_override),
        (250_000, true)
    );

    server.infer(super::request()).await.unwrap();
    for name in ["", "ctr"] {
        let request = ModelStatisticsRequest { name: name.into(), version: String::new() };
        let rows = client.model_statistics(request).await.unwrap().into_inner().model_stats;
        let names: Vec<_> = rows.iter().map(|row| row.name.as_str()).collect();
        assert_eq!(names, ["ctr", "ctr:table@cpu"]);
        let stats = rows[0].inference_stats.as_ref().unwrap();
        assert_eq!(stats.success, Some(StatisticDuration { count: 1, ns: 3_000_000 }));
        assert_eq!(stats.cache_hit, Some(StatisticDuration::default()));
    }
    let other = ModelStatisticsRequest { name: "other".into(), version: String::new() };
    expect_error(client.model_statistics(other).await, Code::NotFound, "unknown_model");
    let other = ModelConfigRequest { name: "ctr".into(), version: "8".into() };
    expect_error(client.model_config(other).await, Code::NotFound, "unknown_version");
}
