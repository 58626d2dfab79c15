//! What exists per id of one feature: a DHE's codes, its decoder, and the sums over bags.

use std::ops::Range;

use super::{
    executable::Scratch,
    input::Input,
    kernels::Kernels,
    place::Place,
    recall::Entries,
    step::{Ids, Now, Step},
};

/// Steps over the ids of one feature, run chunk by chunk.
#[derive(Debug)]
pub(crate) struct Chain {
    pub(crate) feature: usize,
    pub(crate) steps: Vec<Step>,
    /// Most ids at once.
    pub(crate) chunk: usize,
    /// What is added to an id to make a key among those of all features; nothing if keys would not fit 64 bits.
    pub(crate) first_key: Option<u64>,
}

impl Chain {
    /// Floats per id that are summed over bags.
    pub(crate) fn width(&self) -> usize {
        self.steps.iter().filter_map(summed).map(|place| place.width).sum()
    }

    pub(crate) fn run(
        &self,
        input: Input<'_>,
        now: &Now<'_>,
        kernels: &Kernels,
        scratch: &mut Scratch,
    ) {
        let Some(of) = input.sharing(self.feature) else {
            return self.sum(input, now.samples.clone(), kernels, scratch);
        };
        if !scratch.kept.is_same() {
            self.sum(input, now.groups.clone(), kernels, scratch);
        }
        for to in self.sums() {
            scratch.kept.spread(to, &mut scratch.buffers, now, of);
        }
    }

    /// Where the sums over bags are.
    fn sums(&self) -> impl Iterator<Item = Place> {
        self.steps.iter().filter_map(|step| match step {
            Step::Reduce { to, .. } => Some(*to),
            _ => None,
        })
    }

    /// Writes the sums of the bags of `samples`, or of groups where the feature is shared.
    fn sum(
        &self,
        input: Input<'_>,
        samples: Range<usize>,
        kernels: &Kernels,
        scratch: &mut Scratch,
    ) {
        for to in self.sums() {
            let mut sums = to.write(&mut scratch.buffers[to.target()], samples.len());
            for row in 0..samples.len() {
                sums.row(row).fill(0.0);
            }
        }
        let bags = input.bags(self.feature);
        let ids = bags.range(samples.start).start..bags.range(samples.end - 1).end;
        let mut bag = samples.start;
        for start in ids.clone().step_by(self.chunk) {
            let chunk = start..ids.end.min(start + self.chunk);
            while bags.range(bag).end <= chunk.start {
                bag += 1;
            }
            // Taken out, so that steps can write to the rest of the scratch memory. If one panics, so goes
            // the cache, whose entries may lack the vectors that they promise.
            let mut unique = std::mem::take(&mut scratch.unique);
            let mut recall = scratch.recall.take();
            let (distinct, rows) = unique.find(&bags.ids()[chunk.clone()]);
            let total = distinct.len();
            let (distinct, rows, entries) = match (&mut recall, self.first_key) {
                (Some(recall), Some(first_key)) => recall.begin(first_key, distinct, rows),
                _ => (distinct, rows, None),
            };
            let ids = Ids { chunk, bag, distinct, rows };
            let now = Now { samples: samples.clone(), groups: 0..0, rows: distinct.len(), ids };
            self.compute(input, &now, entries, kernels, scratch, Some(total));
            scratch.recall = recall;
            scratch.unique = unique;
        }
    }

    /// Computes the rows of `now`. With `sum`, adds them and those held, `sum` rows together, to their bags.
    pub(crate) fn compute(
        &self,
        input: Input<'_>,
        now: &Now<'_>,
        mut entries: Option<&mut Entries>,
        kernels: &Kernels,
        scratch: &mut Scratch,
        sum: Option<usize>,
    ) {
        let mut first = 0;
        for step in &self.steps {
            let Some(place) = summed(step) else {
                if now.rows > 0 {
                    step.run(input, now, kernels, scratch);
                }
                continue;
            };
            if let Some(entries) = &mut entries {
                entries.exchange(place, first, &mut scratch.buffers[place.target()]);
            }
            first += place.width;
            if let Some(rows) = sum {
                let (samples, ids) = (now.samples.clone(), now.ids.clone());
                let now = Now { samples, groups: 0..0, rows, ids };
                step.run(input, &now, kernels, scratch);
            }
        }
    }
}

/// The place of a step's vectors before they are summed over bags, if it is such a step.
fn summed(step: &Step) -> Option<Place> {
    match step {
        Step::Reduce { from, .. } => Some(*from),
        _ => None,
    }
}
