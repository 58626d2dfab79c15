//! Executables that do as they are told, and engines over them.

use std::{
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use mprec_backends::{BackendError, BackendKind, Executable};
use mprec_representations::{Batch, BatchShape, OutOfVocabulary, Schema, SparseFeature};
use mprec_router::{PolicyName, Profiles, QualitySource, ServiceCurve};
use tokio::sync::oneshot;

use crate::{
    config::QueueLimits,
    engine::{Backoff, Engine, EngineOptions},
    paths::{ResidentPath, Revive},
    service::{Model, Outcome, Refusal, ScoreRequest, Service},
};

/// Far longer than anything here takes, also on a busy machine.
pub(super) const LONG: Duration = Duration::from_secs(60);

/// What a fake does with a batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Act {
    /// Scores every sample with its dense value.
    Echo,
    /// The same, but 13 becomes a score that is no number.
    Superstitious,
    /// Scores that are no numbers.
    Nonsense,
    /// Fails as a device does.
    Fail,
    /// Panics.
    Panic,
    /// Says that the batch is not one of its program's.
    Refuse,
}

/// What to do, given the number of the run and the batch.
type ActFn = dyn Fn(usize, &Batch) -> Act + Send + Sync;

/// Decides what happens to each run of a path, and remembers what it ran.
#[derive(Default)]
pub(super) struct Script {
    act: Option<Box<ActFn>>,
    pause: Option<Box<dyn Fn(usize) -> Duration + Send + Sync>>,
    gate: Option<Arc<Gate>>,
    weightless: bool,
    runs: AtomicUsize,
    /// Times that it was prepared anew.
    revived: AtomicUsize,
    seen: Mutex<Vec<f32>>,
}

impl std::fmt::Debug for Script {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Script")
    }
}

impl Script {
    pub(super) fn echo() -> Arc<Self> {
        Arc::default()
    }

    pub(super) fn always(act: Act) -> Arc<Self> {
        Self::acting(move |_, _| act)
    }

    pub(super) fn acting(act: impl Fn(usize, &Batch) -> Act + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { act: Some(Box::new(act)), ..Self::default() })
    }

    /// Echoes batches without weights, and fails others as a whole.
    pub(super) fn weightless(gate: &Arc<Gate>) -> Arc<Self> {
        Arc::new(Self { gate: Some(Arc::clone(gate)), weightless: true, ..Self::default() })
    }

    /// Fails the second run; the others are held at the gate.
    pub(super) fn failing_second(gate: &Arc<Gate>) -> Arc<Self> {
        let gate = Arc::clone(gate);
        Self::acting(move |run, _| {
            if run == 1 {
                return Act::Fail;
            }
            gate.hold();
            Act::Echo
        })
    }

    pub(super) fn gated(gate: &Arc<Gate>) -> Arc<Self> {
        Arc::new(Self { gate: Some(Arc::clone(gate)), ..Self::default() })
    }

    pub(super) fn slow(
        pause: impl Fn(usize) -> Duration + Send + Sync + 'static,
        act: impl Fn(usize, &Batch) -> Act + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self { act: Some(Box::new(act)), pause: Some(Box::new(pause)), ..Self::default() })
    }

    /// Times that it was prepared anew.
    pub(super) fn revived(&self) -> usize {
        self.revived.load(SeqCst)
    }

    /// First dense value of every sample that was run, in order.
    pub(super) fn seen(&self) -> Vec<f32> {
        self.seen.lock().unwrap().clone()
    }
}

/// Holds runs up until it is opened.
#[derive(Debug, Default)]
pub(super) struct Gate {
    state: Mutex<(bool, usize)>,
    changed: Condvar,
}

impl Gate {
    pub(super) fn open(&self) {
        self.state.lock().unwrap().0 = true;
        self.changed.notify_all();
    }

    /// Comes to the gate and waits until it is open.
    pub(super) fn hold(&self) {
        let mut state = self.state.lock().unwrap();
        state.1 += 1;
        self.changed.notify_all();
        while !state.0 {
            state = self.changed.wait(state).unwrap();
        }
    }

    /// Waits until so many runs have come to the gate.
    pub(super) fn await_runs(&self, runs: usize) {
        let state = self.state.lock().unwrap();
        let (_state, waited) =
            self.changed.wait_timeout_while(state, LONG, |state| state.1 < runs).unwrap();
        assert!(!waited.timed_out(), "no worker took the batch");
    }
}

#[derive(Debug)]
struct Fake(Arc<Script>);

impl Executable for Fake {
    fn run(&mut self, batch: &Batch, scores: &mut [f32]) -> Result<(), BackendError> {
        let script = &self.0;
        let run = script.runs.fetch_add(1, SeqCst);
        if let Some(gate) = &script.gate {
            gate.hold();
        }
        if let Some(pause) = &script.pause {
            std::thread::sleep(pause(run));
        }
        if script.weightless && batch.is_weighted() {
            return Err(BackendError::Weighted { file: "theirs.onnx".into() });
        }
        let act = script.act.as_ref().map_or(Act::Echo, |act| act(run, batch));
        match act {
            Act::Echo | Act::Superstitious => {
                script.seen.lock().unwrap().extend_from_slice(batch.dense());
                scores.copy_from_slice(batch.dense());
                if act == Act::Superstitious {
                    scores
                        .iter_mut()
                        .filter(|score| **score == 13.0)
                        .for_each(|score| *score = f32::NAN);
                }
                Ok(())
            }
            Act::Nonsense => {
                scores.fill(f32::NAN);
                Ok(())
            }
            Act::Fail => Err(BackendError::Device {
                backend: BackendKind::Cpu,
                source: "it is on fire".into(),
            }),
            Act::Panic => panic!("a fake panics"),
            Act::Refuse => Err(BackendError::Scores { got: 0, samples: batch.samples() }),
        }
    }

    fn takes_weights(&self) -> bool {
        !self.0.weightless
    }

    fn another(&self) -> Result<Box<dyn Executable>, BackendError> {
        Ok(Box::new(Self(Arc::clone(&self.0))))
    }

    fn bytes(&self) -> usize {
        1_000
    }
}

pub(super) fn shape() -> BatchShape {
    BatchShape::new(&schema())
}

fn schema() -> Schema {
    let sparse = vec![SparseFeature { name: "item".into(), cardinality: 10 }];
    Schema::new(vec!["value".into()], sparse, OutOfVocabulary::Zero).unwrap()
}

/// An engine to be: paths with their scripts, and everything else at a default.
pub(super) struct Setup {
    pub(super) options: EngineOptions,
    pub(super) lanes: u32,
    /// What profiles say of a sample's time; of a batch's fixed time they say 100 µs.
    pub(super) per_sample_us: f64,
    paths: Vec<(&'static str, f64, Arc<Script>)>,
}

impl Setup {
    /// Paths are given as name, accuracy and script. Each is profiled at 100 µs whatever the batch, unless
    /// `per_sample_us` is set.
    pub(super) fn new(lanes: u32, paths: Vec<(&'static str, f64, Arc<Script>)>) -> Self {
        let options = EngineOptions {
            policy: PolicyName::MpRec,
            queue: QueueLimits { queries: 10_000, samples: 1_000_000, bytes: 1 << 28 },
            linger: Duration::ZERO,
            min_quality: None,
            pin_workers: false,
            worker_nice: 0,
            record: None,
            max_parts: None,
            // What goes down stays down, unless a test says otherwise.
            recovery: Backoff { first: LONG, most: LONG },
        };
        let per_sample_us = 0.0;
        Self { options, lanes, per_sample_us, paths }
    }

    pub(super) fn resident(&self) -> Vec<ResidentPath> {
        let resident = |(name, accuracy, script): &(&str, f64, Arc<Script>)| {
            let path: mprec_backends::Path = name.parse().unwrap();
            ResidentPath {
                device: crate::paths::device(path.backend()),
                path,
                accuracy: *accuracy,
                quality_source: QualitySource::Measured,
                bytes: 1_000,
                executable: Box::new(Fake(Arc::clone(script))),
                revive: {
                    let script = Arc::clone(script);
                    Revive::new(move || {
                        script.revived.fetch_add(1, SeqCst);
                        Ok(Box::new(Fake(Arc::clone(&script))))
                    })
                },
            }
        };
        self.paths.iter().map(resident).collect()
    }

    pub(super) fn profiles(&self) -> Profiles {
        let medians =
            [1, 1_024].map(|samples| (samples, 100.0 + self.per_sample_us * f64::from(samples)));
        let curve = ServiceCurve::from_medians(&medians, 1.1, 1.2).unwrap();
        let resident = self.resident();
        let profile = |path: &ResidentPath| path.profile(self.lanes, Some(1_024), curve.clone());
        Profiles::new(resident.iter().map(profile).collect()).unwrap()
    }

    pub(super) fn model(&self) -> Arc<Model> {
        Arc::new(Model {
            name: "m".into(),
            version: "7".into(),
            schema: schema(),
            shape: shape(),
            max_samples: 4_096,
            sla: LONG,
            paths: self
                .paths
                .iter()
                .map(|(name, accuracy, _)| ((*name).into(), *accuracy))
                .collect(),
            preprocessor: None,
        })
    }

    pub(super) fn start(&self) -> Engine {
        Engine::start(self.model(), self.resident(), self.profiles(), &self.options).unwrap()
    }
}

/// One path, one worker.
pub(super) fn single(script: &Arc<Script>) -> Setup {
    Setup::new(1, vec![("table@cpu", 0.8, Arc::clone(script))])
}

/// A query for these dense values, due after `sla`.
pub(super) fn request(values: &[f32], sla: Duration) -> ScoreRequest {
    let arrival = Instant::now();
    ScoreRequest {
        batch: shape().from_rows(values.to_vec(), &vec![1; values.len()]).unwrap().into(),
        arrival,
        deadline: arrival + sla,
        min_quality: None,
        priority: 0,
    }
}

/// Submits a query that has all the time it needs.
pub(super) fn submit(
    engine: &Engine,
    values: &[f32],
) -> Result<oneshot::Receiver<Outcome>, Refusal> {
    submit_request(engine, request(values, LONG))
}

pub(super) fn submit_request(
    engine: &Engine,
    request: ScoreRequest,
) -> Result<oneshot::Receiver<Outcome>, Refusal> {
    engine.submit(&engine.models()[0], request)
}

/// The outcome of a query, which must come.
pub(super) fn outcome(mut receiver: oneshot::Receiver<Outcome>) -> Outcome {
    let until = Instant::now() + LONG;
    loop {
        match receiver.try_recv() {
            Ok(outcome) => return outcome,
            Err(oneshot::error::TryRecvError::Empty) if Instant::now() < until => {
                std::thread::sleep(Duration::from_micros(200));
            }
            Err(error) => panic!("a query that was taken has no outcome: {error}"),
        }
    }
}

/// Waits until a condition holds, which it must.
pub(super) fn eventually(what: &str, holds: impl Fn() -> bool) {
    let until = Instant::now() + LONG;
    while !holds() {
        assert!(Instant::now() < until, "{what} did not happen");
        std::thread::sleep(Duration::from_micros(200));
    }
}
