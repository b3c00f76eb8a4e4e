//! Stacks of layers: a recurrent node per layer, and y `[T, D, B, H]` as `[T, B, D·H]` between them.

use crate::onnx::export::network::Lowering;
use crate::onnx::export::node::{Layer, Reads};
use crate::onnx::export::wire::{Size, int, ints, size_of_axis};
use crate::onnx::within;
use wgpu_rnn::network::{LayersShape, Node};
use wgpu_rnn::weights::{LayerWeights, Weights, parameters};
use wgpu_rnn::{Error, InputMode, Result, RnnConfig};

/// The inputs of a stack's states.
///
/// # Errors
/// [`Error::Unsupported`] for states of a stack with a projection.
pub fn declare_states(to: &mut Lowering<'_>, node: &Node, op: &LayersShape) -> Result<()> {
    if op.config.proj_size > 0 {
        let what = format!("given states of a stack with proj_size {} in ONNX", op.config.proj_size);
        let reason = "its LSTM has no projection, and its state has H values that those P do not tell".into();
        return Err(Error::Unsupported { what, reason });
    }
    let numbers = to.to.element();
    for (name, shape) in states(to, node, &op.config, ["h0", "c0"]) {
        to.to.input(&name, numbers, &shape)?;
    }
    Ok(())
}

/// Names and shapes of a stack's states.
fn states(to: &Lowering<'_>, node: &Node, config: &RnnConfig, names: [&str; 2]) -> Vec<(String, [Size; 3])> {
    let (prefix, rows) = (to.prefix(node), config.num_layers * config.directions());
    let widths = [Some(config.state_size()), config.cell.has_cell_state().then_some(config.hidden_size)];
    let named = names.into_iter().zip(widths).filter_map(|(name, width)| Some((name, width?)));
    named.map(|(name, width)| (format!("{prefix}{name}"), [Size::Of(rows), Size::B, Size::Of(width)])).collect()
}

pub fn write(to: &mut Lowering<'_>, node: &Node, op: &LayersShape) -> Result<String> {
    let written = nodes(to, node, op);
    // A stack that is the whole model has no name that its user knows.
    if to.ends.one_stack { written } else { written.map_err(|e| within(&format!("layers {}", node.name), e)) }
}

fn nodes(to: &mut Lowering<'_>, node: &Node, op: &LayersShape) -> Result<String> {
    let weights = weights(to, op);
    let (config, weights) = weights.to_dense(&op.config)?;
    let (d, prefix) = (config.directions(), to.prefix(node));
    let begins = states(to, node, &config, ["h0", "c0"]);
    // Those of a stack alone are outputs anyway.
    let shows = to.export.states || to.ends.one_stack;
    let ends = states(to, node, &config, ["hn", "cn"]);
    for (name, shape) in ends.iter().filter(|_| shows) {
        to.give_state(name, *shape)?;
    }
    let mut x = to.part(op.x)?;
    let mut last: [Vec<String>; 2] = Default::default();
    for (n, own) in weights.layers.chunks(d).enumerate() {
        let name = format!("{prefix}l{n}");
        let (layer, projections) = layer(&config, n, own);
        let layer = Layer::new(layer.0, &layer.1)?;
        let begin: Vec<String> = match to.export.states {
            true => begins.iter().map(|(name, _)| rows(to, name, n * d..(n + 1) * d, config.num_layers)).collect(),
            false => Vec::new(),
        };
        let begin = |which: usize| begin.get(which).map_or("", String::as_str);
        let reads = Reads { x: &x, lengths: to.lengths(), h0: begin(0), c0: begin(1) };
        let mut gives: Vec<String> = ["Y", "Y_h", "Y_c"].map(|output| to.to.name(&format!("{name}.{output}"))).into();
        gives.truncate(if layer.has_cell_state() { 3 } else { 2 });
        let given: Vec<&str> = gives.iter().map(String::as_str).collect();
        layer.add(&mut to.to, &format!("{name}."), &name, reads, &given)?;
        if !projections.is_empty() {
            let shape = [d, config.hidden_size, config.proj_size];
            let projection = to.to.tensor(&format!("{name}.projection"), &shape, &projections)?;
            for given in &mut gives[..2] {
                *given = to.to.call("MatMul", &[given, &projection], &name);
            }
        }
        x = side_by_side(to, &gives[0], d, &name);
        last.iter_mut().zip(gives.drain(1..)).for_each(|(list, state)| list.push(state));
    }
    for ((name, _), parts) in ends.iter().zip(&last).filter(|_| shows) {
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        match parts.as_slice() {
            [one] => to.to.node("Identity", name, &[one], &[name], &[]),
            several => to.to.node("Concat", name, several, &[name], &[int("axis", 0)]),
        }
    }
    Ok(x)
}

/// The stack's parameters.
fn weights(to: &Lowering<'_>, op: &LayersShape) -> Weights<f64> {
    let entries = op.config.num_layers * op.config.directions();
    let mut weights = Weights { layers: vec![LayerWeights::default(); entries], ..Default::default() };
    for (n, p) in parameters(&op.config).into_iter().enumerate() {
        *weights.get_mut(p.place) = to.param_values(op.first + n);
    }
    weights
}

/// Layer `n` alone, without a projection: R·W_p stands in for R. And W_pᵀ of its directions, `[D, H, P]`.
fn layer(config: &RnnConfig, n: usize, own: &[LayerWeights<f64>]) -> ((RnnConfig, Weights<f64>), Vec<f64>) {
    let (h, p) = (config.hidden_size, config.proj_size);
    let input = if n == 0 { config.input } else { InputMode::Linear };
    let one =
        RnnConfig { num_layers: 1, input_size: config.layer_input_size(n), proj_size: 0, input, ..config.clone() };
    let (mut layers, mut projections) = (own.to_vec(), Vec::new());
    for layer in layers.iter_mut().filter(|_| p > 0) {
        let projection = std::mem::take(&mut layer.projection);
        let row = |r: &[f64]| -> Vec<f64> {
            (0..h).map(|column| r.iter().zip(projection.chunks(h)).map(|(r, from)| r * from[column]).sum()).collect()
        };
        layer.r = layer.r.chunks(p).flat_map(row).collect();
        projections.extend((0..h).flat_map(|column| projection.iter().skip(column).step_by(h).copied()));
    }
    ((one, Weights { layers, ..Default::default() }), projections)
}

/// Rows of given states, of all of which there are so many layers.
fn rows(to: &mut Lowering<'_>, name: &str, rows: std::ops::Range<usize>, layers: usize) -> String {
    if layers == 1 {
        return name.to_string();
    }
    let [first, end] = [rows.start, rows.end].map(|n| to.to.integers(&[size_of_axis(n)]));
    to.to.call("Slice", &[name, &first, &end], name)
}

/// `[T, D, B, H]` as `[T, B, D·H]`.
fn side_by_side(to: &mut Lowering<'_>, y: &str, directions: usize, name: &str) -> String {
    if directions == 1 {
        let axis = to.to.integers(&[1]);
        return to.to.call("Squeeze", &[y, &axis], name);
    }
    let turned = to.to.call_with("Transpose", &[y], &[ints("perm", &[0, 2, 1, 3])], name);
    let sizes = to.to.integers(&[0, 0, -1]);
    to.to.call("Reshape", &[&turned, &sizes], name)
}
