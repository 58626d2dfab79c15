//! The definition of every operation: slow, obvious, and what all backends are held to.

use crate::{
    batch::Batch,
    error::ProgramError,
    op::{Combination, Interaction, Op, Slot, largest, sigmoid},
    program::Program,
};

/// The value of every slot after a program has run on a batch.
#[derive(Debug)]
pub struct Values {
    slots: Vec<Vec<f32>>,
}

impl Values {
    /// The matrix in `slot`, row-major.
    pub fn get(&self, slot: Slot) -> &[f32] {
        &self.slots[slot.index()]
    }
}

impl Program {
    /// Scores a batch: one probability per sample.
    ///
    /// # Errors
    ///
    /// [`ProgramError::Batch`] when the batch has other features.
    pub fn interpret(&self, batch: &Batch) -> Result<Vec<f32>, ProgramError> {
        Ok(self.interpret_all(batch)?.get(self.score()).to_vec())
    }

    /// Runs the program and returns every intermediate value too.
    ///
    /// # Errors
    ///
    /// As [`Program::interpret`].
    pub fn interpret_all(&self, batch: &Batch) -> Result<Values, ProgramError> {
        self.check(batch)?;
        let mut values = Values { slots: vec![Vec::new(); self.slots().len()] };
        values.slots[self.dense().index()] = batch.dense().to_vec();
        for op in self.ops() {
            let result = self.evaluate(op, batch, &values);
            values.slots[op.output().index()] = result;
        }
        Ok(values)
    }

    fn width(&self, slot: Slot) -> usize {
        self.slots()[slot.index()].width
    }

    fn evaluate(&self, op: &Op, batch: &Batch, values: &Values) -> Vec<f32> {
        let width = self.width(op.output());
        let rows = self.rows_in(op.output(), batch);
        let mut out = vec![0.0; rows * width];
        match op {
            Op::BagSum { feature, rows, index, .. } => {
                let bags = batch.bags(*feature);
                for (bag, sum) in out.chunks_exact_mut(width).enumerate() {
                    for at in bags.range(bag) {
                        let weight = bags.weights().map_or(1.0, |weights| weights[at]);
                        rows.add_to(index.row(bags.ids()[at]) as usize, weight, sum);
                    }
                }
            }
            Op::HashEncode { feature, family, transform, .. } => {
                for (&id, codes) in
                    batch.bags(*feature).ids().iter().zip(out.chunks_exact_mut(width))
                {
                    family.encode(id, *transform, codes);
                }
            }
            Op::Linear { input, weight, bias, activation, .. } => {
                let inputs = values.get(*input).chunks_exact(self.width(*input));
                for (input, out) in inputs.zip(out.chunks_exact_mut(width)) {
                    weight.apply(input, bias.as_slice(), out);
                    for out in out {
                        *out = activation.apply(*out);
                    }
                }
            }
            Op::Affine { input, scale, shift, .. } => {
                for (at, (out, x)) in out.iter_mut().zip(values.get(*input)).enumerate() {
                    *out = x * scale.as_slice()[at % width] + shift.as_slice()[at % width];
                }
            }
            Op::PickLargest { input, choices, .. } => {
                let inputs = values.get(*input).chunks_exact(self.width(*input));
                for (input, out) in inputs.zip(out.chunks_exact_mut(width)) {
                    out.copy_from_slice(choices.row(largest(input)));
                }
            }
            Op::BagReduce { feature, input, .. } => {
                let bags = batch.bags(*feature);
                let input = values.get(*input);
                for (bag, sum) in out.chunks_exact_mut(width).enumerate() {
                    for at in bags.range(bag) {
                        let weight = bags.weights().map_or(1.0, |weights| weights[at]);
                        for (sum, x) in sum.iter_mut().zip(&input[at * width..]) {
                            *sum += weight * x;
                        }
                    }
                }
            }
            Op::Combine { combination, left, right, .. } => {
                let (left_width, right_width) = (self.width(*left), self.width(*right));
                for (row, out) in out.chunks_exact_mut(width).enumerate() {
                    let left = &values.get(*left)[row * left_width..][..left_width];
                    let right = &values.get(*right)[row * right_width..][..right_width];
                    match combination {
                        Combination::Concat => {
                            out[..left_width].copy_from_slice(left);
                            out[left_width..].copy_from_slice(right);
                        }
                        Combination::Mult => {
                            for (at, out) in out.iter_mut().enumerate() {
                                *out = left[at] * right[at];
                            }
                        }
                        Combination::Add => {
                            for (at, out) in out.iter_mut().enumerate() {
                                *out = left[at] + right[at];
                            }
                        }
                    }
                }
            }
            Op::Interact { interaction, inputs, .. } => {
                for (sample, out) in out.chunks_exact_mut(width).enumerate() {
                    let vectors: Vec<&[f32]> = inputs
                        .iter()
                        .map(|input| {
                            let width = self.width(*input);
                            &values.get(*input)[sample * width..][..width]
                        })
                        .collect();
                    interact(*interaction, &vectors, out);
                }
            }
            Op::Mean { inputs, .. } => {
                for (at, out) in out.iter_mut().enumerate() {
                    let sum: f32 = inputs.iter().map(|input| values.get(*input)[at]).sum();
                    *out = sum / inputs.len() as f32;
                }
            }
            Op::Sigmoid { input, .. } => {
                for (out, &x) in out.iter_mut().zip(values.get(*input)) {
                    *out = sigmoid(x);
                }
            }
        }
        out
    }
}

fn interact(interaction: Interaction, vectors: &[&[f32]], out: &mut [f32]) {
    match interaction {
        Interaction::Cat => {
            let mut at = 0;
            for vector in vectors {
                out[at..at + vector.len()].copy_from_slice(vector);
                at += vector.len();
            }
        }
        Interaction::Dot { itself } => {
            let dim = vectors[0].len();
            out[..dim].copy_from_slice(vectors[0]);
            let mut at = dim;
            for (row, left) in vectors.iter().enumerate() {
                for right in &vectors[..if itself { row + 1 } else { row }] {
                    out[at] = left.iter().zip(*right).map(|(x, y)| x * y).sum();
                    at += 1;
                }
            }
        }
    }
}
