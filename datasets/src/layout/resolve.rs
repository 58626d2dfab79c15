//! A layout with every column found in one file: what the line parser works from.

use std::{collections::BTreeMap, sync::Arc};

use super::{Column, DenseKind, Layout, MAX_COLUMNS, SparseKind, Table, table::header_names};
use crate::error::LayoutError;

/// Where the values of one file's lines stand. Places at or beyond `columns` are joined values.
#[derive(Debug, Clone)]
pub(crate) struct LineFields {
    pub(crate) delimiter: u8,
    pub(crate) header: bool,
    /// Columns of every line of the file.
    pub(crate) columns: usize,
    pub(crate) label: Option<usize>,
    pub(crate) dense: Vec<(usize, DenseKind)>,
    pub(crate) sparse: Vec<(usize, SparseKind)>,
    /// Joined values in the order of their places.
    pub(crate) joined: Vec<Joined>,
}

/// One joined value: `table[key of the line][column]`.
#[derive(Debug, Clone)]
pub(crate) struct Joined {
    table: Arc<Table>,
    on: usize,
    column: usize,
}

impl Joined {
    /// The value that belongs to a line with these columns.
    pub(crate) fn value<'a>(&'a self, line: &[&[u8]]) -> &'a [u8] {
        self.table.get(line[self.on], self.column)
    }
}

impl LineFields {
    /// Finds the layout's columns in a file whose first line is `first`, with or without a carriage return at its end.
    ///
    /// # Errors
    ///
    /// [`LayoutError`] when the header or a table lacks a column, or a table was not given.
    pub(crate) fn resolve(
        layout: &Layout,
        first: &[u8],
        tables: &BTreeMap<String, Arc<Table>>,
    ) -> Result<Self, LayoutError> {
        let fields = layout.fields();
        let first = first.strip_suffix(b"\r").unwrap_or(first);
        // The layout's delimiter is ASCII.
        let delimiter = fields.delimiter as u8;
        let names = fields.header.then(|| header_names(first, delimiter));
        let found = memchr::memchr_iter(delimiter, first).count() + 1;
        let columns = match fields.columns {
            Some(columns) if !fields.header => columns,
            _ => found,
        };
        if columns > MAX_COLUMNS {
            return Err(LayoutError::TooManyColumns { columns });
        }
        // Without a header, a file that lacks the label has one column less and the rest move up.
        let unlabelled_at = match fields.label {
            Some(Column::At(label)) if names.is_none() && found + 1 == columns => Some(label),
            _ => None,
        };
        let place = |feature: &str, column: &Column| {
            let missing = |column: &dyn ToString| LayoutError::NoSuchColumn {
                feature: feature.into(),
                column: column.to_string(),
            };
            match column {
                Column::At(at) if *at >= columns => Err(missing(at)),
                Column::At(at) => {
                    Ok(if unlabelled_at.is_some_and(|label| label < *at) { at - 1 } else { *at })
                }
                Column::Named(name) => names
                    .iter()
                    .flatten()
                    .position(|column| column == name)
                    .ok_or_else(|| missing(name)),
                // `Layout::new` keeps joined columns from where they make no sense.
                Column::Joined { column, .. } => Err(missing(column)),
            }
        };
        let columns = if unlabelled_at.is_some() { found } else { columns };
        let mut joined = Vec::new();
        let mut place_or_join = |feature: &str, column: &Column| {
            let Column::Joined { table, column } = column else { return place(feature, column) };
            let given = tables.get(table).ok_or_else(|| LayoutError::TableNotGiven {
                layout: layout.name().into(),
                table: table.clone(),
            })?;
            let missing = || LayoutError::NoSuchColumn {
                feature: feature.into(),
                column: format!("{table}.{column}"),
            };
            let join = fields.joins.iter().find(|join| join.table == *table).ok_or_else(missing)?;
            let at = given.header().iter().position(|name| name == column).ok_or_else(missing)?;
            joined.push(Joined {
                table: Arc::clone(given),
                on: place(feature, &join.on)?,
                column: at,
            });
            Ok(columns + joined.len() - 1)
        };
        let dense = fields
            .dense
            .iter()
            .map(|dense| Ok((place_or_join(&dense.name, &dense.column)?, dense.kind)))
            .collect::<Result<_, LayoutError>>()?;
        let sparse = fields
            .sparse
            .iter()
            .map(|sparse| Ok((place_or_join(&sparse.name, &sparse.column)?, sparse.kind)))
            .collect::<Result<_, LayoutError>>()?;
        let label = match &fields.label {
            None => None,
            Some(_) if unlabelled_at.is_some() => None,
            // A header without the label column: an unlabelled file.
            Some(label @ Column::Named(_)) => place("label", label).ok(),
            Some(label) => Some(place("label", label)?),
        };
        Ok(Self { delimiter, header: fields.header, columns, label, dense, sparse, joined })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unlabelled_file_has_one_column_less() {
        let layout = Layout::criteo_kaggle();
        let labelled = LineFields::resolve(&layout, &[b'\t'; 39], &BTreeMap::new()).unwrap();
        assert_eq!((labelled.columns, labelled.label, labelled.dense[0].0), (40, Some(0), 1));
        let bare = LineFields::resolve(&layout, &[b'\t'; 38], &BTreeMap::new()).unwrap();
        assert_eq!((bare.columns, bare.label, bare.dense[0].0), (39, None, 0));
        assert_eq!(bare.sparse[25].0, 38);
        // Any other count is a matter of lines, not of the file.
        let odd = LineFields::resolve(&layout, b"1", &BTreeMap::new()).unwrap();
        assert_eq!(odd.columns, 40);
    }

    #[test]
    fn joined_columns_stand_behind_the_line() {
        let layout = Layout::open_bandit();
        let header = b"timestamp,item_id,position,user_feature_0,user_feature_1,user_feature_2,\
            user_feature_3,click";
        let error = LineFields::resolve(&layout, header, &BTreeMap::new()).unwrap_err();
        assert!(matches!(error, LayoutError::TableNotGiven { .. }), "{error}");
        let text =
            b"item_id,item_feature_0,item_feature_1,item_feature_2,item_feature_3\n1,0.5,a,b,c\n";
        let table = Table::parse("item_context", text.to_vec(), b',', "item_id").unwrap();
        let tables = BTreeMap::from([("item_context".to_owned(), Arc::new(table))]);
        let fields = LineFields::resolve(&layout, header, &tables).unwrap();
        assert_eq!((fields.columns, fields.label, fields.dense[0].0), (8, Some(7), 8));
        let line: [&[u8]; 8] = [b"", b"1", b"", b"", b"", b"", b"", b""];
        assert_eq!(fields.joined[0].value(&line), b"0.5");
        assert_eq!(fields.joined[3].value(&line), b"c");
        let error = LineFields::resolve(&layout, b"timestamp,click", &tables).unwrap_err();
        assert!(matches!(error, LayoutError::NoSuchColumn { .. }), "{error}");
    }
}
