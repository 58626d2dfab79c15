//! A new key.

use std::io;

use sha2::{Digest as _, Sha256};

use super::{KeysError, Scope};

/// Random bytes of a key: 256 bits.
const RANDOM_BYTES: usize = 32;

/// Longest name of a key.
const MAX_NAME: usize = 64;

/// What keys begin with, so that scanners for leaked secrets know them.
const PREFIX: &str = "mprec_";

/// A key that was just made. Nobody keeps it.
#[derive(Clone)]
pub struct NewKey {
    key: String,
    line: String,
}

impl NewKey {
    /// A key of random bytes from the operating system; `None` if `name` is none (see [`is_key_name`]).
    ///
    /// # Errors
    ///
    /// [`KeysError::Random`] if the system has no random bytes.
    pub fn new(name: &str, scope: Scope) -> Result<Option<Self>, KeysError> {
        if !is_key_name(name) {
            return Ok(None);
        }
        let mut random = [0; RANDOM_BYTES];
        getrandom::fill(&mut random).map_err(|error| KeysError::Random(io::Error::other(error)))?;
        let key = format!("{PREFIX}{}", hex(&random));
        let scope = if scope == Scope::Admin { " admin" } else { "" };
        let line = format!("{name} sha256:{}{scope}", hex(&digest(key.as_bytes())));
        Ok(Some(Self { key, line }))
    }

    /// The key, for the client.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The line for the server's file.
    pub fn line(&self) -> &str {
        &self.line
    }
}

/// Whether a key may be called so: 1 to 64 of `A-Z a-z 0-9 _ . -`.
pub fn is_key_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(fits)
}

/// What the server keeps of a key. A plain hash is enough: 256 random bits cannot be guessed from it, however fast it is. It
/// would not be enough for passwords.
pub(super) fn digest(key: &[u8]) -> [u8; 32] {
    Sha256::digest(key).into()
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to memory cannot fail");
        text
    })
}
