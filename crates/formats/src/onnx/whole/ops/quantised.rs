//! Products and convolutions with weights in 8 bits, of values that a run rounds to 8 bits. A network keeps those values as they are: then
//! their scale is 1 and their zero point 0.

use super::super::super::constant::Constant;
use super::super::super::fold::scaled;
use super::super::axes::Made;
use super::super::lower::Lowering;
use super::super::node::Op;
use super::super::value::Value;
use super::convolution::convolved;
use super::matrix::{Matrix, along};
use super::{Row, refused, row};
use crate::element::Element;
use wgpu_rnn::Error;

pub(super) const ROWS: [Row; 3] = [
    row("DynamicQuantizeLinear", 1, dynamic_quantise),
    row("MatMulInteger", 1, matmul_integer),
    row("ConvInteger", 1, conv_integer),
];

/// x in 8 bits, its scale and its zero point.
fn dynamic_quantise(_: &mut Lowering<'_>, op: &Op<'_>) -> Made<Vec<Value>> {
    let one = Constant::from_reals("scale", vec![], Element::F32, vec![1.0])?;
    let zero = Constant::from_integers("zero point", vec![], vec![0])?;
    Ok(vec![Value::Laid(op.laid(0)?.clone()), Value::Constant(one), Value::Constant(zero)])
}

/// The second input less its zero point, one for all or one for each group of its values.
fn weights(op: &Op<'_>, what: &str, group: impl Fn(usize) -> usize) -> Made<Constant> {
    let w = op.constant(1).ok_or_else(|| Error::mismatch(what, "a constant", "a value of a run"))?;
    if op.constant(2).is_some_and(|zero| !zero.is_zero()) {
        return Err(refused("a zero point of a value of a run", "DynamicQuantizeLinear alone makes such values here"));
    }
    let one = Constant::from_reals("scale", vec![], Element::F32, vec![1.0])?;
    let zero = op.constant(3);
    let ones = match zero {
        Some(zero) if zero.len() > 1 => one.taken(vec![zero.len()], std::iter::repeat_n(0, zero.len())),
        _ => one,
    };
    Ok(scaled(w, &ones, zero, group)?)
}

/// The size of an axis of the second input, from the front or the back; 1 where there is none.
fn size(op: &Op<'_>, pick: fn(&[usize]) -> usize) -> usize {
    op.constant(1).map_or(1, |w| pick(&w.shape)).max(1)
}

fn matmul_integer(lowering: &mut Lowering<'_>, op: &Op<'_>) -> Made<Vec<Value>> {
    let columns = size(op, |shape| shape.last().copied().unwrap_or(1));
    let w = Matrix::read("B", &weights(op, "B", |n| n % columns)?)?.transposed();
    let x = op.laid(0)?;
    let last = x.axes.len().checked_sub(1).ok_or_else(|| Error::mismatch("A", "a matrix", "a number"))?;
    Ok(vec![Value::Laid(along(lowering, &op.name, x, last, &w)?)])
}

fn conv_integer(lowering: &mut Lowering<'_>, op: &Op<'_>) -> Made<Vec<Value>> {
    let per_output = size(op, |shape| shape.iter().skip(1).product());
    let w = weights(op, "w", |n| n / per_output)?;
    convolved(lowering, op, &w, None)
}
