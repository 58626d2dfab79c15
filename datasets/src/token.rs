//! A categorical value as a 64-bit token, and the hashes behind it.
//!
//! Written down in full, because whoever serves a model must do the same outside Rust:
//!
//! - A field of 8 hexadecimal digits is the token of its value (after the layout's modulo).
//! - Any other text is the 64-bit FNV-1a hash of its bytes (offset basis `0xcbf29ce484222325`,
//!   prime `0x100000001b3`) put through [`mix`]. Two of *n* distinct texts share a token with
//!   probability about n² / 2⁶⁵: 3 in a million for ten million texts.
//! - An empty field is [`Token::MISSING`], 2⁶⁴ − 1, which no value becomes.

use std::fmt;

/// A categorical value of one feature.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, bytemuck::Pod, bytemuck::Zeroable,
)]
#[repr(transparent)]
pub struct Token(u64);

impl Token {
    /// The token of an empty field.
    pub const MISSING: Self = Self(u64::MAX);

    /// The token of a value that is a number already.
    pub fn of_value(value: u32) -> Self {
        Self(value.into())
    }

    /// The token of any text; [`Token::MISSING`] if it is empty.
    pub fn of_text(text: &[u8]) -> Self {
        if text.is_empty() {
            return Self::MISSING;
        }
        let hash = text.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Self(mix(hash).min(u64::MAX - 1))
    }

    /// The number that stands for this token in a vocabulary file.
    pub fn to_bits(self) -> u64 {
        self.0
    }

    /// The token that [`Token::to_bits`] gave this number.
    pub fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The id of this token where hashing replaces the vocabulary:
    /// `1 + mix(token xor mix(seed xor mix(feature + 1))) mod (rows - 1)`, with `feature` counted
    /// from 0. Row 0 stays for ids outside the table, as it does with a vocabulary.
    ///
    /// # Panics
    ///
    /// If `rows < 2`.
    pub fn hashed(self, feature: usize, rows: u64, seed: u64) -> u64 {
        1 + mix(self.0 ^ mix(seed ^ mix(feature as u64 + 1))) % (rows - 1)
    }
}

impl fmt::Display for Token {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::MISSING { out.write_str("missing") } else { write!(out, "{:x}", self.0) }
    }
}

/// The output function of SplitMix64 (Steele, Lea, Flood 2014) after its increment: a bijection
/// of 64-bit numbers whose output bits each depend on every input bit.
pub const fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mix_is_the_published_generator() {
        // The first outputs of SplitMix64 seeded with 0, as its authors' C code prints them.
        assert_eq!(mix(0), 0xe220_a839_7b1d_cdaf);
        assert_eq!(mix(0x9e37_79b9_7f4a_7c15), 0x6e78_9e6a_a1b9_65f4);
    }

    #[test]
    fn the_empty_text_is_missing_and_no_other() {
        assert_eq!(Token::of_text(b""), Token::MISSING);
        assert_ne!(Token::of_text(b"a"), Token::MISSING);
        assert_eq!(Token::MISSING.to_string(), "missing");
    }

    #[test]
    fn hashed_ids_use_all_rows_but_the_first() {
        let mut seen = [0_u32; 8];
        for value in 0..8000 {
            seen[Token::of_value(value).hashed(3, 8, 1) as usize] += 1;
        }
        assert_eq!(seen[0], 0);
        assert!(seen[1..].iter().all(|&count| (900..1400).contains(&count)), "{seen:?}");
        let token = Token::of_value(9);
        let ids: Vec<_> = (0..4).map(|feature| token.hashed(feature, 1 << 30, 0)).collect();
        assert!(ids.windows(2).all(|pair| pair[0] != pair[1]), "features share no hash: {ids:?}");
    }
}
