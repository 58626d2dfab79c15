//! From a program to an ONNX graph, operation by operation.
//!
//! A graph comes in two forms. The **one-hot** form takes one unweighted id per sample and feature: a lookup is a
//! `Gather` and nothing else. The **bags** form takes any number of ids, each with the sample that it belongs to and
//! its weight: rows are added up by `ScatterND`, in the order of the ids, so that sums have the interpreter's bits.
//!
//! `Gather` by ids `[samples, 1]` gives `[samples, 1, dim]`, which is what an interaction concatenates. Values are
//! therefore kept flat (`[rows, width]`) or stacked (`[rows, 1, width]`), and converted only when somebody
//! needs the other.

mod hash;
mod layer;
mod rows;

use std::collections::BTreeMap;

use mprec_representations::{Combination, Interaction, Op, Program, Slot, SlotShape, Tensor};

use super::model::{Attribute, ElementType, Length, Model, Name, Parameter};
use crate::{
    error::BackendError,
    path::{BackendKind, OnnxProvider},
};

/// What a graph takes for each sparse feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `ids.NAME` `[samples, 1]` int64: one id per sample.
    OneHot,
    /// `ids.NAME` `[ids]` int64, `bags.NAME` `[ids]` int64, the sample of every id, ascending, and `weights.NAME`
    /// `[ids]` f32, 1 where nothing is weighted.
    Bags,
}

/// Name of the input of dense values, `[samples, dense_width]` f32.
pub const DENSE: &str = "dense";

/// Name of the output, `[samples, 1]` f32.
pub const SCORE: &str = "score";

/// A value in one layout or both.
#[derive(Debug, Clone, Default)]
struct Value {
    /// `[rows, width]`
    flat: Option<Name>,
    /// `[rows, 1, width]`
    stacked: Option<Name>,
}

/// The inputs of a sparse feature that the program reads.
#[derive(Debug, Clone)]
struct Feature {
    /// `[samples, 1]`, or `[ids]` in the bags form.
    ids: Name,
    /// `[ids, 1]`, in the bags form.
    bags: Option<Bags>,
}

#[derive(Debug, Clone)]
struct Bags {
    column: Name,
    samples: Name,
    weights: Name,
}

/// What adds up the rows of bags, of two operations that do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sums {
    /// `ScatterND`, row by row.
    Rows,
    #[cfg(feature = "onnx")]
    /// `ScatterElements`, for providers without the former: slower, it has an index per element.
    Elements,
}

/// How 8-bit weights are written. Products with either are exact by the standard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Codes {
    /// As they are, for a session that is told to keep products exact. One that is not adds pairs of them up in 16 bits on
    /// processors without VNNI, where they saturate.
    #[cfg(feature = "onnx")]
    Signed,
    /// As unsigned codes about 128, whose products no runtime was seen to cut short.
    Unsigned,
}

struct Lowering<'a> {
    program: &'a Program,
    form: Form,
    sums: Sums,
    codes: Codes,
    names: &'a [String],
    model: Model,
    values: Vec<Value>,
    features: Vec<Option<Feature>>,
    constants: BTreeMap<String, Name>,
}

/// The graph of `program`. `names` are those of its sparse features, in order.
///
/// # Errors
///
/// [`BackendError::Unsupported`] if the program holds what is not known here.
pub(super) fn lower(
    program: &Program,
    form: Form,
    names: &[String],
    sums: Sums,
    codes: Codes,
) -> Result<Model, BackendError> {
    assert_eq!(names.len(), program.bounds().len(), "a name per feature");
    let mut lowering = Lowering {
        program,
        form,
        sums,
        codes,
        names,
        model: Model::default(),
        values: vec![Value::default(); program.slots().len()],
        features: vec![None; names.len()],
        constants: BTreeMap::new(),
    };
    let shape = [samples(), Length::Fixed(program.dense_width())];
    let dense = lowering.model.input(DENSE.into(), ElementType::F32, &shape);
    lowering.values[program.dense().index()].flat = Some(dense);
    for op in program.ops() {
        let value = lowering.op(op)?;
        lowering.values[op.output().index()] = value;
    }
    let score = lowering.flat(program.score());
    lowering.model.named("Identity", &[&score], &[], SCORE);
    lowering.model.output(SCORE, ElementType::F32, &[samples(), Length::Fixed(1)]);
    Ok(lowering.model)
}

fn samples() -> Length {
    Length::Any("samples".into())
}

fn unsupported(what: &'static str) -> BackendError {
    BackendError::Unsupported { backend: BackendKind::Onnx(OnnxProvider::Cpu), what }
}

fn flat(name: Name) -> Value {
    Value { flat: Some(name), stacked: None }
}

impl Lowering<'_> {
    fn op(&mut self, op: &Op) -> Result<Value, BackendError> {
        Ok(match op {
            Op::BagSum { feature, rows, index, .. } => self.bag_sum(*feature, rows, *index)?,
            Op::HashEncode { feature, family, transform, .. } => {
                flat(self.hash_encode(*feature, family, *transform))
            }
            Op::Linear { input, weight, bias, activation, .. } => {
                let input = self.flat(*input);
                let sums = self.linear(&input, weight, bias)?;
                flat(self.activate(sums, *activation))
            }
            Op::Affine { input, scale, shift, .. } => {
                let input = self.flat(*input);
                let scale = self.model.parameter("scale", Parameter::F32(scale.clone()));
                let shift = self.model.parameter("shift", Parameter::F32(shift.clone()));
                let scaled = self.model.node("Mul", &[&input, &scale], &[]);
                flat(self.model.node("Add", &[&scaled, &shift], &[]))
            }
            Op::PickLargest { input, choices, .. } => {
                let input = self.flat(*input);
                flat(self.pick_largest(&input, choices))
            }
            Op::BagReduce { feature, input, .. } => match self.form {
                Form::OneHot => self.values[input.index()].clone(),
                Form::Bags => {
                    let width = self.shape(*input).width;
                    let rows = self.flat(*input);
                    flat(self.sum_bags(*feature, &rows, width))
                }
            },
            Op::Combine { combination, left, right, .. } => {
                let (inputs, stacked) = self.alike(&[*left, *right]);
                let inputs = [inputs[0].as_str(), inputs[1].as_str()];
                let name = match combination {
                    Combination::Mult => self.model.node("Mul", &inputs, &[]),
                    Combination::Add => self.model.node("Add", &inputs, &[]),
                    Combination::Concat => self.concat(&inputs, -1),
                };
                if stacked { Value { flat: None, stacked: Some(name) } } else { flat(name) }
            }
            Op::Interact { interaction: Interaction::Cat, inputs, .. } => {
                let (inputs, stacked) = self.alike(inputs);
                let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
                let name = self.concat(&inputs, -1);
                if stacked { Value { flat: None, stacked: Some(name) } } else { flat(name) }
            }
            Op::Interact { interaction: Interaction::Dot { itself }, inputs, .. } => {
                flat(self.dot(*itself, inputs))
            }
            Op::Mean { inputs, .. } => {
                let inputs: Vec<Name> = inputs.iter().map(|&input| self.flat(input)).collect();
                let count = self.model.float(inputs.len() as f32);
                let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
                let sum = self.model.node("Sum", &inputs, &[]);
                flat(self.model.node("Div", &[&sum, &count], &[]))
            }
            Op::Sigmoid { input, .. } => {
                let input = self.flat(*input);
                flat(self.model.node("Sigmoid", &[&input], &[]))
            }
            other => return Err(unsupported(other.name())),
        })
    }

    /// The first of the largest is taken, and a NaN is none: `ArgMax` leaves open what becomes of one.
    fn pick_largest(&mut self, input: &str, choices: &Tensor<f32>) -> Name {
        let nan = self.model.node("IsNaN", &[input], &[]);
        let low = self.model.float(f32::NEG_INFINITY);
        let input = self.model.node("Where", &[&nan, &low, input], &[]);
        let attributes = [("axis", Attribute::Integer(1)), ("keepdims", Attribute::Integer(0))];
        let largest = self.model.node("ArgMax", &[&input], &attributes);
        let choices = self.model.parameter("choices", Parameter::F32(choices.clone()));
        self.model.node("Gather", &[&choices, &largest], &[])
    }

    /// The first vector, and the products of pairs picked out of all products.
    fn dot(&mut self, itself: bool, inputs: &[Slot]) -> Name {
        let count = inputs.len();
        let first = self.flat(inputs[0]);
        let pairs: Vec<i64> = (0..count)
            .flat_map(|row| (0..if itself { row + 1 } else { row }).map(move |at| (row, at)))
            .map(|(row, at)| (row * count + at) as i64)
            .collect();
        if pairs.is_empty() {
            return first;
        }
        let vectors: Vec<Name> = inputs.iter().map(|&input| self.stacked(input)).collect();
        let vectors: Vec<&str> = vectors.iter().map(String::as_str).collect();
        let vectors = self.concat(&vectors, 1);
        let turned =
            self.model.node("Transpose", &[&vectors], &[("perm", Attribute::Integers(&[0, 2, 1]))]);
        let products = self.model.node("MatMul", &[&vectors, &turned], &[]);
        let products = self.reshape(&products, &[0, (count * count) as i64]);
        let pairs = self.model.integers(&pairs);
        let picked =
            self.model.node("Gather", &[&products, &pairs], &[("axis", Attribute::Integer(1))]);
        self.concat(&[&first, &picked], 1)
    }

    fn concat(&mut self, inputs: &[&str], axis: i64) -> Name {
        self.model.node("Concat", inputs, &[("axis", Attribute::Integer(axis))])
    }

    /// Reshapes; a 0 keeps the dimension, which may be 0 itself where a feature has no ids.
    fn reshape(&mut self, value: &str, shape: &[i64]) -> Name {
        let shape = self.model.integers(shape);
        self.model.node("Reshape", &[value, &shape], &[])
    }

    fn cast(&mut self, value: &str, to: ElementType) -> Name {
        self.model.node("Cast", &[value], &[("to", Attribute::Integer(to as i64))])
    }

    /// A constant that several operations share.
    fn constant(&mut self, key: &str, make: impl FnOnce() -> Parameter) -> Name {
        if let Some(name) = self.constants.get(key) {
            return name.clone();
        }
        let name = self.model.parameter(key, make());
        self.constants.insert(key.to_owned(), name.clone());
        name
    }

    fn shape(&self, slot: Slot) -> SlotShape {
        self.program.slots()[slot.index()]
    }

    /// A slot as `[rows, width]`.
    fn flat(&mut self, slot: Slot) -> Name {
        let value = self.values[slot.index()].clone();
        if let Some(name) = value.flat {
            return name;
        }
        let stacked = value.stacked.expect("slots are written before they are read");
        let width = self.shape(slot).width as i64;
        let name = self.reshape(&stacked, &[0, width]);
        self.values[slot.index()].flat = Some(name.clone());
        name
    }

    /// A slot as `[rows, 1, width]`.
    fn stacked(&mut self, slot: Slot) -> Name {
        let value = self.values[slot.index()].clone();
        if let Some(name) = value.stacked {
            return name;
        }
        let flat = value.flat.expect("slots are written before they are read");
        let axis = self.model.integers(&[1]);
        let name = self.model.node("Unsqueeze", &[&flat, &axis], &[]);
        self.values[slot.index()].stacked = Some(name.clone());
        name
    }

    /// All slots in one layout: stacked as soon as one is only that.
    fn alike(&mut self, slots: &[Slot]) -> (Vec<Name>, bool) {
        let stacked = slots.iter().any(|slot| self.values[slot.index()].flat.is_none());
        let names = slots
            .iter()
            .map(|&slot| if stacked { self.stacked(slot) } else { self.flat(slot) })
            .collect();
        (names, stacked)
    }

    /// The inputs of a sparse feature, declared when they are first asked for.
    fn feature(&mut self, feature: usize) -> Feature {
        if let Some(inputs) = &self.features[feature] {
            return inputs.clone();
        }
        let name = &self.names[feature];
        let ids = format!("ids.{name}");
        let inputs = match self.form {
            Form::OneHot => {
                let ids = self.model.input(ids, ElementType::I64, &[samples(), Length::Fixed(1)]);
                Feature { ids, bags: None }
            }
            Form::Bags => {
                let any = [Length::Any(format!("count.{name}"))];
                let (bags, weights) = (format!("bags.{name}"), format!("weights.{name}"));
                let ids = self.model.input(ids, ElementType::I64, &any);
                let bags = self.model.input(bags, ElementType::I64, &any);
                let weights = self.model.input(weights, ElementType::F32, &any);
                let axis = self.model.integers(&[1]);
                let [column, samples, weights] = [&ids, &bags, &weights]
                    .map(|input| self.model.node("Unsqueeze", &[input, &axis], &[]));
                Feature { ids, bags: Some(Bags { column, samples, weights }) }
            }
        };
        self.features[feature] = Some(inputs.clone());
        inputs
    }
}

/// A constant `[n]` of f32.
fn floats(values: Vec<f32>) -> Parameter {
    Parameter::F32(Tensor::new(&[values.len()], values))
}
