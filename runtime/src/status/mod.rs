//! The status page: what a person sees who opens the server in a browser.
//!
//! | Path | |
//! |---|---|
//! | `/` | the page, with the figures of its moment for browsers without JavaScript |
//! | `/status.css`, `/status.js` | its style, and the script that fetches and draws the figures each second |
//! | `/status.json` | the figures: [`Status`] |
//!
//! Everything is in the binary and nothing is loaded from elsewhere; the headers forbid it. However many
//! look, each of the two is made four times a second at most, which locks the engine once for each path's
//! counters, as a scrape of `/metrics` does. What a page can hold is bounded by the number of paths.

mod page;
#[cfg(test)]
mod tests;

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use hyper::body::Bytes;
use serde::Serialize;

use crate::{endpoint::Endpoint, metrics::Snapshot, service::Service};

/// Figures are shown again within this time instead of being taken anew.
const FRESH: Duration = Duration::from_millis(250);

/// Most settings that are shown, and the most characters of each.
const MOST_SETTINGS: usize = 500;
const MOST_CHARACTERS: usize = 400;

/// What may be loaded: nothing but the page's own files, from here. Its icon is part of it.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
    require-trusted-types-for 'script'";

/// A file of the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asset {
    /// The page itself.
    Page,
    /// The figures.
    Figures,
    /// The style.
    Style,
    /// The script.
    Script,
}

impl Asset {
    /// The file of this name.
    pub fn of(name: &str) -> Option<Self> {
        Some(match name {
            "" => Self::Page,
            "status.json" => Self::Figures,
            "status.css" => Self::Style,
            "status.js" => Self::Script,
            _ => return None,
        })
    }

    /// Its media type.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Page => "text/html; charset=utf-8",
            Self::Figures => "application/json",
            Self::Style => "text/css; charset=utf-8",
            Self::Script => "text/javascript; charset=utf-8",
        }
    }
}

/// The figures, and what does not change while the server runs.
#[derive(Debug, Clone, Serialize)]
pub struct Status<'a> {
    /// The figures of this moment.
    #[serde(flatten)]
    pub snapshot: Snapshot,
    /// Whether queries can be answered now.
    pub ready: bool,
    /// The settings in force, as key and value.
    pub settings: &'a [(String, String)],
}

/// The page of one server.
#[derive(Debug, Default)]
pub struct StatusPage {
    settings: Vec<(String, String)>,
    page: Fresh,
    figures: Fresh,
}

/// Bytes that are made anew at most once in [`FRESH`].
#[derive(Debug, Default)]
struct Fresh(Mutex<Option<(Instant, Bytes)>>);

impl Fresh {
    fn get(&self, make: impl FnOnce() -> Vec<u8>) -> Bytes {
        // Who comes while others make them waits for those; nobody else takes this lock.
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, bytes)) = made.as_ref().filter(|(at, _)| at.elapsed() < FRESH) {
            return bytes.clone();
        }
        let bytes = Bytes::from(make());
        *made = Some((Instant::now(), bytes.clone()));
        bytes
    }
}

impl StatusPage {
    /// A page that shows these settings, whose secrets are hidden already; see
    /// [`ConfigFile::settings`](crate::config::ConfigFile::settings).
    pub fn new(settings: Vec<(String, String)>) -> Self {
        let shorten = |(key, mut value): (String, String)| {
            if let Some((at, _)) = value.char_indices().nth(MOST_CHARACTERS) {
                value.truncate(at);
                value.push('…');
            }
            (key, value)
        };
        let settings = settings.into_iter().take(MOST_SETTINGS).map(shorten).collect();
        Self { settings, ..Self::default() }
    }

    /// The bytes of a file of the page.
    pub fn render<S: Service + ?Sized>(&self, asset: Asset, endpoint: &Endpoint<S>) -> Bytes {
        let status = || Status {
            snapshot: endpoint.metrics.snapshot(&*endpoint.service),
            ready: endpoint.is_ready(),
            settings: &self.settings,
        };
        match asset {
            Asset::Style => Bytes::from_static(include_bytes!("assets/status.css")),
            Asset::Script => Bytes::from_static(include_bytes!("assets/status.js")),
            Asset::Page => self.page.get(|| page::html(&status()).into_bytes()),
            Asset::Figures => self.figures.get(|| {
                serde_json::to_vec(&status())
                    .expect("figures have string keys only, and writing to memory cannot fail")
            }),
        }
    }
}
