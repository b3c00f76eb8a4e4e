//! LSTM, GRU and RNN: layers of the network.

use super::super::super::constant::Constant;
use super::super::super::fold::broadcast;
use super::super::super::graph::MICROSOFT;
use super::super::super::node::NodeTensors;
use super::super::super::operator::{OnnxOp, Operator};
use super::super::super::order::{Order, Parameters};
use super::super::super::{OnnxLabel, OnnxNode, Source as Given, quantised};
use super::super::axes::Made;
use super::super::lower::{Lowering, Source};
use super::super::node::Op;
use super::super::stack::Layer;
use super::super::value::{Axis, Column, Kind, Laid, Value};
use super::{Row, refused, row};
use wgpu_rnn::{Direction, Error, Layout, Result};

pub(super) const ROWS: [Row; 4] = [
    row("LSTM", 7, recurrent),
    row("GRU", 6, recurrent),
    row("RNN", 6, recurrent),
    row("com.microsoft.DynamicQuantizeLSTM", 7, recurrent),
];

fn recurrent(lowering: &mut Lowering<'_>, op: &Op<'_>) -> Made<Vec<Value>> {
    let kind = OnnxOp::by_name(&op.node.op_type).unwrap_or(OnnxOp::Lstm);
    let operator = Operator::of_node(kind, op.node)?;
    let x = op.laid(0)?.clone();
    if x.axes.len() != 3 {
        return Err(Error::mismatch("X", "three axes", x.axes_in_words()).into());
    }
    let (time, batch) = if operator.batch_first { (1, 0) } else { (0, 1) };
    lowering.want(&x, &[(time, Kind::Time), (batch, Kind::Batch), (2, Kind::Columns)])?;
    let mut layer =
        OnnxNode::new(OnnxLabel { name: op.name.clone(), op: kind }, &operator, Order::onnx(kind), tensors(op)?)?;
    layer.config.layout = Layout::TimeMajor;
    // Over steps in reverse order forward is backward, and y is in that order.
    layer.config.direction = match (x.reversed, layer.config.direction) {
        (true, Direction::Forward) => Direction::Reverse,
        (true, Direction::Reverse) => Direction::Forward,
        (true, Direction::Bidirectional) => {
            return Err(refused("both directions over steps in reverse order", "one direction alone is turned"));
        }
        (false, direction) => direction,
    };
    let config = layer.config;
    if lowering.facts.without_steps {
        return nothing(lowering, &x, (kind, operator.batch_first), [config.directions(), config.hidden_size]);
    }
    lengths(lowering, op, &x)?;
    let (d, h) = (config.directions(), config.hidden_size);
    let mut begin = [None, None];
    for (n, begin) in begin.iter_mut().enumerate().take(if kind == OnnxOp::Lstm { 2 } else { 1 }) {
        *begin = state(lowering, op, n + 5, [d, h], batch, &x)?;
    }
    let [y, whole] = lowering.layer(&x, config, layer.weights, Layer::new(&op.name, begin))?;
    let (of_y, of_state) = axes(lowering, operator.batch_first, [d, h]);
    let all = |source: u32, first: usize| (first..first + d * h).map(|at| Column::Of(source, at as u32)).collect();
    let rows = lowering.rows_of(&of_state);
    let of = |columns: Vec<Column>| Value::Laid(Laid { rows, ..x.with(of_state.clone(), columns) });
    let mut made = vec![Value::Laid(x.with(of_y, all(y, 0))), of(all(whole, 0))];
    if kind == OnnxOp::Lstm {
        made.push(of(all(whole, d * h)));
    }
    Ok(made)
}

/// The axes of y and of a state.
fn axes(lowering: &Lowering<'_>, batch_first: bool, [d, h]: [usize; 2]) -> (Vec<Axis>, Vec<Axis>) {
    let count = |size: usize, kind: Kind| if size == 1 { Axis::columns(1) } else { Axis { size, kind, from: None } };
    let (t, b) = (count(lowering.shape.time, Kind::Time), count(lowering.shape.batch, Kind::Batch));
    let (d, h) = (Axis::columns(d), Axis::columns(h));
    match batch_first {
        false => (vec![t, d, b, h], vec![d, b, h]),
        true => (vec![b, t, d, h], vec![b, d, h]),
    }
}

/// What a node gives for sequences without steps: zeros, which every run is fed.
fn nothing(
    lowering: &mut Lowering<'_>,
    x: &Laid,
    (kind, batch_first): (OnnxOp, bool),
    sizes: [usize; 2],
) -> Made<Vec<Value>> {
    let zero = Constant::from_reals("nothing", vec![], x.element, vec![0.0])?;
    let (of_y, of_state) = axes(lowering, batch_first, sizes);
    let mut made = Vec::new();
    for axes in [Some(&of_y), Some(&of_state), Some(&of_state).filter(|_| kind == OnnxOp::Lstm)].into_iter().flatten() {
        let rows = lowering.rows_of(axes);
        let laid = lowering.fixed(&zero, axes, rows)?;
        made.push(Value::Laid(Laid { sorted: x.sorted, reversed: x.reversed, ..laid }));
    }
    Ok(made)
}

/// W, R, B and P, which are constants.
fn tensors(op: &Op<'_>) -> Result<NodeTensors> {
    let constant = |n: usize, what: &str| {
        let constant = op.constant(n).cloned();
        constant.ok_or_else(|| Error::mismatch(what, "a constant, or what nodes make of constants", "a value of a run"))
    };
    let optional = |n: usize, what: &str| {
        let there = op.values.get(n).is_some_and(Option::is_some);
        there.then(|| constant(n, what)).transpose()
    };
    let (w, r) = if op.kind.starts_with(MICROSOFT) {
        let (w_zero, r_zero) = (optional(9, "W_zero_point")?, optional(11, "R_zero_point")?);
        let w = quantised::matrix("W", &constant(1, "W")?, &constant(8, "W_scale")?, w_zero.as_ref())?;
        (w, quantised::matrix("R", &constant(2, "R")?, &constant(10, "R_scale")?, r_zero.as_ref())?)
    } else {
        (constant(1, "W")?, constant(2, "R")?)
    };
    let parameters = Parameters { w, r, b: optional(3, "B")?, p: optional(7, "P")? };
    Ok(NodeTensors { parameters, lengths: Given::Absent, h0: Given::Absent, c0: Given::Absent })
}

/// Notes whose lengths the sequences have, which must be the same for all nodes.
fn lengths(lowering: &mut Lowering<'_>, op: &Op<'_>, x: &Laid) -> Made<()> {
    let whole = |constant: &Constant| constant.numbers().iter().all(|&n| n == lowering.shape.time as f64);
    let own = match op.values.get(4).and_then(Option::as_ref) {
        None => None,
        Some(Value::Constant(constant)) if whole(constant) => None,
        Some(Value::Laid(laid)) => {
            let input = match laid.columns[..] {
                [Column::Of(source, 0)] => match &lowering.sources[source as usize] {
                    Source::Input(n) if lowering.inputs[*n].axes.len() == 1 => Some(*n),
                    _ => None,
                },
                _ => None,
            };
            if laid.axes.len() == 1 && laid.axes[0].size != 1 {
                lowering.want(laid, &[(0, Kind::Batch)])?;
            }
            let Some(input) = input.filter(|_| laid.sorted == x.sorted) else {
                return Err(refused("sequence_lens that nodes make", "networks take lengths as they are given"));
            };
            Some(input)
        }
        Some(_) => return Err(refused("these sequence_lens", "networks take lengths as they are given")),
    };
    match lowering.lengths {
        None => lowering.lengths = Some(own),
        Some(before) if before == own => {}
        Some(_) => {
            return Err(refused(
                "nodes with other lengths",
                "a network has one length of a sequence, for all of its layers",
            ));
        }
    }
    Ok(())
}

/// An initial state, a column for each unit of each direction; `None`: zeros.
fn state(
    lowering: &mut Lowering<'_>,
    op: &Op<'_>,
    n: usize,
    [d, h]: [usize; 2],
    batch: usize,
    x: &Laid,
) -> Made<Option<Vec<Column>>> {
    let what = if n == 5 { "initial_h" } else { "initial_c" };
    let mut shape = vec![d, d, h];
    shape[batch] = lowering.shape.batch;
    match op.values.get(n).and_then(Option::as_ref) {
        None => Ok(None),
        Some(Value::Constant(constant)) if constant.is_zero() => Ok(None),
        Some(Value::Constant(constant)) => {
            // One that the model was traced with fits its batch alone, if its sequences differ.
            if broadcast(&constant.shape, &shape).is_ok_and(|both| both == shape) {
                let kind = |n: usize| if n == batch && shape[n] > 1 { Kind::Batch } else { Kind::Columns };
                let axes: Vec<Axis> = (0..3).map(|n| Axis { size: shape[n], kind: kind(n), from: None }).collect();
                let rows = lowering.rows_of(&axes);
                return Ok(Some(lowering.fixed(constant, &axes, rows)?.columns));
            }
            let expected = format!("[D, B, H] = {shape:?}");
            Err(Error::mismatch(what, expected, format!("{:?}", constant.shape)).into())
        }
        Some(Value::Laid(laid)) => {
            if laid.shape() != shape {
                return Err(Error::mismatch(what, format!("{shape:?}"), laid.axes_in_words()).into());
            }
            let wanted: Vec<(usize, Kind)> =
                (0..3).map(|n| (n, if n == batch { Kind::Batch } else { Kind::Columns })).collect();
            lowering.want(laid, &wanted)?;
            if laid.sorted != x.sorted {
                return Err(refused(
                    format!("{what} in another order of sequences"),
                    "a state belongs to its sequence",
                ));
            }
            lowering.given_columns(what, laid).map(Some)
        }
        Some(Value::Order { .. }) => Err(super::order_as_numbers().into()),
    }
}
