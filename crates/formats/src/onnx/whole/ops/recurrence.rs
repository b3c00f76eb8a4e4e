//! `LinearAttention` and `CausalConvWithState` (opset 27): a linear recurrence, and a convolution over time, with their states.

use super::super::super::constant::Constant;
use super::super::super::node::attributes;
use super::super::super::recurrence::{FIRST_OPSET, Heads, Recurrence, RecurrenceOp, Shapes, VALUES};
use super::super::axes::Made;
use super::super::lower::{Begin, Lowering, Source};
use super::super::node::Op;
use super::super::stack::{Readable, StatePlaces};
use super::super::value::{Axis, Column, Kind, Laid, Value};
use super::{Row, refused, row};
use wgpu_rnn::network::{Part, Rows};
use wgpu_rnn::{Error, Result};

pub(super) const ROWS: [Row; 2] = [row("LinearAttention", 6, attention), row("CausalConvWithState", 4, convolution)];

/// The operator with its attributes, of a model whose opset has it.
fn operator(lowering: &Lowering<'_>, op: &Op<'_>) -> Result<Recurrence> {
    let kind = RecurrenceOp::by_name(&op.kind).unwrap_or(RecurrenceOp::LinearAttention);
    if lowering.file.opset < FIRST_OPSET {
        let reason = format!("ONNX has the operator since opset {FIRST_OPSET}");
        return Err(Error::Unsupported { what: format!("opset {}", lowering.file.opset), reason });
    }
    Recurrence::new(kind, &attributes(op.node).collect::<Result<Vec<_>>>()?)
}

/// The shapes of the inputs.
fn shapes(op: &Op<'_>) -> Vec<Option<Vec<usize>>> {
    let shape = |value: &Option<Value>| match value {
        Some(Value::Laid(laid)) => Some(laid.shape()),
        Some(Value::Constant(constant)) => Some(constant.shape.clone()),
        _ => None,
    };
    op.values.iter().map(shape).collect()
}

fn attention(lowering: &mut Lowering<'_>, op: &Op<'_>) -> Made<Vec<Value>> {
    let Recurrence::LinearAttention(attention) = operator(lowering, op)? else {
        return Err(Error::mismatch("operator", "LinearAttention", &op.kind).into());
    };
    let shapes = shapes(op);
    let given: Vec<Option<&[usize]>> = shapes.iter().map(Option::as_deref).collect();
    let (_, heads) = attention.heads(&Shapes::new(RecurrenceOp::LinearAttention, &given)?)?;
    let wanted = [(0, Kind::Batch), (1, Kind::Time), (2, Kind::Columns)];
    let query = op.laid(0)?.clone();
    let values: Vec<Value> = VALUES.iter().filter_map(|&n| op.values.get(n).cloned().flatten()).collect();
    for value in &values {
        if let Value::Laid(laid) = value {
            lowering.want(laid, &wanted)?;
        }
    }
    let (sorted, reversed) = lowering.orders(&values, &query.axes)?;
    if reversed {
        return Err(refused("steps in reverse order", "the operator goes over steps as they come"));
    }
    let mut parts: Vec<(usize, Part)> = Vec::new();
    for &n in &VALUES {
        let laid = match op.values.get(n).and_then(Option::as_ref) {
            None => continue,
            Some(Value::Laid(laid)) => lowering.in_rows(&op.name, laid, Rows::Steps)?,
            Some(Value::Constant(constant)) => {
                let mut axes = query.axes.clone();
                axes[2] = Axis::columns(constant.shape[2]);
                lowering.fixed(constant, &axes, Rows::Steps)?
            }
            Some(Value::Order { .. }) => return Err(super::order_as_numbers().into()),
        };
        parts.push((n, lowering.dense(&op.name, &laid)?));
    }
    let past = past(lowering, op, Heads::PAST, sorted)?.map(|columns| heads.state(&columns));
    let names = [lowering.fresh(&op.name), lowering.fresh(&format!("{}.scaled", op.name))];
    let y = attention.add(&mut lowering.builder, &names, &parts, &heads)?;
    let mut axes = query.axes.clone();
    axes[2] = Axis::columns(y.width);
    let laid = lowering.laid(y, axes, &Laid { rows: Rows::Steps, ..query.clone() });
    let places = heads.present(&(0..heads.size()).collect::<Vec<_>>());
    let state = carried(lowering, op, y, heads.size(), past);
    let [_, shape] = heads.outputs(lowering.shape);
    Ok(vec![Value::Laid(laid), present(lowering, &query, state, &places, query.axes[0], &shape[1..])])
}

fn convolution(lowering: &mut Lowering<'_>, op: &Op<'_>) -> Made<Vec<Value>> {
    let Recurrence::CausalConvWithState(convolution) = operator(lowering, op)? else {
        return Err(Error::mismatch("operator", "CausalConvWithState", &op.kind).into());
    };
    let shapes = shapes(op);
    let given: Vec<Option<&[usize]>> = shapes.iter().map(Option::as_deref).collect();
    let (_, [channels, taps]) = convolution.sizes(&Shapes::new(RecurrenceOp::CausalConvWithState, &given)?)?;
    let x = op.laid(0)?.clone();
    lowering.want(&x, &[(0, Kind::Batch), (1, Kind::Columns), (2, Kind::Time)])?;
    if x.reversed {
        return Err(refused("steps in reverse order", "the operator goes over steps as they come"));
    }
    let constant = |n: usize, what: &str| {
        let constant = op.constant(n).ok_or_else(|| Error::mismatch(what, "a constant", "a value of a run"))?;
        Ok::<_, Error>(constant.numbers().into_owned())
    };
    let weight = constant(1, "weight")?;
    let bias = op.values.get(2).is_some_and(Option::is_some).then(|| constant(2, "bias")).transpose()?;
    let past = past(lowering, op, 3, x.sorted)?;
    // [C, k - 1] there, [k - 1, C] in the network.
    let turned = |n: usize| n % channels * (taps - 1) + n / channels;
    let past = past.map(|columns| (0..columns.len()).map(|n| columns[turned(n)]).collect());
    let own = lowering.in_rows(&op.name, &x, Rows::Steps)?;
    let part = lowering.dense(&op.name, &own)?;
    let weight = lowering.param(&format!("{}.weight", op.name), &[channels, 1, taps], &weight)?;
    let bias = bias.map(|bias| lowering.param(&format!("{}.bias", op.name), &[channels], &bias)).transpose()?;
    let names = [lowering.fresh(&op.name), lowering.fresh(&format!("{}.activation", op.name))];
    let y = convolution.add(&mut lowering.builder, &names, part, (weight, bias), taps)?;
    let laid = lowering.laid(y, x.axes.clone(), &own);
    let size = channels * (taps - 1);
    if size == 0 {
        // One tap carries nothing.
        let shape = vec![lowering.shape.batch, channels, 0];
        return Ok(vec![
            Value::Laid(laid),
            Value::Constant(Constant::from_reals("present_state", shape, x.element, vec![])?),
        ]);
    }
    let mut places = vec![0; size];
    (0..size).for_each(|n| places[turned(n)] = n);
    let state = carried(lowering, op, y, size, past);
    Ok(vec![Value::Laid(laid), present(lowering, &x, state, &places, x.axes[0], &[channels, taps - 1])])
}

/// The columns of a state that is given; `None`: zeros.
fn past(lowering: &mut Lowering<'_>, op: &Op<'_>, n: usize, sorted: bool) -> Made<Option<Vec<Column>>> {
    match op.values.get(n).and_then(Option::as_ref) {
        None => Ok(None),
        Some(Value::Constant(constant)) if constant.is_zero() => Ok(None),
        Some(Value::Constant(constant)) => {
            let axes = |n: usize| {
                let kind = if n == 0 && constant.shape[n] > 1 { Kind::Batch } else { Kind::Columns };
                Axis { size: constant.shape[n], kind, from: None }
            };
            let axes: Vec<Axis> = (0..constant.shape.len()).map(axes).collect();
            let rows = lowering.rows_of(&axes);
            Ok(Some(lowering.fixed(constant, &axes, rows)?.columns))
        }
        Some(Value::Laid(laid)) => {
            let kind = |n: usize| (n, if n == 0 { Kind::Batch } else { Kind::Columns });
            lowering.want(laid, &(0..laid.axes.len()).map(kind).collect::<Vec<_>>())?;
            if laid.sorted != sorted {
                return Err(refused("past_state in another order of sequences", "a state belongs to its sequence"));
            }
            lowering.given_columns("past_state", laid).map(Some)
        }
        Some(Value::Order { .. }) => Err(super::order_as_numbers().into()),
    }
}

/// Notes a state of the operation that was added last.
fn carried(lowering: &mut Lowering<'_>, op: &Op<'_>, y: Part, size: usize, columns: Option<Vec<Column>>) -> u32 {
    let state = lowering.states.len();
    lowering.states.push(Begin { size, columns });
    if op.node.output.get(1).is_some_and(|name| !name.is_empty()) {
        // Past a sequence's end the operator goes on.
        lowering.over_all_steps.get_or_insert_with(|| op.name.clone());
    }
    lowering.source(Source::State(StatePlaces::whole(state), Readable::Nothing(y)))
}

/// A state behind the run, `[B, ..]`: for each of its columns which value of the network's state it is.
fn present(lowering: &Lowering<'_>, like: &Laid, source: u32, places: &[usize], batch: Axis, sizes: &[usize]) -> Value {
    let axes: Vec<Axis> =
        [Axis { from: None, ..batch }].into_iter().chain(sizes.iter().map(|&n| Axis::columns(n))).collect();
    let columns = places.iter().map(|&at| Column::Of(source, at as u32)).collect();
    let rows = lowering.rows_of(&axes);
    Value::Laid(Laid { rows, ..like.with(axes, columns) })
}
