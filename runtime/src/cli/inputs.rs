//! Rows to profile and load with: of a prepared folder, or made up within the bundle's schema.

use std::path::Path;

use mprec_backends::HotId;
use mprec_datasets::{AccessStatistics, Dataset, Split};
use mprec_representations::{Batch, BatchShape, Bundle, Schema};
use mprec_runtime::config::MAX_CACHE_BYTES;
use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};

use super::{Failure, InputError as _, Output, eval::check_schema};

/// Gives batches of a number of samples, each time of other rows.
pub(super) type Inputs = Box<dyn FnMut(usize) -> Batch>;

/// What is said where rows are made up.
pub(super) const MADE_UP: &str = "no --data: profiling with made-up rows, ids log-uniform (Zipf with exponent 1) over each vocabulary";

/// The held-out rows of `data`, again from the start when they end; without data, made-up rows.
pub(super) fn inputs(
    bundle: &Bundle,
    data: Option<&Path>,
    output: &Output,
) -> Result<Inputs, Failure> {
    let Some(folder) = data else {
        output.note(MADE_UP);
        return Ok(made_up(&bundle.manifest().schema));
    };
    let dataset = Dataset::open(folder).or_bad_input()?;
    check_schema(bundle, &dataset).or_bad_input()?;
    let mut rows = dataset.rows(Split::HeldOut);
    if rows.is_empty() {
        rows = dataset.rows(Split::All);
    }
    if rows.is_empty() {
        return Err(Failure::input(anyhow::anyhow!("{} has no rows", dataset.label())));
    }
    let mut at = 0;
    Ok(Box::new(move |samples| {
        let picked: Vec<usize> =
            (0..samples).map(|sample| rows.start + (at + sample) % rows.len()).collect();
        at = (at + samples) % rows.len();
        dataset.gather(&picked).expect("rows within the data set can be read").batch
    }))
}

/// The ids that the training rows of `data` ask for most, most often first: as many as a cache of `bytes` may
/// hold. None without a cache or data.
pub(super) fn hot_ids(
    bundle: &Bundle,
    data: Option<&Path>,
    bytes: usize,
) -> Result<Vec<HotId>, Failure> {
    let (Some(folder), 1..) = (data, bytes) else { return Ok(Vec::new()) };
    let dataset = Dataset::open(folder).or_bad_input()?;
    check_schema(bundle, &dataset).or_bad_input()?;
    let counts =
        AccessStatistics::count(&dataset, dataset.rows(Split::Train), &[]).or_bad_input()?;
    let ids = counts.features.iter().enumerate().flat_map(|(feature, access)| {
        let hot = move |&(id, count): &(u32, u64)| HotId { feature, id: id.into(), count };
        access.counts.iter().map(hot)
    });
    let mut hot: Vec<HotId> = ids.collect();
    hot.sort_unstable_by_key(|hot| (std::cmp::Reverse(hot.count), hot.feature, hot.id));
    // No entry takes fewer bytes than its key, its counters and one float.
    hot.truncate(bytes / 16);
    Ok(hot)
}

/// Says so if `bytes` are more than a cache may have.
pub(super) fn check_cache(bytes: usize) -> anyhow::Result<()> {
    anyhow::ensure!(bytes <= MAX_CACHE_BYTES, "--cache must be 0 to {MAX_CACHE_BYTES}");
    Ok(())
}

fn made_up(schema: &Schema) -> Inputs {
    let shape = BatchShape::new(schema);
    let cardinalities: Vec<u64> = schema.sparse().iter().map(|sparse| sparse.cardinality).collect();
    let mut random = SmallRng::seed_from_u64(1);
    Box::new(move |samples| {
        let dense =
            (0..samples * shape.dense_width()).map(|_| random.random_range(0.0..4.0)).collect();
        let ids: Vec<i64> = cardinalities
            .iter()
            .flat_map(|&cardinality| {
                let scale = (cardinality as f64).ln();
                (0..samples)
                    .map(|_| ((random.random::<f64>() * scale).exp() as i64 - 1).max(0))
                    .collect::<Vec<_>>()
            })
            .collect();
        shape.from_columns(dense, &ids).expect("rows are made within the schema")
    })
}
