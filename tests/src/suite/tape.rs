//! Programs and batches drawn from a tape of choices, so that a failing case shrinks to few.
use mprec_backends::{Backend, BackendError, CpuBackend};
use mprec_representations::{
    Activation, Batch, BatchShape, Combination, CrossSpec, DheSpec, Dlrm, DlrmSpec, HashFamily,
    Interaction, Jagged, LayerFormat, Precision, Program, ProgramBuilder, RepresentationSpec,
    RowFormat, RowIndex, Rows, Schema, Slot, SlotShape, SparseFeature, Tensor, Transform, Weights,
    op::RowsOf, quantize, weights::DType,
};

/// Budgets of caches that hold a few and all of the vectors of a program; any, if it has none.
///
/// # Panics
///
/// If the native backend refuses the program.
pub fn cache_budgets(program: &Program) -> [usize; 2] {
    match CpuBackend::new().with_cache(1).prepare(program) {
        Err(BackendError::CacheTooSmall { least, .. }) => [least, 64 * least],
        prepared => prepared.map(|_| [1, 2]).unwrap(),
    }
}

/// Choices, then zeros without end.
pub struct Tape<'a> {
    choices: &'a [u32],
    at: usize,
    /// Advances with every value drawn, so that equal choices do not give equal weights.
    state: u64,
}

impl<'a> Tape<'a> {
    /// A tape that starts with these choices.
    pub fn new(choices: &'a [u32]) -> Self {
        Self { choices, at: 0, state: 88_172_645_463_325_252 }
    }

    /// Below `bound`; zero when the tape has ended.
    pub fn choose(&mut self, bound: usize) -> usize {
        let choice = self.choices.get(self.at).copied().unwrap_or(0);
        self.at += 1;
        choice as usize % bound
    }

    /// One of `from`; the first when the tape has ended.
    pub fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.choose(from.len())].clone()
    }

    /// 64 bits that do not depend on the choices (xorshift).
    pub fn random(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Uniform in `-scale..scale`.
    pub fn value(&mut self, scale: f32) -> f32 {
        ((self.random() >> 40) as f32 / (1_u32 << 23) as f32 - 1.0) * scale
    }

    /// Values such that a layer's outputs have about the size of its inputs.
    pub fn tensor(&mut self, shape: &[usize]) -> Tensor<f32> {
        let width = shape.last().copied().unwrap_or(1).max(1) as f32;
        let scale = if shape.len() == 1 { 0.3 } else { 1.5 / width.sqrt() };
        Tensor::new(shape, (0..shape.iter().product()).map(|_| self.value(scale)).collect())
    }

    /// Parameters of `hashes` hashes, `[hashes, 4]`.
    pub fn family(&mut self, hashes: usize) -> Tensor<i64> {
        let p = self.pick(&[1_000_003_i64, 97, 94_906_265, 1 << 31]);
        let shared = self.choose(4) > 0;
        let rows = (0..hashes).flat_map(|at| {
            let p = if shared { p } else { p - (at as i64 % 2) };
            let (a, b) = (self.random() as i64 & i64::MAX, self.random() as i64 & i64::MAX);
            [1 + a % (p - 1), b % p, p, 1_000_000]
        });
        Tensor::new(&[hashes, 4], rows.collect())
    }

    /// Up to 4 dense and 6 sparse features.
    pub fn schema(&mut self) -> Schema {
        let dense = (0..1 + self.choose(4)).map(|at| format!("d{at}")).collect();
        let sparse = (0..1 + self.choose(6))
            .map(|at| SparseFeature {
                name: format!("s{at}"),
                cardinality: 1 + self.choose(300) as u64,
            })
            .collect();
        Schema::new(dense, sparse, Default::default()).unwrap()
    }

    fn dhe(&mut self, dim: usize) -> DheSpec {
        DheSpec {
            hashes: 2 * (1 + self.choose(40)),
            transform: self.pick(&[Transform::Uniform, Transform::Gaussian]),
            hidden: (0..self.choose(3)).map(|_| 1 + self.choose(40)).collect(),
            dim,
            activation: self.pick(&ACTIVATIONS),
            normalised: self.choose(2) == 1,
        }
    }

    /// A representation whose vectors are `dim` wide.
    fn representation(&mut self, dim: usize) -> RepresentationSpec {
        match self.choose(6) {
            0 => RepresentationSpec::Table { dim },
            1 => RepresentationSpec::Hash { dim, rows: 1 + self.choose(400) as u64 },
            2 => RepresentationSpec::QuotientRemainder {
                dim,
                collisions: 1 + self.choose(20) as u64,
                combination: self.pick(&[Combination::Mult, Combination::Add]),
            },
            3 if dim.is_multiple_of(2) => RepresentationSpec::QuotientRemainder {
                dim: dim / 2,
                collisions: 1 + self.choose(20) as u64,
                combination: Combination::Concat,
            },
            4 => RepresentationSpec::Dhe(self.dhe(dim)),
            _ => RepresentationSpec::Hybrid { dim, dhe: self.dhe(dim) },
        }
    }

    /// A model with a choice of representation for every feature, in full precision.
    pub fn parameters(&mut self, schema: &Schema) -> (DlrmSpec, Weights) {
        let dim = self.pick(&[16, 1, 2, 8, 17, 32, 64]);
        let interaction = self.pick(&[
            Interaction::Dot { itself: false },
            Interaction::Dot { itself: true },
            Interaction::Cat,
        ]);
        let features = schema.sparse().iter().map(|_| self.representation(dim)).collect();
        let hidden = |tape: &mut Self| (0..tape.choose(3)).map(|_| 1 + tape.choose(70)).collect();
        let (bottom, top): (Vec<usize>, Vec<usize>) = (hidden(self), hidden(self));
        let mut spec = DlrmSpec::new(schema, features, interaction, &bottom, &top);
        if interaction == Interaction::Cat {
            let layers = self.choose(4);
            spec.cross = (layers > 0).then(|| CrossSpec { layers, rank: 1 + self.choose(20) });
        }
        let mut weights = Weights::new();
        for tensor in spec.tensors(schema) {
            match tensor.dtype {
                DType::I64 => weights.insert(tensor.name, self.family(tensor.shape[0])),
                DType::F32 => weights.insert(tensor.name, self.tensor(&tensor.shape)),
                other => unreachable!("only quantised models hold {other}"),
            }
        }
        (spec, weights)
    }

    /// Such a model, its rows in any format.
    pub fn model(&mut self, schema: &Schema, layers: LayerFormat) -> Dlrm {
        let (spec, weights) = self.parameters(schema);
        let mut widths = spec.features.iter().flat_map(RepresentationSpec::row_widths);
        let even = widths.all(|width| width.is_multiple_of(2));
        let rows = match self.choose(6) {
            1 => RowFormat::Int8,
            2 if even => RowFormat::Int4,
            3 => RowFormat::F16,
            4 => RowFormat::BF16,
            _ => RowFormat::F32,
        };
        let (spec, weights) =
            quantize(schema, &spec, &weights, Precision { rows, layers }).unwrap();
        Dlrm::load(schema, &spec, &weights).unwrap()
    }

    /// One model, or the mean of the logits of two.
    pub fn variant(&mut self, schema: &Schema, layers: LayerFormat) -> Program {
        let mut program = ProgramBuilder::new(schema);
        let mut logit = self.model(schema, layers).lower_into(&mut program).unwrap();
        if self.choose(3) == 1 {
            let other = self.model(schema, layers).lower_into(&mut program).unwrap();
            logit = program.mean(vec![logit, other]).unwrap();
        }
        program.finish(logit).unwrap()
    }

    /// Operations in no sensible order over slots picked at random: layouts no model would have.
    pub fn tangle(&mut self, schema: &Schema) -> Program {
        let mut program = ProgramBuilder::new(schema);
        let mut slots: Vec<(Slot, SlotShape)> = Vec::new();
        let dense = SlotShape { rows: RowsOf::Samples, width: program.width(program.dense()) };
        slots.push((program.dense(), dense));
        for _ in 0..3 + self.choose(20) {
            let (slot, shape) = self.pick(&slots);
            let features = schema.sparse().len();
            let mut rows = RowsOf::Samples;
            let added = match self.choose(9) {
                0 | 1 => {
                    let feature = self.choose(features);
                    let count = schema.sparse()[feature].cardinality as usize;
                    let dim = self.pick(&[2, 3, 16]);
                    let table = Rows::F32(self.tensor(&[count, dim]));
                    program.bag_sum(feature, table, RowIndex::Id)
                }
                2 => {
                    let hashes = self.pick(&[2, 16, 18]);
                    let family = HashFamily::new(self.family(hashes)).unwrap();
                    let feature = self.choose(features);
                    rows = RowsOf::Ids { feature };
                    program.hash_encode(feature, family, Transform::Uniform)
                }
                3 | 4 => {
                    rows = shape.rows;
                    let outputs = self.pick(&[2, 3, 16, 33]);
                    let weight = self.tensor(&[outputs, shape.width]);
                    let bias = self.tensor(&[outputs]);
                    program.linear(slot, weight, bias, self.pick(&ACTIVATIONS))
                }
                5 => program.bag_reduce(slot),
                6 => {
                    rows = shape.rows;
                    let same = |&&(_, other): &&(Slot, SlotShape)| other.rows == shape.rows;
                    let same: Vec<_> = slots.iter().filter(same).copied().collect();
                    let other = self.pick(&same).0;
                    let combination =
                        self.pick(&[Combination::Concat, Combination::Add, Combination::Mult]);
                    program.combine(combination, slot, other)
                }
                7 => {
                    let fits = |&&(_, other): &&(Slot, SlotShape)| other == shape;
                    let same: Vec<Slot> =
                        slots.iter().filter(fits).map(|&(slot, _)| slot).collect();
                    let inputs: Vec<Slot> =
                        (0..1 + self.choose(5)).map(|_| self.pick(&same)).collect();
                    let interaction = self.pick(&[
                        Interaction::Dot { itself: false },
                        Interaction::Cat,
                        Interaction::Dot { itself: true },
                    ]);
                    program.interact(interaction, inputs)
                }
                _ => {
                    rows = shape.rows;
                    let fits = |&&(_, other): &&(Slot, SlotShape)| other == shape;
                    let same: Vec<Slot> =
                        slots.iter().filter(fits).map(|&(slot, _)| slot).collect();
                    let inputs = (0..1 + self.choose(3)).map(|_| self.pick(&same)).collect();
                    program.mean(inputs)
                }
            };
            // What does not fit together is refused, and the tangle goes on without it.
            let Ok(slot) = added else { continue };
            let width = program.width(slot);
            if width <= 300 {
                slots.push((slot, SlotShape { rows, width }));
            }
        }
        let samples = |&&(_, shape): &&(Slot, SlotShape)| shape.rows == RowsOf::Samples;
        let all: Vec<Slot> = slots.iter().filter(samples).map(|&(slot, _)| slot).collect();
        let met = program.interact(Interaction::Cat, all).unwrap();
        let weight = self.tensor(&[1, program.width(met)]);
        let bias = self.tensor(&[1]);
        let logit = program.linear(met, weight, bias, Activation::None).unwrap();
        program.finish(logit).unwrap()
    }

    /// A batch with `samples` samples: one id a bag, or any number, weighted or not.
    pub fn batch(&mut self, schema: &Schema, samples: usize) -> Batch {
        let dense = (0..samples * schema.dense().len()).map(|_| self.value(1.0)).collect();
        let shape = BatchShape::new(schema);
        let form = self.choose(4);
        if form == 0 {
            let ids: Vec<i64> = (0..samples)
                .flat_map(|_| schema.sparse())
                .map(|feature| (self.random() % feature.cardinality) as i64)
                .collect();
            return shape.from_rows(dense, &ids).unwrap();
        }
        let mut jagged = Jagged { weights: (form > 1).then(Vec::new), ..Jagged::default() };
        let most = self.pick(&[1, 4, 60]);
        for feature in schema.sparse() {
            for _ in 0..samples {
                // Form 3 is one-hot but weighted.
                let length = if form == 3 { 1 } else { self.random() as usize % (most + 1) };
                jagged.lengths.push(length as u32);
                for _ in 0..length {
                    jagged.ids.push((self.random() % feature.cardinality) as i64);
                    let weight = self.value(1.0);
                    if let Some(weights) = &mut jagged.weights {
                        weights.push(weight);
                    }
                }
            }
        }
        shape.from_jagged(dense, &jagged).unwrap()
    }
}

const ACTIVATIONS: [Activation; 4] =
    [Activation::None, Activation::Relu, Activation::Sigmoid, Activation::Mish];
