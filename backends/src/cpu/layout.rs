//! Where every slot of a program lies.
//!
//! A slot is placed among the columns of another where that saves a copy: the vectors of a dot
//! interaction side by side in one group, the inputs of a `cat` or `concat` inside its output. What
//! is left are *roots*, each a matrix of its own. Roots whose lives do not overlap share a buffer.

use mprec_representations::{Combination, Interaction, Op, Program, RowsOf};

use super::{buffer::LINE, place::Place, schedule::Schedule};

/// Places of all slots and groups.
#[derive(Debug)]
pub(crate) struct Layout {
    /// By slot.
    pub(crate) slots: Vec<Place>,
    /// By operation: the group of a dot interaction.
    pub(crate) groups: Vec<Option<Place>>,
    /// By operation: what must be copied to its place before it runs.
    pub(crate) copies: Vec<Vec<(Place, Place)>>,
    /// Floats of every buffer.
    pub(crate) buffers: Vec<usize>,
    /// Samples that fit at once.
    pub(crate) block: usize,
    /// Ids of a feature that fit at once.
    pub(crate) chunk: usize,
}

/// Sizes that a layout keeps to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Most samples at once.
    pub(crate) block: usize,
    /// Most ids of a feature at once.
    pub(crate) chunk: usize,
    /// Most floats in all buffers, unless a single row needs more.
    pub(crate) floats: usize,
}

/// Being placed inside another node.
#[derive(Debug, Clone, Copy)]
struct Claim {
    /// Around it.
    node: usize,
    /// First column there.
    offset: usize,
    /// The operation that wants it there.
    op: usize,
}

/// Slots come first, then groups.
struct Nodes {
    width: Vec<usize>,
    rows: Vec<RowsOf>,
    claims: Vec<Option<Claim>>,
    /// By operation: node and offset to copy to, and the slot to copy from.
    copies: Vec<Vec<(usize, usize, usize)>>,
    /// By operation: its group.
    groups: Vec<Option<usize>>,
}

impl Layout {
    pub(crate) fn new(program: &Program, schedule: &Schedule, limits: Limits) -> Self {
        let mut nodes = Nodes::new(program);
        nodes.separate(program);
        nodes.place(program, schedule, limits)
    }
}

impl Nodes {
    /// Places inputs inside outputs and groups, the last operation first, so that a node is placed
    /// before what it is made of.
    fn new(program: &Program) -> Self {
        let slots = program.slots();
        let mut nodes = Self {
            width: slots.iter().map(|slot| slot.width).collect(),
            rows: slots.iter().map(|slot| slot.rows).collect(),
            claims: vec![None; slots.len()],
            copies: vec![Vec::new(); program.ops().len()],
            groups: vec![None; program.ops().len()],
        };
        for (at, op) in program.ops().iter().enumerate().rev() {
            let node = match op {
                Op::Interact { interaction: Interaction::Dot { .. }, inputs, .. } => {
                    nodes.width.push(inputs.iter().map(|slot| nodes.width[slot.index()]).sum());
                    nodes.rows.push(RowsOf::Samples);
                    nodes.claims.push(None);
                    nodes.groups[at] = Some(nodes.width.len() - 1);
                    nodes.width.len() - 1
                }
                Op::Interact { interaction: Interaction::Cat, output, .. }
                | Op::Combine { combination: Combination::Concat, output, .. } => output.index(),
                _ => continue,
            };
            let mut offset = 0;
            for slot in op.inputs() {
                let claim = Claim { node, offset, op: at };
                // The dense values lie in the batch, and nothing can lie in two places.
                if slot == program.dense() || nodes.claims[slot.index()].is_some() {
                    nodes.copies[at].push((node, offset, slot.index()));
                } else {
                    nodes.claims[slot.index()] = Some(claim);
                }
                offset += nodes.width[slot.index()];
            }
        }
        nodes
    }

    /// The node around all others that `node` lies in, and its first column there.
    fn root(&self, mut node: usize) -> (usize, usize) {
        let mut offset = 0;
        while let Some(claim) = self.claims[node] {
            offset += claim.offset;
            node = claim.node;
        }
        (node, offset)
    }

    /// Gives an operation that would write among the columns it reads an output of its own.
    fn separate(&mut self, program: &Program) {
        loop {
            let found = program.ops().iter().find_map(|op| {
                let in_place = matches!(
                    op,
                    Op::Interact { .. } | Op::Combine { combination: Combination::Concat, .. }
                );
                let output = op.output().index();
                let claim = self.claims[output]?;
                let root = self.root(output).0;
                let reads_it = op.inputs().iter().any(|slot| self.root(slot.index()).0 == root);
                (!in_place && reads_it).then_some((output, claim))
            });
            let Some((output, claim)) = found else { return };
            self.claims[output] = None;
            self.copies[claim.op].push((claim.node, claim.offset, output));
        }
    }

    fn place(self, program: &Program, schedule: &Schedule, limits: Limits) -> Layout {
        let stride: Vec<usize> = self.width.iter().map(|&width| stride(width)).collect();
        let lives = self.lives(program, schedule);
        let roots: Vec<usize> = (0..self.width.len())
            .filter(|&node| self.claims[node].is_none() && node != program.dense().index())
            .collect();
        let per_sample: usize = roots.iter().map(|&root| stride[root]).sum();
        let fit = (limits.floats / per_sample.max(1)).max(1);
        let (block, chunk) = (limits.block.min(fit), limits.chunk.min(fit));

        let size = |node: usize| {
            let rows = if self.rows[node] == RowsOf::Samples { block } else { chunk };
            rows.saturating_mul(stride[node])
        };
        let mut order = roots;
        order.sort_by_key(|&root| lives[root].0);
        let mut buffers: Vec<usize> = Vec::new();
        let mut busy_until: Vec<usize> = Vec::new();
        let mut buffer_of = vec![None; self.width.len()];
        for root in order {
            let (start, end) = lives[root];
            let free = (0..buffers.len()).filter(|&buffer| busy_until[buffer] < start);
            let chosen = free.min_by_key(|&buffer| buffers[buffer].abs_diff(size(root)));
            let chosen = chosen.unwrap_or_else(|| {
                buffers.push(0);
                busy_until.push(0);
                buffers.len() - 1
            });
            buffers[chosen] = buffers[chosen].max(size(root));
            busy_until[chosen] = end;
            buffer_of[root] = Some(chosen);
        }

        let place = |node: usize| {
            if node == program.dense().index() {
                let width = self.width[node];
                return Place { buffer: None, offset: 0, width, stride: width };
            }
            let (root, offset) = self.root(node);
            let (width, stride) = (self.width[node], stride[root]);
            Place { buffer: buffer_of[root], offset, width, stride }
        };
        let copies = |copies: &Vec<(usize, usize, usize)>| {
            copies
                .iter()
                .map(|&(node, offset, slot)| {
                    let (from, around) = (place(slot), place(node));
                    let offset = around.offset + offset;
                    (from, Place { offset, width: from.width, ..around })
                })
                .collect()
        };
        Layout {
            slots: (0..program.slots().len()).map(place).collect(),
            groups: self.groups.iter().map(|group| group.map(place)).collect(),
            copies: self.copies.iter().map(copies).collect(),
            buffers,
            block,
            chunk,
        }
    }

    /// By root: the first time that it is written and the last time that it is read.
    fn lives(&self, program: &Program, schedule: &Schedule) -> Vec<(usize, usize)> {
        let mut lives = vec![(usize::MAX, 0); self.width.len()];
        let mut touch = |node: usize, from: usize, to: usize| {
            let life = &mut lives[self.root(node).0];
            *life = (life.0.min(from), life.1.max(to));
        };
        for (at, op) in program.ops().iter().enumerate() {
            let time = schedule.times[at];
            match op {
                // Sums over bags grow chunk by chunk, so they live as long as the whole chain.
                Op::BagReduce { output, .. } => {
                    let span = &schedule.spans[at];
                    touch(output.index(), span.start, span.end - 1);
                }
                _ => touch(op.output().index(), time, time),
            }
            for slot in op.inputs() {
                touch(slot.index(), time, time);
            }
            if let Some(group) = self.groups[at] {
                touch(group, time, time);
            }
        }
        touch(program.score().index(), usize::MAX, usize::MAX);
        lives
    }
}

/// Floats from row to row: whole cache lines, unless a row is narrower than one.
fn stride(width: usize) -> usize {
    if width < LINE { width } else { width.next_multiple_of(LINE) }
}

#[cfg(test)]
mod tests {
    use mprec_representations::{
        Activation, ProgramBuilder, RowIndex, Rows, Schema, SparseFeature, Tensor,
    };

    use super::*;

    fn builder() -> ProgramBuilder {
        let sparse = ["a", "b"].map(|name| SparseFeature { name: name.into(), cardinality: 3 });
        let dense = vec!["x".into(), "y".into()];
        ProgramBuilder::new(&Schema::new(dense, sparse.into(), Default::default()).unwrap())
    }

    fn rows() -> Rows {
        Rows::F32(Tensor::new(&[3, 2], vec![1.0; 6]))
    }

    fn layer(outputs: usize, inputs: usize) -> (Tensor<f32>, Tensor<f32>) {
        let weight = Tensor::new(&[outputs, inputs], vec![1.0; outputs * inputs]);
        (weight, Tensor::new(&[outputs], vec![0.0; outputs]))
    }

    const LIMITS: Limits = Limits { block: 8, chunk: 8, floats: 1 << 20 };

    #[test]
    fn vectors_that_meet_lie_side_by_side() {
        let mut program = builder();
        let a = program.bag_sum(0, rows(), RowIndex::Id).unwrap();
        let b = program.bag_sum(1, rows(), RowIndex::Id).unwrap();
        let dense = program.dense();
        let met =
            program.interact(Interaction::Dot { itself: false }, vec![dense, a, b, a]).unwrap();
        let (weight, bias) = layer(1, 8);
        let logit = program.linear(met, weight, bias, Activation::None).unwrap();
        let program = program.finish(logit).unwrap();
        let layout = Layout::new(&program, &Schedule::new(&program), LIMITS);
        let group = layout.groups[2].unwrap();
        let place = |slot: mprec_representations::Slot| layout.slots[slot.index()];
        assert_eq!((place(a).buffer, place(a).offset), (group.buffer, 2));
        assert_eq!((place(b).buffer, place(b).offset), (group.buffer, 4));
        // The dense values and the second of the two places of `a` are copied.
        let copied: Vec<usize> = layout.copies[2].iter().map(|(_, to)| to.offset).collect();
        assert!(copied == [0, 6], "{copied:?}");
        assert_ne!(place(met).buffer, group.buffer);
    }

    #[test]
    fn an_operation_never_writes_where_it_reads() {
        let mut program = builder();
        let a = program.bag_sum(0, rows(), RowIndex::Id).unwrap();
        let (weight, bias) = layer(2, 2);
        let b = program.linear(a, weight, bias, Activation::Relu).unwrap();
        let met = program.interact(Interaction::Cat, vec![a, b]).unwrap();
        let (weight, bias) = layer(1, 4);
        let logit = program.linear(met, weight, bias, Activation::None).unwrap();
        let program = program.finish(logit).unwrap();
        let layout = Layout::new(&program, &Schedule::new(&program), LIMITS);
        assert_ne!(layout.slots[a.index()].buffer, layout.slots[b.index()].buffer);
        assert_eq!(layout.copies[2].len(), 1);
    }

    #[test]
    fn a_long_net_needs_only_two_buffers() {
        let mut program = builder();
        let mut slot = program.dense();
        for _ in 0..10 {
            let (weight, bias) = layer(2, 2);
            slot = program.linear(slot, weight, bias, Activation::Relu).unwrap();
        }
        let (weight, bias) = layer(1, 2);
        let logit = program.linear(slot, weight, bias, Activation::None).unwrap();
        let program = program.finish(logit).unwrap();
        let layout = Layout::new(&program, &Schedule::new(&program), LIMITS);
        assert!(layout.buffers.len() <= 3, "{:?}", layout.buffers);
    }
}
