//! Rows of a synthetic data set, by number.

use std::{
    io::{self, Write},
    ops::Range,
};

use mprec_representations::{BatchShape, OutOfVocabulary, Schema, SparseFeature};

use super::{
    SyntheticOptions,
    draw::Draw,
    planted::{Planted, bias_for, logistic},
    zipf::Zipf,
};
use crate::{
    dataset::LabelledBatch,
    error::{DatasetError, PrepareError},
    read::log_of,
    source::Source,
    token::mix,
};

/// Rows from which the planted model's bias is set.
const CALIBRATION_ROWS: u64 = 1 << 14;

/// Streams of random numbers: of rows, and of the rows that set the bias.
const ROWS: u64 = 0;
const CALIBRATION: u64 = 1;

/// A synthetic data set. Holds no rows; makes them.
#[derive(Debug, Clone)]
pub struct Synthetic {
    schema: Schema,
    shape: BatchShape,
    label: String,
    seed: u64,
    rows: u64,
    exponents: Vec<f64>,
    laws: Vec<Zipf>,
    dense: Vec<DenseLaw>,
    planted: Planted,
}

/// A dense feature: the integer part of e^(mean + deviation·z), or missing.
#[derive(Debug, Clone, Copy)]
struct DenseLaw {
    mean: f64,
    deviation: f64,
    missing: f64,
}

/// One row as it is drawn.
#[derive(Debug, Clone, Default)]
pub(super) struct Row {
    pub(super) ids: Vec<u64>,
    /// Integers before the logarithm.
    pub(super) dense: Vec<Option<i64>>,
    normals: Vec<Option<f64>>,
    pub(super) probability: f64,
    pub(super) click: bool,
}

impl Synthetic {
    /// The data set that belongs to the options.
    ///
    /// # Errors
    ///
    /// [`PrepareError::Option`] when one is out of its range, [`PrepareError::Schema`] when the
    /// features make no schema.
    pub fn new(options: &SyntheticOptions) -> Result<Self, PrepareError> {
        options.check()?;
        let seed = mix(options.seed);
        let sparse = options.cardinalities.iter().zip(1..);
        let schema = Schema::new(
            (1..=options.dense).map(|number| format!("I{number}")).collect(),
            sparse
                .map(|(&cardinality, number)| SparseFeature {
                    name: format!("C{number}"),
                    cardinality,
                })
                .collect(),
            OutOfVocabulary::Zero,
        )?;
        let (low, high) = options.exponents;
        let exponents: Vec<_> = (0..options.cardinalities.len() as u64)
            .map(|feature| low + (high - low) * Draw::new(seed, 2, feature).uniform())
            .collect();
        let laws = options.cardinalities.iter().zip(&exponents);
        let dense = (0..options.dense as u64).map(|feature| {
            let mut draw = Draw::new(seed, 3, feature);
            // The span of medians, spreads and missing parts of real click logs' counters.
            let mean = 0.5 + 5.5 * draw.uniform();
            let deviation = 0.8 + 0.8 * draw.uniform();
            DenseLaw { mean, deviation, missing: 0.45 * draw.uniform().powi(2) }
        });
        let mut data = Self {
            shape: BatchShape::new(&schema),
            schema,
            label: format!("{} (synthetic)", options.name),
            seed,
            rows: options.rows,
            laws: laws.map(|(&ranks, &exponent)| Zipf::new(ranks, exponent)).collect(),
            exponents,
            dense: dense.collect(),
            planted: Planted::new(seed, options.signal, &options.cardinalities, options.dense),
        };
        let mut row = Row::default();
        let logits: Vec<_> = (0..CALIBRATION_ROWS)
            .map(|at| {
                data.draw(CALIBRATION, at, &mut row);
                data.planted.logit(&row.ids, &row.normals)
            })
            .collect();
        data.planted.bias = bias_for(&logits, options.click_rate);
        Ok(data)
    }

    /// The features.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// What every output calls the data.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Number of rows.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Zipf exponent of every sparse feature.
    pub fn exponents(&self) -> &[f64] {
        &self.exponents
    }

    /// The planted model's probability of a click in row `at`: what its label was drawn with.
    pub fn probability(&self, at: u64) -> f64 {
        let mut row = Row::default();
        self.row(at, &mut row);
        row.probability
    }

    /// Consecutive rows.
    ///
    /// # Errors
    ///
    /// [`DatasetError::Rows`] when they are not all there.
    pub fn batch(&self, rows: Range<u64>) -> Result<LabelledBatch, DatasetError> {
        if rows.start > rows.end || rows.end > self.rows {
            return Err(DatasetError::Rows {
                first: rows.start as usize,
                end: rows.end as usize,
                rows: self.rows as usize,
            });
        }
        let samples = (rows.end - rows.start) as usize;
        let mut dense = Vec::with_capacity(samples * self.dense.len());
        let mut ids = vec![0_i64; samples * self.laws.len()];
        let mut labels = Vec::with_capacity(samples);
        let mut row = Row::default();
        for (sample, at) in rows.enumerate() {
            self.row(at, &mut row);
            dense.extend(row.dense.iter().map(|value| log_of(value.unwrap_or(0))));
            for (feature, &id) in row.ids.iter().enumerate() {
                // At most 2^32.
                ids[feature * samples + sample] = id as i64;
            }
            labels.push(if row.click { 1.0 } else { 0.0 });
        }
        Ok(LabelledBatch { batch: self.shape.from_columns(dense, &ids)?, labels })
    }

    /// All rows as a [`Source`].
    pub fn source(&self) -> SyntheticRows<'_> {
        SyntheticRows { data: self, left: 0..self.rows }
    }

    /// Writes rows as lines of a click log in the Criteo layout: label, integers, and 8
    /// hexadecimal digits per sparse feature, separated by tabs. Different ids of a feature have
    /// different digits.
    ///
    /// # Errors
    ///
    /// What `to` returns.
    pub fn write_lines(&self, rows: Range<u64>, to: &mut dyn Write) -> io::Result<()> {
        let mut row = Row::default();
        let mut line = Vec::new();
        for at in rows {
            self.row(at, &mut row);
            line.clear();
            line.push(b'0' + u8::from(row.click));
            for value in &row.dense {
                line.push(b'\t');
                if let Some(value) = value {
                    write!(line, "{value}")?;
                }
            }
            for (feature, &id) in row.ids.iter().enumerate() {
                write!(line, "\t{:08x}", self.digits(feature, id))?;
            }
            line.push(b'\n');
            to.write_all(&line)?;
        }
        Ok(())
    }

    /// The value that stands for an id in text: a bijection of 32-bit numbers, one per feature.
    fn digits(&self, feature: usize, id: u64) -> u32 {
        // Cardinalities are at most 2^32.
        let value = (id as u32) ^ mix(self.seed ^ feature as u64) as u32;
        let value = (value ^ value >> 16).wrapping_mul(0x85eb_ca6b);
        let value = (value ^ value >> 13).wrapping_mul(0xc2b2_ae35);
        value ^ value >> 16
    }

    /// Row `at`, into `row`.
    pub(super) fn row(&self, at: u64, row: &mut Row) {
        let mut draw = self.draw(ROWS, at, row);
        row.probability = logistic(self.planted.logit(&row.ids, &row.normals));
        row.click = draw.uniform() < row.probability;
    }

    fn draw(&self, stream: u64, at: u64, row: &mut Row) -> Draw {
        let mut draw = Draw::new(self.seed, stream, at);
        row.ids.clear();
        row.dense.clear();
        row.normals.clear();
        for (law, feature) in self.laws.iter().zip(self.schema.sparse()) {
            row.ids.push(law.draw(&mut draw) % feature.cardinality);
        }
        for law in &self.dense {
            let normal = (draw.uniform() >= law.missing).then(|| draw.normal());
            row.normals.push(normal);
            row.dense.push(normal.map(|z| (law.mean + law.deviation * z).exp() as i64));
        }
        draw
    }
}

/// Rows of a [`Synthetic`] data set, from first to last.
#[derive(Debug)]
pub struct SyntheticRows<'a> {
    data: &'a Synthetic,
    left: Range<u64>,
}

impl Source for SyntheticRows<'_> {
    fn schema(&self) -> &Schema {
        &self.data.schema
    }

    fn label(&self) -> String {
        self.data.label.clone()
    }

    fn rows_left(&self) -> Option<u64> {
        Some(self.left.end - self.left.start)
    }

    fn next_batch(&mut self, samples: usize) -> Result<Option<LabelledBatch>, DatasetError> {
        let end = self.left.start.saturating_add(samples as u64).min(self.left.end);
        if end == self.left.start {
            return Ok(None);
        }
        let batch = self.data.batch(self.left.start..end)?;
        self.left.start = end;
        Ok(Some(batch))
    }
}
