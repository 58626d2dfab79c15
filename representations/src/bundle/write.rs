//! Writes a bundle, so that a reader finds either the old state or the new one.

use std::{
    borrow::Cow,
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{Read, Write},
    path::{Path, PathBuf},
};

use safetensors::{Dtype, View};
use sha2::{Digest, Sha256};

use super::{
    Architecture, BundleError, FORMAT, FileEntry, MANIFEST, MANIFEST_DIGEST, Manifest,
    Preprocessing, Quality, TensorEntry, VariantEntry, digest, hex, read::read_small,
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
/// ever overwritten. After the manifest is in place, files are removed that the replaced manifest
/// named, or this writer made, and the new one does not name; no others are touched. Everything is
/// on disk before what it replaces goes, so a machine that stops in between has one state or the
/// other too.
///
/// One writer at a time: [`BundleWriter::finish`] refuses if the manifest is not the one that this
/// writer began with or wrote last.
#[derive(Debug)]
pub struct BundleWriter {
    folder: PathBuf,
    manifest: Manifest,
    /// Digest of the manifest that this one replaces; `None` if there is none yet.
    replaces: Option<String>,
    /// Files that this writer put into the folder.
    written: BTreeSet<String>,
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
        let replaces = present(&folder)?.map(|bytes| digest(&bytes));
        let manifest = Manifest {
            format: FORMAT,
            model: model.to_owned(),
            version: version.to_owned(),
            schema,
            preprocessing,
            variants: Vec::new(),
        };
        Ok(Self { folder, manifest, replaces, written: BTreeSet::new() })
    }

    /// Continues the bundle in `folder`, to add variants to it or replace some.
    ///
    /// # Errors
    ///
    /// As [`Bundle::open`](super::Bundle::open).
    pub fn open(folder: impl AsRef<Path>) -> Result<Self, BundleError> {
        let bundle = super::Bundle::open(folder.as_ref())?;
        Ok(Self {
            folder: folder.as_ref().to_owned(),
            manifest: bundle.manifest().clone(),
            replaces: Some(digest(&bundle.manifest_bytes)),
            written: BTreeSet::new(),
        })
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
        self.rename(&temporary, &file)?;
        self.written.insert(file.clone());
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
        &mut self,
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
        self.rename(&temporary, &entry.file)?;
        self.written.insert(entry.file.clone());
        Ok(())
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
    /// [`BundleError::Inconsistent`], [`BundleError::Changed`] if somebody else finished meanwhile, or
    /// [`BundleError::Io`].
    pub fn finish(&mut self) -> Result<(), BundleError> {
        self.manifest.check()?;
        let mut json = serde_json::to_vec_pretty(&self.manifest)
            .expect("a manifest has string keys and finite numbers, so it is JSON");
        json.push(b'\n');
        let replaced = present(&self.folder)?;
        if replaced.as_deref().map(digest) != self.replaces {
            return Err(BundleError::Changed {
                folder: self.folder.clone(),
                written: self.written.iter().cloned().collect(),
            });
        }
        // The digest is removed first: a manifest without one is usable, one that contradicts it
        // is not.
        let digest_path = self.folder.join(MANIFEST_DIGEST);
        match fs::remove_file(&digest_path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(BundleError::io(&digest_path)(error));
            }
            _ => {}
        }
        // That, and the files that the manifest names, must not come later than the manifest.
        self.sync_folder()?;
        self.place(MANIFEST, &json)?;
        let sha256 = digest(&json);
        self.replaces = Some(sha256.clone());
        self.place(MANIFEST_DIGEST, format!("{sha256}  {MANIFEST}\n").as_bytes())?;
        self.sync_folder()?;
        self.remove_unused(replaced.as_deref().unwrap_or_default())
    }

    fn replace(&mut self, entry: VariantEntry) {
        match self.manifest.variants.iter_mut().find(|variant| variant.name == entry.name) {
            Some(variant) => *variant = entry,
            None => self.manifest.variants.push(entry),
        }
    }

    fn place(&self, name: &str, content: &[u8]) -> Result<(), BundleError> {
        let temporary = self.folder.join(format!(".{name}.new"));
        fs::write(&temporary, content).map_err(BundleError::io(&temporary))?;
        self.rename(&temporary, name)
    }

    /// Gives a whole file its name, once its content is on disk.
    fn rename(&self, temporary: &Path, name: &str) -> Result<(), BundleError> {
        let synced = fs::File::open(temporary).and_then(|file| file.sync_all());
        synced.map_err(BundleError::io(temporary))?;
        let path = self.folder.join(name);
        fs::rename(temporary, &path).map_err(BundleError::io(&path))
    }

    /// Makes the names in the folder last. Only Unix can open a folder for that.
    fn sync_folder(&self) -> Result<(), BundleError> {
        if cfg!(unix) {
            let synced = fs::File::open(&self.folder).and_then(|folder| folder.sync_all());
            synced.map_err(BundleError::io(&self.folder))?;
        }
        Ok(())
    }

    /// Removes what the manifest `replaced` named or this writer made, unless the new manifest names it.
    fn remove_unused(&mut self, replaced: &[u8]) -> Result<(), BundleError> {
        let names = |manifest: &Manifest| -> BTreeSet<String> {
            let variants = manifest.variants.iter().filter_map(|variant| variant.file.clone());
            variants.chain(manifest.raw_files().map(|entry| entry.file.clone())).collect()
        };
        // One that cannot be read, or whose names may lie elsewhere, names nothing that could be removed.
        let old = serde_json::from_slice::<Manifest>(replaced).ok();
        let mut unused =
            old.filter(|old| old.check().is_ok()).as_ref().map(names).unwrap_or_default();
        unused.append(&mut self.written);
        for name in unused.difference(&names(&self.manifest)) {
            let path = self.folder.join(name);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(BundleError::io(&path)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// The manifest that is in the folder now, if there is one.
fn present(folder: &Path) -> Result<Option<Vec<u8>>, BundleError> {
    let path = folder.join(MANIFEST);
    match read_small(&path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(BundleError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            Ok(None)
        }
        Err(error) => Err(error),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Bundle, Interaction, RepresentationSpec, SparseFeature, Tensor, schema::OutOfVocabulary,
    };

    /// Adds a table whose parameters are all `value`.
    fn add(writer: &mut BundleWriter, name: &str, value: f32) {
        let schema = writer.manifest().schema.clone();
        let dot = Interaction::Dot { itself: false };
        let table = RepresentationSpec::Table { dim: 2 };
        let spec = DlrmSpec::uniform(&schema, &table, dot, &[], &[]);
        let mut weights = Weights::new();
        for tensor in spec.tensors(&schema) {
            let values = vec![value; tensor.shape.iter().product()];
            weights.insert(tensor.name, Tensor::new(&tensor.shape, values));
        }
        writer.add(name, &spec, &weights, None).unwrap();
    }

    fn bundle() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let sparse = vec![SparseFeature { name: "s".into(), cardinality: 3 }];
        let schema = Schema::new(vec!["d".into()], sparse, OutOfVocabulary::Zero).unwrap();
        let mut writer = BundleWriter::create(&folder, "m", "1", schema, None).unwrap();
        add(&mut writer, "table", 0.0);
        writer.finish().unwrap();
        folder
    }

    fn tensor_files(folder: &Path) -> Vec<String> {
        let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
        let names = names.map(|name| name.into_string().unwrap());
        let mut names: Vec<_> = names.filter(|name| name.ends_with(".safetensors")).collect();
        names.sort();
        names
    }

    #[test]
    fn only_files_of_the_bundle_are_removed() {
        let folder = bundle();
        let others = ["samples.safetensors", "table-prices.csv", "vocabulary-of-mine.bin"];
        for name in others {
            fs::write(folder.path().join(name), "mine").unwrap();
        }
        let mut writer = BundleWriter::open(&folder).unwrap();
        // The first one is replaced before any manifest names it.
        add(&mut writer, "table", 1.0);
        add(&mut writer, "table", 2.0);
        assert_eq!(tensor_files(folder.path()).len(), 4);
        writer.finish().unwrap();
        add(&mut writer, "table", 3.0);
        writer.finish().unwrap();
        for name in others {
            assert_eq!(fs::read(folder.path().join(name)).unwrap(), b"mine", "{name}");
        }
        let named = writer.manifest().variants[0].file.clone().unwrap();
        assert_eq!(tensor_files(folder.path()), ["samples.safetensors".to_owned(), named]);
        Bundle::open(&folder).unwrap().verify().unwrap();
    }

    #[test]
    fn what_another_writer_finished_meanwhile_is_not_replaced() {
        let folder = bundle();
        let [mut slow, mut fast] = [0; 2].map(|_| BundleWriter::open(&folder).unwrap());
        let schema = fast.manifest().schema.clone();
        let mut new = BundleWriter::create(&folder, "m", "2", schema, None).unwrap();
        add(&mut slow, "slow", 1.0);
        add(&mut fast, "fast", 2.0);
        fast.finish().unwrap();
        add(&mut fast, "faster", 3.0);
        fast.finish().unwrap();
        let BundleError::Changed { written, .. } = slow.finish().unwrap_err() else { panic!() };
        assert_eq!(written.len(), 1);
        assert!(written[0].starts_with("slow-") && folder.path().join(&written[0]).exists());
        add(&mut new, "new", 4.0);
        assert!(matches!(new.finish(), Err(BundleError::Changed { .. })));
        let bundle = Bundle::open(&folder).unwrap();
        bundle.verify().unwrap();
        let names: Vec<_> =
            bundle.manifest().variants.iter().map(|variant| &variant.name).collect();
        assert_eq!(names, ["table", "fast", "faster"]);
        // Gone altogether is changed, too.
        fs::remove_file(folder.path().join(MANIFEST)).unwrap();
        assert!(matches!(fast.finish(), Err(BundleError::Changed { .. })));
    }
}
