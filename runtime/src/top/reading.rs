//! One look at a server's metrics: counters since its start, gauges of the moment.

use std::collections::BTreeMap;

use super::page::{PageError, Sample, samples};

/// The most paths that are taken from a page. A server has at most 64, and `other`.
const MOST_PATHS: usize = 256;

/// What a metrics page says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reading {
    /// The server's version.
    pub version: String,
    /// By name; also what answered under another name, as `other`.
    pub paths: BTreeMap<String, PathReading>,
    /// Queries refused, for whatever reason.
    pub refused: f64,
    /// Queries whose client left.
    pub cancelled: f64,
    /// Requests under way.
    pub in_flight: f64,
    /// Whether decisions are recorded; `None` without a log.
    pub is_recording: Option<bool>,
}

/// One path's part.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PathReading {
    /// Whether it can be given work; `None` for what is no path of the server.
    pub is_up: Option<bool>,
    /// Expected accuracy.
    pub accuracy: f64,
    /// Workers of its device.
    pub workers: f64,
    /// Queries that wait for it.
    pub queued: f64,
    /// Queries answered in time.
    pub in_time: f64,
    /// Queries answered late.
    pub late: f64,
    /// Of those answered, ones that a better path was passed over for.
    pub downgraded: f64,
    /// Samples scored.
    pub samples: f64,
    /// Expected correct predictions among the samples scored in time.
    pub correct_in_time: f64,
    /// Worker time of its batches.
    pub batch_seconds: f64,
    /// Recent time of a batch over that of the profile.
    pub correction: f64,
    /// Latency histogram: upper edges in seconds, and how many were at most as slow.
    pub latency: Vec<(f64, f64)>,
}

/// A page that is not a server's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadingError {
    /// Not Prometheus text.
    #[error(transparent)]
    Page(#[from] PageError),
    /// Somebody else's metrics.
    #[error("the page has no `mprec_build_info`; is this an mprec server?")]
    Foreign,
    /// More paths than a server has.
    #[error("the page has more than {MOST_PATHS} paths")]
    TooManyPaths,
}

impl Reading {
    /// Reads a page. Metrics that are not known here are skipped.
    ///
    /// # Errors
    ///
    /// [`ReadingError`] if it is not the page of a server.
    pub fn parse(text: &str) -> Result<Self, ReadingError> {
        let mut reading = Self::default();
        let mut is_ours = false;
        for sample in samples(text) {
            let sample = sample?;
            match sample.name {
                "mprec_build_info" => {
                    is_ours = true;
                    reading.version = sample.label("version").unwrap_or("unknown").to_owned();
                }
                "mprec_queries_refused_total" => reading.refused += sample.value,
                "mprec_queries_cancelled_total" => reading.cancelled = sample.value,
                "mprec_requests_in_flight" => reading.in_flight = sample.value,
                "mprec_record_active" => reading.is_recording = Some(sample.value > 0.0),
                _ => reading.take_of_path(&sample)?,
            }
        }
        if !is_ours {
            return Err(ReadingError::Foreign);
        }
        // What is no path, and answered nothing, is the label `other` in waiting.
        reading.paths.retain(|_, path| path.is_up.is_some() || path.in_time + path.late > 0.0);
        Ok(reading)
    }

    fn take_of_path(&mut self, sample: &Sample<'_>) -> Result<(), ReadingError> {
        let Some(name) = sample.label("path") else { return Ok(()) };
        if !self.paths.contains_key(name) {
            if self.paths.len() == MOST_PATHS {
                return Err(ReadingError::TooManyPaths);
            }
            self.paths.insert(name.to_owned(), PathReading::default());
        }
        let Some(path) = self.paths.get_mut(name) else { return Ok(()) };
        let value = sample.value;
        match sample.name {
            "mprec_path_up" => path.is_up = Some(value > 0.0),
            "mprec_path_accuracy_ratio" => path.accuracy = value,
            "mprec_path_workers" => path.workers = value,
            "mprec_path_queued_queries" => path.queued = value,
            "mprec_path_correction_ratio" => path.correction = value,
            "mprec_queries_answered_total" => match sample.label("timing") {
                Some("in_time") => path.in_time = value,
                _ => path.late = value,
            },
            "mprec_queries_downgraded_total" => path.downgraded = value,
            "mprec_samples_total" => path.samples = value,
            "mprec_correct_in_time_total" => path.correct_in_time = value,
            "mprec_batch_seconds_total" => path.batch_seconds = value,
            "mprec_query_latency_seconds_bucket" => {
                if let Some(edge) = sample.label("le").and_then(|edge| edge.parse().ok()) {
                    path.latency.push((edge, value));
                }
            }
            _ => {}
        }
        Ok(())
    }
}
