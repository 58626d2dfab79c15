//! Rows to profile and load with: of a prepared folder, or made up within the bundle's schema.

use std::path::Path;

use mprec_datasets::{Dataset, Split};
use mprec_representations::{Batch, BatchShape, Bundle, Schema};
use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};

use super::{Failure, InputError as _, Output, eval::check_schema};

/// Gives batches of a number of samples, each time of other rows.
pub(super) type Inputs = Box<dyn FnMut(usize) -> Batch>;

/// The held-out rows of `data`, again from the start when they end; without data, made-up rows.
pub(super) fn inputs(
    bundle: &Bundle,
    data: Option<&Path>,
    output: &Output,
) -> Result<Inputs, Failure> {
    let Some(folder) = data else {
        output.note(
            "no --data: profiling with made-up rows, ids log-uniform (Zipf with exponent 1) over each vocabulary",
        );
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
