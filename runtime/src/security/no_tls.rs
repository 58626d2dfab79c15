//! In place of TLS, where it is not compiled in: nothing that could be used can be had.

use std::{io, path::Path};

use tokio::net::TcpStream;

use super::{HandshakeError, Io, Protocol, TlsError, TlsFiles};

/// Whether this program speaks TLS.
pub const IS_COMPILED: bool = false;

/// There are none.
#[derive(Debug)]
pub enum Certificates {}

/// There is none.
#[derive(Debug, Clone)]
pub enum TlsClient {}

impl Certificates {
    /// Says that TLS is not compiled in.
    ///
    /// # Errors
    ///
    /// [`TlsError::NotCompiled`]
    pub fn read(_files: &TlsFiles) -> Result<Self, TlsError> {
        Err(TlsError::NotCompiled)
    }

    /// Nobody has certificates to call this of.
    ///
    /// # Errors
    ///
    /// None.
    pub fn read_again(&self, _files: Option<&TlsFiles>) -> Result<(), TlsError> {
        match *self {}
    }

    pub(crate) async fn accept(
        &self,
        _protocol: Protocol,
        _stream: TcpStream,
    ) -> Result<Box<dyn Io>, HandshakeError> {
        match *self {}
    }
}

impl TlsClient {
    /// Says that TLS is not compiled in.
    ///
    /// # Errors
    ///
    /// [`TlsError::NotCompiled`]
    pub fn new(_ca: &Path, _identity: Option<(&Path, &Path)>) -> Result<Self, TlsError> {
        Err(TlsError::NotCompiled)
    }

    pub(crate) async fn connect(&self, _host: &str, _stream: TcpStream) -> io::Result<Box<dyn Io>> {
        match *self {}
    }
}
