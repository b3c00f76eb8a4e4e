//! Products and convolutions with weights in 8 bits, of values that a run rounds to 8 bits. A network keeps those values as they are: then
//! their scale is 1 and their zero point 0.

use super::super::super::constant::Constant;
use super::super::super::fold::{normal_axis, scaled};
use super::super::axes::Made;
use super::super::lower::Lowering;
use super::super::node::Op;
use super::super::value::Value;
use super::convolution::convolved;
use super::matrix::{Matrix, along};
use super::{Row, refused, row};
use crate::element::Element;
use wgpu_rnn::Error;
use wgpu_rnn::expr::Expr;

pub(super) const ROWS: [Row; 4] = [
    row("DequantizeLinear", 1, dequantise),
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

/// (x − zero) · scale, of rows of a table in 8 bits, with one scale or one of each place along an axis.
fn dequantise(lowering: &mut Lowering<'_>, op: &Op<'_>) -> Made<Vec<Value>> {
    let x = op.laid(0)?.clone();
    let attributes = op.attributes(lowering.file);
    if attributes.int("block_size")?.unwrap_or(0) != 0 {
        return Err(refused("scales of blocks", "scales are read per tensor and per axis"));
    }
    let scale = op.constant(1).ok_or_else(|| Error::mismatch("scale", "a constant", "a value of a run"))?;
    let along = |what: &str, constant: &Constant| -> Made<Value> {
        let mut shape = vec![1; x.axes.len()];
        if constant.len() != 1 {
            let axis = normal_axis(attributes.int("axis")?.unwrap_or(1), x.axes.len())?;
            shape[axis] = constant.len();
        }
        Ok(Value::Constant(constant.reshaped(what, shape)?))
    };
    let mut values = vec![Value::Laid(x.clone()), along("scale", scale)?];
    if let Some(zero) = op.constant(2).filter(|zero| !zero.is_zero()) {
        values.push(along("zero point", zero)?);
    }
    let real = |x: &[Expr]| match x {
        [x, scale, zero] => (x.clone() - zero.clone()) * scale.clone(),
        _ => x[0].clone() * x[1].clone(),
    };
    Ok(vec![lowering.pointwise(&op.name, &values, Some(scale.element), real)?])
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
