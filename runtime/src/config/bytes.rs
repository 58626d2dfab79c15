//! Amounts of memory as people write them.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Bytes, written as a number of them or with a unit: `200MB`, `32GiB`, `1.5 GB`.
///
/// Units are `kB`, `MB`, `GB`, `TB` (powers of 1000) and `KiB`, `MiB`, `GiB`, `TiB` (of 1024), in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct ByteSize(pub u64);

/// What makes the text of a [`ByteSize`] unusable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is no amount of memory; write bytes, or a number with a unit such as `200MB` or `32GiB`"
)]
pub struct ByteSizeError {
    /// What was given.
    pub text: String,
}

/// The larger unit first where one is the end of another.
const UNITS: [(&str, u64); 9] = [
    ("tib", 1 << 40),
    ("gib", 1 << 30),
    ("mib", 1 << 20),
    ("kib", 1 << 10),
    ("tb", 1_000_000_000_000),
    ("gb", 1_000_000_000),
    ("mb", 1_000_000),
    ("kb", 1_000),
    ("b", 1),
];

impl FromStr for ByteSize {
    type Err = ByteSizeError;

    fn from_str(text: &str) -> Result<Self, ByteSizeError> {
        let wrong = || ByteSizeError { text: text.chars().take(64).collect() };
        let lower = text.trim().to_ascii_lowercase();
        if let Ok(bytes) = lower.parse() {
            return Ok(Self(bytes));
        }
        let unit = UNITS.iter().find_map(|&(name, unit)| Some((lower.strip_suffix(name)?, unit)));
        let (number, unit) = unit.ok_or_else(wrong)?;
        let plain = |c: char| c.is_ascii_digit() || c == '.';
        let number = number.trim_end();
        let amount: f64 = number.parse().map_err(|_| wrong())?;
        let bytes = amount * unit as f64;
        // 2^53: up to there every byte can be said.
        if !number.chars().all(plain) || bytes > 9_007_199_254_740_992.0 {
            return Err(wrong());
        }
        Ok(Self(bytes.round() as u64))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        indicatif::HumanBytes(self.0).fmt(formatter)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "bytes, or a text such as \"32GiB\"")]
        enum Written {
            Number(u64),
            Text(String),
        }
        match Written::deserialize(deserializer)? {
            Written::Number(bytes) => Ok(Self(bytes)),
            Written::Text(text) => text.parse().map_err(de::Error::custom),
        }
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> u64 {
        text.parse::<ByteSize>().unwrap().0
    }

    #[test]
    fn units_are_decimal_or_binary() {
        assert_eq!(bytes("4096"), 4096);
        assert_eq!(bytes("200MB"), 200_000_000);
        assert_eq!(bytes("32GiB"), 32 << 30);
        assert_eq!(bytes(" 1.5 gb "), 1_500_000_000);
        assert_eq!(bytes("18446744073709551615"), u64::MAX);
        assert_eq!((bytes("3b"), bytes("2KIB")), (3, 2048));
    }

    #[test]
    fn what_is_no_amount_is_refused_with_an_example() {
        for text in ["", "GiB", "-1GB", "1e3MB", "nanGB", "infMB", "7 apples", "9999999TB"] {
            let error = text.parse::<ByteSize>().unwrap_err().to_string();
            assert!(error.contains("32GiB") && error.contains(text), "{error}");
        }
    }
}
