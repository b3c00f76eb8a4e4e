//! Sums, means and largest values: over columns, or over the steps of a sequence; and what is made of those.

use super::super::super::fold::{Reduced, normal_axis};
use super::super::axes::Made;
use super::super::lower::Lowering;
use super::super::node::Op;
use super::super::value::{Axis, Column, Kind, Laid, Value};
use super::{Row, refused, row};
use wgpu_rnn::expr::{Expr, exp, hold, log, max, sqrt};
use wgpu_rnn::network::{Part, Pooling, Rows};
use wgpu_rnn::{Error, Result};

pub(super) const ROWS: [Row; 9] = [
    row("ReduceSum", 1, reduce),
    row("ReduceMean", 1, reduce),
    row("ReduceMax", 1, reduce),
    row("ReduceMin", 1, reduce),
    row("ReduceL2", 1, reduce),
    row("GlobalAveragePool", 1, global),
    row("GlobalMaxPool", 1, global),
    row("Softmax", 1, softmax),
    row("LogSoftmax", 1, softmax),
];

/// What becomes of many.
#[derive(Clone, Copy, PartialEq)]
enum Of {
    Sum,
    Mean,
    Max,
}

/// Columns of a value in groups, side by side: each group's columns are neighbours.
struct Groups {
    part: Part,
    count: usize,
    /// Columns of a group.
    width: usize,
}

/// The columns with some axes innermost, as one part.
fn groups(lowering: &mut Lowering<'_>, name: &str, x: &Laid, inner: &[usize]) -> Made<Groups> {
    let order: Vec<usize> = (0..x.axes.len()).filter(|n| !inner.contains(n)).chain(inner.iter().copied()).collect();
    let part = lowering.dense(name, &x.transposed(&order))?;
    let width = inner.iter().map(|&n| x.axes[n].size).product();
    Ok(Groups { part, count: part.width / width, width })
}

/// The largest column of each group, by halves.
fn largest(lowering: &mut Lowering<'_>, name: &str, Groups { part, count, width }: &Groups) -> Made<Part> {
    let (mut part, mut width) = (*part, *width);
    while width > 1 {
        // The halves of an odd number share a column.
        let half = width.div_ceil(2);
        let source = lowering.source(super::super::lower::Source::Made(part));
        let from = |first: usize| {
            let of = move |g: usize| (0..half).map(move |n| Column::Of(source, (g * width + first + n) as u32));
            (0..*count).flat_map(of).collect::<Vec<_>>()
        };
        let (a, b) = (from(0), from(width - half));
        let operands = [lowering.operand(name, &a)?, lowering.operand(name, &b)?];
        let own = lowering.fresh(&format!("{name}.largest"));
        part = lowering.builder.map(&own, max(Expr::input(0), Expr::input(1)), &operands)?;
        width = half;
    }
    Ok(part)
}

fn over_columns(lowering: &mut Lowering<'_>, name: &str, x: &Laid, axes: &[usize], of: Of) -> Made<Laid> {
    let all = groups(lowering, name, x, axes)?;
    let part = match of {
        Of::Max => largest(lowering, name, &all)?,
        Of::Sum | Of::Mean => {
            let own = lowering.fresh(&format!("{name}.sum"));
            let sum = lowering.builder.sum(&own, all.part, all.count)?;
            if of == Of::Sum {
                sum
            } else {
                let own = lowering.fresh(name);
                lowering.builder.map(&own, Expr::input(0) * Expr::from(1.0 / all.width as f64), &[sum.into()])?
            }
        }
    };
    let mut left = x.axes.clone();
    axes.iter().for_each(|&n| left[n] = Axis::columns(1));
    Ok(lowering.laid(part, left, x))
}

fn over_time(lowering: &mut Lowering<'_>, name: &str, x: &Laid, axis: usize, of: Of) -> Made<Laid> {
    lowering.over_all_steps.get_or_insert_with(|| name.into());
    let part = lowering.dense(name, x)?;
    let own = lowering.fresh(&format!("{name}.steps"));
    let kind = if of == Of::Max { Pooling::Max } else { Pooling::Mean };
    let mut part = lowering.builder.pool(&own, part, kind)?;
    if of == Of::Sum {
        let own = lowering.fresh(name);
        let steps = x.axes[axis].size as f64;
        part = lowering.builder.map(&own, Expr::input(0) * Expr::from(steps), &[part.into()])?;
    }
    let mut axes = x.axes.clone();
    axes[axis] = Axis::columns(1);
    let made = lowering.laid(part, axes, x);
    Ok(Laid { rows: Rows::Sequences, ..made })
}

fn reduced(lowering: &mut Lowering<'_>, name: &str, x: &Laid, axes: &[usize], of: Of) -> Made<Laid> {
    let kind = |n: &usize| x.axes[*n].kind;
    if let Some(&n) = axes.iter().find(|n| !matches!(kind(n), Kind::Time | Kind::Columns)) {
        lowering.want(x, &[(n, Kind::Columns)])?;
        return Err(refused("one value of all sequences", "networks keep sequences apart"));
    }
    let mut x = x.clone();
    let columns: Vec<usize> = axes.iter().copied().filter(|n| kind(n) == Kind::Columns).collect();
    // Fewer columns first.
    if columns.iter().any(|&n| x.axes[n].size != 1) {
        x = over_columns(lowering, name, &x, &columns, of)?;
    }
    if let Some(&n) = axes.iter().find(|n| kind(n) == Kind::Time) {
        x = over_time(lowering, name, &x, n, of)?;
    }
    Ok(x)
}

fn without(x: &Laid, axes: &[usize]) -> Result<Laid> {
    let shape: Vec<usize> = (0..x.axes.len()).filter(|n| !axes.contains(n)).map(|n| x.axes[n].size).collect();
    x.reshaped(&shape)
}

fn reduce(lowering: &mut Lowering<'_>, op: &Op<'_>) -> Made<Vec<Value>> {
    let x = op.laid(0)?.clone();
    let Reduced { axes, keeps } = Reduced::read(&op.call(lowering.file, &mut lowering.budget), x.axes.len())?;
    let map = |lowering: &mut Lowering<'_>, x: Laid, f: fn(Expr) -> Expr| -> Made<Laid> {
        match lowering.pointwise(&op.name, &[Value::Laid(x)], None, |x| f(x[0].clone()))? {
            Value::Laid(laid) => Ok(laid),
            _ => Err(Error::mismatch("result", "a value of a run", "another").into()),
        }
    };
    let made = match op.kind.as_str() {
        "ReduceSum" => reduced(lowering, &op.name, &x, &axes, Of::Sum)?,
        "ReduceMean" => reduced(lowering, &op.name, &x, &axes, Of::Mean)?,
        "ReduceMax" => reduced(lowering, &op.name, &x, &axes, Of::Max)?,
        "ReduceMin" => {
            let turned = map(lowering, x, |x| -x)?;
            let most = reduced(lowering, &op.name, &turned, &axes, Of::Max)?;
            map(lowering, most, |x| -x)?
        }
        _ => {
            let squares = map(lowering, x, |x| x.clone() * x)?;
            let sum = reduced(lowering, &op.name, &squares, &axes, Of::Sum)?;
            map(lowering, sum, sqrt)?
        }
    };
    Ok(vec![Value::Laid(if keeps { made } else { without(&made, &axes)? })])
}

fn global(lowering: &mut Lowering<'_>, op: &Op<'_>) -> Made<Vec<Value>> {
    let x = op.laid(0)?.clone();
    let axes: Vec<usize> = (2..x.axes.len()).collect();
    let of = if op.kind == "GlobalMaxPool" { Of::Max } else { Of::Mean };
    Ok(vec![Value::Laid(reduced(lowering, &op.name, &x, &axes, of)?)])
}

fn softmax(lowering: &mut Lowering<'_>, op: &Op<'_>) -> Made<Vec<Value>> {
    let x = op.laid(0)?.clone();
    let axis = op.attributes(lowering.file).int("axis")?;
    // Before opset 13 all axes from that one on are one.
    let old = lowering.file.opset < 13;
    let first = normal_axis(axis.unwrap_or(if old { 1 } else { -1 }), x.axes.len())?;
    let axes: Vec<usize> = if old { (first..x.axes.len()).collect() } else { vec![first] };
    let wanted: Vec<(usize, Kind)> = axes.iter().map(|&n| (n, Kind::Columns)).collect();
    lowering.want(&x, &wanted)?;
    let all = groups(lowering, &op.name, &x, &axes)?;
    let most = largest(lowering, &op.name, &all)?;
    let (own, sums) = (lowering.fresh(&format!("{}.exp", op.name)), lowering.fresh(&format!("{}.sum", op.name)));
    let most = wgpu_rnn::network::Operand::from(most).each(all.width);
    let less = Expr::input(0) - hold(Expr::input(1));
    let e = lowering.builder.map(&own, exp(less.clone()), &[all.part.into(), most])?;
    let sum = lowering.builder.sum(&sums, e, all.count)?;
    let sum = wgpu_rnn::network::Operand::from(sum).each(all.width);
    let name = lowering.fresh(&op.name);
    let part = match op.kind.as_str() {
        "Softmax" => lowering.builder.map(&name, Expr::input(0) / Expr::input(1), &[e.into(), sum])?,
        _ => lowering.builder.map(&name, less - log(Expr::input(2)), &[all.part.into(), most, sum])?,
    };
    // Back from innermost.
    let order: Vec<usize> = (0..x.axes.len()).filter(|n| !axes.contains(n)).chain(axes.iter().copied()).collect();
    let turned = order.iter().map(|&n| x.axes[n]).collect();
    let mut back = vec![0; order.len()];
    order.iter().enumerate().for_each(|(at, &n)| back[n] = at);
    Ok(vec![Value::Laid(lowering.laid(part, turned, &x).transposed(&back))])
}
