//! What a router was made of.

use std::io::{ErrorKind, Read};

use mprec_router::{PolicyName, Profiles, RouterConfig};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{MAGIC, MAX_HEADER, RecordError, VERSION};

/// Everything that a router's decisions depend on, beside its events.
///
/// CBOR keeps every float to the bit, which decimal text does not promise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// Version of the program that recorded.
    pub program: String,
    /// The model.
    pub model: String,
    /// Its version.
    pub model_version: String,
    /// Seconds since 1970 at the router's time zero, or nearly so.
    pub began_unix_seconds: u64,
    /// The policy that decided.
    pub policy: PolicyName,
    /// The router's settings.
    pub config: RouterConfig,
    /// The paths, with the profiles as they were used.
    pub profiles: Profiles,
}

impl Header {
    /// The beginning of a file: magic, version, digest, header.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut text = Vec::new();
        ciborium::into_writer(self, &mut text)
            .expect("a header has text keys and known lengths, and memory takes every byte");
        let mut bytes = MAGIC.to_vec();
        bytes.extend(VERSION.to_le_bytes());
        // Profiles have at most 64 paths with names of 128 bytes and 64 points: far below 4 GiB.
        bytes.extend((text.len() as u32).to_le_bytes());
        bytes.extend(Sha256::digest(&text));
        bytes.extend(text);
        bytes
    }

    /// Reads the beginning of a file; returns how many bytes it takes, too.
    pub(super) fn read(from: &mut impl Read) -> Result<(Self, u64), RecordError> {
        let mut magic = [0; MAGIC.len()];
        fill(from, &mut magic).map_err(|error| match error {
            // Whatever is shorter than this is no log.
            RecordError::NoHeader => RecordError::Foreign,
            other => other,
        })?;
        if magic != MAGIC {
            return Err(RecordError::Foreign);
        }
        let mut fixed = [0; 40];
        fill(from, &mut fixed)?;
        let number = |at: usize| {
            u32::from_le_bytes([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]])
        };
        let (version, length) = (number(0), number(4) as usize);
        if version != VERSION {
            return Err(RecordError::Version { found: version });
        }
        if length > MAX_HEADER {
            return Err(RecordError::Damaged { offset: 12, what: "the header is too long" });
        }
        let mut text = vec![0; length];
        fill(from, &mut text)?;
        if Sha256::digest(&text)[..] != fixed[8..] {
            return Err(RecordError::Damaged {
                offset: 16,
                what: "the header's digest is another",
            });
        }
        let header = ciborium::from_reader(text.as_slice())
            .map_err(|error| RecordError::Header { problem: error.to_string() })?;
        Ok((header, (MAGIC.len() + fixed.len() + length) as u64))
    }
}

fn fill(from: &mut impl Read, bytes: &mut [u8]) -> Result<(), RecordError> {
    from.read_exact(bytes).map_err(|error| match error.kind() {
        ErrorKind::UnexpectedEof => RecordError::NoHeader,
        _ => RecordError::Read(error),
    })
}
