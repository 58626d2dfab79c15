//! The position of the largest element of a row.
//!
//! The definition compares one by one, each with what the last comparison left. Here the largest value is found in lanes,
//! and then where it stands first.

const LANES: usize = 16;

/// As [`largest`](mprec_representations::op::largest).
pub(super) fn largest(values: &[f32]) -> usize {
    let (wide, rest) = values.as_chunks::<LANES>();
    // False for NaN on either side that is not yet held, as in the definition.
    let larger = |most: f32, value: f32| if value > most { value } else { most };
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for chunk in wide {
        for (most, &value) in lanes.iter_mut().zip(chunk) {
            *most = larger(*most, value);
        }
    }
    let most = lanes.iter().chain(rest).copied().fold(f32::NEG_INFINITY, larger);
    if most == f32::NEG_INFINITY {
        return 0;
    }
    let holds =
        |chunk: &[f32; LANES]| chunk.iter().fold(false, |any, &value| any | (value == most));
    let start = wide.iter().position(holds).unwrap_or(wide.len()) * LANES;
    let found = values[start..].iter().position(|&value| value == most);
    start + found.expect("the largest is one of the values")
}

#[cfg(test)]
mod tests {
    use mprec_representations::op;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_the_definitions(
            values in prop::collection::vec(
                prop_oneof![
                    8 => (-4..4_i8).prop_map(f32::from),
                    8 => any::<f32>(),
                    1 => prop::sample::select(vec![f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0]),
                ],
                1..70,
            )
        ) {
            prop_assert_eq!(largest(&values), op::largest(&values));
        }

        #[test]
        fn nor_do_values_that_nothing_exceeds_differ(
            values in prop::collection::vec(
                prop::sample::select(vec![f32::NAN, f32::NEG_INFINITY]),
                1..40,
            )
        ) {
            prop_assert_eq!(largest(&values), op::largest(&values));
        }
    }
}
