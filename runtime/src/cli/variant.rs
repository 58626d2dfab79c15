//! What commands that make a variant from another one check first.

use mprec_representations::{Bundle, DlrmSpec, bundle::Architecture};

use super::{Failure, InputError as _};

/// The name of a new variant, unless the bundle has one of this name.
pub(super) fn new_name(bundle: &Bundle, name: String) -> Result<String, Failure> {
    if bundle.manifest().variant(&name).is_ok() {
        return Err(Failure::input(anyhow::anyhow!(
            "the bundle has a variant `{name}` already; choose another with `--name`"
        )));
    }
    Ok(name)
}

/// The architecture of a variant that has parameters of its own. `verb` is what the command does to them.
pub(super) fn own_architecture<'a>(
    bundle: &'a Bundle,
    variant: &str,
    verb: &str,
) -> Result<&'a DlrmSpec, Failure> {
    match &bundle.manifest().variant(variant).or_bad_input()?.architecture {
        Architecture::Dlrm(spec) => Ok(spec),
        Architecture::Ensemble { .. } => Err(Failure::input(anyhow::anyhow!(
            "variant `{variant}` is an ensemble; {verb} its members and add an ensemble of them"
        ))),
    }
}
