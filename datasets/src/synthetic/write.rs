//! A synthetic data set as a prepared folder.

use rayon::prelude::*;

use super::{Synthetic, SyntheticOptions, planted::quality, rows::Row};
use crate::{
    error::PrepareError,
    folder::{
        Manifest, Split, Splits, SyntheticOrigin,
        shard::ShardShape,
        writer::{ShardWriter, empty_folder},
    },
    prepare::{Progress, Stage, Unsealed, finish, in_pool},
};

/// Most rows on which the planted model is judged.
const JUDGED_ROWS: u64 = 200_000;

/// Rows that one thread makes at a time.
const PIECE: u64 = 1 << 13;

/// Writes a synthetic data set as a prepared folder, which its manifest calls synthetic.
///
/// # Errors
///
/// [`PrepareError`] when an option is out of its range or the folder cannot be written.
pub fn prepare_synthetic(
    options: &SyntheticOptions,
    mut progress: impl FnMut(Progress) + Send,
) -> Result<Manifest, PrepareError> {
    let data = Synthetic::new(options)?;
    empty_folder(&options.output, options.replace)?;
    in_pool(options.threads, || write(options, &data, &mut progress))
}

fn write(
    options: &SyntheticOptions,
    data: &Synthetic,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<Manifest, PrepareError> {
    let shape = ShardShape {
        rows: options.shard_rows,
        dense: data.schema().dense().len(),
        sparse: data.schema().sparse().len(),
        labelled: true,
    };
    let mut writer = ShardWriter::new(&options.output, shape);
    let mut done = 0;
    while done < options.rows {
        let end = options.rows.min(done + PIECE * 2 * rayon::current_num_threads() as u64);
        let starts: Vec<_> = (done..end).step_by(PIECE as usize).collect();
        let pieces = starts
            .into_par_iter()
            .map(|start| Ok(data.batch(start..end.min(start + PIECE))?))
            .collect::<Result<Vec<_>, PrepareError>>()?;
        for piece in &pieces {
            writer.dense.extend_from_slice(piece.batch.dense());
            for (feature, column) in writer.ids.iter_mut().enumerate() {
                // Ids are below cardinalities, which are at most 2^32.
                column.extend(piece.batch.bags(feature).ids().iter().map(|&id| id as u32));
            }
            writer.labels.extend(piece.labels.iter().map(|label| u8::from(*label > 0.5)));
        }
        writer.write_full()?;
        done = end;
        progress(Progress {
            stage: Stage::Generating,
            done,
            total: options.rows,
            rows: done,
            malformed: 0,
        });
    }
    let splits = Splits::by_fraction(options.rows, options.train_fraction);
    let (planted_auc, planted_log_loss, planted_rows) = judge(data, &splits);
    finish(
        Unsealed {
            folder: &options.output,
            name: options.name.clone(),
            synthetic: Some(SyntheticOrigin {
                seed: options.seed,
                scale_down: options.scale_down,
                exponents: data.exponents().to_vec(),
                click_rate: options.click_rate,
                signal: options.signal,
                planted_auc,
                planted_log_loss,
                planted_rows,
            }),
            sources: Vec::new(),
            schema: data.schema().clone(),
            preprocessing: None,
            labelled: true,
            splits,
            malformed_lines: 0,
            shard_rows: options.shard_rows,
            shards: writer.finish()?,
            ids: Vec::new(),
        },
        progress,
    )
}

/// AUC and log loss of the planted model on held-out rows, or on all if none are, and how many.
fn judge(data: &Synthetic, splits: &Splits) -> (f64, f64, u64) {
    let held_out = splits.range(Split::HeldOut);
    let range = if held_out.is_empty() { splits.range(Split::All) } else { held_out };
    let start = range.start as u64;
    let end = (range.end as u64).min(start + JUDGED_ROWS);
    let rows: Vec<_> = (start..end)
        .into_par_iter()
        .map_init(Row::default, |row, at| {
            data.row(at, row);
            (row.probability, row.click)
        })
        .collect();
    let (auc, log_loss) = quality(rows);
    (auc, log_loss, end - start)
}
