//! Operators that pick columns, or the first or last step, and put values side by side.

use super::super::super::constant::Constant;
use super::super::super::fold::{self, Cut, normal_axis};
use super::super::super::operator::shortened;
use super::super::axes::Made;
use super::super::lower::Lowering;
use super::super::node::Op;
use super::super::value::{Axis, Column, Kind, Laid, Value};
use super::{ALL, Row, refused, row};
use wgpu_rnn::network::{Pooling, Rows};
use wgpu_rnn::{Error, Result};

pub(super) const ROWS: [Row; 7] = [
    row("Slice", 1, slice),
    row("Split", 1, split),
    row("Gather", 2, gather),
    row("Concat", ALL, concat),
    row("Expand", 1, expand),
    row("Tile", 1, tile),
    row("Pad", 1, pad),
];

/// One step of a value: the first or the last.
fn step_of(lowering: &mut Lowering<'_>, name: &str, x: &Laid, axis: usize, step: usize) -> Made<Laid> {
    let last = x.axes[axis].size - 1;
    let step = if x.reversed { last - step } else { step };
    lowering.over_all_steps.get_or_insert_with(|| name.into());
    let kind = match step {
        0 => Pooling::First,
        step if step == last => Pooling::Last,
        _ => return Err(refused(format!("step {step}"), "networks pick the first step and the last")),
    };
    let part = lowering.dense(name, x)?;
    let name = lowering.fresh(&format!("{name}.step"));
    let part = lowering.builder.pool(&name, part, kind)?;
    let mut axes = x.axes.clone();
    axes[axis] = Axis::columns(1);
    let made = lowering.laid(part, axes, x);
    Ok(Laid { rows: Rows::Sequences, ..made })
}

/// Some of an axis.
fn some_of(lowering: &mut Lowering<'_>, name: &str, x: &Laid, cut: Cut) -> Made<Laid> {
    let axis = x.axes[cut.axis];
    if cut.is_whole(&x.shape()) {
        return Ok(x.clone());
    }
    let places = |n: usize| (cut.first as isize + n as isize * cut.step).max(0) as usize;
    match axis.kind {
        Kind::Columns => Ok(x.picked(cut.axis, &(0..cut.count).map(places).collect::<Vec<_>>())),
        // All steps in reverse order: what reads them is told.
        Kind::Time if cut.step == -1 && cut.count == axis.size => {
            lowering.over_all_steps.get_or_insert_with(|| name.into());
            Ok(Laid { reversed: !x.reversed, ..x.clone() })
        }
        Kind::Time if cut.count == 1 => step_of(lowering, name, x, cut.axis, cut.first),
        kind => {
            lowering.want(x, &[(cut.axis, Kind::Columns)])?;
            Err(refused(format!("a slice of an axis that counts {kind:?}"), "networks run whole sequences"))
        }
    }
}

fn slice(lowering: &mut Lowering<'_>, op: &Op<'_>) -> Made<Vec<Value>> {
    let mut x = op.laid(0)?.clone();
    let cuts = fold::cuts(&op.call(lowering.file, &mut lowering.budget), &x.shape())?;
    for cut in cuts {
        x = some_of(lowering, &op.name, &x, cut)?;
    }
    Ok(vec![Value::Laid(x)])
}

fn split(lowering: &mut Lowering<'_>, op: &Op<'_>) -> Made<Vec<Value>> {
    let x = op.laid(0)?.clone();
    let axis = op.attributes(lowering.file).int("axis")?.unwrap_or(0);
    let axis = normal_axis(axis, x.axes.len())?;
    let parts = fold::parts(&op.call(lowering.file, &mut lowering.budget), x.axes[axis].size)?;
    let mut first = 0;
    let mut made = Vec::new();
    for count in parts {
        made.push(Value::Laid(some_of(lowering, &op.name, &x, Cut { axis, first, step: 1, count })?));
        first += count;
    }
    Ok(made)
}

fn gather(lowering: &mut Lowering<'_>, op: &Op<'_>) -> Made<Vec<Value>> {
    let axis = op.attributes(lowering.file).int("axis")?.unwrap_or(0);
    match (op.value(0)?, op.value(1)?) {
        (Value::Laid(x), Value::Order { back }) => super::packed::reordered(lowering, x, axis, *back),
        (Value::Constant(table), Value::Laid(ids)) => rows_of(lowering, &op.name, table, ids, axis),
        (Value::Laid(x), Value::Constant(list)) => {
            let axis = normal_axis(axis, x.axes.len())?;
            let places = fold::indices(list, x.axes[axis].size)?;
            let whole: Vec<usize> = list.shape.clone();
            let picked = match (x.axes[axis].kind, &places[..]) {
                (Kind::Columns, places) => x.picked(axis, places),
                (_, &[first]) => some_of(lowering, &op.name, x, Cut { axis, first, step: 1, count: 1 })?,
                _ => {
                    lowering.want(x, &[(axis, Kind::Columns)])?;
                    return Err(refused("several steps or sequences", "networks run whole sequences"));
                }
            };
            let mut shape = picked.shape();
            shape.splice(axis..=axis, whole);
            Ok(vec![Value::Laid(picked.reshaped(&shape)?)])
        }
        _ => Err(refused("indices that only a run knows", "networks look ids up in a constant table alone")),
    }
}

/// An embedding: rows of a table by ids.
fn rows_of(lowering: &mut Lowering<'_>, name: &str, table: &Constant, ids: &Laid, axis: i64) -> Made<Vec<Value>> {
    let [vocabulary, width] = table.sizes("table", "[V, width]")?;
    if normal_axis(axis, 2)? != 0 {
        return Err(refused("columns by ids", "networks look up rows of a table"));
    }
    let mut made = Vec::new();
    for column in &ids.columns {
        let part = lowering.columns(name, &[*column])?;
        let own = lowering.fresh(name);
        // Its table has a name of its own too.
        lowering.fresh(&format!("{own}.weight"));
        let part = lowering.builder.embedding(&own, part, vocabulary, width)?;
        lowering.params.extend_from_slice(&table.numbers());
        let source = lowering.source(super::super::lower::Source::Made(part));
        made.extend((0..width as u32).map(|at| Column::Of(source, at)));
    }
    let axes = ids.axes.iter().copied().chain([Axis::columns(width)]).collect();
    Ok(vec![Value::Laid(Laid { element: table.element, ..ids.with(axes, made) })])
}

fn concat(lowering: &mut Lowering<'_>, op: &Op<'_>) -> Made<Vec<Value>> {
    let values = (0..op.values.len()).map(|n| op.value(n).cloned()).collect::<Result<Vec<_>>>()?;
    let rank = |value: &Value| match value {
        Value::Laid(laid) => laid.axes.len(),
        Value::Constant(constant) => constant.shape.len(),
        Value::Order { .. } => 1,
    };
    let axis = normal_axis(op.attributes(lowering.file).int("axis")?.unwrap_or(1), values.first().map_or(0, rank))?;
    let ranks = values.first().map_or(0, rank);
    if let Some(other) = values.iter().map(rank).find(|&other| other != ranks) {
        return Err(Error::mismatch("inputs", format!("values of {ranks} axes"), other).into());
    }
    // All axes but the one along which they lie side by side.
    let others = values.iter().map(|value| match value {
        Value::Laid(laid) if laid.axes[axis].kind == Kind::Columns => {
            let mut axes = laid.axes.clone();
            axes[axis] = Axis::columns(1);
            Ok(Value::Laid(Laid { axes, ..laid.clone() }))
        }
        Value::Laid(laid) => {
            lowering.want(laid, &[(axis, Kind::Columns)])?;
            Err(refused("values one after the other in time", "networks put columns side by side"))
        }
        Value::Constant(constant) => {
            let mut shape = constant.shape.clone();
            shape[axis] = 1;
            Ok(Value::Constant(constant.taken(shape, std::iter::empty())))
        }
        Value::Order { .. } => Err(super::order_as_numbers().into()),
    });
    let others = others.collect::<Made<Vec<_>>>()?;
    let axes = lowering.together(&others)?;
    let rows = if values.iter().any(|v| matches!(v, Value::Laid(laid) if laid.rows == Rows::Steps)) {
        Rows::Steps
    } else {
        Rows::Sequences
    };
    let (sorted, reversed) = lowering.orders(&values, &axes)?;
    let mut joined: Option<Laid> = None;
    for value in &values {
        let laid = match value {
            Value::Laid(laid) => lowering.in_rows(&op.name, laid, rows)?,
            Value::Constant(constant) => as_columns(lowering, constant, &axes, axis, rows)?,
            Value::Order { .. } => return Err(super::order_as_numbers().into()),
        };
        joined = Some(match joined {
            None => laid,
            Some(before) => side_by_side(&before, &laid, axis),
        });
    }
    let laid = joined.ok_or_else(|| Error::mismatch("inputs", "at least 1", 0))?;
    Ok(vec![Value::Laid(Laid { sorted, reversed, ..laid })])
}

/// A constant as a value of a run: numbers, or what every run is fed.
fn as_columns(lowering: &mut Lowering<'_>, constant: &Constant, axes: &[Axis], along: usize, rows: Rows) -> Made<Laid> {
    let mut axes = axes.to_vec();
    axes[along] = Axis::columns(constant.shape[along]);
    let differs = axes.iter().zip(&constant.shape).any(|(axis, &size)| axis.kind != Kind::Columns && size != 1);
    if differs {
        return Ok(lowering.fixed(constant, &axes, rows)?);
    }
    let columns = constant.numbers().iter().map(|&v| Column::Number(v)).collect();
    Ok(Laid { element: constant.element, axes, columns, rows, sorted: false, reversed: false })
}

/// The columns of two values that differ in one axis alone.
fn side_by_side(a: &Laid, b: &Laid, axis: usize) -> Laid {
    let block = |laid: &Laid| {
        let sizes = laid.axes[axis..].iter().filter(|axis| axis.kind == Kind::Columns);
        sizes.map(|axis| axis.size).product::<usize>().max(1)
    };
    let chunks = a.columns.chunks(block(a)).zip(b.columns.chunks(block(b)));
    let columns = chunks.flat_map(|(a, b)| a.iter().chain(b)).copied().collect();
    // Of two, one may have size 1 where the other counts steps or sequences.
    let wide = |(a, b): (&Axis, &Axis)| if a.size == 1 { *b } else { *a };
    let mut axes: Vec<Axis> = a.axes.iter().zip(&b.axes).map(wide).collect();
    axes[axis] = Axis::columns(a.axes[axis].size + b.axes[axis].size);
    a.with(axes, columns)
}

fn expand(lowering: &mut Lowering<'_>, op: &Op<'_>) -> Made<Vec<Value>> {
    let wanted = op.call(lowering.file, &mut lowering.budget).sizes(1, "shape")?;
    let x = op.laid(0)?;
    let shape = fold::broadcast(&x.shape(), &wanted)?;
    Ok(vec![Value::Laid(grown(lowering, x, &shape)?)])
}

/// Repeated to a shape: columns alone, for a run's steps and sequences are what they are.
fn grown(lowering: &mut Lowering<'_>, x: &Laid, shape: &[usize]) -> Made<Laid> {
    let front = std::iter::repeat_n(Axis::columns(1), shape.len().saturating_sub(x.axes.len()));
    let x = x.with(front.chain(x.axes.iter().copied()).collect(), x.columns.clone());
    lowering.budget.take(shape)?;
    Ok(x.repeated(shape))
}

fn tile(lowering: &mut Lowering<'_>, op: &Op<'_>) -> Made<Vec<Value>> {
    let repeats = op.call(lowering.file, &mut lowering.budget).sizes(1, "repeats")?;
    let mut x = op.laid(0)?.clone();
    if repeats.len() != x.axes.len() {
        return Err(Error::mismatch("repeats", format!("{} numbers", x.axes.len()), repeats.len()).into());
    }
    for (axis, &times) in repeats.iter().enumerate().filter(|(_, times)| **times != 1) {
        let Axis { size, kind, .. } = x.axes[axis];
        if kind != Kind::Columns {
            lowering.want(&x, &[(axis, Kind::Columns)])?;
        }
        lowering.budget.take(&[size, times, x.columns.len()])?;
        let places: Vec<usize> = (0..times).flat_map(|_| 0..size).collect();
        x = x.picked(axis, &places);
    }
    Ok(vec![Value::Laid(x)])
}

/// Numbers before and behind columns, or columns of the axis itself. Steps of zeros are a convolution's own business ([`super::convolution`]).
fn pad(lowering: &mut Lowering<'_>, op: &Op<'_>) -> Made<Vec<Value>> {
    let x = op.laid(0)?.clone();
    let attributes = op.attributes(lowering.file);
    let mode = attributes.text("mode")?.unwrap_or_else(|| "constant".into());
    if !["constant", "reflect", "edge", "wrap"].contains(&&*mode) {
        return Err(refused(format!("the mode {} of Pad", shortened(&mode)), "ONNX has no such mode"));
    }
    let call = op.call(lowering.file, &mut lowering.budget);
    let pads = call.list(1, "pads")?.unwrap_or_default();
    let value = match call.optional(2) {
        Some(value) => value.numbers().first().copied().unwrap_or(0.0),
        None => call.attributes.float("value")?.unwrap_or(0.0),
    };
    let all: Vec<i64> = match call.optional(3) {
        Some(axes) => axes.integers("axes")?.to_vec(),
        None => (0..x.axes.len() as i64).collect(),
    };
    if pads.len() != 2 * all.len() {
        return Err(Error::mismatch("pads", format!("{} numbers", 2 * all.len()), pads.len()).into());
    }
    let mut x = x;
    for (n, &axis) in all.iter().enumerate() {
        let axis = normal_axis(axis, x.axes.len())?;
        if mode != "constant" {
            x = mirrored(lowering, &x, axis, [pads[n], pads[n + all.len()]], &mode)?;
            continue;
        }
        for (count, before) in [(pads[n], true), (pads[n + all.len()], false)] {
            if count == 0 {
                continue;
            }
            let count = usize::try_from(count).map_err(|_| Error::mismatch("pads", "numbers from 0", count))?;
            if x.axes[axis].kind != Kind::Columns {
                lowering.want(&x, &[(axis, Kind::Columns)])?;
            }
            lowering.budget.take(&[x.columns.len(), count])?;
            let rest: usize = x.columns.len() / x.axes[axis].size.max(1);
            let mut axes = x.axes.clone();
            axes[axis] = Axis::columns(count);
            let filled = x.with(axes, vec![Column::Number(value); rest * count]);
            x = if before { side_by_side(&filled, &x, axis) } else { side_by_side(&x, &filled, axis) };
        }
    }
    Ok(vec![Value::Laid(x)])
}

/// Columns before and behind that are columns of the axis itself: in reverse order without its end, the last again, from the other end.
fn mirrored(lowering: &mut Lowering<'_>, x: &Laid, axis: usize, pads: [i64; 2], mode: &str) -> Made<Laid> {
    if pads == [0, 0] {
        return Ok(x.clone());
    }
    let size = x.axes[axis].size;
    let most = match mode {
        "reflect" => size - 1,
        "wrap" => size,
        _ => usize::MAX,
    };
    let count = |n: i64| usize::try_from(n).ok().filter(|n| *n <= most);
    let [Some(before), Some(behind)] = pads.map(count) else {
        let expected = format!("numbers of 0 to {most}, in mode {mode} over an axis of {size}");
        return Err(Error::mismatch("pads", expected, format!("{pads:?}")).into());
    };
    if x.axes[axis].kind != Kind::Columns {
        lowering.want(x, &[(axis, Kind::Columns)])?;
    }
    lowering.budget.take(&[x.columns.len() / size.max(1), before.saturating_add(behind).saturating_add(size)])?;
    let place = |n: usize| match (n.checked_sub(before), mode) {
        (Some(at), _) if at < size => at,
        (Some(at), "reflect") => 2 * (size - 1) - at,
        (Some(at), "wrap") => at - size,
        (Some(_), _) => size - 1,
        (None, "reflect") => before - n,
        (None, "wrap") => size + n - before,
        (None, _) => 0,
    };
    Ok(x.picked(axis, &(0..before + size + behind).map(place).collect::<Vec<_>>()))
}
