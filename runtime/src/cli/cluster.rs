//! `mprec cluster`: the nearest of some centroids instead of a DHE's decoder, as a variant of its own with its own measured
//! quality.

use std::path::PathBuf;

use clap::Args;
use mprec_backends::cpu::DheVectors;
use mprec_datasets::{AccessStatistics, Dataset, Split};
use mprec_representations::{Bundle, BundleWriter, Clustering, DlrmSpec, Weights};
use serde::Serialize;

use super::{
    Failure, InputError as _, Output, Run,
    derived::{Change, Judged, open},
    materialise::compute,
    output::{self, Unit},
    variant::{new_name, own_architecture},
};

/// What this command does to a variant, in messages.
const VERB: &str = "cluster";

#[derive(Debug, Args)]
#[command(
    after_help = "For an id, the new variant picks the centroid nearest to its code, and that one's stored vector: k products \
    for each of N centroids instead of a decoder's layers. Ids that share a centroid become one, so quality falls with \
    every id beyond N, and a feature of at most N ids is exact. \
    It is measured on the held-out rows of --data and stands beside the old one: the router sees it as one more path. A \
    loss of more than 0.005 AUC is refused without --force.\n\n\
    Look at what is exact first: `mprec materialise` where there is memory for every id's vector, `--cache` of `mprec serve` \
    where there is for some."
)]
pub(super) struct Cluster {
    /// The bundle's folder.
    bundle: PathBuf,
    /// A variant with DHEs: `dhe`, `hybrid` or `select`, in full precision.
    #[arg(long)]
    variant: String,
    /// Most centroids of a feature, N.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    centroids: u32,
    /// Prepared data: its training rows say how often ids occur, its held-out rows judge the result.
    #[arg(long)]
    data: PathBuf,
    /// Name of the new variant [default: the old name, `-clustered-` and N].
    #[arg(long)]
    name: Option<String>,
    /// Add it whatever it loses.
    #[arg(long)]
    force: bool,
}

#[derive(Serialize)]
struct Report {
    centroids: u32,
    #[serde(flatten)]
    change: Change,
    embedding_flops: usize,
    from_embedding_flops: usize,
}

impl Cluster {
    pub(super) fn run(&self, output: &Output) -> Run {
        let (bundle, dataset) = open(&self.bundle, &self.data)?;
        let name = self.name.clone();
        let name = name.unwrap_or_else(|| format!("{}-clustered-{}", self.variant, self.centroids));
        let name = new_name(&bundle, name)?;
        // Before anything is scored.
        let spec = own_architecture(&bundle, &self.variant, VERB)?;
        let clustered = self.clustered(&bundle, spec, &dataset, &name, output)?;
        let before = Judged::stored(&bundle, &self.variant, VERB, &dataset, output)?;
        let after = Judged::new(&bundle, &name, clustered, &dataset, output)?;
        let change = Change::new((&self.variant, &before), (&name, &after));
        let remedy = "more `--centroids`, `mprec materialise` or a cache, which are exact";
        change.check(self.force, remedy, output)?;
        if after.embedding_flops >= before.embedding_flops {
            output.note(&format!(
                "warning: `{name}` takes {:.1} times the operations of `{}` to embed a sample: there is nothing to gain",
                after.embedding_flops as f64 / before.embedding_flops as f64,
                self.variant
            ));
        }
        after.add(&name, &dataset, &mut BundleWriter::open(&self.bundle).or_bad_input()?)?;
        let report = Report {
            centroids: self.centroids,
            change,
            embedding_flops: after.embedding_flops,
            from_embedding_flops: before.embedding_flops,
        };
        output.result(&report, || {
            format!(
                "{}\n{} operations to embed a sample, {} before",
                report.change.text(),
                output::count(report.embedding_flops as u64),
                output::count(report.from_embedding_flops as u64)
            )
        })
    }

    /// The architecture and the parameters of the new variant.
    fn clustered(
        &self,
        bundle: &Bundle,
        spec: &DlrmSpec,
        dataset: &Dataset,
        name: &str,
        output: &Output,
    ) -> Result<(DlrmSpec, Weights), Failure> {
        let rows = dataset.rows(Split::Train);
        if rows.is_empty() {
            return Err(Failure::input(anyhow::anyhow!(
                "{} has no training rows, and centroids are made of the ids in them",
                dataset.label()
            )));
        }
        let statistics = AccessStatistics::count(dataset, rows, &[]).or_bad_input()?;
        let counts = statistics.features.iter().map(|feature| &*feature.counts).collect();
        let clustering = Clustering { centroids: self.centroids as usize, counts };
        let schema = &bundle.manifest().schema;
        let program = bundle.program(&self.variant).or_bad_input()?;
        let vectors = DheVectors::new(&program, schema)?;
        let total = clustering.steps(schema, spec);
        let bar = output.bar(&format!("cluster {name}"), total, Unit::Steps);
        let weights = bundle.weights(&self.variant).or_bad_input()?;
        let clustered = clustering.apply(
            schema,
            spec,
            weights,
            // Comparisons are nearly all of the work, and what the bar counts.
            |feature, ids| Ok(compute(&vectors, feature, ids.len(), |at| ids[at], |_| ())?),
            &|steps| bar.inc(steps),
        );
        bar.finish_and_clear();
        clustered
    }
}
