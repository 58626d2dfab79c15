//! The Open Bandit Dataset: comma-separated with a header, and a table of item features.

use super::{Column, DenseColumn, DenseKind, Fields, Join, Layout, SparseColumn, SparseKind};

const ITEMS: &str = "item_context";

impl Layout {
    /// Open Bandit Dataset (ZOZOTOWN): impressions with a time, a shown item and its position, a
    /// click, and four user features; four item features are joined from the table
    /// `item_context`. `propensity_score` belongs to the logging policy and is not a feature.
    pub fn open_bandit() -> Self {
        let named = |name: &str| Column::Named(name.into());
        let joined = |name: &str| Column::Joined { table: ITEMS.into(), column: name.into() };
        let text =
            |name: &str, column| SparseColumn { name: name.into(), column, kind: SparseKind::Text };
        let mut sparse = vec![text("item_id", named("item_id"))];
        sparse.push(text("position", named("position")));
        for name in ["user_feature_0", "user_feature_1", "user_feature_2", "user_feature_3"] {
            sparse.push(text(name, named(name)));
        }
        for name in ["item_feature_1", "item_feature_2", "item_feature_3"] {
            sparse.push(text(name, joined(name)));
        }
        sparse.push(SparseColumn {
            name: "hour".into(),
            column: named("timestamp"),
            kind: SparseKind::Hour,
        });
        let dense = [
            ("item_feature_0", joined("item_feature_0"), DenseKind::Number),
            ("time_of_day", named("timestamp"), DenseKind::DayFraction),
        ];
        let dense =
            dense.map(|(name, column, kind)| DenseColumn { name: name.into(), column, kind });
        Self::new(Fields {
            name: "open-bandit".into(),
            delimiter: ',',
            header: true,
            columns: None,
            label: Some(named("click")),
            dense: dense.into(),
            sparse,
            joins: vec![Join { table: ITEMS.into(), on: named("item_id"), key: "item_id".into() }],
        })
        .expect("columns are named, and the one joined table is declared")
    }
}
