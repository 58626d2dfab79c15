//! Models as files.

use std::{
    fs::File,
    io::{self, BufWriter, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
};

use mprec_representations::Program;

use super::{
    graph::{Codes, Form, Sums, lower},
    model::Place,
};
use crate::error::BackendError;

/// Largest parameters that lie within the model, in bytes. Protocol buffers end at 2 GiB.
pub const MAX_INLINE: usize = 1 << 30;

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelFile {
    /// The model.
    pub model: PathBuf,
    /// The parameters beside it, if they are not within. The model refers to the file by name: both move together.
    pub data: Option<PathBuf>,
    /// Bytes of both.
    pub bytes: u64,
}

/// Why a model was not written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The program holds what ONNX cannot express.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// The path names no file.
    #[error("`{}` cannot name a model; give a file such as `model.onnx`", path.display())]
    Name {
        /// The path.
        path: PathBuf,
    },
    /// The file system refused.
    #[error("cannot write `{}`", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Writes `program` as an ONNX model. `names` are those of its sparse features, in order, and name its inputs, as
/// [`Form`] says. Parameters of more than `max_inline` bytes go to a file beside it, called like it with `.data` added.
///
/// # Errors
///
/// [`ExportError`]. A file that was begun is left behind.
///
/// # Panics
///
/// If there is not one name per sparse feature.
pub fn write_model(
    program: &Program,
    form: Form,
    names: &[String],
    path: &Path,
    max_inline: usize,
) -> Result<ModelFile, ExportError> {
    let model = lower(program, form, names, Sums::Rows, Codes::Unsigned)?;
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| ExportError::Name { path: path.to_owned() })?;
    let fail = |path: &Path, source| ExportError::Write { path: path.to_owned(), source };
    let (starts, length) = model.layout();
    let data_name = format!("{name}.data");
    let beside = model.parameter_bytes() > max_inline.min(MAX_INLINE);
    let place = if beside { Place::Beside(&data_name) } else { Place::Inline };
    let bytes = model.encode(place);
    let mut written = ModelFile { model: path.to_owned(), data: None, bytes: bytes.len() as u64 };
    if beside {
        let path = path.with_file_name(&data_name);
        let write = || {
            let mut file = BufWriter::new(File::create(&path)?);
            for ((_, parameter), start) in model.large().zip(starts) {
                file.seek(SeekFrom::Start(start as u64))?;
                file.write_all(parameter.bytes())?;
            }
            file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
        };
        write().map_err(|source| fail(&path, source))?;
        written.bytes += length as u64;
        written.data = Some(path);
    }
    std::fs::write(path, bytes).map_err(|source| fail(path, source))?;
    Ok(written)
}
