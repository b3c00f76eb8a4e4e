//! Weights that a model has in 8 bits, kept in 8 bits.

use super::recorded::{arrays, error, folder};
use super::wire::{Value, floats, graph, model, narrow, node, value};
use wgpu_rnn::network::NetworkOptions;
use wgpu_rnn::{Device, Tensor, WeightFormat};
use wgpu_rnn_formats::onnx::OnnxFile;

#[test]
fn a_quantised_lstm_stays_in_8_bits() {
    let folder = folder("exporters/q");
    let file = OnnxFile::open(folder.join("model.onnx")).expect("a model");
    assert_eq!(file.only_node().expect("a node").int8, Some(true));
    let inputs = arrays(&folder, "in");
    let x = Tensor { data: inputs["x"].data.iter().map(|&v| v as f32).collect(), shape: inputs["x"].shape.clone() };
    let run = |weights: WeightFormat| {
        let model = file.model(&[("x", &x.shape)]).expect("a model");
        let options = NetworkOptions { weights, ..Default::default() };
        let mut session = model.session::<f32>(&Device::cpu(), &options).expect("a session");
        let made = session.run(&[("x", x.view())]).expect("a run");
        let y = &made[0].tensor;
        Tensor { data: y.data.iter().map(|&v| f64::from(v)).collect(), shape: y.shape.clone() }
    };
    let (whole, kept) = (run(WeightFormat::F32), run(WeightFormat::Int8));
    let off = error(&whole, &kept);
    println!("int8 against f32: {off:.1e}");
    // The same numbers but for the rounding of f32.
    assert!(off < 1e-5, "{off}");
}

/// A `DynamicQuantizeLSTM` of two units, one number of W given, and W's zero point.
fn lstm(first: i8, zero: i8) -> OnnxFile {
    let mut w = [5i8; 3 * 8];
    w[0] = first;
    let inputs = ["x", "w", "r", "", "", "", "", "", "ws", "wz", "rs", "rz"];
    let nodes = [node("com.microsoft:DynamicQuantizeLSTM", &inputs, &["y"], &[("hidden_size", Value::Int(2))])];
    let constants = [
        narrow("w", &[1, 3, 8], &w),
        narrow("r", &[1, 2, 8], &[-127; 16]),
        floats("ws", &[1], &[0.01]),
        narrow("wz", &[1], &[zero]),
        floats("rs", &[1], &[0.02]),
        narrow("rz", &[1], &[0]),
    ];
    let bytes = model(20, &graph(&nodes, &constants, &[value("x", &[4, 2, 3])], &[value("y", &[4, 1, 2, 2])]), &[]);
    OnnxFile::from_bytes("q.onnx", bytes).expect("a model")
}

#[test]
fn numbers_beyond_127_do_not_fit() {
    for (first, zero, fits) in [(127, 0, true), (-127, 0, true), (-128, 0, false), (-100, 27, true), (-100, 28, false)]
    {
        let node = lstm(first, zero).only_node().expect("a node");
        assert_eq!(node.int8, Some(fits), "{first} less {zero}");
    }
}
