//! Spherical k-means over a DHE's codes: directions that codes of frequent ids lie near to.
//!
//! Nearness is the cosine, because that is what is looked at when an id is scored. Ids count as often as they occur.
//! The first centroids are the codes of the most frequent ids, and nothing is drawn at random: the same ids give the
//! same centroids, on any number of threads.

use crate::{
    dhe::HashFamily,
    op::{Transform, largest},
    tensor::Tensor,
};

/// Most times that centroids are moved. Codes of different ids are nearly orthogonal, and three are mostly enough.
const ROUNDS: usize = 20;

/// Floats of codes that are held at once, 256 MiB: rarer ids of a feature beyond that have no say in where centroids lie.
const MOST_CODES: usize = 1 << 26;

/// How many of `ids` ids with codes of `hashes` values are clustered.
pub(super) fn clustered_ids(ids: usize, hashes: usize, centroids: usize) -> usize {
    ids.min((MOST_CODES / hashes.max(1)).max(centroids))
}

/// How much [`Clusters::new`] tells `progress` altogether.
pub(super) fn steps(ids: usize, centroids: usize) -> u64 {
    let rounds = if ids <= centroids { 1 } else { ROUNDS + 1 };
    (ids * rounds) as u64
}

/// Centroids of the codes of some ids.
#[derive(Debug)]
pub(super) struct Clusters {
    /// `[centroids, k]`, each of length 1, or 0 where the only code is.
    directions: Vec<f32>,
    hashes: usize,
    /// By id, in the order given: its centroid.
    members: Vec<usize>,
    /// By id: how much it counts.
    counts: Vec<u64>,
}

impl Clusters {
    /// At most `centroids` centroids of `ids`, which are given with how often they occur, the most frequent first. As
    /// many ids or fewer are each a centroid. `progress` is told of every few codes that were compared.
    ///
    /// # Panics
    ///
    /// Without ids or centroids, or as [`HashFamily::encode`].
    pub(super) fn new(
        family: &HashFamily,
        transform: Transform,
        ids: &[(u64, u64)],
        centroids: usize,
        progress: &(impl Fn(u64) + Sync),
    ) -> Self {
        assert!(!ids.is_empty() && centroids > 0, "something to cluster");
        let hashes = family.len();
        let mut codes = vec![0.0; ids.len() * hashes];
        for (code, &(id, _)) in codes.chunks_exact_mut(hashes).zip(ids) {
            family.encode(id, transform, code);
            normalise(code);
        }
        // An id that occurs never, of a feature all of whose ids are centroids, is its centroid's only member.
        let counts = ids.iter().map(|&(_, count)| count.max(1)).collect();
        if ids.len() <= centroids {
            progress(steps(ids.len(), centroids));
            return Self { directions: codes, hashes, members: (0..ids.len()).collect(), counts };
        }
        let directions = codes[..centroids * hashes].to_vec();
        let mut clusters = Self { directions, hashes, members: vec![0; ids.len()], counts };
        clusters.assign(&codes, progress);
        for round in 0..ROUNDS {
            clusters.move_to_means(&codes);
            if !clusters.assign(&codes, progress) {
                progress(((ROUNDS - round - 1) * ids.len()) as u64);
                break;
            }
        }
        clusters.drop_empty();
        clusters
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.directions.len() / self.hashes
    }

    /// `[centroids, k]`
    pub(super) fn directions(&self) -> Tensor<f32> {
        Tensor::new(&[self.len(), self.hashes], self.directions.clone())
    }

    /// The mean of the vectors of each centroid's ids, `[centroids, dim]`, every id counting as often as it occurs.
    /// `vectors` are `[ids, dim]`.
    pub(super) fn means(&self, vectors: &Tensor<f32>) -> Tensor<f32> {
        let dim = vectors.shape()[1];
        let sums = self.sums(vectors.as_slice(), dim);
        let mut totals = vec![0.0; self.len()];
        for (&centroid, &count) in self.members.iter().zip(&self.counts) {
            totals[centroid] += count as f64;
        }
        let means = sums.iter().enumerate().map(|(at, sum)| (sum / totals[at / dim]) as f32);
        Tensor::new(&[self.len(), dim], means.collect())
    }

    /// Gives every id its nearest centroid, and says whether any has another than before.
    fn assign(&mut self, codes: &[f32], progress: &(impl Fn(u64) + Sync)) -> bool {
        let Self { directions, hashes, members, .. } = self;
        let (directions, hashes) = (&*directions, *hashes);
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let share = members.len().div_ceil(threads);
        std::thread::scope(|scope| {
            let parts = members.chunks_mut(share).zip(codes.chunks(share * hashes));
            let handles: Vec<_> = parts
                .map(|(members, codes)| {
                    scope.spawn(move || nearest(directions, hashes, codes, members, progress))
                })
                .collect();
            let changed = |handle: std::thread::ScopedJoinHandle<'_, bool>| {
                handle.join().expect("comparing does not panic")
            };
            // Every one is waited for.
            handles.into_iter().map(changed).fold(false, |any, changed| any | changed)
        })
    }

    /// Moves every centroid to the mean of its ids. One without ids, or whose ids' codes cancel, stays.
    fn move_to_means(&mut self, codes: &[f32]) {
        let sums = self.sums(codes, self.hashes);
        let directions = self.directions.chunks_exact_mut(self.hashes);
        for (direction, sum) in directions.zip(sums.chunks_exact(self.hashes)) {
            let length = sum.iter().map(|x| x * x).sum::<f64>().sqrt();
            if length > 0.0 {
                for (direction, sum) in direction.iter_mut().zip(sum) {
                    *direction = (sum / length) as f32;
                }
            }
        }
    }

    /// By centroid: the sum of its ids' rows, `width` wide, times their counts.
    fn sums(&self, rows: &[f32], width: usize) -> Vec<f64> {
        let mut sums = vec![0.0; self.len() * width];
        for (at, row) in rows.chunks_exact(width).enumerate() {
            let count = self.counts[at] as f64;
            let sums = &mut sums[self.members[at] * width..][..width];
            for (sum, x) in sums.iter_mut().zip(row) {
                *sum += count * f64::from(*x);
            }
        }
        sums
    }

    /// Without ids there is no vector that a centroid could stand for.
    fn drop_empty(&mut self) {
        let mut used = vec![false; self.len()];
        for &centroid in &self.members {
            used[centroid] = true;
        }
        let mut kept = 0;
        let places: Vec<usize> = used
            .iter()
            .map(|&used| {
                kept += usize::from(used);
                kept.saturating_sub(1)
            })
            .collect();
        for member in &mut self.members {
            *member = places[*member];
        }
        let directions = self.directions.chunks_exact(self.hashes).zip(used);
        self.directions =
            directions.filter(|(_, used)| *used).flat_map(|(row, _)| row).copied().collect();
    }
}

/// The nearest centroid of every code, and whether it is another than `members` held.
fn nearest(
    directions: &[f32],
    hashes: usize,
    codes: &[f32],
    members: &mut [usize],
    progress: &impl Fn(u64),
) -> bool {
    const TOLD: usize = 256;
    let mut products = vec![0.0; directions.len() / hashes];
    let mut changed = false;
    for (codes, members) in codes.chunks(TOLD * hashes).zip(members.chunks_mut(TOLD)) {
        for (code, member) in codes.chunks_exact(hashes).zip(members.iter_mut()) {
            for (product, direction) in products.iter_mut().zip(directions.chunks_exact(hashes)) {
                *product = dot(code, direction);
            }
            let centroid = largest(&products);
            changed |= *member != centroid;
            *member = centroid;
        }
        progress(members.len() as u64);
    }
    changed
}

/// Scales a code to length 1; one of zeros stays.
fn normalise(code: &mut [f32]) {
    let length = code.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt();
    if length > 0.0 {
        for x in code {
            *x = (f64::from(*x) / length) as f32;
        }
    }
}

/// In as many sums as make vectors of the processor.
fn dot(left: &[f32], right: &[f32]) -> f32 {
    const LANES: usize = 16;
    let (left, right) = (left.chunks_exact(LANES), right.chunks_exact(LANES));
    let rest: f32 = left.remainder().iter().zip(right.remainder()).map(|(x, y)| x * y).sum();
    let mut sums = [0.0; LANES];
    for (left, right) in left.zip(right) {
        for (at, sum) in sums.iter_mut().enumerate() {
            *sum += left[at] * right[at];
        }
    }
    sums.iter().sum::<f32>() + rest
}
