//! A checkpoint file: mapped, and where its tensors lie.

use std::{collections::BTreeMap, fs::File, ops::Range, path::Path, sync::Arc};

use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors};

use super::{
    error::{ImportError, shown},
    torch,
};

/// Most tensors that a state dict may name.
pub(super) const MAX_TENSORS: usize = 1 << 16;

/// Longest name of a tensor, in bytes.
pub(super) const MAX_NAME: usize = 512;

/// Most dimensions of a tensor.
pub(super) const MAX_DIMENSIONS: usize = 8;

/// Bytes that are read between two reports of progress.
const CHUNK: usize = 4 << 20;

/// Tensors by name, still in their file.
///
/// The file must not be changed while it is open: it is mapped, not read.
#[derive(Debug)]
pub struct Checkpoint {
    file: Arc<Mmap>,
    tensors: BTreeMap<String, Found>,
    storages: BTreeMap<usize, Storage>,
}

/// A tensor as the file describes it; the range has been checked to hold exactly its elements.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Found {
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<usize>,
    pub(super) range: Range<usize>,
}

/// Bytes with a checksum. Several tensors may lie in one.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Storage {
    pub(super) entry: String,
    pub(super) range: Range<usize>,
    pub(super) crc32: u32,
}

/// What a file of some format holds: tensors, and the storages they lie in, if they have checksums.
pub(super) type Contents = (BTreeMap<String, Found>, Vec<Storage>);

impl Checkpoint {
    /// Maps `path` and finds its tensors: a `.pt` or `.pth` file as `torch.save` writes it, or a safetensors file, told
    /// apart by their first bytes.
    ///
    /// # Errors
    ///
    /// [`ImportError`] when it is neither, damaged, or needs more of Python than tensors.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, ImportError> {
        let path = path.as_ref();
        let io = |source| ImportError::Io { path: path.to_owned(), source };
        let handle = File::open(path).map_err(io)?;
        let metadata = handle.metadata().map_err(io)?;
        if !metadata.is_file() || metadata.len() == 0 {
            return Err(unknown(path, if metadata.is_file() { "empty" } else { "not a file" }));
        }
        // SAFETY: the map is read-only and private to this process. `Checkpoint` documents that the file must not be
        // changed while it is open, as bundles do.
        let file = unsafe { Mmap::map(&handle) }.map_err(io)?;
        let (tensors, storages) = contents(path, &file)?;
        let storages = storages.into_iter().map(|storage| (storage.range.start, storage));
        Ok(Self { file: Arc::new(file), tensors, storages: storages.collect() })
    }

    /// Names of the tensors, in their order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    pub(super) fn tensors(&self) -> &BTreeMap<String, Found> {
        &self.tensors
    }

    pub(super) fn file(&self) -> &Arc<Mmap> {
        &self.file
    }

    /// The storage that holds a tensor, if it has a checksum.
    pub(super) fn storage(&self, found: &Found) -> Option<&Storage> {
        let (_, storage) = self.storages.range(..=found.range.start).next_back()?;
        (found.range.end <= storage.range.end).then_some(storage)
    }

    /// Compares the bytes of a storage with its checksum. `progress` is told of every few megabytes.
    pub(super) fn check(
        &self,
        storage: &Storage,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), ImportError> {
        let mut hasher = crc32fast::Hasher::new();
        for chunk in self.file[storage.range.clone()].chunks(CHUNK) {
            hasher.update(chunk);
            progress(chunk.len() as u64);
        }
        if hasher.finalize() == storage.crc32 {
            return Ok(());
        }
        Err(ImportError::Checksum { entry: shown(&storage.entry) })
    }
}

fn unknown(path: &Path, found: &'static str) -> ImportError {
    let remedy = "give a checkpoint that `torch.save` wrote, or a safetensors file";
    ImportError::Format { path: path.to_owned(), found, remedy }
}

fn contents(path: &Path, file: &[u8]) -> Result<Contents, ImportError> {
    let format = |found, remedy| ImportError::Format { path: path.to_owned(), found, remedy };
    if file.starts_with(b"PK") {
        return torch::read(file).map_err(|error| match error {
            torch::TorchError::Script => format(
                "TorchScript",
                "save its parameters in Python: `torch.save(torch.jit.load(FILE).state_dict(), \"model.pt\")`",
            ),
            torch::TorchError::Import(error) => error,
        });
    }
    // A pickle of protocol 2 or later: before PyTorch 1.6, checkpoints were several of them, one after the other.
    if let [0x80, 2..=5, ..] = file {
        return Err(format(
            "a pickle, as PyTorch before 1.6 wrote checkpoints",
            "save it anew in Python: `torch.save(torch.load(FILE, map_location=\"cpu\"), \"model.pt\")`",
        ));
    }
    // Eight bytes of length, then JSON.
    if file.get(8) == Some(&b'{') {
        let damaged = |source| ImportError::Safetensors { path: path.to_owned(), source };
        // The parser proves that tensors lie one after the other and fill the file.
        let (length, metadata) = SafeTensors::read_metadata(file).map_err(damaged)?;
        let start = length + 8;
        let mut tensors = BTreeMap::new();
        for (name, info) in metadata.tensors() {
            check_name(&name, tensors.len())?;
            check_shape(&name, &info.shape)?;
            let (from, to) = info.data_offsets;
            let range = start + from..start + to;
            tensors.insert(name, Found { dtype: info.dtype, shape: info.shape.clone(), range });
        }
        return Ok((tensors, Vec::new()));
    }
    Err(unknown(path, "of no known format"))
}

/// Refuses a tensor beyond the limits of names and their number.
pub(super) fn check_name(name: &str, before: usize) -> Result<(), ImportError> {
    if name.len() > MAX_NAME {
        let what = format!("has a name of {} bytes; at most {MAX_NAME} are read", name.len());
        return Err(ImportError::Tensor { tensor: shown(name), what });
    }
    if before >= MAX_TENSORS {
        let what = format!("is one too many; at most {MAX_TENSORS} are read");
        return Err(ImportError::Tensor { tensor: shown(name), what });
    }
    Ok(())
}

/// Refuses shapes that no parameter has. Without elements, a length could be any number, whatever the file's size.
pub(super) fn check_shape(name: &str, shape: &[usize]) -> Result<(), ImportError> {
    let what = if shape.contains(&0) {
        format!("of shape {shape:?} has no elements")
    } else if shape.len() > MAX_DIMENSIONS {
        format!("has {} dimensions; at most {MAX_DIMENSIONS} are read", shape.len())
    } else {
        return Ok(());
    };
    Err(ImportError::Tensor { tensor: shown(name), what })
}
