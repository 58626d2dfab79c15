//! A small table that adds columns to each line by key, such as the features of items.

use std::{fmt, ops::Range};

use hashbrown::HashMap;

use crate::error::LayoutError;

/// Largest table, in bytes. It is held in memory.
pub const MAX_TABLE_BYTES: u64 = 64 << 20;

/// Most columns of a table.
pub const MAX_TABLE_COLUMNS: usize = 4096;

/// A table with a header, held as its text and the places of its values.
pub struct Table {
    text: Vec<u8>,
    header: Vec<String>,
    rows: HashMap<Vec<u8>, Vec<Range<u32>>>,
}

impl Table {
    /// Reads the table called `name` from its text: delimited as the layout's lines, its first
    /// line naming the columns, `key` among them.
    ///
    /// # Errors
    ///
    /// [`LayoutError::Table`] with the line when the text is too large, there are more than
    /// [`MAX_TABLE_COLUMNS`], a line has other columns than the header, holds a double quote, or
    /// repeats a key.
    pub fn parse(name: &str, text: Vec<u8>, delimiter: u8, key: &str) -> Result<Self, LayoutError> {
        let refuse = |line: usize, reason: String| LayoutError::Table {
            table: name.into(),
            line: line as u64,
            reason,
        };
        if text.len() as u64 > MAX_TABLE_BYTES {
            return Err(refuse(0, format!("it is larger than {MAX_TABLE_BYTES} bytes")));
        }
        let mut header: Option<(Vec<String>, usize)> = None;
        let mut rows = HashMap::new();
        let mut start = 0;
        for (at, line) in text.split(|&byte| byte == b'\n').enumerate() {
            let first = start;
            start += line.len() + 1;
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.is_empty() {
                continue;
            }
            if line.contains(&b'"') {
                return Err(refuse(at + 1, "quoted values are not supported".into()));
            }
            // Counted first, as the places of a long line's values take many times its bytes.
            let columns = memchr::memchr_iter(delimiter, line).count() + 1;
            if let Some((names, _)) = &header
                && names.len() != columns
            {
                let reason = format!("{columns} columns where {} are named", names.len());
                return Err(refuse(at + 1, reason));
            }
            if columns > MAX_TABLE_COLUMNS {
                let reason = format!("{columns} columns; at most {MAX_TABLE_COLUMNS} are allowed");
                return Err(refuse(at + 1, reason));
            }
            let mut places = Vec::with_capacity(columns);
            let mut end = first;
            for value in line.split(|&byte| byte == delimiter) {
                // `MAX_TABLE_BYTES` fits.
                places.push(end as u32..(end + value.len()) as u32);
                end += value.len() + 1;
            }
            let Some((_, key_at)) = &header else {
                let names = header_names(line, delimiter);
                let Some(key_at) = names.iter().position(|column| column == key) else {
                    return Err(refuse(at + 1, format!("it has no column `{key}`")));
                };
                header = Some((names, key_at));
                continue;
            };
            let value = &text[places[*key_at].start as usize..places[*key_at].end as usize];
            if rows.insert(value.to_vec(), places).is_some() {
                let reason = format!("key `{}` is repeated", String::from_utf8_lossy(value));
                return Err(refuse(at + 1, reason));
            }
        }
        let Some((header, _)) = header else {
            return Err(refuse(1, "it is empty".into()));
        };
        Ok(Self { text, header, rows })
    }

    /// Names of the columns.
    pub fn header(&self) -> &[String] {
        &self.header
    }

    /// The table's text, as it was read.
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// The value in `column` of the row with this key; empty if there is no such row.
    pub(crate) fn get(&self, key: &[u8], column: usize) -> &[u8] {
        self.rows.get(key).map_or(&[], |row| {
            let place = &row[column];
            &self.text[place.start as usize..place.end as usize]
        })
    }
}

/// The names in a header line.
pub(super) fn header_names(line: &[u8], delimiter: u8) -> Vec<String> {
    line.strip_prefix(b"\xef\xbb\xbf")
        .unwrap_or(line)
        .split(|&byte| byte == delimiter)
        .map(|name| String::from_utf8_lossy(name).into_owned())
        .collect()
}

impl fmt::Debug for Table {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Table")
            .field("header", &self.header)
            .field("rows", &self.rows.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_by_key() {
        let table = Table::parse("t", b"id,x\r\n7,a\r\n\n8,\n".to_vec(), b',', "id").unwrap();
        assert_eq!(table.header(), ["id", "x"]);
        assert_eq!(table.get(b"7", 1), b"a");
        assert_eq!(table.get(b"8", 1), b"");
        assert_eq!(table.get(b"9", 1), b"");
    }

    #[test]
    fn a_table_may_have_as_many_columns_as_allowed() {
        let more = MAX_TABLE_COLUMNS - 1;
        let text = format!("id{}\n7{}b\n", ",x".repeat(more), ",".repeat(more));
        let table = Table::parse("t", text.into(), b',', "id").unwrap();
        assert_eq!((table.header().len(), table.get(b"7", more)), (4096, &b"b"[..]));
    }

    #[test]
    fn a_bad_table_names_its_line() {
        for (text, bad, says) in [
            ("id,x\n7,a\n7,b\n", 3, "repeated"),
            ("id,x\n7\n", 2, "1 columns"),
            ("id,x\n7,\"a\"\n", 2, "quoted"),
            ("x,y\n", 1, "no column `id`"),
            ("", 1, "empty"),
            (&format!("id{}\n", ",x".repeat(MAX_TABLE_COLUMNS)), 1, "4097 columns; at most 4096"),
            (&format!("id,x\n7{}\n", ",".repeat(1 << 20)), 2, "1048577 columns where 2"),
        ] {
            let error = Table::parse("t", text.into(), b',', "id").unwrap_err();
            let LayoutError::Table { line, reason, .. } = &error else { panic!("{error}") };
            assert_eq!(*line, bad, "{error}");
            assert!(reason.contains(says), "{error}");
        }
    }
}
