//! Operators that make tensors: of attributes, of a shape, or of a smaller one.

use super::super::constant::{Constant, count};
use super::{Call, Keeps, Places, Row, broadcast, row, strides};
use crate::element::Element;
use wgpu_rnn::{Error, Result};

pub(super) const ROWS: [Row; 5] = [
    row("Constant", Keeps::Nothing, constant),
    row("ConstantOfShape", Keeps::Repeats, constant_of_shape),
    row("Range", Keeps::Nothing, range),
    row("Expand", Keeps::Repeats, expand),
    row("Tile", Keeps::Repeats, tile),
];

fn constant(call: &mut Call<'_>) -> Result<Vec<Constant>> {
    let attributes = &call.attributes;
    let reals = |shape: Vec<usize>, values: Vec<f64>| Constant::from_reals("value", shape, Element::F32, values);
    if let Some(tensor) = attributes.tensor("value")? {
        // What it holds was in the file, as an initialiser is.
        call.budget.earn(tensor.len());
        return Ok(vec![tensor]);
    }
    let made = if let Some(v) = attributes.float("value_float")? {
        reals(vec![], vec![v])
    } else if let Some(v) = attributes.int("value_int")? {
        Constant::from_integers("value", vec![], vec![v])
    } else if let Some(list) = attributes.get("value_floats")? {
        reals(vec![list.floats.len()], list.floats.iter().map(|&v| v.into()).collect())
    } else if let Some(list) = attributes.ints("value_ints")? {
        Constant::from_integers("value", vec![list.len()], list)
    } else {
        let reason = "only tensors, floats and integers are read".into();
        return Err(Error::Unsupported { what: "the value of a Constant".into(), reason });
    };
    Ok(vec![made?])
}

fn constant_of_shape(call: &mut Call<'_>) -> Result<Vec<Constant>> {
    let shape = call.sizes(0, "shape")?;
    let zero = || Constant::from_reals("value", vec![1], Element::F32, vec![0.0]);
    let value = call.attributes.tensor("value")?.map_or_else(zero, Ok)?;
    if value.len() != 1 {
        return Err(Error::mismatch("value", "one number", value.len()));
    }
    let elements = call.budget.take(&shape)?;
    Ok(vec![value.taken(shape, std::iter::repeat_n(0, elements))])
}

fn range(call: &mut Call<'_>) -> Result<Vec<Constant>> {
    let one = |n: usize| call.input(n).map(|c| (c.element, c.numbers().first().copied().unwrap_or(f64::NAN)));
    let ((element, start), (_, limit), (_, delta)) = (one(0)?, one(1)?, one(2)?);
    let steps = ((limit - start) / delta).ceil().max(0.0);
    if !steps.is_finite() {
        return Err(Error::mismatch("Range", "a number of steps", format!("{start}, {limit}, {delta}")));
    }
    // A cast of what is beyond gives the largest, which nobody has room for.
    let elements = call.budget.take(&[steps as usize])?;
    let values = (0..elements).map(|n| start + n as f64 * delta).collect();
    Ok(vec![Call::numbers(vec![elements], element, values)?])
}

fn expand(call: &mut Call<'_>) -> Result<Vec<Constant>> {
    let wanted = call.sizes(1, "shape")?;
    let from = call.input(0)?.shape.clone();
    let shape = broadcast(&from, &wanted)?;
    call.budget.take(&shape)?;
    let places = Places::repeated(&from, &shape);
    Ok(vec![call.input(0)?.taken(shape, places)])
}

fn tile(call: &mut Call<'_>) -> Result<Vec<Constant>> {
    let repeats = call.sizes(1, "repeats")?;
    let from = call.input(0)?.shape.clone();
    let (shape, places) = tiled(&from, &repeats)?;
    call.budget.take(&shape)?;
    Ok(vec![call.input(0)?.taken(shape, places)])
}

/// The shape of so many repetitions along every axis, and the place of each element.
pub(in crate::onnx) fn tiled(from: &[usize], repeats: &[usize]) -> Result<(Vec<usize>, impl Iterator<Item = usize>)> {
    if repeats.len() != from.len() {
        return Err(Error::mismatch("repeats", format!("{} numbers", from.len()), repeats.len()));
    }
    let shape = from.iter().zip(repeats).map(|(&size, &times)| size.checked_mul(times)).collect::<Option<Vec<_>>>();
    let shape = shape.filter(|shape| count(shape).is_some());
    let shape = shape.ok_or_else(|| Error::mismatch("repeats", "sizes that can be counted", format!("{repeats:?}")))?;
    let (own, all, sizes) = (strides(from), strides(&shape), (from.to_vec(), shape.clone()));
    let place = move |at: usize| {
        let axes = 0..sizes.0.len();
        axes.map(|n| at / all[n].max(1) % sizes.1[n].max(1) % sizes.0[n].max(1) * own[n]).sum()
    };
    let elements = shape.iter().product();
    Ok((shape, (0..elements).map(place)))
}
