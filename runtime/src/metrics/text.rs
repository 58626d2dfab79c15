//! Prometheus text (exposition format 0.0.4).

use std::fmt::Write as _;

use super::instrument::{CounterBy, Histogram, Label};

/// Prometheus text (exposition format 0.0.4) being written.
#[derive(Debug, Default)]
pub(super) struct Page(String);

impl Page {
    pub(super) fn finish(self) -> String {
        self.0
    }

    /// Starts a metric: every line that follows, up to the next start, is of it.
    pub(super) fn start(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string cannot fail, here and below.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// A metric of one value without labels.
    pub(super) fn single(&mut self, name: &str, kind: &str, help: &str, value: impl ToString) {
        self.start(name, kind, help);
        self.value(name, &[], value);
    }

    pub(super) fn value(&mut self, name: &str, labels: &[(&str, &str)], value: impl ToString) {
        self.0.push_str(name);
        self.labels(labels, None);
        let _ = writeln!(self.0, " {}", value.to_string());
    }

    pub(super) fn counter_by<L: Label>(
        &mut self,
        name: &str,
        label: &str,
        counters: &CounterBy<L>,
    ) {
        for (value, counter) in counters.each() {
            self.value(name, &[(label, value)], counter.get());
        }
    }

    pub(super) fn histogram(&mut self, name: &str, labels: &[(&str, &str)], from: &Histogram) {
        let mut total = 0;
        for (edge, up_to_it) in from.cumulative() {
            total = up_to_it;
            let edge = if edge.is_finite() { edge.to_string() } else { "+Inf".to_owned() };
            let _ = write!(self.0, "{name}_bucket");
            self.labels(labels, Some(&edge));
            let _ = writeln!(self.0, " {total}");
        }
        self.value(&format!("{name}_sum"), labels, from.sum());
        // The count must equal the last bucket even while others record.
        self.value(&format!("{name}_count"), labels, total);
    }

    fn labels(&mut self, labels: &[(&str, &str)], edge: Option<&str>) {
        let pairs = labels.iter().copied().chain(edge.map(|edge| ("le", edge)));
        for (at, (label, value)) in pairs.clone().enumerate() {
            self.0.push(if at == 0 { '{' } else { ',' });
            let _ = write!(self.0, "{label}=\"");
            for letter in value.chars() {
                match letter {
                    '\\' => self.0.push_str("\\\\"),
                    '"' => self.0.push_str("\\\""),
                    '\n' => self.0.push_str("\\n"),
                    other => self.0.push(other),
                }
            }
            self.0.push('"');
        }
        if pairs.count() > 0 {
            self.0.push('}');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_observation_on_an_edge_belongs_below_it() {
        let histogram = Histogram::new(&[0.02, 0.01, 0.02]);
        for value in [0.01, 0.010_001, 0.02, 0.5] {
            histogram.observe(value);
        }
        let mut page = Page::default();
        page.histogram("x", &[("path", "a\"b")], &histogram);
        let text = page.finish();
        for line in [
            "x_bucket{path=\"a\\\"b\",le=\"0.01\"} 1",
            "x_bucket{path=\"a\\\"b\",le=\"0.02\"} 3",
            "x_bucket{path=\"a\\\"b\",le=\"+Inf\"} 4",
            "x_sum{path=\"a\\\"b\"} 0.540001",
            "x_count{path=\"a\\\"b\"} 4",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
    }
}
