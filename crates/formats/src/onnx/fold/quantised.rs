//! Operators of weights in fewer bits.

use super::super::constant::Constant;
use super::{Call, Keeps, Row, normal_axis, row, strides};
use crate::element::Element;
use wgpu_rnn::{Error, Result};

pub(super) const ROWS: [Row; 1] = [row("DequantizeLinear", Keeps::Nothing, dequantise)];

fn dequantise(call: &mut Call<'_>) -> Result<Vec<Constant>> {
    let axis = call.attributes.int("axis")?.unwrap_or(1);
    if call.attributes.int("block_size")?.unwrap_or(0) != 0 {
        let reason = "scales are read per tensor and per axis".into();
        return Err(Error::Unsupported { what: "DequantizeLinear in blocks".into(), reason });
    }
    let (x, scale, zero) = (call.input(0)?.clone(), call.input(1)?.clone(), call.optional(2).cloned());
    call.budget.take(&x.shape)?;
    // A scale for all has no axis to lie along.
    let axis = if scale.len() == 1 { 0 } else { normal_axis(axis, x.shape.len())? };
    let steps = strides(&x.shape);
    let (step, size) = (steps.get(axis).copied().unwrap_or(1), x.shape.get(axis).copied().unwrap_or(1));
    let at = move |n: usize| n / step.max(1) % size.max(1);
    Ok(vec![scaled(&x, &scale, zero.as_ref(), at)?])
}

/// (q − zero) · scale, where element n has scale and zero `group(n)`, or the only one.
///
/// # Errors
/// [`Error::Mismatch`] for more or fewer scales than groups.
pub(in crate::onnx) fn scaled(
    q: &Constant,
    scale: &Constant,
    zero: Option<&Constant>,
    group: impl Fn(usize) -> usize,
) -> Result<Constant> {
    let (scales, zeros) = (scale.reals("scale")?, zero.map(|z| z.integers("zero point")).transpose()?);
    let pick = |len: usize, n: usize| if len == 1 { 0 } else { group(n) };
    let values = q.integers("quantised values")?.iter().enumerate().map(|(n, &v)| {
        let scale = scales.get(pick(scales.len(), n))?;
        let zero = match zeros {
            Some(zeros) => *zeros.get(pick(zeros.len(), n))?,
            None => 0,
        };
        // Numbers of 8 or 16 bits: their difference is exact.
        Some((v as f64 - zero as f64) * scale)
    });
    let values = values.collect::<Option<Vec<_>>>();
    let missing = || Error::mismatch("scales and zero points", "one, or one of every group", scales.len());
    let element = if scale.element.is_real() { scale.element } else { Element::F32 };
    Call::numbers(q.shape.clone(), element, values.ok_or_else(missing)?)
}
