//! What a line of a click log holds: which column is the label, which are dense, which sparse.
//!
//! Nothing else in the crate knows a data set by name, so a new one is a new [`Layout`], in code
//! or as JSON. The ones that come with the crate are under [`PRESETS`].

mod criteo;
mod open_bandit;
mod resolve;
mod table;

use serde::{Deserialize, Serialize};

pub(crate) use self::resolve::LineFields;
pub use self::table::{MAX_TABLE_BYTES, MAX_TABLE_COLUMNS, Table};
use crate::error::LayoutError;

/// Most columns that a line may have.
pub const MAX_COLUMNS: usize = 1 << 14;

/// Most tables that a layout may join.
pub const MAX_JOINS: usize = 64;

/// Names that [`Layout::preset`] knows.
pub const PRESETS: [&str; 3] = ["criteo-kaggle", "criteo-terabyte", "open-bandit"];

/// A valid description of the lines of a data set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Fields", into = "Fields")]
pub struct Layout(Fields);

/// The parts of a [`Layout`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fields {
    /// What the layout is called.
    pub name: String,
    /// The byte between columns. Quoting is not supported: with a comma as delimiter, a line that
    /// holds a double quote is malformed.
    pub delimiter: char,
    /// Whether every file begins with a line that names the columns.
    pub header: bool,
    /// Columns of every line. Needed without a header; with one, the header says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub columns: Option<usize>,
    /// The column that holds `0` or `1`. If a file lacks it (in a headerless file: has one column
    /// less), the rows are unlabelled; files of one data set must agree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<Column>,
    /// The dense features, in order.
    pub dense: Vec<DenseColumn>,
    /// The sparse features, in order.
    pub sparse: Vec<SparseColumn>,
    /// Tables whose columns are added to each line.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub joins: Vec<Join>,
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Column {
    /// The column at this place, from 0, label included.
    At(usize),
    /// The column of this name in the header.
    Named(String),
    /// A column of a joined table. Empty where the table has no such key.
    Joined {
        /// The table, as [`Join::table`] names it.
        table: String,
        /// The column's name in the table's header.
        column: String,
    },
}

/// One dense feature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DenseColumn {
    /// Its name in the schema.
    pub name: String,
    /// Where its value stands.
    pub column: Column,
    /// How text becomes a number.
    pub kind: DenseKind,
}

/// How a dense feature's text becomes a number. A missing value is 0 with every kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DenseKind {
    /// A 64-bit integer x becomes `ln(1 + max(x, 0))`.
    LogInteger,
    /// A finite decimal number, as it is.
    Number,
    /// A time `YYYY-MM-DD hh:mm:ss…` (or with a `T`) becomes the part of its day that has passed,
    /// in `[0, 1)`. The zone is not applied.
    DayFraction,
}

/// One sparse feature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SparseColumn {
    /// Its name in the schema.
    pub name: String,
    /// Where its value stands.
    pub column: Column,
    /// How text becomes a token.
    pub kind: SparseKind,
}

/// How a sparse feature's text becomes a [`Token`](crate::Token).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SparseKind {
    /// Exactly 8 hexadecimal digits.
    Hex {
        /// The value is taken modulo this before anything else.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        modulo: Option<u32>,
    },
    /// Any text.
    Text,
    /// The hour, 0 to 23, of a time as in [`DenseKind::DayFraction`].
    Hour,
}

/// A table that adds columns to each line: the row whose key equals the line's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Join {
    /// What the table is called when its file is given: letters, digits, `_` and `-`.
    pub table: String,
    /// The line's column that holds the key; not itself a joined one.
    pub on: Column,
    /// The table's key column.
    pub key: String,
}

impl Layout {
    /// The layout with these parts.
    ///
    /// # Errors
    ///
    /// [`LayoutError`] when a column is named that cannot be there, or the delimiter is none.
    pub fn new(fields: Fields) -> Result<Self, LayoutError> {
        if !fields.delimiter.is_ascii() || "\n\r\"".contains(fields.delimiter) {
            return Err(LayoutError::Delimiter { delimiter: fields.delimiter });
        }
        if !fields.header && !fields.columns.is_some_and(|count| (1..=MAX_COLUMNS).contains(&count))
        {
            return Err(LayoutError::Columns);
        }
        for (kind, empty) in
            [("dense", fields.dense.is_empty()), ("sparse", fields.sparse.is_empty())]
        {
            if empty {
                return Err(LayoutError::NoFeatures { kind });
            }
        }
        if fields.joins.len() > MAX_JOINS {
            return Err(LayoutError::TooManyJoins { joins: fields.joins.len() });
        }
        let line = |what: &str, column: &Column| match column {
            Column::At(at) if fields.columns.is_some_and(|count| *at >= count) => {
                Err(LayoutError::NoSuchColumn { feature: what.into(), column: at.to_string() })
            }
            Column::Named(name) if !fields.header => {
                Err(LayoutError::NoSuchColumn { feature: what.into(), column: name.clone() })
            }
            _ => Ok(()),
        };
        let dense = fields.dense.iter().map(|dense| (&dense.name, &dense.column));
        let sparse = fields.sparse.iter().map(|sparse| (&sparse.name, &sparse.column));
        for (name, column) in dense.chain(sparse) {
            line(name, column)?;
            if let Column::Joined { table, .. } = column
                && !fields.joins.iter().any(|join| join.table == *table)
            {
                return Err(LayoutError::NoSuchTable {
                    feature: name.clone(),
                    table: table.clone(),
                });
            }
        }
        for sparse in &fields.sparse {
            if let SparseKind::Hex { modulo: Some(0) } = sparse.kind {
                return Err(LayoutError::Modulo { feature: sparse.name.clone() });
            }
        }
        for (at, join) in fields.joins.iter().enumerate() {
            if fields.joins[..at].iter().any(|other| other.table == join.table) {
                return Err(LayoutError::TableTwice { table: join.table.clone() });
            }
            let word = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
            if join.table.is_empty() || join.table.len() > 64 || !join.table.bytes().all(word) {
                return Err(LayoutError::TableName { table: join.table.clone() });
            }
        }
        let keys = fields.joins.iter().map(|join| (join.table.as_str(), &join.on));
        for (what, column) in keys.chain(fields.label.as_ref().map(|label| ("label", label))) {
            line(what, column)?;
            if let Column::Joined { table, .. } = column {
                return Err(LayoutError::NoSuchTable {
                    feature: what.into(),
                    table: table.clone(),
                });
            }
        }
        Ok(Self(fields))
    }

    /// One of [`PRESETS`].
    ///
    /// # Errors
    ///
    /// [`LayoutError::Unknown`] for any other name.
    pub fn preset(name: &str) -> Result<Self, LayoutError> {
        match name {
            "criteo-kaggle" => Ok(Self::criteo_kaggle()),
            "criteo-terabyte" => Ok(Self::criteo_terabyte()),
            "open-bandit" => Ok(Self::open_bandit()),
            _ => Err(LayoutError::Unknown { name: name.into() }),
        }
    }

    /// The layout's parts.
    pub fn fields(&self) -> &Fields {
        &self.0
    }

    /// What the layout is called.
    pub fn name(&self) -> &str {
        &self.0.name
    }
}

impl TryFrom<Fields> for Layout {
    type Error = LayoutError;

    fn try_from(fields: Fields) -> Result<Self, LayoutError> {
        Self::new(fields)
    }
}

impl From<Layout> for Fields {
    fn from(layout: Layout) -> Self {
        layout.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_survive_json() {
        for name in PRESETS {
            let layout = Layout::preset(name).unwrap();
            assert_eq!(layout.name(), name);
            let json = serde_json::to_string(&layout).unwrap();
            assert_eq!(serde_json::from_str::<Layout>(&json).unwrap(), layout);
        }
        assert!(matches!(Layout::preset("x"), Err(LayoutError::Unknown { .. })));
    }

    #[test]
    fn columns_that_cannot_be_there_are_refused() {
        let change = |change: fn(&mut Fields)| {
            let mut fields = Layout::criteo_kaggle().0;
            change(&mut fields);
            Layout::new(fields)
        };
        assert!(change(|_| ()).is_ok());
        assert!(matches!(
            change(|fields| fields.sparse[0].column = Column::At(40)),
            Err(LayoutError::NoSuchColumn { .. })
        ));
        assert!(matches!(
            change(|fields| fields.label = Some(Column::Named("click".into()))),
            Err(LayoutError::NoSuchColumn { .. })
        ));
        let joined = || Column::Joined { table: "t".into(), column: "c".into() };
        assert!(matches!(
            change(|fields| fields.dense[0].column =
                Column::Joined { table: "t".into(), column: "c".into() }),
            Err(LayoutError::NoSuchTable { .. })
        ));
        let join = |table: String| Join { table, on: Column::At(1), key: "k".into() };
        let joins = |tables: usize| {
            let mut fields = Layout::criteo_kaggle().0;
            fields.joins = (0..tables).map(|at| join(format!("t{at}"))).collect();
            fields
        };
        assert!(Layout::new(joins(MAX_JOINS)).is_ok());
        let many = LayoutError::TooManyJoins { joins: 65 };
        assert_eq!(Layout::new(joins(MAX_JOINS + 1)), Err(many));
        let mut twice = joins(2);
        twice.joins.push(join("t0".into()));
        assert_eq!(Layout::new(twice), Err(LayoutError::TableTwice { table: "t0".into() }));
        let mut fields = Layout::criteo_kaggle().0;
        fields.label = Some(joined());
        assert!(matches!(Layout::new(fields), Err(LayoutError::NoSuchTable { .. })));
        assert!(matches!(change(|fields| fields.columns = None), Err(LayoutError::Columns)));
        assert!(matches!(
            change(|fields| fields.delimiter = '\n'),
            Err(LayoutError::Delimiter { .. })
        ));
    }
}
