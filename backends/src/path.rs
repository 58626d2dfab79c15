//! Names of backends and of paths: one spelling each, in config, logs, metrics and JSON alike.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Longest name of a variant.
pub const MAX_VARIANT: usize = 64;

/// What executes, and on which device.
///
/// Spelled `reference`, `cpu`, `torch:cpu`, `torch:cuda:0`, `onnx`, `onnx:openvino`, `wgpu`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum BackendKind {
    /// The interpreter that defines every operation. Slow.
    Reference,
    /// Our own kernels.
    Cpu,
    /// libtorch.
    Torch(TorchDevice),
    /// ONNX Runtime, with one of its execution providers.
    Onnx(OnnxProvider),
    /// Any GPU, through WebGPU.
    Wgpu,
}

/// Where libtorch executes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TorchDevice {
    /// Spelled `cpu`.
    Cpu,
    /// The GPU of this index, spelled `cuda:0`.
    Cuda(u8),
}

/// What ONNX Runtime hands the operations to that it can; it executes the others itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum OnnxProvider {
    /// ONNX Runtime's own kernels. The backend is spelled `onnx` alone.
    Cpu,
    /// NVIDIA GPU 0: `onnx:cuda`.
    Cuda,
    /// NVIDIA GPU 0 through TensorRT: `onnx:tensorrt`.
    TensorRt,
    /// AMD GPU 0: `onnx:migraphx`.
    MiGraphX,
    /// The CPU through OpenVINO: `onnx:openvino`.
    OpenVino,
    /// The CPU through oneDNN: `onnx:dnnl`.
    Dnnl,
    /// The CPU through XNNPACK: `onnx:xnnpack`.
    Xnnpack,
    /// Apple's: `onnx:coreml`.
    CoreMl,
    /// Qualcomm's NPU: `onnx:qnn`.
    Qnn,
}

impl OnnxProvider {
    /// Every provider that can be named.
    pub const ALL: [Self; 9] = [
        Self::Cpu,
        Self::OpenVino,
        Self::Dnnl,
        Self::Xnnpack,
        Self::Cuda,
        Self::TensorRt,
        Self::MiGraphX,
        Self::CoreMl,
        Self::Qnn,
    ];

    /// Its name in paths, after `onnx:`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::TensorRt => "tensorrt",
            Self::MiGraphX => "migraphx",
            Self::OpenVino => "openvino",
            Self::Dnnl => "dnnl",
            Self::Xnnpack => "xnnpack",
            Self::CoreMl => "coreml",
            Self::Qnn => "qnn",
        }
    }

    /// Whether it computes on the CPU's cores.
    pub fn is_on_cpu(self) -> bool {
        matches!(self, Self::Cpu | Self::OpenVino | Self::Dnnl | Self::Xnnpack)
    }
}

impl fmt::Display for BackendKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reference => f.write_str("reference"),
            Self::Cpu => f.write_str("cpu"),
            Self::Torch(TorchDevice::Cpu) => f.write_str("torch:cpu"),
            Self::Torch(TorchDevice::Cuda(index)) => write!(f, "torch:cuda:{index}"),
            Self::Onnx(OnnxProvider::Cpu) => f.write_str("onnx"),
            Self::Onnx(provider) => write!(f, "onnx:{}", provider.name()),
            Self::Wgpu => f.write_str("wgpu"),
        }
    }
}

impl FromStr for BackendKind {
    type Err = ParseBackendError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let kind = match text {
            "reference" => Self::Reference,
            "cpu" => Self::Cpu,
            "torch:cpu" => Self::Torch(TorchDevice::Cpu),
            "onnx" => Self::Onnx(OnnxProvider::Cpu),
            "wgpu" => Self::Wgpu,
            _ => torch_gpu(text)
                .or_else(|| onnx_provider(text))
                .ok_or_else(|| ParseBackendError(text.to_owned()))?,
        };
        // `torch:cuda:+0` and `torch:cuda:00` parse as numbers, `onnx:cpu` is `onnx`: each device has one spelling.
        if kind.to_string() == text { Ok(kind) } else { Err(ParseBackendError(text.to_owned())) }
    }
}

fn torch_gpu(text: &str) -> Option<BackendKind> {
    let index = text.strip_prefix("torch:cuda:")?.parse().ok()?;
    Some(BackendKind::Torch(TorchDevice::Cuda(index)))
}

fn onnx_provider(text: &str) -> Option<BackendKind> {
    let name = text.strip_prefix("onnx:")?;
    let provider = OnnxProvider::ALL.into_iter().find(|provider| provider.name() == name)?;
    Some(BackendKind::Onnx(provider))
}

impl From<BackendKind> for String {
    fn from(kind: BackendKind) -> Self {
        kind.to_string()
    }
}

impl TryFrom<String> for BackendKind {
    type Error = ParseBackendError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

/// The text names no backend.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a backend; write `cpu`, `reference`, `torch:cpu`, `torch:cuda:0`, `onnx`, `onnx:` and an execution \
    provider such as `openvino`, or `wgpu`"
)]
pub struct ParseBackendError(String);

/// One way to answer a query: a variant on a backend, written `dhe@cpu`.
///
/// ```
/// use mprec_backends::{BackendKind, Path};
///
/// let path: Path = "table-int8@torch:cuda:0".parse()?;
/// assert_eq!(path.variant(), "table-int8");
/// assert_eq!(path.to_string(), "table-int8@torch:cuda:0");
/// assert_eq!(Path::new("dhe", BackendKind::Cpu)?, "dhe@cpu".parse()?);
/// # Ok::<(), mprec_backends::ParsePathError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Path {
    variant: String,
    backend: BackendKind,
}

impl Path {
    /// The path of `variant`, one to [`MAX_VARIANT`] of `a-z`, `0-9`, `_` and `-`, on `backend`.
    ///
    /// # Errors
    ///
    /// [`ParsePathError::Variant`] if the name is another.
    pub fn new(variant: impl Into<String>, backend: BackendKind) -> Result<Self, ParsePathError> {
        let variant = variant.into();
        let known = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-');
        if variant.is_empty() || variant.len() > MAX_VARIANT || !variant.bytes().all(known) {
            return Err(ParsePathError::Variant(variant));
        }
        Ok(Self { variant, backend })
    }

    /// Name of the variant in its bundle.
    pub fn variant(&self) -> &str {
        &self.variant
    }

    /// Where it runs.
    pub fn backend(&self) -> BackendKind {
        self.backend
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.variant, self.backend)
    }
}

impl FromStr for Path {
    type Err = ParsePathError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (variant, backend) =
            text.split_once('@').ok_or_else(|| ParsePathError::Form(text.to_owned()))?;
        Self::new(variant, backend.parse()?)
    }
}

impl From<Path> for String {
    fn from(path: Path) -> Self {
        path.to_string()
    }
}

impl TryFrom<String> for Path {
    type Error = ParsePathError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

/// The text is not a path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParsePathError {
    /// There is no `@`.
    #[error("`{0}` is not a path; write `variant@backend`, for example `dhe@cpu`")]
    Form(String),
    /// The part before the `@` cannot name a variant.
    #[error("`{0}` cannot name a variant; use 1 to {MAX_VARIANT} of `a-z`, `0-9`, `_` and `-`")]
    Variant(String),
    /// The part after the `@` names no backend.
    #[error(transparent)]
    Backend(#[from] ParseBackendError),
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_wrong_part_has_its_own_error() {
        let parse = |text: &str| text.parse::<Path>().unwrap_err();
        assert!(matches!(parse("dhe"), ParsePathError::Form(_)));
        assert!(matches!(parse("@cpu"), ParsePathError::Variant(_)));
        assert!(matches!(parse("Dhe@cpu"), ParsePathError::Variant(_)));
        for backend in [
            "",
            "gpu",
            "torch",
            "torch:cuda",
            "torch:cuda:+1",
            "torch:cuda:256",
            "cpu@",
            "onnx:",
            "onnx:cpu",
            "onnx:x",
        ] {
            assert!(matches!(parse(&format!("dhe@{backend}")), ParsePathError::Backend(_)));
        }
        let long = "x".repeat(MAX_VARIANT + 1);
        assert!(matches!(Path::new(long, BackendKind::Cpu), Err(ParsePathError::Variant(_))));
    }

    #[test]
    fn every_provider_has_a_spelling_of_its_own() {
        for provider in OnnxProvider::ALL {
            let kind = BackendKind::Onnx(provider);
            assert_eq!(kind.to_string().parse::<BackendKind>(), Ok(kind));
        }
    }

    #[test]
    fn a_path_is_a_string_in_json() {
        let path: Path = "dhe@torch:cuda:3".parse().unwrap();
        let json = serde_json::to_string(&path).unwrap();
        assert_eq!(json, "\"dhe@torch:cuda:3\"");
        assert_eq!(serde_json::from_str::<Path>(&json).unwrap(), path);
        assert!(serde_json::from_str::<Path>("\"dhe\"").is_err());
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_what_parses_prints_the_same(text in "\\PC{0,20}|[a-z-]{1,5}@(cpu|onnx(:(cpu|cuda|dnnl))?|torch:cuda:[0-9]{1,3})") {
            if let Ok(path) = text.parse::<Path>() {
                prop_assert_eq!(path.to_string(), text);
            }
        }
    }
}
