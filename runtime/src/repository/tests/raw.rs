//! Preprocessing comes and goes with its version.

use std::{path::Path, sync::Arc};

use mprec_datasets::{
    Coding, Dataset, Layout, PrepareOptions, RawDense, Recipe, bundle_preprocessing,
    layout::{Column, DenseColumn, DenseKind, Fields, SparseColumn, SparseKind},
    prepare,
};
use mprec_representations::BundleWriter;

use super::fixture::*;
use crate::{endpoint::ControlError, repository::Repository, service::Service as _};

/// Prepared rows of the fixture's features: 49 items whose names begin with `word`.
fn prepared(folder: &Path, word: &str) {
    let layout = Layout::new(Fields {
        name: "two".into(),
        delimiter: ',',
        header: false,
        columns: Some(2),
        label: None,
        dense: vec![DenseColumn {
            name: "x".into(),
            column: Column::At(0),
            kind: DenseKind::LogInteger,
        }],
        sparse: vec![SparseColumn {
            name: "item".into(),
            column: Column::At(1),
            kind: SparseKind::Text,
        }],
        joins: Vec::new(),
    });
    let rows = folder.with_extension("rows");
    let lines: String = (0..49).map(|item| format!("{item},{word}{item}\n")).collect();
    std::fs::write(&rows, lines).unwrap();
    let mut options = PrepareOptions::new(vec![rows], folder.into(), layout.unwrap());
    let Recipe::New { coding, .. } = &mut options.recipe else { unreachable!() };
    *coding = Coding::Vocabulary { min_count: 1, max_tokens: None };
    options.train_fraction = 1.0;
    prepare(&options, |_| ()).unwrap();
}

/// Writes a version that was trained on these rows.
fn write_with(bundle: &Path, version: u64, data: &Path) {
    write(bundle, version);
    let dataset = Dataset::open(data).unwrap();
    let mut writer = BundleWriter::open(bundle).unwrap();
    writer.set_preprocessing(bundle_preprocessing(dataset.manifest()), data).unwrap();
    writer.finish().unwrap();
}

/// How many of these are unknown to the version that is served.
fn unknown(repository: &Repository, items: &[&[u8]]) -> usize {
    let model = repository.model("ctr").unwrap();
    let preprocessor = model.preprocessor.as_ref().unwrap();
    let dense = vec![1; items.len()];
    preprocessor.encode_values(RawDense::Integers(&dense), items).unwrap().unknown_ids()
}

#[test]
fn every_version_has_the_preprocessing_that_it_was_trained_with() {
    let setup = Setup::new();
    let data = tempfile::tempdir().unwrap();
    let (items, things) = (data.path().join("items"), data.path().join("things"));
    prepared(&items, "item");
    prepared(&things, "thing");
    write(&setup.folder(), 1);
    let repository = setup.start();
    assert!(repository.model("ctr").unwrap().preprocessor.is_none());

    let found = |version: u64, data: &Path| {
        write_with(&setup.folder(), version, data);
        load(&repository).unwrap();
        let model = repository.model("ctr").unwrap();
        assert_eq!(model.version, version.to_string());
        model.preprocessor.clone().unwrap()
    };
    let second = found(2, &items);
    assert_eq!(unknown(&repository, &[b"item3", b"thing3"]), 1);
    let third = found(3, &items);
    assert!(Arc::ptr_eq(&second, &third), "the same vocabulary is held once");
    let fourth = found(4, &things);
    assert_eq!(unknown(&repository, &[b"item3", b"item4", b"thing3"]), 2);
    // The file that this one maps is gone, and it still finds its tokens.
    let old = third.encode_values(RawDense::Integers(&[1]), &[b"item3"]).unwrap();
    assert_eq!(old.unknown_ids(), 0);
    assert!(!Arc::ptr_eq(&third, &fourth));
}

#[test]
fn a_damaged_vocabulary_is_found_before_it_is_served() {
    let mut setup = Setup::new();
    // Which would find it earlier.
    setup.options.verify = false;
    let data = tempfile::tempdir().unwrap();
    let items = data.path().join("items");
    prepared(&items, "item");
    write(&setup.folder(), 1);
    let repository = setup.start();
    write_with(&setup.folder(), 2, &items);
    let files = std::fs::read_dir(setup.folder()).unwrap().map(|entry| entry.unwrap().path());
    let mut files = files.filter(|path| path.extension().is_some_and(|ext| ext == "bin"));
    let file = files.next().unwrap();
    let good = std::fs::read(&file).unwrap();
    let mut bytes = good.clone();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    let error = load(&repository).unwrap_err();
    assert!(matches!(&error, ControlError::Load { .. }), "{error:?}");
    assert!(error.to_string().contains("preprocessing"), "{error}");
    assert_eq!(served(&repository), 1);
    std::fs::write(&file, &good).unwrap();
    load(&repository).unwrap();
    assert_eq!(served(&repository), 2);
    assert_eq!(unknown(&repository, &[b"item3", b""]), 1);
}
