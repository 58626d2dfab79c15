//! The Criteo click logs: tab-separated, no header, an optional label, 13 integers, 26 categories.

use super::{Column, DenseColumn, DenseKind, Fields, Layout, SparseColumn, SparseKind};

const DENSE: usize = 13;
const SPARSE: usize = 26;

impl Layout {
    /// Criteo Kaggle Display Advertising: `train.txt` (40 columns), `test.txt` (39, no label).
    pub fn criteo_kaggle() -> Self {
        criteo("criteo-kaggle", None)
    }

    /// Criteo Terabyte: `day_0` to `day_23`. Categories are taken modulo 10,000,000 before
    /// anything else, as the models of this data set usually are trained (`max-ind-range`).
    pub fn criteo_terabyte() -> Self {
        criteo("criteo-terabyte", Some(10_000_000))
    }
}

fn criteo(name: &str, modulo: Option<u32>) -> Layout {
    let dense = (1..=DENSE).map(|number| DenseColumn {
        name: format!("I{number}"),
        column: Column::At(number),
        kind: DenseKind::LogInteger,
    });
    let sparse = (1..=SPARSE).map(|number| SparseColumn {
        name: format!("C{number}"),
        column: Column::At(DENSE + number),
        kind: SparseKind::Hex { modulo },
    });
    Layout::new(Fields {
        name: name.into(),
        delimiter: '\t',
        header: false,
        columns: Some(1 + DENSE + SPARSE),
        label: Some(Column::At(0)),
        dense: dense.collect(),
        sparse: sparse.collect(),
        joins: Vec::new(),
    })
    .expect("every column is among the 40 that the layout states")
}
