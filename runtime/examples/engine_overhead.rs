//! What the engine itself costs: queries through an executable that does nothing.
//!
//! `cargo run --release -p mprec-runtime --example engine_overhead [LOG]`
//!
//! With a file that does not exist yet, decisions are recorded to it meanwhile.
//!
//! Prints, in microseconds, the time of `submit` (decide, queue, wake a worker) and the time from
//! before `submit` to the outcome in the submitting thread's hands, one query at a time, over
//! seven paths on two workers; and how many queries per second pass with 64 in flight.

use std::{
    collections::{BTreeMap, VecDeque},
    error::Error,
    io::Write,
    sync::Arc,
    time::{Duration, Instant},
};

use mprec_backends::{BackendError, Executable};
use mprec_representations::{Batch, BatchShape, Schema};
use mprec_router::{PolicyName, Profiles, QualitySource, ServiceCurve};
use mprec_runtime::{
    config::QueueLimits,
    engine::{Backoff, Engine, EngineOptions},
    paths::{ResidentPath, Revive},
    record::RecordOptions,
    service::{Model, ScoreRequest, Service},
};

const QUERIES: usize = 50_000;
const WARM_UP: usize = 5_000;

/// Scores nothing, at once.
#[derive(Debug)]
struct Nothing;

impl Executable for Nothing {
    fn run(&mut self, _: &Batch, scores: &mut [f32]) -> Result<(), BackendError> {
        scores.fill(0.5);
        Ok(())
    }

    fn another(&self) -> Result<Box<dyn Executable>, BackendError> {
        Ok(Box::new(Self))
    }

    fn bytes(&self) -> usize {
        0
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let schema = Schema::criteo(&[1_000; 26])?;
    let shape = BatchShape::new(&schema);
    let model = Arc::new(Model {
        name: "nothing".into(),
        version: "1".into(),
        schema,
        shape: shape.clone(),
        max_samples: 4_096,
        sla: Duration::from_millis(10),
        paths: BTreeMap::new(),
        preprocessor: None,
    });
    let engine = start(&model)?;
    let mut out = std::io::stdout().lock();
    for samples in [1, 128] {
        let batch = shape.from_rows(vec![0.5; 13 * samples], &vec![1; 26 * samples])?;
        let (mut submits, mut totals) = (Vec::new(), Vec::new());
        for query in 0..QUERIES {
            let request = request(batch.clone());
            let arrival = request.arrival;
            let receiver = engine.submit(&model, request)?;
            let submitted = arrival.elapsed();
            receiver.blocking_recv()??;
            if query >= WARM_UP {
                submits.push(submitted);
                totals.push(arrival.elapsed());
            }
        }
        writeln!(out, "{samples:>4} samples  submit {}", quantiles(&mut submits))?;
        writeln!(out, "{samples:>4} samples  total  {}", quantiles(&mut totals))?;
    }
    let batch = shape.from_rows(vec![0.5; 13], &[1; 26])?;
    let mut open = VecDeque::new();
    let started = Instant::now();
    let mut answered = 0;
    while started.elapsed() < Duration::from_secs(3) {
        open.push_back(engine.submit(&model, request(batch.clone()))?);
        if open.len() > 64
            && let Some(receiver) = open.pop_front()
        {
            answered += usize::from(receiver.blocking_recv()?.is_ok());
        }
    }
    let rate = answered as f64 / started.elapsed().as_secs_f64();
    writeln!(out, "64 in flight  {rate:.0} queries per second from one thread")?;
    engine.shutdown(Duration::from_secs(5));
    if let Some(record) = engine.stats().record {
        writeln!(out, "{record:?}")?;
    }
    Ok(())
}

fn start(model: &Arc<Model>) -> Result<Engine, Box<dyn Error>> {
    let curve = ServiceCurve::from_medians(&[(1, 5.0), (1_024, 50.0)], 1.1, 1.5)?;
    let mut resident = Vec::new();
    for (at, variant) in ["a", "b", "c", "d", "e", "f", "g"].into_iter().enumerate() {
        resident.push(ResidentPath {
            path: format!("{variant}@cpu").parse()?,
            device: "cpu".into(),
            accuracy: 0.78 + 0.001 * at as f64,
            quality_source: QualitySource::Declared("nothing is scored".into()),
            bytes: 0,
            executable: Box::new(Nothing),
            revive: Revive::new(|| Ok(Box::new(Nothing))),
        });
    }
    let profiles = resident.iter().map(|path| path.profile(2, None, curve.clone())).collect();
    let file = std::env::args().nth(1);
    let record = file.map(|file| RecordOptions { file: file.into(), limit_bytes: 1 << 30 });
    let options = EngineOptions {
        policy: PolicyName::MultiPath,
        queue: QueueLimits { queries: 4_096, samples: 262_144, bytes: 256 << 20 },
        linger: Duration::ZERO,
        min_quality: None,
        pin_workers: false,
        worker_nice: 0,
        record,
        max_parts: None,
        recovery: Backoff::default(),
    };
    Ok(Engine::start(Arc::clone(model), resident, Profiles::new(profiles)?, &options)?)
}

fn request(batch: Batch) -> ScoreRequest {
    let arrival = Instant::now();
    // A deadline far away: nothing here is to be refused.
    let deadline = arrival + Duration::from_secs(10);
    ScoreRequest { batch: batch.into(), arrival, deadline, min_quality: None, priority: 0 }
}

fn quantiles(times: &mut [Duration]) -> String {
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e6;
    format!("p50 {:>6.1}  p95 {:>6.1}  p99 {:>6.1} µs", at(0.5), at(0.95), at(0.99))
}
