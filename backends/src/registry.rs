//! Which backends this build has, and whether they can be used on this machine.

use crate::{
    backend::Backend,
    cpu::{CpuBackend, Level},
    error::BackendError,
    onnx,
    path::BackendKind,
    reference::ReferenceBackend,
    torch,
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
    let torch_devices = torch::devices().into_iter().map(BackendKind::Torch);
    let mut kinds = vec![BackendKind::Cpu, BackendKind::Reference];
    kinds.extend(torch_devices);
    kinds.extend([BackendKind::Onnx, BackendKind::Wgpu]);
    let state = |backend| match backend {
        BackendKind::Cpu => Ok(format!("{} kernels", Level::detect())),
        BackendKind::Reference => Ok("interpreter, slow".to_owned()),
        BackendKind::Onnx => onnx::open().map(|(_, description)| description),
        BackendKind::Torch(device) => torch::open(device).map(|(_, description)| description),
        BackendKind::Wgpu => Err(BackendError::NotCompiled { backend }),
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
    open_with_cache(backend, 0)
}

/// The backend of this kind, with `bytes` for a cache in every executable whose program has vectors worth
/// caching, where the backend has one; 0 is none.
///
/// # Errors
///
/// As [`open`].
pub fn open_with_cache(
    backend: BackendKind,
    bytes: usize,
) -> Result<Box<dyn Backend>, BackendError> {
    match backend {
        BackendKind::Reference => Ok(Box::new(ReferenceBackend)),
        BackendKind::Cpu => Ok(Box::new(CpuBackend::new().with_cache(bytes))),
        BackendKind::Onnx => Ok(onnx::open()?.0),
        BackendKind::Torch(device) => Ok(torch::open(device)?.0),
        BackendKind::Wgpu => Err(BackendError::NotCompiled { backend }),
    }
}

/// The backends that this build has, for messages.
pub(crate) fn compiled_names() -> &'static str {
    match (onnx::COMPILED, torch::COMPILED) {
        (false, false) => "`cpu` and `reference`",
        (true, false) => "`cpu`, `onnx` and `reference`",
        (false, true) => "`cpu`, `reference` and `torch`",
        (true, true) => "`cpu`, `onnx`, `reference` and `torch`",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_listed_as_usable_opens_and_the_rest_says_why_not() {
        for Availability { backend, state } in all() {
            // `torch` has several devices.
            let text = backend.to_string();
            let name = format!("`{}`", text.split(':').next().unwrap());
            match open(backend) {
                Ok(opened) => {
                    assert_eq!(opened.kind(), backend);
                    assert!(state.is_ok());
                    assert!(compiled_names().contains(&name));
                }
                Err(error) => {
                    assert_eq!(error.to_string(), state.unwrap_err().to_string());
                    let lacking = matches!(error, BackendError::NotCompiled { .. });
                    assert_eq!(!compiled_names().contains(&name), lacking);
                    assert!(!lacking || error.to_string().contains("`cpu`"), "{error}");
                }
            }
        }
    }
}
