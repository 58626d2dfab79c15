//! One input file, decompressed as its first bytes say, whatever it is called.

use std::{
    fs::File,
    io::{self, Cursor, Read},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::error::PrepareError;

/// Memory that the xz decoder may take; `xz -9` needs 65 MiB.
const XZ_MEMORY: u64 = 512 << 20;

/// Bytes that a zstd frame may ask to look back, as a power of two: what `zstd -19 --long` asks.
const ZSTD_WINDOW_LOG: u32 = 27;

/// A file to read, not yet opened.
#[derive(Debug)]
pub(crate) struct Input {
    path: PathBuf,
    /// Size on disk, if it is a file.
    pub(crate) bytes: u64,
}

impl Input {
    /// Looks the file up.
    pub(crate) fn find(path: &Path) -> Result<Self, PrepareError> {
        let fail = |source| PrepareError::Read { file: path.to_path_buf(), source };
        let meta = std::fs::metadata(path).map_err(fail)?;
        if meta.is_dir() {
            return Err(fail(io::Error::from(io::ErrorKind::IsADirectory)));
        }
        Ok(Self { path: path.to_path_buf(), bytes: meta.len() })
    }

    /// Where the file lies.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The file's name without its folder.
    pub(crate) fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Opens it; `read` counts the bytes taken from disk.
    pub(crate) fn open(&self, read: &Arc<AtomicU64>) -> io::Result<Box<dyn Read + Send>> {
        decompress(Counted { file: File::open(&self.path)?, read: Arc::clone(read) })
    }
}

/// Gzip, xz and zstd, each also as several streams one after the other; anything else as it is.
fn decompress(mut file: impl Read + Send + 'static) -> io::Result<Box<dyn Read + Send>> {
    let mut start = Vec::new();
    file.by_ref().take(6).read_to_end(&mut start)?;
    let kind = start.clone();
    let file = io::BufReader::with_capacity(1 << 18, Cursor::new(start).chain(file));
    Ok(match kind.as_slice() {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(file)),
        [0xfd, b'7', b'z', b'X', b'Z', 0] => {
            let stream = liblzma::stream::Stream::new_stream_decoder(
                XZ_MEMORY,
                liblzma::stream::CONCATENATED,
            )?;
            Box::new(liblzma::bufread::XzDecoder::new_stream(file, stream))
        }
        // A frame, or a skippable frame in front of one.
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(file)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG)?;
            Box::new(decoder)
        }
        _ => Box::new(file),
    })
}

struct Counted<R> {
    file: R,
    read: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.read.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut to = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        to.write_all(text).unwrap();
        to.finish().unwrap()
    }

    fn xz(text: &[u8]) -> Vec<u8> {
        let mut to = liblzma::write::XzEncoder::new(Vec::new(), 1);
        to.write_all(text).unwrap();
        to.finish().unwrap()
    }

    fn zstd(text: &[u8]) -> Vec<u8> {
        zstd::encode_all(text, 1).unwrap()
    }

    fn read(bytes: Vec<u8>) -> io::Result<Vec<u8>> {
        let mut text = Vec::new();
        decompress(Cursor::new(bytes))?.read_to_end(&mut text)?;
        Ok(text)
    }

    #[test]
    fn every_compression_is_known_by_its_first_bytes() {
        for pack in [gzip, xz, zstd] {
            let once = pack(b"a\tb\n");
            assert_eq!(read(once.clone()).unwrap(), b"a\tb\n");
            // Several streams in one file, as `cat` and parallel compressors make them.
            assert_eq!(read([once.clone(), pack(b"c")].concat()).unwrap(), b"a\tb\nc");
            // A file cut short is an error, not an end.
            assert!(read(once[..once.len() - 3].to_vec()).is_err());
        }
        for plain in [&b""[..], b"1", b"1\t2\n", b"\x1f"] {
            assert_eq!(read(plain.to_vec()).unwrap(), plain);
        }
    }
}
