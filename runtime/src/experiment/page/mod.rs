//! The report as a page: one file that needs nothing but a browser.

mod headline;
mod setting;

use super::{
    plan::Sweep,
    report::{ExperimentReport, SettingReport},
    setting::Capacity,
};
use crate::report::Page;

/// The whole page.
pub fn render(report: &ExperimentReport) -> String {
    let mut page = Page::new(
        "mprec experiment mp-rec",
        &format!(
            "Every policy on the machines of the MP-Rec paper: {} loads of {} queries each, sizes {}, Poisson arrivals, seed {}",
            report.points.len(),
            report.queries,
            report.sizes,
            report.seed
        ),
    );
    page.warning(
        "Every goodput, latency and share on this page is simulated. The service times behind them are modelled from data \
         sheets or measured, as each caption says; no figure is a measurement of a served system.",
    );
    headline::render(&mut page, report);
    let links: Vec<(String, String)> = report
        .settings
        .iter()
        .enumerate()
        .map(|(at, setting)| (anchor(at), name(setting)))
        .collect();
    page.heading("Machines and models");
    page.contents(&links);
    for at in 0..report.settings.len() {
        setting::render(&mut page, report, at);
    }
    headline::failing(&mut page, report);
    sources(&mut page, report);
    page.render()
}

/// The id of a setting's section.
fn anchor(setting: usize) -> String {
    format!("setting-{setting}")
}

/// A setting in a few words.
fn name(setting: &SettingReport) -> String {
    format!("{}: {}", short_name(setting), setting.about)
}

/// A setting in a table.
fn short_name(setting: &SettingReport) -> String {
    format!("{} {}, {} quality", setting.machine, setting.model, setting.scenario.word())
}

/// The unit of load of a grid.
fn capacity(setting: &SettingReport, sweep: Sweep) -> &Capacity {
    if sweep == Sweep::Cheapest { &setting.cheapest } else { &setting.accurate }
}

/// The same in words.
fn unit(setting: &SettingReport, sweep: Sweep) -> String {
    let capacity = capacity(setting, sweep);
    format!("{} alone, {} samples/s", capacity.path, thousands(capacity.samples_per_s))
}

fn sources(page: &mut Page, report: &ExperimentReport) {
    page.heading("Where figures come from");
    page.paragraph(
        "Service times that are modelled follow a roofline (Williams, Waterman and Patterson, CACM 52(4), 2009): launch + link + \
         the sum over stages of the slower of traffic and arithmetic, with bandwidths and peaks of data sheets times the \
         efficiencies stated below, which are assumptions. Bytes and operations are counted from the shapes of the published models, with \
         a DHE of 2048 hashes and layers of 512 and 256, the configuration that the paper used most likely.",
    );
    let rows: Vec<Vec<String>> = report
        .hardware
        .devices
        .iter()
        .map(|device| {
            vec![
                device.name.clone(),
                format!("{}", device.memory_gb_per_s),
                format!("{}", device.f32_tflops),
                format!("{} / {}", device.stream_efficiency, device.random_efficiency),
                format!("{}", device.compute_efficiency),
                format!("{}", device.launch_us),
                device.link_gb_per_s.map_or("-".into(), |link| format!("{link}")),
                device.workers.to_string(),
                device.source.clone(),
            ]
        })
        .collect();
    page.table(
        &[
            "device",
            "GB/s",
            "f32 TFLOP/s",
            "streams / rows",
            "products",
            "launch µs",
            "link GB/s",
            "workers",
            "source",
        ],
        &rows,
        |_| false,
    );
    page.paragraph(
        "Quality: the declared accuracies are recalled for the paper and unverified; only the gaps between hybrid and table are backed by its \
         abstract. Measured accuracies are those that a bundle records. The two are never in one simulation.",
    );
}

/// `1,234,567`, rounded.
fn thousands(value: f64) -> String {
    indicatif::HumanCount(value.max(0.0).round() as u64).to_string()
}

/// `12.3 %` of a share.
fn percent(share: f64) -> String {
    format!("{:.2} %", 100.0 * share)
}
