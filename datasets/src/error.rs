//! What can be wrong with a layout, with the input of a preparation, and with a prepared folder.

use std::{io, path::PathBuf};

use mprec_representations::{BatchError, SchemaError};

use crate::read::LineError;

/// A layout that cannot be, or that a file does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LayoutError {
    /// No preset of this name.
    #[error("no layout is called `{name}`; there are {}", crate::layout::PRESETS.join(", "))]
    Unknown {
        /// The name.
        name: String,
    },
    /// A delimiter that cannot delimit.
    #[error("delimiter {delimiter:?} is not one ASCII character other than a quote or a line end")]
    Delimiter {
        /// The character.
        delimiter: char,
    },
    /// The number of columns is missing or too large.
    #[error(
        "a layout without header states its number of `columns`, 1 to {}",
        crate::layout::MAX_COLUMNS
    )]
    Columns,
    /// A file with more columns than a line may have.
    #[error("{columns} columns; at most {} are allowed", crate::layout::MAX_COLUMNS)]
    TooManyColumns {
        /// How many there are.
        columns: usize,
    },
    /// No features of one kind.
    #[error("the layout has no {kind} features")]
    NoFeatures {
        /// `dense` or `sparse`.
        kind: &'static str,
    },
    /// A modulo of 0.
    #[error("the modulo of feature `{feature}` is 0")]
    Modulo {
        /// The feature.
        feature: String,
    },
    /// A feature's column is not there.
    #[error("feature `{feature}` is read from column `{column}`, which does not exist")]
    NoSuchColumn {
        /// The feature, or what else the column is for.
        feature: String,
        /// The column's name or place.
        column: String,
    },
    /// A joined column of a table that the layout does not join, or where none can be joined.
    #[error("`{feature}` is read from table `{table}`, which the layout cannot join there")]
    NoSuchTable {
        /// The feature, or what else the column is for.
        feature: String,
        /// The table.
        table: String,
    },
    /// A table name that cannot become part of a file name.
    #[error("table name `{table}` is not 1 to 64 letters, digits, `_` and `-`")]
    TableName {
        /// The name.
        table: String,
    },
    /// More tables than a layout may join.
    #[error("the layout joins {joins} tables; at most {} are allowed", crate::layout::MAX_JOINS)]
    TooManyJoins {
        /// How many there are.
        joins: usize,
    },
    /// Two joins of one table.
    #[error("the layout joins table `{table}` twice; give each table a name of its own")]
    TableTwice {
        /// The table.
        table: String,
    },
    /// A joined table was not given.
    #[error("layout `{layout}` joins table `{table}`; give its file")]
    TableNotGiven {
        /// The layout.
        layout: String,
        /// The table.
        table: String,
    },
    /// A table's text is wrong.
    #[error("line {line} of table `{table}`: {reason}")]
    Table {
        /// The table.
        table: String,
        /// The line, from 1.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
}

/// A line that was left out, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MalformedLine {
    /// Its file, without folder.
    pub file: String,
    /// Its number, from 1.
    pub line: u64,
    /// What is wrong with it.
    pub reason: LineError,
}

impl std::fmt::Display for MalformedLine {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "`{}` line {}: {}", self.file, self.line, self.reason)
    }
}

/// Why a data set was not prepared. What was written has no manifest, so nothing takes it for whole.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PrepareError {
    /// An option out of its range.
    #[error("{option} is {value}; it must be {allowed}")]
    Option {
        /// The option.
        option: &'static str,
        /// What was given.
        value: String,
        /// What would do.
        allowed: &'static str,
    },
    /// The layout is wrong in itself.
    #[error("the layout cannot be used")]
    Layout(#[from] LayoutError),
    /// The layout does not fit a file.
    #[error("the layout does not fit `{file}`")]
    File {
        /// The file, without folder.
        file: String,
        /// What is missing.
        #[source]
        source: LayoutError,
    },
    /// An input could not be read or decompressed.
    #[error("cannot read `{}`", file.display())]
    Read {
        /// The input.
        file: PathBuf,
        /// What the system or the decompressor says.
        #[source]
        source: io::Error,
    },
    /// The output could not be written.
    #[error("cannot write `{}`", file.display())]
    Write {
        /// The file.
        file: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The output folder holds something already.
    #[error("`{}` is not empty; name another folder, or ask to replace a prepared one", folder.display())]
    NotEmpty {
        /// The folder.
        folder: PathBuf,
    },
    /// Some files have labels and some have none.
    #[error("`{file}` {} while the files before it do not agree; prepare them apart",
        if *labelled { "has labels" } else { "has no labels" })]
    MixedLabels {
        /// The first file that differs.
        file: String,
        /// Whether it has labels.
        labelled: bool,
    },
    /// More malformed lines than the limit lets pass.
    #[error(
        "{malformed} of {lines} lines are malformed, more than the limit of {limit}; the first is {first}"
    )]
    TooManyMalformed {
        /// Malformed lines so far.
        malformed: u64,
        /// Lines so far.
        lines: u64,
        /// How many would have passed.
        limit: u64,
        /// The first one.
        first: MalformedLine,
        /// The first ones, at most 20.
        examples: Vec<MalformedLine>,
    },
    /// Nothing to prepare.
    #[error("the input holds no rows")]
    NoRows,
    /// More distinct values than memory is given for.
    #[error("feature `{feature}` has more than {limit} distinct values; use hashing for this data")]
    TooManyTokens {
        /// The feature.
        feature: String,
        /// Most values of one feature.
        limit: u64,
    },
    /// The features make no schema.
    #[error("the features make no schema")]
    Schema(#[from] SchemaError),
    /// The folder whose preprocessing was to be used, or the one just written, cannot be read.
    #[error(transparent)]
    Folder(#[from] DatasetError),
    /// The worker threads could not be started.
    #[error("cannot start worker threads")]
    Threads(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Why a prepared folder cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatasetError {
    /// A file could not be read.
    #[error("cannot read `{}`", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The folder has no manifest.
    #[error("`{}` is not a prepared data set: it has no `manifest.json`; it is written last, so an interrupted preparation lacks it", folder.display())]
    NotPrepared {
        /// The folder.
        folder: PathBuf,
    },
    /// The folder is of another version of the format.
    #[error("`{}` has format version {found}, and this program reads version {expected}; prepare the data again", file.display())]
    Version {
        /// The file that says so.
        file: PathBuf,
        /// The version found.
        found: u64,
        /// The version that can be read.
        expected: u64,
    },
    /// A file contradicts itself, the manifest, or its digest.
    #[error("`{}` is damaged: {reason}", file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Rows that the data set does not have.
    #[error("rows {first}..{end} of a data set of {rows} rows")]
    Rows {
        /// The first row asked for.
        first: usize,
        /// One behind the last row asked for.
        end: usize,
        /// Rows there are.
        rows: usize,
    },
    /// A line cannot be encoded.
    #[error("line {line} cannot be encoded: {source}")]
    Line {
        /// Which of the lines given, from 1.
        line: u64,
        /// Why not.
        source: LineError,
    },
    /// The layout of the folder does not fit the given lines or its own tables.
    #[error("the folder's layout cannot be used")]
    Layout(#[from] LayoutError),
    /// The values do not make a batch.
    #[error("the values make no batch")]
    Batch(#[from] BatchError),
}
