//! `mprec import`: a model that others trained, from a PyTorch checkpoint or a safetensors file.

use std::path::{Path, PathBuf};

use clap::Args;
use mprec_representations::{
    Bundle, BundleWriter, Interaction,
    bundle::{MANIFEST, is_name},
};
use mprec_trainer::import::{Arch, Checkpoint, Imported, import};
use serde::Serialize;

use super::{
    Failure, InputError as _, Output, Run,
    output::{self, Unit},
};

#[derive(Debug, Args)]
#[command(
    after_help = "Reads `.pt` files of facebookresearch/dlrm, of MP-Rec's artifact and of torchrec (DLRM and DLRM_DCN), and \
    safetensors files with the same names, without Python: nothing of a checkpoint is executed, and one that asks for \
    more than tensors is refused. docs/import.md describes architecture files.\n\n\
    The new variant has no quality: measure it with `mprec eval`, or declare it in the serving config."
)]
pub(super) struct Import {
    /// The checkpoint: a file that `torch.save` wrote, or a safetensors file.
    #[arg(long, value_name = "CHECKPOINT")]
    from: PathBuf,
    /// `kaggle`, `terabyte`, or a TOML or JSON file that names features and choices.
    #[arg(long, value_name = "kaggle|terabyte|FILE")]
    arch: String,
    /// The bundle's folder. A bundle that is there gets one more variant; its features must be the same.
    #[arg(long, value_name = "BUNDLE")]
    out: PathBuf,
    /// Name of the variant [default: its representation: table, dhe, hybrid, select…].
    #[arg(long, value_name = "NAME")]
    variant: Option<String>,
    /// Name of a new bundle's model, by which clients ask for it.
    #[arg(long, default_value = "dlrm")]
    model: String,
    /// Version of a new bundle's model, in digits.
    #[arg(long, default_value_t = 1)]
    model_version: u64,
    /// Do not compare the tensors with the checksums of the archive: for files that were saved without them.
    #[arg(long)]
    no_checksums: bool,
}

#[derive(Serialize)]
struct Report {
    bundle: PathBuf,
    variant: String,
    /// Whose names the checkpoint uses.
    layout: String,
    representation: &'static str,
    interaction: &'static str,
    dense_features: usize,
    sparse_features: usize,
    bottom: Vec<usize>,
    top: Vec<usize>,
    tensors: usize,
    bytes: usize,
    /// Nothing is known of how good it is.
    quality: Option<()>,
}

impl Import {
    pub(super) fn run(&self, output: &Output) -> Run {
        let arch = match self.arch.as_str() {
            "kaggle" => Arch::kaggle(),
            "terabyte" => Arch::terabyte(),
            file => Arch::open(file).or_bad_input()?,
        };
        let checkpoint = Checkpoint::open(&self.from).or_bad_input()?;
        let imported = import(&checkpoint, &arch).or_bad_input()?;
        let name = self.variant.clone().unwrap_or_else(|| imported.representation().to_owned());
        // All that can be refused is refused before anything is written.
        for (flag, name) in [("variant", &name), ("model", &self.model)] {
            if !is_name(name) {
                return Err(Failure::input(anyhow::anyhow!(
                    "`--{flag} {name}` must match [a-z0-9_.-]+ and have at most 128 bytes"
                )));
            }
        }
        let existing = self.out.join(MANIFEST).exists();
        if existing {
            check_existing(&self.out, &name, &imported)?;
        }
        self.verify(&checkpoint, &imported, output)?;
        let mut writer = self.writer(existing, &imported)?;
        let total = imported.weights.bytes() as u64 * 3;
        let bar = output.bar(&format!("write {name}"), total, Unit::Bytes);
        writer.add_reporting(&name, &imported.spec, &imported.weights, None, &mut |bytes| {
            bar.inc(bytes);
        })?;
        writer.finish()?;
        bar.finish_and_clear();
        let report = Report::new(self.out.clone(), name, &imported);
        output.result(&report, || report.text())
    }

    /// Looks at every byte of the checkpoint's tensors.
    fn verify(&self, checkpoint: &Checkpoint, imported: &Imported, output: &Output) -> Run {
        let checksums = !self.no_checksums;
        let total = imported.bytes_to_verify(checksums);
        let bar = output.bar("check", total, Unit::Bytes);
        let verified = imported.verify(checkpoint, checksums, &mut |bytes| bar.inc(bytes));
        bar.finish_and_clear();
        verified.or_bad_input()
    }

    fn writer(&self, existing: bool, imported: &Imported) -> Result<BundleWriter, Failure> {
        if existing {
            return BundleWriter::open(&self.out).or_bad_input();
        }
        let (schema, preprocessing) = (imported.schema.clone(), imported.preprocessing.clone());
        let writer = BundleWriter::create(
            &self.out,
            &self.model,
            &self.model_version.to_string(),
            schema,
            preprocessing,
        )?;
        Ok(writer)
    }
}

/// Refuses a bundle that the variant cannot join.
fn check_existing(folder: &Path, name: &str, imported: &Imported) -> Run {
    let bundle = Bundle::open(folder).or_bad_input()?;
    let manifest = bundle.manifest();
    let (theirs, ours) = (&manifest.preprocessing, &imported.preprocessing);
    let differs = match (theirs, ours) {
        _ if manifest.schema != imported.schema => Some("features"),
        (Some(theirs), Some(ours)) if theirs.dense != ours.dense => Some("preprocessing"),
        _ => None,
    };
    if let Some(what) = differs {
        return Err(Failure::input(anyhow::anyhow!(
            "the bundle `{}` has other {what} than the architecture; import into a new folder",
            folder.display()
        )));
    }
    if manifest.variant(name).is_ok() {
        return Err(Failure::input(anyhow::anyhow!(
            "the bundle has a variant `{name}` already; choose another with `--variant`"
        )));
    }
    Ok(())
}

impl Report {
    fn new(bundle: PathBuf, variant: String, imported: &Imported) -> Self {
        let spec = &imported.spec;
        Self {
            bundle,
            variant,
            layout: imported.layout.to_string(),
            representation: imported.representation(),
            interaction: match spec.interaction {
                _ if spec.cross.is_some() => "cross",
                Interaction::Dot { .. } => "dot",
                Interaction::Cat => "cat",
            },
            dense_features: imported.schema.dense().len(),
            sparse_features: imported.schema.sparse().len(),
            bottom: spec.bottom.clone(),
            top: spec.top.clone(),
            tensors: imported.weights.iter().count(),
            bytes: imported.weights.bytes(),
            quality: None,
        }
    }

    fn text(&self) -> String {
        let widths = |net: &[usize]| {
            let widths: Vec<String> = net.iter().map(usize::to_string).collect();
            widths.join("-")
        };
        format!(
            "`{}` of names as {} is now `{}` in `{}`: {} dense and {} sparse features, {} interaction, bottom net {}, \
             top net {}, {} tensors, {}.\nIts quality is UNKNOWN: measure it with `mprec eval {} --data FOLDER --path \
             {}@cpu`, or declare it in the serving config.",
            self.representation,
            self.layout,
            self.variant,
            self.bundle.display(),
            self.dense_features,
            self.sparse_features,
            self.interaction,
            widths(&self.bottom),
            widths(&self.top),
            self.tensors,
            output::bytes(self.bytes as u64),
            self.bundle.display(),
            self.variant
        )
    }
}
