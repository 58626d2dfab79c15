//! What the endpoint says of the work done: Triton's statistics of models.
//!
//! A model has a row of its own, and each of its paths one more, named `model:path`, which no model can be
//! named. Times are cumulative since the model began to be served; a client takes the difference of two
//! readings. Requests that never became a query, because they could not be read, are not counted.

use std::{
    collections::BTreeMap,
    time::{Duration, UNIX_EPOCH},
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::service::{MemoryKind, Model, ModelWork, PathWork, Spent, Stages};

/// Reply of `GET /v2/models[/{m}[/versions/{v}]]/stats`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Statistics {
    /// For every model, its own row and then those of its paths.
    pub model_stats: Vec<ModelStatistics>,
}

/// One row: a model's, or a path's.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct ModelStatistics {
    /// The model's name, or `model:path`.
    pub name: String,
    /// The model's version.
    pub version: String,
    /// When a batch ended last, in milliseconds since 1970; 0 if none did.
    pub last_inference: u64,
    /// Samples of the queries answered.
    pub inference_count: u64,
    /// Batches run.
    pub execution_count: u64,
    /// Queries, by what became of them and what was done.
    pub inference_stats: InferenceStatistics,
    /// Batches, by size.
    pub batch_stats: Vec<BatchStatistics>,
    /// Memory held.
    pub memory_usage: Vec<MemoryUsage>,
}

/// How often, and how long in all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct DurationStatistics {
    /// How often.
    pub count: u64,
    /// Nanoseconds in all.
    pub ns: u64,
}

/// Queries. All counts but those of `fail` and the cache are the number of queries answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct InferenceStatistics {
    /// Queries answered, from arrival to the answer.
    pub success: DurationStatistics,
    /// Queries refused, expired, failed, or left by their client.
    pub fail: DurationStatistics,
    /// From arrival to the start of the batch.
    pub queue: DurationStatistics,
    /// Putting the query's batch together.
    pub compute_input: DurationStatistics,
    /// Scoring it.
    pub compute_infer: DurationStatistics,
    /// Taking its scores apart.
    pub compute_output: DurationStatistics,
    /// Always zero: there is no cache of responses.
    pub cache_hit: DurationStatistics,
    /// Always zero.
    pub cache_miss: DurationStatistics,
}

/// Batches of about one size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct BatchStatistics {
    /// Samples of the largest batch of its class; classes are powers of two, so that they are few.
    pub batch_size: u64,
    /// Putting the batches together.
    pub compute_input: DurationStatistics,
    /// Scoring them.
    pub compute_infer: DurationStatistics,
    /// Taking the scores apart.
    pub compute_output: DurationStatistics,
}

/// Memory on one device.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct MemoryUsage {
    /// `CPU` or `GPU`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Number of the device among those of its kind.
    pub id: i64,
    /// Bytes.
    pub byte_size: u64,
}

impl ModelStatistics {
    /// The row of a model, and those of its paths.
    pub(crate) fn of(model: &Model, work: &ModelWork) -> Vec<Self> {
        let mut whole = Self::row(model, &together(&work.paths));
        add(&mut whole.inference_stats.fail, work.refused);
        let path = |work: &PathWork| Self {
            name: format!("{}:{}", model.name, work.path),
            ..Self::row(model, work)
        };
        std::iter::once(whole).chain(work.paths.iter().map(path)).collect()
    }

    fn row(model: &Model, work: &PathWork) -> Self {
        let last = work.last.and_then(|last| last.duration_since(UNIX_EPOCH).ok());
        let answered = work.answered.count;
        let [compute_input, compute_infer, compute_output] = stages(answered, work.stages);
        let batches = work.batches.iter().map(|batch| {
            let [compute_input, compute_infer, compute_output] = stages(batch.count, batch.stages);
            let batch_size = batch.size;
            BatchStatistics { batch_size, compute_input, compute_infer, compute_output }
        });
        let memory = work.memory.iter().map(|memory| MemoryUsage {
            kind: match memory.kind {
                MemoryKind::Cpu => "CPU",
                MemoryKind::Gpu => "GPU",
            }
            .to_owned(),
            id: memory.id.into(),
            byte_size: memory.bytes,
        });
        Self {
            name: model.name.clone(),
            version: model.version.clone(),
            last_inference: last.map_or(0, |last| last.as_millis() as u64),
            inference_count: work.samples,
            execution_count: work.batches.iter().map(|batch| batch.count).sum(),
            inference_stats: InferenceStatistics {
                success: spent(work.answered),
                fail: spent(work.failed),
                queue: duration(answered, work.queue),
                compute_input,
                compute_infer,
                compute_output,
                ..InferenceStatistics::default()
            },
            batch_stats: batches.collect(),
            memory_usage: memory.collect(),
        }
    }
}

/// What all paths did.
fn together(paths: &[PathWork]) -> PathWork {
    let mut sum = PathWork::default();
    let (mut batches, mut memory) = (BTreeMap::new(), BTreeMap::new());
    for path in paths {
        sum.answered = sum.answered.plus(path.answered);
        sum.failed = sum.failed.plus(path.failed);
        sum.samples += path.samples;
        sum.queue += path.queue;
        sum.stages = sum.stages.plus(path.stages);
        sum.last = sum.last.max(path.last);
        for &batch in &path.batches {
            let entry = batches.entry(batch.size).or_insert(crate::service::BatchWork {
                count: 0,
                stages: Stages::default(),
                ..batch
            });
            entry.count += batch.count;
            entry.stages = entry.stages.plus(batch.stages);
        }
        for &part in &path.memory {
            let entry = memory
                .entry((part.kind, part.id))
                .or_insert(crate::service::Memory { bytes: 0, ..part });
            entry.bytes += part.bytes;
        }
    }
    sum.batches = batches.into_values().collect();
    sum.memory = memory.into_values().collect();
    sum
}

fn stages(count: u64, stages: Stages) -> [DurationStatistics; 3] {
    [stages.input, stages.infer, stages.output].map(|time| duration(count, time))
}

fn spent(spent: Spent) -> DurationStatistics {
    duration(spent.count, spent.time)
}

fn duration(count: u64, time: Duration) -> DurationStatistics {
    DurationStatistics { count, ns: u64::try_from(time.as_nanos()).unwrap_or(u64::MAX) }
}

fn add(to: &mut DurationStatistics, more: Spent) {
    let more = spent(more);
    to.count += more.count;
    to.ns = to.ns.saturating_add(more.ns);
}

#[cfg(test)]
mod tests {
    use mprec_representations::OutOfVocabulary;

    use super::*;
    use crate::{
        endpoint::fake::Fake,
        service::{BatchWork, Memory},
    };

    fn path(name: &str, kind: MemoryKind, scale: u64) -> PathWork {
        let time = |nanos: u64| Duration::from_nanos(nanos * scale);
        let stages = Stages { input: time(1), infer: time(20), output: time(3) };
        PathWork {
            path: name.to_owned(),
            answered: Spent { count: 2 * scale, time: time(100) },
            failed: Spent { count: scale, time: time(7) },
            samples: 50 * scale,
            queue: time(40),
            stages,
            batches: vec![
                BatchWork { size: 32, count: scale, stages },
                BatchWork { size: 64 * scale, count: 1, stages },
            ],
            memory: vec![Memory { kind, id: 0, bytes: 1000 * scale }],
            last: Some(UNIX_EPOCH + Duration::from_millis(5 * scale)),
        }
    }

    #[test]
    fn a_model_is_the_sum_of_its_paths_and_of_what_no_path_took() {
        let model = Fake::new(OutOfVocabulary::Zero).model;
        let work = ModelWork {
            refused: Spent { count: 9, time: Duration::from_nanos(11) },
            paths: vec![path("a@cpu", MemoryKind::Cpu, 1), path("b@cuda:0", MemoryKind::Gpu, 10)],
        };
        let rows = ModelStatistics::of(&model, &work);
        let names: Vec<_> = rows.iter().map(|row| row.name.as_str()).collect();
        assert_eq!(names, ["ctr", "ctr:a@cpu", "ctr:b@cuda:0"]);
        let whole = &rows[0];
        assert_eq!((whole.version.as_str(), whole.last_inference), ("7", 50));
        assert_eq!((whole.inference_count, whole.execution_count), (550, 13));
        let of = |count, ns| DurationStatistics { count, ns };
        let stats = whole.inference_stats;
        assert_eq!((stats.success, stats.fail), (of(22, 1100), of(11 + 9, 77 + 11)));
        assert_eq!((stats.queue, stats.compute_input), (of(22, 440), of(22, 11)));
        assert_eq!((stats.compute_infer, stats.compute_output), (of(22, 220), of(22, 33)));
        let sizes: Vec<_> = whole.batch_stats.iter().map(|batch| batch.batch_size).collect();
        assert_eq!(sizes, [32, 64, 640]);
        assert_eq!(whole.batch_stats[0].compute_infer, of(11, 220));
        let memory: Vec<_> =
            whole.memory_usage.iter().map(|memory| (&*memory.kind, memory.byte_size)).collect();
        assert_eq!(memory, [("CPU", 1000), ("GPU", 10000)]);
        assert_eq!(rows[2].inference_stats.fail, of(10, 70));
    }

    #[test]
    fn every_member_that_clients_read_without_looking_is_there() {
        let model = Fake::new(OutOfVocabulary::Zero).model;
        let rows = ModelStatistics::of(&model, &ModelWork::default());
        let json = serde_json::to_value(&rows[0]).unwrap();
        for name in ["success", "queue", "compute_input", "compute_infer", "compute_output"]
            .iter()
            .chain(&["fail", "cache_hit", "cache_miss"])
        {
            assert_eq!(json["inference_stats"][name]["count"], 0, "{name}");
            assert_eq!(json["inference_stats"][name]["ns"], 0, "{name}");
        }
        for name in ["inference_count", "execution_count", "last_inference"] {
            assert_eq!(json[name], 0, "{name}");
        }
    }
}
