//! The three steps of a preparation.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, sync_channel},
    },
    thread,
};

use mprec_representations::{OutOfVocabulary, Schema, SparseFeature};
use rayon::prelude::*;

use super::{
    MalformedLimit, PrepareOptions, Progress, Recipe, Stage,
    learn::{Encoder, Learner, TooMany},
};
use crate::{
    error::{MalformedLine, PrepareError},
    folder::{
        Coding, FORMAT_VERSION, FileEntry, Manifest, Preprocessing, Split, Splits,
        SyntheticOrigin, VOCABULARY, Vocabulary,
        shard::{MAX_SHARD_ROWS, ShardShape},
        vocabulary::MAX_TOKENS,
        writer::{
            ShardWriter, empty_folder, open_shards, seal_shards, write_file, write_manifest,
            write_table,
        },
    },
    layout::{Layout, LineFields, MAX_TABLE_BYTES, Table},
    preprocessor::{Coder, Preprocessor},
    read::{Chunk, Input, Limits, MAX_EXAMPLES, ParsedRows, parse_chunk, read_all},
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

/// The recipe with everything that it names read.
#[derive(Debug)]
struct Plan {
    layout: Layout,
    coding: Coding,
    tables: BTreeMap<String, Arc<Table>>,
    /// Another folder's preprocessing, and its schema.
    same: Option<Preprocessor>,
    /// Ways to final ids, if there are any before all rows are read.
    coders: Vec<Coder>,
}

impl Plan {
    fn of(recipe: &Recipe) -> Result<Self, PrepareError> {
        match recipe {
            Recipe::Same(folder) => {
                let same = Preprocessor::open(folder)?;
                Ok(Self {
                    layout: same.preprocessing().layout.clone(),
                    coding: same.preprocessing().coding.clone(),
                    tables: same.tables().clone(),
                    coders: same.coders().to_vec(),
                    same: Some(same),
                })
            }
            Recipe::New { layout, coding, tables } => {
                let fields = layout.fields();
                let read = fields
                    .joins
                    .iter()
                    .filter_map(|join| Some((join, tables.get(&join.table)?)))
                    .map(|(join, path)| {
                        let text = read_table(path)?;
                        let table =
                            Table::parse(&join.table, text, fields.delimiter as u8, &join.key)?;
                        Ok((join.table.clone(), Arc::new(table)))
                    })
                    .collect::<Result<_, PrepareError>>()?;
                let coders = match *coding {
                    Coding::Vocabulary { .. } => Vec::new(),
                    Coding::Hashing { rows, seed } => (0..fields.sparse.len())
                        .map(|feature| Coder::Hashed { feature, rows, seed })
                        .collect(),
                };
                Ok(Self {
                    layout: layout.clone(),
                    coding: coding.clone(),
                    tables: read,
                    coders,
                    same: None,
                })
            }
        }
    }
}

/// A table's text, compressed or not.
fn read_table(path: &Path) -> Result<Vec<u8>, PrepareError> {
    let fail = |source| PrepareError::Read { file: path.into(), source };
    let mut text = Vec::new();
    let reader = Input::find(path)?.open(&Arc::default()).map_err(fail)?;
    // One byte more than allowed is enough to be refused.
    std::io::Read::read_to_end(&mut std::io::Read::take(reader, MAX_TABLE_BYTES + 1), &mut text)
        .map_err(fail)?;
    Ok(text)
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
        let (tokens, ids) = learners
            .into_par_iter()
            .enumerate()
            .map(|(feature, learner)| {
                learner.settle(&mapped, feature, splits.train, min_count, max_tokens)
            })
            .unzip();
        (Some(Vocabulary::new(tokens)), ids)
    } else {
        (None, Vec::new())
    };
    let schema = schema_of(plan, learned.as_ref())?;
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

/// Everything of a manifest but what the shards' bytes decide.
pub(crate) struct Unsealed<'a> {
    pub(crate) folder: &'a Path,
    pub(crate) name: String,
    pub(crate) synthetic: Option<SyntheticOrigin>,
    pub(crate) sources: Vec<String>,
    pub(crate) schema: Schema,
    pub(crate) preprocessing: Option<Preprocessing>,
    pub(crate) labelled: bool,
    pub(crate) splits: Splits,
    pub(crate) malformed_lines: u64,
    pub(crate) shard_rows: usize,
    /// Rows of every shard.
    pub(crate) shards: Vec<usize>,
    /// Final ids of the provisional ones, or nothing if ids are final.
    pub(crate) ids: Vec<Vec<u32>>,
}

/// Makes the ids final, takes digests, and writes the manifest.
pub(crate) fn finish(
    data: Unsealed<'_>,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<Manifest, PrepareError> {
    let rows = data.shards.iter().sum::<usize>() as u64;
    let shape = ShardShape {
        rows: data.shard_rows,
        dense: data.schema.dense().len(),
        sparse: data.schema.sparse().len(),
        labelled: data.labelled,
    };
    let mut told = Progress {
        stage: Stage::Encoding,
        done: 0,
        total: data.shards.len() as u64,
        rows,
        malformed: data.malformed_lines,
    };
    let shards = seal_shards(data.folder, shape, &data.shards, &data.ids, |done| {
        told.done = done as u64;
        progress(told);
    })?;
    let mapped = open_shards(data.folder, shape, &data.shards)?;
    let positives = |split| {
        let range = data.splits.range(split);
        let labels = mapped.iter().flat_map(|shard| shard.labels());
        labels.skip(range.start).take(range.len()).map(|&label| u64::from(label)).sum()
    };
    let manifest = Manifest {
        format_version: FORMAT_VERSION,
        name: data.name,
        synthetic: data.synthetic,
        sources: data.sources,
        schema: data.schema,
        preprocessing: data.preprocessing,
        labelled: data.labelled,
        rows,
        splits: data.splits,
        positives: Splits {
            train: positives(Split::Train),
            test: positives(Split::Test),
            validation: positives(Split::Validation),
        },
        malformed_lines: data.malformed_lines,
        shard_rows: data.shard_rows as u64,
        shards,
    };
    write_manifest(data.folder, &manifest)?;
    Ok(manifest)
}

fn schema_of(plan: &Plan, learned: Option<&Vocabulary>) -> Result<Schema, PrepareError> {
    if let Some(same) = &plan.same {
        return Ok(same.schema().clone());
    }
    let fields = plan.layout.fields();
    let cardinality = |feature| match (learned, &plan.coding) {
        (Some(vocabulary), _) => vocabulary.cardinality(feature),
        (None, Coding::Hashing { rows, .. }) => *rows,
        // Without learners there is hashing or another folder.
        (None, Coding::Vocabulary { .. }) => 0,
    };
    let sparse = fields.sparse.iter().enumerate().map(|(feature, sparse)| SparseFeature {
        name: sparse.name.clone(),
        cardinality: cardinality(feature),
    });
    let dense = fields.dense.iter().map(|dense| dense.name.clone());
    Ok(Schema::new(dense.collect(), sparse.collect(), OutOfVocabulary::Zero)?)
}

/// What reading found; the rows are in the shards.
struct Reading {
    labelled: bool,
    rows: u64,
    lines: u64,
    malformed: u64,
    examples: Vec<MalformedLine>,
    shards: Vec<usize>,
}

fn read_rows(
    options: &PrepareOptions,
    inputs: &[Input],
    plan: &Plan,
    encoders: &mut [Encoder<'_>],
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<Reading, PrepareError> {
    let ahead = 2 * rayon::current_num_threads();
    let bytes_read = Arc::new(AtomicU64::new(0));
    let total = inputs.iter().map(|input| input.bytes).sum();
    thread::scope(|scope| {
        let (to, from) = sync_channel(ahead);
        let reader_count = Arc::clone(&bytes_read);
        scope.spawn(move || read_all(inputs, Limits::default(), &reader_count, &to));
        let mut rows = Collected::new(options, inputs, plan);
        while let Some(group) = rows.next_group(&from, ahead)? {
            let parsed: Vec<_> = group
                .into_par_iter()
                .map(|(fields, chunk)| (chunk.file, parse_chunk(&fields, &chunk)))
                .collect();
            let done = rows.take(parsed, encoders)?;
            progress(Progress {
                stage: Stage::Reading,
                done: bytes_read.load(Ordering::Relaxed).min(total),
                total,
                rows: rows.rows,
                malformed: rows.malformed,
            });
            if done {
                break;
            }
        }
        // The reader stops as soon as it finds that nobody receives.
        drop(from);
        rows.finish()
    })
}

/// Rows on their way from parsed runs to shards.
struct Collected<'a> {
    inputs: &'a [Input],
    plan: &'a Plan,
    limit: MalformedLimit,
    max_rows: u64,
    /// The file that the last run was of, and its columns.
    file: Option<(usize, Arc<LineFields>)>,
    writer: Option<ShardWriter>,
    output: &'a Path,
    shard_rows: usize,
    rows: u64,
    lines: u64,
    malformed: u64,
    examples: Vec<MalformedLine>,
}

impl<'a> Collected<'a> {
    fn new(options: &'a PrepareOptions, inputs: &'a [Input], plan: &'a Plan) -> Self {
        Self {
            inputs,
            plan,
            limit: options.malformed,
            max_rows: options.max_rows.unwrap_or(u64::MAX),
            file: None,
            writer: None,
            output: &options.output,
            shard_rows: options.shard_rows,
            rows: 0,
            lines: 0,
            malformed: 0,
            examples: Vec::new(),
        }
    }

    /// Some runs in order, each with the columns of its file; none at the end. Waits for the first
    /// one only.
    fn next_group(
        &mut self,
        from: &Receiver<Result<Chunk, PrepareError>>,
        most: usize,
    ) -> Result<Option<Vec<(Arc<LineFields>, Chunk)>>, PrepareError> {
        let Ok(first) = from.recv() else { return Ok(None) };
        let mut group = Vec::new();
        for chunk in std::iter::once(first).chain(from.try_iter()).take(most) {
            let chunk = chunk?;
            let fields = self.fields_of(&chunk)?;
            group.push((fields, chunk));
        }
        Ok(Some(group))
    }

    fn fields_of(&mut self, chunk: &Chunk) -> Result<Arc<LineFields>, PrepareError> {
        if let Some((file, fields)) = &self.file
            && *file == chunk.file
        {
            return Ok(Arc::clone(fields));
        }
        let line = chunk.text.split(|&byte| byte == b'\n').next().unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let file = || self.inputs[chunk.file].name();
        let fields = LineFields::resolve(&self.plan.layout, line, &self.plan.tables)
            .map_err(|source| PrepareError::File { file: file(), source })?;
        let labelled = fields.label.is_some();
        if let Some((_, before)) = &self.file
            && before.label.is_some() != labelled
        {
            return Err(PrepareError::MixedLabels { file: file(), labelled });
        }
        let shape = ShardShape {
            rows: self.shard_rows,
            dense: fields.dense.len(),
            sparse: fields.sparse.len(),
            labelled,
        };
        self.writer.get_or_insert_with(|| ShardWriter::new(self.output, shape));
        let fields = Arc::new(fields);
        self.file = Some((chunk.file, Arc::clone(&fields)));
        Ok(fields)
    }

    /// Takes parsed runs in order; returns whether enough rows are there.
    fn take(
        &mut self,
        mut parsed: Vec<(usize, ParsedRows)>,
        encoders: &mut [Encoder<'_>],
    ) -> Result<bool, PrepareError> {
        let mut enough = false;
        let mut used = 0;
        for (file, rows) in &mut parsed {
            self.take_malformed(*file, rows)?;
            let left = self.max_rows - self.rows;
            rows.truncate(usize::try_from(left).unwrap_or(usize::MAX));
            self.rows += rows.rows() as u64;
            used += 1;
            enough = self.rows == self.max_rows;
            if enough {
                break;
            }
        }
        let parsed = &parsed[..used];
        let Some(writer) = &mut self.writer else { return Ok(enough) };
        for (_, rows) in parsed {
            writer.dense.extend_from_slice(&rows.dense);
            writer.labels.extend_from_slice(&rows.labels);
        }
        let layout = self.plan.layout.fields();
        encoders
            .par_iter_mut()
            .zip(&mut writer.ids)
            .enumerate()
            .try_for_each(|(feature, (encoder, ids))| {
                parsed.iter().try_for_each(|(_, rows)| encoder.encode(&rows.tokens[feature], ids)).map_err(
                    |TooMany| PrepareError::TooManyTokens {
                        feature: layout.sparse[feature].name.clone(),
                        limit: MAX_TOKENS as u64,
                    },
                )
            })?;
        writer.write_full()?;
        Ok(enough)
    }

    fn take_malformed(&mut self, file: usize, rows: &mut ParsedRows) -> Result<(), PrepareError> {
        self.lines += rows.lines;
        self.malformed += rows.malformed;
        let name = self.inputs[file].name();
        let room = MAX_EXAMPLES - self.examples.len();
        self.examples.extend(rows.examples.drain(..).take(room).map(|(line, reason)| {
            MalformedLine { file: name.clone(), line, reason }
        }));
        let limit = self.limit.among(self.lines);
        match self.examples.first() {
            Some(first) if self.malformed > limit => Err(PrepareError::TooManyMalformed {
                malformed: self.malformed,
                lines: self.lines,
                limit,
                first: first.clone(),
                examples: self.examples.clone(),
            }),
            _ => Ok(()),
        }
    }

    fn finish(self) -> Result<Reading, PrepareError> {
        Ok(Reading {
            labelled: self.file.is_some_and(|(_, fields)| fields.label.is_some()),
            rows: self.rows,
            lines: self.lines,
            malformed: self.malformed,
            examples: self.examples,
            shards: self.writer.map_or(Ok(Vec::new()), ShardWriter::finish)?,
        })
    }
}
