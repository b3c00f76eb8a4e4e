//! Tensors whose values a file holds: a `TensorProto` as checked shape and values.

use super::proto::{self, data_type};
use prost::Message;
use prost::bytes::Bytes;
use wgpu_rnn::{Error, Result};

/// A tensor's element type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// `DOUBLE`
    F64,
    /// `FLOAT`
    F32,
    /// `FLOAT16`
    F16,
    /// `BFLOAT16`
    Bf16,
    /// `INT64`
    I64,
    /// `INT32`
    I32,
}

impl Element {
    fn of(what: &str, data_type: i32) -> Result<Self> {
        match data_type {
            data_type::DOUBLE => Ok(Self::F64),
            data_type::FLOAT => Ok(Self::F32),
            data_type::FLOAT16 => Ok(Self::F16),
            data_type::BFLOAT16 => Ok(Self::Bf16),
            data_type::INT64 => Ok(Self::I64),
            data_type::INT32 => Ok(Self::I32),
            other => {
                let expected = "FLOAT, DOUBLE, FLOAT16, BFLOAT16, INT32 or INT64";
                Err(Error::mismatch(what, expected, format!("element type {other}")))
            }
        }
    }
}

/// Shape and values, as many as the shape says.
#[derive(Clone, Debug)]
pub struct Constant {
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
    /// What the file holds its values in.
    pub element: Element,
    values: Values,
}

#[derive(Clone, Debug)]
enum Values {
    Real(Vec<f64>),
    Integer(Vec<i64>),
}

impl Constant {
    /// From real values, as many as `shape` says.
    pub fn from_reals(what: &str, shape: Vec<usize>, element: Element, values: Vec<f64>) -> Result<Self> {
        check_count(what, &shape, values.len())?;
        Ok(Self { shape, element, values: Values::Real(values) })
    }

    /// From integers, as many as `shape` says.
    pub fn from_integers(what: &str, shape: Vec<usize>, values: Vec<i64>) -> Result<Self> {
        check_count(what, &shape, values.len())?;
        Ok(Self { shape, element: Element::I64, values: Values::Integer(values) })
    }

    /// From a `TensorProto`; `what` names it in errors.
    ///
    /// # Errors
    /// [`Error::Mismatch`] for bytes that are none, a negative size, another element type, or another count of values than the
    /// shape says; [`Error::Unsupported`] for values that lie in another file.
    pub fn decode(what: &str, bytes: Bytes) -> Result<Self> {
        let tensor = proto::Tensor::decode(bytes).map_err(|e| Error::mismatch(what, "a TensorProto", e))?;
        if tensor.data_location != 0 || !tensor.external_data.is_empty() {
            let reason = "its values are in another file; save the model as one file (onnx.save of a loaded model)";
            return Err(Error::Unsupported { what: format!("{what} as external data"), reason: reason.into() });
        }
        if tensor.segment.is_some() {
            return Err(Error::Unsupported {
                what: format!("{what} in segments"),
                reason: "ONNX itself has none".into(),
            });
        }
        let negative = |d: &i64| Error::mismatch(what, "sizes from 0", format!("{d}"));
        let shape = tensor.dims.iter().map(|d| usize::try_from(*d).map_err(|_| negative(d)));
        let shape = shape.collect::<Result<Vec<_>>>()?;
        let element = Element::of(what, tensor.data_type)?;
        let values = match &tensor.raw_data {
            Some(raw) => from_raw(what, element, raw)?,
            None => from_fields(what, element, &tensor)?,
        };
        let count = match &values {
            Values::Real(values) => values.len(),
            Values::Integer(values) => values.len(),
        };
        check_count(what, &shape, count)?;
        Ok(Self { shape, element, values })
    }

    /// The values of a floating-point tensor.
    pub fn reals(&self, what: &str) -> Result<&[f64]> {
        match &self.values {
            Values::Real(values) => Ok(values),
            Values::Integer(_) => Err(Error::mismatch(what, "floating-point values", format!("{:?}", self.element))),
        }
    }

    /// The values of an integer tensor.
    pub fn integers(&self, what: &str) -> Result<&[i64]> {
        match &self.values {
            Values::Integer(values) => Ok(values),
            Values::Real(_) => Err(Error::mismatch(what, "integers", format!("{:?}", self.element))),
        }
    }

    /// Whether every value is 0.
    pub fn is_zero(&self) -> bool {
        match &self.values {
            Values::Real(values) => values.iter().all(|v| *v == 0.0),
            Values::Integer(values) => values.iter().all(|v| *v == 0),
        }
    }

    /// Refuses another shape; `names` says what it stands for.
    pub fn expect(&self, what: &str, names: &str, shape: &[usize]) -> Result<()> {
        if self.shape != shape {
            return Err(Error::mismatch(what, format!("{names} = {shape:?}"), format!("{:?}", self.shape)));
        }
        Ok(())
    }

    /// The sizes of a tensor with `N` dimensions.
    pub fn sizes<const N: usize>(&self, what: &str, names: &str) -> Result<[usize; N]> {
        let sizes = <[usize; N]>::try_from(&self.shape[..]);
        sizes.map_err(|_| Error::mismatch(what, format!("{names}, {N} dimensions"), format!("{:?}", self.shape)))
    }
}

fn check_count(what: &str, shape: &[usize], count: usize) -> Result<()> {
    let expected = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    if expected != Some(count) {
        return Err(Error::mismatch(what, format!("the values of shape {shape:?}"), format!("{count} values")));
    }
    Ok(())
}

/// Little-endian, packed.
fn from_raw(what: &str, element: Element, raw: &[u8]) -> Result<Values> {
    fn elements<T, const N: usize>(what: &str, raw: &[u8], read: impl Fn([u8; N]) -> T) -> Result<Vec<T>> {
        let (whole, rest) = raw.as_chunks::<N>();
        if !rest.is_empty() {
            return Err(Error::mismatch(what, format!("elements of {N} bytes"), format!("{} bytes", raw.len())));
        }
        Ok(whole.iter().map(|b| read(*b)).collect())
    }
    Ok(match element {
        Element::F64 => Values::Real(elements(what, raw, f64::from_le_bytes)?),
        Element::F32 => Values::Real(elements(what, raw, |b| f64::from(f32::from_le_bytes(b)))?),
        Element::F16 => Values::Real(elements(what, raw, |b| half::f16::from_le_bytes(b).to_f64())?),
        Element::Bf16 => Values::Real(elements(what, raw, |b| half::bf16::from_le_bytes(b).to_f64())?),
        Element::I64 => Values::Integer(elements(what, raw, i64::from_le_bytes)?),
        Element::I32 => Values::Integer(elements(what, raw, |b| i64::from(i32::from_le_bytes(b)))?),
    })
}

/// 16-bit floats lie in the int32 field, each by its bits.
fn from_fields(what: &str, element: Element, tensor: &proto::Tensor) -> Result<Values> {
    let bits = |convert: fn(u16) -> f64| {
        let wide = |v: &i32| u16::try_from(*v).map(convert).map_err(|_| Error::mismatch(what, "16-bit values", v));
        tensor.int32_data.iter().map(wide).collect::<Result<Vec<f64>>>()
    };
    Ok(match element {
        Element::F64 => Values::Real(tensor.double_data.clone()),
        Element::F32 => Values::Real(tensor.float_data.iter().map(|&v| f64::from(v)).collect()),
        Element::F16 => Values::Real(bits(|v| half::f16::from_bits(v).to_f64())?),
        Element::Bf16 => Values::Real(bits(|v| half::bf16::from_bits(v).to_f64())?),
        Element::I64 => Values::Integer(tensor.int64_data.clone()),
        Element::I32 => Values::Integer(tensor.int32_data.iter().map(|&v| i64::from(v)).collect()),
    })
}
