//! Content codings: bodies that clients send compressed, and responses that they want so.

use std::io::{self, Read, Write as _};

use flate2::{Compression, Decompress, FlushDecompress, Status, bufread, write};
use hyper::{
    HeaderMap,
    header::{ACCEPT_ENCODING, CONTENT_ENCODING, HeaderName},
};

use crate::endpoint::ApiError;

/// What is told to those who send another.
pub(super) const SUPPORTED: &str = "gzip, deflate, zstd, identity";

/// Largest window of a zstd stream, as a power of two: the 8 MiB that the coding's standard lets a
/// receiver insist on. A stream states its window, and memory of that size is allocated for it.
const ZSTD_WINDOW_LOG: u32 = 23;

/// Room that is made for what a zlib stream may hold more.
const INFLATE_STEP: usize = 64 << 10;

/// Cheap levels: a response is compressed while its client waits.
const ZSTD_LEVEL: i32 = 1;

/// How the bytes of a body are coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    Gzip,
    /// What the protocol calls so is zlib's framing.
    Deflate,
    Zstd,
}

impl Coding {
    /// Those worth using, best first.
    const ALL: [Self; 3] = [Self::Zstd, Self::Gzip, Self::Deflate];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
            Self::Zstd => "zstd",
        }
    }

    fn of(name: &str) -> Option<Self> {
        if name.eq_ignore_ascii_case("x-gzip") {
            return Some(Self::Gzip);
        }
        Self::ALL.into_iter().find(|coding| name.eq_ignore_ascii_case(coding.name()))
    }

    /// The coding of a request's body; `None` if it is sent as it is.
    ///
    /// # Errors
    ///
    /// [`ApiError::UnsupportedEncoding`] for any other, and for several on top of each other.
    pub(super) fn of_body(headers: &HeaderMap) -> Result<Option<Self>, ApiError> {
        let mut codings =
            named(headers, CONTENT_ENCODING).filter(|name| !name.eq_ignore_ascii_case("identity"));
        let Some(name) = codings.next() else { return Ok(None) };
        match (Self::of(&name), codings.next()) {
            (Some(coding), None) => Ok(Some(coding)),
            (_, more) => {
                let names = std::iter::once(name).chain(more).chain(codings);
                Err(ApiError::UnsupportedEncoding {
                    encoding: names.collect::<Vec<_>>().join(", "),
                })
            }
        }
    }

    /// The coding that a client likes best for its response; `None` leaves it as it is.
    pub(super) fn wanted(headers: &HeaderMap) -> Option<Self> {
        let mut best: Option<(f32, Self)> = None;
        for item in named(headers, ACCEPT_ENCODING) {
            let mut parts = item.split(';').map(str::trim);
            let Some(coding) = parts.next().and_then(Self::of) else { continue };
            let weight = parts.find_map(|part| part.strip_prefix("q=")).map_or(Ok(1.0), str::parse);
            // A weight that cannot be read is no wish.
            let weight = weight.ok().filter(|weight| *weight > 0.0);
            let Some(weight) = weight else { continue };
            let rank = |coding| Self::ALL.iter().position(|other| *other == coding);
            let better = best.is_none_or(|(other, known)| {
                weight > other || weight == other && rank(coding) < rank(known)
            });
            if better {
                best = Some((weight, coding));
            }
        }
        best.map(|(_, coding)| coding)
    }

    /// The body behind a coded one, of at most `limit` bytes. No more than that is ever held, whatever
    /// the coded body expands to.
    ///
    /// # Errors
    ///
    /// [`ApiError::BodyTooLarge`], [`ApiError::BadEncoding`].
    pub(super) fn decode(self, body: &[u8], limit: usize) -> Result<Vec<u8>, ApiError> {
        let result = match self {
            Self::Gzip => read(bufread::MultiGzDecoder::new(body), limit),
            Self::Deflate => inflate(body, limit),
            Self::Zstd => zstd::stream::read::Decoder::with_buffer(body).and_then(|mut decoder| {
                decoder.window_log_max(ZSTD_WINDOW_LOG)?;
                read(decoder, limit)
            }),
        };
        match result {
            Ok(decoded) if decoded.len() > limit => Err(ApiError::BodyTooLarge { limit }),
            Ok(decoded) => Ok(decoded),
            Err(_) => Err(ApiError::BadEncoding { encoding: self.name() }),
        }
    }

    /// A body, coded.
    pub(super) fn encode(self, body: &[u8]) -> io::Result<Vec<u8>> {
        let to = Vec::with_capacity(body.len() / 2);
        match self {
            Self::Gzip => {
                let mut encoder = write::GzEncoder::new(to, Compression::fast());
                encoder.write_all(body)?;
                encoder.finish()
            }
            Self::Deflate => {
                let mut encoder = write::ZlibEncoder::new(to, Compression::fast());
                encoder.write_all(body)?;
                encoder.finish()
            }
            Self::Zstd => zstd::stream::encode_all(body, ZSTD_LEVEL),
        }
    }
}

/// At most one byte more than `limit`, which tells a body of the limit from a longer one.
fn read(decoder: impl Read, limit: usize) -> io::Result<Vec<u8>> {
    let mut decoded = Vec::new();
    decoder.take(limit as u64 + 1).read_to_end(&mut decoded)?;
    Ok(decoded)
}

/// The same of a zlib stream. The library's reader takes one that is cut short for whole.
fn inflate(body: &[u8], limit: usize) -> io::Result<Vec<u8>> {
    let mut stream = Decompress::new(true);
    let mut decoded = Vec::new();
    while decoded.len() <= limit {
        decoded.reserve(INFLATE_STEP.min(limit + 1 - decoded.len()));
        let before = (stream.total_in(), stream.total_out());
        let rest = &body[before.0 as usize..];
        let status = stream.decompress_vec(rest, &mut decoded, FlushDecompress::None)?;
        let now = (stream.total_in(), stream.total_out());
        if status == Status::StreamEnd && now.0 as usize == body.len() {
            break;
        }
        if status == Status::StreamEnd || now == before {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
    Ok(decoded)
}

/// The items of a header that is a list, which may stand there several times.
fn named(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = String> {
    let values =
        headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
    let items = values
        .flat_map(|value| value.split(',').map(|item| item.trim().to_owned()).collect::<Vec<_>>());
    items.filter(|item| !item.is_empty())
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn headers(name: HeaderName, values: &[&'static str]) -> HeaderMap {
        let values = values.iter().map(|value| (name.clone(), HeaderValue::from_static(value)));
        values.collect()
    }

    #[test]
    fn the_best_coding_that_a_client_takes_is_used() {
        for (accepted, coding) in [
            (&[] as &[_], None),
            (&["identity"], None),
            (&["br"], None),
            (&["*"], None),
            (&["gzip"], Some(Coding::Gzip)),
            (&["GZIP;q=0.5, deflate"], Some(Coding::Deflate)),
            (&["deflate, gzip", "zstd"], Some(Coding::Zstd)),
            (&["zstd; q=0, gzip;q=0.1"], Some(Coding::Gzip)),
            (&["gzip;q=x"], None),
            (&["gzip;q=NaN"], None),
        ] {
            assert_eq!(Coding::wanted(&headers(ACCEPT_ENCODING, accepted)), coding, "{accepted:?}");
        }
    }

    #[test]
    fn a_body_has_one_coding_that_is_known() {
        let of = |values: &[&'static str]| Coding::of_body(&headers(CONTENT_ENCODING, values));
        assert_eq!(of(&[]).unwrap(), None);
        assert_eq!(of(&["identity"]).unwrap(), None);
        assert_eq!(of(&["X-Gzip"]).unwrap(), Some(Coding::Gzip));
        assert_eq!(of(&["Zstd, identity"]).unwrap(), Some(Coding::Zstd));
        for values in [&["br"] as &[_], &["gzip, gzip"], &["gzip", "zstd"]] {
            let error = of(values).unwrap_err().to_string();
            assert!(error.contains(values[0]) && error.contains(SUPPORTED), "{error}");
        }
    }

    #[test]
    fn a_bomb_is_cut_at_the_limit() {
        let zeros = vec![0; 32 << 20];
        for coding in Coding::ALL {
            let bomb = coding.encode(&zeros).unwrap();
            assert!(bomb.len() < 1 << 20, "{coding:?}: {}", bomb.len());
            let error = coding.decode(&bomb, 4096).unwrap_err();
            assert!(matches!(error, ApiError::BodyTooLarge { limit: 4096 }), "{coding:?}");
            assert_eq!(coding.decode(&bomb, zeros.len()).unwrap().len(), zeros.len());
            assert!(coding.decode(&bomb, zeros.len() - 1).is_err());
        }
    }

    #[test]
    fn a_window_beyond_the_standard_is_refused() {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(27).unwrap();
        encoder.write_all(&vec![7; 1 << 20]).unwrap();
        let frame = encoder.finish().unwrap();
        let error = Coding::Zstd.decode(&frame, 1 << 30).unwrap_err();
        assert!(matches!(error, ApiError::BadEncoding { encoding: "zstd" }));
    }

    #[test]
    fn what_is_cut_short_or_has_a_tail_is_no_body() {
        for coding in Coding::ALL {
            let whole = coding.encode(b"some bytes that are not all alike: 0123456789").unwrap();
            let tailed = [whole.as_slice(), b"tail"].concat();
            for broken in [&whole[..whole.len() - 1], &whole[..4], &tailed, b"not coded"] {
                let result = coding.decode(broken, 1 << 20);
                assert!(
                    matches!(result, Err(ApiError::BadEncoding { .. })),
                    "{coding:?} {broken:?}"
                );
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_decodes_to_itself(body in prop::collection::vec(any::<u8>(), 0..5000)) {
            for coding in Coding::ALL {
                prop_assert_eq!(&coding.decode(&coding.encode(&body).unwrap(), 5000).unwrap(), &body);
            }
        }

        #[test]
        fn any_bytes_decode_or_are_refused(body in prop::collection::vec(any::<u8>(), 0..200)) {
            for coding in Coding::ALL {
                let _ = coding.decode(&body, 1000);
            }
        }
    }
}
