//! The three steps of a preparation.

use std::sync::Mutex;

use rayon::prelude::*;

use super::{
    PrepareOptions, Progress, Stage, Unsealed,
    collect::{Reading, read_rows},
    finish,
    learn::{Encoder, Learner},
    plan::Plan,
};
use crate::{
    error::{MalformedLine, PrepareError},
    folder::{
        Coding, FileEntry, Manifest, Preprocessing, Splits, VOCABULARY, Vocabulary,
        shard::{MAX_SHARD_ROWS, ShardShape},
        writer::{empty_folder, open_shards, write_file, write_table},
    },
    preprocessor::Preprocessor,
    read::Input,
};

/// What a preparation did.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PrepareReport {
    /// What the folder says of itself.
    pub manifest: Manifest,
    /// Lines read, malformed ones included, headers excluded.
    pub lines: u64,
    /// The first malformed lines, at most 20; the manifest has their number.
    pub malformed: Vec<MalformedLine>,
}

/// Prepares files. `progress` is called some times per second, from one thread at a time.
///
/// # Errors
///
/// [`PrepareError`] when an option is out of range, a file cannot be read or written or does not
/// fit the layout, too many lines are malformed, or there are no rows. The folder then has no
/// manifest and [`Dataset::open`](crate::Dataset::open) refuses it; it may be replaced.
pub fn prepare(
    options: &PrepareOptions,
    mut progress: impl FnMut(Progress) + Send,
) -> Result<PrepareReport, PrepareError> {
    options.check()?;
    let name = options.data_name()?;
    let inputs: Vec<_> =
        options.inputs.iter().map(|path| Input::find(path)).collect::<Result<_, _>>()?;
    let plan = Plan::of(&options.recipe)?;
    empty_folder(&options.output, options.replace)?;
    in_pool(options.threads, || run(options, name, &inputs, &plan, &mut progress))
}

/// Runs `work` on so many threads.
pub(crate) fn in_pool<T: Send>(
    threads: Option<usize>,
    work: impl FnOnce() -> Result<T, PrepareError> + Send,
) -> Result<T, PrepareError> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads.unwrap_or(0))
        .build()
        .map_err(|error| PrepareError::Threads(Box::new(error)))?
        .install(work)
}

pub(crate) fn check_shard_rows(rows: usize) -> Result<(), PrepareError> {
    if (1..=MAX_SHARD_ROWS).contains(&rows) {
        return Ok(());
    }
    Err(PrepareError::Option {
        option: "the number of rows of a shard",
        value: rows.to_string(),
        allowed: "1 to 2^24",
    })
}

fn run(
    options: &PrepareOptions,
    name: String,
    inputs: &[Input],
    plan: &Plan,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<PrepareReport, PrepareError> {
    let fields = plan.layout.fields();
    let mut encoders: Vec<Encoder<'_>> = if plan.coders.is_empty() {
        fields.sparse.iter().map(|_| Encoder::Learn(Learner::default())).collect()
    } else {
        plan.coders.iter().map(Encoder::Known).collect()
    };
    let read = read_rows(options, inputs, plan, &mut encoders, progress)?;
    let Reading { labelled, rows, lines, malformed, examples, shards } = read;
    if rows == 0 {
        return Err(PrepareError::NoRows);
    }
    let splits = Splits::by_fraction(rows, options.train_fraction);
    let shape = ShardShape {
        rows: options.shard_rows,
        dense: fields.dense.len(),
        sparse: fields.sparse.len(),
        labelled,
    };
    let learners: Vec<_> = encoders
        .into_iter()
        .filter_map(|encoder| match encoder {
            Encoder::Learn(learner) => Some(learner),
            Encoder::Known(_) => None,
        })
        .collect();
    let told = Progress { stage: Stage::Counting, done: 0, total: 0, rows, malformed };
    let (learned, ids) = if let Coding::Vocabulary { min_count, max_tokens } = plan.coding
        && !learners.is_empty()
    {
        progress(Progress { total: learners.len() as u64, ..told });
        let mapped = open_shards(&options.output, shape, &shards)?;
        let total = learners.len() as u64;
        let teller = Mutex::new((&mut *progress, 0));
        let (tokens, ids) = learners
            .into_par_iter()
            .enumerate()
            .map(|(feature, learner)| {
                let settled = learner.settle(&mapped, feature, splits.train, min_count, max_tokens);
                // A teller that panicked has told its last; the panic goes on elsewhere.
                if let Ok(mut teller) = teller.lock() {
                    let (progress, done) = &mut *teller;
                    *done += 1;
                    progress(Progress { done: *done, total, ..told });
                }
                settled
            })
            .unzip();
        (Some(Vocabulary::new(tokens)), ids)
    } else {
        (None, Vec::new())
    };
    let schema = plan.schema(learned.as_ref())?;
    let learned = learned.as_ref();
    let vocabulary = learned.or(plan.same.as_ref().and_then(Preprocessor::vocabulary));
    let vocabulary = vocabulary
        .map(|vocabulary| write_file(&options.output, VOCABULARY, &vocabulary.to_bytes()))
        .transpose()?;
    let tables = fields
        .joins
        .iter()
        .filter_map(|join| Some((&join.table, plan.tables.get(&join.table)?)))
        .map(|(name, table)| write_table(&options.output, name, table.text()))
        .collect::<Result<Vec<FileEntry>, _>>()?;
    let preprocessing = Preprocessing {
        layout: plan.layout.clone(),
        coding: plan.coding.clone(),
        vocabulary,
        tables,
    };
    let manifest = finish(
        Unsealed {
            folder: &options.output,
            name,
            synthetic: None,
            sources: inputs.iter().map(Input::name).collect(),
            schema,
            preprocessing: Some(preprocessing),
            labelled,
            splits,
            malformed_lines: malformed,
            shard_rows: options.shard_rows,
            shards,
            ids,
        },
        progress,
    )?;
    Ok(PrepareReport { manifest, lines, malformed: examples })
}
