//! The way of sequences sorted by length, as PyTorch's `pack_padded_sequence` is exported: sorted before the recurrent nodes, back behind
//! them. A network takes sequences in any order, so both ways are none.

use super::super::super::constant::Constant;
use super::super::super::fold::normal_axis;
use super::super::axes::Made;
use super::super::lower::Lowering;
use super::super::node::Op;
use super::super::value::{Kind, Laid, Value};
use super::{Row, refused, row};

pub(super) const ROWS: [Row; 2] = [row("TopK", 1, sort), row("ScatterElements", 2, back)];

/// All of B numbers, the largest first, and where each was.
fn sort(lowering: &mut Lowering<'_>, op: &Op<'_>) -> Made<Vec<Value>> {
    // Of one number, the largest and the smallest.
    let one = Constant::from_integers("indices", vec![1], vec![0])?;
    match op.value(0)? {
        Value::Laid(x) if x.shape() == [1] => return Ok(vec![Value::Laid(x.clone()), Value::Constant(one)]),
        Value::Constant(x) if x.shape == [1] => return Ok(vec![Value::Constant(x.clone()), Value::Constant(one)]),
        _ => {}
    }
    let x = op.laid(0)?;
    let k = op.constant(1).and_then(|k| k.numbers().first().copied());
    let attributes = op.attributes(lowering.file);
    let largest = attributes.int("largest")?.unwrap_or(1) != 0;
    let of_batch = x.axes.len() == 1 && x.columns.len() <= 1 && k == Some(x.axes[0].size as f64);
    if !of_batch || !largest || x.sorted {
        return Err(refused("these numbers by size", "networks do not sort; only sequences by their lengths are read"));
    }
    lowering.want(x, &[(0, Kind::Batch)])?;
    Ok(vec![Value::Laid(Laid { sorted: true, ..x.clone() }), Value::Order { back: false }])
}

/// 0, 1, 2, … to where each of a sorted list was: the way back.
fn back(_: &mut Lowering<'_>, op: &Op<'_>) -> Made<Vec<Value>> {
    let numbers = op.constant(2).map(Constant::numbers);
    let counted = numbers.is_some_and(|numbers| numbers.iter().enumerate().all(|(n, &v)| v == n as f64));
    match op.value(1)? {
        Value::Order { back: false } if counted => Ok(vec![Value::Order { back: true }]),
        _ => Err(refused("values to places that a run gives", "only the way back of sorted sequences is read")),
    }
}

/// A value whose sequences are sorted, or back in their order.
pub(super) fn reordered(lowering: &mut Lowering<'_>, x: &Laid, axis: i64, back: bool) -> Made<Vec<Value>> {
    let axis = normal_axis(axis, x.axes.len())?;
    lowering.want(x, &[(axis, Kind::Batch)])?;
    if x.sorted != back {
        return Err(refused("an order of sequences on another", "they are sorted once and put back once"));
    }
    Ok(vec![Value::Laid(Laid { sorted: !back, ..x.clone() })])
}
