//! Files to shards, by all threads, in the order of the lines.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, sync_channel},
    },
    thread,
};

use rayon::prelude::*;

use super::{
    MalformedLimit, PrepareOptions, Progress, Stage,
    learn::{Encoder, TooMany},
    plan::Plan,
};
use crate::{
    error::{MalformedLine, PrepareError},
    folder::{shard::ShardShape, vocabulary::MAX_TOKENS, writer::ShardWriter},
    layout::LineFields,
    read::{Chunk, Input, Limits, MAX_EXAMPLES, ParsedRows, parse_chunk, read_all},
};

/// What reading found; the rows are in the shards.
pub(super) struct Reading {
    pub(super) labelled: bool,
    pub(super) rows: u64,
    pub(super) lines: u64,
    pub(super) malformed: u64,
    pub(super) examples: Vec<MalformedLine>,
    pub(super) shards: Vec<usize>,
}

/// Reads all inputs into shards.
pub(super) fn read_rows(
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

/// Runs of text, each with the columns of its file.
type Group = Vec<(Arc<LineFields>, Chunk)>;

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
    ) -> Result<Option<Group>, PrepareError> {
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
        encoders.par_iter_mut().zip(&mut writer.ids).enumerate().try_for_each(
            |(feature, (encoder, ids))| {
                parsed
                    .iter()
                    .try_for_each(|(_, rows)| encoder.encode(&rows.tokens[feature], ids))
                    .map_err(|TooMany| PrepareError::TooManyTokens {
                        feature: layout.sparse[feature].name.clone(),
                        limit: MAX_TOKENS as u64,
                    })
            },
        )?;
        writer.write_full()?;
        Ok(enough)
    }

    fn take_malformed(&mut self, file: usize, rows: &mut ParsedRows) -> Result<(), PrepareError> {
        self.lines += rows.lines;
        self.malformed += rows.malformed;
        let name = self.inputs[file].name();
        let room = MAX_EXAMPLES - self.examples.len();
        self.examples.extend(
            rows.examples.drain(..).take(room).map(|(line, reason)| MalformedLine {
                file: name.clone(),
                line,
                reason,
            }),
        );
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
