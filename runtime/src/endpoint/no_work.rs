//! A service for measurements of protocols: it answers at once.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use mprec_representations::{BatchShape, Schema};
use tokio::sync::oneshot;

use super::fake::{SLA, answer};
use crate::service::{Model, Outcome, Refusal, ScoreRequest, Service};

/// Samples of a measured request.
pub(crate) const SAMPLES: usize = 128;
/// Its dense features, those of Criteo.
pub(crate) const DENSE: usize = 13;
/// Its sparse features.
pub(crate) const SPARSE: usize = 26;

/// Answers at once.
pub(crate) struct NoWork(pub(crate) Arc<Model>);

impl Default for NoWork {
    fn default() -> Self {
        let schema = Schema::criteo(&[1_000_000; SPARSE]).unwrap();
        Self(Arc::new(Model {
            name: "ctr".into(),
            version: "1".into(),
            shape: BatchShape::new(&schema),
            schema,
            max_samples: 4096,
            sla: SLA,
            paths: BTreeMap::new(),
            preprocessor: None,
        }))
    }
}

impl NoWork {
    /// Dense values and ids of a request.
    pub(crate) fn tensors(samples: usize) -> (Vec<f32>, Vec<i64>) {
        let dense = (0..samples * DENSE).map(|at| (at as f32 * 0.37).sin() * 5.0).collect();
        let sparse = (0..samples * SPARSE).map(|at| at as i64 * 7919 % 1_000_000).collect();
        (dense, sparse)
    }
}

impl Service for NoWork {
    fn models(&self) -> Vec<Arc<Model>> {
        vec![Arc::clone(&self.0)]
    }

    fn model(&self, name: &str) -> Option<Arc<Model>> {
        (name == self.0.name).then(|| Arc::clone(&self.0))
    }

    fn is_ready(&self) -> bool {
        true
    }

    fn submit(
        &self,
        _model: &Arc<Model>,
        request: ScoreRequest,
    ) -> Result<oneshot::Receiver<Outcome>, Refusal> {
        let (sender, receiver) = oneshot::channel();
        drop(sender.send(Ok(answer(vec![0.123_456; request.batch.samples()]))));
        Ok(receiver)
    }
}

pub(crate) fn report(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |share: f64| times[(times.len() as f64 * share) as usize].as_nanos() as f64 / 1e3;
    let (p50, p95, p99) = (at(0.5), at(0.95), at(0.99));
    eprintln!("{what:<44} p50 {p50:7.1} µs  p95 {p95:7.1} µs  p99 {p99:7.1} µs");
}
