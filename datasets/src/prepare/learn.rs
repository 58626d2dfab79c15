//! Tokens to provisional ids while rows are read, and those to final ids once all are.

use std::cmp::Reverse;

use hashbrown::{HashMap, hash_map::Entry};
use rayon::prelude::*;

use crate::{
    folder::{shard::Shard, vocabulary::MAX_TOKENS},
    preprocessor::Coder,
    token::Token,
};

/// What one feature's tokens become while rows are read.
#[derive(Debug)]
pub(crate) enum Encoder<'a> {
    /// Provisional ids in order of appearance.
    Learn(Learner),
    /// Final ids.
    Known(&'a Coder),
}

/// Tokens of one feature seen so far.
#[derive(Debug, Default)]
pub(crate) struct Learner {
    ids: HashMap<Token, u32>,
}

/// More distinct tokens than [`MAX_TOKENS`].
#[derive(Debug)]
pub(crate) struct TooMany;

impl Encoder<'_> {
    /// Appends the ids of `tokens` to `ids`.
    pub(crate) fn encode(&mut self, tokens: &[Token], ids: &mut Vec<u32>) -> Result<(), TooMany> {
        match self {
            Self::Learn(learner) => {
                for &token in tokens {
                    ids.push(learner.id(token)?);
                }
            }
            Self::Known(coder) => ids.extend(tokens.iter().map(|&token| coder.id(token))),
        }
        Ok(())
    }
}

impl Learner {
    fn id(&mut self, token: Token) -> Result<u32, TooMany> {
        let next = self.ids.len();
        match self.ids.entry(token) {
            Entry::Occupied(entry) => Ok(*entry.get()),
            Entry::Vacant(_) if next == MAX_TOKENS => Err(TooMany),
            // `MAX_TOKENS` fits.
            Entry::Vacant(entry) => Ok(*entry.insert(next as u32)),
        }
    }

    /// The tokens that get an id of their own, in its order, and the final id of every provisional
    /// one. Counts are taken from the first `train` rows of `shards`.
    pub(crate) fn settle(
        self,
        shards: &[Shard],
        feature: usize,
        train: u64,
        min_count: u64,
        max_tokens: Option<u64>,
    ) -> (Vec<Token>, Vec<u32>) {
        let mut tokens = vec![Token::MISSING; self.ids.len()];
        for (token, id) in self.ids {
            tokens[id as usize] = token;
        }
        let mut counts = vec![0_u64; tokens.len()];
        let mut left = train;
        for shard in shards {
            let ids = shard.ids(feature);
            let here = left.min(ids.len() as u64);
            left -= here;
            for &id in &ids[..here as usize] {
                counts[id as usize] += 1;
            }
        }
        // `MAX_TOKENS` fits.
        let mut order: Vec<u32> = (0..tokens.len() as u32)
            .filter(|&id| counts[id as usize] >= min_count.max(1))
            .collect();
        order.par_sort_unstable_by_key(|&id| (Reverse(counts[id as usize]), tokens[id as usize]));
        drop(counts);
        if let Some(most) = max_tokens {
            order.truncate(usize::try_from(most).unwrap_or(usize::MAX));
        }
        let mut ids = vec![0; tokens.len()];
        for (&provisional, id) in order.iter().zip(1..) {
            ids[provisional as usize] = id;
        }
        (order.iter().map(|&id| tokens[id as usize]).collect(), ids)
    }
}
