//! Writes a bundle, so that a reader finds either the old state or the new one.

use std::{
    borrow::Cow,
    cell::RefCell,
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    path::{Path, PathBuf},
};

use safetensors::{Dtype, View};
use sha2::{Digest, Sha256};

use super::{
    Architecture, BundleError, FORMAT, FileEntry, MANIFEST, MANIFEST_DIGEST, Manifest,
    Preprocessing, Quality, TensorEntry, VariantEntry, digest, hex,
};
use crate::{
    dlrm::{Dlrm, DlrmSpec},
    schema::Schema,
    weights::{AnyTensor, Weights},
};

/// Adds variants to a bundle and writes its manifest.
///
/// Tensor files are written as variants are added, the manifest last and by renaming: before
/// [`BundleWriter::finish`] a new folder is no bundle, and an existing one is still the old one.
/// A variant's file is named after the digest of its contents, so no file of an existing bundle is
/// ever overwritten; files that nothing names any more are removed after the manifest is in place.
#[derive(Debug)]
pub struct BundleWriter {
    folder: PathBuf,
    manifest: Manifest,
}

impl BundleWriter {
    /// Starts an empty bundle in `folder`, which is created if it is not there.
    ///
    /// # Errors
    ///
    /// [`BundleError::Io`].
    pub fn create(
        folder: impl AsRef<Path>,
        model: &str,
        version: &str,
        schema: Schema,
        preprocessing: Option<Preprocessing>,
    ) -> Result<Self, BundleError> {
        let folder = folder.as_ref().to_owned();
        fs::create_dir_all(&folder).map_err(BundleError::io(&folder))?;
        let manifest = Manifest {
            format: FORMAT,
            model: model.to_owned(),
            version: version.to_owned(),
            schema,
            preprocessing,
            variants: Vec::new(),
        };
        Ok(Self { folder, manifest })
    }

    /// Continues the bundle in `folder`, to add variants to it or replace some.
    ///
    /// # Errors
    ///
    /// As [`Bundle::open`](super::Bundle::open).
    pub fn open(folder: impl AsRef<Path>) -> Result<Self, BundleError> {
        let bundle = super::Bundle::open(folder.as_ref())?;
        Ok(Self { folder: folder.as_ref().to_owned(), manifest: bundle.manifest().clone() })
    }

    /// Where the bundle lies.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The manifest so far.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Adds a variant with its tensors, or replaces the one of that name. Refuses tensors that do
    /// not make the architecture.
    ///
    /// # Errors
    ///
    /// [`BundleError::Model`] or [`BundleError::Io`].
    pub fn add(
        &mut self,
        name: &str,
        spec: &DlrmSpec,
        weights: &Weights,
        quality: Option<Quality>,
    ) -> Result<(), BundleError> {
        self.add_reporting(name, spec, weights, quality, &mut |_| {})
    }

    /// As [`BundleWriter::add`], telling `progress` of the bytes that are done: each byte of the tensors three times, as it
    /// is written, and as its tensor's digest and the file's are made.
    ///
    /// # Errors
    ///
    /// As [`BundleWriter::add`].
    pub fn add_reporting(
        &mut self,
        name: &str,
        spec: &DlrmSpec,
        weights: &Weights,
        quality: Option<Quality>,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), BundleError> {
        Dlrm::load(&self.manifest.schema, spec, weights)
            .and_then(|model| model.lower())
            .map_err(|source| BundleError::Model { variant: name.to_owned(), source })?;
        let temporary = self.folder.join(format!(".{name}.safetensors.new"));
        write_tensors(&temporary, weights, progress)?;
        let (bytes, sha256) =
            digest_file(&temporary, progress).map_err(BundleError::io(&temporary))?;
        let file = format!("{name}-{}.safetensors", &sha256[..12]);
        let path = self.folder.join(&file);
        fs::rename(&temporary, &path).map_err(BundleError::io(&path))?;
        let tensors =
            weights.iter().map(|(name, tensor)| (name.to_owned(), describe(tensor, progress)));
        let tensors = tensors.collect();
        self.replace(VariantEntry {
            name: name.to_owned(),
            architecture: Architecture::Dlrm(spec.clone()),
            file: Some(file),
            bytes,
            sha256: Some(sha256),
            tensors,
            quality,
        });
        Ok(())
    }

    /// States how raw values became features, and copies the files that this takes from the folder `from`, where they have
    /// the names that it gives them.
    ///
    /// # Errors
    ///
    /// [`BundleError::Io`], and [`BundleError::RawDigest`] for a file that is not what `preprocessing` says.
    pub fn set_preprocessing(
        &mut self,
        mut preprocessing: Preprocessing,
        from: &Path,
    ) -> Result<(), BundleError> {
        if let Some(raw) = &mut preprocessing.raw {
            if let Some(entry) = &mut raw.vocabulary {
                self.copy(entry, from, "vocabulary", "bin")?;
            }
            for (at, entry) in raw.tables.iter_mut().enumerate() {
                self.copy(entry, from, &format!("table-{at}"), "csv")?;
            }
        }
        self.manifest.preprocessing = Some(preprocessing);
        Ok(())
    }

    /// Copies a file into the bundle, where it is named after its content as variants are.
    fn copy(
        &self,
        entry: &mut FileEntry,
        from: &Path,
        stem: &str,
        extension: &str,
    ) -> Result<(), BundleError> {
        let temporary = self.folder.join(format!(".{stem}.{extension}.new"));
        let path = from.join(&entry.file);
        fs::copy(&path, &temporary).map_err(BundleError::io(&path))?;
        let found = digest_file(&temporary, &mut |_| {}).map_err(BundleError::io(&temporary))?;
        if found != (entry.bytes, entry.sha256.clone()) {
            fs::remove_file(&temporary).map_err(BundleError::io(&temporary))?;
            return Err(BundleError::RawDigest { file: entry.file.clone() });
        }
        entry.file = format!("{stem}-{}.{extension}", &found.1[..12]);
        let path = self.folder.join(&entry.file);
        fs::rename(&temporary, &path).map_err(BundleError::io(&path))
    }

    /// Adds the mean of the logits of variants that are there already.
    pub fn add_ensemble(&mut self, name: &str, members: &[&str], quality: Option<Quality>) {
        self.replace(VariantEntry {
            name: name.to_owned(),
            architecture: Architecture::Ensemble {
                members: members.iter().map(|&member| member.to_owned()).collect(),
            },
            file: None,
            bytes: 0,
            sha256: None,
            tensors: BTreeMap::new(),
            quality,
        });
    }

    /// Records how good a variant is.
    ///
    /// # Errors
    ///
    /// [`BundleError::NoVariant`].
    pub fn set_quality(&mut self, name: &str, quality: Quality) -> Result<(), BundleError> {
        self.manifest.variant(name)?;
        for variant in self.manifest.variants.iter_mut().filter(|variant| variant.name == name) {
            variant.quality = Some(quality.clone());
        }
        Ok(())
    }

    /// Checks and writes the manifest, which makes the bundle what it says from now on.
    ///
    /// # Errors
    ///
    /// [`BundleError::Inconsistent`] or [`BundleError::Io`].
    pub fn finish(&self) -> Result<(), BundleError> {
        self.manifest.check()?;
        let mut json = serde_json::to_vec_pretty(&self.manifest)
            .expect("a manifest has string keys and finite numbers, so it is JSON");
        json.push(b'\n');
        // The digest is removed first: a manifest without one is usable, one that contradicts it
        // is not.
        let digest_path = self.folder.join(MANIFEST_DIGEST);
        match fs::remove_file(&digest_path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(BundleError::io(&digest_path)(error));
            }
            _ => {}
        }
        self.place(MANIFEST, &json)?;
        self.place(MANIFEST_DIGEST, format!("{}  {MANIFEST}\n", digest(&json)).as_bytes())?;
        self.remove_unused()
    }

    fn replace(&mut self, entry: VariantEntry) {
        match self.manifest.variants.iter_mut().find(|variant| variant.name == entry.name) {
            Some(variant) => *variant = entry,
            None => self.manifest.variants.push(entry),
        }
    }

    fn place(&self, name: &str, content: &[u8]) -> Result<(), BundleError> {
        let temporary = self.folder.join(format!(".{name}.new"));
        let path = self.folder.join(name);
        fs::write(&temporary, content).map_err(BundleError::io(&temporary))?;
        fs::rename(&temporary, &path).map_err(BundleError::io(&path))
    }

    fn remove_unused(&self) -> Result<(), BundleError> {
        for entry in fs::read_dir(&self.folder).map_err(BundleError::io(&self.folder))? {
            let path = entry.map_err(BundleError::io(&self.folder))?.path();
            let used = |name: &str| {
                self.manifest.variants.iter().any(|variant| variant.file.as_deref() == Some(name))
                    || self.manifest.raw_files().any(|entry| entry.file == name)
            };
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let ours = name.ends_with(".safetensors")
                || name.starts_with("vocabulary-") && name.ends_with(".bin")
                || name.starts_with("table-") && name.ends_with(".csv");
            if ours && !used(name) {
                fs::remove_file(&path).map_err(BundleError::io(&path))?;
            }
        }
        Ok(())
    }
}

/// Bytes that are read at a time, and reported.
const CHUNK: usize = 4 << 20;

/// Size and digest of a file that may be larger than memory.
pub(super) fn digest_file(
    path: &Path,
    progress: &mut dyn FnMut(u64),
) -> std::io::Result<(u64, String)> {
    let mut file = fs::File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; CHUNK];
    let mut bytes = 0;
    loop {
        let length = file.read(&mut buffer)?;
        if length == 0 {
            return Ok((bytes, hex(&hasher.finalize())));
        }
        hasher.write_all(&buffer[..length])?;
        bytes += length as u64;
        progress(length as u64);
    }
}

fn describe(tensor: &AnyTensor, progress: &mut dyn FnMut(u64)) -> TensorEntry {
    let mut hasher = Sha256::new();
    for chunk in tensor.as_bytes().chunks(CHUNK) {
        hasher.update(chunk);
        progress(chunk.len() as u64);
    }
    TensorEntry {
        dtype: tensor.dtype().to_string(),
        shape: tensor.shape().to_vec(),
        sha256: hex(&hasher.finalize()),
    }
}

/// A tensor that says when it is about to be written.
struct Reported<'a, 'p> {
    tensor: &'a AnyTensor,
    progress: &'a RefCell<&'p mut dyn FnMut(u64)>,
}

impl View for Reported<'_, '_> {
    fn dtype(&self) -> Dtype {
        match self.tensor {
            AnyTensor::F32(_) => Dtype::F32,
            AnyTensor::F16(_) => Dtype::F16,
            AnyTensor::BF16(_) => Dtype::BF16,
            AnyTensor::I64(_) => Dtype::I64,
            AnyTensor::I8(_) => Dtype::I8,
            AnyTensor::U8(_) => Dtype::U8,
        }
    }

    fn shape(&self) -> &[usize] {
        self.tensor.shape()
    }

    fn data(&self) -> Cow<'_, [u8]> {
        (*self.progress.borrow_mut())(self.data_len() as u64);
        Cow::Borrowed(self.tensor.as_bytes())
    }

    fn data_len(&self) -> usize {
        self.tensor.bytes()
    }
}

fn write_tensors(
    path: &Path,
    weights: &Weights,
    progress: &mut dyn FnMut(u64),
) -> Result<(), BundleError> {
    let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let progress = &RefCell::new(progress);
    let views = weights.iter().map(|(name, tensor)| (name, Reported { tensor, progress }));
    safetensors::serialize_to_file(views, None, path).map_err(|source| match source {
        safetensors::SafeTensorError::IoError(source) => BundleError::io(path)(source),
        source => BundleError::Header { file, tensor: None, source },
    })
}
