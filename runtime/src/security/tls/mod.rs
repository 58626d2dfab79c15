//! TLS by rustls, with the arithmetic of `ring`, in versions 1.2 and 1.3.

mod client;
mod pem;
mod server;
#[cfg(test)]
mod tests;

pub use self::{client::TlsClient, server::Certificates};

/// Whether this program speaks TLS.
pub const IS_COMPILED: bool = true;
