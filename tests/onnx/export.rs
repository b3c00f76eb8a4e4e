//! Layers written as ONNX models: read back they are the same layers, and what one node cannot be is refused.

use super::nodes::{Given, as_y, gates, run};
use tempfile::TempDir;
use wgpu_rnn::{Activation, Bias, Direction, Element, Error, Head, Layout, Loss, RnnConfig, Tensor, Weights, cells};
use wgpu_rnn_formats::onnx::{Export, OnnxFile, OnnxNode, OnnxOp, Source, export};
use wgpu_rnn_verify::tolerance;

fn layers() -> Vec<RnnConfig> {
    let mut all = Vec::new();
    // ONNX has neither layer normalisation nor exponential gates.
    for cell in cells::ALL.into_iter().filter(|c| !c.normalises() && *c != &cells::SLSTM) {
        for direction in [Direction::Forward, Direction::Reverse, Direction::Bidirectional] {
            let base = RnnConfig { cell, input_size: 3, hidden_size: 4, direction, ..Default::default() };
            all.push(RnnConfig { layout: Layout::BatchFirst, ..base.clone() });
            all.push(RnnConfig { bias: Bias::None, ..base.clone() });
            let own = cell.activations.len();
            let activations = vec![Activation::Sigmoid; own];
            all.push(RnnConfig { activations, bias: Bias::One, ..base.clone() });
            // One set more than the directions have would be refused.
            let sets = if direction == Direction::Bidirectional { 2 } else { 1 };
            let others = [
                Activation::Softplus,
                Activation::HardSigmoid { alpha: 0.3, beta: 0.25 },
                Activation::Elu { alpha: 0.5 },
                Activation::ScaledTanh { alpha: 1.5, beta: 0.5 },
                Activation::LEAKY_RELU,
                Activation::THRESHOLDED_RELU,
            ];
            let activations = others.into_iter().cycle().take(sets * own).collect();
            all.push(RnnConfig { activations, input_forget: cell.has_cell_state(), clip: Some(0.75), ..base });
        }
    }
    all
}

fn read_back<T: Element>(config: &RnnConfig, weights: &Weights<T>) -> OnnxNode {
    let at = TempDir::new().expect("a folder");
    let path = at.path().join("layer.onnx");
    export(config, weights, &path).expect("written");
    OnnxFile::open(&path).expect("a model").only_node().expect("a node")
}

fn is_same<T: Element>(config: &RnnConfig) {
    let weights = Weights::<T>::random(config, 1).expect("valid");
    let node = read_back(config, &weights);
    let mut expected = weights.cast::<f64>();
    let mut same = config.clone();
    if config.bias == Bias::One {
        let rows = config.cell.recurrent_gates() * config.hidden_size;
        same.bias = Bias::Two;
        expected.layers.iter_mut().for_each(|layer| layer.b_r = vec![0.0; rows]);
    }
    // ONNX has one RNN, whatever its activation.
    if *config.cell == cells::RNN_RELU && !config.activations.is_empty() && config.activations != [Activation::Relu] {
        same.cell = &cells::RNN_TANH;
    }
    assert_eq!((&node.config, &node.weights), (&same, &expected), "{config:?}");
    assert_eq!((&node.h0, &node.c0, &node.lengths), (&Source::Absent, &Source::Absent, &Source::Absent));
    let third = config.cell.has_cell_state().then(|| "Y_c".to_string());
    assert_eq!((node.input.as_str(), &node.outputs), ("X", &[Some("Y".into()), Some("Y_h".into()), third]));
}

#[test]
fn what_is_written_is_read_back() {
    for config in layers() {
        is_same::<f32>(&config);
        is_same::<f64>(&config);
    }
}

/// Not only the reader of this crate: the operators' equations, over tensors in ONNX's order, give the layer's numbers.
#[test]
fn a_written_layer_computes_what_the_page_of_its_operator_says() {
    for (op, directions) in [(OnnxOp::Rnn, 2), (OnnxOp::Lstm, 2), (OnnxOp::Gru, 1)] {
        let given = Given { peepholes: op == OnnxOp::Lstm, ..Given::new(op, directions) };
        let mut node = given.node();
        let (h0, c0, lengths) = (node.h0.clone(), node.c0.clone(), node.lengths.clone());
        node = read_back(&node.config, &node.weights);
        (node.h0, node.c0, node.lengths) = (h0, c0, lengths);
        let [y, hn, _] = run(&node, &given.x);
        let [e_y, e_hn, _] = given.expected();
        assert!(tolerance::error(&y, &as_y(&e_y, directions)) < 1e-12, "{op} of {} gates", gates(op));
        assert!(tolerance::error(&hn, &e_hn) < 1e-12, "{op}");
    }
}

#[test]
fn optional_inputs_are_a_runs() {
    let config = RnnConfig { hidden_size: 2, bias: Bias::None, ..RnnConfig::lstm(1, 1) };
    let weights = Weights::<f32>::random(&config, 1).expect("valid");
    let bytes = Export { states: true, lengths: true }.bytes(&config, &weights).expect("a model");
    let node = OnnxFile::from_bytes("m.onnx", bytes).expect("a model").only_node().expect("a node");
    let runtime = |name: &str| Source::<Tensor<f64>>::Runtime(name.into());
    assert_eq!((node.h0, node.c0), (runtime("initial_h"), runtime("initial_c")));
    assert_eq!(node.lengths, Source::Runtime("sequence_lens".into()));
}

#[test]
fn what_one_node_cannot_be_is_refused() {
    let refused = |config: RnnConfig| {
        let weights = Weights::<f32>::random(&config, 1).expect("valid");
        match Export::default().bytes(&config, &weights) {
            Err(e @ Error::Unsupported { .. }) => e.to_string(),
            other => panic!("{other:?}"),
        }
    };
    let base = || RnnConfig { hidden_size: 2, ..RnnConfig::lstm(1, 1) };
    assert!(refused(RnnConfig { num_layers: 2, ..base() }).starts_with("not supported: 2 layers as one ONNX node"));
    assert!(refused(RnnConfig { proj_size: 1, ..base() }).starts_with("not supported: proj_size 1 in ONNX"));
    assert!(refused(RnnConfig { vocabulary: Some(3), ..base() }).contains("an embedding or a head"));
    let head = Some(Head { size: 2, loss: Some(Loss::MeanSquared) });
    assert!(refused(RnnConfig { head, ..base() }).contains("an embedding or a head"));
    let error = Export::default().bytes(&base(), &Weights::<f32>::default()).expect_err("no weights");
    assert!(matches!(error, Error::Mismatch { .. }), "{error}");
}
