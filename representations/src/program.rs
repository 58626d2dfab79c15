//! A variant as a backend sees it: a short straight-line list of operations over slots.
//!
//! [`ProgramBuilder`] is the only way to a [`Program`] and checks every operation as it is added:
//! shapes fit, tables hold a row for every id, slots are written once and before they are read. A
//! backend may rely on all of it.

use std::sync::Arc;

use crate::{
    batch::{Batch, GroupedBatch},
    dhe::HashFamily,
    error::ProgramError,
    layer::LayerWeights,
    op::{Activation, Combination, Interaction, Op, RowIndex, RowsOf, Slot, SlotShape, Transform},
    quant::MAX_INPUTS,
    rows::Rows,
    schema::Schema,
    tensor::Tensor,
};

/// Widest slot that a program may have.
pub const MAX_WIDTH: usize = 1 << 20;

/// Operations from a batch to one score per sample. Cloning shares the parameters.
#[derive(Debug, Clone)]
pub struct Program {
    dense_width: usize,
    bounds: Arc<[u64]>,
    slots: Vec<SlotShape>,
    ops: Vec<Op>,
    logit: Slot,
    score: Slot,
}

impl Program {
    /// Dense values per sample that it reads.
    pub fn dense_width(&self) -> usize {
        self.dense_width
    }

    /// Exclusive upper bound of the ids of every sparse feature.
    pub fn bounds(&self) -> &[u64] {
        &self.bounds
    }

    /// The operations, for a change of where parameters lie and nothing else.
    pub(crate) fn ops_mut(&mut self) -> &mut [Op] {
        &mut self.ops
    }

    /// Shapes of all slots. Slot 0 holds the batch's dense values.
    pub fn slots(&self) -> &[SlotShape] {
        &self.slots
    }

    /// The operations, in order.
    pub fn ops(&self) -> &[Op] {
        &self.ops
    }

    /// Where the batch's dense values are.
    pub fn dense(&self) -> Slot {
        Slot(0)
    }

    /// Where the logits are, `[samples, 1]`: what an ensemble averages.
    pub fn logit(&self) -> Slot {
        self.logit
    }

    /// Where the scores are, `[samples, 1]`.
    pub fn score(&self) -> Slot {
        self.score
    }

    /// Whether `batch` has the features that this program was lowered for.
    ///
    /// # Errors
    ///
    /// [`ProgramError::Batch`] if not.
    pub fn check(&self, batch: &Batch) -> Result<(), ProgramError> {
        batch.expect(self.dense_width, &self.bounds)
    }

    /// As [`Program::check`], of samples in groups.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn check_grouped(&self, batch: &GroupedBatch) -> Result<(), ProgramError> {
        batch.expect(self.dense_width, &self.bounds)
    }

    /// Number of rows of a slot for `batch`.
    pub fn rows_in(&self, slot: Slot, batch: &Batch) -> usize {
        match self.slots[slot.0].rows {
            RowsOf::Samples => batch.samples(),
            RowsOf::Ids { feature } => batch.bags(feature).ids().len(),
        }
    }

    /// Bytes of all parameters.
    pub fn bytes(&self) -> usize {
        self.ops
            .iter()
            .map(|op| match op {
                Op::BagSum { rows, .. } => rows.bytes(),
                Op::HashEncode { family, .. } => family.bytes(),
                Op::Linear { weight, bias, .. } => weight.bytes() + bias.bytes(),
                Op::Affine { scale, shift, .. } => scale.bytes() + shift.bytes(),
                Op::PickLargest { choices, .. } => choices.bytes(),
                _ => 0,
            })
            .sum()
    }

    /// Floating-point operations per sample with one id per bag, a multiplication and an addition
    /// counting two. Hashing counts four per hash, its transform four (uniform) or ten (Gaussian).
    pub fn flops_per_sample(&self) -> usize {
        self.ops
            .iter()
            .map(|op| match op {
                Op::BagSum { rows, .. } => rows.dim(),
                Op::HashEncode { family, transform, .. } => family.cost(*transform).flops_per_id,
                Op::Linear { weight, .. } => 2 * weight.outputs() * weight.inputs(),
                Op::Affine { scale, .. } => 2 * scale.rows(),
                Op::PickLargest { choices, .. } => choices.rows(),
                Op::Interact { interaction: Interaction::Dot { .. }, inputs, output } => {
                    let dim = self.slots[inputs[0].0].width;
                    2 * dim * (self.slots[output.0].width - dim)
                }
                Op::Mean { inputs, .. } => inputs.len(),
                _ => 0,
            })
            .sum()
    }
}

/// Builds a [`Program`], operation by operation.
#[derive(Debug)]
pub struct ProgramBuilder {
    dense_width: usize,
    bounds: Arc<[u64]>,
    slots: Vec<SlotShape>,
    ops: Vec<Op>,
}

impl ProgramBuilder {
    /// A program over batches of `schema`, without operations yet.
    pub fn new(schema: &Schema) -> Self {
        let dense_width = schema.dense().len();
        Self {
            dense_width,
            bounds: schema.sparse().iter().map(|feature| feature.cardinality).collect(),
            slots: vec![SlotShape { rows: RowsOf::Samples, width: dense_width }],
            ops: Vec::new(),
        }
    }

    /// The batch's dense values.
    pub fn dense(&self) -> Slot {
        Slot(0)
    }

    /// Values per row of a slot.
    pub fn width(&self, slot: Slot) -> usize {
        self.slots[slot.0].width
    }

    /// Adds [`Op::BagSum`].
    ///
    /// # Errors
    ///
    /// When there is no such feature, or an id within its cardinality would pick no row.
    pub fn bag_sum(
        &mut self,
        feature: usize,
        rows: Rows,
        index: RowIndex,
    ) -> Result<Slot, ProgramError> {
        let bound = self.bound(feature)?;
        if let RowIndex::Remainder { divisor: 0 } | RowIndex::Quotient { divisor: 0 } = index {
            return Err(ProgramError::Divisor { feature });
        }
        let needed = index.rows_for(bound);
        if (rows.len() as u64) < needed {
            return Err(ProgramError::Rows { feature, rows: rows.len(), needed });
        }
        let output = self.slot(RowsOf::Samples, rows.dim())?;
        self.ops.push(Op::BagSum { feature, rows, index, output });
        Ok(output)
    }

    /// Adds [`Op::HashEncode`].
    ///
    /// # Errors
    ///
    /// When there is no such feature, or a Gaussian transform is asked of an odd number of hashes.
    pub fn hash_encode(
        &mut self,
        feature: usize,
        family: HashFamily,
        transform: Transform,
    ) -> Result<Slot, ProgramError> {
        self.bound(feature)?;
        family.check(feature, transform)?;
        let output = self.slot(RowsOf::Ids { feature }, family.len())?;
        self.ops.push(Op::HashEncode { feature, family, transform, output });
        Ok(output)
    }

    /// Adds [`Op::Linear`]; `weight` is `[out, in]`, `bias` is `[out]`.
    ///
    /// # Errors
    ///
    /// When the shapes do not fit.
    pub fn linear(
        &mut self,
        input: Slot,
        weight: impl Into<LayerWeights>,
        bias: Tensor<f32>,
        activation: Activation,
    ) -> Result<Slot, ProgramError> {
        let weight = weight.into();
        let SlotShape { rows, width } = self.slots[input.0];
        if weight.shape().len() != 2 || weight.inputs() != width || weight.outputs() == 0 {
            return Err(mismatch("linear", format!("[out, {width}]"), weight.shape()));
        }
        if matches!(weight, LayerWeights::Int8(_)) && width > MAX_INPUTS {
            let expected = format!("at most {MAX_INPUTS} inputs in 8 bits");
            return Err(mismatch("linear", expected, weight.shape()));
        }
        let outputs = weight.outputs();
        if bias.shape() != [outputs] {
            return Err(mismatch("linear", format!("bias [{outputs}]"), bias.shape()));
        }
        let output = self.slot(rows, outputs)?;
        self.ops.push(Op::Linear { input, weight, bias, activation, output });
        Ok(output)
    }

    /// Adds [`Op::Affine`].
    ///
    /// # Errors
    ///
    /// When the shapes do not fit.
    pub fn affine(
        &mut self,
        input: Slot,
        scale: Tensor<f32>,
        shift: Tensor<f32>,
    ) -> Result<Slot, ProgramError> {
        let SlotShape { rows, width } = self.slots[input.0];
        for tensor in [&scale, &shift] {
            if tensor.shape() != [width] {
                return Err(mismatch("affine", format!("[{width}]"), tensor.shape()));
            }
        }
        let output = self.slot(rows, width)?;
        self.ops.push(Op::Affine { input, scale, shift, output });
        Ok(output)
    }

    /// Adds [`Op::PickLargest`]; `choices` is `[width of input, dim]`.
    ///
    /// # Errors
    ///
    /// When the shapes do not fit.
    pub fn pick_largest(
        &mut self,
        input: Slot,
        choices: Tensor<f32>,
    ) -> Result<Slot, ProgramError> {
        let SlotShape { rows, width } = self.slots[input.0];
        if choices.shape().len() != 2 || choices.rows() != width {
            return Err(mismatch("pick_largest", format!("[{width}, dim]"), choices.shape()));
        }
        let output = self.slot(rows, choices.shape()[1])?;
        self.ops.push(Op::PickLargest { input, choices, output });
        Ok(output)
    }

    /// Adds [`Op::BagReduce`].
    ///
    /// # Errors
    ///
    /// When `input` does not hold one row per id of a feature.
    pub fn bag_reduce(&mut self, input: Slot) -> Result<Slot, ProgramError> {
        let SlotShape { rows, width } = self.slots[input.0];
        let RowsOf::Ids { feature } = rows else {
            return Err(ProgramError::NotPerId { op: "bag_reduce" });
        };
        let output = self.slot(RowsOf::Samples, width)?;
        self.ops.push(Op::BagReduce { feature, input, output });
        Ok(output)
    }

    /// Adds [`Op::Combine`].
    ///
    /// # Errors
    ///
    /// When the slots differ in rows, or in width where they must not.
    pub fn combine(
        &mut self,
        combination: Combination,
        left: Slot,
        right: Slot,
    ) -> Result<Slot, ProgramError> {
        let (a, b) = (self.slots[left.0], self.slots[right.0]);
        let concat = combination == Combination::Concat;
        if a.rows != b.rows || (!concat && a.width != b.width) {
            return Err(mismatch("combine", format!("width {}", a.width), &[b.width]));
        }
        let output = self.slot(a.rows, if concat { a.width + b.width } else { a.width })?;
        self.ops.push(Op::Combine { combination, left, right, output });
        Ok(output)
    }

    /// Adds [`Op::Interact`].
    ///
    /// # Errors
    ///
    /// When there is no input, one has not one row per sample, or `dot` meets different widths.
    pub fn interact(
        &mut self,
        interaction: Interaction,
        inputs: Vec<Slot>,
    ) -> Result<Slot, ProgramError> {
        let widths: Vec<usize> = inputs.iter().map(|input| self.width(*input)).collect();
        let Some(&first) = widths.first() else {
            return Err(mismatch("interact", "at least one input".into(), &[]));
        };
        for (input, &width) in inputs.iter().zip(&widths) {
            if self.slots[input.0].rows != RowsOf::Samples {
                return Err(ProgramError::NotPerSample { op: "interact" });
            }
            if matches!(interaction, Interaction::Dot { .. }) && width != first {
                return Err(mismatch("interact", format!("vectors of width {first}"), &[width]));
            }
        }
        let output = self.slot(RowsOf::Samples, interaction.width(&widths))?;
        self.ops.push(Op::Interact { interaction, inputs, output });
        Ok(output)
    }

    /// Adds a layer of a cross net of low rank, `first · (wide (narrow · input) + bias) + input`, of operations that there
    /// are: every backend runs it in every precision without knowing it. `first` is the input of the net's first layer;
    /// `narrow` is `[rank, width]`, `wide` is `[width, rank]`, `bias` is `[width]`.
    ///
    /// # Errors
    ///
    /// When the shapes do not fit.
    pub fn cross(
        &mut self,
        first: Slot,
        input: Slot,
        narrow: impl Into<LayerWeights>,
        wide: impl Into<LayerWeights>,
        bias: Tensor<f32>,
    ) -> Result<Slot, ProgramError> {
        let narrow = narrow.into();
        let width = self.width(input);
        // Before its outputs are counted and zeros made for them.
        if !matches!(narrow.shape(), &[1..=MAX_WIDTH, inputs] if inputs == width) {
            return Err(mismatch("cross", format!("[rank, {width}]"), narrow.shape()));
        }
        let none = Tensor::new(&[narrow.outputs()], vec![0.0; narrow.outputs()]);
        let narrowed = self.linear(input, narrow, none, Activation::None)?;
        let widened = self.linear(narrowed, wide, bias, Activation::None)?;
        let crossed = self.combine(Combination::Mult, first, widened)?;
        self.combine(Combination::Add, crossed, input)
    }

    /// Adds [`Op::Mean`].
    ///
    /// # Errors
    ///
    /// When there is no input or the inputs differ in shape.
    pub fn mean(&mut self, inputs: Vec<Slot>) -> Result<Slot, ProgramError> {
        let Some(first) = inputs.first().map(|slot| self.slots[slot.0]) else {
            return Err(mismatch("mean", "at least one input".into(), &[]));
        };
        if let Some(other) = inputs.iter().find(|slot| self.slots[slot.0] != first) {
            return Err(mismatch("mean", format!("width {}", first.width), &[self.width(*other)]));
        }
        let output = self.slot(first.rows, first.width)?;
        self.ops.push(Op::Mean { inputs, output });
        Ok(output)
    }

    /// Ends the program: `logit`, `[samples, 1]`, goes through a sigmoid and becomes the score.
    ///
    /// # Errors
    ///
    /// When `logit` is not one value per sample.
    pub fn finish(mut self, logit: Slot) -> Result<Program, ProgramError> {
        let shape = self.slots[logit.0];
        if shape.rows != RowsOf::Samples {
            return Err(ProgramError::NotPerSample { op: "sigmoid" });
        }
        if shape.width != 1 {
            return Err(mismatch("sigmoid", "[samples, 1]".into(), &[shape.width]));
        }
        let score = self.slot(RowsOf::Samples, 1)?;
        self.ops.push(Op::Sigmoid { input: logit, output: score });
        let Self { dense_width, bounds, slots, ops } = self;
        Ok(Program { dense_width, bounds, slots, ops, logit, score })
    }

    fn bound(&self, feature: usize) -> Result<u64, ProgramError> {
        self.bounds
            .get(feature)
            .copied()
            .ok_or(ProgramError::NoFeature { feature, features: self.bounds.len() })
    }

    fn slot(&mut self, rows: RowsOf, width: usize) -> Result<Slot, ProgramError> {
        if width == 0 || width > MAX_WIDTH {
            return Err(ProgramError::Width { width });
        }
        self.slots.push(SlotShape { rows, width });
        Ok(Slot(self.slots.len() - 1))
    }
}

fn mismatch(op: &'static str, expected: String, got: &[usize]) -> ProgramError {
    ProgramError::Shape { op, expected, got: got.to_vec() }
}
