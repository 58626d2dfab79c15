//! Layers: sums of products and activations.

use half::bf16;
use mprec_representations::{Activation, Int8Weights, LayerWeights, Tensor, quant::MAX_INPUTS};

use super::{Attribute, BackendError, Codes, ElementType, Lowering, Name, Parameter, unsupported};

impl Lowering<'_> {
    /// `input · weightᵀ + bias`
    pub(super) fn linear(
        &mut self,
        input: &str,
        weight: &LayerWeights,
        bias: &Tensor<f32>,
    ) -> Result<Name, BackendError> {
        let bias = self.model.parameter("bias", Parameter::F32(bias.clone()));
        match weight {
            LayerWeights::F32(weight) => {
                let weight = self.model.parameter("weight", Parameter::F32(weight.clone()));
                let turned = [("transB", Attribute::Integer(1))];
                Ok(self.model.node("Gemm", &[input, &weight, &bias], &turned))
            }
            LayerWeights::BF16(weight) => {
                // ONNX Runtime has no products of these halves on a CPU: the weights are widened, the inputs rounded.
                let rounded = self.cast(input, ElementType::BF16);
                let rounded = self.cast(&rounded, ElementType::F32);
                let weight = Parameter::F32(weight.map(bf16::to_f32));
                let weight = self.model.parameter("weight", weight);
                let turned = [("transB", Attribute::Integer(1))];
                Ok(self.model.node("Gemm", &[&rounded, &weight, &bias], &turned))
            }
            LayerWeights::Int8(weight) => {
                let products = self.int8(input, weight);
                Ok(self.model.node("Add", &[&products, &bias], &[]))
            }
            _ => Err(unsupported("layers of this format")),
        }
    }

    pub(super) fn activate(&mut self, sums: Name, activation: Activation) -> Name {
        match activation {
            Activation::None => sums,
            Activation::Relu => self.model.node("Relu", &[&sums], &[]),
            Activation::Sigmoid => self.model.node("Sigmoid", &[&sums], &[]),
            Activation::Mish => {
                let soft = self.model.node("Softplus", &[&sums], &[]);
                let share = self.model.node("Tanh", &[&soft], &[]);
                self.model.node("Mul", &[&sums, &share], &[])
            }
        }
    }

    /// The products of a layer of 8-bit codes, by the definition in `mprec_representations::quant`: inputs are quantised
    /// row by row, sums are integers and exact, and floats are rounded in the same order.
    ///
    /// `DynamicQuantizeLinear` would be one node instead of these, but has one step for a whole batch: a sample's score
    /// would depend on its neighbours.
    fn int8(&mut self, input: &str, weight: &Int8Weights) -> Name {
        let [zero, most, smallest] =
            [0.0, 255.0, f32::MIN_POSITIVE].map(|value| self.model.float(value));
        let axis = self.model.integers(&[1]);
        let low = self.model.node("ReduceMin", &[input, &axis], &[]);
        let high = self.model.node("ReduceMax", &[input, &axis], &[]);
        let low = self.model.node("Min", &[&low, &zero], &[]);
        let high = self.model.node("Max", &[&high, &zero], &[]);
        let range = self.model.node("Sub", &[&high, &low], &[]);
        let step = self.model.node("Div", &[&range, &most], &[]);
        let tiny = self.model.node("Less", &[&step, &smallest], &[]);
        let inverse = self.model.node("Reciprocal", &[&step], &[]);
        let inverse = self.model.node("Where", &[&tiny, &zero, &inverse], &[]);
        let step = self.model.node("Where", &[&tiny, &zero, &step], &[]);
        // A value that is not finite makes the row NaN, as x − x does of infinities and NaN. Scaled, as many finite values as
        // a layer may have sum to a finite one.
        let shrink = self.model.float(1.0 / (2 * MAX_INPUTS) as f32);
        let size = self.model.node("Mul", &[input, &shrink], &[]);
        let size = self.model.node("ReduceL1", &[&size, &axis], &[]);
        let poison = self.model.node("Sub", &[&size, &size], &[]);
        let step = self.model.node("Add", &[&step, &poison], &[]);

        let below = self.model.node("Neg", &[&low], &[]);
        let origin = self.rounded(&below, &inverse);
        let origin = self.clipped(&origin);
        let codes = self.rounded(input, &inverse);
        let codes = self.model.node("Add", &[&codes, &origin], &[]);
        let codes = self.clipped(&codes);
        let codes = self.cast(&codes, ElementType::U8);

        // Nodes take weights as [in, out].
        let (outputs, inputs) = (weight.codes().rows(), weight.codes().width());
        let from = weight.codes().as_slice();
        let mut turned = Vec::with_capacity(from.len());
        for input in 0..inputs {
            turned.extend((0..outputs).map(|output| from[output * inputs + input]));
        }
        let totals = (0..outputs)
            .map(|output| weight.codes().row(output).iter().map(|&code| i32::from(code)).sum())
            .collect();
        let shape = [inputs, outputs];
        let unsigned = |code: i8| (i16::from(code) + 128) as u8;
        let (turned, zero) = match self.codes {
            #[cfg(feature = "onnx")]
            Codes::Signed => (Parameter::I8(Tensor::new(&shape, turned)), None),
            Codes::Unsigned => {
                let turned = turned.into_iter().map(unsigned).collect();
                let zero = || Parameter::U8(Tensor::new(&[], vec![128]));
                (Parameter::U8(Tensor::new(&shape, turned)), Some(self.constant("code.zero", zero)))
            }
        };
        let turned = self.model.parameter("codes", turned);
        let totals = self.model.parameter("totals", Parameter::I32(totals));
        let scale = self.model.parameter("scale", Parameter::F32(weight.scale().clone()));
        // The third input, which is left out, is the zero of the inputs' codes.
        let sums = match &zero {
            Some(zero) => self.model.node("MatMulInteger", &[&codes, &turned, "", zero], &[]),
            None => self.model.node("MatMulInteger", &[&codes, &turned], &[]),
        };
        // Σ (x − zero)·w = Σ x·w − zero·Σ w: both sums fit 32 bits for as many inputs as a layer may have.
        let origin = self.cast(&origin, ElementType::I32);
        let shift = self.model.node("Mul", &[&origin, &totals], &[]);
        let sums = self.model.node("Sub", &[&sums, &shift], &[]);
        let sums = self.cast(&sums, ElementType::F32);
        let factor = self.model.node("Mul", &[&step, &scale], &[]);
        self.model.node("Mul", &[&sums, &factor], &[])
    }

    fn rounded(&mut self, value: &str, inverse: &str) -> Name {
        let scaled = self.model.node("Mul", &[value, inverse], &[]);
        self.model.node("Round", &[&scaled], &[])
    }

    /// Within the codes, `0..=255`.
    fn clipped(&mut self, value: &str) -> Name {
        let [low, high] = [0.0, 255.0].map(|bound| {
            self.constant(&format!("code.{bound}"), || {
                Parameter::F32(Tensor::new(&[], vec![bound]))
            })
        });
        self.model.node("Clip", &[value, &low, &high], &[])
    }
}
