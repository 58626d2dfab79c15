//! libtorch's CUDA half, which is not linked: loaded at run time where it is found.
//!
//! A binary linked against `libtorch_cpu` alone becomes one that computes on GPUs when `libtorch_cuda` is loaded beside
//! it: its kernels enter themselves into libtorch's tables. libtorch remembers the first answer to whether there is CUDA,
//! so the library must come before the first question.

use std::{
    ffi::{CStr, c_char, c_int},
    sync::OnceLock,
};

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};

use crate::{
    error::BackendError,
    path::{BackendKind, TorchDevice},
};

const NAME: &str = "libtorch_cuda.so";

const REMEDY: &str = "needs a driver for CUDA 13 and the libraries of PyTorch 2.11 (`pip install torch==2.11.0`): put the \
    folder `torch/lib` of that installation first in `LD_LIBRARY_PATH`";

/// A GPU that the driver lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::torch) struct Gpu {
    pub(super) name: String,
    /// All of its memory.
    pub(super) bytes: u64,
}

/// Loads the CUDA half once per process. To be called before anything else of libtorch.
///
/// # Errors
///
/// What the dynamic loader said.
pub(super) fn load() -> Result<(), &'static str> {
    static LOADED: OnceLock<Result<(), String>> = OnceLock::new();
    let loaded = LOADED.get_or_init(|| {
        // SAFETY: what runs while the library loads is libtorch's registration of kernels, which it is made for. The
        // library is never unloaded, so nothing that was registered dangles.
        match unsafe { Library::open(Some(NAME), RTLD_NOW | RTLD_GLOBAL) } {
            Ok(library) => {
                std::mem::forget(library);
                tracing::info!(library = NAME, "loaded libtorch's CUDA half");
                Ok(())
            }
            Err(error) => {
                use std::error::Error as _;
                Err(error.source().map_or_else(|| error.to_string(), ToString::to_string))
            }
        }
    });
    loaded.as_ref().map_err(String::as_str).copied()
}

/// Whether libtorch can compute on this device, now.
///
/// # Errors
///
/// [`BackendError::Unavailable`] with the reason.
pub(super) fn check(device: TorchDevice) -> Result<(), BackendError> {
    let loaded = load();
    let TorchDevice::Cuda(index) = device else { return Ok(()) };
    let unavailable = |reason: String| BackendError::Unavailable {
        backend: BackendKind::Torch(device),
        reason,
        remedy: REMEDY,
    };
    loaded.map_err(|reason| unavailable(reason.to_owned()))?;
    let count = tch::Cuda::device_count();
    if !tch::Cuda::is_available() || count == 0 {
        return Err(unavailable("libtorch finds no GPU and driver that it can use".to_owned()));
    }
    if i64::from(index) >= count {
        return Err(unavailable(format!("libtorch finds {count} GPUs, numbered from 0")));
    }
    Ok(())
}

/// GPUs in the driver's order, which is libtorch's. None without a driver.
pub(in crate::torch) fn gpus() -> Vec<Gpu> {
    // SAFETY: loading the driver's library runs its own initialisation and nothing of ours.
    let Ok(driver) = (unsafe { Library::open(Some("libcuda.so.1"), RTLD_NOW) }) else {
        return Vec::new();
    };
    // SAFETY: the names and signatures are those of the CUDA driver API, whose ABI is stable, and the functions are called
    // while the library is loaded: it is kept for good, as the driver holds threads of its own.
    let gpus = unsafe { list(&driver) }.unwrap_or_default();
    std::mem::forget(driver);
    gpus
}

/// # Safety
///
/// `driver` must be the CUDA driver's library.
unsafe fn list(driver: &Library) -> Option<Vec<Gpu>> {
    const LONGEST: usize = 128;
    type Init = unsafe extern "C" fn(u32) -> c_int;
    type Count = unsafe extern "C" fn(*mut c_int) -> c_int;
    type Get = unsafe extern "C" fn(*mut c_int, c_int) -> c_int;
    type Name = unsafe extern "C" fn(*mut c_char, c_int, c_int) -> c_int;
    type Memory = unsafe extern "C" fn(*mut usize, c_int) -> c_int;
    // SAFETY: as the caller promises, these are the driver API's functions of these names and types.
    let (init, count, get, name, memory) = unsafe {
        (
            driver.get::<Init>(b"cuInit\0").ok()?,
            driver.get::<Count>(b"cuDeviceGetCount\0").ok()?,
            driver.get::<Get>(b"cuDeviceGet\0").ok()?,
            driver.get::<Name>(b"cuDeviceGetName\0").ok()?,
            driver.get::<Memory>(b"cuDeviceTotalMem_v2\0").ok()?,
        )
    };
    let done = |status: c_int| (status == 0).then_some(());
    let mut gpus = Vec::new();
    let mut found = 0;
    // SAFETY: no flags are defined; the place for the count is valid.
    unsafe {
        done(init(0))?;
        done(count(&mut found))?;
    }
    for at in 0..found {
        let (mut gpu, mut bytes, mut text) = (0, 0, [0; LONGEST]);
        // SAFETY: the places are valid, and the text's length is given.
        unsafe {
            done(get(&mut gpu, at))?;
            done(name(text.as_mut_ptr(), LONGEST as c_int, gpu))?;
            done(memory(&mut bytes, gpu))?;
        }
        text[LONGEST - 1] = 0;
        // SAFETY: the text ends with a zero at the latest in its last place.
        let name = unsafe { CStr::from_ptr(text.as_ptr()) }.to_string_lossy().into_owned();
        gpus.push(Gpu { name, bytes: bytes as u64 });
    }
    Some(gpus)
}
