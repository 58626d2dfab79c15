//! `mprec score`: samples from a file to scores in a file.

use std::{fs, path::PathBuf, time::Instant};

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use mprec_backends::{Path, registry};
use mprec_datasets::Preprocessor;
use mprec_representations::{Batch, BatchShape, Bundle, Jagged};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde::Serialize;

use super::{InputError as _, Output, Run};

#[derive(Debug, Args)]
#[command(after_help = "\
The input is a safetensors file: `dense` f32 [B, dense features], already transformed; `indices` i64
[sparse features, total], the ids of every feature's bags one after the other, each feature padded to
the same total; `offsets` i64 [sparse features, B], where each bag starts. Optionally `lengths` i64
[sparse features], how many of a feature's indices are real. With --raw it is raw rows, as `mprec data prepare`
takes them, uncompressed; a label is not looked at. The output holds `scores` f32 [B].")]
pub(super) struct Score {
    /// The bundle's folder.
    bundle: PathBuf,
    /// What scores: `variant@backend`, such as `table@cpu`.
    #[arg(long)]
    path: Path,
    /// Samples, as safetensors.
    #[arg(long)]
    input: PathBuf,
    /// The input is raw rows, which the bundle's own preprocessing turns into features.
    #[arg(long)]
    raw: bool,
    /// Where the scores go.
    #[arg(long)]
    output: PathBuf,
}

#[derive(Serialize)]
struct Report {
    path: String,
    samples: usize,
    unknown_ids: usize,
    seconds: f64,
}

/// Largest input file.
const MAX_INPUT_BYTES: u64 = 4 << 30;

impl Score {
    pub(super) fn run(&self, output: &Output) -> Run {
        let bundle = Bundle::open(&self.bundle).or_bad_input()?;
        let program = bundle.program(self.path.variant()).or_bad_input()?;
        let backend = registry::open(self.path.backend()).or_bad_input()?;
        let batch = if self.raw {
            self.read_raw(&bundle).or_bad_input()?
        } else {
            self.read(&BatchShape::new(&bundle.manifest().schema)).or_bad_input()?
        };
        let mut executable = backend.prepare(&program)?;
        let mut scores = vec![0.0; batch.samples()];
        let start = Instant::now();
        executable.run(&batch, &mut scores)?;
        let seconds = start.elapsed().as_secs_f64();
        let bytes: Vec<u8> = scores.iter().flat_map(|score| score.to_le_bytes()).collect();
        let view = TensorView::new(Dtype::F32, vec![scores.len()], &bytes)?;
        safetensors::serialize_to_file([("scores", view)], None, &self.output)
            .with_context(|| format!("cannot write `{}`", self.output.display()))?;
        let report = Report {
            path: self.path.to_string(),
            samples: scores.len(),
            unknown_ids: batch.unknown_ids(),
            seconds,
        };
        output.result(&report, || {
            format!(
                "{} samples scored by {} in {:.1} ms ({} unknown ids), written to {}",
                report.samples,
                report.path,
                1e3 * seconds,
                report.unknown_ids,
                self.output.display()
            )
        })
    }

    fn content(&self) -> anyhow::Result<Vec<u8>> {
        let name = self.input.display();
        let size =
            fs::metadata(&self.input).with_context(|| format!("cannot read `{name}`"))?.len();
        ensure!(
            size <= MAX_INPUT_BYTES,
            "`{name}` has {size} bytes; the limit is {MAX_INPUT_BYTES}"
        );
        fs::read(&self.input).with_context(|| format!("cannot read `{name}`"))
    }

    fn read_raw(&self, bundle: &Bundle) -> anyhow::Result<Batch> {
        let preprocessor = Preprocessor::of_bundle(bundle)?.with_context(|| {
            format!(
                "bundle `{}` carries no preprocessing; put it there with `mprec data attach`",
                self.bundle.display()
            )
        })?;
        let content = self.content()?;
        let encoded = preprocessor.encode(&content).with_context(|| {
            format!("`{}` holds no raw rows of the bundle", self.input.display())
        })?;
        Ok(encoded.batch)
    }

    fn read(&self, shape: &BatchShape) -> anyhow::Result<Batch> {
        let name = self.input.display();
        let content = self.content()?;
        let tensors = SafeTensors::deserialize(&content)
            .with_context(|| format!("`{name}` is not a safetensors file"))?;
        let dense = tensor(&tensors, "dense", Dtype::F32, 2)?;
        let [samples, width] = [dense.shape()[0], dense.shape()[1]];
        ensure!(
            width == shape.dense_width(),
            "`dense` has {width} columns, the model {} dense features",
            shape.dense_width()
        );
        let indices = tensor(&tensors, "indices", Dtype::I64, 2)?;
        let offsets = tensor(&tensors, "offsets", Dtype::I64, 2)?;
        let features = shape.features();
        for (what, got) in [("indices", indices.shape()[0]), ("offsets", offsets.shape()[0])] {
            ensure!(
                got == features,
                "`{what}` has {got} rows, the model {features} sparse features"
            );
        }
        ensure!(
            offsets.shape()[1] == samples,
            "`offsets` has {} columns for {samples} samples",
            offsets.shape()[1]
        );
        let total = indices.shape()[1];
        let real = match tensors.tensor("lengths") {
            Ok(_) => {
                let lengths = tensor(&tensors, "lengths", Dtype::I64, 1)?;
                ensure!(lengths.shape()[0] == features, "`lengths` must have {features} values");
                integers(&lengths)
            }
            Err(_) => vec![total as i64; features],
        };
        let (indices, offsets) = (integers(&indices), integers(&offsets));
        let mut jagged = Jagged::default();
        for feature in 0..features {
            let end = real[feature];
            ensure!((0..=total as i64).contains(&end), "`lengths` of feature {feature} is {end}");
            let starts = &offsets[feature * samples..][..samples];
            let ends = starts.iter().skip(1).chain([&end]);
            for (sample, (&start, &next)) in starts.iter().zip(ends).enumerate() {
                if start < 0 || next < start || next > end || (sample == 0 && start != 0) {
                    bail!(
                        "`offsets` of feature {feature} must rise from 0 to at most {end}, but sample {sample} spans {start}..{next}"
                    );
                }
                jagged.lengths.push(u32::try_from(next - start)?);
            }
            let used = if samples == 0 { 0 } else { end as usize };
            jagged.ids.extend_from_slice(&indices[feature * total..][..used]);
        }
        let dense = dense
            .data()
            .chunks_exact(4)
            .map(|bytes| f32::from_le_bytes(bytes.try_into().expect("chunks of four bytes")))
            .collect();
        Ok(shape.from_jagged(dense, &jagged)?)
    }
}

fn tensor<'a>(
    tensors: &SafeTensors<'a>,
    name: &str,
    dtype: Dtype,
    dimensions: usize,
) -> anyhow::Result<TensorView<'a>> {
    let view = tensors.tensor(name).with_context(|| format!("tensor `{name}` is missing"))?;
    ensure!(view.dtype() == dtype, "tensor `{name}` is {:?}, expected {dtype:?}", view.dtype());
    let shape = view.shape();
    ensure!(
        shape.len() == dimensions,
        "tensor `{name}` has shape {shape:?}, expected {dimensions} dimensions"
    );
    Ok(view)
}

fn integers(view: &TensorView<'_>) -> Vec<i64> {
    let chunks = view.data().chunks_exact(8);
    chunks.map(|bytes| i64::from_le_bytes(bytes.try_into().expect("chunks of eight"))).collect()
}
