//! Real Criteo rows, where they lie beside the repository. Their terms keep them out of it.

use std::path::PathBuf;

use mprec_datasets::{Dataset, Layout, PrepareOptions, Split, prepare};

fn data(file: &str) -> Option<PathBuf> {
    let path =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/criteo").join(file);
    if path.exists() {
        return Some(path);
    }
    eprintln!("skipped: `{file}` is not there; see the README on Criteo's data");
    None
}

#[test]
fn kaggle_rows_are_prepared_without_a_malformed_line() {
    let Some(file) = data("kaggle_head_public.tsv.xz") else { return };
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let options = PrepareOptions::new(vec![file], out.clone(), Layout::criteo_kaggle());
    let report = prepare(&options, |_| ()).unwrap();
    assert_eq!((report.manifest.rows, report.manifest.malformed_lines), (8_000, 0));
    let dataset = Dataset::open(&out).unwrap();
    dataset.verify().unwrap();
    // Click rate 0.216.
    assert_eq!(dataset.positives(Split::All), 1_728);

    // The day after has no labels; it is prepared as the first rows were.
    let Some(later) = data("kaggle_day8_unlabelled_public.tsv.xz") else { return };
    let more = folder.path().join("more");
    let options = PrepareOptions::same_as(vec![later], more.clone(), out);
    let report = prepare(&options, |_| ()).unwrap();
    assert_eq!((report.manifest.rows, report.manifest.malformed_lines), (13_379, 0));
    assert!(!Dataset::open(&more).unwrap().is_labelled());
}

#[test]
fn terabyte_rows_are_prepared_without_a_malformed_line() {
    let Some(file) = data("terabyte_day0_head_public.tsv.xz") else { return };
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let options = PrepareOptions::new(vec![file], out.clone(), Layout::criteo_terabyte());
    let report = prepare(&options, |_| ()).unwrap();
    assert_eq!((report.manifest.rows, report.manifest.malformed_lines), (8_000, 0));
    assert_eq!(Dataset::open(&out).unwrap().positives(Split::All), 210);
}
