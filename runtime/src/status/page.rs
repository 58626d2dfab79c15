//! The page with the figures of one moment in it: all of them for a browser without JavaScript.

use std::fmt::Write as _;

use super::Status;
use crate::{metrics::PathSnapshot, report::chart::escape};

/// The page; `{{names}}` are filled in.
const TEMPLATE: &str = include_str!("assets/status.html");

pub(super) fn html(status: &Status<'_>) -> String {
    let snapshot = &status.snapshot;
    let models = snapshot.models.iter();
    let models: Vec<String> =
        models.map(|model| format!("{} version {}", model.name, model.version)).collect();
    let (state, class) = if status.ready { ("Ready", "good") } else { ("Not ready", "bad") };
    let server = format!("mprec {} · up {:.0} s", snapshot.version, snapshot.uptime_s);
    let mut page = String::with_capacity(TEMPLATE.len() + 8192);
    let mut rest = TEMPLATE;
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, after) = after.split_once("}}").unwrap_or((after, ""));
        page.push_str(before);
        match name {
            "model" => page.push_str(&escape(&models.join(", "))),
            "state" => page.push_str(state),
            "state-class" => page.push_str(class),
            "server" => page.push_str(&escape(&server)),
            "summary" => summary(status, &mut page),
            other => unreachable!("the template has no `{other}`; a test fills it in"),
        }
        rest = after;
    }
    page.push_str(rest);
    page
}

fn summary(status: &Status<'_>, page: &mut String) {
    let snapshot = &status.snapshot;
    let sla = snapshot.slas_ms.first().copied().unwrap_or_default();
    let within = |path: &PathSnapshot, share: f64| {
        let bound = quantile_bound(&snapshot.edges_ms, &path.latency, share);
        bound.map_or("–".to_owned(), |edge| format!("≤ {edge}"))
    };
    let paths = snapshot.paths.iter().map(|path| {
        let answered = path.in_time + path.late;
        let in_time = (answered > 0).then(|| 100.0 * path.in_time as f64 / answered as f64);
        let health = match path.up {
            Some(true) => "up",
            Some(false) => "down",
            None => "unknown",
        };
        vec![
            path.name.clone(),
            health.to_owned(),
            answered.to_string(),
            in_time.map_or("–".to_owned(), |percent| format!("{percent:.2} %")),
            within(path, 0.5),
            within(path, 0.99),
            format!("{:.0}", path.correct_in_time),
            format!("{:.4}", path.accuracy),
            path.queued.to_string(),
        ]
    });
    let headings = [
        "Path",
        "Health",
        "Answered",
        "In time",
        "p50, ms",
        "p99, ms",
        "Correct in time",
        "Accuracy",
        "Waiting",
    ];
    table(page, &format!("Paths; the SLA is {sla} ms"), &headings, paths);
    let refused = snapshot
        .refused
        .iter()
        .map(|(reason, count)| vec![reason.replace('_', " "), count.to_string()]);
    table(page, "Queries refused", &["Reason", "Count"], refused);
    let recent = snapshot.recent.iter().map(|refusal| {
        let (reason, message) = (refusal.reason.replace('_', " "), refusal.message.clone());
        vec![format!("{:.0} s", refusal.age_s), reason, message]
    });
    table(page, "The latest refusals", &["Ago", "Reason", "What the client was told"], recent);
    let settings = status.settings.iter().map(|(key, value)| vec![key.clone(), value.clone()]);
    table(page, "Settings in force, with secrets hidden", &["Key", "Value"], settings);
}

/// The edge of the bucket that this share of the observations is within; `None` of none, or above all edges.
fn quantile_bound(edges: &[f64], cumulative: &[u64], share: f64) -> Option<f64> {
    let total = *cumulative.last().filter(|&&total| total > 0)?;
    let at = cumulative.iter().position(|&count| count as f64 >= share * total as f64)?;
    edges.get(at).copied()
}

fn table(
    page: &mut String,
    caption: &str,
    headings: &[&str],
    rows: impl Iterator<Item = Vec<String>>,
) {
    // Writing to a string cannot fail, here and below.
    let caption = escape(caption);
    let _ = write!(
        page,
        "<section><div class=\"scroll\" role=\"region\" aria-label=\"{caption}\" tabindex=\"0\"><table>\
         <caption>{caption}</caption><thead><tr>"
    );
    for heading in headings {
        let _ = write!(page, "<th scope=\"col\">{}</th>", escape(heading));
    }
    page.push_str("</tr></thead><tbody>");
    for row in rows {
        page.push_str("<tr>");
        for (at, cell) in row.iter().enumerate() {
            let cell = escape(cell);
            let _ = match at {
                0 => write!(page, "<th scope=\"row\">{cell}</th>"),
                _ => write!(page, "<td>{cell}</td>"),
            };
        }
        page.push_str("</tr>");
    }
    page.push_str("</tbody></table></div></section>\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_is_the_edge_of_the_bucket() {
        let edges = [1.0, 2.0, 5.0];
        assert_eq!(quantile_bound(&edges, &[0, 50, 100, 100], 0.5), Some(2.0));
        assert_eq!(quantile_bound(&edges, &[0, 50, 98, 100], 0.99), None, "above the last edge");
        assert_eq!(quantile_bound(&edges, &[0, 0, 0, 0], 0.5), None);
        assert_eq!(quantile_bound(&[], &[], 0.5), None);
    }
}
