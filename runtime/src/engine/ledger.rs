//! What each path did, in counts and sums that grow without the engine's lock.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mprec_router::MAX_SAMPLES;

use crate::{
    metrics::Counter,
    service::{BatchWork, Memory, PathWork, Spent, Stages},
    time::nanos,
};

/// Classes of batch sizes: up to 1, 2, 4 and so on. Sizes of their own would be as many as clients like.
const CLASSES: usize = MAX_SAMPLES.ilog2() as usize + 2;

/// One path's.
#[derive(Debug)]
pub(super) struct Ledger {
    memory: Memory,
    answered: Total,
    failed: Total,
    samples: Counter,
    queue: Counter,
    stages: StageTotals,
    batches: [BatchTotal; CLASSES],
    last_unix_ms: Counter,
}

#[derive(Debug, Default)]
struct Total {
    count: Counter,
    nanos: Counter,
}

#[derive(Debug, Default)]
struct BatchTotal {
    count: Counter,
    stages: StageTotals,
}

/// Nanoseconds.
#[derive(Debug, Default)]
struct StageTotals {
    input: Counter,
    infer: Counter,
    output: Counter,
}

impl Ledger {
    pub(super) fn new(memory: Memory) -> Self {
        Self {
            memory,
            answered: Total::default(),
            failed: Total::default(),
            samples: Counter::default(),
            queue: Counter::default(),
            stages: StageTotals::default(),
            batches: std::array::from_fn(|_| BatchTotal::default()),
            last_unix_ms: Counter::default(),
        }
    }

    /// A batch was run.
    pub(super) fn batch(&self, samples: usize, stages: Stages) {
        let class = samples.max(1).next_power_of_two().ilog2() as usize;
        let batch = &self.batches[class.min(CLASSES - 1)];
        batch.count.add_one();
        batch.stages.add(stages);
        self.last_unix_ms.reach(unix_ms());
    }

    /// A query of such a batch was answered.
    pub(super) fn answer(
        &self,
        samples: usize,
        latency: Duration,
        queue: Duration,
        stages: Stages,
    ) {
        self.answered.add(latency);
        self.samples.add(samples as u64);
        self.queue.add(nanos(queue));
        self.stages.add(stages);
    }

    /// A query was answered with an error, or by then its client had left.
    pub(super) fn fail(&self, waited: Duration) {
        self.failed.add(waited);
    }

    pub(super) fn work(&self, path: &str) -> PathWork {
        let of_class = |(class, batch): (usize, &BatchTotal)| BatchWork {
            size: 1 << class,
            count: batch.count.get(),
            stages: batch.stages.get(),
        };
        let last = self.last_unix_ms.get();
        PathWork {
            path: path.to_owned(),
            answered: self.answered.get(),
            failed: self.failed.get(),
            samples: self.samples.get(),
            queue: Duration::from_nanos(self.queue.get()),
            stages: self.stages.get(),
            batches: self
                .batches
                .iter()
                .enumerate()
                .map(of_class)
                .filter(|batch| batch.count > 0)
                .collect(),
            memory: vec![self.memory],
            last: (last > 0).then(|| UNIX_EPOCH + Duration::from_millis(last)),
        }
    }
}

impl Total {
    fn add(&self, time: Duration) {
        self.count.add_one();
        self.nanos.add(nanos(time));
    }

    fn get(&self) -> Spent {
        Spent { count: self.count.get(), time: Duration::from_nanos(self.nanos.get()) }
    }
}

impl StageTotals {
    fn add(&self, stages: Stages) {
        self.input.add(nanos(stages.input));
        self.infer.add(nanos(stages.infer));
        self.output.add(nanos(stages.output));
    }

    fn get(&self) -> Stages {
        Stages {
            input: Duration::from_nanos(self.input.get()),
            infer: Duration::from_nanos(self.infer.get()),
            output: Duration::from_nanos(self.output.get()),
        }
    }
}

fn unix_ms() -> u64 {
    // A clock before 1970 is not set.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
