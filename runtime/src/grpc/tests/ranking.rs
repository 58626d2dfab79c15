//! One user and many candidates, and the best of them, over gRPC.

use hyper::body::Bytes;

use super::*;
use crate::grpc::protocol::inference::model_infer_request::InferRequestedOutputTensor;

fn input(name: &str, datatype: &str, shape: &[i64]) -> InferInputTensor {
    InferInputTensor {
        name: name.into(),
        datatype: datatype.into(),
        shape: shape.to_vec(),
        ..Default::default()
    }
}

fn parameters(pairs: &[(&str, ParameterChoice)]) -> BTreeMap<String, InferParameter> {
    with(pairs).parameters
}

fn bytes<const N: usize>(values: impl IntoIterator<Item = [u8; N]>) -> Bytes {
    values.into_iter().flatten().collect::<Vec<u8>>().into()
}

/// Three candidates of one user, whose features are `s0` and `s2`: plain, and with what is the user's once.
fn plain_and_once() -> [ModelInferRequest; 2] {
    let ids = [7_i64, 11, 29, 7, 3, 29, 7, 19, 29];
    let plain = ModelInferRequest {
        inputs: vec![input("dense", "FP32", &[3, 2]), input("sparse", "INT64", &[3, 3])],
        raw_input_contents: vec![
            bytes([1.0_f32, 2.0].repeat(3).into_iter().map(f32::to_le_bytes)),
            bytes(ids.map(i64::to_le_bytes)),
        ],
        ..shapes()
    };
    let once = ModelInferRequest {
        inputs: vec![
            input("dense", "FP32", &[1, 2]),
            input("user_sparse", "INT64", &[1, 2]),
            input("sparse", "INT64", &[3, 1]),
        ],
        raw_input_contents: vec![
            bytes([1.0_f32, 2.0].map(f32::to_le_bytes)),
            bytes([29_i64, 7].map(i64::to_le_bytes)),
            bytes([11_i64, 3, 19].map(i64::to_le_bytes)),
        ],
        parameters: parameters(&[(
            "user_features",
            ParameterChoice::StringParam("s2,s0".to_owned()),
        )]),
        ..shapes()
    };
    [plain, once]
}

#[tokio::test]
async fn what_is_the_users_may_be_sent_once() {
    let server = Server::start().await;
    let [plain, once] = plain_and_once();
    let expected = scores(&server.infer(plain).await.unwrap());
    let batch = server.service.last().batch;
    assert_eq!(scores(&server.infer(once.clone()).await.unwrap()), expected);
    let grouped = server.service.last().batch;
    assert!(batch.per_group().is_none() && grouped.per_group().is_some());
    assert_eq!(*grouped.expanded(), *batch.expanded());

    let mut typed = once.clone();
    typed.raw_input_contents.clear();
    let integers = |values: &[i64]| InferTensorContents {
        int64_contents: values.to_vec(),
        ..Default::default()
    };
    typed.inputs[0].contents =
        Some(InferTensorContents { fp32_contents: vec![1.0, 2.0], ..Default::default() });
    typed.inputs[1].contents = Some(integers(&[29, 7]));
    typed.inputs[2].contents = Some(integers(&[11, 3, 19]));
    assert_eq!(scores(&server.infer(typed).await.unwrap()), expected);

    let unnamed = ModelInferRequest { parameters: BTreeMap::new(), ..once.clone() };
    expect_error(server.infer(unnamed).await, Code::InvalidArgument, "bad_input");
    let mut wrong = once;
    wrong.inputs[1].shape = vec![2, 1];
    expect_error(server.infer(wrong).await, Code::InvalidArgument, "wrong_shape");
}

#[tokio::test]
async fn the_best_come_with_their_indices() {
    let server = Server::start().await;
    server.service.behave(Behaviour::Say(vec![0.5, 0.75, 0.5]));
    let [plain, mut once] = plain_and_once();
    once.parameters.extend(parameters(&[("top_k", ParameterChoice::Int64Param(2))]));
    let response = server.infer(once.clone()).await.unwrap();
    let described: Vec<_> = response
        .outputs
        .iter()
        .map(|output| (output.name.as_str(), output.datatype.as_str(), &output.shape[..]))
        .collect();
    assert_eq!(described, [("scores", "FP32", &[2][..]), ("indices", "INT64", &[2])]);
    assert_eq!(response.raw_output_contents[0], bytes([0.75_f32, 0.5].map(f32::to_le_bytes)));
    assert_eq!(response.raw_output_contents[1], bytes([1_i64, 0].map(i64::to_le_bytes)));

    let indices = InferRequestedOutputTensor { name: "indices".into(), ..Default::default() };
    let named = ModelInferRequest { outputs: vec![indices.clone()], ..once };
    let response = server.infer(named).await.unwrap();
    assert_eq!((response.outputs.len(), response.raw_output_contents.len()), (1, 1));
    assert_eq!(response.outputs[0].name, "indices");
    let without = ModelInferRequest { outputs: vec![indices], ..plain };
    expect_error(server.infer(without).await, Code::InvalidArgument, "bad_output");
}
