//! Prometheus text (exposition format 0.0.4), line by line.

use std::borrow::Cow;

/// One value of a metric.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample<'p> {
    /// The metric's name; for parts of a histogram with `_bucket`, `_sum` or `_count`.
    pub name: &'p str,
    /// Label names and values.
    pub labels: Vec<(&'p str, Cow<'p, str>)>,
    /// The value.
    pub value: f64,
}

/// A line that is no sample.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the metrics page {problem}")]
pub struct PageError {
    /// Which line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub problem: &'static str,
}

impl Sample<'_> {
    /// The value of a label.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(label, _)| *label == name).map(|(_, value)| value.as_ref())
    }
}

/// The samples of a page, in order. Comments and empty lines are skipped, time stamps left out.
pub fn samples(text: &str) -> impl Iterator<Item = Result<Sample<'_>, PageError>> {
    let numbered = text.lines().enumerate().map(|(at, line)| (at + 1, line.trim()));
    let lines = numbered.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    lines.map(|(line, text)| sample(text).map_err(|problem| PageError { line, problem }))
}

fn sample(line: &str) -> Result<Sample<'_>, &'static str> {
    let end = line.find(['{', ' ', '\t']).ok_or("has no value")?;
    let (name, mut rest) = line.split_at(end);
    if name.is_empty() {
        return Err("has no name");
    }
    let mut labels = Vec::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside.trim_start();
        loop {
            if let Some(after) = rest.strip_prefix('}') {
                rest = after;
                break;
            }
            let (label, value) = rest.split_once("=\"").ok_or("has an unfinished label")?;
            let (value, after) = quoted(value)?;
            labels.push((label.trim(), value));
            rest = after.trim_start();
            rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
        }
    }
    let value = rest.split_whitespace().next().ok_or("has no value")?;
    let value = value.parse().map_err(|_| "has a value that is no number")?;
    Ok(Sample { name, labels, value })
}

/// A value up to its closing quote, and what follows.
fn quoted(text: &str) -> Result<(Cow<'_, str>, &str), &'static str> {
    let mut value = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => {
                let plain = &text[..at];
                let after = &text[at + 1..];
                let is_plain = plain.len() == value.len();
                return Ok((if is_plain { plain.into() } else { value.into() }, after));
            }
            '\\' => match letters.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, escaped)) => value.push(escaped),
                None => break,
            },
            other => value.push(other),
        }
    }
    Err("has an unfinished label")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_page_is_read_as_it_was_written() {
        let text = "# HELP a b\n# TYPE a counter\n\na 1\n\
                    b{path=\"x\\\"y\\\\z\\n\",le=\"+Inf\"} 2.5 1700000000\n c{ d=\"e\" , } NaN\n";
        let all: Vec<_> = samples(text).collect::<Result<_, _>>().unwrap();
        assert_eq!(all[0], Sample { name: "a", labels: vec![], value: 1.0 });
        assert_eq!(all[1].label("path"), Some("x\"y\\z\n"));
        assert_eq!(
            (all[1].label("le"), all[1].label("none"), all[1].value),
            (Some("+Inf"), None, 2.5)
        );
        assert!(all[2].value.is_nan() && all[2].label("d") == Some("e"));
    }

    #[test]
    fn lines_that_are_no_samples_are_named() {
        for (text, problem) in [
            ("a 1\nb", "line 2 of the metrics page has no value"),
            ("a{b=\"c} 1", "line 1 of the metrics page has an unfinished label"),
            ("a{b} 1", "line 1 of the metrics page has an unfinished label"),
            ("a{b=\"c\"}", "line 1 of the metrics page has no value"),
            ("a one", "line 1 of the metrics page has a value that is no number"),
            ("{b=\"c\"} 1", "line 1 of the metrics page has no name"),
        ] {
            let error = samples(text).find_map(Result::err).unwrap();
            assert_eq!(error.to_string(), problem, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[a-z{}=\",\\\\ \n0-9#é]{0,60}") {
            for sample in samples(&text) {
                let _ = sample;
            }
        }
    }
}
