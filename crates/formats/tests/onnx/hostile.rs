//! Models of exporters, damaged: a typed error or a network, never a panic, never without end.

use super::recorded::{arrays, folder};
use super::wire::{self, Value, floats, graph, node, value};
use proptest::prelude::*;
use wgpu_rnn::network::NetworkOptions;
use wgpu_rnn::{Device, Error, Tensor};
use wgpu_rnn_formats::onnx::OnnxFile;

const CASES: [&str; 22] = [
    "exporters/lstm_small_ts",
    "exporters/lstm2_small_dyn",
    "exporters/packed_ts",
    "exporters/zero_ts",
    "exporters/rnn_dyn",
    "exporters/cell_ts",
    "exporters/q",
    "exporters/fp16",
    "operators/broadcast",
    "operators/columns",
    "operators/context",
    "operators/convolution_columns",
    "operators/fewer_steps",
    "operators/products",
    "operators/reversed",
    "operators/seq2seq",
    "operators/softmax",
    "operators/steps",
    "operators/tensordot",
    "operators/no_steps",
    "operators/windows_time_major",
    "operators/einsum",
];

/// Puts `bytes` through everything that reads them.
fn read(case: &str, bytes: Vec<u8>) {
    let folder = folder(case);
    let Ok(file) = OnnxFile::from_bytes("hostile.onnx", bytes) else { return };
    let _ = (file.inputs(), file.outputs());
    let labels: Vec<_> = file.nodes().cloned().collect();
    for label in labels.iter().take(8) {
        let _ = file.node(&label.name);
    }
    let inputs = arrays(&folder, "in");
    let shapes: Vec<(&str, &[usize])> = inputs.iter().map(|(name, t)| (name.as_str(), &t.shape[..])).collect();
    let Ok(model) = file.model(&shapes) else { return };
    assert!(model.stages.iter().all(|stage| stage.params.len() == stage.network.parameter_count()));
    // What it says may be nonsense; that it runs, or says why not, is what counts.
    let small = model.stages.iter().all(|stage| stage.params.len() < 1 << 16 && stage.shape.time < 64);
    let Some(mut session) =
        small.then(|| model.session::<f32>(&Device::cpu(), &NetworkOptions::default()).ok()).flatten()
    else {
        return;
    };
    let given: Vec<(&str, Tensor<f32>)> = inputs
        .iter()
        .map(|(name, t)| {
            let data = t.data.iter().map(|&v| v as f32).collect();
            (name.as_str(), Tensor { data, shape: t.shape.clone() })
        })
        .collect();
    let views: Vec<_> = given.iter().map(|(name, t)| (*name, t.view())).collect();
    let _ = session.run(&views);
}

fn model(case: &str) -> Vec<u8> {
    std::fs::read(folder(case).join("model.onnx")).expect("a model")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn truncated(case in prop::sample::select(CASES.to_vec()), at in any::<prop::sample::Index>()) {
        let bytes = model(case);
        let end = at.index(bytes.len());
        read(case, bytes[..end].to_vec());
    }

    #[test]
    fn flipped(case in prop::sample::select(CASES.to_vec()), flips in prop::collection::vec((any::<prop::sample::Index>(), 0..8u32), 1..6)) {
        let mut bytes = model(case);
        for (at, bit) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
        }
        read(case, bytes);
    }

    /// Sizes, and the numbers of shapes, are where a file lies best.
    #[test]
    fn overwritten(case in prop::sample::select(CASES.to_vec()), at in any::<prop::sample::Index>(), with in prop::sample::select(vec![0u8, 1, 2, 0x7f, 0x80, 0xff]), n in 1..10usize) {
        let mut bytes = model(case);
        let at = at.index(bytes.len());
        let end = (at + n).min(bytes.len());
        bytes[at..end].fill(with);
        read(case, bytes);
    }
}

/// Every node of a small file asks for a matrix of 16 million numbers.
#[test]
fn kernels_laid_out_are_limited_together() {
    let names: Vec<String> = (0..21).map(|n| format!("v{n}")).collect();
    let nodes: Vec<Vec<u8>> = names.windows(2).map(|v| node("Conv", &[&v[0], "w"], &[&v[1]], &[])).collect();
    let constants = [floats("w", &[1, 1, 1, 1], &[1.0])];
    let graph = graph(&nodes, &constants, &[value("v0", &[1, 1, 64, 64])], &[value("v20", &[1, 1, 64, 64])]);
    let file = OnnxFile::from_bytes("convs.onnx", wire::model(20, &graph, &[])).expect("a file");
    let error = file.model(&[("v0", &[1, 1, 64, 64])]).map(drop).expect_err("too much");
    assert!(matches!(&error, Error::Limit { .. }), "{error}");
    // So are the taps of one over steps.
    let far = [("dilations", Value::Ints(&[4000])), ("pads", Value::Ints(&[4000, 0]))];
    let nodes = [node("Conv", &["x", "w"], &["y"], &far)];
    let constants = [floats("w", &[30000, 1, 2], &vec![0.0; 60000])];
    let graph = graph_of(&nodes, &constants);
    let file = OnnxFile::from_bytes("taps.onnx", wire::model(20, &graph, &[])).expect("a file");
    let error = file.model(&[("x", &[1, 1, 5000])]).map(drop).expect_err("too much");
    assert!(matches!(&error, Error::Limit { .. }), "{error}");
}

fn graph_of(nodes: &[Vec<u8>], constants: &[Vec<u8>]) -> Vec<u8> {
    graph(nodes, constants, &[value("x", &[1, 1, 5000])], &[value("y", &[-1, -1, -1])])
}
