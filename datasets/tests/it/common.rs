//! What the tests of prepared folders share.

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use mprec_datasets::{LabelledBatch, Layout, PrepareOptions, Synthetic, SyntheticOptions};

/// Lines in the Criteo layout, of small cardinalities.
pub(crate) fn lines(rows: u64, seed: u64) -> String {
    let mut options = SyntheticOptions::kaggle(rows, 1e5, seed, PathBuf::new());
    options.cardinalities[2] = 3_000;
    let mut text = Vec::new();
    Synthetic::new(&options).unwrap().write_lines(0..rows, &mut text).unwrap();
    String::from_utf8(text).unwrap()
}

/// Every third line with a missing value or two.
pub(crate) fn with_gaps(text: &str) -> String {
    let gap = |(at, line): (usize, &str)| {
        let mut values: Vec<_> = line.split('\t').collect();
        if at % 3 == 0 {
            values[14 + at % 26] = "";
            values[39] = "";
        }
        values.join("\t") + "\n"
    };
    text.lines().enumerate().map(gap).collect()
}

/// That two ways come to the same samples. How many ids were unknown is not known of stored ones.
pub(crate) fn assert_same(one: &LabelledBatch, other: &LabelledBatch) {
    assert_eq!(one.batch.dense(), other.batch.dense());
    assert_eq!(one.batch.ids(), other.batch.ids());
    assert_eq!(one.labels, other.labels);
}

pub(crate) fn write(folder: &Path, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, bytes).unwrap();
    path
}

pub(crate) fn criteo(inputs: &[&PathBuf], output: &Path) -> PrepareOptions {
    let inputs = inputs.iter().map(|path| path.to_path_buf()).collect();
    let mut options = PrepareOptions::new(inputs, output.into(), Layout::criteo_kaggle());
    options.name = Some("rows".into());
    // Small, so that there are several.
    options.shard_rows = 1000;
    options
}

/// Every file of a folder but its manifest.
pub(crate) fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        .filter(|(name, _)| name != "manifest.json")
        .collect()
}

pub(crate) fn gzip(text: &[u8]) -> Vec<u8> {
    let mut to = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    to.write_all(text).unwrap();
    to.finish().unwrap()
}

pub(crate) fn xz(text: &[u8]) -> Vec<u8> {
    let mut to = liblzma::write::XzEncoder::new(Vec::new(), 1);
    to.write_all(text).unwrap();
    to.finish().unwrap()
}

pub(crate) fn zstd(text: &[u8]) -> Vec<u8> {
    zstd::encode_all(text, 1).unwrap()
}
