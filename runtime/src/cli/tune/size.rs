//! Sizes as people write them: `32GiB`, `200MB`, `4096`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

/// Bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) struct Size(pub(super) u64);

/// What is not a size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a size; write bytes, or a number with B, kB, MB, GB, TB, KiB, MiB, GiB or TiB, such as `32GiB`"
)]
pub(super) struct SizeError(String);

/// Decimal units are powers of 1000, binary ones of 1024.
const UNITS: [(&str, u64); 10] = [
    ("", 1),
    ("B", 1),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// Beyond every machine, and exact as a float.
const MOST: f64 = (1_u64 << 53) as f64;

impl FromStr for Size {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        let wrong = || SizeError(text.to_owned());
        let at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at(at);
        let known = |(name, _): &&(&str, u64)| name.eq_ignore_ascii_case(unit.trim());
        let (_, factor) = UNITS.iter().find(known).ok_or_else(wrong)?;
        let number: f64 = number.parse().map_err(|_| wrong())?;
        let bytes = number * *factor as f64;
        if bytes <= MOST { Ok(Self(bytes as u64)) } else { Err(wrong()) }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&super::super::output::bytes(self.0))
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "a size: bytes, or text such as \"32GiB\"")]
        enum Written {
            Bytes(u64),
            Text(String),
        }
        match Written::deserialize(deserializer)? {
            Written::Bytes(bytes) if bytes as f64 <= MOST => Ok(Self(bytes)),
            Written::Bytes(bytes) => Err(D::Error::custom(SizeError(bytes.to_string()))),
            Written::Text(text) => text.parse().map_err(D::Error::custom),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_decimal_and_binary_units() {
        let sizes = [
            ("0", 0),
            ("4096", 4_096),
            ("12B", 12),
            ("200MB", 200_000_000),
            ("1 kB", 1_000),
            ("1.5GiB", 3 << 29),
            ("32GiB", 32 << 30),
            ("2tib", 2 << 40),
        ];
        for (text, bytes) in sizes {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
        for text in ["", "GiB", "-1", "1.2.3MB", "5 miles", "inf", "1e3", "99999999TB"] {
            let error = text.parse::<Size>().unwrap_err().to_string();
            assert!(error.contains("such as `32GiB`"), "{error}");
        }
    }
}
