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

use std::{fmt, hash::BuildHasher as _, ops::Range, path::Path, sync::Arc};

use hashbrown::{DefaultHashBuilder, HashTable, hash_table::Entry};
use memmap2::Mmap;
use rayon::prelude::*;

use super::{FORMAT_VERSION, damaged};
use crate::{error::DatasetError, token::Token};

const MAGIC: [u8; 8] = *b"MPRECVOC";

/// Most tokens of one feature. Their ids fit 32 bits, and counting them needs about 40 bytes each.
pub(crate) const MAX_TOKENS: usize = 1 << 28;

/// The tokens of every feature, in the order of their ids. Clones share them.
#[derive(Clone)]
pub struct Vocabulary {
    numbers: Numbers,
    /// Where the tokens of every feature stand.
    features: Vec<Range<usize>>,
}

/// A vocabulary's numbers: just learned, or those of a file, from its first byte.
#[derive(Clone)]
enum Numbers {
    Owned(Arc<Vec<Token>>),
    Mapped(Arc<Mmap>),
}

/// Finds the ids of the tokens of one feature. It takes 6 to 12 bytes a token, as it holds ids alone: the tokens are
/// compared where the vocabulary has them.
#[derive(Clone)]
pub(crate) struct Lookup {
    numbers: Numbers,
    place: Range<usize>,
    ids: Arc<HashTable<u32>>,
    /// With random keys, so that no file can be made in which all tokens collide.
    hasher: DefaultHashBuilder,
}

impl Numbers {
    fn as_slice(&self) -> &[Token] {
        match self {
            Self::Owned(tokens) => tokens,
            // A map begins at a page, and `places` found a multiple of 8 bytes.
            Self::Mapped(map) => bytemuck::cast_slice(map),
        }
    }
}

impl Vocabulary {
    pub(crate) fn new(features: Vec<Vec<Token>>) -> Self {
        let mut end = 0;
        let places = features.iter().map(|tokens| {
            let start = end;
            end += tokens.len();
            start..end
        });
        let places = places.collect();
        Self { numbers: Numbers::Owned(Arc::new(features.concat())), features: places }
    }

    /// The vocabulary in the file called `file`.
    ///
    /// # Errors
    ///
    /// [`DatasetError`] when the counts and the length of the file disagree, or it is no such file.
    pub(crate) fn mapped(file: &Path, map: Mmap) -> Result<Self, DatasetError> {
        let features = places(file, &map)?;
        Ok(Self { numbers: Numbers::Mapped(Arc::new(map)), features })
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
        &self.numbers.as_slice()[self.features[feature].clone()]
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
        let counts = self.features.iter().map(|place| place.len() as u64);
        let all = 0..self.features();
        let tokens = all.flat_map(|feature| self.tokens(feature)).map(|token| token.to_bits());
        for number in
            [FORMAT_VERSION, self.features.len() as u64].into_iter().chain(counts).chain(tokens)
        {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    /// A way from tokens to ids for every feature.
    ///
    /// # Errors
    ///
    /// The first feature that lists a token twice.
    pub(crate) fn lookups(&self) -> Result<Vec<Lookup>, usize> {
        let found: Vec<_> = (0..self.features())
            .into_par_iter()
            .map(|feature| Lookup::of(self, feature).ok_or(feature))
            .collect();
        found.into_iter().collect()
    }
}

/// Where the tokens of every feature stand in the content of a vocabulary file, counted in numbers.
fn places(file: &Path, bytes: &[u8]) -> Result<Vec<Range<usize>>, DatasetError> {
    if !bytes.starts_with(&MAGIC) || !bytes.len().is_multiple_of(8) {
        return Err(damaged(file, "it is not a vocabulary"));
    }
    let mut numbers =
        bytes[8..].as_chunks::<8>().0.iter().map(|number| u64::from_le_bytes(*number));
    let mut next = |what: &str| {
        numbers.next().ok_or_else(|| damaged(file, format!("it ends before its {what}")))
    };
    let found = next("version")?;
    if found != FORMAT_VERSION {
        return Err(DatasetError::Version { file: file.into(), found, expected: FORMAT_VERSION });
    }
    let features = next("number of features")?;
    if features > (bytes.len() / 8) as u64 {
        return Err(damaged(file, format!("it is too short for {features} features")));
    }
    let counts: Vec<u64> =
        (0..features).map(|_| next("counts")).collect::<Result<_, DatasetError>>()?;
    if let Some(count) = counts.iter().find(|&&count| count > MAX_TOKENS as u64) {
        return Err(damaged(
            file,
            format!("a feature of {count} tokens; {MAX_TOKENS} are possible"),
        ));
    }
    // Counts within the limit, and no more of them than the file has numbers.
    if counts.iter().sum::<u64>() != numbers.len() as u64 {
        let left = numbers.len();
        return Err(damaged(file, format!("its counts do not add to its {left} tokens")));
    }
    let mut end = 3 + counts.len();
    let place = |&count: &u64| {
        let start = end;
        end += count as usize;
        start..end
    };
    Ok(counts.iter().map(place).collect())
}

impl Lookup {
    /// `None` if a token is listed twice.
    fn of(vocabulary: &Vocabulary, feature: usize) -> Option<Self> {
        let tokens = vocabulary.tokens(feature);
        let hasher = DefaultHashBuilder::default();
        let mut ids = HashTable::with_capacity(tokens.len());
        // `MAX_TOKENS` fits.
        for (&token, id) in tokens.iter().zip(1_u32..) {
            let at = |id: &u32| tokens[*id as usize - 1];
            let entry = ids.entry(
                hasher.hash_one(token),
                |other| at(other) == token,
                |other| hasher.hash_one(at(other)),
            );
            match entry {
                Entry::Occupied(_) => return None,
                Entry::Vacant(entry) => entry.insert(id),
            };
        }
        let (numbers, place) = (vocabulary.numbers.clone(), vocabulary.features[feature].clone());
        Some(Self { numbers, place, ids: Arc::new(ids), hasher })
    }

    /// The token's id; `None` if it is not listed.
    pub(crate) fn id(&self, token: Token) -> Option<u32> {
        let tokens = &self.numbers.as_slice()[self.place.clone()];
        let hash = self.hasher.hash_one(token);
        self.ids.find(hash, |&id| tokens[id as usize - 1] == token).copied()
    }
}

impl PartialEq for Vocabulary {
    fn eq(&self, other: &Self) -> bool {
        let alike = |feature| self.tokens(feature) == other.tokens(feature);
        self.features() == other.features() && (0..self.features()).all(alike)
    }
}

impl Eq for Vocabulary {}

// There may be millions of tokens.
impl fmt::Debug for Vocabulary {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Vocabulary").field("features", &self.features).finish_non_exhaustive()
    }
}

impl fmt::Debug for Lookup {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Lookup").field("tokens", &self.place.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vocabulary {
        let tokens = |values: &[u32]| values.iter().map(|&value| Token::of_value(value)).collect();
        Vocabulary::new(vec![tokens(&[7, 5]), Vec::new(), vec![Token::MISSING]])
    }

    fn read(bytes: &[u8]) -> Result<Vec<Range<usize>>, DatasetError> {
        places(Path::new("v"), bytes)
    }

    fn mapped(bytes: &[u8]) -> Vocabulary {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("v");
        std::fs::write(&file, bytes).unwrap();
        let map = super::super::map(&file, bytes.len() as u64).unwrap();
        Vocabulary::mapped(&file, map).unwrap()
    }

    #[test]
    fn ids_follow_the_order_and_other_tokens_have_none() {
        let vocabulary = mapped(&sample().to_bytes());
        assert_eq!(vocabulary, sample());
        assert_eq!(vocabulary.to_bytes(), sample().to_bytes());
        let lookups = vocabulary.lookups().unwrap();
        assert_eq!(lookups[0].id(Token::of_value(7)), Some(1));
        assert_eq!(lookups[0].id(Token::of_value(5)), Some(2));
        assert_eq!(lookups[0].id(Token::MISSING), None);
        assert_eq!(lookups[1].id(Token::MISSING), None);
        assert_eq!(lookups[2].id(Token::MISSING), Some(1));
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
            for count in [u64::MAX, 1 << 63, (MAX_TOKENS + 1) as u64, 100] {
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
