//! Who may ask, and that nobody else reads along: bearer keys and TLS. Both are optional.
//!
//! Keys are long random texts. The server's file has only their SHA-256, one a line; [`KeyRing`] reads it, reads it again when
//! it is told to, and keeps what it had if the file cannot be used. TLS is rustls; [`Certificates`] are replaced in the same
//! way. `docs/security.md` says what is open without a key.

mod error;
mod files;
mod handshake;
mod key;
mod keys;
#[cfg(feature = "tls")]
#[cfg(test)]
pub(crate) mod made;
#[cfg(not(feature = "tls"))]
#[path = "no_tls.rs"]
mod tls;
#[cfg(feature = "tls")]
mod tls;

pub use self::{
    error::{KeysError, TlsError},
    files::TlsFiles,
    handshake::HandshakeEnd,
    key::{NewKey, is_key_name},
    keys::{KeyRefusal, KeyRing, Scope},
    tls::{Certificates, IS_COMPILED, TlsClient},
};
pub(crate) use self::{
    files::read_within,
    handshake::{HandshakeError, Io, Protocol},
    keys::Pass,
};
