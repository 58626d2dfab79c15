//! What a DHE computes for ids: the rows of its materialisation, and what centroids are means of.

use std::sync::Arc;

use mprec_representations::{Batch, Program, Schema, batch::BatchShape};

use super::{
    chain::Chain,
    executable::CpuExecutable,
    input::Input,
    level::Level,
    place::Place,
    plan::Plan,
    step::{Ids, Now, Step},
};
use crate::error::BackendError;

/// A program, readied to compute the vectors of its DHEs.
#[derive(Debug)]
pub struct DheVectors {
    plan: Arc<Plan>,
    empty: Batch,
}

impl DheVectors {
    /// Readies a program over batches of `schema`.
    ///
    /// # Errors
    ///
    /// As [`Backend::prepare`](crate::Backend::prepare).
    pub fn new(program: &Program, schema: &Schema) -> Result<Self, BackendError> {
        let plan = Arc::new(Plan::new(program, Level::detect())?);
        Ok(Self { plan, empty: BatchShape::new(schema).empty() })
    }

    /// Width of the vectors of `feature`, if it has a DHE.
    pub fn dim(&self, feature: usize) -> Option<usize> {
        Some(self.find(feature)?.1.width)
    }

    /// Writes the vectors of `ids` of `feature`, as many as `out` holds, and tells `progress` of every few that are
    /// done.
    ///
    /// # Errors
    ///
    /// [`BackendError::Memory`] if scratch memory does not fit.
    ///
    /// # Panics
    ///
    /// If the feature has no DHE, or `out` holds more than there are ids.
    pub fn compute(
        &self,
        feature: usize,
        ids: impl IntoIterator<Item = u64>,
        out: &mut [f32],
        progress: impl Fn(u64),
    ) -> Result<(), BackendError> {
        let (chain, from) = self.find(feature).expect("the caller asked for the vectors' width");
        let mut executable = CpuExecutable::new(Arc::clone(&self.plan), None)?;
        let scratch = &mut executable.scratch;
        let mut ids = ids.into_iter();
        let mut chunk = Vec::with_capacity(chain.chunk);
        for out in out.chunks_mut(chain.chunk * from.width) {
            let count = out.len() / from.width;
            chunk.clear();
            chunk.extend(ids.by_ref().take(count));
            assert_eq!(chunk.len(), count, "an id for every vector");
            let of = Ids { distinct: &chunk, ..Ids::default() };
            let now = Now { samples: 0..0, groups: 0..0, rows: count, ids: of };
            for step in &chain.steps {
                if !matches!(step, Step::Reduce { .. }) {
                    step.run(Input::Plain(&self.empty), &now, &self.plan.kernels, scratch);
                }
            }
            let vectors = from.read(&scratch.buffers, &[], count);
            for (row, out) in out.chunks_exact_mut(from.width).enumerate() {
                out.copy_from_slice(vectors.row(row));
            }
            progress(count as u64);
        }
        Ok(())
    }

    /// The steps over the ids of `feature`, and where its vectors are before they are summed over bags.
    fn find(&self, feature: usize) -> Option<(&Chain, Place)> {
        self.plan.steps.iter().find_map(|step| {
            let Step::Chain(chain) = step else { return None };
            let from = chain.steps.iter().find_map(|step| match step {
                Step::Reduce { from, .. } => Some(*from),
                _ => None,
            })?;
            (chain.feature == feature).then_some((chain, from))
        })
    }
}
