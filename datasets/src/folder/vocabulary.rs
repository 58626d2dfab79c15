//! Which token every id stands for.
//!
//! ```text
//! bytes
//! 0..8     "MPRECVOC"
//! 8..16    format version
//! 16..24   features F
//! 24..     F counts of tokens
//! then     the tokens of feature 0, of feature 1, …
//! ```
//!
//! All are u64, little-endian. The first token of a feature has id 1, the next id 2: ordered by how
//! often they occur in the training rows, most often first, equally frequent ones by number. Id 0 is
//! the row of every token that is not listed. What number a value has, [`token`](crate::token) says.

use std::path::Path;

use hashbrown::HashMap;

use super::{FORMAT_VERSION, damaged};
use crate::{error::DatasetError, token::Token};

const MAGIC: [u8; 8] = *b"MPRECVOC";

/// Most tokens of one feature. Their ids fit 32 bits, and counting them needs about 40 bytes each.
pub(crate) const MAX_TOKENS: usize = 1 << 28;

/// The tokens of every feature, in the order of their ids.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Vocabulary {
    features: Vec<Vec<Token>>,
}

/// Finds the ids of the tokens of one feature.
#[derive(Debug, Clone)]
pub(crate) struct Lookup(HashMap<Token, u32>);

impl Vocabulary {
    pub(crate) fn new(features: Vec<Vec<Token>>) -> Self {
        Self { features }
    }

    /// Number of features.
    pub fn features(&self) -> usize {
        self.features.len()
    }

    /// The tokens of one feature; that at place *i* has id *i* + 1.
    ///
    /// # Panics
    ///
    /// If there is no such feature.
    pub fn tokens(&self, feature: usize) -> &[Token] {
        &self.features[feature]
    }

    /// The feature's cardinality: its tokens, and the row of all others.
    ///
    /// # Panics
    ///
    /// If there is no such feature.
    pub fn cardinality(&self, feature: usize) -> u64 {
        self.features[feature].len() as u64 + 1
    }

    /// The content of the vocabulary file.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        let counts = self.features.iter().map(|tokens| tokens.len() as u64);
        let tokens = self.features.iter().flatten().map(|token| token.to_bits());
        for number in
            [FORMAT_VERSION, self.features.len() as u64].into_iter().chain(counts).chain(tokens)
        {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    /// Reads the content of the vocabulary file called `file`.
    ///
    /// # Errors
    ///
    /// [`DatasetError`] when the counts and the length of the file disagree, or it is no such file.
    pub(crate) fn from_bytes(file: &Path, bytes: &[u8]) -> Result<Self, DatasetError> {
        let (Some(&magic), true) = (bytes.first_chunk::<8>(), bytes.len().is_multiple_of(8)) else {
            return Err(damaged(file, "it is not a vocabulary"));
        };
        if magic != MAGIC {
            return Err(damaged(file, "it is not a vocabulary"));
        }
        let mut numbers = bytes[8..].chunks_exact(8).map(|number| {
            u64::from_le_bytes(number.try_into().expect("each of the chunks has 8 bytes"))
        });
        let mut next = |what: &str| {
            numbers.next().ok_or_else(|| damaged(file, format!("it ends before its {what}")))
        };
        let found = next("version")?;
        if found != FORMAT_VERSION {
            return Err(DatasetError::Version {
                file: file.into(),
                found,
                expected: FORMAT_VERSION,
            });
        }
        let features = next("number of features")?;
        if features > (bytes.len() / 8) as u64 {
            return Err(damaged(file, format!("it is too short for {features} features")));
        }
        let counts: Vec<u64> =
            (0..features).map(|_| next("counts")).collect::<Result<_, DatasetError>>()?;
        let left = numbers.len() as u64;
        let total = counts.iter().try_fold(0_u64, |sum, &count| sum.checked_add(count));
        if total != Some(left) {
            return Err(damaged(file, format!("its counts do not add to its {left} tokens")));
        }
        let features = counts
            .iter()
            .map(|&count| numbers.by_ref().take(count as usize).map(Token::from_bits).collect())
            .collect();
        Ok(Self { features })
    }

    /// A way from tokens to ids for every feature.
    ///
    /// # Errors
    ///
    /// The first feature that lists a token twice.
    pub(crate) fn lookups(&self) -> Result<Vec<Lookup>, usize> {
        let lookup = |(feature, tokens): (usize, &Vec<Token>)| {
            let ids: HashMap<_, _> = tokens.iter().copied().zip(1..).collect();
            if ids.len() == tokens.len() { Ok(Lookup(ids)) } else { Err(feature) }
        };
        self.features.iter().enumerate().map(lookup).collect()
    }
}

impl Lookup {
    /// The token's id, or 0.
    pub(crate) fn id(&self, token: Token) -> u32 {
        self.0.get(&token).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vocabulary {
        let tokens = |values: &[u32]| values.iter().map(|&value| Token::of_value(value)).collect();
        Vocabulary::new(vec![tokens(&[7, 5]), Vec::new(), vec![Token::MISSING]])
    }

    fn read(bytes: &[u8]) -> Result<Vocabulary, DatasetError> {
        Vocabulary::from_bytes(Path::new("v"), bytes)
    }

    #[test]
    fn ids_follow_the_order_and_unknown_tokens_are_zero() {
        let vocabulary = read(&sample().to_bytes()).unwrap();
        assert_eq!(vocabulary, sample());
        let lookups = vocabulary.lookups().unwrap();
        assert_eq!(lookups[0].id(Token::of_value(7)), 1);
        assert_eq!(lookups[0].id(Token::of_value(5)), 2);
        assert_eq!(lookups[0].id(Token::MISSING), 0);
        assert_eq!(lookups[2].id(Token::MISSING), 1);
        assert_eq!(vocabulary.cardinality(1), 1);
    }

    #[test]
    fn a_token_listed_twice_is_found() {
        let token = Token::of_value(1);
        let vocabulary = Vocabulary::new(vec![vec![token], vec![token, token]]);
        assert_eq!(vocabulary.lookups().unwrap_err(), 1);
    }

    #[test]
    fn every_truncation_and_hostile_count_is_an_error() {
        let whole = sample().to_bytes();
        for length in 0..whole.len() {
            assert!(read(&whole[..length]).is_err(), "{length} bytes");
        }
        for at in (16..48).step_by(8) {
            for count in [u64::MAX, 1 << 63, 100] {
                let mut bytes = whole.clone();
                bytes[at..at + 8].copy_from_slice(&count.to_le_bytes());
                assert!(read(&bytes).is_err(), "{count} at {at}");
            }
        }
        let mut other = whole;
        other[8] = 2;
        assert!(matches!(read(&other), Err(DatasetError::Version { found: 2, .. })));
    }
}
