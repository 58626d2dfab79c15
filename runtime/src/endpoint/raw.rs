//! Raw values in place of features: the bundle's own preprocessing makes a batch of them.

use mprec_datasets::{RawDense, RawError};
use mprec_representations::{Batch, BatchError};

use super::{
    error::ApiError,
    inputs::{RAW_DENSE, RAW_SPARSE, samples_of},
    tensor::{Tensor, bad_input},
};
use crate::service::Model;

/// Compares raw inputs with the model and makes the batch. Tokens that the bundle does not know count as unknown ids.
pub(super) fn batch(
    model: &Model,
    dense: Tensor<'_>,
    sparse: Tensor<'_>,
) -> Result<Batch, ApiError> {
    let Some(preprocessor) = &model.preprocessor else {
        return Err(ApiError::RawUnsupported { name: model.name.clone() });
    };
    let samples = samples_of(&dense, model.shape.dense_width(), model)?;
    sparse.expect_shape(&[samples, model.shape.features()])?;
    let sparse = sparse.texts("BYTES")?;
    let batch = if dense.is_of("INT64") {
        preprocessor.encode_values(RawDense::Integers(&dense.integers()?), &sparse)
    } else {
        let dense = dense.texts("BYTES or INT64")?;
        preprocessor.encode_values(RawDense::Texts(&dense), &sparse)
    };
    batch.map_err(|error| refusal(error, model))
}

fn refusal(error: RawError, model: &Model) -> ApiError {
    match error {
        // The client sent a text, and knows nothing of ids.
        RawError::Batch(BatchError::OutOfVocabulary { feature, sample, .. }) => {
            let feature = model.schema.sparse()[feature].name.clone();
            ApiError::NotListed { feature, sample }
        }
        RawError::Batch(error) => error.into(),
        RawError::Value { is_dense: true, .. } => wrong(RAW_DENSE, &error),
        error => wrong(RAW_SPARSE, &error),
    }
}

fn wrong(name: &str, error: &RawError) -> ApiError {
    bad_input(name, &format!("cannot be taken: {error}"))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, LazyLock};

    use proptest::prelude::*;

    use super::*;
    use crate::endpoint::{ErrorCode, Inputs, Numbers, Texts, expect_bytes, fake::Fake};

    static MODEL: LazyLock<Arc<Model>> = LazyLock::new(|| Arc::clone(&Fake::raw().model));

    /// Elements behind lengths of which some are wrong.
    fn framed() -> impl Strategy<Value = Vec<u8>> {
        let element = (prop::option::weighted(0.1, any::<u32>()), "[0-9a-f,\n]{0,9}");
        prop::collection::vec(element, 0..8).prop_map(|elements| {
            let frame = |(length, text): (Option<u32>, String)| {
                let length = length.unwrap_or(text.len() as u32).to_le_bytes();
                [&length, text.as_bytes()].concat()
            };
            elements.into_iter().flat_map(frame).collect()
        })
    }

    proptest! {
        #[test]
        fn no_tensors_make_it_panic(
            dense in framed(),
            sparse in framed(),
            shapes in prop::collection::vec(prop::collection::vec(0_usize..4, 0..3), 2),
            fits in any::<bool>(),
            datatype in prop_oneof![Just("BYTES"), Just("INT64"), Just("FP32"), Just("x")],
            as_numbers in any::<bool>(),
        ) {
            let (first, second) =
                if fits { (vec![1, 2], vec![1, 3]) } else { (shapes[0].clone(), shapes[1].clone()) };
            let mut inputs = Inputs::default();
            let added = inputs.add(RAW_DENSE, |name| {
                if as_numbers {
                    let numbers = Numbers::Integers(vec![-1; first.iter().product()]);
                    return Tensor::of_numbers(name, datatype.into(), first, numbers);
                }
                expect_bytes(name, datatype, &first, dense.len())?;
                Tensor::of_bytes(name, datatype.into(), first, &dense)
            });
            let added = added.and_then(|()| inputs.add(RAW_SPARSE, |name| {
                Tensor::of_bytes(name, "BYTES".into(), second, &sparse)
            }));
            if added.is_ok() && let Ok(batch) = inputs.batch(&MODEL, &Default::default()) {
                prop_assert_eq!((batch.samples(), batch.features()), (1, 3));
            }
        }
    }

    #[test]
    fn a_value_that_is_not_listed_is_named_without_its_id() {
        let outside =
            BatchError::OutOfVocabulary { feature: 1, sample: 4, id: 57, cardinality: 57 };
        let error = refusal(outside.into(), &MODEL);
        assert_eq!(error.code(), ErrorCode::IdOutOfRange);
        let message = "value of feature `s1` of sample 4 is not in the model's vocabulary";
        assert_eq!(error.to_string(), message);
    }

    #[test]
    fn texts_in_every_form_are_the_same() {
        let tensor =
            |texts, count| Tensor::of_texts(RAW_SPARSE, "BYTES".into(), vec![1, 3], texts, count);
        let framed = b"\x01\0\0\0a\0\0\0\0\x02\0\0\0bc";
        let forms = [
            Tensor::of_bytes(RAW_SPARSE, "BYTES".into(), vec![1, 3], framed).unwrap(),
            tensor(Texts::Joined(b"abc".to_vec(), vec![1, 1, 3]), 3).unwrap(),
            tensor(Texts::Separate(vec!["a".into(), "".into(), "bc".into()]), 3).unwrap(),
        ];
        for form in forms {
            assert_eq!(form.texts("BYTES").unwrap(), [&b"a"[..], b"", b"bc"]);
        }
        assert!(tensor(Texts::Separate(vec!["a".into()]), 1).is_err());
    }
}
