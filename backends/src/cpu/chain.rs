//! What exists per id of one feature: a DHE's codes, its decoder, and the sums over bags.

use mprec_representations::Batch;

use super::{
    executable::Scratch,
    kernels::Kernels,
    step::{Ids, Now, Step},
};

/// Steps over the ids of one feature, run chunk by chunk.
#[derive(Debug)]
pub(crate) struct Chain {
    pub(crate) feature: usize,
    pub(crate) steps: Vec<Step>,
    /// Most ids at once.
    pub(crate) chunk: usize,
}

impl Chain {
    pub(crate) fn run(
        &self,
        batch: &Batch,
        now: &Now<'_>,
        kernels: &Kernels,
        scratch: &mut Scratch,
    ) {
        let samples = now.samples.clone();
        for step in &self.steps {
            if let Step::Reduce { to, .. } = step {
                let mut sums = to.write(&mut scratch.buffers[to.target()], samples.len());
                for row in 0..samples.len() {
                    sums.row(row).fill(0.0);
                }
            }
        }
        let bags = batch.bags(self.feature);
        let ids = bags.range(samples.start).start..bags.range(samples.end - 1).end;
        let mut bag = samples.start;
        for start in ids.clone().step_by(self.chunk) {
            let chunk = start..ids.end.min(start + self.chunk);
            while bags.range(bag).end <= chunk.start {
                bag += 1;
            }
            // Taken out, so that steps can write to the rest of the scratch memory.
            let mut unique = std::mem::take(&mut scratch.unique);
            let (distinct, rows) = unique.find(&bags.ids()[chunk.clone()]);
            let ids = Ids { chunk, bag, distinct, rows };
            let now = Now { samples: samples.clone(), rows: distinct.len(), ids };
            for step in &self.steps {
                step.run(batch, &now, kernels, scratch);
            }
            scratch.unique = unique;
        }
    }
}
