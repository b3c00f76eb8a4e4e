//! Operators that name axes anew: nothing runs for them.

use super::super::super::fold;
use super::super::axes::Made;
use super::super::lower::Lowering;
use super::super::node::Op;
use super::super::value::{Kind, Laid, Value};
use super::{Row, refused, row};
use crate::element::Element;
use wgpu_rnn::expr::{Expr, step};

pub(super) const ROWS: [Row; 10] = [
    row("Identity", 1, |_, op| Ok(vec![op.value(0)?.clone()])),
    row("Dropout", 1, dropout),
    row("Transpose", 1, transpose),
    row("Reshape", 1, reshape),
    row("Flatten", 1, flatten),
    row("Squeeze", 1, squeeze),
    row("Unsqueeze", 1, unsqueeze),
    row("Shape", 1, shape),
    row("Cast", 1, cast),
    row("Size", 1, size),
];

fn one(laid: Laid) -> Made<Vec<Value>> {
    Ok(vec![Value::Laid(laid)])
}

/// As in a model that does not train.
fn dropout(_: &mut Lowering<'_>, op: &Op<'_>) -> Made<Vec<Value>> {
    if op.constant(2).is_some_and(|training| !training.is_zero()) {
        return Err(refused("training_mode", "a model is run, not trained, as its file says"));
    }
    Ok(vec![op.value(0)?.clone()])
}

fn transpose(lowering: &mut Lowering<'_>, op: &Op<'_>) -> Made<Vec<Value>> {
    let x = op.laid(0)?;
    let order = fold::order(x.axes.len(), op.attributes(lowering.file).ints("perm")?)?;
    one(x.transposed(&order))
}

fn reshape(lowering: &mut Lowering<'_>, op: &Op<'_>) -> Made<Vec<Value>> {
    let x = op.laid(0)?;
    let zero_is_zero = op.attributes(lowering.file).int("allowzero")?.unwrap_or(0) != 0;
    let wanted = op.call(lowering.file, &mut lowering.budget).input(1)?.integers("shape")?.to_vec();
    let shape = fold::reshaped(&x.shape(), &wanted, zero_is_zero)?;
    one(regrouped(lowering, x, &shape)?)
}

/// The value in another shape. Where steps would mix with columns, axes of an input that were only guessed to be steps are taken back.
fn regrouped(lowering: &Lowering<'_>, x: &Laid, shape: &[usize]) -> Made<Laid> {
    match x.reshaped(shape) {
        Ok(laid) => Ok(laid),
        Err(error) => {
            let guessed = x.axes.iter().enumerate().find(|(_, axis)| {
                axis.kind == Kind::Time && axis.from.is_some_and(|place| !lowering.facts.knows(place))
            });
            match guessed {
                Some((n, _)) => {
                    lowering.want(x, &[(n, Kind::Columns)])?;
                    Err(error.into())
                }
                None => Err(error.into()),
            }
        }
    }
}

fn flatten(lowering: &mut Lowering<'_>, op: &Op<'_>) -> Made<Vec<Value>> {
    let x = op.laid(0)?;
    let shape = fold::flattened(&x.shape(), op.attributes(lowering.file).int("axis")?.unwrap_or(1))?;
    one(regrouped(lowering, x, &shape)?)
}

fn squeeze(lowering: &mut Lowering<'_>, op: &Op<'_>) -> Made<Vec<Value>> {
    let x = op.laid(0)?;
    let axes = op.call(lowering.file, &mut lowering.budget).list(1, "axes")?;
    one(x.reshaped(&fold::squeezed(&x.shape(), axes.as_deref())?)?)
}

fn unsqueeze(lowering: &mut Lowering<'_>, op: &Op<'_>) -> Made<Vec<Value>> {
    let x = op.laid(0)?;
    let axes = op.call(lowering.file, &mut lowering.budget).list(1, "axes")?.unwrap_or_default();
    one(x.reshaped(&fold::unsqueezed(&x.shape(), &axes)?)?)
}

fn shape(lowering: &mut Lowering<'_>, op: &Op<'_>) -> Made<Vec<Value>> {
    let sizes = match op.value(0)? {
        Value::Laid(laid) => laid.shape(),
        Value::Constant(constant) => constant.shape.clone(),
        Value::Order { .. } => vec![lowering.shape.batch],
    };
    let attributes = op.attributes(lowering.file);
    let (start, end) = (attributes.int("start")?, attributes.int("end")?);
    Ok(vec![Value::Constant(fold::sizes_of(&sizes, start, end)?)])
}

fn size(_: &mut Lowering<'_>, op: &Op<'_>) -> Made<Vec<Value>> {
    let elements = op.laid(0)?.shape().iter().product::<usize>() as i64;
    Ok(vec![Value::Constant(super::super::super::constant::Constant::from_integers("size", vec![], vec![elements])?)])
}

/// Numbers are f32 in a network, whatever they were in the model; truth is 0 or 1.
fn cast(lowering: &mut Lowering<'_>, op: &Op<'_>) -> Made<Vec<Value>> {
    let to = op.attributes(lowering.file).int("to")?.unwrap_or(0);
    let to = Element::of("to", i32::try_from(to).unwrap_or(0))?;
    let x = match op.value(0)? {
        Value::Laid(laid) => laid.clone(),
        other => return Ok(vec![other.clone()]),
    };
    match (x.element, to) {
        (from, Element::Bool) if from != Element::Bool => {
            // Anything but 0.
            let truth = |x: &[Expr]| step(x[0].clone()) + step(-x[0].clone());
            Ok(vec![lowering.pointwise(&op.name, &[Value::Laid(x)], Some(to), truth)?])
        }
        (from, to) if from.is_real() && !to.is_real() => {
            Err(refused(format!("a cast from {from:?} to {to:?}"), "networks do not cut numbers off"))
        }
        _ => one(Laid { element: to, ..x }),
    }
}
