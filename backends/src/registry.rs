//! Which backends this build has, and whether they can be used on this machine.

use std::path::Path;

use mprec_representations::BatchShape;

use crate::{
    backend::{Backend, Executable},
    cpu::{CpuBackend, Level},
    error::BackendError,
    onnx,
    path::{BackendKind, OnnxProvider},
    reference::ReferenceBackend,
    torch, wgpu,
};

/// A backend, and whether it can be opened.
#[derive(Debug)]
pub struct Availability {
    /// The backend.
    pub backend: BackendKind,
    /// What it would use here, or why it cannot be opened.
    pub state: Result<String, BackendError>,
}

/// Every backend that this build knows by name, those that can be opened first.
pub fn all() -> Vec<Availability> {
    let mut kinds = vec![BackendKind::Cpu, BackendKind::Reference];
    kinds.extend(torch::devices().into_iter().map(BackendKind::Torch));
    kinds.extend(OnnxProvider::ALL.map(BackendKind::Onnx));
    kinds.push(BackendKind::Wgpu);
    let state = |backend| match backend {
        BackendKind::Cpu => Ok(format!("{} kernels", Level::detect())),
        BackendKind::Reference => Ok("interpreter, slow".to_owned()),
        BackendKind::Onnx(provider) => onnx::open(provider, 1).map(|(_, description)| description),
        BackendKind::Wgpu => wgpu::open().map(|(_, description)| description),
        BackendKind::Torch(device) => torch::open(device, 1).map(|(_, description)| description),
    };
    kinds.into_iter().map(|backend| Availability { backend, state: state(backend) }).collect()
}

/// The backend of this kind.
///
/// # Errors
///
/// [`BackendError::NotCompiled`] if this build lacks it, [`BackendError::Unavailable`] if this machine lacks what it
/// needs. Never another backend in its place.
pub fn open(backend: BackendKind) -> Result<Box<dyn Backend>, BackendError> {
    open_with(backend, Resources::default())
}

/// What every executable of a backend may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resources {
    /// Bytes of a cache, where the program has vectors worth caching and the backend has one; 0 is none.
    pub cache_bytes: usize,
    /// Threads of one operation on a CPU, where the backend's library has threads of its own (`onnx`, `torch`); at least 1.
    pub threads: u16,
}

impl Default for Resources {
    /// No cache, and one thread: with one worker per core, threads of a library would fight the workers.
    fn default() -> Self {
        Self { cache_bytes: 0, threads: 1 }
    }
}

/// The backend of this kind, with these resources.
///
/// # Errors
///
/// As [`open`].
pub fn open_with(
    backend: BackendKind,
    resources: Resources,
) -> Result<Box<dyn Backend>, BackendError> {
    let Resources { cache_bytes, threads } = resources;
    match backend {
        BackendKind::Reference => Ok(Box::new(ReferenceBackend)),
        BackendKind::Cpu => Ok(Box::new(CpuBackend::new().with_cache(cache_bytes))),
        BackendKind::Onnx(provider) => Ok(onnx::open(provider, threads)?.0),
        BackendKind::Wgpu => Ok(wgpu::open()?.0),
        BackendKind::Torch(device) => Ok(torch::open(device, threads)?.0),
    }
}

/// An ONNX file that another tool wrote, on one of ONNX Runtime's providers: see [`onnx`] for what it must look like.
///
/// # Errors
///
/// As [`open`]; [`BackendError::File`] if it is not such a file, [`BackendError::Unsupported`] on any other backend.
pub fn open_file(
    backend: BackendKind,
    file: &Path,
    shape: &BatchShape,
    resources: Resources,
) -> Result<Box<dyn Executable>, BackendError> {
    match backend {
        BackendKind::Onnx(provider) => onnx::open_file(provider, resources.threads, file, shape),
        _ => Err(BackendError::Unsupported { backend, what: "an ONNX file" }),
    }
}

/// The backends that this build has, for messages.
pub(crate) fn compiled_names() -> String {
    let optional = [("onnx", onnx::COMPILED), ("torch", torch::COMPILED), ("wgpu", wgpu::COMPILED)];
    let optional = optional.iter().filter(|(_, compiled)| *compiled).map(|(name, _)| *name);
    let names: Vec<String> =
        ["cpu"].into_iter().chain(optional).map(|name| format!("`{name}`")).collect();
    format!("{} and `reference`", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_listed_as_usable_opens_and_the_rest_says_why_not() {
        for Availability { backend, state } in all() {
            let name = backend.to_string();
            let family = format!("`{}", name.split(':').next().unwrap());
            match open(backend) {
                Ok(opened) => {
                    assert_eq!(opened.kind(), backend);
                    assert!(state.is_ok());
                    assert!(compiled_names().contains(&family));
                }
                Err(error) => {
                    assert_eq!(error.to_string(), state.unwrap_err().to_string());
                    let lacking = matches!(error, BackendError::NotCompiled { .. });
                    assert_eq!(!compiled_names().contains(&family), lacking);
                    assert!(!lacking || error.to_string().contains("`cpu`"), "{error}");
                }
            }
        }
    }
}
