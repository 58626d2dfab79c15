//! An ONNX model: nodes, parameters, inputs and one output, and how they are written down.
//!
//! Field numbers are those of `onnx.proto3` (ONNX 1.13, IR version 8); they are stable by its rules.

use std::collections::BTreeMap;

use half::{bf16, f16};
use mprec_representations::Tensor;

use super::wire::Message;

/// Opset of the default domain. Everything used is in it, and every ONNX Runtime since 1.14 reads it.
pub const OPSET: i64 = 18;

const IR_VERSION: i64 = 8;

/// Smaller parameters lie within the model. ONNX Runtime wants to see the values of the smallest,
/// such as shapes, while it reads the graph.
const INLINE: usize = 1024;

/// Where parameters start in a file beside the model: pages, so that they can be mapped.
const PAGE: usize = 4096;

/// Name of a value.
pub(super) type Name = String;

/// A tensor that a model carries. Cloning shares the elements.
#[derive(Debug, Clone)]
pub(super) enum Parameter {
    F32(Tensor<f32>),
    F16(Tensor<f16>),
    BF16(Tensor<bf16>),
    I64(Tensor<i64>),
    I32(Vec<i32>),
    #[cfg_attr(
        not(feature = "onnx"),
        expect(dead_code, reason = "only sessions take weights as they are")
    )]
    I8(Tensor<i8>),
    U8(Tensor<u8>),
}

/// Types of elements, by their numbers in ONNX.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ElementType {
    F32 = 1,
    U8 = 2,
    I8 = 3,
    I32 = 6,
    I64 = 7,
    F16 = 10,
    BF16 = 16,
}

/// What a node is given beside its inputs.
#[derive(Debug, Clone, Copy)]
pub(super) enum Attribute<'a> {
    Integer(i64),
    Integers(&'a [i64]),
    Text(&'a str),
}

/// Length of a dimension of an input.
#[derive(Debug, Clone)]
pub(super) enum Length {
    Fixed(usize),
    /// Any, but the same wherever the name is.
    Any(String),
}

/// Where the large parameters of a model are.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place<'a> {
    /// Within the model.
    Inline,
    /// In a file of this name beside it.
    Beside(&'a str),
}

/// A model being built, and the built one.
#[derive(Debug, Default)]
pub(super) struct Model {
    nodes: Vec<Message>,
    parameters: BTreeMap<Name, Parameter>,
    inputs: Vec<Message>,
    outputs: Vec<Message>,
    values: usize,
}

impl Model {
    /// Declares an input. Inputs are given in this order.
    pub(super) fn input(&mut self, name: Name, element: ElementType, shape: &[Length]) -> Name {
        self.inputs.push(value(&name, element, shape));
        name
    }

    /// Declares that value `name` is what the model answers.
    pub(super) fn output(&mut self, name: &str, element: ElementType, shape: &[Length]) {
        self.outputs.push(value(name, element, shape));
    }

    /// Adds a parameter under a name of its own.
    pub(super) fn parameter(&mut self, what: &str, parameter: Parameter) -> Name {
        let name = format!("{what}.{}", self.values);
        self.values += 1;
        self.parameters.insert(name.clone(), parameter);
        name
    }

    /// Adds integers `[n]`.
    pub(super) fn integers(&mut self, values: &[i64]) -> Name {
        self.parameter("const", Parameter::I64(Tensor::new(&[values.len()], values.to_vec())))
    }

    /// Adds a float `[1]`.
    pub(super) fn float(&mut self, value: f32) -> Name {
        self.parameter("const", Parameter::F32(Tensor::new(&[1], vec![value])))
    }

    /// Adds a node with one output, and names it.
    pub(super) fn node(
        &mut self,
        op: &str,
        inputs: &[&str],
        attributes: &[(&str, Attribute<'_>)],
    ) -> Name {
        let name = format!("{op}.{}", self.values);
        self.values += 1;
        self.named(op, inputs, attributes, &name);
        name
    }

    /// Adds a node whose output is called `output`.
    pub(super) fn named(
        &mut self,
        op: &str,
        inputs: &[&str],
        attributes: &[(&str, Attribute<'_>)],
        output: &str,
    ) {
        let mut node = Message::default();
        for input in inputs {
            node = node.text(1, input);
        }
        node = node.text(2, output).text(3, output).text(4, op);
        for &(name, value) in attributes {
            let attribute = Message::default().text(1, name);
            let attribute = match value {
                Attribute::Integer(value) => attribute.integer(3, value).integer(20, 2),
                Attribute::Text(value) => attribute.text(4, value).integer(20, 3),
                Attribute::Integers(values) => {
                    attribute.integers(8, values.iter().copied()).integer(20, 7)
                }
            };
            node = node.message(5, &attribute);
        }
        self.nodes.push(node);
    }

    /// The parameters that do not lie within a model with [`Place::Beside`].
    pub(super) fn large(&self) -> impl Iterator<Item = (&str, &Parameter)> {
        self.parameters
            .iter()
            .filter(|(_, parameter)| parameter.bytes().len() > INLINE)
            .map(|(name, parameter)| (name.as_str(), parameter))
    }

    /// Bytes of all parameters.
    pub(super) fn parameter_bytes(&self) -> usize {
        self.parameters.values().map(|parameter| parameter.bytes().len()).sum()
    }

    /// Where each large parameter starts in the file beside the model, and the file's length.
    pub(super) fn layout(&self) -> (Vec<usize>, usize) {
        let mut end = 0_usize;
        let starts = self
            .large()
            .map(|(_, parameter)| {
                let start = end.next_multiple_of(PAGE);
                end = start + parameter.bytes().len();
                start
            })
            .collect();
        (starts, end)
    }

    /// The model's bytes.
    pub(super) fn encode(&self, place: Place<'_>) -> Vec<u8> {
        let mut graph = Message::default();
        for node in &self.nodes {
            graph = graph.message(1, node);
        }
        graph = graph.text(2, "mprec");
        let mut starts = self.layout().0.into_iter();
        for (name, parameter) in &self.parameters {
            let bytes = parameter.bytes();
            let tensor = Message::default()
                .integers(1, parameter.shape().iter().map(|&length| length as i64))
                .integer(2, parameter.element() as i64)
                .text(8, name);
            let tensor = match place {
                Place::Beside(file) if bytes.len() > INLINE => {
                    let start = starts.next().expect("a start for each large parameter");
                    let entry = |key, value: &str| Message::default().text(1, key).text(2, value);
                    tensor
                        .message(13, &entry("location", file))
                        .message(13, &entry("offset", &start.to_string()))
                        .message(13, &entry("length", &bytes.len().to_string()))
                        .integer(14, 1)
                }
                _ => tensor.bytes(9, bytes),
            };
            graph = graph.message(5, &tensor);
        }
        for input in &self.inputs {
            graph = graph.message(11, input);
        }
        for output in &self.outputs {
            graph = graph.message(12, output);
        }
        Message::default()
            .integer(1, IR_VERSION)
            .text(2, "mprec")
            .text(3, env!("CARGO_PKG_VERSION"))
            .message(7, &graph)
            .message(8, &Message::default().integer(2, OPSET))
            .into_bytes()
    }
}

fn value(name: &str, element: ElementType, shape: &[Length]) -> Message {
    let mut dimensions = Message::default();
    for length in shape {
        let dimension = match length {
            Length::Fixed(length) => Message::default().integer(1, *length as i64),
            Length::Any(name) => Message::default().text(2, name),
        };
        dimensions = dimensions.message(1, &dimension);
    }
    let tensor = Message::default().integer(1, element as i64).message(2, &dimensions);
    Message::default().text(1, name).message(2, &Message::default().message(1, &tensor))
}

impl Parameter {
    /// The elements, little-endian: ONNX files are, and so is every machine this runs on.
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::F32(tensor) => bytemuck::cast_slice(tensor.as_slice()),
            Self::F16(tensor) => bytemuck::cast_slice(tensor.as_slice()),
            Self::BF16(tensor) => bytemuck::cast_slice(tensor.as_slice()),
            Self::I64(tensor) => bytemuck::cast_slice(tensor.as_slice()),
            Self::I32(values) => bytemuck::cast_slice(values),
            Self::I8(tensor) => bytemuck::cast_slice(tensor.as_slice()),
            Self::U8(tensor) => tensor.as_slice(),
        }
    }

    pub(super) fn shape(&self) -> Vec<usize> {
        match self {
            Self::F32(tensor) => tensor.shape().to_vec(),
            Self::F16(tensor) => tensor.shape().to_vec(),
            Self::BF16(tensor) => tensor.shape().to_vec(),
            Self::I64(tensor) => tensor.shape().to_vec(),
            Self::I32(values) => vec![values.len()],
            Self::I8(tensor) => tensor.shape().to_vec(),
            Self::U8(tensor) => tensor.shape().to_vec(),
        }
    }

    pub(super) fn element(&self) -> ElementType {
        match self {
            Self::F32(_) => ElementType::F32,
            Self::F16(_) => ElementType::F16,
            Self::BF16(_) => ElementType::BF16,
            Self::I64(_) => ElementType::I64,
            Self::I32(_) => ElementType::I32,
            Self::I8(_) => ElementType::I8,
            Self::U8(_) => ElementType::U8,
        }
    }
}

#[cfg(target_endian = "big")]
compile_error!(
    "parameters are written in the machine's order of bytes, which must be little-endian"
);
