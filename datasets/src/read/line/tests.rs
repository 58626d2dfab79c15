//! Tests of the line parser.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::layout::Layout;

fn criteo() -> LineFields {
    LineFields::resolve(&Layout::criteo_kaggle(), &[b'\t'; 39], &BTreeMap::new()).unwrap()
}

fn parse(text: &[u8]) -> ParsedRows {
    let chunk = Chunk { file: 0, first_line: 1, text: text.to_vec(), overlong: false };
    parse_chunk(&criteo(), &chunk)
}

fn line(label: &str, integers: &[String], categories: &[String]) -> String {
    [&[label.to_owned()][..], integers, categories].concat().join("\t")
}

fn plain() -> String {
    line("1", &vec!["3".to_owned(); 13], &vec!["000000ff".to_owned(); 26])
}

#[test]
fn a_line_becomes_final_values() {
    let mut integers = vec!["3".to_owned(); 13];
    integers[1] = "-2".into();
    integers[2] = String::new();
    let mut categories = vec!["000000fF".to_owned(); 26];
    categories[25] = String::new();
    let rows = parse(line("0", &integers, &categories).as_bytes());
    assert_eq!((rows.rows(), rows.malformed, rows.labels.as_slice()), (1, 0, &[0][..]));
    assert_eq!(rows.dense[..3], [4.0_f32.ln(), 0.0, 0.0]);
    assert_eq!(rows.tokens[0], [Token::of_value(255)]);
    assert_eq!(rows.tokens[25], [Token::MISSING]);
}

#[test]
fn terabyte_takes_categories_modulo_ten_million() {
    let fields =
        LineFields::resolve(&Layout::criteo_terabyte(), &[b'\t'; 39], &BTreeMap::new()).unwrap();
    let text = line("1", &vec![String::new(); 13], &vec!["00989681".to_owned(); 26]).into_bytes();
    let chunk = Chunk { file: 0, first_line: 1, text, overlong: false };
    assert_eq!(parse_chunk(&fields, &chunk).tokens[7], [Token::of_value(1)]);
}

#[test]
fn malformed_lines_are_named_with_number_and_reason() {
    let replace = |at: usize, value: &str| {
        let line = plain();
        let mut values: Vec<_> = line.split('\t').collect();
        values[at] = value;
        values.join("\t")
    };
    let long = "x".repeat(MAX_LINE_BYTES + 1);
    let lines = [
        (plain(), None),
        (replace(0, "2"), Some(LineError::Label { column: 1 })),
        (replace(0, ""), Some(LineError::Label { column: 1 })),
        (replace(3, "1.5"), Some(LineError::Integer { column: 4 })),
        (replace(3, "-"), Some(LineError::Integer { column: 4 })),
        (replace(3, "9223372036854775808"), Some(LineError::Integer { column: 4 })),
        (replace(3, "-9223372036854775808"), None),
        (replace(14, "0000000g"), Some(LineError::Hex { column: 15 })),
        (replace(14, "0ff"), Some(LineError::Hex { column: 15 })),
        (replace(14, "0000000ff"), Some(LineError::Hex { column: 15 })),
        (String::new(), Some(LineError::Columns { got: 1, expected: 40 })),
        (plain() + "\t", Some(LineError::Columns { got: 41, expected: 40 })),
        (long, Some(LineError::TooLong)),
        (plain() + "\r", None),
    ];
    let text = lines.iter().map(|(line, _)| line.as_str()).collect::<Vec<_>>().join("\n");
    let rows = parse(text.as_bytes());
    let expected: Vec<_> = lines
        .iter()
        .zip(1..)
        .filter_map(|((_, error), number)| Some((number, error.clone()?)))
        .collect();
    assert_eq!(rows.examples, expected);
    assert_eq!((rows.rows(), rows.malformed), (3, 11));
    // A refused line leaves nothing behind in any column.
    assert_eq!((rows.labels.len(), rows.dense.len()), (3, 39));
    assert!(rows.tokens.iter().all(|column| column.len() == 3));
}

#[test]
fn only_the_first_malformed_lines_are_kept() {
    let rows = parse(&b"x\n".repeat(100));
    assert_eq!((rows.lines, rows.malformed, rows.examples.len()), (100, 100, MAX_EXAMPLES));
}

#[test]
fn times_are_read_to_the_second() {
    let noon = b"2019-11-24 12:00:34.762830+00:00";
    assert_eq!(seconds_of_day(noon), Some(12 * 3600 + 34));
    assert_eq!(seconds_of_day(b"2019-11-24T23:59:60"), Some(86_399));
    for bad in
        ["", "2019-11-24", "2019-11-24 24:00:00", "2019-13-24 00:00:00", "2019-11-24 0a:00:00"]
    {
        assert_eq!(seconds_of_day(bad.as_bytes()), None, "{bad}");
    }
    assert_eq!(token(SparseKind::Hour, noon), Ok(Token::of_value(12)));
    assert_eq!(dense(DenseKind::DayFraction, b"2019-11-24 18:00:00"), Ok(0.75));
}

#[test]
fn numbers_are_finite() {
    assert_eq!(dense(DenseKind::Number, b"-0.5"), Ok(-0.5));
    for bad in [&b"nan"[..], b"inf", b"1e999", b"x", b"\xff"] {
        assert_eq!(dense(DenseKind::Number, bad), Err(ValueError::Number));
    }
}

proptest! {
    #[test]
    fn any_bytes_parse_or_are_counted(text in prop::collection::vec(any::<u8>(), 0..2000)) {
        let rows = parse(&text);
        let lines = text.split_inclusive(|&byte| byte == b'\n').count() as u64;
        prop_assert_eq!(rows.lines, lines);
        prop_assert_eq!(rows.rows() as u64 + rows.malformed, lines);
    }

    #[test]
    fn damaged_lines_parse_or_are_counted(
        at in 0_usize..260, byte in any::<u8>(), cut in 0_usize..260,
    ) {
        let mut text = plain().into_bytes();
        let end = text.len();
        text[at % end] = byte;
        text.truncate(cut.max(1));
        let rows = parse(&text);
        prop_assert_eq!(rows.rows() as u64 + rows.malformed, rows.lines);
    }

    #[test]
    fn written_rows_are_read_back(
        label in 0_u8..2,
        integers in prop::collection::vec(prop::option::of(any::<i64>()), 13),
        categories in prop::collection::vec(prop::option::of(any::<u32>()), 26),
    ) {
        let show = |value: &Option<i64>| value.map_or_else(String::new, |v| v.to_string());
        let hex = |value: &Option<u32>| value.map_or_else(String::new, |v| format!("{v:08x}"));
        let text = line(
            &label.to_string(),
            &integers.iter().map(show).collect::<Vec<_>>(),
            &categories.iter().map(hex).collect::<Vec<_>>(),
        );
        let rows = parse(text.as_bytes());
        prop_assert_eq!(rows.malformed, 0);
        prop_assert_eq!(&rows.labels, &[label]);
        for (got, value) in rows.dense.iter().zip(&integers) {
            let expected = (value.unwrap_or(0).max(0) as f64 + 1.0).ln() as f32;
            prop_assert!((got - expected).abs() <= 1e-6 * expected, "{got} for {value:?}");
        }
        for (column, value) in rows.tokens.iter().zip(&categories) {
            prop_assert_eq!(column[0], value.map_or(Token::MISSING, Token::of_value));
        }
    }
}
