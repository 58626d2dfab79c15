//! Raw values over gRPC: framed in `raw_input_contents`, or as typed contents.

use super::*;
use crate::endpoint::fake::{RAW, raw_lines};

async fn server() -> Server {
    Server::of(Fake::raw(), GrpcConfig::default(), |endpoint| endpoint).await
}

fn inputs(rows: usize) -> ModelInferRequest {
    let input = |name: &str, width: usize| InferInputTensor {
        name: name.into(),
        datatype: "BYTES".into(),
        shape: vec![rows as i64, width as i64],
        ..Default::default()
    };
    ModelInferRequest {
        model_name: "ctr".into(),
        inputs: vec![input("raw_dense", 2), input("raw_sparse", 3)],
        ..Default::default()
    }
}

/// The columns of some rows.
fn values(rows: &[[&str; 5]], columns: std::ops::Range<usize>) -> Vec<Vec<u8>> {
    let values = rows.iter().flat_map(|row| row[columns.clone()].to_vec());
    values.map(|value| value.as_bytes().to_vec()).collect()
}

fn framed(values: &[Vec<u8>]) -> Vec<u8> {
    let frame = |value: &Vec<u8>| [&(value.len() as u32).to_le_bytes(), &value[..]].concat();
    values.iter().flat_map(frame).collect()
}

fn raw(rows: &[[&str; 5]]) -> ModelInferRequest {
    let contents = [0..2, 2..5].map(|columns| framed(&values(rows, columns)).into());
    ModelInferRequest { raw_input_contents: contents.into(), ..inputs(rows.len()) }
}

fn typed(rows: &[[&str; 5]]) -> ModelInferRequest {
    let mut request = inputs(rows.len());
    for (input, columns) in request.inputs.iter_mut().zip([0..2, 2..5]) {
        let texts = values(rows, columns).into_iter().map(Into::into).collect();
        input.contents = Some(InferTensorContents { bytes_contents: texts, ..Default::default() });
    }
    request
}

#[tokio::test]
async fn raw_rows_score_as_offline_in_both_forms() {
    let server = server().await;
    let rows: Vec<[&str; 5]> =
        RAW.into_iter().chain([["9", "1e3", "0000000c", "hat", "red"]]).collect();
    let preprocessor = server.service.model.preprocessor.as_ref().unwrap();
    let expected = score(&preprocessor.encode(raw_lines(&rows).as_bytes()).unwrap().batch);
    for request in [raw(&rows), typed(&rows)] {
        assert_eq!(scores(&server.infer(request).await.unwrap()), expected);
        assert_eq!(server.service.last().batch.unknown_ids(), 2);
    }
    for (row, score) in rows.iter().zip(&expected) {
        for request in [raw(&[*row]), typed(&[*row])] {
            assert_eq!(scores(&server.infer(request).await.unwrap()), [*score], "{row:?}");
        }
    }
    assert_eq!(server.metric("mprec_unknown_ids_total"), 8.0);

    // Integers that are none of them missing.
    let row = [["3", "4", "0000000a", "shoe", "red"]];
    let expected = scores(&server.infer(raw(&row)).await.unwrap());
    let mut integers = raw(&row);
    integers.inputs[0].datatype = "INT64".into();
    integers.raw_input_contents[0] = [3_i64, 4].map(i64::to_le_bytes).concat().into();
    assert_eq!(scores(&server.infer(integers).await.unwrap()), expected);
}

#[tokio::test]
async fn as_many_rows_as_a_request_may_have_come_typed() {
    let server = server().await;
    let rows = [RAW[0]; 1000];
    let many = scores(&server.infer(typed(&rows)).await.unwrap());
    assert_eq!(many, scores(&server.infer(raw(&rows)).await.unwrap()));
    // More than any request needs would grow when they are decoded.
    let mut endless = inputs(1);
    let texts = vec![Default::default(); 1 << 19];
    endless.inputs[0].contents =
        Some(InferTensorContents { bytes_contents: texts, ..Default::default() });
    let error = server.infer(endless).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    assert!(error.message().contains("too many fields"), "{error}");
}

#[tokio::test]
async fn what_is_wrong_is_refused_by_name() {
    let server = server().await;
    let good = ["3", "0.5", "0000000a", "shoe", "red"];
    for (at, value, says) in [
        (0, "3.5", "`a`"),
        (1, "inf", "`b`"),
        (2, "0x0000a0", "`s0`"),
        (3, "a,b", "`s1`"),
        (4, "a\n", "`s2`"),
    ] {
        let mut wrong = good;
        wrong[at] = value;
        for request in [raw(&[good, wrong]), typed(&[good, wrong])] {
            let error = server.infer(request).await.unwrap_err();
            assert_eq!(error.code(), Code::InvalidArgument);
            assert!(error.message().contains(says), "{error}");
            assert!(error.message().contains("sample 1"), "{error}");
        }
    }
    let cut = |change: &dyn Fn(&mut ModelInferRequest), mut request: ModelInferRequest| {
        change(&mut request);
        request
    };
    let one = [good];
    for request in [
        cut(&|request| request.raw_input_contents[1] = vec![1, 0, 0].into(), raw(&one)),
        cut(&|request| request.raw_input_contents[1] = vec![0xff; 12].into(), raw(&one)),
        cut(&|request| request.raw_input_contents[1] = vec![0; 16].into(), raw(&one)),
        cut(&|request| request.inputs[1].shape = vec![1, 4], typed(&one)),
        cut(&|request| request.inputs[0].datatype = "FP32".into(), typed(&one)),
        cut(&|request| drop(request.inputs.pop()), typed(&one)),
        cut(
            &|request| {
                let contents = request.inputs[0].contents.as_mut().unwrap();
                contents.int64_contents.push(1);
            },
            typed(&one),
        ),
    ] {
        let error = server.infer(request).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{error}");
    }
    assert_eq!(server.service.count(), 0);
}

#[tokio::test]
async fn a_model_without_preprocessing_says_how_it_gets_one() {
    let server = Server::start().await;
    let error = server.infer(raw(&RAW)).await.unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition);
    assert!(error.message().contains("mprec data attach"), "{error}");
}
