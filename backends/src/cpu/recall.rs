//! Leaves out of a chain the ids whose vectors are held.

use super::{buffer::Buffer, place::Place, plan::Plan};
use crate::{
    cache::{CacheStatistics, HotId, Slot, VectorCache},
    error::BackendError,
};

/// A cache, and what it says of one chunk of ids.
///
/// Ids to compute get the first rows, in their order; those that are held get the rows after them, and are copied
/// there when their vectors are about to be summed. A chain with several vectors per id (the DHEs of an
/// ensemble's members) has them one after the other in one entry.
#[derive(Debug)]
pub(crate) struct Recall {
    entries: Entries,
    /// What is to be computed.
    ids: Vec<u64>,
    /// The row of every id of the chunk.
    rows: Vec<u16>,
    /// The row of every distinct id. While ids are sorted, those held count down from the top.
    order: Vec<u16>,
}

/// The part that is in use while a chunk is computed.
#[derive(Debug)]
pub(crate) struct Entries {
    cache: VectorCache,
    /// Rows computed.
    computed: usize,
    /// Where the rows after those come from.
    held: Vec<Slot>,
    /// Computed rows that shall be held, and where.
    kept: Vec<(u16, Slot)>,
}

impl Recall {
    /// For the chains of `plan`, in at most `bytes`; nothing without bytes or chains.
    ///
    /// # Errors
    ///
    /// [`BackendError::CacheTooSmall`], [`BackendError::Memory`]
    pub(crate) fn new(plan: &Plan, bytes: usize) -> Result<Option<Self>, BackendError> {
        let width = plan.chains().map(|chain| chain.width()).max().unwrap_or(0);
        if bytes == 0 || width == 0 {
            return Ok(None);
        }
        Ok(Some(Self::over(VectorCache::new(bytes, width)?, plan.chunk)))
    }

    fn over(cache: VectorCache, chunk: usize) -> Self {
        assert!(chunk <= 1 << 15, "chunks of {chunk} ids");
        let entries = Entries {
            cache,
            computed: 0,
            held: Vec::with_capacity(chunk),
            kept: Vec::with_capacity(chunk),
        };
        Self {
            entries,
            ids: Vec::with_capacity(chunk),
            rows: Vec::with_capacity(chunk),
            order: Vec::with_capacity(chunk),
        }
    }

    /// Another that holds the same.
    ///
    /// # Errors
    ///
    /// [`BackendError::Memory`]
    pub(crate) fn copy(&self) -> Result<Self, BackendError> {
        Ok(Self::over(self.entries.cache.copy()?, self.ids.capacity()))
    }

    pub(crate) fn statistics(&self) -> CacheStatistics {
        self.entries.cache.statistics()
    }

    /// Its bytes.
    pub(crate) fn bytes(&self) -> usize {
        let Self { entries, ids, rows, order } = self;
        let Entries { cache, held, kept, .. } = entries;
        cache.statistics().bytes
            + size_of::<u64>() * ids.capacity()
            + size_of::<u16>() * (rows.capacity() + order.capacity())
            + size_of::<Slot>() * held.capacity()
            + size_of::<(u16, Slot)>() * kept.capacity()
    }

    /// Begins a chunk: the ids to compute among `distinct`, and the row of each id, given its position
    /// among `distinct`. Keys of these ids begin at `first_key`.
    pub(crate) fn begin(
        &mut self,
        first_key: u64,
        distinct: &[u64],
        positions: &[u16],
    ) -> (&[u64], &[u16], Option<&mut Entries>) {
        let Self { entries, ids, rows, order } = self;
        entries.held.clear();
        entries.kept.clear();
        ids.clear();
        order.clear();
        for &id in distinct {
            let key = first_key + id;
            order.push(if let Some(slot) = entries.cache.find(key) {
                entries.held.push(slot);
                u16::MAX - (entries.held.len() - 1) as u16
            } else {
                let row = ids.len() as u16;
                // What this displaces may have been found above: rows are read before they are written.
                entries.kept.extend(entries.cache.admit(key).map(|slot| (row, slot)));
                ids.push(id);
                row
            });
        }
        entries.computed = ids.len();
        let computed = ids.len() as u16;
        for row in order.iter_mut().filter(|row| **row >= computed) {
            *row = computed + (u16::MAX - *row);
        }
        rows.clear();
        rows.extend(positions.iter().map(|&at| order[usize::from(at)]));
        (ids, rows, Some(entries))
    }

    /// Places for ids of `hot` that are not held yet, the first first, as far as there are any.
    pub(crate) fn reserve(&mut self, hot: &[HotId], plan: &Plan) -> Vec<(HotId, Slot)> {
        let bounds = plan.program.bounds();
        let mut first_keys = vec![None; bounds.len()];
        for chain in plan.chains() {
            first_keys[chain.feature] = chain.first_key;
        }
        let place = |&of: &HotId| {
            let first_key = first_keys.get(of.feature).copied().flatten()?;
            let key = (of.id < bounds[of.feature]).then_some(first_key + of.id)?;
            Some((of, self.entries.cache.fill(key, of.count)?))
        };
        hot.iter().filter_map(place).collect()
    }

    /// Begins a chunk of ids that are all computed, and held at `slots`.
    pub(crate) fn begin_fill(&mut self, slots: &[Slot]) -> &mut Entries {
        let entries = &mut self.entries;
        entries.held.clear();
        entries.kept.clear();
        entries.kept.extend((0..).zip(slots.iter().copied()));
        entries.computed = slots.len();
        entries
    }
}

impl Entries {
    /// Vectors of this chunk are about to be summed: those held come to their rows, and those computed that
    /// shall be held go to their entries, where they begin at column `first`.
    pub(crate) fn exchange(&mut self, place: Place, first: usize, buffer: &mut Buffer) {
        let rows = &mut buffer.as_mut_slice()[place.offset..];
        let columns = first..first + place.width;
        for (row, &slot) in (self.computed..).zip(&self.held) {
            let to = &mut rows[row * place.stride..][..place.width];
            to.copy_from_slice(&self.cache.vector(slot)[columns.clone()]);
        }
        // If two rows have the same slot, the later one has displaced the other, and is written last.
        for &(row, slot) in &self.kept {
            let from = &rows[usize::from(row) * place.stride..][..place.width];
            self.cache.vector_mut(slot)[columns.clone()].copy_from_slice(from);
        }
    }
}
