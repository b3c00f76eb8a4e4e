//! PyTorch's recorded layers as ONNX nodes: the same numbers. Row blocks are put into ONNX's order here, not by the library.

use super::nodes::gates;
use super::wire::{Stored, Value, graph, model, node, tensor};
use std::path::Path;
use wgpu_rnn::{
    Device, Direction, Initial, Input, Layout, Options, Plan, Precision, RnnConfig, Session, Shape, View, cells,
};
use wgpu_rnn_formats::onnx::{OnnxFile, OnnxNode, OnnxOp};
use wgpu_rnn_verify::{Case, Golden, Layers, tolerance};

/// Where ONNX's row blocks are among PyTorch's: i o f c of i f g o, z r h of r z n.
fn blocks(op: OnnxOp) -> &'static [usize] {
    match op {
        OnnxOp::Rnn => &[0],
        OnnxOp::Lstm => &[0, 3, 1, 2],
        OnnxOp::Gru => &[1, 0, 2],
    }
}

fn operator(config: &RnnConfig) -> OnnxOp {
    match config.cell {
        cell if *cell == cells::LSTM => OnnxOp::Lstm,
        cell if *cell == cells::GRU => OnnxOp::Gru,
        _ => OnnxOp::Rnn,
    }
}

/// Rows in ONNX's order.
fn ordered(op: OnnxOp, values: &[f64]) -> Vec<f64> {
    let block = values.len() / gates(op);
    blocks(op).iter().flat_map(|&n| values[n * block..][..block].to_vec()).collect()
}

/// One layer of the stack as a file's node.
fn layer(layers: &Layers, n: usize) -> OnnxNode {
    let (config, op) = (&layers.config, operator(&layers.config));
    let (d, h) = (config.directions(), config.hidden_size);
    let own = &layers.weights.layers[n * d..][..d];
    let w: Vec<f64> = own.iter().flat_map(|l| ordered(op, &l.w)).collect();
    let r: Vec<f64> = own.iter().flat_map(|l| ordered(op, &l.r)).collect();
    let b: Vec<f64> = own.iter().flat_map(|l| [ordered(op, &l.b_w), ordered(op, &l.b_r)].concat()).collect();
    let (rows, inputs) = (gates(op) * h, config.layer_input_size(n));
    let mut tensors =
        vec![tensor("W", &[d, rows, inputs], Stored::RawF64, &w), tensor("R", &[d, rows, h], Stored::RawF64, &r)];
    let mut names = vec!["X", "W", "R"];
    if !b.is_empty() {
        tensors.push(tensor("B", &[d, 2 * rows], Stored::RawF64, &b));
        names.push("B");
    }
    let direction = if config.direction == Direction::Bidirectional { "bidirectional" } else { "forward" };
    let relu = vec!["Relu"; d];
    let mut attributes = vec![("hidden_size", Value::Int(h as i64)), ("direction", Value::Text(direction))];
    if op == OnnxOp::Gru {
        attributes.push(("linear_before_reset", Value::Int(1)));
    }
    if *config.cell == cells::RNN_RELU {
        attributes.push(("activations", Value::Texts(&relu)));
    }
    if config.layout == Layout::BatchFirst {
        attributes.push(("layout", Value::Int(1)));
    }
    let node = node(op.name(), "n", &names, &["Y", "Y_h"], &attributes);
    OnnxFile::from_bytes("m.onnx", model(22, &graph(&[node], &tensors, &["X"]))).unwrap().only_node().unwrap()
}

/// y of the last layer, hn and cn of all, in f64.
fn run(layers: &Layers) -> [Vec<f64>; 3] {
    let (config, Shape { time, batch }) = (&layers.config, layers.shape);
    let (d, h) = (config.directions(), config.hidden_size);
    let options = Options { precision: Precision::F64, ..Default::default() };
    let (mut y, mut hn, mut cn) = (layers.x.data.clone(), Vec::new(), Vec::new());
    for n in 0..config.num_layers {
        let node = layer(layers, n);
        let plan = Plan::new(&node.config, layers.shape, &Device::cpu().caps(), &options).unwrap();
        let mut session = Session::<f64>::from_plan(&Device::cpu(), plan, &node.weights).unwrap();
        let (outer, inner) = if config.layout == Layout::BatchFirst { (batch, time) } else { (time, batch) };
        let (x_shape, state_shape) = ([outer, inner, config.layer_input_size(n)], [d, batch, h]);
        let own = |all: &Option<wgpu_rnn::Tensor<f64>>| {
            all.as_ref().map(|t| t.data[n * d * batch * h..][..d * batch * h].to_vec())
        };
        let (h0, c0) = (own(&layers.h0), own(&layers.c0));
        let [h0, c0] = [&h0, &c0].map(|state| state.as_ref().map(|s| View::new(s, &state_shape)));
        let initial = Initial::Given { h0, c0 };
        let out = session
            .forward(&Input { lengths: layers.lengths.as_deref(), initial, ..Input::new(View::new(&y, &x_shape)) })
            .unwrap();
        y = out.y.data;
        hn.extend(out.hn.data);
        cn.extend(out.cn.map_or(Vec::new(), |cn| cn.data));
    }
    [y, hn, cn]
}

/// Every layer case without a projection, which ONNX has not; stacks layer by layer.
#[test]
fn the_recorded_layers_are_the_same_as_nodes() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/torch_golden");
    let mut checked = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "safetensors") {
            continue;
        }
        let golden = Golden::open(&path).unwrap();
        let Case::Layers(layers) = &golden.case else { continue };
        if layers.config.proj_size > 0 {
            continue;
        }
        let got = run(layers);
        for (name, got) in ["out.y", "out.hn", "out.cn"].into_iter().zip(&got).filter(|(_, got)| !got.is_empty()) {
            let Some(truth) = golden.truths.iter().find(|truth| truth.name == name) else { panic!("{name}") };
            let error = tolerance::error(got, &truth.tensor.data);
            let bound = tolerance::bound_f64(truth.scale);
            assert!(error <= bound, "{}: {name}: {error:e} > {bound:e}", golden.name);
        }
        checked += 1;
    }
    assert_eq!(checked, 24);
}
