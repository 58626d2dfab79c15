//! What people and programs see: progress on stderr, results on stdout.

use std::{
    io::{IsTerminal as _, Write as _},
    time::Duration,
};

use comfy_table::{CellAlignment, Table};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use super::{Failure, Run};

/// Where a command's results and progress go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    json: bool,
    quiet: bool,
}

/// What the numbers of a progress bar count.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Unit {
    Bytes,
    Rows,
    Sets,
    Steps,
    Points,
}

impl Output {
    pub(crate) fn new(json: bool, quiet: bool) -> Self {
        Self { json, quiet }
    }

    /// The same without progress and notes.
    pub(crate) fn quiet(self) -> Self {
        Self { quiet: true, ..self }
    }

    /// Whether the result is to be JSON.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Prints the result: `value` as one JSON object, or `text` for people.
    pub(crate) fn result<T: Serialize>(&self, value: &T, text: impl FnOnce() -> String) -> Run {
        let mut line = if self.json { serde_json::to_string(value)? } else { text() };
        if !line.ends_with('\n') {
            line.push('\n');
        }
        // A reader that has seen enough, such as `head`, closes the pipe; that is no failure.
        match std::io::stdout().lock().write_all(line.as_bytes()) {
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Says on stderr what happens next.
    pub(crate) fn note(&self, text: &str) {
        if !self.quiet {
            // Nothing can be said about a stderr that cannot be written to.
            let _ = writeln!(std::io::stderr(), "{text}");
        }
    }

    /// Says on stderr why the command failed.
    pub(crate) fn error(&self, failure: &Failure) {
        let _ = writeln!(std::io::stderr(), "error: {failure}");
    }

    /// A bar on stderr with rate and time left. Hidden when nobody looks.
    pub(crate) fn bar(&self, what: &str, total: u64, unit: Unit) -> ProgressBar {
        let hidden = self.quiet || !std::io::stderr().is_terminal();
        let target = if hidden {
            ProgressDrawTarget::hidden()
        } else {
            ProgressDrawTarget::stderr_with_hz(8)
        };
        let counts = match unit {
            Unit::Bytes => "{bytes}/{total_bytes} {bytes_per_sec}",
            Unit::Rows => "{human_pos}/{human_len} rows {per_sec}",
            Unit::Sets => "{human_pos}/{human_len} sets {per_sec}",
            Unit::Steps => "{human_pos}/{human_len}",
            Unit::Points => "{human_pos}/{human_len} points {per_sec}",
        };
        let template = format!("{{prefix:18}} [{{bar:28}}] {counts}, {{eta}} left {{wide_msg}}");
        let style = ProgressStyle::with_template(&template)
            .expect("the template has known keys only")
            .progress_chars("=> ");
        let bar = ProgressBar::with_draw_target(Some(total), target).with_style(style);
        bar.set_prefix(what.to_owned());
        bar.enable_steady_tick(Duration::from_millis(250));
        bar
    }
}

/// A table for people: the first column to the left, figures to the right.
pub(crate) fn table<const N: usize>(
    header: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let mut table = Table::new();
    table.load_preset(comfy_table::presets::ASCII_MARKDOWN).set_header(header);
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}

/// Headings of a table of runs, one policy a row, served or simulated.
pub(crate) const RUN_HEADINGS: [&str; 10] = [
    "policy",
    "correct in time/s",
    "accuracy",
    "p50 ms",
    "p95 ms",
    "p99 ms",
    "late",
    "refused",
    "failed",
    "paths",
];

/// A size for people: `2.0 GiB`.
pub(crate) fn bytes(bytes: u64) -> String {
    indicatif::HumanBytes(bytes).to_string()
}

/// A count for people: `1,234,567`.
pub(crate) fn count(count: u64) -> String {
    indicatif::HumanCount(count).to_string()
}
