//! The Open Bandit sample in the repository: real rows of another schema.

use std::{collections::HashMap, path::PathBuf};

use mprec_datasets::{
    AccessStatistics, Dataset, Layout, LayoutError, PrepareError, PrepareOptions, Preprocessor,
    Recipe, Split, prepare,
};

pub(crate) fn sample(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/data/open_bandit").join(file)
}

pub(crate) fn options(output: PathBuf) -> PrepareOptions {
    let layout = Layout::preset("open-bandit").unwrap();
    let mut options = PrepareOptions::new(vec![sample("impressions.csv.xz")], output, layout);
    let Recipe::New { tables, .. } = &mut options.recipe else { unreachable!() };
    tables.insert("item_context".into(), sample("item_context.csv"));
    options
}

#[test]
fn another_schema_is_prepared_alike() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let report = prepare(&options(out.clone()), |_| ()).unwrap();
    assert_eq!((report.manifest.rows, report.manifest.malformed_lines), (60_000, 0));
    assert_eq!(report.manifest.name, "impressions");

    let dataset = Dataset::open(&out).unwrap();
    dataset.verify().unwrap();
    assert_eq!(dataset.schema().dense(), ["item_feature_0", "time_of_day"]);
    let cardinalities: HashMap<_, _> = dataset
        .schema()
        .sparse()
        .iter()
        .map(|feature| (feature.name.as_str(), feature.cardinality))
        .collect();
    // 80 + 34 + 46 items, 3 positions, 24 hours, and a row for unknown values in each.
    assert_eq!(cardinalities["item_id"], 161);
    assert_eq!((cardinalities["position"], cardinalities["hour"]), (4, 25));
    assert_eq!(dataset.positives(Split::All), 287);

    // An item's features are the same wherever it is shown.
    let batch = dataset.batch(dataset.rows(Split::All)).unwrap().batch;
    let mut seen = HashMap::new();
    for row in 0..batch.samples() {
        let features = (
            batch.dense()[2 * row].to_bits(),
            [6, 7, 8].map(|feature| batch.bags(feature).ids()[row]),
        );
        let item = batch.bags(0).ids()[row];
        assert_eq!(*seen.entry(item).or_insert(features), features, "item {item}");
    }
    assert_eq!(seen.len(), 160);
    let times = batch.dense().iter().skip(1).step_by(2);
    assert!(times.clone().all(|time| (0.0..1.0).contains(time)));

    let access = AccessStatistics::count(&dataset, dataset.rows(Split::Train), &[128]).unwrap();
    let item = &access.features[0];
    assert_eq!((item.distinct, item.counts.len()), (160, 160));
    assert!(item.batches[0].mean_distinct > 30.0 && item.batches[0].most_distinct <= 128);
    // Ids are in order of frequency in the training rows.
    assert!(item.counts.iter().zip(1..).all(|((id, _), place)| *id == place));
}

#[test]
fn a_raw_row_is_encoded_with_its_item() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let mut few = options(out.clone());
    few.max_rows = Some(5_000);
    prepare(&few, |_| ()).unwrap();
    let preprocessor = Preprocessor::open(&out).unwrap();
    let header =
        "item_id,position,user_feature_0,user_feature_1,user_feature_2,user_feature_3,timestamp";
    let row = |item: &str| {
        let text = format!("{header}\n{item},1,,,,x,2019-11-25 12:30:00\n");
        preprocessor.encode(text.as_bytes()).unwrap()
    };
    let known = row("men-7");
    assert!(known.labels.is_empty());
    assert!(known.batch.bags(0).ids()[0] > 0 && known.batch.bags(6).ids()[0] > 0);
    assert!((known.batch.dense()[1] - 12.5 / 24.0).abs() < 1e-6);
    // Neither the item nor, without it, its features are known.
    let unknown = row("men-77");
    assert_eq!([0, 6, 7, 8].map(|feature| unknown.batch.bags(feature).ids()[0]), [0; 4]);
    assert_eq!(unknown.batch.dense()[0], 0.0);
}

#[test]
fn what_is_missing_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut without = options(folder.path().join("a"));
    let Recipe::New { tables, .. } = &mut without.recipe else { unreachable!() };
    tables.clear();
    let error = prepare(&without, |_| ()).unwrap_err();
    let PrepareError::File { source: LayoutError::TableNotGiven { table, .. }, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!(table, "item_context");

    let mut other = options(folder.path().join("b"));
    other.inputs = vec![sample("item_context.csv")];
    let error = prepare(&other, |_| ()).unwrap_err();
    assert!(matches!(error, PrepareError::File { .. }), "{error}");
    assert!(error.to_string().contains("item_context.csv"), "{error}");
}
