//! The torch backend, where it is compiled in: on the CPU, and on the first GPU if there is one that libtorch can use.

use mprec_tests::suite::Runner;

#[cfg(feature = "torch")]
fn runners() -> Vec<Runner> {
    use mprec_backends::{BackendKind, TorchDevice, registry};
    use mprec_tests::{
        require,
        suite::{self, Tolerance},
    };

    // Each device has a name of its own in `MPREC_REQUIRE`: few machines have both.
    let devices = [("torch", TorchDevice::Cpu), ("cuda", TorchDevice::Cuda(0))];
    let runner = |(name, device)| match registry::open(BackendKind::Torch(device)) {
        Ok(backend) => Some(Runner {
            name: backend.kind().to_string(),
            backend,
            tolerance: Tolerance::OTHER_ORDER,
            programs: 48,
            exceptions: suite::NO_PICK_LARGEST,
        }),
        Err(error) => {
            require::skip(name, &error.to_string());
            None
        }
    };
    devices.into_iter().filter_map(runner).collect()
}

#[cfg(not(feature = "torch"))]
fn runners() -> Vec<Runner> {
    mprec_tests::require::skip("torch", "not compiled in; use `--features torch`");
    Vec::new()
}

mprec_tests::conformance!(runners);
