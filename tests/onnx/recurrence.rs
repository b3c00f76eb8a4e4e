//! LinearAttention and CausalConvWithState: step by step against whole, chunks against steps, nodes in files, and what is refused.

use super::wire::{Stored, Value, graph, model, node, tensor};
use std::path::Path;
use wgpu_rnn::network::{NetworkOptions, Parallel};
use wgpu_rnn::{Device, Element, Error, Precision, Tensor, View};
use wgpu_rnn_formats::onnx::{CausalConv, LinearAttention, OnnxFile, Recurrence, RecurrenceOp, Source, UpdateRule};
use wgpu_rnn_verify::{Case, RecurrentNode, goldens, tolerance};

/// All published cases.
fn nodes() -> Vec<(String, RecurrentNode)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/onnx_recurrence");
    let case = |(name, golden): (String, wgpu_rnn::Result<wgpu_rnn_verify::Golden>)| match golden.expect("a case").case
    {
        Case::Recurrence(node) => (name, node),
        other => panic!("{name}: {other:?}"),
    };
    let nodes: Vec<_> = goldens(folder).expect("cases").into_iter().map(case).collect();
    assert_eq!(nodes.len(), 54);
    nodes
}

fn run<T: Element>(recurrence: &Recurrence, inputs: &[Option<Tensor<T>>], options: &NetworkOptions) -> [Tensor<T>; 2] {
    let views: Vec<Option<View<'_, T>>> = inputs.iter().map(|i| i.as_ref().map(Tensor::view)).collect();
    let shapes: Vec<Option<&[usize]>> = views.iter().map(|v| v.map(|v| v.shape)).collect();
    let network = recurrence.network(&shapes).expect("it fits");
    let outputs = network.run(&Device::cpu(), options, &views).expect("it runs");
    assert_eq!(outputs.each_ref().map(|o| o.shape.clone()), network.output_shapes());
    outputs
}

fn narrow(inputs: &[Option<Tensor<f64>>]) -> Vec<Option<Tensor<f32>>> {
    let narrow = |t: &Tensor<f64>| Tensor { data: t.data.iter().map(|&v| v as f32).collect(), shape: t.shape.clone() };
    inputs.iter().map(|i| i.as_ref().map(narrow)).collect()
}

/// Steps `from..to` along `axis`.
fn cut(tensor: &Tensor<f32>, axis: usize, from: usize, to: usize) -> Tensor<f32> {
    let inner: usize = tensor.shape[axis + 1..].iter().product();
    let rows = tensor.data.chunks(tensor.shape[axis] * inner).flat_map(|c| &c[from * inner..to * inner]);
    let mut shape = tensor.shape.clone();
    shape[axis] = to - from;
    Tensor { data: rows.copied().collect(), shape }
}

#[test]
fn pieces_are_the_whole_bit_for_bit() {
    for (name, node) in nodes() {
        let inputs = narrow(&node.inputs);
        let whole = run(&node.recurrence, &inputs, &NetworkOptions::default());
        // The time axis, where the state comes in, and which inputs have steps.
        let (axis, past, steps): (_, _, &[usize]) = match node.recurrence {
            Recurrence::LinearAttention(_) => (1, 3, &[0, 1, 2, 4, 5]),
            Recurrence::CausalConvWithState(_) => (2, 3, &[0]),
        };
        let time = whole[0].shape[axis];
        let mut piece = inputs.clone();
        for (from, to) in (0..time).map(|t| (t, t + 1)) {
            for &n in steps {
                piece[n] = inputs[n].as_ref().map(|i| cut(i, axis, from, to));
            }
            let [y, state] = run(&node.recurrence, &piece, &NetworkOptions::default());
            assert_eq!(y, cut(&whole[0], axis, from, to), "{name} step {from}");
            piece[past] = Some(state);
        }
        assert_eq!(piece[past].as_ref(), Some(&whole[1]), "{name}");
    }
}

#[test]
fn chunks_are_steps() {
    for (name, node) in nodes() {
        let options = NetworkOptions { precision: Precision::F64, ..Default::default() };
        let steps = run(&node.recurrence, &node.inputs, &options);
        let options = NetworkOptions { parallel: Some(Parallel::Chunked), chunk: Some(3), ..options };
        for (steps, chunks) in steps.iter().zip(run(&node.recurrence, &node.inputs, &options)) {
            let (off, scale) = (tolerance::error(&chunks.data, &steps.data), tolerance::scale(&steps.data));
            assert!(off <= tolerance::bound_f64(scale), "{name}: {off} of {scale}");
        }
    }
}

fn conv_model(opset: i64, domain: Option<&str>) -> Vec<u8> {
    let mut conv = node("CausalConvWithState", "conv", &["x", "w", "", "zeros"], &["y", "s"], &[]);
    if let Some(domain) = domain {
        conv.extend(super::wire::bytes(7, domain.as_bytes()));
    }
    let zeros = node("ConstantOfShape", "", &["shape"], &["zeros"], &[]);
    let attributes = [("q_num_heads", Value::Int(2)), ("kv_num_heads", Value::Int(1)), ("chunk_size", Value::Int(7))];
    let rule = ("update_rule", Value::Text("gated"));
    let attributes = [&attributes[..], &[rule, ("scale", Value::Float(0.0))]].concat();
    let attention = node("LinearAttention", "", &["q", "k", "v", "past", "zeros"], &["o", ""], &attributes);
    let rnn = node("RNN", "rnn", &["x", "W", "R"], &["h"], &[]);
    let weights = [tensor("w", &[2, 1, 2], Stored::RawF16, &[1.0, 2.0, 3.0, 4.0])];
    model(opset, &graph(&[zeros, conv, attention, rnn], &weights, &["x", "q", "k", "v", "past"]))
}

#[test]
fn a_file_lists_networks_beside_layers() {
    let file = OnnxFile::from_bytes("m.onnx", conv_model(27, None)).expect("a model");
    assert_eq!(file.nodes().map(|l| l.name.as_str()).collect::<Vec<_>>(), ["rnn"]);
    let listed: Vec<_> = file.recurrences().map(|l| (l.name.as_str(), l.op)).collect();
    assert_eq!(listed, [("conv", RecurrenceOp::CausalConvWithState), ("o", RecurrenceOp::LinearAttention)]);
    let conv = file.recurrence("s").expect("by its output");
    assert_eq!(conv.recurrence, Recurrence::CausalConvWithState(CausalConv { silu: false }));
    let weight = Tensor { data: vec![1.0, 2.0, 3.0, 4.0], shape: vec![2, 1, 2] };
    let inputs = [Source::Runtime("x".into()), Source::Constant(weight), Source::Absent, Source::Absent];
    assert_eq!((&conv.inputs[..], conv.outputs), (&inputs[..], [Some("y".into()), Some("s".into())]));
    let attention = file.recurrence("o").expect("by its name, which is its output's");
    let (update_rule, scale) = (UpdateRule::Gated, None);
    let expected = LinearAttention { update_rule, q_num_heads: 2, kv_num_heads: 1, scale, chunk_size: Some(7) };
    assert_eq!(attention.recurrence, Recurrence::LinearAttention(expected));
    // Zeros are no state, but they are a decay.
    assert_eq!(
        attention.inputs[3..],
        [Source::Runtime("past".into()), Source::Runtime("zeros".into()), Source::Absent]
    );
    assert_eq!(attention.outputs, [Some("o".into()), None]);
}

#[test]
fn other_opsets_and_domains_are_not_these_operators() {
    let message = |bytes, name| {
        let file = OnnxFile::from_bytes("m.onnx", bytes).expect("a model");
        file.recurrence(name).expect_err("refused").to_string()
    };
    let old = message(conv_model(26, None), "conv");
    assert!(old.starts_with("not supported: m.onnx: CausalConvWithState conv in opset 26: "), "{old}");
    let other = message(conv_model(27, Some("com.microsoft")), "conv");
    assert_eq!(other, "m.onnx: node: expected one named conv, got 0 of LinearAttention o");
}

/// The message that refuses attributes.
fn refused(op: &str, attributes: &[(&str, Value<'_>)]) -> String {
    let bytes = model(27, &graph(&[node(op, "n", &["a", "b", "c"], &["y"], attributes)], &[], &["a", "b", "c"]));
    let file = OnnxFile::from_bytes("m.onnx", bytes).expect("a model");
    let message = file.recurrence("n").expect_err("refused").to_string();
    message.replace(&format!("m.onnx: {op} n: "), "")
}

#[test]
fn attributes_that_do_not_fit_are_refused() {
    let attention = |name, value: Value<'static>| {
        let heads = [("q_num_heads", Value::Int(1)), ("kv_num_heads", Value::Int(1))];
        refused("LinearAttention", &[&heads[..], &[(name, value)]].concat())
    };
    assert_eq!(refused("LinearAttention", &[]), "q_num_heads: expected an attribute, got none");
    assert_eq!(attention("kv_num_heads", Value::Int(0)), "kv_num_heads: expected at least 1, got 0");
    assert_eq!(attention("chunk_size", Value::Int(-1)), "chunk_size: expected at least 1, got -1");
    assert_eq!(attention("scale", Value::Float(f32::INFINITY)), "scale: expected a finite number, got inf");
    assert_eq!(attention("scale", Value::Int(1)), "scale: expected a float, got Int(1)");
    let rule = attention("update_rule", Value::Text("gla"));
    assert_eq!(rule, "update_rule: expected linear, gated, delta or gated_delta, got gla");
    let window = attention("state_window", Value::Int(1));
    assert!(window.starts_with("not supported: attribute state_window: LinearAttention has no such"), "{window}");
    let relu = refused("CausalConvWithState", &[("activation", Value::Text("relu"))]);
    assert_eq!(relu, "activation: expected silu, swish or none, got relu");
    let kind = refused("CausalConvWithState", &[("activation", Value::Int(1))]);
    assert_eq!(kind, "activation: expected a string, got Int(1)");
}

fn attention(update_rule: UpdateRule, q_num_heads: usize, kv_num_heads: usize) -> Recurrence {
    let (scale, chunk_size) = (None, Some(usize::MAX));
    Recurrence::LinearAttention(LinearAttention { update_rule, q_num_heads, kv_num_heads, scale, chunk_size })
}

fn shapes_refused(recurrence: &Recurrence, shapes: &[&[usize]]) -> String {
    let shapes: Vec<Option<&[usize]>> = shapes.iter().map(|s| Some(*s).filter(|s| !s.is_empty())).collect();
    recurrence.network(&shapes).expect_err("refused").to_string()
}

#[test]
fn shapes_of_attention_that_do_not_fit_are_refused() {
    use UpdateRule::{Delta, Gated, GatedDelta, Linear};
    let linear = |shapes: &[&[usize]]| shapes_refused(&attention(Linear, 4, 2), shapes);
    let (q, k, v): ([usize; 3], [usize; 3], [usize; 3]) = ([2, 3, 8], [2, 3, 4], [2, 3, 6]);
    assert_eq!(linear(&[]), "query: expected an input, got none");
    assert_eq!(linear(&[&q, &k, &[]]), "value: expected an input, got none");
    assert_eq!(linear(&[&q[..2], &k, &v]), "query: expected [B, T, H_q·d_k], each at least 1, got [2, 3]");
    assert_eq!(linear(&[&[2, 0, 8], &k, &v]), "query: expected [B, T, H_q·d_k], each at least 1, got [2, 0, 8]");
    assert_eq!(linear(&[&[2, 3, 7], &k, &v]), "query: expected [B, T, a multiple of 4 heads], got 7 columns");
    assert_eq!(linear(&[&q, &[2, 3, 8], &v]), "key: expected [B, T, H_kv·d_k] = [2, 3, 4], got [2, 3, 8]");
    assert_eq!(linear(&[&q, &k, &[2, 3, 5]]), "value: expected [B, T, a multiple of 2 heads], got 5 columns");
    assert_eq!(linear(&[&q, &k, &[1, 3, 6]]), "value: expected [B, T, H_kv·d_v] = [2, 3, 6], got [1, 3, 6]");
    let past = linear(&[&q, &k, &v, &[2, 4, 2, 3]]);
    assert_eq!(past, "past_state: expected [B, H_kv, d_k, d_v] = [2, 2, 2, 3], got [2, 4, 2, 3]");
    let seven: [&[usize]; 7] = [&q, &k, &v, &[], &[], &[], &q];
    assert_eq!(linear(&seven), "inputs: expected at most 6, got 7");
    let none = linear(&[&q, &k, &v, &[], &k]);
    assert_eq!(none, "decay: expected none, for update_rule Linear has none, got one");
    let gated = |shapes: &[&[usize]]| shapes_refused(&attention(Gated, 4, 2), shapes);
    assert_eq!(gated(&[&q, &k, &v]), "decay: expected an input, for update_rule Gated has one, got none");
    let decay = gated(&[&q, &k, &v, &[], &q]);
    assert_eq!(decay, "decay: expected [B, T, H_kv·d_k or H_kv] = [2, 3, 4 or 2], got [2, 3, 8]");
    let beta = shapes_refused(&attention(Delta, 4, 2), &[&q, &k, &v, &[], &[], &[2, 3, 4]]);
    assert_eq!(beta, "beta: expected [B, T, H_kv or 1] = [2, 3, 2 or 1], got [2, 3, 4]");
    let beta = shapes_refused(&attention(GatedDelta, 4, 2), &[&q, &k, &v, &[], &k]);
    assert_eq!(beta, "beta: expected an input, for update_rule GatedDelta has one, got none");
    for (hq, hkv) in [(3, 2), (0, 1), (1, 0), (usize::MAX, 2)] {
        let heads = shapes_refused(&attention(Linear, hq, hkv), &[&q, &k, &v]);
        assert!(heads.starts_with("q_num_heads: expected a multiple of kv_num_heads = "), "{heads}");
    }
}

#[test]
fn absurd_sizes_are_refused_before_anything_is_multiplied() {
    let huge = 1usize << 62;
    let attend = |heads, shapes: [&[usize]; 3]| {
        let (hq, hkv) = heads;
        attention(UpdateRule::Linear, hq, hkv).network(&shapes.map(Some)).expect_err("refused")
    };
    let one = [1, 1, huge];
    assert!(matches!(attend((1, 1), [&one, &one, &one]), Error::Limit { .. }));
    assert!(matches!(attend((huge, 1), [&one, &[1, 1, 1], &one]), Error::Limit { .. }));
    assert!(matches!(attend((huge, huge), [&one, &one, &one]), Error::Limit { .. }));
    let long = [huge, huge, 1];
    assert!(matches!(attend((1, 1), [&long, &long, &long]), Error::Mismatch { .. }));
    let convolve = |x: &[usize], w: &[usize]| {
        let conv = Recurrence::CausalConvWithState(CausalConv { silu: true });
        conv.network(&[Some(x), Some(w)]).expect_err("refused")
    };
    assert!(matches!(convolve(&[1, huge, 1], &[huge, 1, huge]), Error::Limit { .. }));
    assert!(matches!(convolve(&[1, 1, huge], &[1, 1, 2]), Error::Mismatch { .. }));
    // What can be numbered may still be beyond the machine: the plan says so.
    let (x, w): ([usize; 3], [usize; 3]) = ([1 << 20, 1, 1 << 20], [1, 1, 1]);
    let network = Recurrence::CausalConvWithState(CausalConv { silu: false }).network(&[Some(&x), Some(&w)]);
    let error = network.expect("it could be").run::<f32>(&Device::cpu(), &NetworkOptions::default(), &[]);
    assert!(matches!(error, Err(Error::Limit { .. })), "{error:?}");
}

#[test]
fn convolutions_that_do_not_fit_are_refused() {
    let conv = Recurrence::CausalConvWithState(CausalConv { silu: false });
    let message = |shapes: &[&[usize]]| shapes_refused(&conv, shapes);
    let (x, w): ([usize; 3], [usize; 3]) = ([2, 4, 8], [4, 1, 3]);
    assert_eq!(message(&[&x]), "weight: expected an input, got none");
    assert_eq!(message(&[&x, &[4, 2, 3]]), "weight: expected [C, 1, k] = [4, 1, 3], got [4, 2, 3]");
    assert_eq!(message(&[&x, &[4, 1, 0]]), "weight: expected [C, 1, k], each at least 1, got [4, 1, 0]");
    assert_eq!(message(&[&x, &w, &[3]]), "bias: expected [C] = [4], got [3]");
    assert_eq!(message(&[&x, &w, &[], &x]), "past_state: expected [B, C, k - 1] = [2, 4, 2], got [2, 4, 8]");
    // Tensors are held against the shapes that the network was made for.
    let network = conv.network(&[Some(&x), Some(&w)]).expect("it fits");
    let (data, weight) = (vec![0f32; 64], [0f32; 12]);
    let message = |inputs: &[Option<View<'_, f32>>]| {
        network.run(&Device::cpu(), &NetworkOptions::default(), inputs).expect_err("refused").to_string()
    };
    let (whole, weight) = (View::new(&data, &x), View::new(&weight, &w));
    assert_eq!(message(&[Some(whole)]), "weight: expected an input, got none");
    let short = message(&[Some(View::new(&data[..63], &x)), Some(weight)]);
    assert_eq!(short, "input: expected [2, 4, 8] = 64 values, got 63 values");
    let bias = message(&[Some(whole), Some(weight), Some(whole)]);
    assert_eq!(bias, "bias: expected none, as the network was made, got one");
}
