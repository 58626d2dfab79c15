//! Reads a bundle: checks its structure, maps its files, builds programs.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
};

use half::{bf16, f16};
use memmap2::Mmap;
use safetensors::{Dtype, SafeTensorError, SafeTensors, tensor::Metadata};

use super::{
    Architecture, BundleError, MANIFEST, MANIFEST_DIGEST, Manifest, TensorEntry, VariantEntry,
    digest, write::digest_file,
};
use crate::{
    dlrm::{Dlrm, ModelError},
    program::{Program, ProgramBuilder},
    quant::TAIL,
    tensor::Tensor,
    weights::{AnyTensor, Weights},
};

/// Largest manifest; a real one with thousands of tensors stays below a megabyte or two.
const MAX_MANIFEST_BYTES: u64 = 64 << 20;

/// An opened bundle: a checked manifest and mapped tensor files.
#[derive(Debug)]
pub struct Bundle {
    folder: PathBuf,
    manifest: Manifest,
    pub(super) manifest_bytes: Vec<u8>,
    files: BTreeMap<String, Arc<Mmap>>,
    weights: BTreeMap<String, Weights>,
}

impl Bundle {
    /// Opens the bundle in `folder`.
    ///
    /// Checks the manifest (against its digest too, if that is there), the header of every tensor
    /// file against the manifest, and the sizes of other files. Copies no tensor and reads none of their bytes.
    ///
    /// The files must not be changed while the bundle is open: write a new folder instead.
    ///
    /// # Errors
    ///
    /// [`BundleError`], which names the file and, where it is about one, the tensor.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self, BundleError> {
        let folder = folder.as_ref().to_owned();
        let manifest_bytes = read_small(&folder.join(MANIFEST))?;
        let digest_path = folder.join(MANIFEST_DIGEST);
        if digest_path.exists() {
            check_manifest_digest(&digest_path, &manifest_bytes)?;
        }
        let manifest: Manifest = serde_json::from_slice(&manifest_bytes)
            .map_err(|source| BundleError::Manifest { path: folder.join(MANIFEST), source })?;
        manifest.check()?;
        let mut bundle = Self {
            folder,
            manifest,
            manifest_bytes,
            files: BTreeMap::new(),
            weights: BTreeMap::new(),
        };
        for variant in &bundle.manifest.variants {
            if let Some(file) = &variant.file {
                let (map, weights) = open_tensors(&bundle.folder, file, variant)?;
                bundle.files.insert(variant.name.clone(), map);
                bundle.weights.insert(variant.name.clone(), weights);
            }
        }
        for entry in bundle.manifest.raw_files() {
            let path = bundle.folder.join(&entry.file);
            let got = std::fs::metadata(&path).map_err(BundleError::io(&path))?.len();
            if got != entry.bytes {
                let (file, expected) = (entry.file.clone(), entry.bytes);
                return Err(BundleError::Size { file, got, expected });
            }
        }
        Ok(bundle)
    }

    /// The manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Where it lies.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The tensors of a variant that has its own.
    ///
    /// # Errors
    ///
    /// [`BundleError::NoVariant`].
    pub fn weights(&self, variant: &str) -> Result<&Weights, BundleError> {
        let entry = self.manifest.variant(variant)?;
        self.weights.get(&entry.name).ok_or_else(|| {
            BundleError::Inconsistent(format!("variant `{variant}` has no tensors of its own"))
        })
    }

    /// The operations of a variant.
    ///
    /// # Errors
    ///
    /// [`BundleError::NoVariant`], or [`BundleError::Model`] when the tensors do not make the
    /// architecture.
    pub fn program(&self, variant: &str) -> Result<Program, BundleError> {
        let entry = self.manifest.variant(variant)?;
        let fail = |source: ModelError| BundleError::Model { variant: variant.to_owned(), source };
        match &entry.architecture {
            Architecture::Dlrm(_) => self.dlrm(variant)?.lower().map_err(fail),
            Architecture::Ensemble { members } => {
                let mut program = ProgramBuilder::new(&self.manifest.schema);
                let mut logits = Vec::with_capacity(members.len());
                for member in members {
                    logits.push(self.dlrm(member)?.lower_into(&mut program).map_err(fail)?);
                }
                let mean = program.mean(logits).map_err(|source| fail(source.into()))?;
                program.finish(mean).map_err(|source| fail(source.into()))
            }
        }
    }

    /// The model of a variant that is not an ensemble.
    ///
    /// # Errors
    ///
    /// As [`Bundle::program`].
    pub fn dlrm(&self, variant: &str) -> Result<Dlrm, BundleError> {
        let entry = self.manifest.variant(variant)?;
        let Architecture::Dlrm(spec) = &entry.architecture else {
            return Err(BundleError::Inconsistent(format!("variant `{variant}` is an ensemble")));
        };
        Dlrm::load(&self.manifest.schema, spec, self.weights(variant)?)
            .map_err(|source| BundleError::Model { variant: variant.to_owned(), source })
    }

    /// Reads every byte: digests of the manifest, of every tensor and of every file, that all
    /// floats are finite, and that every variant can be built.
    ///
    /// # Errors
    ///
    /// The first thing found wrong.
    pub fn verify(&self) -> Result<(), BundleError> {
        let digest_path = self.folder.join(MANIFEST_DIGEST);
        if !digest_path.exists() {
            return Err(BundleError::NoManifestDigest { file: MANIFEST_DIGEST });
        }
        check_manifest_digest(&digest_path, &self.manifest_bytes)?;
        for variant in &self.manifest.variants {
            if let (Some(file), Some(map)) = (&variant.file, self.files.get(&variant.name)) {
                verify_tensors(file, variant, map, &self.weights[&variant.name])?;
            }
            self.program(&variant.name)?;
        }
        for entry in self.manifest.raw_files() {
            let path = self.folder.join(&entry.file);
            let found = digest_file(&path, &mut |_| {}).map_err(BundleError::io(&path))?;
            if found != (entry.bytes, entry.sha256.clone()) {
                return Err(BundleError::RawDigest { file: entry.file.clone() });
            }
        }
        Ok(())
    }
}

pub(super) fn read_small(path: &Path) -> Result<Vec<u8>, BundleError> {
    let file = File::open(path).map_err(BundleError::io(path))?;
    let bytes = file.metadata().map_err(BundleError::io(path))?.len();
    let limit = MAX_MANIFEST_BYTES;
    if bytes > limit {
        return Err(BundleError::ManifestSize { path: path.to_owned(), bytes, limit });
    }
    let mut content = Vec::new();
    // Bounded again: the file may grow, and a device file reports no size.
    file.take(limit).read_to_end(&mut content).map_err(BundleError::io(path))?;
    Ok(content)
}

fn check_manifest_digest(path: &Path, manifest: &[u8]) -> Result<(), BundleError> {
    let content = read_small(path)?;
    let stated = content.split(|byte| byte.is_ascii_whitespace()).next().unwrap_or_default();
    if stated == digest(manifest).as_bytes() {
        Ok(())
    } else {
        Err(BundleError::ManifestDigest { file: MANIFEST })
    }
}

fn open_tensors(
    folder: &Path,
    file: &str,
    variant: &VariantEntry,
) -> Result<(Arc<Mmap>, Weights), BundleError> {
    let path = folder.join(file);
    let handle = File::open(&path).map_err(BundleError::io(&path))?;
    let bytes = handle.metadata().map_err(BundleError::io(&path))?.len();
    if bytes != variant.bytes {
        let (got, expected) = (bytes, variant.bytes);
        return Err(BundleError::Size { file: file.to_owned(), got, expected });
    }
    // SAFETY: the map is read-only and private to this process. `open` documents that the file
    // must not be changed while the bundle is open; bundles are replaced by folder, never edited.
    let map = unsafe { Mmap::map(&handle) }.map_err(BundleError::io(&path))?;
    let map = Arc::new(map);
    let header = |source: SafeTensorError| BundleError::Header {
        file: file.to_owned(),
        tensor: match &source {
            SafeTensorError::InvalidOffset(name) | SafeTensorError::TensorNotFound(name) => {
                Some(name.clone())
            }
            _ => None,
        },
        source,
    };
    // The parser proves that tensors lie one after the other, fill the file, and that no product
    // of dimensions overflows.
    let (length, metadata) = SafeTensors::read_metadata(&map).map_err(header)?;
    // Eight bytes before the header hold its length.
    let start = length + 8;
    let weights = map_tensors(file, variant, &map, &metadata, start)?;
    Ok((map, weights))
}

fn map_tensors(
    file: &str,
    variant: &VariantEntry,
    map: &Arc<Mmap>,
    metadata: &Metadata,
    start: usize,
) -> Result<Weights, BundleError> {
    let infos = metadata.tensors();
    let differs = |tensor: &str, got: String, expected: String| BundleError::Tensor {
        file: file.to_owned(),
        tensor: tensor.to_owned(),
        got,
        expected,
    };
    if let Some(extra) = infos.keys().find(|name| !variant.tensors.contains_key(name.as_str())) {
        return Err(differs(extra, "there".into(), "nothing".into()));
    }
    let mut weights = Weights::new();
    for (name, TensorEntry { dtype, shape, .. }) in &variant.tensors {
        let expected = format!("{dtype} {shape:?}");
        let Some(info) = infos.get(name) else {
            return Err(differs(name, "missing".into(), expected));
        };
        let got = format!("{:?} {:?}", info.dtype, info.shape);
        if got != expected {
            return Err(differs(name, got, expected));
        }
        let at = start + info.data_offsets.0;
        let tensor = match info.dtype {
            Dtype::F32 => Tensor::<f32>::mapped(shape, Arc::clone(map), at).map(AnyTensor::from),
            Dtype::F16 => Tensor::<f16>::mapped(shape, Arc::clone(map), at).map(AnyTensor::from),
            Dtype::BF16 => Tensor::<bf16>::mapped(shape, Arc::clone(map), at).map(AnyTensor::from),
            Dtype::I64 => Tensor::<i64>::mapped(shape, Arc::clone(map), at).map(AnyTensor::from),
            Dtype::I8 => Tensor::<i8>::mapped(shape, Arc::clone(map), at).map(AnyTensor::from),
            Dtype::U8 => Tensor::<u8>::mapped(shape, Arc::clone(map), at).map(AnyTensor::from),
            _ => return Err(differs(name, got, "F32, F16, BF16, I64, I8 or U8".into())),
        };
        // The parser has proved the range, so only alignment is left to go wrong.
        let tensor = tensor.ok_or_else(|| BundleError::Unaligned {
            file: file.to_owned(),
            tensor: name.clone(),
        })?;
        weights.insert(name, tensor);
    }
    Ok(weights)
}

/// The first value that is not finite, and its position: among floats, or among the scales and biases
/// of quantised rows, by the byte that it begins with.
fn not_finite(tensor: &AnyTensor) -> Option<(usize, f32)> {
    fn find(values: impl Iterator<Item = f32>) -> Option<(usize, f32)> {
        values.enumerate().find(|(_, value)| !value.is_finite())
    }
    match tensor {
        AnyTensor::F32(floats) => find(floats.as_slice().iter().copied()),
        AnyTensor::F16(floats) => find(floats.as_slice().iter().copied().map(f16::to_f32)),
        AnyTensor::BF16(floats) => find(floats.as_slice().iter().copied().map(bf16::to_f32)),
        AnyTensor::U8(rows) => {
            let (bytes, width) = (rows.as_slice(), rows.width());
            let tails = (0..rows.rows()).map(|row| (row + 1) * width).filter(|_| width >= TAIL);
            tails.flat_map(|end| [end - TAIL, end - TAIL / 2]).find_map(|at| {
                let value = f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32();
                (!value.is_finite()).then_some((at, value))
            })
        }
        AnyTensor::I64(_) | AnyTensor::I8(_) => None,
    }
}

fn verify_tensors(
    file: &str,
    variant: &VariantEntry,
    map: &Mmap,
    weights: &Weights,
) -> Result<(), BundleError> {
    for (name, tensor) in weights.iter() {
        if digest(tensor.as_bytes()) != variant.tensors[name].sha256 {
            let (file, tensor) = (file.to_owned(), name.to_owned());
            return Err(BundleError::TensorDigest { file, tensor });
        }
        if let Some((at, value)) = not_finite(tensor) {
            let (file, tensor) = (file.to_owned(), name.to_owned());
            return Err(BundleError::NotFinite { file, tensor, at, value });
        }
    }
    if variant.sha256.as_deref() != Some(digest(map).as_str()) {
        return Err(BundleError::FileDigest { file: file.to_owned() });
    }
    Ok(())
}
