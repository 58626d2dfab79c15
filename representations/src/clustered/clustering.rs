//! From a variant with DHEs to one with centroids.

use super::{
    ClusteredSpec, centroids_name,
    k_means::{self, Clusters},
    vectors_name,
};
use crate::{
    dhe::{HashFamily, replace_dhes},
    dlrm::{DlrmSpec, ModelError},
    representation::RepresentationSpec,
    schema::Schema,
    tensor::Tensor,
    weights::Weights,
};

/// What to make centroids of.
#[derive(Debug)]
pub struct Clustering<'a> {
    /// Most centroids of a feature. One with as many ids or fewer keeps them all.
    pub centroids: usize,
    /// By feature: ids with how often they occur, the most frequent first.
    pub counts: Vec<&'a [(u32, u64)]>,
}

impl Clustering<'_> {
    /// The architecture and the parameters of `spec` with every DHE replaced by centroids of its codes. `vectors` gives
    /// what the DHE of a feature computes for some of its ids, `[ids, dim]`. `progress` is told of [`Self::steps`]
    /// altogether.
    ///
    /// The vector of a centroid is the mean of its ids' vectors, every id counting as often as it occurs.
    ///
    /// # Errors
    ///
    /// What `vectors` fails with; or a [`ModelError`] when there is no DHE, tensors are not those of the architecture, or
    /// the number of centroids is impossible.
    pub fn apply<E: From<ModelError>>(
        &self,
        schema: &Schema,
        spec: &DlrmSpec,
        weights: &Weights,
        mut vectors: impl FnMut(usize, &[u64]) -> Result<Tensor<f32>, E>,
        progress: &(impl Fn(u64) + Sync),
    ) -> Result<(DlrmSpec, Weights), E> {
        // Before anything is computed.
        check_centroids(self.centroids)?;
        spec.check(schema)?;
        let purpose = "for clustering";
        replace_dhes(schema, spec, weights, purpose, |feature, dhe, beside, parameters| {
            let family =
                HashFamily::load(feature, dhe.hashes, weights).map_err(ModelError::from)?;
            family.check(feature, dhe.transform).map_err(ModelError::from)?;
            let counted = self.ids(feature, schema, dhe.hashes);
            let clusters =
                Clusters::new(&family, dhe.transform, &counted, self.centroids, progress);
            let ids: Vec<u64> = counted.iter().map(|&(id, _)| id).collect();
            let means = clusters.means(&vectors(feature, &ids)?);
            parameters.insert(format!("{}.weight", centroids_name(feature)), clusters.directions());
            parameters.insert(vectors_name(feature), means);
            Ok(RepresentationSpec::Clustered(ClusteredSpec {
                hashes: dhe.hashes,
                transform: dhe.transform,
                centroids: clusters.len(),
                dim: dhe.dim,
                beside,
            }))
        })
    }

    /// What [`Self::apply`] tells of its progress altogether: codes compared with all centroids.
    pub fn steps(&self, schema: &Schema, spec: &DlrmSpec) -> u64 {
        let features = spec.features.iter().take(schema.sparse().len()).enumerate();
        features
            .filter_map(|(feature, representation)| {
                let ids = self.ids(feature, schema, representation.dhe()?.hashes).len();
                Some(k_means::steps(ids, self.centroids))
            })
            .sum()
    }

    /// The ids of `feature` whose codes are clustered, with their counts.
    fn ids(&self, feature: usize, schema: &Schema, hashes: usize) -> Vec<(u64, u64)> {
        let seen = self.counts.get(feature).copied().unwrap_or_default();
        let cardinality = schema.sparse()[feature].cardinality;
        if cardinality <= self.centroids as u64 {
            let mut ids: Vec<_> = (0..cardinality).map(|id| (id, 0)).collect();
            for &(id, count) in seen {
                if let Some(id) = ids.get_mut(id as usize) {
                    id.1 = count;
                }
            }
            return ids;
        }
        // The row of unknown ids, where none is known.
        if seen.is_empty() {
            return vec![(0, 1)];
        }
        let count = k_means::clustered_ids(seen.len(), hashes, self.centroids);
        seen[..count].iter().map(|&(id, count)| (id.into(), count)).collect()
    }
}

/// Refuses a number of centroids that no program could hold.
pub(crate) fn check_centroids(centroids: usize) -> Result<(), ModelError> {
    if (1..=crate::program::MAX_WIDTH).contains(&centroids) {
        return Ok(());
    }
    Err(ModelError::Architecture {
        what: "a code's nearest of",
        expected: format!("1 to {} centroids", crate::program::MAX_WIDTH),
        got: centroids.to_string(),
    })
}
