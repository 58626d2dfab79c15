//! Raw values feature by feature, as clients of a server send them, to a batch.
//!
//! A value goes through the very functions that a field of a line goes through when rows are prepared. A feature that
//! the layout joins is looked up in the table here too, by the key that its row has.

use std::{collections::BTreeMap, sync::Arc};

use mprec_representations::{Batch, BatchError};

use crate::{
    Preprocessor, ValueError,
    error::LayoutError,
    layout::{Column, DenseKind, Layout, SparseKind, Table},
    read::{MAX_LINE_BYTES, dense, log_of, token},
};

/// Dense values, `[samples, dense features]` row-major.
#[derive(Debug, Clone, Copy)]
pub enum RawDense<'a> {
    /// As they stand in a line; empty where they are missing.
    Texts(&'a [&'a [u8]]),
    /// Numbers already, none of them missing.
    Integers(&'a [i64]),
}

/// Raw values that make no batch.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RawError {
    /// A value is wrong.
    #[error("feature `{feature}` of sample {sample} {problem}")]
    Value {
        /// The sample, from 0.
        sample: usize,
        /// The feature's name.
        feature: String,
        /// Whether it is a dense one.
        is_dense: bool,
        /// What is wrong.
        problem: RawProblem,
    },
    /// A row that no line could hold.
    #[error("the values of sample {sample} have more than {MAX_LINE_BYTES} bytes together")]
    TooLong {
        /// The sample, from 0.
        sample: usize,
    },
    /// The values are of no whole number of rows, or a token is refused that is not listed.
    #[error(transparent)]
    Batch(#[from] BatchError),
}

/// What is wrong with a raw value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RawProblem {
    /// It is not of the feature's kind.
    #[error(transparent)]
    Value(#[from] ValueError),
    /// It could not have stood in a line.
    #[error("holds a line end, the delimiter or a quote, which no value of a raw row can")]
    Delimited,
    /// Given, though it comes from a table.
    #[error("is joined from a table here, so leave it empty")]
    Joined,
    /// Given as a number, which cannot be empty, though it comes from a table.
    #[error("is joined from a table here, so send `raw_dense` as BYTES, with this feature empty")]
    JoinedNumber,
}

/// Where the raw value of every feature comes from.
#[derive(Debug)]
pub(crate) struct Sources {
    delimiter: u8,
    dense: Vec<Source<DenseKind>>,
    sparse: Vec<Source<SparseKind>>,
}

/// Where that of one feature comes from.
#[derive(Debug)]
struct Source<K> {
    kind: K,
    lookup: Option<Lookup>,
    /// Whether its column may be a line's last one, where a carriage return is part of the line end.
    may_be_last: bool,
}

/// A value of a joined table.
#[derive(Debug)]
struct Lookup {
    table: Arc<Table>,
    column: usize,
    /// The sparse feature whose raw value is the key.
    key: usize,
}

impl Sources {
    /// Features that are joined by a key which is itself no sparse feature are given by the client like all others.
    pub(crate) fn of(
        layout: &Layout,
        tables: &BTreeMap<String, Arc<Table>>,
    ) -> Result<Self, LayoutError> {
        let fields = layout.fields();
        let lookup = |feature: &str, column: &Column| {
            let Column::Joined { table, column } = column else { return Ok(None) };
            let join = fields.joins.iter().find(|join| join.table == *table);
            let key = join
                .and_then(|join| fields.sparse.iter().position(|sparse| sparse.column == join.on));
            let (Some(key), Some(table)) = (key, tables.get(table)) else { return Ok(None) };
            let found = table.header().iter().position(|name| name == column);
            let column = found.ok_or_else(|| LayoutError::NoSuchColumn {
                feature: feature.into(),
                column: column.clone(),
            })?;
            Ok(Some(Lookup { table: Arc::clone(table), column, key }))
        };
        let may_be_last = |column: &Column| match (column, fields.columns) {
            (Column::Joined { .. }, _) => false,
            (Column::At(at), Some(columns)) if !fields.header => {
                // A label behind it may be missing.
                let label_is_last = fields.label == Some(Column::At(columns - 1));
                at + 1 == columns || label_is_last && at + 2 == columns
            }
            // Each file's header says where its columns stand, and how many there are.
            _ => true,
        };
        let dense = fields.dense.iter().map(|dense| {
            let (kind, column) = (dense.kind, &dense.column);
            let lookup = lookup(&dense.name, column)?;
            Ok(Source { kind, lookup, may_be_last: may_be_last(column) })
        });
        let sparse = fields.sparse.iter().map(|sparse| {
            let (kind, column) = (sparse.kind, &sparse.column);
            let lookup = lookup(&sparse.name, column)?;
            Ok(Source { kind, lookup, may_be_last: may_be_last(column) })
        });
        Ok(Self {
            delimiter: fields.delimiter as u8,
            dense: dense.collect::<Result<_, LayoutError>>()?,
            sparse: sparse.collect::<Result<_, LayoutError>>()?,
        })
    }

    /// The text that stands for `given`: itself, or what the row is joined with.
    fn text<'a, K>(
        &'a self,
        source: &'a Source<K>,
        given: &'a [u8],
        row: &[&'a [u8]],
    ) -> Result<&'a [u8], RawProblem> {
        if let Some(lookup) = &source.lookup {
            return match given {
                [] => Ok(lookup.table.get(row[lookup.key], lookup.column)),
                _ => Err(RawProblem::Joined),
            };
        }
        if source.may_be_last && given.ends_with(b"\r") {
            return Err(RawProblem::Delimited);
        }
        let quote = if self.delimiter == b',' { b'"' } else { b'\n' };
        match memchr::memchr3(b'\n', self.delimiter, quote, given) {
            None => Ok(given),
            Some(_) => Err(RawProblem::Delimited),
        }
    }
}

impl Preprocessor {
    /// Encodes raw values, `sparse` being `[samples, sparse features]` row-major and an empty text a missing value. Texts
    /// are bytes, of no particular encoding.
    ///
    /// Tokens that the vocabulary does not list follow the schema's rule, and count as unknown in the batch.
    ///
    /// # Errors
    ///
    /// [`RawError`] for the first sample that is wrong.
    pub fn encode_values(&self, dense: RawDense<'_>, sparse: &[&[u8]]) -> Result<Batch, RawError> {
        let sources = &*self.sources;
        let (width, features) = (sources.dense.len(), sources.sparse.len());
        let samples = sparse.len() / features;
        let values = match dense {
            RawDense::Texts(texts) => texts.len(),
            RawDense::Integers(integers) => integers.len(),
        };
        if samples * features != sparse.len() {
            let expected = samples * features;
            return Err(BatchError::Ids { got: sparse.len(), expected }.into());
        }
        if values != samples * width {
            return Err(BatchError::Dense { got: values, width }.into());
        }
        let mut numbers = Vec::with_capacity(values);
        let mut ids = vec![0; sparse.len()];
        for (sample, row) in sparse.chunks_exact(features).enumerate() {
            let given = sample * width..(sample + 1) * width;
            let mut bytes = row.iter().map(|text| text.len() + 1).sum::<usize>();
            let wrong = |feature: usize, is_dense: bool| {
                move |problem| RawError::Value {
                    sample,
                    feature: self.feature(feature, is_dense).to_owned(),
                    is_dense,
                    problem,
                }
            };
            match dense {
                RawDense::Texts(texts) => {
                    bytes += texts[given.clone()].iter().map(|text| text.len() + 1).sum::<usize>();
                    for (feature, text) in texts[given].iter().enumerate() {
                        let value = sources.dense_text(feature, text, row);
                        numbers.push(value.map_err(wrong(feature, true))?);
                    }
                }
                RawDense::Integers(integers) => {
                    for (feature, &value) in integers[given].iter().enumerate() {
                        let value = sources.dense_integer(feature, value, row);
                        numbers.push(value.map_err(wrong(feature, true))?);
                    }
                }
            }
            if bytes > MAX_LINE_BYTES {
                return Err(RawError::TooLong { sample });
            }
            for (feature, text) in row.iter().enumerate() {
                let found = sources.token(feature, text, row).map_err(wrong(feature, false))?;
                ids[feature * samples + sample] = self.id_or_unknown(feature, found);
            }
        }
        Ok(self.shape.from_columns(numbers, &ids)?)
    }

    fn feature(&self, feature: usize, is_dense: bool) -> &str {
        let schema = self.schema();
        if is_dense { &schema.dense()[feature] } else { &schema.sparse()[feature].name }
    }
}

impl Sources {
    fn dense_text(&self, feature: usize, given: &[u8], row: &[&[u8]]) -> Result<f32, RawProblem> {
        let source = &self.dense[feature];
        Ok(dense(source.kind, self.text(source, given, row)?)?)
    }

    fn dense_integer(&self, feature: usize, given: i64, row: &[&[u8]]) -> Result<f32, RawProblem> {
        match &self.dense[feature] {
            Source { lookup: Some(_), .. } => Err(RawProblem::JoinedNumber),
            Source { kind: DenseKind::LogInteger, .. } => Ok(log_of(given)),
            _ => self.dense_text(feature, given.to_string().as_bytes(), row),
        }
    }

    fn token(
        &self,
        feature: usize,
        given: &[u8],
        row: &[&[u8]],
    ) -> Result<crate::Token, RawProblem> {
        let source = &self.sparse[feature];
        Ok(token(source.kind, self.text(source, given, row)?)?)
    }
}
