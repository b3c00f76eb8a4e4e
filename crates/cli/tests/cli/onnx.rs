//! `wgpu-rnn run --onnx` and `wgpu-rnn export`.

use super::{command, complaint, printed, top};
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;
use wgpu_rnn::{RnnConfig, View, Weights, cells};
use wgpu_rnn_formats::npy;
use wgpu_rnn_formats::onnx::{Export, OnnxFile};
use wgpu_rnn_verify::{Golden, tolerance};

const GOLDEN: &str = "tests/data/torch_golden/lstm_l1_bi_packed.safetensors";

/// The golden's layer as `flags` export it.
fn export(at: &Path, flags: &str) {
    let mut export = command(&format!("export --weights {GOLDEN} --prefix w. --cell lstm {flags}"));
    export.arg("--output").arg(at.join("m.onnx"));
    assert_eq!(printed(export), "");
}

fn run(at: &Path, flags: &str) -> Command {
    let mut run = command(&format!("run {flags}"));
    run.arg("--onnx").arg(at.join("m.onnx")).arg("--input").arg(at.join("x.npy")).arg("--output").arg(at.join("y.npy"));
    run
}

#[test]
fn an_exported_layer_runs_as_the_layer_did() {
    let at = TempDir::new().unwrap();
    let golden = Golden::open(top(GOLDEN)).unwrap();
    let wgpu_rnn_verify::Case::Layers(layers) = &golden.case else { panic!("a stack") };
    export(at.path(), "--states --lengths");
    let write = |name: &str, tensor: &wgpu_rnn::Tensor<f64>| {
        let data: Vec<f32> = tensor.data.iter().map(|&v| v as f32).collect();
        npy::write(at.path().join(name), View::new(&data, &tensor.shape)).unwrap();
    };
    write("x.npy", &layers.x);
    write("h0.npy", layers.h0.as_ref().unwrap());
    write("c0.npy", layers.c0.as_ref().unwrap());
    let lengths = layers.lengths.as_ref().unwrap().iter().map(usize::to_string).collect::<Vec<_>>().join(",");

    for node in ["", "--node lstm", "--node Y_h"] {
        let mut whole = run(at.path(), &format!("{node} --device cpu --lengths {lengths}"));
        whole.arg("--h0").arg(at.path().join("h0.npy")).arg("--c0").arg(at.path().join("c0.npy"));
        assert_eq!(printed(whole), "");
        let y = npy::read::<f64>(at.path().join("y.npy")).unwrap();
        let truth = &golden.truths[0];
        assert_eq!((truth.name.as_str(), &y.shape), ("out.y", &truth.tensor.shape));
        // 1e-5: that it is the right layer; how exact the executor is, others prove.
        assert!(tolerance::error(&y.data, &truth.tensor.data) < 1e-5 * truth.scale);
    }
    // What the model expects of its user must be given.
    let message = complaint(run(at.path(), "--device cpu"));
    assert!(
        message.contains("--h0: expected the value that the model takes from initial_h at run time, got none"),
        "{message}"
    );
    let message = complaint(run(at.path(), "--node gru"));
    assert!(message.contains("node: expected one named gru, got 0 of LSTM lstm"), "{message}");
}

#[test]
fn flags_of_the_two_sources_exclude_each_other() {
    let at = TempDir::new().unwrap();
    for flags in ["--cell gru", "--weights w.safetensors", "--prefix w.", "--batch-first"] {
        let message = complaint(run(at.path(), flags));
        assert!(message.contains("cannot be used with"), "{flags}: {message}");
    }
    let message = complaint(command("run --node n --weights w --cell gru --input x --output y"));
    assert!(message.contains("cannot be used with"), "{message}");
    for flags in ["run --input x.npy --output y.npy", "export --output m"] {
        let message = complaint(command(flags));
        assert!(message.contains("required arguments were not provided"), "{flags}: {message}");
    }
}

#[test]
fn layers_that_are_no_node_are_refused() {
    let at = TempDir::new().unwrap();
    let mut stack = command("export --weights tests/data/torch_golden/lstm_l3.safetensors --prefix w. --cell lstm");
    stack.arg("--output").arg(at.path().join("m.onnx"));
    let message = complaint(stack);
    assert!(message.contains("not supported: 3 layers as one ONNX node"), "{message}");
    assert!(!at.path().join("m.onnx").exists());
}

#[test]
fn a_batch_first_node_reads_batch_first() {
    let at = TempDir::new().unwrap();
    let config = RnnConfig {
        cell: &cells::GRU_RESET_BEFORE,
        input_size: 2,
        hidden_size: 3,
        layout: wgpu_rnn::Layout::BatchFirst,
        ..Default::default()
    };
    let weights = Weights::<f32>::random(&config, 1).unwrap();
    Export::default().write(&config, &weights, at.path().join("m.onnx")).unwrap();
    assert_eq!(OnnxFile::open(at.path().join("m.onnx")).unwrap().only_node().unwrap().config, config);
    npy::write(at.path().join("x.npy"), View::new(&[0.5; 4 * 5 * 2], &[4, 5, 2])).unwrap();
    assert_eq!(printed(run(at.path(), "--device cpu")), "");
    assert_eq!(npy::read::<f32>(at.path().join("y.npy")).unwrap().shape, [4, 5, 3]);
}
