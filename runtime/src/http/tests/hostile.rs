//! No bytes make the parser panic, and none make it answer with a server's error.

use proptest::prelude::*;

use super::*;
use crate::http::request::parse;

/// Parses, and asserts that what comes out is a whole batch or a client's error.
fn check(model: &Model, body: &[u8], json_bytes: Option<usize>) -> bool {
    match parse(model, body, json_bytes) {
        Ok(parsed) => {
            let batch = parsed.batch.expanded();
            assert!((1..=model.max_samples).contains(&batch.samples()));
            assert_eq!(batch.dense().len(), batch.samples() * 2);
            let scores = score(&batch);
            assert!(scores.iter().all(|score| !score.is_nan()));
            true
        }
        Err(error) => {
            assert!(error.code().status().is_client_error(), "{error}");
            let body = serde_json::to_vec(&error.body()).unwrap();
            assert!(body.len() < 4000);
            false
        }
    }
}

fn json_fragment() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (0_i64..40).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        prop_oneof![
            "dense",
            "sparse",
            "sparse_lengths",
            "sparse_weights",
            "user_sparse",
            "s1,s0",
            "FP32",
            "INT64",
            "INT32"
        ]
        .prop_map(Value::from),
        ".{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(
                prop_oneof!["name", "shape", "datatype", "data", "parameters", "binary_data_size"],
                inner,
                0..5
            )
            .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_bytes_are_survived(
        body in prop::collection::vec(any::<u8>(), 0..300),
        json_bytes in prop::option::of(0_usize..400),
    ) {
        check(&Fake::new(OutOfVocabulary::Zero).model, &body, json_bytes);
    }

    #[test]
    fn any_json_is_survived(inputs in prop::collection::vec(json_fragment(), 0..5)) {
        let body = json!({ "inputs": inputs }).to_string();
        check(&Fake::new(OutOfVocabulary::Zero).model, body.as_bytes(), None);
    }

    /// Replacing any one value of a good request leaves a good request or a client's error.
    #[test]
    fn a_replaced_value_is_survived(
        at in prop::sample::select(vec![
            "/inputs/0", "/inputs/0/name", "/inputs/0/shape", "/inputs/0/shape/0",
            "/inputs/0/shape/1", "/inputs/0/datatype", "/inputs/0/data", "/inputs/0/data/1",
            "/inputs/1/shape", "/inputs/1/shape/0", "/inputs/1/data", "/inputs/1/data/4",
            "/inputs/2", "/inputs/2/shape", "/inputs/2/data", "/inputs/2/data/0",
        ]),
        value in json_fragment(),
    ) {
        let mut body = request();
        body["inputs"][1]["shape"] = json!([6]);
        body["inputs"].as_array_mut().unwrap().push(json!({
            "name": "sparse_lengths", "shape": [2, 3], "datatype": "INT64",
            "data": [1, 1, 1, 1, 1, 1] }));
        *body.pointer_mut(at).unwrap() = value;
        check(&Fake::new(OutOfVocabulary::Modulo).model, body.to_string().as_bytes(), None);
    }

    /// The same of a request that sends what is the user's once.
    #[test]
    fn a_replaced_value_of_a_users_request_is_survived(
        at in prop::sample::select(vec![
            "/parameters", "/parameters/user_features", "/parameters/top_k", "/inputs/0/shape",
            "/inputs/0/shape/0", "/inputs/0/data", "/inputs/1", "/inputs/1/name", "/inputs/1/shape",
            "/inputs/1/shape/1", "/inputs/1/data", "/inputs/1/data/1", "/inputs/2/shape",
            "/inputs/2/shape/0", "/inputs/2/shape/1", "/inputs/2/data", "/outputs", "/outputs/0",
        ]),
        value in json_fragment(),
    ) {
        let mut body = json!({
            "parameters": { "user_features": "s2,s0", "top_k": 2 },
            "inputs": [
                { "name": "dense", "shape": [1, 2], "datatype": "FP32", "data": [1, 2] },
                { "name": "user_sparse", "shape": [1, 2], "datatype": "INT64", "data": [29, 7] },
                { "name": "sparse", "shape": [3, 1], "datatype": "INT64", "data": [11, 3, 19] },
            ],
            "outputs": [{ "name": "indices" }],
        });
        let model = &Fake::new(OutOfVocabulary::Modulo).model;
        prop_assert!(check(model, body.to_string().as_bytes(), None));
        *body.pointer_mut(at).unwrap() = value;
        check(model, body.to_string().as_bytes(), None);
    }

    /// Flipped, removed and added bytes of a good binary request.
    #[test]
    fn a_mutated_binary_request_is_survived(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3), 1..4),
        shift in -3_isize..4,
    ) {
        let (mut body, length) = binary_request(&json!({ "id": "x" }));
        for (at, byte, kind) in edits {
            let at = at.index(body.len());
            match kind {
                0 => body[at] ^= byte,
                1 => drop(body.remove(at)),
                _ => body.insert(at, byte),
            }
        }
        check(&Fake::new(OutOfVocabulary::Refuse).model, &body, length.checked_add_signed(shift));
    }
}

#[test]
fn a_binary_request_cut_anywhere_is_an_error() {
    let model = Fake::new(OutOfVocabulary::Zero).model;
    let (body, length) = binary_request(&json!({}));
    assert!(check(&model, &body, Some(length)));
    for cut in 0..body.len() {
        assert!(!check(&model, &body[..cut], Some(length)), "{cut}");
    }
}

/// The same over a socket: mutated requests get 200 or a 4xx, and the server goes on.
#[tokio::test]
async fn mutated_requests_get_answers_or_client_errors() {
    use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};

    let server = Server::with(OutOfVocabulary::Refuse, HttpConfig::default()).await;
    let mut random = SmallRng::seed_from_u64(7);
    let mut client = server.connect().await;
    let mut answered = 0;
    for _ in 0..2000 {
        let (mut body, length) = binary_request(&json!({ "parameters": { "sla_ms": 5000 } }));
        for _ in 0..random.random_range(0..3) {
            let at = random.random_range(0..body.len());
            body[at] ^= 1 << random.random_range(0..8);
        }
        let headers = format!("inference-header-content-length: {length}\r\n");
        let reply = client.ask("POST", "/v2/models/ctr/infer", &headers, &body).await;
        assert!(reply.status == 200 || (400..500).contains(&reply.status), "{reply:?}");
        answered += usize::from(reply.status == 200);
    }
    assert!((500..2000).contains(&answered), "{answered}");
    assert_eq!(client.ask("GET", "/v2/health/ready", "", b"").await.status, 200);
}
