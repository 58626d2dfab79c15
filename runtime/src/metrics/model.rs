//! What is counted by version of a model: the figures that Triton's metrics have.

use std::{
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use super::instrument::{Counter, CounterBy, Gauge, Label};
use crate::{endpoint::ErrorCode, service::Answer};

/// Most versions of models with counts of their own, more than a server usually holds at once. One that loads more forgets
/// the one that was not asked for the longest, so that the page does not grow with every version.
const MOST_MODELS: usize = 1_024;

/// Why a query of a model got no answer, in Triton's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    Rejected,
    Canceled,
    Backend,
    Other,
}

impl Label for Failure {
    const NAMES: &'static [&'static str] = &["REJECTED", "CANCELED", "BACKEND", "OTHER"];

    fn index(self) -> usize {
        self as usize
    }
}

impl From<ErrorCode> for Failure {
    fn from(code: ErrorCode) -> Self {
        match code {
            ErrorCode::PathFailed => Self::Backend,
            ErrorCode::WeightsUnsupported => Self::Rejected,
            code if code.is_refusal() => Self::Rejected,
            _ => Self::Other,
        }
    }
}

/// The metrics of one version of one model. Times are in microseconds.
#[derive(Debug)]
pub struct ModelMetrics {
    pub(super) name: String,
    pub(super) version: String,
    /// When it was last asked for, by [`Models::asked`].
    asked: AtomicU64,
    pub(super) success: Counter,
    pub(super) failure: CounterBy<Failure>,
    pub(super) request: Counter,
    pub(super) input: Counter,
    pub(super) queue: Counter,
    pub(super) infer: Counter,
    pub(super) output: Counter,
    pub(super) is_observed: AtomicBool,
    pub(super) pending: Gauge,
    pub(super) executions: Counter,
    pub(super) inferences: Counter,
}

/// What the engine says of a version of a model at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ModelObservation {
    /// Queries that wait.
    pub queued: usize,
    /// Batches run since the start.
    pub batches: u64,
    /// Samples in those batches.
    pub batch_samples: u64,
}

/// Counts one query of a model when it is dropped. Until something else is known it has been cancelled:
/// when a client leaves, whoever waits for its query is dropped.
#[derive(Debug)]
pub struct QueryInModel {
    model: Arc<ModelMetrics>,
    arrival: Instant,
    parsed: Instant,
    end: Result<(), Failure>,
}

impl ModelMetrics {
    fn new(name: &str, version: &str) -> Self {
        Self {
            name: name.to_owned(),
            version: version.to_owned(),
            asked: AtomicU64::new(0),
            success: Counter::default(),
            failure: CounterBy::default(),
            request: Counter::default(),
            input: Counter::default(),
            queue: Counter::default(),
            infer: Counter::default(),
            output: Counter::default(),
            is_observed: AtomicBool::new(false),
            pending: Gauge::default(),
            executions: Counter::default(),
            inferences: Counter::default(),
        }
    }

    /// Begins to count a query that arrived at `arrival` and has been parsed by now.
    pub fn query(self: Arc<Self>, arrival: Instant) -> QueryInModel {
        QueryInModel { model: self, arrival, parsed: Instant::now(), end: Err(Failure::Canceled) }
    }

    /// Takes down what the engine says of it now.
    pub fn observe(&self, observation: &ModelObservation) {
        self.is_observed.store(true, Relaxed);
        self.pending.set(i64::try_from(observation.queued).unwrap_or(i64::MAX));
        self.executions.reach(observation.batches);
        self.inferences.reach(observation.batch_samples);
    }
}

impl QueryInModel {
    /// It ends with this error.
    pub fn fail(&mut self, code: ErrorCode) {
        self.end = Err(code.into());
    }

    /// It was answered, and the reply is rendered.
    ///
    /// Its time is told apart as Triton does: parsing, waiting, the batch, and what came after.
    pub fn answer(&mut self, answer: &Answer) {
        let model = &self.model;
        let total = self.arrival.elapsed();
        let input = self.parsed.saturating_duration_since(self.arrival).min(answer.queue);
        let output = total.saturating_sub(answer.queue).saturating_sub(answer.compute);
        let micros = |span: Duration| u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        model.request.add(micros(total));
        model.input.add(micros(input));
        model.queue.add(micros(answer.queue - input));
        model.infer.add(micros(answer.compute));
        model.output.add(micros(output));
        self.end = Ok(());
    }
}

impl Drop for QueryInModel {
    fn drop(&mut self) {
        match self.end {
            Ok(()) => self.model.success.add_one(),
            Err(failure) => self.model.failure.of(failure).add_one(),
        }
    }
}

/// Every version of every model that was served lately.
#[derive(Debug, Default)]
pub(super) struct Models {
    all: RwLock<Vec<Arc<ModelMetrics>>>,
    asked: AtomicU64,
}

impl Models {
    pub(super) fn of(&self, name: &str, version: &str) -> Arc<ModelMetrics> {
        let asked = self.asked.fetch_add(1, Relaxed);
        let is_it = |model: &&Arc<ModelMetrics>| model.version == version && model.name == name;
        if let Some(found) = self.each().iter().find(is_it) {
            found.asked.store(asked, Relaxed);
            return Arc::clone(found);
        }
        let mut all = self.all.write().unwrap_or_else(PoisonError::into_inner);
        // Another thread may have added it between the locks.
        if let Some(found) = all.iter().find(is_it) {
            return Arc::clone(found);
        }
        let oldest = (0..all.len()).min_by_key(|&at| all[at].asked.load(Relaxed));
        if let Some(at) = oldest.filter(|_| all.len() >= MOST_MODELS) {
            all.remove(at);
        }
        let model = Arc::new(ModelMetrics::new(name, version));
        model.asked.store(asked, Relaxed);
        all.push(Arc::clone(&model));
        model
    }

    pub(super) fn each(&self) -> std::sync::RwLockReadGuard<'_, Vec<Arc<ModelMetrics>>> {
        self.all.read().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_that_was_not_asked_for_the_longest_is_forgotten() {
        let models = Models::default();
        let first = models.of("ctr", "0");
        for version in 1..MOST_MODELS {
            models.of("ctr", &version.to_string());
        }
        assert!(Arc::ptr_eq(&first, &models.of("ctr", "0")), "all have their place");
        models.of("other", "0");
        let all = models.each();
        assert_eq!(all.len(), MOST_MODELS);
        assert!(all.iter().any(|model| model.name == "ctr" && model.version == "0"));
        assert!(!all.iter().any(|model| model.name == "ctr" && model.version == "1"));
    }

    #[test]
    fn a_query_is_counted_once_however_it_ends() {
        let models = Models::default();
        let model = models.of("ctr", "1");
        drop(Arc::clone(&model).query(Instant::now()));
        for code in [ErrorCode::Overloaded, ErrorCode::PathFailed, ErrorCode::Internal] {
            Arc::clone(&model).query(Instant::now()).fail(code);
        }
        let arrival = Instant::now() - Duration::from_millis(9);
        let mut query = Arc::clone(&model).query(arrival);
        query.fail(ErrorCode::Internal);
        query.answer(&Answer {
            scores: vec![],
            path: "table@cpu".into(),
            variant: "table".into(),
            version: "1".into(),
            quality: 0.75,
            downgraded: false,
            queue: Duration::from_millis(2),
            compute: Duration::from_millis(3),
            predicted: Duration::from_millis(4),
            batch_samples: 4,
        });
        drop(query);
        let failures: Vec<u64> = model.failure.each().map(|(_, counter)| counter.get()).collect();
        assert_eq!((model.success.get(), failures.as_slice()), (1, [1, 1, 1, 1].as_slice()));
        let parts = [&model.input, &model.queue, &model.infer, &model.output];
        let sum: u64 = parts.into_iter().map(Counter::get).sum();
        let request = model.request.get();
        assert!(request >= 9_000 && request.abs_diff(sum) <= 4, "{request} µs are {sum} µs");
        assert_eq!(model.infer.get(), 3_000);
    }
}
