//! Whole models as exporters write them, against what ONNX Runtime recorded.

use super::recorded::{arrays, error, folder};
use super::wire::{Value, floats, graph, integers, model, node, value};
use std::path::Path;
use wgpu_rnn::network::{NetworkInput, NetworkOptions, NetworkPlan, NetworkSession, NetworkUpstream};
use wgpu_rnn::{Device, Element, Tensor, View};
use wgpu_rnn_formats::onnx::{OnnxFile, OnnxNetwork};

/// Runs a recorded model in `T` and gives its largest error.
fn largest_error<T: Element>(folder: &Path, device: &Device) -> f64 {
    let case = folder.display();
    let file = OnnxFile::open(folder.join("model.onnx")).expect("a model");
    let inputs = arrays(folder, "in");
    let shapes: Vec<(&str, &[usize])> = inputs.iter().map(|(name, t)| (name.as_str(), &t.shape[..])).collect();
    let model = file.model(&shapes).unwrap_or_else(|e| panic!("{case}: {e}"));
    println!("{case}: {:?}", model.stages.iter().map(OnnxNetwork::layout).collect::<Vec<_>>());
    let mut session = model.session::<T>(device, &NetworkOptions::default()).expect("a session");
    let given: Vec<(&str, Tensor<T>)> = inputs
        .iter()
        .map(|(name, t)| {
            let data = t.data.iter().map(|&v| T::from_f64(v)).collect();
            (name.as_str(), Tensor { data, shape: t.shape.clone() })
        })
        .collect();
    let views: Vec<_> = given.iter().map(|(name, t)| (*name, t.view())).collect();
    let outputs = session.run(&views).expect("a run");
    let right = arrays(folder, "out");
    assert_eq!(outputs.len(), right.len(), "{case}");
    let of = |output: &wgpu_rnn_formats::onnx::OnnxTensor<T>| {
        let data = output.tensor.data.iter().map(|v| v.to_f64()).collect();
        error(&right[&output.name], &Tensor { data, shape: output.tensor.shape.clone() })
    };
    outputs.iter().map(of).fold(0.0, f64::max)
}

/// Recorded in f32.
const F32: f64 = 1e-5;

/// Models of several operators each, by a script beside them.
const OPERATORS: [&str; 26] = [
    "broadcast",
    "columns",
    "context",
    "convolution",
    "convolution_columns",
    "dequantised",
    "dynamic_quantised",
    "dynamic_quantised_conv",
    "einsum",
    "fewer_steps",
    "lengths",
    "no_steps",
    "opset_9",
    "packed_one",
    "pads",
    "pointwise",
    "products",
    "reversed",
    "seq2seq",
    "softmax",
    "state_in_and_out",
    "steps",
    "tensordot",
    "time_major",
    "tokens",
    "windows_time_major",
];

const CASES: [(&str, f64); 16] = [
    ("exporters/lstm_small_ts", F32),
    ("exporters/lstm_small_dyn", F32),
    ("exporters/gru_small_dyn", F32),
    ("exporters/gru_static_ts", F32),
    ("exporters/lstm2_small_ts", F32),
    ("exporters/lstm2_small_dyn", F32),
    ("exporters/zero_ts", F32),
    ("exporters/packed_ts", F32),
    ("exporters/nofold_ts", F32),
    ("exporters/static_dyn", F32),
    // Recorded in f16.
    ("exporters/fp16", 1e-3),
    // The recorder rounds x and h to 8 bits at every step.
    ("exporters/q", 5e-2),
    ("exporters/rnn_ts", F32),
    ("exporters/rnn_dyn", F32),
    ("exporters/cell_ts", F32),
    ("published/romanizer_encoder", F32),
];

#[test]
fn recorded_models_give_what_was_recorded() {
    let mut wrong = Vec::new();
    for (case, bound) in CASES.into_iter() {
        let result = std::panic::catch_unwind(|| {
            (largest_error::<f32>(&folder(case), &Device::cpu()), largest_error::<f64>(&folder(case), &Device::cpu()))
        });
        match result {
            Ok((single, double)) => {
                println!("{case}: {single:.1e} in f32, {double:.1e} in f64");
                if single.max(double) > bound {
                    wrong.push(format!("{case}: {single} {double}"));
                }
            }
            Err(_) => wrong.push(case.into()),
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn recorded_operators_give_what_was_recorded() {
    for case in OPERATORS {
        // Of the recorder's x in 8 bits.
        let bound = if case.starts_with("dynamic_quantised") { 1e-2 } else { F32 };
        let error = largest_error::<f32>(&folder(&format!("operators/{case}")), &Device::cpu());
        assert!(error < bound, "{case}: {error}");
    }
}

/// The first sequence as recorded, zeros of what recurrent nodes give for the others and what follows from that, whichever come last.
#[test]
fn sequences_without_steps_are_those_of_onnx_runtime() {
    let folder = folder("operators/no_steps");
    let (inputs, right) = (arrays(&folder, "in"), arrays(&folder, "out"));
    let file = OnnxFile::open(folder.join("model.onnx")).expect("a model");
    let shapes: Vec<(&str, &[usize])> = inputs.iter().map(|(name, t)| (name.as_str(), &t.shape[..])).collect();
    let model = file.model(&shapes).expect("a model");
    let mut session = model.session::<f64>(&Device::cpu(), &NetworkOptions::default()).expect("a session");
    // h and c of the LSTM, their tanh and sigmoid; h of the GRU, and it plus 1.
    let of_nothing = [("v2", 0.0), ("v3", 0.0), ("v7", 0.0), ("v8", 0.5), ("v10", 0.0), ("v15", 1.0)];
    for lengths in [[3.0, 0.0, 5.0], [3.0, 0.0, 0.0], [0.0; 3], [3.0, 5.0, 0.0], [3.0, 1.0, 2.0]] {
        let n = Tensor { data: lengths.to_vec(), shape: vec![3] };
        let of = |name: &str| if name == "n" { n.view() } else { inputs[name].view() };
        let given: Vec<_> = inputs.keys().map(|name| (name.as_str(), of(name))).collect();
        let outputs = session.run(&given).expect("a run");
        for (name, value) in of_nothing {
            let got = &outputs.iter().find(|output| output.name == name).expect("an output").tensor;
            for ((b, got), right) in got.data.chunks_exact(3).enumerate().zip(right[name].data.chunks_exact(3)) {
                match lengths[b % 3] {
                    0.0 => assert_eq!(got, [value; 3], "{name} of {lengths:?}"),
                    3.0 => assert!(got.iter().zip(right).all(|(a, b)| (a - b).abs() < 1e-6), "{name} of {lengths:?}"),
                    _ => assert!(got.iter().all(|v| *v != value), "{name} of {lengths:?}"),
                }
            }
        }
    }
}

/// A model that is a network can be trained: gradients of all its parameters.
#[test]
fn a_network_goes_backward() {
    let folder = folder("exporters/lstm2_small_ts");
    let file = OnnxFile::open(folder.join("model.onnx")).expect("a model");
    let model = file.network(&[("x", &[2, 5, 4])]).expect("a network");
    let options = NetworkOptions { train: true, ..Default::default() };
    let device = Device::cpu();
    let plan = NetworkPlan::new(&model.network, model.shape, &device.caps(), &options).expect("a plan");
    let params: Vec<f32> = model.params.iter().map(|&v| v as f32).collect();
    let mut session = NetworkSession::new(&device, plan, &params).expect("a session");
    let feed = model.feed(&[("x", View::new(&[0.5f32; 40], &[2, 5, 4]))]).expect("a feed");
    let values: Vec<_> = feed.values.iter().map(Tensor::view).collect();
    let output = session.forward(&NetworkInput::new(&values)).expect("a run");
    let upstream: Vec<_> = output.values.iter().map(Tensor::view).collect();
    let gradients = session.backward(&NetworkUpstream { values: &upstream, states: None }).expect("gradients");
    assert_eq!(gradients.params.len(), model.network.params.len());
    assert!(gradients.params.iter().all(|gradient| gradient.data.iter().any(|v| *v != 0.0)));
}

#[test]
fn what_stops_a_model_is_named_with_how_far_it_runs() {
    let x = |sizes: &[i64]| value("x", sizes);
    let nodes = [
        node("Tanh", &["x"], &["a"], &[]),
        node("Einsum", &["a", "a"], &["b"], &[("equation", Value::Text("ij,ij->i"))]),
    ];
    let bytes = model(20, &graph(&nodes, &[], &[x(&[2, 3])], &[value("b", &[2, 3])]), &[]);
    let file = OnnxFile::from_bytes("m.onnx", bytes).expect("a model");
    let error = file.model(&[("x", &[2, 3])]).expect_err("no such operator").to_string();
    assert!(error.contains("Einsum b") && error.contains("runs up to a"), "{error}");
    let up_to = file.model_up_to(&[("x", &[2, 3])], &["a"]).expect("as far as it goes");
    let mut session = up_to.session::<f32>(&Device::cpu(), &NetworkOptions::default()).expect("a session");
    let outputs = session.run(&[("x", View::new(&[0.0; 6], &[2, 3]))]).expect("a run");
    assert_eq!((outputs.len(), outputs[0].tensor.data.as_slice()), (1, &[0.0; 6][..]));
    for (shapes, message) in [
        (&[("x", &[2usize, 4][..])][..], "expected [2, 3]"),
        (&[("y", &[2, 3])], "input: expected x, got y"),
        (&[], "expected a shape, got none"),
    ] {
        let error = file.model(shapes).expect_err(message).to_string();
        assert!(error.contains(message), "{error}");
    }
}

/// What it is, the nodes behind h, and what the error says.
type Refused<'a> = (&'a str, Vec<Vec<u8>>, &'a [&'a str]);

/// What networks do not have yet: the node, its operator and how far the model runs.
#[test]
fn attention_and_loops_are_named() {
    let body = graph(
        &[node("Add", &["carried", "h"], &["next"], &[]), node("Identity", &["go"], &["on"], &[])],
        &[],
        &[value("i", &[]), value("go", &[]), value("carried", &[2, 5, 4])],
        &[value("on", &[]), value("next", &[2, 5, 4])],
    );
    let scan = graph(
        &[node("Add", &["row", "row"], &["twice"], &[])],
        &[],
        &[value("row", &[5, 4])],
        &[value("twice", &[5, 4])],
    );
    let turned = [("perm", Value::Ints(&[0, 2, 1]))];
    let attention = vec![
        node("Transpose", &["h"], &["k"], &turned),
        node("MatMul", &["h", "k"], &["scores"], &[]),
        node("Softmax", &["scores"], &["p"], &[("axis", Value::Int(-1))]),
        node("MatMul", &["p", "h"], &["y"], &[]),
    ];
    let cases: [Refused<'_>; 4] = [
        ("two values", attention, &["MatMul scores", "a product of two values of a run", "runs up to h, k"]),
        (
            "a loop",
            vec![node("Loop", &["five", "", "x"], &["y"], &[("body", Value::Graph(body))])],
            &["Loop y", "no loops but those of their recurrent operations", "runs up to x, h"],
        ),
        (
            "a scan",
            vec![node("Scan", &["h"], &["y"], &[("body", Value::Graph(scan)), ("num_scan_inputs", Value::Int(1))])],
            &["Scan y", "no loops but those of their recurrent operations", "runs up to h"],
        ),
        (
            "an operator",
            vec![node("Attention", &["h", "h", "h"], &["y"], &[])],
            &["Attention y", "no attention", "up to h"],
        ),
    ];
    for (what, more, said) in cases {
        // h is a GRU's, so that its second axis counts steps.
        let gru = [("hidden_size", Value::Int(4)), ("linear_before_reset", Value::Int(1))];
        let mut nodes = vec![
            node("Transpose", &["x"], &["xt"], &[("perm", Value::Ints(&[1, 0, 2]))]),
            node("GRU", &["xt", "w", "r"], &["yt"], &gru),
            node("Squeeze", &["yt", "one"], &["ys"], &[]),
            node("Transpose", &["ys"], &["h"], &[("perm", Value::Ints(&[1, 0, 2]))]),
        ];
        nodes.extend(more);
        let constants = [
            floats("w", &[1, 12, 4], &[0.1; 48]),
            floats("r", &[1, 12, 4], &[0.2; 48]),
            integers("one", &[1], &[1]),
            integers("five", &[], &[5]),
        ];
        let bytes = model(20, &graph(&nodes, &constants, &[value("x", &[2, 5, 4])], &[value("y", &[])]), &[]);
        let file = OnnxFile::from_bytes("m.onnx", bytes).expect("a model");
        let error = file.model(&[("x", &[2, 5, 4])]).map(drop).expect_err(what).to_string();
        for part in said {
            assert!(error.contains(part), "{what}: {part} is not in: {error}");
        }
        let up_to = file.model_up_to(&[("x", &[2, 5, 4])], &["h"]).expect("as far as it goes");
        assert_eq!(up_to.stages.len(), 1);
    }
}
