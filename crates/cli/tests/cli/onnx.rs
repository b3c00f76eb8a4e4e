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

/// A stack is a whole model, and so is a single layer where that is asked for.
#[test]
fn an_exported_stack_runs_as_the_stack_did() {
    for (name, flags) in
        [("lstm_l3", ""), ("gru_l2_bi", ""), ("lstm_l1", "--stack"), ("rnn_relu_l1", "--stack --batch-first")]
    {
        let at = TempDir::new().unwrap();
        let file = format!("tests/data/torch_golden/{name}.safetensors");
        let golden = Golden::open(top(&file)).unwrap();
        let wgpu_rnn_verify::Case::Layers(layers) = &golden.case else { panic!("a stack") };
        let cell = layers.config.cell.name;
        let mut export = command(&format!("export --weights {file} --prefix w. --cell {cell} --states {flags}"));
        export.arg("--output").arg(at.path().join("m.onnx"));
        assert_eq!(printed(export), "");
        let batch_first = flags.contains("--batch-first");
        let turned = |tensor: &wgpu_rnn::Tensor<f64>| {
            let &[outer, inner, width] = &tensor.shape[..] else { panic!("{:?}", tensor.shape) };
            let rows = (0..inner).flat_map(|i| (0..outer).map(move |o| (o * inner + i) * width));
            let data = rows.flat_map(|at| tensor.data[at..at + width].to_vec()).collect();
            wgpu_rnn::Tensor { data, shape: vec![inner, outer, width] }
        };
        let mut run = command("run");
        run.arg(at.path().join("m.onnx")).args(["--device", "cpu"]);
        for (input, tensor) in [("x", Some(&layers.x)), ("h0", layers.h0.as_ref()), ("c0", layers.c0.as_ref())] {
            let Some(tensor) = tensor else { continue };
            let tensor = if batch_first && input == "x" { turned(tensor) } else { tensor.clone() };
            let (path, data) = (at.path().join(input), tensor.data.iter().map(|&v| v as f32).collect::<Vec<_>>());
            npy::write(&path, View::new(&data, &tensor.shape)).unwrap();
            run.arg("--in").arg(format!("{input}={}", path.display()));
        }
        run.arg("--out").arg(format!("y={}", at.path().join("y.npy").display()));
        assert_eq!(printed(run), "");
        let y = npy::read::<f64>(at.path().join("y.npy")).unwrap();
        let truth = golden.truths.iter().find(|truth| truth.name == "out.y").unwrap();
        let right = if batch_first { turned(&truth.tensor) } else { truth.tensor.clone() };
        assert_eq!(y.shape, right.shape, "{name}");
        // 1e-5: that it is the right stack; how exact the executor is, others prove.
        assert!(tolerance::error(&y.data, &right.data) < 1e-5 * truth.scale, "{name}");
    }
}

#[test]
fn what_onnx_does_not_have_is_refused() {
    let at = TempDir::new().unwrap();
    let projected = "tests/data/torch_golden/lstm_l1_proj.safetensors";
    let mut stack = command(&format!("export --weights {projected} --prefix w. --cell lstm --states"));
    stack.arg("--output").arg(at.path().join("m.onnx"));
    let message = complaint(stack);
    assert!(message.contains("not supported: given states of a stack with proj_size"), "{message}");
    assert!(!at.path().join("m.onnx").exists());
    // States and lengths that a model takes are not left out without a word.
    export(at.path(), "--states --lengths");
    for (flags, missing) in [("", "--states"), ("--states", "--lengths")] {
        let mut again = command(&format!("export {flags}"));
        again.arg("--onnx").arg(at.path().join("m.onnx")).arg("--output").arg(at.path().join("again.onnx"));
        let message = complaint(again);
        assert!(message.contains(&format!("{missing}: expected the flag")), "{message}");
    }
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
