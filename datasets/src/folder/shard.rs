//! A file of rows, memory-mapped.
//!
//! ```text
//! bytes
//! 0..8     "MPRECSHD"
//! 8..16    format version
//! 16..24   rows
//! 24..32   dense features
//! 32..40   sparse features
//! 40..48   1 if there are labels, else 0
//! 48..64   zeros
//! 64..     dense    f32 [rows, dense], row-major: final values
//!          ids      u32 [sparse, rows]: one column after the other
//!          labels   u8 [rows], 0 or 1
//! ```
//!
//! Header fields are u64. Each of the three parts begins at a multiple of 64, and zeros fill the
//! gaps. Dense values are row-major because a batch holds them so; ids are columns because a batch
//! holds them so, and because whatever looks at one feature reads nothing else.

use std::{ops::Range, path::Path};

use memmap2::Mmap;

use super::{FORMAT_VERSION, damaged, map};
use crate::error::DatasetError;

const MAGIC: [u8; 8] = *b"MPRECSHD";
const HEADER: usize = 64;
const ALIGN: u64 = 64;

/// Most rows of one shard.
pub(crate) const MAX_SHARD_ROWS: usize = 1 << 24;

/// The numbers from which the places in a shard follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ShardShape {
    pub(crate) rows: usize,
    pub(crate) dense: usize,
    pub(crate) sparse: usize,
    pub(crate) labelled: bool,
}

/// Byte ranges of the parts of a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Places {
    pub(crate) dense: Range<usize>,
    pub(crate) ids: Range<usize>,
    pub(crate) labels: Range<usize>,
}

impl ShardShape {
    /// Where the parts lie, or none if that cannot be addressed.
    pub(crate) fn places(&self) -> Option<Places> {
        let part = |start: u64, count: u64, size: u64| {
            let start = start.checked_next_multiple_of(ALIGN)?;
            let end = start.checked_add(count.checked_mul(size)?)?;
            Some(usize::try_from(start).ok()?..usize::try_from(end).ok()?)
        };
        let rows = self.rows as u64;
        let dense = part(HEADER as u64, rows.checked_mul(self.dense as u64)?, 4)?;
        let ids = part(dense.end as u64, rows.checked_mul(self.sparse as u64)?, 4)?;
        let labels = part(ids.end as u64, if self.labelled { rows } else { 0 }, 1)?;
        Some(Places { dense, ids, labels })
    }

    /// The file's header.
    pub(crate) fn header(&self) -> [u8; HEADER] {
        let mut header = [0; HEADER];
        header[..8].copy_from_slice(&MAGIC);
        let fields = [
            FORMAT_VERSION,
            self.rows as u64,
            self.dense as u64,
            self.sparse as u64,
            self.labelled.into(),
        ];
        for (to, field) in header[8..].chunks_exact_mut(8).zip(fields) {
            to.copy_from_slice(&field.to_le_bytes());
        }
        header
    }
}

/// A mapped shard whose size and header were found right.
#[derive(Debug)]
pub(crate) struct Shard {
    map: Mmap,
    shape: ShardShape,
    places: Places,
}

impl Shard {
    /// Maps the shard in `file`, which must be one of this shape.
    pub(crate) fn open(file: &Path, shape: ShardShape) -> Result<Self, DatasetError> {
        let places = shape.places().ok_or_else(|| damaged(file, "it is larger than memory"))?;
        let map = map(file, places.labels.end as u64)?;
        if map[..8] != MAGIC {
            return Err(damaged(file, "it is not a shard"));
        }
        let version = u64::from_le_bytes(
            map[8..16].try_into().expect("a shard is longer than its header, and this is 8 bytes"),
        );
        if version != FORMAT_VERSION {
            return Err(DatasetError::Version {
                file: file.into(),
                found: version,
                expected: FORMAT_VERSION,
            });
        }
        if map[..HEADER] != shape.header() {
            return Err(damaged(file, "its header contradicts the manifest"));
        }
        Ok(Self { map, shape, places })
    }

    /// All bytes of the file.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// `[rows, dense]`, row-major.
    pub(crate) fn dense(&self) -> &[f32] {
        bytemuck::cast_slice(&self.map[self.places.dense.clone()])
    }

    /// Rows of this shard.
    pub(crate) fn rows(&self) -> usize {
        self.shape.rows
    }

    /// All ids, `[sparse, rows]`.
    pub(crate) fn all_ids(&self) -> &[u32] {
        bytemuck::cast_slice(&self.map[self.places.ids.clone()])
    }

    /// The ids of one feature.
    pub(crate) fn ids(&self, feature: usize) -> &[u32] {
        &self.all_ids()[feature * self.shape.rows..][..self.shape.rows]
    }

    /// 0 or 1 per row; empty if the data set is unlabelled.
    pub(crate) fn labels(&self) -> &[u8] {
        &self.map[self.places.labels.clone()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_aligned_and_hostile_shapes_are_none() {
        let shape = ShardShape { rows: 3, dense: 2, sparse: 5, labelled: true };
        let places = shape.places().unwrap();
        assert_eq!((places.dense, places.ids, places.labels), (64..88, 128..188, 192..195));
        for rows in [usize::MAX, usize::MAX / 4, 1 << 62] {
            assert_eq!(ShardShape { rows, ..shape }.places(), None);
        }
    }
}
