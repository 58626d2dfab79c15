//! One query from its batch to its scores, however it came in.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use mprec_representations::GroupedBatch;

use super::{
    control::Control,
    error::{ApiError, ErrorCode},
    parameters::RequestParameters,
    statistics::{ModelStatistics, Statistics},
};
use crate::{
    metrics::{Metrics, RequestEnd},
    security::KeyRing,
    service::{Answer, Model, ScoreRequest, Service},
};

/// What bounds a query, whatever its client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Longest deadline that a request may ask for; longer ones become this.
    pub max_sla: Duration,
    /// How long after its deadline a query is still waited for.
    pub patience: Duration,
}

/// What all connections of all protocols share.
#[derive(Debug)]
pub struct Endpoint<S: ?Sized> {
    /// Where requests and answers are counted.
    pub metrics: Arc<Metrics>,
    /// What bounds a query.
    pub limits: Limits,
    /// Set when the server begins to stop.
    stopping: AtomicBool,
    /// What answers.
    pub service: Arc<S>,
    /// Changes what is served, where clients may do that.
    pub control: Option<Arc<dyn Control>>,
    /// One of which a request needs; without any, none does.
    pub(super) keys: Option<Arc<KeyRing>>,
}

/// A query as a protocol read it.
#[derive(Debug)]
pub(crate) struct ScoreQuery {
    pub(crate) batch: GroupedBatch,
    pub(crate) parameters: RequestParameters,
    /// When the request arrived, before it was parsed.
    pub(crate) arrival: Instant,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_sla: Duration::from_secs(600), patience: Duration::from_secs(10) }
    }
}

impl<S: Service + ?Sized> Endpoint<S> {
    /// An endpoint of `service`.
    pub fn new(service: Arc<S>, metrics: Arc<Metrics>, limits: Limits) -> Self {
        Self {
            metrics,
            limits,
            stopping: AtomicBool::new(false),
            service,
            control: None,
            keys: None,
        }
    }

    /// The same, where clients may load and unload models.
    #[must_use]
    pub fn with_control(self, control: Arc<dyn Control>) -> Self {
        Self { control: Some(control), ..self }
    }

    /// The same, where requests need a key.
    #[must_use]
    pub fn with_keys(self, keys: Arc<KeyRing>) -> Self {
        Self { keys: Some(keys), ..self }
    }

    /// From now on it says that it is not ready, and still answers.
    pub fn stop(&self) {
        self.stopping.store(true, Relaxed);
    }

    /// Whether [`Endpoint::stop`] was called.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Relaxed)
    }

    /// Whether queries can be answered now, and for a while yet.
    pub fn is_ready(&self) -> bool {
        !self.is_stopping() && self.service.is_ready()
    }

    /// Whether queries for a model can be answered now, and for a while yet.
    pub fn is_model_ready(&self, model: &Arc<Model>) -> bool {
        !self.is_stopping() && self.service.is_model_ready(model)
    }

    /// The model `name`, if it has `version` or none is asked for.
    ///
    /// # Errors
    ///
    /// [`ApiError::UnknownModel`], [`ApiError::UnknownVersion`], or a refusal while the model is being loaded.
    pub fn model(&self, name: &str, version: Option<&str>) -> Result<Arc<Model>, ApiError> {
        let absent = || match self.service.why_absent(name) {
            Some(refusal) => refusal.into(),
            None => ApiError::UnknownModel { name: name.to_owned() },
        };
        let Some(version) = version else { return self.service.model(name).ok_or_else(absent) };
        self.service.version(name, version).ok_or_else(|| match self.service.model(name) {
            Some(_) => {
                ApiError::UnknownVersion { name: name.to_owned(), version: version.to_owned() }
            }
            None => absent(),
        })
    }

    /// What was done for the model `name`, or for all: a row for each model and each of its paths.
    ///
    /// # Errors
    ///
    /// [`ApiError::UnknownModel`], [`ApiError::UnknownVersion`].
    pub fn statistics(
        &self,
        name: Option<&str>,
        version: Option<&str>,
    ) -> Result<Statistics, ApiError> {
        let models = match name {
            Some(name) => vec![self.model(name, version)?],
            None => self.service.models(),
        };
        let rows = |model: &Arc<Model>| ModelStatistics::of(model, &self.service.work(model));
        Ok(Statistics { model_stats: models.iter().flat_map(rows).collect() })
    }

    /// Counts a request however it ends: also when its client leaves, which drops `work` where it
    /// stands.
    pub(crate) async fn counted<T>(
        &self,
        arrival: Instant,
        work: impl Future<Output = Result<T, ApiError>>,
    ) -> Result<T, ApiError> {
        let mut counted = self.count(arrival);
        let result = work.await;
        counted.end = match &result {
            Ok(_) => RequestEnd::Answered,
            Err(error) => RequestEnd::Error(error.code()),
        };
        result
    }

    /// Counts a request from now on, as cancelled unless its end is set before this is dropped.
    pub(crate) fn count(&self, arrival: Instant) -> Counted<'_> {
        self.metrics.requests_in_flight.add(1);
        Counted { metrics: &self.metrics, arrival, end: RequestEnd::Cancelled }
    }

    /// Scores a query, and has `render` make the reply, whose time counts as the query's.
    ///
    /// # Errors
    ///
    /// The service's refusal, an answer that cannot be sent, or what `render` returns.
    pub(crate) async fn score<T>(
        &self,
        model: &Arc<Model>,
        query: ScoreQuery,
        render: impl FnOnce(&Answer) -> Result<T, ApiError>,
    ) -> Result<T, ApiError> {
        let samples = query.batch.samples();
        let mut counted = self.metrics.model(&model.name, &model.version).query(query.arrival);
        self.metrics.unknown_ids.add(query.batch.unknown_ids() as u64);
        let budget = query.parameters.budget.unwrap_or(model.sla).min(self.limits.max_sla);
        let deadline = query.arrival + budget;
        let request = ScoreRequest {
            batch: query.batch,
            arrival: query.arrival,
            deadline,
            min_quality: query.parameters.min_quality,
            priority: query.parameters.priority,
        };
        let answer =
            self.ask(model, request).await.inspect_err(|error| counted.fail(error.code()))?;
        // Unless it is answered, which is known at the end.
        counted.fail(ErrorCode::Internal);
        if answer.scores.len() != samples {
            return Err(ApiError::Internal { message: "the scores are not one per sample" });
        }
        if !answer.scores.iter().all(|score| score.is_finite()) {
            return Err(ApiError::Internal { message: "a score is not a number" });
        }
        let reply = render(&answer)?;
        let now = Instant::now();
        self.metrics.record_answer(&answer, samples, now - query.arrival, now <= deadline);
        counted.answer(&answer);
        Ok(reply)
    }

    /// Hands the query to the service and waits for its outcome.
    async fn ask(&self, model: &Arc<Model>, request: ScoreRequest) -> Result<Answer, ApiError> {
        let deadline = request.deadline;
        let outcome = match self.service.submit(model, request) {
            Err(refusal) => Err(refusal),
            Ok(receiver) => {
                let mut waiting = Waiting { metrics: &self.metrics, over: false };
                let limit = tokio::time::Instant::from_std(deadline + self.limits.patience);
                let received = tokio::time::timeout_at(limit, receiver).await;
                waiting.over = true;
                match received {
                    Ok(Ok(outcome)) => outcome,
                    Ok(Err(_)) => {
                        return Err(ApiError::Internal { message: "the query was dropped" });
                    }
                    Err(_) => {
                        return Err(ApiError::Internal {
                            message: "the query got no outcome long after its deadline",
                        });
                    }
                }
            }
        };
        outcome.map_err(|refusal| {
            self.metrics.record_refusal(&refusal);
            refusal.into()
        })
    }
}

/// Counts a request when it ends.
pub(crate) struct Counted<'a> {
    metrics: &'a Metrics,
    arrival: Instant,
    pub(crate) end: RequestEnd,
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.metrics.requests_in_flight.add(-1);
        self.metrics.record_request(self.end, self.arrival.elapsed());
    }
}

/// Counts a query whose client leaves while it waits.
struct Waiting<'a> {
    metrics: &'a Metrics,
    over: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if !self.over {
            self.metrics.record_cancelled();
        }
    }
}
