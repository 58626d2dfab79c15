//! Charts as inline SVG: no script, no fonts, no network.
//!
//! Colours are classes that the page's style sheet defines, so that a chart follows its theme.

use std::fmt::Write as _;

/// Width of every chart in SVG units; the page scales it.
const WIDTH: f64 = 760.0;

/// One bar of [`bars`].
#[derive(Debug, Clone)]
pub struct Bar {
    /// What it stands for.
    pub label: String,
    /// Its length.
    pub value: f64,
    /// The value as written beside it.
    pub text: String,
    /// Whether it stands out.
    pub strong: bool,
}

/// One line of [`lines`].
#[derive(Debug, Clone)]
pub struct Line {
    /// What it stands for.
    pub label: String,
    /// Points in order of x.
    pub points: Vec<(f64, f64)>,
    /// Whether it stands out.
    pub strong: bool,
}

/// One layer of [`layers`].
#[derive(Debug, Clone)]
pub struct Layer {
    /// What it stands for.
    pub label: String,
    /// One value per column.
    pub values: Vec<f64>,
    /// Which colour: the same for the same thing in every chart of a page.
    pub colour: usize,
}

/// Text with the characters that mean something to HTML replaced.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '"' => escaped.push_str("&quot;"),
            _ => escaped.push(character),
        }
    }
    escaped
}

/// Horizontal bars from zero.
pub fn bars(title: &str, bars: &[Bar]) -> String {
    const ROW: f64 = 28.0;
    // Seven units hold a character of a label on average.
    let longest = bars.iter().map(|bar| bar.label.chars().count()).max().unwrap_or(0);
    let (left, right) = ((7.0 * longest as f64 + 16.0).clamp(150.0, 320.0), 190.0);
    let height = ROW * bars.len() as f64 + 8.0;
    let longest = bars.iter().map(|bar| bar.value).fold(f64::MIN_POSITIVE, f64::max);
    let mut svg = open(title, height);
    for (at, bar) in bars.iter().enumerate() {
        let y = 4.0 + ROW * at as f64;
        let width = (WIDTH - left - right) * (bar.value / longest).max(0.0);
        let class = if bar.strong { "strong" } else { "plain" };
        let _ = write!(
            svg,
            r#"<text x="{:.1}" y="{:.1}" class="end">{}</text><rect x="{left}" y="{:.1}" width="{width:.1}" height="{:.1}" rx="2" class="bar {class}"/><text x="{:.1}" y="{:.1}">{}</text>"#,
            left - 8.0,
            y + 18.0,
            escape(&bar.label),
            y + 4.0,
            ROW - 8.0,
            left + width + 8.0,
            y + 18.0,
            escape(&bar.text),
        );
    }
    svg + "</svg>"
}

/// Lines over a logarithmic x axis, with a vertical mark.
pub fn lines(title: &str, x_unit: &str, mark: (f64, &str), lines: &[Line]) -> String {
    const HEIGHT: f64 = 330.0;
    let (left, right, top, bottom) = (48.0, 168.0, 12.0, 34.0);
    let xs = || lines.iter().flat_map(|line| &line.points).map(|point| point.0);
    let low = xs().chain([mark.0]).fold(f64::INFINITY, f64::min).max(1e-3) * 0.9;
    let high = xs().chain([mark.0]).fold(low * 2.0, f64::max) * 1.1;
    let x = |value: f64| {
        left + (WIDTH - left - right) * (value.max(low) / low).ln() / (high / low).ln()
    };
    let y = |value: f64| top + (HEIGHT - top - bottom) * (1.0 - value);
    let mut svg = open(title, HEIGHT);
    for share in [0.0, 0.25, 0.5, 0.75, 1.0] {
        let _ = write!(
            svg,
            r#"<line x1="{left}" x2="{:.1}" y1="{:.1}" y2="{:.1}" class="grid"/><text x="{:.1}" y="{:.1}" class="end small">{:.0}%</text>"#,
            WIDTH - right,
            y(share),
            y(share),
            left - 6.0,
            y(share) + 4.0,
            share * 100.0
        );
    }
    for tick in ticks(low, high) {
        let _ = write!(
            svg,
            r#"<line x1="{0:.1}" x2="{0:.1}" y1="{1:.1}" y2="{2:.1}" class="grid"/><text x="{0:.1}" y="{3:.1}" class="middle small">{4}</text>"#,
            x(tick),
            top,
            HEIGHT - bottom,
            HEIGHT - bottom + 16.0,
            tick
        );
    }
    let _ = write!(
        svg,
        r#"<text x="{0:.1}" y="{1:.1}" class="end small">{2}</text><line x1="{3:.1}" x2="{3:.1}" y1="{top}" y2="{4:.1}" class="mark"/><text x="{5:.1}" y="{6:.1}" class="small">{7}</text>"#,
        WIDTH - right,
        HEIGHT - 4.0,
        escape(x_unit),
        x(mark.0),
        HEIGHT - bottom,
        x(mark.0) + 4.0,
        top + 10.0,
        escape(mark.1)
    );
    for (at, line) in lines.iter().enumerate() {
        let points: Vec<String> =
            line.points.iter().map(|&(px, py)| format!("{:.1},{:.1}", x(px), y(py))).collect();
        let weight = if line.strong { " heavy" } else { "" };
        let _ = write!(
            svg,
            r#"<polyline points="{}" class="line c{}{weight}"><title>{}</title></polyline>"#,
            points.join(" "),
            at % COLOURS,
            escape(&line.label)
        );
        legend(&mut svg, at, at, &line.label, WIDTH - right + 12.0);
    }
    svg + "</svg>"
}

/// Stacked shares of each column, over time.
pub fn layers(title: &str, seconds: f64, layers: &[Layer]) -> String {
    let ticks = [0.0, 0.25, 0.5, 0.75, 1.0].map(|at| (at, format!("{:.1} s", seconds * at)));
    stacked(title, &ticks, 0.0, layers)
}

/// Stacked shares of columns that stand apart, each with a label under it.
pub fn columns(title: &str, labels: &[String], layers: &[Layer]) -> String {
    let middle = |at: usize| (at as f64 + 0.5) / labels.len() as f64;
    let ticks: Vec<(f64, String)> =
        labels.iter().enumerate().map(|(at, label)| (middle(at), label.clone())).collect();
    stacked(title, &ticks, 0.25, layers)
}

/// `ticks` are places along the axis, from 0 to 1, with their labels; `apart` is the share of a column's width that
/// stays empty.
fn stacked(title: &str, ticks: &[(f64, String)], apart: f64, layers: &[Layer]) -> String {
    const HEIGHT: f64 = 230.0;
    let (left, right, top, bottom) = (48.0, 168.0, 8.0, 30.0);
    let columns = layers.iter().map(|layer| layer.values.len()).max().unwrap_or(0);
    let total =
        |column: usize| layers.iter().filter_map(|layer| layer.values.get(column)).sum::<f64>();
    let highest = (0..columns).map(total).fold(f64::MIN_POSITIVE, f64::max);
    let width = (WIDTH - left - right) / columns.max(1) as f64;
    let scale = (HEIGHT - top - bottom) / highest;
    let mut svg = open(title, HEIGHT);
    let mut base = vec![0.0; columns];
    for (at, layer) in layers.iter().enumerate() {
        for (column, &value) in layer.values.iter().enumerate().filter(|(_, value)| **value > 0.0) {
            let _ = write!(
                svg,
                r#"<rect x="{:.1}" y="{:.1}" width="{:.2}" height="{:.1}" class="fill c{}"/>"#,
                left + width * (column as f64 + 0.5 * apart),
                HEIGHT - bottom - scale * (base[column] + value),
                // Columns that touch overlap a little, so that no gap shines through.
                if apart > 0.0 { width * (1.0 - apart) } else { width + 0.2 },
                scale * value,
                layer.colour % COLOURS
            );
            base[column] += value;
        }
        legend(&mut svg, at, layer.colour, &layer.label, WIDTH - right + 12.0);
    }
    for (at, label) in ticks {
        let _ = write!(
            svg,
            r#"<text x="{:.1}" y="{:.1}" class="middle small">{}</text>"#,
            left + (WIDTH - left - right) * at,
            HEIGHT - bottom + 16.0,
            escape(label)
        );
    }
    svg + "</svg>"
}

/// Colours that the style sheet tells apart.
const COLOURS: usize = 9;

fn open(title: &str, height: f64) -> String {
    format!(
        r#"<svg viewBox="0 0 {WIDTH} {height:.0}" role="img" aria-label="{0}"><title>{0}</title>"#,
        escape(title)
    )
}

fn legend(svg: &mut String, at: usize, colour: usize, label: &str, x: f64) {
    let y = 16.0 + 20.0 * at as f64;
    let _ = write!(
        svg,
        r#"<rect x="{x:.1}" y="{:.1}" width="12" height="12" rx="2" class="fill c{}"/><text x="{:.1}" y="{:.1}" class="small">{}</text>"#,
        y - 10.0,
        colour % COLOURS,
        x + 18.0,
        y,
        escape(label)
    );
}

/// 1, 2 and 5 times powers of ten between two positive numbers.
fn ticks(low: f64, high: f64) -> Vec<f64> {
    let first = low.log10().floor() as i32;
    (first..=high.log10().ceil() as i32)
        .flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10_f64.powi(power)))
        // Powers of ten below one are not exact; what is printed should be.
        .map(|tick| (tick * 1e6).round() / 1e6)
        .filter(|tick| (low..=high).contains(tick))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_cannot_break_out_of_the_page() {
        let label = "<script>\"&".to_owned();
        let bar = Bar { label, value: 1.0, text: "<b>".into(), strong: true };
        let svg = bars("<t>", &[bar]);
        assert!(svg.contains("&lt;script&gt;&quot;&amp;") && !svg.contains("<script"));
        assert!(!svg.contains("<b>") && !svg.contains("<t>"));
    }

    #[test]
    fn empty_charts_have_finite_coordinates() {
        let line = lines("l", "ms", (10.0, "SLA"), &[]);
        for svg in [bars("b", &[]), line, layers("a", 1.0, &[]), columns("c", &[], &[])] {
            assert!(
                svg.ends_with("</svg>") && !svg.contains("NaN") && !svg.contains("inf"),
                "{svg}"
            );
        }
    }

    #[test]
    fn ticks_are_round_and_within() {
        assert_eq!(ticks(0.4, 12.0), [0.5, 1.0, 2.0, 5.0, 10.0]);
    }
}
