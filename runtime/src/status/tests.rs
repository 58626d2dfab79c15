use std::{sync::Arc, time::Duration};

use super::*;
use crate::{
    endpoint::{Limits, fake::Fake},
    metrics::Metrics,
    service::{Answer, Refusal},
};

fn endpoint(paths: &[&str]) -> Endpoint<Fake> {
    let service = Arc::new(Fake::new(Default::default()));
    let metrics = Arc::new(Metrics::new("1.2.3", paths, &[Duration::from_millis(17)]));
    Endpoint::new(service, metrics, Limits::default())
}

fn answer(path: &str) -> Answer {
    Answer {
        scores: vec![0.5; 4],
        path: path.into(),
        variant: "table".into(),
        version: "7".into(),
        quality: 0.75,
        downgraded: false,
        queue: Duration::from_micros(300),
        compute: Duration::from_millis(3),
        predicted: Duration::from_millis(4),
        batch_samples: 4,
    }
}

fn text(page: &StatusPage, asset: Asset, endpoint: &Endpoint<Fake>) -> String {
    String::from_utf8(page.render(asset, endpoint).into()).unwrap()
}

#[test]
fn the_page_without_scripts_has_the_figures_and_escapes_them() {
    let endpoint = endpoint(&["<b>@cpu"]);
    endpoint.metrics.model("ctr", "7");
    endpoint.metrics.record_answer(&answer("<b>@cpu"), 4, Duration::from_millis(17), true);
    endpoint.metrics.record_refusal(&Refusal::Unavailable { reason: "<i>" });
    let page = StatusPage::new(vec![("model.name".into(), "<u>".into())]);
    let html = text(&page, Asset::Page, &endpoint);
    for part in [
        "ctr version 7",
        "Ready",
        "mprec 1.2.3",
        "&lt;b&gt;@cpu",
        "the SLA is 17 ms",
        "≤ 17",
        "100.00 %",
        "not available: &lt;i&gt;",
        "&lt;u&gt;",
    ] {
        assert!(html.contains(part), "{part} in {html}");
    }
    assert!(!html.contains("{{") && !html.contains("<b>@") && !html.contains("<u>"), "{html}");
}

#[test]
fn nothing_is_inline_and_nothing_is_loaded_from_elsewhere() {
    let endpoint = endpoint(&["table@cpu"]);
    let page = StatusPage::default();
    let html = text(&page, Asset::Page, &endpoint);
    for forbidden in ["<style", "style=", " onclick", " onload", "javascript:", "<script>"] {
        assert!(!html.contains(forbidden), "{forbidden}");
    }
    let own = html.matches("http://").count() - html.matches("http://www.w3.org/2000/svg").count();
    assert_eq!(
        (own, html.matches("https://").count(), html.matches("src=\"//").count()),
        (0, 0, 0)
    );
    let script = text(&page, Asset::Script, &endpoint);
    for forbidden in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("] {
        assert!(!script.contains(forbidden), "{forbidden}");
    }
    assert!(!text(&page, Asset::Style, &endpoint).contains("url("));
}

#[test]
fn figures_are_taken_anew_only_after_a_while() {
    let endpoint = endpoint(&["table@cpu"]);
    let page = StatusPage::default();
    let first = page.render(Asset::Figures, &endpoint);
    endpoint.metrics.record_answer(&answer("table@cpu"), 4, Duration::from_millis(3), true);
    assert_eq!(page.render(Asset::Figures, &endpoint), first);
    *page.figures.0.lock().unwrap() = None;
    let second: serde_json::Value =
        serde_json::from_slice(&page.render(Asset::Figures, &endpoint)).unwrap();
    assert_eq!(second["paths"][0]["in_time"], 1);
    assert_eq!((&second["ready"], &second["version"]), (&true.into(), &"1.2.3".into()));
}

#[test]
fn figures_stay_small_with_every_path_that_a_server_may_have() {
    let names: Vec<String> =
        (0..mprec_router::MAX_PATHS).map(|at| format!("a-variant-{at}@torch:cuda:0")).collect();
    let endpoint = endpoint(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let setting = ("key".to_owned(), "x".repeat(100_000));
    let page = StatusPage::new(vec![setting; 2 * MOST_SETTINGS]);
    let bytes = page.render(Asset::Figures, &endpoint).len();
    assert!(bytes < 512 << 10, "{bytes} bytes");
}
