//! `LinearAttention` and `CausalConvWithState` in whole models: ONNX's node tests, and a block of both whose states are carried on.

use super::recorded::error;
use super::wire::{Value, floats, graph, model, node, value};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use wgpu_rnn::network::NetworkOptions;
use wgpu_rnn::{Device, Tensor, View};
use wgpu_rnn_formats::Tensors;
use wgpu_rnn_formats::onnx::OnnxFile;

/// Tensors of a recorded case whose names begin with `kind`, in f64.
fn arrays(file: &Tensors, kind: &str) -> BTreeMap<String, Tensor<f64>> {
    let names = file.names().filter_map(|name| Some((name, name.strip_prefix(kind)?.strip_prefix('.')?)));
    let named = names.map(|(name, short)| {
        let (shape, data) = file.real::<f64>(name).expect("a tensor").expect("numbers");
        (short.to_string(), Tensor { data, shape })
    });
    named.collect()
}

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/onnx_recurrence");
    let entries = std::fs::read_dir(folder).expect("cases").map(|entry| entry.expect("an entry").path());
    let mut cases: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|e| e == "safetensors")).collect();
    cases.sort();
    assert_eq!(cases.len(), 27);
    cases
}

/// What a file gives for inputs, all in f64.
fn run(file: &OnnxFile, inputs: &BTreeMap<String, Tensor<f64>>) -> Vec<(String, Tensor<f64>)> {
    let given: Vec<(&str, &Tensor<f64>)> = inputs.iter().map(|(name, t)| (name.as_str(), t)).collect();
    let shapes: Vec<(&str, &[usize])> = given.iter().map(|(name, t)| (*name, &t.shape[..])).collect();
    let model = file.model(&shapes).expect("a model");
    let mut session = model.session::<f64>(&Device::cpu(), &NetworkOptions::default()).expect("a session");
    let views: Vec<(&str, View<'_, f64>)> = given.iter().map(|(name, t)| (*name, t.view())).collect();
    session.run(&views).expect("a run").into_iter().map(|one| (one.name, one.tensor)).collect()
}

#[test]
fn node_tests_run_whole() {
    let mut largest = (0.0f64, 0.0f64);
    for path in cases() {
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let recorded = Tensors::open(&path).expect("a file");
        let (mut inputs, right) = (arrays(&recorded, "in"), arrays(&recorded, "out"));
        let file = if name.contains("linear_attention") {
            OnnxFile::open(path.with_extension("").join("model.onnx")).expect("a model")
        } else {
            // A weight is a constant in a network.
            let constants: Vec<Vec<u8>> = ["weight", "bias"]
                .into_iter()
                .filter_map(|what| {
                    let tensor = inputs.remove(what)?;
                    let values: Vec<f32> = tensor.data.iter().map(|&v| v as f32).collect();
                    Some(floats(what, &tensor.shape, &values))
                })
                .collect();
            let bias = if constants.len() > 1 { "bias" } else { "" };
            let past = if inputs.contains_key("past_state") { "past_state" } else { "" };
            let silu = name.contains("silu") || name.contains("swish");
            let text = if name.contains("swish") { "swish" } else { "silu" };
            let attributes: Vec<(&str, Value<'_>)> =
                silu.then_some(("activation", Value::Text(text))).into_iter().collect();
            let nodes = [node(
                "CausalConvWithState",
                &["input", "weight", bias, past],
                &["output", "present_state"],
                &attributes,
            )];
            let sizes = |t: &Tensor<f64>| t.shape.iter().map(|&d| d as i64).collect::<Vec<_>>();
            let given: Vec<Vec<u8>> = inputs.iter().map(|(name, t)| value(name, &sizes(t))).collect();
            let outputs = [value("output", &[]), value("present_state", &[])];
            OnnxFile::from_bytes("conv.onnx", model(27, &graph(&nodes, &constants, &given, &outputs), &[]))
                .expect("a model")
        };
        let made = run(&file, &inputs);
        assert_eq!(
            made.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
            ["output", "present_state"],
            "{name}"
        );
        for (output, tensor) in made {
            let off = if tensor.data.is_empty() {
                assert_eq!(tensor.shape, right[&output].shape);
                0.0
            } else {
                error(&right[&output], &tensor)
            };
            // Three were recorded in f16.
            let (worst, bound) = if name.ends_with("fp16") { (&mut largest.1, 2e-3) } else { (&mut largest.0, 2e-6) };
            *worst = worst.max(off);
            assert!(off < bound, "{name} {output}: {off}");
        }
    }
    println!("largest errors: {:.1e} of f32, {:.1e} of f16", largest.0, largest.1);
}

/// Numbers that are not random, but of no pattern either.
fn numbers(n: usize, seed: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * 7919 + seed * 104729) % 1000) as f32 / 500.0 - 1.0).collect()
}

/// A convolution over x `[2, 4, T]`, then linear attention of two heads over it with a decay of a run, with both states in and out.
fn block(opset: i64) -> Vec<u8> {
    let turned = [("perm", Value::Ints(&[0, 2, 1]))];
    let heads =
        [("q_num_heads", Value::Int(2)), ("kv_num_heads", Value::Int(2)), ("update_rule", Value::Text("gated"))];
    let nodes = [
        node(
            "CausalConvWithState",
            &["x", "w", "", "conv_in"],
            &["c", "conv_out"],
            &[("activation", Value::Text("silu"))],
        ),
        node("Transpose", &["c"], &["t"], &turned),
        node("MatMul", &["t", "mk"], &["k"], &[]),
        node("MatMul", &["t", "mg"], &["g0"], &[]),
        node("Sigmoid", &["g0"], &["g1"], &[]),
        node("Log", &["g1"], &["g"], &[]),
        node("LinearAttention", &["t", "k", "t", "state_in", "g"], &["a", "state_out"], &heads),
        node("Add", &["a", "t"], &["y"], &[]),
    ];
    let constants = [
        floats("w", &[4, 1, 3], &numbers(12, 1)),
        floats("mk", &[4, 4], &numbers(16, 2)),
        floats("mg", &[4, 4], &numbers(16, 3)),
    ];
    let inputs = [value("x", &[2, 4, -1]), value("conv_in", &[2, 4, 2]), value("state_in", &[2, 2, 2, 2])];
    let outputs = [value("y", &[2, -1, 4]), value("conv_out", &[2, 4, 2]), value("state_out", &[2, 2, 2, 2])];
    model(opset, &graph(&nodes, &constants, &inputs, &outputs), &[])
}

/// Steps of x `[2, 4, 6]`.
fn steps(x: &Tensor<f64>, from: usize, to: usize) -> Tensor<f64> {
    let data = x.data.chunks(6).flat_map(|row| &row[from..to]).copied().collect();
    Tensor { data, shape: vec![2, 4, to - from] }
}

#[test]
fn a_block_carries_its_states_on() {
    let file = OnnxFile::from_bytes("block.onnx", block(27)).expect("a model");
    let tensor = |shape: &[usize], seed: usize| {
        let data = numbers(shape.iter().product(), seed).into_iter().map(f64::from).collect();
        Tensor { data, shape: shape.to_vec() }
    };
    let x = tensor(&[2, 4, 6], 5);
    let mut inputs: BTreeMap<String, Tensor<f64>> = [
        ("x".to_string(), x.clone()),
        ("conv_in".to_string(), tensor(&[2, 4, 2], 6)),
        ("state_in".to_string(), tensor(&[2, 2, 2, 2], 7)),
    ]
    .into();
    let whole = run(&file, &inputs);
    let mut y = Vec::new();
    for (from, to) in [(0, 3), (3, 5), (5, 6)] {
        inputs.insert("x".into(), steps(&x, from, to));
        let made = run(&file, &inputs);
        y.push(made[0].1.clone());
        inputs.insert("conv_in".into(), made[1].1.clone());
        inputs.insert("state_in".into(), made[2].1.clone());
    }
    let rows = |b: usize| y.iter().flat_map(move |y| y.data[b * y.data.len() / 2..][..y.data.len() / 2].to_vec());
    let joined = Tensor { data: (0..2).flat_map(rows).collect(), shape: vec![2, 6, 4] };
    assert!(error(&whole[0].1, &joined) < 1e-12);
    assert!(error(&whole[1].1, &inputs["conv_in"]) < 1e-12 && error(&whole[2].1, &inputs["state_in"]) < 1e-12);
    let old = OnnxFile::from_bytes("block.onnx", block(26)).expect("a model");
    let shapes: [(&str, &[usize]); 3] = [("x", &[2, 4, 6]), ("conv_in", &[2, 4, 2]), ("state_in", &[2, 2, 2, 2])];
    let refused = old.model(&shapes).expect_err("too old").to_string();
    assert!(refused.contains("since opset 27"), "{refused}");
}

#[test]
fn a_state_that_nodes_read_ends_a_network() {
    let nodes = [node("CausalConvWithState", &["x", "w"], &["c", "last"], &[]), node("Tanh", &["last"], &["y"], &[])];
    let constants = [floats("w", &[3, 1, 2], &numbers(6, 1))];
    let bytes = model(27, &graph(&nodes, &constants, &[value("x", &[2, 3, 5])], &[value("y", &[2, 3, 1])]), &[]);
    let file = OnnxFile::from_bytes("m.onnx", bytes).expect("a model");
    // A second network reads what the first one has given.
    let model = file.model(&[("x", &[2, 3, 5])]).expect("two networks");
    assert_eq!(model.stages.len(), 2);
    let x = numbers(30, 4);
    let mut session = model.session::<f32>(&Device::cpu(), &NetworkOptions::default()).expect("a session");
    let made = session.run(&[("x", View::new(&x, &[2, 3, 5]))]).expect("a run");
    let last: Vec<f32> = x.chunks(5).map(|row| row[4].tanh()).collect();
    let off = made[0].tensor.data.iter().zip(&last).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(off < 1e-6, "{off}");
    let error = file.network(&[("x", &[2, 3, 5])]).expect_err("one is not enough").to_string();
    assert!(error.contains("a state as what other nodes read"), "{error}");
}
