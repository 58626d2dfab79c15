//! What commands that ask a server need to be let in.

use std::path::PathBuf;

use clap::Args;
use mprec_runtime::load::Access;

use super::{Failure, InputError as _};

#[derive(Debug, Args)]
pub(super) struct AccessArguments {
    /// Certificates, in PEM, one of which has signed the server's, for URLs that begin with `https`.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// A certificate to show to the server, in PEM.
    #[arg(long, value_name = "FILE", requires_all = ["ca", "client_key"])]
    client_certificate: Option<PathBuf>,
    /// Its private key.
    #[arg(long, value_name = "FILE", requires = "client_certificate")]
    client_key: Option<PathBuf>,
    /// A file with a key that lets requests in.
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
}

impl AccessArguments {
    pub(super) fn read(&self) -> Result<Access, Failure> {
        let mut access = Access::default();
        if let Some(ca) = &self.ca {
            let identity = self.client_certificate.as_deref().zip(self.client_key.as_deref());
            access = access.with_tls(ca, identity).or_bad_input()?;
        }
        if let Some(file) = &self.key_file {
            access = access.with_key_in(file).or_bad_input()?;
        }
        Ok(access)
    }
}
