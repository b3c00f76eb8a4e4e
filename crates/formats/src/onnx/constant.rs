//! Tensors whose values a file holds: a `TensorProto` as checked shape and values.

use super::external::Folder;
use super::proto::{self, data_type};
use crate::element::Element;
use prost::Message;
use prost::bytes::Bytes;
use std::borrow::Cow;
use std::sync::Arc;
use wgpu_rnn::{Error, Result};

/// What `TensorProto.DataType` calls each.
const TYPES: [(i32, Element); 11] = [
    (data_type::DOUBLE, Element::F64),
    (data_type::FLOAT, Element::F32),
    (data_type::FLOAT16, Element::F16),
    (data_type::BFLOAT16, Element::Bf16),
    (data_type::INT64, Element::I64),
    (data_type::INT32, Element::I32),
    (data_type::INT16, Element::I16),
    (data_type::INT8, Element::I8),
    (data_type::UINT16, Element::U16),
    (data_type::UINT8, Element::U8),
    (data_type::BOOL, Element::Bool),
];

impl Element {
    /// Of a number of `TensorProto.DataType`; `what` names the tensor in errors.
    pub(super) fn of(what: &str, data_type: i32) -> Result<Self> {
        let known = TYPES.iter().find(|(number, _)| *number == data_type);
        known.map(|(_, element)| *element).ok_or_else(|| {
            let expected = "FLOAT, DOUBLE, FLOAT16, BFLOAT16, INT8 to INT64, UINT8, UINT16 or BOOL";
            Error::mismatch(what, expected, format!("element type {data_type}"))
        })
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

/// Shared: what reorders nothing copies nothing.
#[derive(Clone, Debug)]
enum Values {
    Real(Arc<Vec<f64>>),
    Integer(Arc<Vec<i64>>),
}

impl Values {
    fn real(values: Vec<f64>) -> Self {
        Self::Real(Arc::new(values))
    }
    fn integer(values: Vec<i64>) -> Self {
        Self::Integer(Arc::new(values))
    }
    fn len(&self) -> usize {
        match self {
            Self::Real(values) => values.len(),
            Self::Integer(values) => values.len(),
        }
    }
}

impl Constant {
    /// From real values, as many as `shape` says.
    pub fn from_reals(what: &str, shape: Vec<usize>, element: Element, values: Vec<f64>) -> Result<Self> {
        check_count(what, &shape, values.len())?;
        Ok(Self { shape, element, values: Values::real(values) })
    }

    /// From integers, as many as `shape` says.
    pub fn from_integers(what: &str, shape: Vec<usize>, values: Vec<i64>) -> Result<Self> {
        Self::from_integers_of(what, shape, Element::I64, values)
    }

    /// The same of a narrower type.
    ///
    /// # Errors
    /// [`Error::Mismatch`] for another count, or a value that the type does not have.
    pub(super) fn from_integers_of(what: &str, shape: Vec<usize>, element: Element, values: Vec<i64>) -> Result<Self> {
        check_count(what, &shape, values.len())?;
        let (low, high) = element.range();
        match values.iter().find(|v| !(low..=high).contains(v)) {
            Some(v) => Err(Error::mismatch(what, format!("numbers of {element:?}"), v)),
            None => Ok(Self { shape, element, values: Values::integer(values) }),
        }
    }

    /// From a `TensorProto`; `what` names it in errors.
    ///
    /// # Errors
    /// [`Error::Mismatch`] for bytes that are none, a negative size, another element type, or another count of values than the
    /// shape says; [`Error::Unsupported`] for values that lie in another file.
    pub fn decode(what: &str, bytes: Bytes) -> Result<Self> {
        Self::decode_in(&Folder::None, what, bytes)
    }

    /// The same of a tensor whose values may lie in a file of that folder.
    ///
    /// # Errors
    /// As [`Constant::decode`], and those of [`Folder::read`].
    pub(super) fn decode_in(folder: &Folder, what: &str, bytes: Bytes) -> Result<Self> {
        let tensor = proto::Tensor::decode(bytes).map_err(|e| Error::mismatch(what, "a TensorProto", e))?;
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
        let values = if tensor.data_location != 0 || !tensor.external_data.is_empty() {
            let bytes = count(&shape).and_then(|n| n.checked_mul(element.size()));
            let bytes = bytes.ok_or_else(|| Error::mismatch(what, "as many values as there may be", "more"))?;
            from_raw(what, element, &folder.read(what, &tensor.external_data, bytes)?)?
        } else {
            match &tensor.raw_data {
                Some(raw) => from_raw(what, element, raw)?,
                None => from_fields(what, element, &tensor)?,
            }
        };
        check_count(what, &shape, values.len())?;
        Ok(Self { shape, element, values })
    }

    /// As a `TensorProto` of that name, of integers.
    ///
    /// # Errors
    /// [`Error::Mismatch`] for reals, and for a type that the message does not have.
    pub(super) fn encoded_integers(&self, name: &str) -> Result<proto::Tensor> {
        let values = self.integers(name)?;
        let number = TYPES.iter().find(|(_, element)| *element == self.element).map(|(number, _)| *number);
        let data_type = number.ok_or_else(|| Error::mismatch(name, "a type of ONNX", format!("{:?}", self.element)))?;
        let mut tensor = proto::Tensor { name: name.into(), data_type, ..Default::default() };
        tensor.dims = self.shape.iter().map(|&size| size as i64).collect();
        match self.element {
            Element::I64 => tensor.int64_data = values.to_vec(),
            // All narrower ones lie there.
            _ => tensor.int32_data = values.iter().map(|&v| v as i32).collect(),
        }
        Ok(tensor)
    }

    /// How many values.
    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    /// The same values in another shape of as many.
    pub(super) fn reshaped(&self, what: &str, shape: Vec<usize>) -> Result<Self> {
        check_count(what, &shape, self.len())?;
        Ok(Self { shape, ..self.clone() })
    }

    /// The values at those places, which must be as many as `shape` says; places beyond the end give 0.
    pub(super) fn taken(&self, shape: Vec<usize>, places: impl Iterator<Item = usize>) -> Self {
        let values = match &self.values {
            Values::Real(all) => Values::real(places.map(|at| all.get(at).copied().unwrap_or_default()).collect()),
            Values::Integer(all) => {
                Values::integer(places.map(|at| all.get(at).copied().unwrap_or_default()).collect())
            }
        };
        Self { shape, element: self.element, values }
    }

    /// Its values behind one another, with those of others of the same type.
    pub(super) fn joined(what: &str, parts: &[Self]) -> Result<Self> {
        let Some(first) = parts.first() else { return Err(Error::mismatch(what, "at least one tensor", "none")) };
        let mut reals = Vec::new();
        let mut integers = Vec::new();
        for part in parts {
            match &part.values {
                _ if part.element != first.element => {
                    let expected = format!("tensors of {:?}", first.element);
                    return Err(Error::mismatch(what, expected, format!("{:?}", part.element)));
                }
                Values::Real(values) => reals.extend_from_slice(values),
                Values::Integer(values) => integers.extend_from_slice(values),
            }
        }
        let shape = vec![reals.len() + integers.len()];
        let values = if first.element.is_real() { Values::real(reals) } else { Values::integer(integers) };
        Ok(Self { shape, element: first.element, values })
    }

    /// As another type: reals round, and are cut to integers towards 0; anything but 0 is true.
    pub(super) fn cast(&self, what: &str, element: Element) -> Result<Self> {
        let integer = |v: f64| match v {
            v if element == Element::Bool => Ok(i64::from(v != 0.0)),
            // What is beyond has no meaning that implementations share.
            v if v.is_nan() || v.abs() >= 9.3e18 => Err(Error::mismatch(what, "numbers of an integer type", v)),
            v => Ok(v as i64),
        };
        let shape = self.shape.clone();
        match (&self.values, element.is_real()) {
            (Values::Real(values), true) => {
                let values = Values::real(values.iter().map(|&v| element.rounded(v)).collect());
                Ok(Self { shape, element, values })
            }
            (Values::Integer(values), true) => {
                let values = Values::real(values.iter().map(|&v| element.rounded(v as f64)).collect());
                Ok(Self { shape, element, values })
            }
            (Values::Real(values), false) => {
                let values = values.iter().map(|&v| integer(v)).collect::<Result<_>>()?;
                Self::from_integers_of(what, shape, element, values)
            }
            (Values::Integer(values), false) => {
                let truth = |v: i64| if element == Element::Bool { i64::from(v != 0) } else { v };
                Self::from_integers_of(what, shape, element, values.iter().map(|&v| truth(v)).collect())
            }
        }
    }

    /// Its values as reals, whatever its type.
    pub(super) fn numbers(&self) -> Cow<'_, [f64]> {
        match &self.values {
            Values::Real(values) => Cow::Borrowed(values),
            Values::Integer(values) => Cow::Owned(values.iter().map(|&v| v as f64).collect()),
        }
    }

    /// The value that all of it has, as a tensor without axes.
    pub(super) fn uniform(&self) -> Option<Self> {
        let same = match &self.values {
            Values::Real(values) => values.windows(2).all(|w| w[0].to_bits() == w[1].to_bits()),
            Values::Integer(values) => values.windows(2).all(|w| w[0] == w[1]),
        };
        (same && self.len() > 0).then(|| self.taken(Vec::new(), [0].into_iter()))
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

/// Values of a shape, if they can be counted.
pub(super) fn count(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))
}

fn check_count(what: &str, shape: &[usize], values: usize) -> Result<()> {
    if count(shape) != Some(values) {
        return Err(Error::mismatch(what, format!("the values of shape {shape:?}"), format!("{values} values")));
    }
    Ok(())
}

/// Little-endian, packed.
fn from_raw(what: &str, element: Element, raw: &[u8]) -> Result<Values> {
    if !raw.len().is_multiple_of(element.size()) {
        return Err(Error::mismatch(
            what,
            format!("elements of {} bytes", element.size()),
            format!("{} bytes", raw.len()),
        ));
    }
    if element.is_real() {
        return Ok(Values::real(element.real(raw)));
    }
    let integers =
        element.integers(raw).ok_or_else(|| Error::mismatch(what, "numbers that i64 holds", "larger ones"))?;
    // Any byte but 0 is true.
    let truth = |v: i64| if element == Element::Bool { i64::from(v != 0) } else { v };
    Ok(Values::integer(integers.into_iter().map(truth).collect()))
}

/// 16-bit floats lie in the int32 field, each by its bits.
fn from_fields(what: &str, element: Element, tensor: &proto::Tensor) -> Result<Values> {
    let bits = |convert: fn(u16) -> f64| {
        let wide = |v: &i32| u16::try_from(*v).map(convert).map_err(|_| Error::mismatch(what, "16-bit values", v));
        tensor.int32_data.iter().map(wide).collect::<Result<Vec<f64>>>()
    };
    Ok(match element {
        Element::F64 => Values::real(tensor.double_data.clone()),
        Element::F32 => Values::real(tensor.float_data.iter().map(|&v| f64::from(v)).collect()),
        Element::F16 => Values::real(bits(|v| half::f16::from_bits(v).to_f64())?),
        Element::Bf16 => Values::real(bits(|v| half::bf16::from_bits(v).to_f64())?),
        Element::I64 => Values::integer(tensor.int64_data.clone()),
        // All narrower ones lie there too.
        _ => {
            let (low, high) = element.range();
            let narrow = |&v: &i32| match i64::from(v) {
                v if (low..=high).contains(&v) => Ok(v),
                v => Err(Error::mismatch(what, format!("numbers of {element:?}"), v)),
            };
            Values::integer(tensor.int32_data.iter().map(narrow).collect::<Result<_>>()?)
        }
    })
}
