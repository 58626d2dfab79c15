//! Lookups and sums of bags.

use half::f16;
use mprec_representations::{FusedRows, RowIndex, Rows, Tensor, quant::TAIL};

use super::{
    Attribute, BackendError, ElementType, Form, Lowering, Name, Parameter, Value, flat, unsupported,
};

impl Lowering<'_> {
    pub(super) fn bag_sum(
        &mut self,
        feature: usize,
        rows: &Rows,
        index: RowIndex,
    ) -> Result<Value, BackendError> {
        let ids = self.feature(feature).ids;
        // Ids lie below 2^40, so a divisor that 64 signed bits cannot hold does what the largest that they can does.
        let divisor = |model: &mut super::Model, divisor: u64| {
            model.integers(&[i64::try_from(divisor).unwrap_or(i64::MAX)])
        };
        let at = match index {
            RowIndex::Id => ids,
            RowIndex::Remainder { divisor: by } => {
                let by = divisor(&mut self.model, by);
                self.model.node("Mod", &[&ids, &by], &[])
            }
            RowIndex::Quotient { divisor: by } => {
                let by = divisor(&mut self.model, by);
                self.model.node("Div", &[&ids, &by], &[])
            }
        };
        let picked = match rows {
            Rows::F32(table) => {
                let table = self.model.parameter("rows", Parameter::F32(table.clone()));
                self.model.node("Gather", &[&table, &at], &[])
            }
            Rows::F16(table) => {
                let table = self.model.parameter("rows", Parameter::F16(table.clone()));
                let picked = self.model.node("Gather", &[&table, &at], &[]);
                self.cast(&picked, ElementType::F32)
            }
            Rows::BF16(table) => {
                let table = self.model.parameter("rows", Parameter::BF16(table.clone()));
                let picked = self.model.node("Gather", &[&table, &at], &[]);
                self.cast(&picked, ElementType::F32)
            }
            Rows::Fused(rows) => self.fused(rows, &at),
            _ => return Err(unsupported("rows of this format")),
        };
        Ok(match self.form {
            Form::OneHot => Value { flat: None, stacked: Some(picked) },
            Form::Bags => flat(self.sum_bags(feature, &picked, rows.dim())),
        })
    }

    /// Rows of codes as floats, `[…, dim]`: gathered as bytes, decoded after, so that the table stays as small as it is.
    fn fused(&mut self, rows: &FusedRows, at: &str) -> Name {
        let table = self.model.parameter("rows", Parameter::U8(rows.bytes().clone()));
        let bytes = self.model.node("Gather", &[&table, at], &[]);
        let width = (rows.bytes().width() - TAIL) as i64;
        let codes = self.columns(&bytes, 0, width);
        let codes = match rows.bits() {
            8 => self.cast(&codes, ElementType::F32),
            _ => {
                // Two codes a byte, low bits first: a table of 256 pairs.
                let pairs = self.constant("nibbles", || {
                    let pairs = (0..=u8::MAX).flat_map(|byte| [byte & 15, byte >> 4]);
                    Parameter::F32(Tensor::new(&[256, 2], pairs.map(f32::from).collect()))
                });
                let codes = self.cast(&codes, ElementType::I32);
                let codes = self.model.node("Gather", &[&pairs, &codes], &[]);
                let kept = if self.form == Form::OneHot { 2 } else { 1 };
                let shape = [&[0, 0][..kept], &[2 * width]].concat();
                let codes = self.reshape(&codes, &shape);
                if rows.dim() as i64 == 2 * width {
                    codes
                } else {
                    self.columns(&codes, 0, rows.dim() as i64)
                }
            }
        };
        // Scale and bias are 16-bit floats, low byte first. ONNX cannot reinterpret bits, but there are only 65,536 of them.
        let values = self.constant("halves", || {
            super::floats((0..=u16::MAX).map(|bits| f16::from_bits(bits).to_f32()).collect())
        });
        let places = self.constant("places", || {
            Parameter::F32(Tensor::new(&[4, 2], vec![1.0, 0.0, 256.0, 0.0, 0.0, 1.0, 0.0, 256.0]))
        });
        let tail = self.columns(&bytes, width, width + TAIL as i64);
        let tail = self.cast(&tail, ElementType::F32);
        let bits = self.model.node("MatMul", &[&tail, &places], &[]);
        let bits = self.cast(&bits, ElementType::I32);
        let tail = self.model.node("Gather", &[&values, &bits], &[]);
        let (scale, bias) = (self.columns(&tail, 0, 1), self.columns(&tail, 1, 2));
        let scaled = self.model.node("Mul", &[&codes, &scale], &[]);
        self.model.node("Add", &[&scaled, &bias], &[])
    }

    /// Columns `from..to` of the last dimension.
    pub(super) fn columns(&mut self, value: &str, from: i64, to: i64) -> Name {
        let [from, to, axis] = [from, to, -1].map(|at| self.model.integers(&[at]));
        self.model.node("Slice", &[value, &from, &to, &axis], &[])
    }

    /// The sum of each bag's rows `[ids, width]`, each times its weight: `[samples, width]`.
    pub(super) fn sum_bags(&mut self, feature: usize, rows: &str, width: usize) -> Name {
        let bags = self.feature(feature).bags.expect("the bags form has bags");
        let weighted = self.model.node("Mul", &[rows, &bags.weights], &[]);
        let zeros = self.zeros(width);
        let add = [("reduction", Attribute::Text("add"))];
        match self.sums {
            super::Sums::Rows => {
                self.model.node("ScatterND", &[&zeros, &bags.samples, &weighted], &add)
            }
            #[cfg(feature = "onnx")]
            super::Sums::Elements => {
                let shape = self.model.node("Shape", &[&weighted], &[]);
                let indices = self.model.node("Expand", &[&bags.samples, &shape], &[]);
                self.model.node("ScatterElements", &[&zeros, &indices, &weighted], &add)
            }
        }
    }

    /// `[samples, width]` of zeros.
    fn zeros(&mut self, width: usize) -> Name {
        let key = format!("zeros.{width}");
        if let Some(name) = self.constants.get(&key) {
            return name.clone();
        }
        let dense = super::DENSE;
        let samples = self.model.node(
            "Shape",
            &[dense],
            &[("start", Attribute::Integer(0)), ("end", Attribute::Integer(1))],
        );
        let width = self.model.integers(&[width as i64]);
        let shape = self.concat(&[&samples, &width], 0);
        let name = self.model.node("ConstantOfShape", &[&shape], &[]);
        self.constants.insert(key, name.clone());
        name
    }
}
