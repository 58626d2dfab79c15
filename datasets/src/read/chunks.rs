//! Files cut into runs of whole lines, by one thread that reads ahead.
//!
//! Where a run ends depends on the text alone, so the rest may be done by any number of threads
//! with the same result. Memory is bounded whatever a compressed file swells to: a run has a
//! fixed size, few are waiting, and a line longer than a run is skipped as it is read.

use std::{
    io::{self, Read},
    sync::{Arc, atomic::AtomicU64, mpsc::SyncSender},
};

use super::Input;
use crate::error::PrepareError;

/// Sizes of what is held at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Bytes of one run.
    pub(crate) chunk_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { chunk_bytes: 2 << 20 }
    }
}

/// Some consecutive lines of one file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Chunk {
    /// Which of the files.
    pub(crate) file: usize,
    /// Number of the first line, from 1.
    pub(crate) first_line: u64,
    /// The lines. Each ends with a newline, but for the last line of a file.
    pub(crate) text: Vec<u8>,
    /// Instead of text: one line that was too long to hold.
    pub(crate) overlong: bool,
}

/// Sends all lines of `inputs` in order; stops at the first error, which is sent too, and when
/// nobody receives.
pub(crate) fn read_all(
    inputs: &[Input],
    limits: Limits,
    read: &Arc<AtomicU64>,
    to: &SyncSender<Result<Chunk, PrepareError>>,
) {
    for (file, input) in inputs.iter().enumerate() {
        let done = input.open(read).and_then(|reader| {
            cut(reader, file, limits.chunk_bytes, &mut |chunk| to.send(Ok(chunk)).is_ok())
        });
        match done {
            Ok(true) => (),
            Ok(false) => return,
            Err(source) => {
                // If the receiver is gone, so is whoever wants to know.
                let _ = to.send(Err(PrepareError::Read { file: input.path().into(), source }));
                return;
            }
        }
    }
}

/// Cuts one file; returns false as soon as `send` does.
fn cut(
    mut reader: impl Read,
    file: usize,
    chunk_bytes: usize,
    send: &mut dyn FnMut(Chunk) -> bool,
) -> io::Result<bool> {
    let mut first_line = 1;
    let mut rest = Vec::new();
    loop {
        let mut text = std::mem::take(&mut rest);
        let wanted = chunk_bytes.saturating_sub(text.len());
        text.reserve_exact(wanted);
        let got = reader.by_ref().take(wanted as u64).read_to_end(&mut text)?;
        let ended = got < wanted;
        if !ended {
            let Some(end) = memchr::memrchr(b'\n', &text) else {
                if !send(Chunk { file, first_line, text: Vec::new(), overlong: true }) {
                    return Ok(false);
                }
                first_line += 1;
                rest = skip_line(&mut reader, text)?;
                continue;
            };
            rest = text[end + 1..].to_vec();
            text.truncate(end + 1);
        }
        let lines = memchr::memchr_iter(b'\n', &text).count() as u64;
        if !text.is_empty() && !send(Chunk { file, first_line, text, overlong: false }) {
            return Ok(false);
        }
        first_line += lines;
        if ended {
            return Ok(true);
        }
    }
}

/// Reads to the end of the line, using `buffer`, and returns what was read behind it.
fn skip_line(mut reader: impl Read, mut buffer: Vec<u8>) -> io::Result<Vec<u8>> {
    let size = buffer.len();
    loop {
        buffer.clear();
        reader.by_ref().take(size as u64).read_to_end(&mut buffer)?;
        if let Some(end) = memchr::memchr(b'\n', &buffer) {
            buffer.drain(..=end);
            return Ok(buffer);
        }
        if buffer.len() < size {
            return Ok(Vec::new());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn chunks(text: &[u8], chunk_bytes: usize) -> Vec<Chunk> {
        let mut chunks = Vec::new();
        let all = cut(text, 0, chunk_bytes, &mut |chunk| {
            chunks.push(chunk);
            true
        });
        assert!(all.unwrap());
        chunks
    }

    #[test]
    fn an_overlong_line_is_skipped_and_counted() {
        let got = chunks(b"ab\nlonger than eight\ncd\nef", 8);
        let shape: Vec<_> =
            got.iter().map(|c| (c.first_line, c.overlong, c.text.as_slice())).collect();
        assert_eq!(shape, [(1, false, &b"ab\n"[..]), (2, true, b""), (3, false, b"cd\nef")]);
        assert!(chunks(b"", 8).is_empty());
    }

    proptest! {
        #[test]
        fn runs_join_to_the_lines_that_fit(
            lines in prop::collection::vec("[a-z]{0,12}", 0..20), chunk_bytes in 13_usize..40,
        ) {
            let text = lines.join("\n");
            let joined: Vec<u8> =
                chunks(text.as_bytes(), chunk_bytes).into_iter().flat_map(|c| c.text).collect();
            prop_assert_eq!(joined, text.into_bytes());
        }

        #[test]
        fn every_line_is_accounted_for_at_its_number(
            text in "[a\n]{0,200}", chunk_bytes in 1_usize..20,
        ) {
            let lines: Vec<_> = text.split_inclusive('\n').collect();
            let mut next = 1;
            for chunk in chunks(text.as_bytes(), chunk_bytes) {
                prop_assert_eq!(chunk.first_line, next);
                if chunk.overlong {
                    prop_assert!(lines[next as usize - 1].len() >= chunk_bytes);
                    next += 1;
                } else {
                    for line in chunk.text.split_inclusive(|&byte| byte == b'\n') {
                        prop_assert_eq!(line, lines[next as usize - 1].as_bytes());
                        next += 1;
                    }
                }
            }
            prop_assert_eq!(next as usize, lines.len() + 1);
        }
    }
}
