//! Operators that keep all values and change shape, order or type.

use super::super::constant::{Constant, count};
use super::{Call, Keeps, Places, Row, normal_axis, row, strides};
use crate::element::Element;
use wgpu_rnn::{Error, Result};

pub(super) const ROWS: [Row; 10] = [
    row("Identity", Keeps::Repeated, |call| Ok(vec![call.input(0)?.clone()])),
    row("Dropout", Keeps::Repeated, |call| Ok(vec![call.input(0)?.clone()])),
    row("Reshape", Keeps::Uniform, reshape),
    row("Flatten", Keeps::Uniform, flatten),
    row("Squeeze", Keeps::Uniform, squeeze),
    row("Unsqueeze", Keeps::Uniform, unsqueeze),
    row("Transpose", Keeps::Uniform, transpose),
    row("Cast", Keeps::Repeated, cast),
    row("Shape", Keeps::Nothing, shape),
    row("Size", Keeps::Nothing, size),
];

fn reshape(call: &mut Call<'_>) -> Result<Vec<Constant>> {
    let wanted = call.input(1)?.integers("shape")?.to_vec();
    let zero_is_zero = call.attributes.int("allowzero")?.unwrap_or(0) != 0;
    let x = call.input(0)?;
    Ok(vec![x.reshaped("data", reshaped(&x.shape, &wanted, zero_is_zero)?)?])
}

/// `Reshape`'s shape: 0 is the size that there is, one −1 what is left.
pub(in crate::onnx) fn reshaped(from: &[usize], wanted: &[i64], zero_is_zero: bool) -> Result<Vec<usize>> {
    let all = count(from).unwrap_or(0);
    let wrong = || Error::mismatch("shape", format!("one of {all} elements"), format!("{wanted:?}"));
    let mut shape = Vec::with_capacity(wanted.len());
    let mut open = None;
    for (n, &size) in wanted.iter().enumerate() {
        shape.push(match size {
            -1 if open.is_none() => {
                open = Some(n);
                1
            }
            0 if !zero_is_zero => *from.get(n).ok_or_else(wrong)?,
            size => usize::try_from(size).map_err(|_| wrong())?,
        });
    }
    if let Some(n) = open {
        let others = count(&shape).filter(|&n| n > 0).ok_or_else(wrong)?;
        shape[n] = all / others;
    }
    if count(&shape) == Some(all) { Ok(shape) } else { Err(wrong()) }
}

fn flatten(call: &mut Call<'_>) -> Result<Vec<Constant>> {
    let x = call.input(0)?;
    let shape = flattened(&x.shape, call.attributes.int("axis")?.unwrap_or(1))?;
    Ok(vec![x.reshaped("data", shape)?])
}

/// `Flatten`'s two axes.
pub(in crate::onnx) fn flattened(shape: &[usize], axis: i64) -> Result<Vec<usize>> {
    // The number of axes itself is allowed: nothing is left behind it.
    let at = if axis == shape.len() as i64 { shape.len() } else { normal_axis(axis, shape.len())? };
    let (before, behind) = shape.split_at(at);
    let sizes = count(before).zip(count(behind));
    let (a, b) = sizes.ok_or_else(|| Error::mismatch("data", "as many values as can be counted", "more"))?;
    Ok(vec![a, b])
}

fn squeeze(call: &mut Call<'_>) -> Result<Vec<Constant>> {
    let axes = call.list(1, "axes")?;
    let x = call.input(0)?;
    Ok(vec![x.reshaped("data", squeezed(&x.shape, axes.as_deref())?)?])
}

/// The shape without those axes of size 1; `None`: without all of them.
pub(in crate::onnx) fn squeezed(shape: &[usize], axes: Option<&[i64]>) -> Result<Vec<usize>> {
    let Some(axes) = axes else { return Ok(shape.iter().copied().filter(|&d| d != 1).collect()) };
    let axes = axes.iter().map(|&axis| normal_axis(axis, shape.len())).collect::<Result<Vec<_>>>()?;
    if let Some(&axis) = axes.iter().find(|&&axis| shape[axis] != 1) {
        return Err(Error::mismatch(format!("axis {axis} to squeeze"), "a size of 1", format!("{shape:?}")));
    }
    Ok((0..shape.len()).filter(|n| !axes.contains(n)).map(|n| shape[n]).collect())
}

fn unsqueeze(call: &mut Call<'_>) -> Result<Vec<Constant>> {
    let axes = call.list(1, "axes")?.ok_or_else(|| Error::mismatch("axes", "integers", "none"))?;
    let x = call.input(0)?;
    Ok(vec![x.reshaped("data", unsqueezed(&x.shape, &axes)?)?])
}

/// The shape with more axes of size 1, numbered as in the result.
pub(in crate::onnx) fn unsqueezed(shape: &[usize], axes: &[i64]) -> Result<Vec<usize>> {
    let rank = shape.len() + axes.len();
    let axes = axes.iter().map(|&axis| normal_axis(axis, rank)).collect::<Result<Vec<_>>>()?;
    let mut rest = shape.iter();
    let sizes = (0..rank).map(|n| if axes.contains(&n) { Some(1) } else { rest.next().copied() });
    let sizes = sizes.collect::<Option<Vec<_>>>().filter(|_| rest.next().is_none());
    sizes.ok_or_else(|| Error::mismatch("axes", "each once", format!("{axes:?}")))
}

fn transpose(call: &mut Call<'_>) -> Result<Vec<Constant>> {
    let rank = call.input(0)?.shape.len();
    let order = order(rank, call.attributes.ints("perm")?)?;
    let x = call.input(0)?;
    let own = strides(&x.shape);
    let shape: Vec<usize> = order.iter().map(|&n| x.shape[n]).collect();
    let steps = order.iter().map(|&n| own[n] as isize).collect();
    let places = Places::new(&shape, 0, steps);
    call.taken(0, shape, places)
}

/// `Transpose`'s order of axes; without one, the reverse.
pub(in crate::onnx) fn order(rank: usize, perm: Option<Vec<i64>>) -> Result<Vec<usize>> {
    let Some(perm) = perm else { return Ok((0..rank).rev().collect()) };
    let order = perm.iter().map(|&n| normal_axis(n, rank)).collect::<Result<Vec<_>>>()?;
    let mut sorted = order.clone();
    sorted.sort_unstable();
    if !sorted.into_iter().eq(0..rank) {
        return Err(Error::mismatch("perm", format!("every one of {rank} axes once"), format!("{perm:?}")));
    }
    Ok(order)
}

fn cast(call: &mut Call<'_>) -> Result<Vec<Constant>> {
    let to = call.attributes.int("to")?.ok_or_else(|| Error::mismatch("to", "an attribute", "none"))?;
    let element = Element::of("to", i32::try_from(to).unwrap_or(0))?;
    Ok(vec![call.input(0)?.cast("input", element)?])
}

fn shape(call: &mut Call<'_>) -> Result<Vec<Constant>> {
    let sizes = call.input(0)?.shape.clone();
    let (start, end) = (call.attributes.int("start")?, call.attributes.int("end")?);
    Ok(vec![sizes_of(&sizes, start, end)?])
}

/// `Shape`'s output: the sizes from `start` to `end`.
pub(in crate::onnx) fn sizes_of(shape: &[usize], start: Option<i64>, end: Option<i64>) -> Result<Constant> {
    let rank = shape.len() as i64;
    let at = |n: i64| (if n < 0 { n.saturating_add(rank) } else { n }).clamp(0, rank) as usize;
    let (start, end) = (at(start.unwrap_or(0)), at(end.unwrap_or(rank)));
    let sizes: Vec<i64> = shape.get(start..end).unwrap_or_default().iter().map(|&d| d as i64).collect();
    Constant::from_integers("shape", vec![sizes.len()], sizes)
}

fn size(call: &mut Call<'_>) -> Result<Vec<Constant>> {
    let elements = call.input(0)?.len() as i64;
    Ok(vec![Constant::from_integers("size", vec![], vec![elements])?])
}
