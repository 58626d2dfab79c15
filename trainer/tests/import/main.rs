//! Models of other projects: those that their own code wrote score as that code does, and whatever else a file may hold is
//! refused without a panic and without memory for it.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop here")]

mod allocator;
mod archive;
mod hostile;
mod models;
mod random;

use std::path::PathBuf;

use mprec_trainer::import::{Arch, Checkpoint, ImportError, Imported, import};

/// The folder of checkpoints that `make.py` there made.
fn data() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/data/import")
}

/// All that happens to a file: its tensors found, put into a model, and looked at.
fn read(path: &std::path::Path, arch: &Arch) -> Result<(Checkpoint, Imported), ImportError> {
    let checkpoint = Checkpoint::open(path)?;
    let imported = import(&checkpoint, arch)?;
    imported.verify(&checkpoint, true, &mut |_| {})?;
    Ok((checkpoint, imported))
}

/// The same of these bytes.
fn read_bytes(bytes: &[u8], arch: &Arch) -> Result<(Checkpoint, Imported), ImportError> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut file, bytes).unwrap();
    read(file.path(), arch)
}

/// The architecture file of a case.
fn arch(name: &str) -> Arch {
    Arch::open(data().join(format!("{name}.toml"))).unwrap()
}
