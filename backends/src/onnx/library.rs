//! ONNX Runtime's shared library: found, loaded once per process, and kept.

use std::{
    error::Error as _,
    ffi::CStr,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use ort::environment::Environment;

/// What the dynamic loader knows the library as.
const NAMES: [&str; 2] = ["libonnxruntime.so.1", "libonnxruntime.so"];

pub(super) const REMEDY: &str = "get ONNX Runtime 1.24 or newer (`pip download --no-deps onnxruntime==1.31.1`, then unzip \
    `onnxruntime/capi/libonnxruntime.so.1.31.1` from the wheel) and set `MPREC_ONNX_LIBRARY` to that file";

/// The loaded library.
#[derive(Debug, Clone)]
pub(super) struct Library {
    pub(super) path: PathBuf,
    pub(super) environment: Environment,
}

/// ONNX Runtime allows one environment per process, and its handle must outlive every session.
static LOADED: Mutex<Option<Library>> = Mutex::new(None);

impl Library {
    /// The library at `path`, or else at a well-known name where the system looks for libraries.
    ///
    /// # Errors
    ///
    /// Why not: there is none, it is too old, or another one is loaded already.
    pub(super) fn open(path: Option<&Path>) -> Result<Self, String> {
        // Nothing panics while holding the lock and leaves half a library behind.
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = path.map(|path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned()));
        if let Some(library) = &*loaded {
            return match wanted {
                Some(wanted) if wanted != library.path => Err(format!(
                    "`{}` is loaded already, and one process can hold one",
                    library.path.display()
                )),
                _ => Ok(library.clone()),
            };
        }
        let candidates = match wanted {
            Some(path) if !path.is_file() => {
                return Err(format!("there is no file `{}`", path.display()));
            }
            Some(path) => vec![path],
            None => NAMES.iter().map(PathBuf::from).collect(),
        };
        let mut reasons = Vec::new();
        for path in candidates {
            match ort::init_from(&path) {
                Ok(builder) => {
                    let environment = builder
                        .with_name("mprec")
                        .with_telemetry(false)
                        .build()
                        .map_err(|error| error.to_string())?;
                    tracing::info!(library = %path.display(), "loaded ONNX Runtime");
                    return Ok(loaded.insert(Self { path, environment }).clone());
                }
                Err(error) => reasons.push(describe(&error)),
            }
        }
        Err(reasons.join("; "))
    }

    /// Execution providers that this library was built with, by ONNX Runtime's names.
    pub(super) fn providers(&self) -> Vec<String> {
        let (mut names, mut count) = (std::ptr::null_mut(), 0);
        // SAFETY: both places are valid for the call, which fills them in when it succeeds.
        let status = unsafe { (ort::api().GetAvailableProviders)(&mut names, &mut count) };
        // SAFETY: the status comes from the call above and is read once.
        if unsafe { ort::Error::result_from_status(status) }.is_err() || names.is_null() {
            return Vec::new();
        }
        let providers = (0..count.max(0) as usize)
            // SAFETY: the call gave `count` names, each ended by a zero byte.
            .map(|at| unsafe { CStr::from_ptr(*names.add(at)) }.to_string_lossy().into_owned())
            .collect();
        // SAFETY: the list was made by the call above and is given back once. Releasing fails for no reason that matters
        // here, but the status is taken so that it is freed.
        let _ = unsafe {
            ort::Error::result_from_status((ort::api().ReleaseAvailableProviders)(names, count))
        };
        providers
    }
}

/// The error, with what the dynamic loader said.
fn describe(error: &ort::LoadDynamicError) -> String {
    match error {
        ort::LoadDynamicError::Dlopen { error: cause, .. } => match cause.source() {
            Some(cause) => cause.to_string(),
            None => error.to_string(),
        },
        _ => error.to_string(),
    }
}
