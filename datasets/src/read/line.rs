//! One line of a click log to one row; and a run of lines to columns.

use super::{Chunk, MAX_LINE_BYTES};
use crate::{
    layout::{DenseKind, LineFields, SparseKind},
    token::Token,
};

/// Malformed lines that are kept with their reason.
pub(crate) const MAX_EXAMPLES: usize = 20;

/// Why a line is not a row. Columns count from 1; joined ones follow those of the line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LineError {
    /// Longer than any line may be.
    #[error("it is longer than {MAX_LINE_BYTES} bytes")]
    TooLong,
    /// Too few or too many columns.
    #[error("it has {got} columns where {expected} are expected")]
    Columns {
        /// Columns of the line.
        got: usize,
        /// Columns of the layout or the header.
        expected: usize,
    },
    /// A quoted value in a comma-separated line.
    #[error("it holds a double quote; quoted values are not supported")]
    Quoted,
    /// A label that is neither `0` nor `1`.
    #[error("column {column} is not a label `0` or `1`")]
    Label {
        /// The column.
        column: usize,
    },
    /// Not a 64-bit integer.
    #[error("column {column} is not an integer of 64 bits")]
    Integer {
        /// The column.
        column: usize,
    },
    /// Not a finite decimal number.
    #[error("column {column} is not a finite number")]
    Number {
        /// The column.
        column: usize,
    },
    /// Not 8 hexadecimal digits.
    #[error("column {column} is not 8 hexadecimal digits")]
    Hex {
        /// The column.
        column: usize,
    },
    /// Not a date and time.
    #[error("column {column} is not a time `YYYY-MM-DD hh:mm:ss`")]
    Time {
        /// The column.
        column: usize,
    },
}

/// Why a text is not a value of its feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ValueError {
    /// Not a 64-bit integer.
    #[error("is not an integer of 64 bits")]
    Integer,
    /// Not a finite decimal number.
    #[error("is not a finite number")]
    Number,
    /// Not 8 hexadecimal digits.
    #[error("is not 8 hexadecimal digits")]
    Hex,
    /// Not a date and time.
    #[error("is not a time `YYYY-MM-DD hh:mm:ss`")]
    Time,
}

impl ValueError {
    fn in_column(self, column: usize) -> LineError {
        match self {
            Self::Integer => LineError::Integer { column },
            Self::Number => LineError::Number { column },
            Self::Hex => LineError::Hex { column },
            Self::Time => LineError::Time { column },
        }
    }
}

/// Rows of some consecutive lines, as columns.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct ParsedRows {
    /// Lines seen, malformed ones included, the header excluded.
    pub(crate) lines: u64,
    /// 0 or 1 per row; empty if the file is unlabelled.
    pub(crate) labels: Vec<u8>,
    /// `[rows, dense]`, row-major, final values.
    pub(crate) dense: Vec<f32>,
    /// One column per sparse feature.
    pub(crate) tokens: Vec<Vec<Token>>,
    pub(crate) malformed: u64,
    /// The first of the malformed lines, by number.
    pub(crate) examples: Vec<(u64, LineError)>,
}

impl ParsedRows {
    pub(crate) fn new(sparse: usize) -> Self {
        Self { tokens: vec![Vec::new(); sparse], ..Self::default() }
    }

    pub(crate) fn rows(&self) -> usize {
        self.tokens[0].len()
    }

    /// Keeps the first `rows` rows.
    pub(crate) fn truncate(&mut self, rows: usize) {
        let before = self.rows();
        if rows < before {
            self.labels.truncate(rows);
            self.dense.truncate(rows * (self.dense.len() / before));
            for column in &mut self.tokens {
                column.truncate(rows);
            }
        }
    }

    fn reserve(&mut self, rows: usize, dense: usize, labelled: bool) {
        self.labels.reserve(if labelled { rows } else { 0 });
        self.dense.reserve(rows * dense);
        for column in &mut self.tokens {
            column.reserve(rows);
        }
    }

    fn refuse(&mut self, line: u64, error: LineError) {
        self.malformed += 1;
        if self.examples.len() < MAX_EXAMPLES {
            self.examples.push((line, error));
        }
    }
}

/// Parses all lines of a run.
pub(crate) fn parse_chunk(fields: &LineFields, chunk: &Chunk) -> ParsedRows {
    let mut rows = ParsedRows::new(fields.sparse.len());
    if chunk.overlong {
        rows.lines = 1;
        rows.refuse(chunk.first_line, LineError::TooLong);
        return rows;
    }
    let mut text = chunk.text.as_slice();
    let mut number = chunk.first_line;
    let mut values = Vec::new();
    while !text.is_empty() {
        let end = memchr::memchr(b'\n', text).unwrap_or(text.len());
        let line = &text[..end];
        text = &text[(end + 1).min(text.len())..];
        if !(number == 1 && fields.header) {
            if rows.lines == 0 && end > 0 {
                rows.reserve(
                    text.len() / end * 5 / 4 + 1,
                    fields.dense.len(),
                    fields.label.is_some(),
                );
            }
            rows.lines += 1;
            if let Err(error) = parse_line(fields, line, &mut values, &mut rows) {
                rows.refuse(number, error);
            }
        }
        number += 1;
    }
    rows
}

/// Appends the row of one line, or on error nothing. `values` is scratch.
pub(crate) fn parse_line<'a>(
    fields: &'a LineFields,
    line: &'a [u8],
    values: &mut Vec<&'a [u8]>,
    rows: &mut ParsedRows,
) -> Result<(), LineError> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.len() > MAX_LINE_BYTES {
        return Err(LineError::TooLong);
    }
    values.clear();
    let mut start = 0;
    for end in memchr::memchr_iter(fields.delimiter, line) {
        values.push(&line[start..end]);
        start = end + 1;
    }
    values.push(&line[start..]);
    if values.len() != fields.columns {
        return Err(LineError::Columns { got: values.len(), expected: fields.columns });
    }
    if fields.delimiter == b',' && memchr::memchr(b'"', line).is_some() {
        return Err(LineError::Quoted);
    }
    for joined in &fields.joined {
        values.push(joined.value(values));
    }
    let before = rows.rows();
    let parsed = push_row(fields, values, rows);
    if parsed.is_err() {
        rows.labels.truncate(before);
        rows.dense.truncate(before * fields.dense.len());
        for column in &mut rows.tokens {
            column.truncate(before);
        }
    }
    parsed
}

fn push_row(fields: &LineFields, values: &[&[u8]], rows: &mut ParsedRows) -> Result<(), LineError> {
    if let Some(at) = fields.label {
        rows.labels.push(match values[at] {
            b"0" => 0,
            b"1" => 1,
            _ => return Err(LineError::Label { column: at + 1 }),
        });
    }
    for &(at, kind) in &fields.dense {
        rows.dense.push(dense(kind, values[at]).map_err(|error| error.in_column(at + 1))?);
    }
    for (&(at, kind), column) in fields.sparse.iter().zip(&mut rows.tokens) {
        column.push(token(kind, values[at]).map_err(|error| error.in_column(at + 1))?);
    }
    Ok(())
}

/// A dense value from its text, which is empty where it is missing.
pub(crate) fn dense(kind: DenseKind, text: &[u8]) -> Result<f32, ValueError> {
    if text.is_empty() {
        return Ok(0.0);
    }
    match kind {
        DenseKind::LogInteger => integer(text).map(log_of).ok_or(ValueError::Integer),
        DenseKind::Number => std::str::from_utf8(text)
            .ok()
            .and_then(|text| text.parse::<f32>().ok())
            .filter(|value| value.is_finite())
            .ok_or(ValueError::Number),
        DenseKind::DayFraction => {
            let seconds = seconds_of_day(text).ok_or(ValueError::Time)?;
            Ok(seconds as f32 / 86_400.0)
        }
    }
}

/// A token from its text, which is empty where it is missing.
pub(crate) fn token(kind: SparseKind, text: &[u8]) -> Result<Token, ValueError> {
    if text.is_empty() {
        return Ok(Token::MISSING);
    }
    match kind {
        SparseKind::Hex { modulo } => {
            let value = hex(text).ok_or(ValueError::Hex)?;
            Ok(Token::of_value(modulo.map_or(value, |modulo| value % modulo)))
        }
        SparseKind::Text => Ok(Token::of_text(text)),
        SparseKind::Hour => {
            let seconds = seconds_of_day(text).ok_or(ValueError::Time)?;
            Ok(Token::of_value(seconds / 3600))
        }
    }
}

/// `ln(1 + max(value, 0))`, computed in f64 and rounded once.
pub(crate) fn log_of(value: i64) -> f32 {
    (value.max(0) as f64).ln_1p() as f32
}

/// A decimal integer: an optional minus sign and digits.
fn integer(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    if digits.is_empty() {
        return None;
    }
    let value = digits.iter().try_fold(0_i64, |value, &byte| {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value.checked_mul(10)?.checked_sub(digit.into())
    })?;
    if negative { Some(value) } else { value.checked_neg() }
}

/// Exactly 8 hexadecimal digits of either case.
fn hex(text: &[u8]) -> Option<u32> {
    let text: &[u8; 8] = text.try_into().ok()?;
    let mut value = 0;
    let mut wrong = 0;
    for &byte in text {
        let digit = HEX[byte as usize];
        wrong |= digit;
        value = value << 4 | u32::from(digit & 15);
    }
    (wrong < 16).then_some(value)
}

/// The value of each hexadecimal digit, and 255 for other bytes.
const HEX: [u8; 256] = {
    let mut table = [255; 256];
    let mut digit = 0;
    while digit < 16 {
        table[b"0123456789abcdef"[digit] as usize] = digit as u8;
        table[b"0123456789ABCDEF"[digit] as usize] = digit as u8;
        digit += 1;
    }
    table
};

/// Seconds since midnight of `YYYY-MM-DD hh:mm:ss`, whatever of fraction and zone follows.
fn seconds_of_day(text: &[u8]) -> Option<u32> {
    let number = |at: usize, limit: u32| {
        let (tens, ones) = (text[at].wrapping_sub(b'0'), text[at + 1].wrapping_sub(b'0'));
        let value = u32::from(tens) * 10 + u32::from(ones);
        (tens < 10 && ones < 10 && value < limit).then_some(value)
    };
    let punctuation = [(4, &b"-"[..]), (7, b"-"), (10, b" T"), (13, b":"), (16, b":")];
    if text.len() < 19 || punctuation.iter().any(|(at, allowed)| !allowed.contains(&text[*at])) {
        return None;
    }
    number(0, 100)?;
    number(2, 100)?;
    number(5, 13)?;
    number(8, 32)?;
    let rest_is_a_zone = text[19..].iter().all(|byte| b".0123456789+-:Z".contains(byte));
    rest_is_a_zone.then_some(())?;
    Some(number(11, 24)? * 3600 + number(14, 60)? * 60 + number(17, 61)?.min(59))
}

#[cfg(test)]
mod tests;
