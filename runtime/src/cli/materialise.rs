//! `mprec materialise`: a DHE's vectors computed once for every id, as a variant of its own.

use std::{path::PathBuf, thread::ScopedJoinHandle};

use clap::Args;
use mprec_backends::{BackendError, cpu::DheVectors};
use mprec_representations::{Bundle, BundleWriter, Tensor, materialise};
use serde::Serialize;

use super::{
    Failure, InputError as _, Output, Run,
    output::{self, Unit},
    variant::{new_name, own_architecture},
};

#[derive(Debug, Args)]
#[command(
    after_help = "The new variant gives the scores of the old one (to the rounding of sums) at the speed of a table, and takes \
    4 bytes for every id and dimension. It keeps the old one's measured quality. Quantise it like any other."
)]
pub(super) struct Materialise {
    /// The bundle's folder.
    bundle: PathBuf,
    /// A variant with DHEs: `dhe`, `hybrid` or `select`, in full precision.
    #[arg(long)]
    variant: String,
    /// Name of the new variant [default: the old name and `-rows`].
    #[arg(long)]
    name: Option<String>,
    /// Refuse to take more memory than this for rows, in MiB.
    #[arg(long, default_value_t = 8192)]
    max_mib: u64,
}

#[derive(Serialize)]
struct Report {
    variant: String,
    from: String,
    bytes: usize,
    from_bytes: usize,
}

impl Materialise {
    pub(super) fn run(&self, output: &Output) -> Run {
        let bundle = Bundle::open(&self.bundle).or_bad_input()?;
        let name = self.name.clone().unwrap_or_else(|| format!("{}-rows", self.variant));
        let name = new_name(&bundle, name)?;
        let spec = own_architecture(&bundle, &self.variant, "materialise")?;
        let quality = bundle.manifest().variant(&self.variant)?.quality.clone();
        let schema = &bundle.manifest().schema;
        let program = bundle.program(&self.variant).or_bad_input()?;
        let vectors = DheVectors::new(&program, schema)?;
        let ids = |feature: usize| schema.sparse()[feature].cardinality;
        let computed = |feature: usize| vectors.dim(feature).map(|dim| ids(feature) * dim as u64);
        let features = 0..schema.sparse().len();
        let floats: u64 = features.clone().filter_map(computed).sum();
        let (needed, most) = (floats.saturating_mul(4), self.max_mib.saturating_mul(1 << 20));
        if needed > most {
            return Err(Failure::input(anyhow::anyhow!(
                "the rows of `{name}` would take {}, more than {}; raise `--max-mib` if there is room",
                output::bytes(needed),
                output::bytes(most)
            )));
        }

        let total = features.filter(|&feature| vectors.dim(feature).is_some()).map(ids).sum();
        let bar = output.bar(&format!("materialise {name}"), total, Unit::Rows);
        let (spec, weights) =
            materialise(schema, spec, bundle.weights(&self.variant)?, |feature| {
                let ids = ids(feature) as usize;
                let told = |ids| bar.inc(ids);
                Ok::<_, Failure>(compute(&vectors, feature, ids, |at| at as u64, told)?)
            })?;
        bar.finish_and_clear();
        let mut writer = BundleWriter::open(&self.bundle).or_bad_input()?;
        writer.add(&name, &spec, &weights, quality)?;
        writer.finish()?;
        let report = Report {
            variant: name,
            from: self.variant.clone(),
            bytes: weights.bytes(),
            from_bytes: program.bytes(),
        };
        output.result(&report, || {
            format!(
                "`{}` computes nothing and takes {}; `{}` takes {}",
                report.variant,
                output::bytes(report.bytes as u64),
                report.from,
                output::bytes(report.from_bytes as u64)
            )
        })
    }
}

/// The vectors of as many ids of a feature, computed by all cores. `id` gives each of them.
pub(super) fn compute(
    vectors: &DheVectors,
    feature: usize,
    ids: usize,
    id: impl Fn(usize) -> u64 + Sync,
    progress: impl Fn(u64) + Sync,
) -> Result<Tensor<f32>, BackendError> {
    let dim = vectors.dim(feature).expect("only features with a DHE are asked for");
    let mut rows = vec![0.0; ids * dim];
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let share = ids.div_ceil(threads).max(1);
    std::thread::scope(|scope| {
        let mut handles = Vec::new();
        for (thread, rows) in rows.chunks_mut(share * dim).enumerate() {
            let ids = (thread * share..).map(&id);
            let progress = &progress;
            handles.push(scope.spawn(move || vectors.compute(feature, ids, rows, progress)));
        }
        let join = |handle: ScopedJoinHandle<'_, Result<(), BackendError>>| {
            handle.join().expect("computing returns errors and does not panic")
        };
        handles.into_iter().try_for_each(join)
    })?;
    Ok(Tensor::new(&[ids, dim], rows))
}
