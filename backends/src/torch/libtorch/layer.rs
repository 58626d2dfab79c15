//! Layers: one product for all layers of one shape.
//!
//! Of layers of 16 bits, inputs are rounded to as many bits, and products and sums are those of 32-bit floats, as they are
//! defined. A GPU multiplies 16 bits into 32-bit sums by itself, so weights stay as they are there; on a CPU they are widened
//! once, since libtorch would round its sums to 16 bits. Weights of 8 bits are kept as floats that hold integers: products of so few inputs that no sum
//! exceeds 2^24 are exact in any order, and longer sums are put together from these in doubles. What is widened takes the
//! memory of 32-bit weights.

use half::bf16;
use mprec_representations::{Activation, Int8Weights, LayerWeights, Tensor as Parameter};
use tch::{Device, Kind, TchError, Tensor};

use super::constant::{Constant, Uploader, view};

/// Most inputs whose products with 8-bit codes, each below 255 · 128, sum to less than 2^24.
const EXACT: usize = 512;

/// Layers of one shape, format and activation.
#[derive(Debug)]
pub(super) struct Layers {
    format: Format,
    activation: Activation,
    /// `[layers, in, out]`, or `[in, out]` of a single one.
    weight: Constant,
    /// `[layers, 1, out]`, or `[out]` of a single one.
    bias: Constant,
    /// As the bias; of 8-bit layers.
    scale: Option<Constant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    F32,
    BF16,
    Int8,
}

impl Format {
    /// Nothing for a format that is not known here.
    pub(super) fn of(weight: &LayerWeights) -> Option<Self> {
        match weight {
            LayerWeights::F32(_) => Some(Self::F32),
            LayerWeights::BF16(_) => Some(Self::BF16),
            LayerWeights::Int8(_) => Some(Self::Int8),
            _ => None,
        }
    }
}

impl Layers {
    /// `layers` are weights and biases of one shape and format.
    ///
    /// # Safety
    ///
    /// The parameters must stay where they are, unchanged, as long as the layers live.
    pub(super) unsafe fn new(
        layers: &[(&LayerWeights, &Parameter<f32>)],
        activation: Activation,
        uploader: &mut Uploader,
    ) -> Result<Self, TchError> {
        let format = Format::of(layers[0].0).expect("formats were checked before");
        if let [(LayerWeights::F32(weight), bias)] = layers {
            // As it lies in the file, `[out, in]`: libtorch multiplies by its transpose without turning it.
            // SAFETY: as this function asks.
            let (weight, bias) = unsafe { (uploader.share(weight)?, uploader.share(bias)?) };
            let weight = weight.turned()?;
            return Ok(Self { format, activation, weight, bias, scale: None });
        }
        let stack = |tensors: Vec<Tensor>, uploader: &mut Uploader| match &tensors[..] {
            [one] => uploader.keep(one),
            all => uploader.keep(&Tensor::f_stack(all, 0)?),
        };
        // `[1, out]`, so that it meets every row of its layer.
        let rows = |parameters: Vec<&Parameter<f32>>, uploader: &mut Uploader| {
            let many = parameters.len() > 1;
            let rows: Result<Vec<Tensor>, TchError> = parameters
                .into_iter()
                .map(|parameter| {
                    // SAFETY: the view is copied before this function returns.
                    let row = unsafe { view(parameter) }?;
                    if many { row.f_unsqueeze(0) } else { Ok(row) }
                })
                .collect();
            stack(rows?, uploader)
        };
        let native = uploader.device != Device::Cpu;
        let weights: Result<Vec<Tensor>, TchError> = layers
            .iter()
            .map(|(weight, _)| {
                // SAFETY: the view is copied before this function returns.
                let weight = unsafe {
                    match weight {
                        LayerWeights::F32(weight) => view(weight)?,
                        LayerWeights::BF16(weight) if native => view(weight)?,
                        LayerWeights::BF16(weight) => widened(weight)?,
                        LayerWeights::Int8(weight) => codes(weight)?,
                        _ => unreachable!("formats were checked before"),
                    }
                };
                weight.f_transpose(0, 1)
            })
            .collect();
        let weight = stack(weights?, uploader)?;
        let bias = rows(layers.iter().map(|(_, bias)| *bias).collect(), uploader)?;
        let scales: Vec<&Parameter<f32>> = layers
            .iter()
            .filter_map(|(weight, _)| match weight {
                LayerWeights::Int8(weight) => Some(weight.scale()),
                _ => None,
            })
            .collect();
        let scale = if scales.is_empty() { None } else { Some(rows(scales, uploader)?) };
        if is_half(&weight) {
            // Not every device has these products: better known now than from a run.
            let size = weight.size();
            let (layers, inputs) = (&size[..size.len() - 2], size[size.len() - 2]);
            let row = [layers, &[1, inputs]].concat();
            drop(half_product(&Tensor::f_zeros(row, (Kind::BFloat16, uploader.device))?, &weight)?);
        }
        Ok(Self { format, activation, weight, bias, scale })
    }

    /// Outputs `[layers, rows, out]` of inputs `[layers, rows, in]`; of a single layer, or of the layer `one` alone, without
    /// the first dimension.
    pub(super) fn run(&self, input: &Tensor, one: Option<usize>) -> Result<Tensor, TchError> {
        let of = |constant: &Constant| match one {
            Some(at) if self.weight.dim() == 3 => constant.f_select(0, at as i64),
            _ => Ok(constant.shallow_clone()),
        };
        let (weight, bias) = (of(&self.weight)?, of(&self.bias)?);
        let sums = match self.format {
            Format::F32 => product(input, &weight, &bias)?,
            Format::BF16 => {
                let rounded = input.f_to_kind(Kind::BFloat16)?;
                if is_half(&weight) {
                    half_product(&rounded, &weight)?.f_add(&bias)?
                } else {
                    product(&rounded.f_to_kind(Kind::Float)?, &weight, &bias)?
                }
            }
            Format::Int8 => {
                let scale = self.scale.as_ref().expect("layers of 8 bits have scales");
                quantised(input, &weight, &of(scale)?)?.f_add(&bias)?
            }
        };
        activate(sums, self.activation)
    }

    /// Bytes of temporary values per row of all layers together.
    pub(super) fn scratch(&self) -> usize {
        let size = self.weight.size();
        let (layers, inputs) = (
            self.weight.numel() as i64 / (size[size.len() - 2] * size[size.len() - 1]),
            size[size.len() - 2],
        );
        match self.format {
            Format::F32 => 0,
            Format::BF16 => 6 * (layers * inputs) as usize,
            Format::Int8 => 8 * (layers * inputs) as usize,
        }
    }
}

impl Constant {
    /// The transpose of a matrix, without a copy.
    fn turned(self) -> Result<Self, TchError> {
        self.map(|matrix| matrix.f_transpose(0, 1))
    }
}

/// `input · weight + bias`
fn product(input: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor, TchError> {
    match weight.dim() {
        3 => bias.f_baddbmm(input, weight, 1.0, 1.0),
        _ => bias.f_addmm(input, weight),
    }
}

fn is_half(weight: &Tensor) -> bool {
    weight.kind() == Kind::BFloat16
}

/// `input · weight` of 16 bits, in sums of 32. GPUs alone have it.
fn half_product(input: &Tensor, weight: &Tensor) -> Result<Tensor, TchError> {
    match weight.dim() {
        3 => input.f_bmm_dtype(weight, Kind::Float),
        _ => input.f_mm_dtype(weight, Kind::Float),
    }
}

pub(super) fn activate(mut sums: Tensor, activation: Activation) -> Result<Tensor, TchError> {
    match activation {
        Activation::None => Ok(sums),
        Activation::Relu => sums.f_relu_(),
        Activation::Sigmoid => sums.f_sigmoid_(),
        Activation::Mish => sums.f_mish_(),
    }
}

/// # Safety
///
/// As [`view`].
unsafe fn widened(weight: &Parameter<bf16>) -> Result<Tensor, TchError> {
    // SAFETY: as this function asks.
    unsafe { view(weight) }?.f_to_kind(Kind::Float)
}

/// Codes as floats.
///
/// # Safety
///
/// As [`view`].
unsafe fn codes(weight: &Int8Weights) -> Result<Tensor, TchError> {
    let codes = weight.codes();
    let shape: Vec<i64> = codes.shape().iter().map(|&length| length as i64).collect();
    // SAFETY: there are as many bytes as the shape says, and they stay as long as the caller promises.
    let view = unsafe {
        Tensor::f_from_blob(codes.as_slice().as_ptr().cast(), &shape, &[], Kind::Int8, Device::Cpu)
    }?;
    view.f_to_kind(Kind::Float)
}

/// The products of layers of 8-bit codes, by the definition in `mprec_representations::quant`: inputs are quantised row by
/// row, sums are integers and exact, and floats are rounded in the same order.
fn quantised(input: &Tensor, codes: &Tensor, scale: &Tensor) -> Result<Tensor, TchError> {
    let low = input.f_amin([-1_i64].as_slice(), true)?.f_clamp_max(0.0)?;
    let high = input.f_amax([-1_i64].as_slice(), true)?.f_clamp_min(0.0)?;
    let range = high.f_sub(&low)?;
    let step = range.f_divide_scalar(255.0)?;
    let tiny = step.f_lt(f64::from(f32::MIN_POSITIVE))?;
    let inverse = step.f_reciprocal()?.f_masked_fill(&tiny, 0.0)?;
    let step = step.f_masked_fill(&tiny, 0.0)?;
    // What is not finite shows in the range, and makes every output NaN by the step.
    let broken = range.f_isfinite()?.f_logical_not()?;
    let step = step.f_masked_fill(&broken, f64::NAN)?;

    let zero = low.f_mul(&inverse)?.f_neg()?.f_round()?.f_clamp(0.0, 255.0)?;
    let shifted = input.f_mul(&inverse)?.f_round()?.f_add(&zero)?;
    let codes_of_input = shifted.f_clamp(0.0, 255.0)?.f_sub(&zero)?;
    let inputs = codes.size()[codes.dim() - 2];
    let (input_axis, code_axis) = (codes_of_input.dim() as i64 - 1, codes.dim() as i64 - 2);
    let sums = if inputs <= EXACT as i64 {
        codes_of_input.f_matmul(codes)?
    } else {
        let mut sums: Option<Tensor> = None;
        for start in (0..inputs).step_by(EXACT) {
            let length = (inputs - start).min(EXACT as i64);
            let part = codes_of_input
                .f_narrow(input_axis, start, length)?
                .f_matmul(&codes.f_narrow(code_axis, start, length)?)?
                .f_to_kind(Kind::Double)?;
            sums = Some(match sums {
                Some(sums) => sums.f_add(&part)?,
                None => part,
            });
        }
        // Rounded once, as the conversion of the integer is.
        sums.expect("a layer has inputs").f_to_kind(Kind::Float)?
    };
    sums.f_mul(&step.f_mul(scale)?)
}
