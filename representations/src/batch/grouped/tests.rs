use proptest::prelude::*;

use super::*;
use crate::{
    batch::Jagged,
    schema::{OutOfVocabulary, Schema, SparseFeature},
};

const CARDINALITIES: [u64; 3] = [10, 3, 7];

fn shape(rule: OutOfVocabulary) -> BatchShape {
    let feature = |(at, &cardinality)| SparseFeature { name: format!("s{at}"), cardinality };
    let sparse = CARDINALITIES.iter().enumerate().map(feature).collect();
    BatchShape::new(&Schema::new(vec!["x".into(), "y".into()], sparse, rule).unwrap())
}

fn sharing(sparse: [bool; 3], dense: bool) -> Arc<Sharing> {
    Arc::new(Sharing::new(&sparse, dense))
}

#[derive(Debug, Clone, Copy)]
enum Form {
    OneHot,
    Jagged,
    Weighted,
}

/// Groups of these lengths, and the plain batch that they were taken from.
fn grouped() -> impl Strategy<Value = (GroupedBatch, Batch, Vec<u32>)> {
    let form = prop_oneof![Just(Form::OneHot), Just(Form::Jagged), Just(Form::Weighted)];
    let lengths = prop::collection::vec(1_u32..5, 0..4);
    (lengths, form, any::<([bool; 3], bool)>()).prop_flat_map(|(lengths, form, shared)| {
        let samples: u32 = lengths.iter().sum();
        let sizes = if matches!(form, Form::OneHot) { 1..2 } else { 0..4_usize };
        let bag = prop::collection::vec((0_i64..3, -2.0_f32..2.0), sizes);
        prop::collection::vec(bag, 3 * samples as usize).prop_map(move |bags| {
            let weights = || bags.iter().flatten().map(|&(_, weight)| weight).collect();
            let jagged = Jagged {
                ids: bags.iter().flatten().map(|&(id, _)| id).collect(),
                lengths: bags.iter().map(|bag| bag.len() as u32).collect(),
                weights: matches!(form, Form::Weighted).then(weights),
            };
            let dense = (0..2 * samples).map(|at| at as f32).collect();
            let batch = shape(OutOfVocabulary::Zero).from_jagged(dense, &jagged).unwrap();
            let (sparse, dense) = shared;
            let grouped = GroupedBatch::of(&batch, sharing(sparse, dense), &lengths).unwrap();
            (grouped, batch, lengths.clone())
        })
    })
}

fn bag(batch: &Batch, feature: usize, sample: usize) -> (Vec<u64>, Option<Vec<f32>>) {
    let bags = batch.bags(feature);
    let range = bags.range(sample);
    (bags.ids()[range.clone()].to_vec(), bags.weights().map(|weights| weights[range].to_vec()))
}

proptest! {
    #[test]
    fn the_plain_form_has_what_a_group_shares_in_all_its_samples((grouped, batch, lengths) in grouped()) {
        let plain = grouped.expanded();
        prop_assert_eq!(plain.samples(), batch.samples());
        let of = grouped.per_group().unwrap();
        let mut first = 0;
        for (group, &length) in lengths.iter().enumerate() {
            prop_assert_eq!(of.samples(group), first..first + length as usize);
            for sample in of.samples(group) {
                prop_assert_eq!(of.groups(sample..sample + 1), group..group + 1);
                for feature in 0..3 {
                    let from = if of.sharing().sparse(feature) { first } else { sample };
                    prop_assert_eq!(bag(&plain, feature, sample), bag(&batch, feature, from));
                }
                let from = if of.sharing().dense() { first } else { sample };
                prop_assert_eq!(&plain.dense()[2 * sample..][..2], &batch.dense()[2 * from..][..2]);
            }
            first += length as usize;
        }
        let again = GroupedBatch::of(&plain, Arc::clone(&of.sharing), &lengths).unwrap();
        prop_assert_eq!(&again, &grouped);
        prop_assert_eq!(grouped.expanded_ids(), plain.ids().len());
        prop_assert!(shape(OutOfVocabulary::Zero).check_grouped(&grouped).is_ok());
    }

    #[test]
    fn slices_are_those_of_the_plain_form_and_merge_back((grouped, ..) in grouped(), cut in 0_usize..16) {
        let plain = grouped.expanded();
        let cut = cut.min(grouped.samples());
        let parts = [grouped.slice(0..cut), grouped.slice(cut..grouped.samples())];
        prop_assert_eq!(&*parts[0].expanded(), &plain.slice(0..cut));
        prop_assert_eq!(&*parts[1].expanded(), &plain.slice(cut..grouped.samples()));
        let mut merged = GroupedBatch::from(shape(OutOfVocabulary::Zero).empty());
        // Twice: what it held before must not show.
        for _ in 0..2 {
            merged.merge(parts.iter());
            prop_assert_eq!(&*merged.expanded(), &*plain);
            prop_assert!(merged.per_group().is_some());
            prop_assert!(merged.per_group().unwrap().groups(0..0).is_empty());
        }
    }

    #[test]
    fn batches_of_any_sharing_merge_as_their_plain_forms((a, ..) in grouped(), (b, ..) in grouped()) {
        let plain = GroupedBatch::from(b.expanded().into_owned());
        let empty = || shape(OutOfVocabulary::Zero).empty();
        let mut merged = GroupedBatch::from(empty());
        for parts in [vec![&a, &b], vec![&a, &plain], vec![&plain, &plain], vec![&b], vec![]] {
            merged.merge(parts.iter().copied());
            let expanded: Vec<_> = parts.iter().map(|part| part.expanded()).collect();
            let mut expected = empty();
            expected.merge(expanded.iter().map(AsRef::as_ref));
            prop_assert_eq!(&*merged.expanded(), &expected);
            prop_assert!(parts.is_empty() || shape(OutOfVocabulary::Zero).check_grouped(&merged).is_ok());
        }
    }
}

#[test]
fn rows_are_read_per_group_and_per_sample() {
    let shape = shape(OutOfVocabulary::Zero);
    let sharing = sharing([false, true, true], true);
    let dense = vec![1.0, 2.0, 3.0, 4.0];
    let shared = [2, 6, 1, 99];
    let grouped =
        GroupedBatch::from_rows(&shape, sharing, &[2, 1], dense, &shared, &[7, 8, 9]).unwrap();
    assert_eq!(grouped.unknown_ids(), 1);
    // No samples are of no group, wherever they are not.
    for at in 0..=3 {
        let none = grouped.slice(at..at);
        let of = none.per_group().unwrap();
        assert_eq!((none.samples(), of.len(), none.unknown_ids()), (0, 0, 0), "{at}");
        assert_eq!(grouped.per_group().unwrap().groups(at..at).len(), 0);
        assert!(none.expanded().ids().is_empty());
    }
    let plain = grouped.expanded();
    assert_eq!(plain.dense(), [1.0, 2.0, 1.0, 2.0, 3.0, 4.0]);
    assert_eq!(plain.ids(), [7, 8, 9, 2, 2, 1, 6, 6, 0]);
    assert!(plain.is_one_hot());
}

#[test]
fn what_is_wrong_is_named_as_the_schema_has_it() {
    let shape = shape(OutOfVocabulary::Refuse);
    let sharing = sharing([false, true, true], false);
    let make = |lengths: &[u32], dense: usize, shared: &[i64], ids: &[i64]| {
        let dense = vec![0.5; dense];
        GroupedBatch::from_rows(&shape, Arc::clone(&sharing), lengths, dense, shared, ids)
    };
    assert!(make(&[2], 4, &[2, 6], &[7, 8]).is_ok());
    let outside = make(&[2], 4, &[2, 7], &[7, 8]).unwrap_err();
    let expected = BatchError::OutOfVocabulary { feature: 2, sample: 0, id: 7, cardinality: 7 };
    assert_eq!(outside, expected);
    let outside = make(&[2], 4, &[2, 6], &[7, -1]).unwrap_err();
    assert!(matches!(outside, BatchError::OutOfVocabulary { feature: 0, sample: 1, .. }));
    assert!(matches!(make(&[2], 3, &[2, 6], &[7, 8]), Err(BatchError::Dense { .. })));
    assert!(matches!(make(&[2], 4, &[2], &[7, 8]), Err(BatchError::Ids { .. })));
    assert!(matches!(make(&[2], 4, &[2, 6], &[7]), Err(BatchError::Ids { .. })));
    assert_eq!(make(&[1, 0, 1], 4, &[2; 6], &[7, 8]), Err(BatchError::Group { group: 1 }));
    let batch = shape.from_rows(vec![0.0; 4], &[1; 6]).unwrap();
    let wrong = GroupedBatch::of(&batch, sharing, &[1]);
    assert_eq!(wrong, Err(BatchError::Groups { got: 1, samples: 2 }));
    let other = GroupedBatch::from(
        BatchShape::new(
            &Schema::new(
                vec!["x".into()],
                vec![SparseFeature { name: "a".into(), cardinality: 10 }],
                OutOfVocabulary::Zero,
            )
            .unwrap(),
        )
        .empty(),
    );
    assert!(shape.check_grouped(&other).is_err());
}

#[test]
fn a_plain_form_beyond_the_limit_is_refused() {
    let shape = shape(OutOfVocabulary::Zero);
    let mut jagged = Jagged { ids: vec![0; 1 << 16], lengths: vec![1 << 16], weights: None };
    jagged.ids.extend([0; 2]);
    jagged.lengths.extend([1; 2]);
    let one = shape.from_jagged(vec![0.0; 2], &jagged).unwrap();
    let mut many = shape.empty();
    // The samples are cheap: what they share is long.
    let cheap = shape.from_rows(vec![0.0; 2 * 5000], &vec![0; 3 * 5000]).unwrap();
    many.merge([&one, &cheap].into_iter());
    let shared = sharing([true, false, false], false);
    let refused = GroupedBatch::of(&many, shared, &[5001]);
    assert!(matches!(refused, Err(BatchError::TooLarge { .. })), "{refused:?}");
}
