//! A variant made from another one: judged beside it on held-out rows, refused if it loses too much, and added with its
//! own measured quality.

use std::path::Path as FilePath;

use mprec_backends::{BackendKind, Path};
use mprec_datasets::Dataset;
use mprec_representations::{Bundle, BundleWriter, Dlrm, DlrmSpec, Weights};
use mprec_trainer::Metrics;
use serde::Serialize;

use super::{
    Failure, InputError as _, Output, Run,
    eval::{check_schema, evaluate},
    output,
    train::{judged, quality},
    variant::own_architecture,
};

/// A loss of AUC above this is worth a warning.
const NOTABLE_LOSS: f64 = 0.0005;
/// A loss of AUC above this is refused.
const REFUSED_LOSS: f64 = 0.005;

/// A bundle, and data of its features that judges variants.
pub(super) fn open(bundle: &FilePath, data: &FilePath) -> Result<(Bundle, Dataset), Failure> {
    let bundle = Bundle::open(bundle).or_bad_input()?;
    let dataset = Dataset::open(data).or_bad_input()?;
    check_schema(&bundle, &dataset).or_bad_input()?;
    Ok((bundle, dataset))
}

/// A variant that has been judged, and need not be in a bundle yet.
pub(super) struct Judged {
    spec: DlrmSpec,
    weights: Weights,
    /// On the rows that quality is measured on.
    pub(super) metrics: Metrics,
    /// Of its program.
    pub(super) bytes: usize,
    /// Operations to embed the ids of a sample that has one of each feature.
    pub(super) embedding_flops: usize,
}

impl Judged {
    /// Judges a variant of the bundle that is no ensemble; `verb` is what is to be done to it, in messages.
    pub(super) fn stored(
        bundle: &Bundle,
        variant: &str,
        verb: &str,
        dataset: &Dataset,
        output: &Output,
    ) -> Result<Self, Failure> {
        let spec = own_architecture(bundle, variant, verb)?.clone();
        let weights = bundle.weights(variant).or_bad_input()?.clone();
        Self::new(bundle, variant, (spec, weights), dataset, output)
    }

    /// Judges a model of these parameters, which is or will be called `name`.
    pub(super) fn new(
        bundle: &Bundle,
        name: &str,
        (spec, weights): (DlrmSpec, Weights),
        dataset: &Dataset,
        output: &Output,
    ) -> Result<Self, Failure> {
        let model = Dlrm::load(&bundle.manifest().schema, &spec, &weights)?;
        let program = model.lower()?;
        let path = Path::new(name, BackendKind::Cpu).or_bad_input()?;
        let (metrics, _) = evaluate(&program, &path, dataset, judged(dataset), output)?;
        let embedding_flops = model.embedding_cost().flops_per_id;
        Ok(Self { spec, weights, metrics, bytes: program.bytes(), embedding_flops })
    }

    /// Writes it into the bundle, with its quality.
    pub(super) fn add(&self, name: &str, dataset: &Dataset, writer: &mut BundleWriter) -> Run {
        let quality = quality(dataset, &self.metrics);
        writer.add(name, &self.spec, &self.weights, Some(quality))?;
        Ok(writer.finish()?)
    }
}

/// What a variant gained and lost.
#[derive(Serialize)]
pub(super) struct Change {
    variant: String,
    from: String,
    /// The new variant's.
    #[serde(flatten)]
    metrics: Metrics,
    #[serde(skip)]
    before: Metrics,
    bytes: usize,
    from_bytes: usize,
    auc_change: f64,
    logloss_change: f64,
    accuracy_change: f64,
}

impl Change {
    /// From `before` to `after`, with their names.
    pub(super) fn new((from, before): (&str, &Judged), (name, after): (&str, &Judged)) -> Self {
        Self {
            variant: name.to_owned(),
            from: from.to_owned(),
            metrics: after.metrics,
            before: before.metrics,
            bytes: after.bytes,
            from_bytes: before.bytes,
            auc_change: after.metrics.auc - before.metrics.auc,
            logloss_change: after.metrics.logloss - before.metrics.logloss,
            accuracy_change: after.metrics.accuracy - before.metrics.accuracy,
        }
    }

    /// Refuses a variant that loses too much, unless `force`, and warns of one that loses much. `remedy` is what to try
    /// instead.
    pub(super) fn check(&self, force: bool, remedy: &str, output: &Output) -> Run {
        let (name, loss) = (&self.variant, -self.auc_change);
        if loss > REFUSED_LOSS && !force {
            return Err(anyhow::anyhow!(
                "`{name}` loses {loss:.4} AUC on {} held-out rows, more than {REFUSED_LOSS}; \
                 nothing was added; try {remedy}, or `--force`",
                self.metrics.samples
            )
            .into());
        }
        if loss > NOTABLE_LOSS {
            output.note(&format!("warning: `{name}` loses {loss:.4} AUC"));
        }
        Ok(())
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let row = |name: &str, metrics: &Metrics, bytes: usize| {
            [
                name.to_owned(),
                format!("{:.4}", metrics.auc),
                format!("{:.4}", metrics.logloss),
                format!("{:.4}", metrics.accuracy),
                format!("{:.4}", metrics.ece),
                output::bytes(bytes as u64),
            ]
        };
        format!(
            "{}\nAUC {:+.5}, log loss {:+.5}, accuracy {:+.5} on {} rows",
            output::table(
                ["variant", "AUC", "log loss", "accuracy", "ECE", "memory"],
                [
                    row(&self.from, &self.before, self.from_bytes),
                    row(&self.variant, &self.metrics, self.bytes),
                ]
            ),
            self.auc_change,
            self.logloss_change,
            self.accuracy_change,
            output::count(self.metrics.samples),
        )
    }
}
