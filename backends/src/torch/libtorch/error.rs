//! What libtorch says when it fails, sorted by what a caller can do.

use tch::TchError;

use crate::{error::BackendError, path::BackendKind};

/// Why libtorch failed. libtorch has one type for all of its errors, so they are told apart by their messages.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TorchError {
    /// The device, or the machine, has no memory left for this batch.
    #[error("out of memory: {0}")]
    Memory(String),

    /// The device or its driver failed: what it held is lost.
    #[error("the device is lost: {0}")]
    Lost(String),

    /// Anything else.
    #[error("{0}")]
    Other(String),
}

/// Messages of allocators, of CUDA's and of the host's.
const MEMORY: [&str; 5] = [
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
];

/// Messages of a device that does not answer, or answers with an error that stays.
const LOST: [&str; 6] = [
    "CUDA error",
    "CUDA driver error",
    "CUBLAS_STATUS_",
    "CUDNN_STATUS_",
    "cudaError",
    "NVIDIA driver",
];

impl From<TchError> for TorchError {
    fn from(error: TchError) -> Self {
        let text = match error {
            TchError::Torch(text) => text,
            other => other.to_string(),
        };
        let says = |parts: &[&str]| parts.iter().any(|part| text.contains(part));
        // The lines that follow are a trace of C++ frames.
        let first = text.lines().next().unwrap_or_default().to_owned();
        // An allocation that fails on a GPU is a "CUDA error" too, so memory goes first.
        if says(&MEMORY) {
            Self::Memory(first)
        } else if says(&LOST) {
            Self::Lost(first)
        } else {
            Self::Other(first)
        }
    }
}

/// The error of a run: the path is unhealthy from then on.
pub(super) fn failed(backend: BackendKind, error: TchError) -> BackendError {
    BackendError::Device { backend, source: Box::new(TorchError::from(error)) }
}

/// The error of a preparation that asked for `bytes` of memory.
pub(super) fn not_prepared(backend: BackendKind, bytes: usize, error: TchError) -> BackendError {
    match TorchError::from(error) {
        TorchError::Memory(message) => {
            tracing::debug!(%backend, message, "libtorch has no memory for a program");
            BackendError::Memory { backend, bytes }
        }
        error => BackendError::Device { backend, source: Box::new(error) },
    }
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind, Tensor};

    use super::*;

    fn of(text: &str) -> TorchError {
        TchError::Torch(text.to_owned()).into()
    }

    #[test]
    fn messages_are_told_apart() {
        let text = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.11 GiB\nframe #0: c10";
        let TorchError::Memory(first) = of(text) else { panic!("{text}") };
        assert!(first.ends_with("79.11 GiB"));
        assert!(matches!(of("CUDA error: out of memory"), TorchError::Memory(_)));
        for lost in [
            "CUDA error: device-side assert triggered",
            "CUDA error: an illegal memory access was encountered",
            "CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm(...)`",
            "Found no NVIDIA driver on your system.",
        ] {
            assert!(matches!(of(lost), TorchError::Lost(_)), "{lost}");
        }
        assert!(matches!(of("The size of tensor a (3) must match"), TorchError::Other(_)));
    }

    /// Not a text from memory but what this libtorch really says.
    #[test]
    fn an_allocation_that_cannot_be_is_out_of_memory() {
        let error = Tensor::f_empty([1_i64 << 55], (Kind::Float, Device::Cpu)).unwrap_err();
        let error = not_prepared(BackendKind::Cpu, 7, error);
        assert!(matches!(error, BackendError::Memory { bytes: 7, .. }), "{error:?}");
        let error = Tensor::f_empty([1_i64 << 55], (Kind::Float, Device::Cpu)).unwrap_err();
        let BackendError::Device { source, .. } = failed(BackendKind::Cpu, error) else {
            panic!("a run fails with the device's error")
        };
        assert!(matches!(source.downcast_ref(), Some(TorchError::Memory(_))), "{source}");
    }
}
