//! `wgpu-rnn inspect FILE` and `wgpu-rnn run FILE`: files of every kind, known by their bytes.

use super::{command, complaint, one_line_of_json, printed, stderr, top};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;
use wgpu_rnn::{RnnConfig, View, Weights, cells};
use wgpu_rnn_formats::npy;
use wgpu_rnn_formats::onnx::Export;
use wgpu_rnn_verify::tolerance;

fn data(name: &str) -> PathBuf {
    top("crates/formats/tests/data").join(name)
}

/// `run FILE flags` over x.npy of a folder, with y.npy beside it.
fn run(file: &Path, at: &Path, flags: &str) -> Command {
    let mut run = command("run");
    run.arg(file).args(flags.split_whitespace());
    run.arg("--input").arg(at.join("x.npy")).arg("--output").arg(at.join("y.npy"));
    run
}

fn write(at: &Path, shape: &[usize]) {
    npy::write(at.join("x.npy"), View::new(&vec![0.5; shape.iter().product()], shape)).unwrap();
}

/// As published, from the file to y and hn.
#[test]
fn a_published_pt_file_runs() {
    let at = TempDir::new().unwrap();
    let legere = data("legere_bigru_pt");
    std::fs::copy(legere.join("x.npy"), at.path().join("x.npy")).unwrap();
    for layer in ["", "--layer rnn", "--layer model.rnn --cell gru"] {
        let mut run = run(&legere.join("model.pt"), at.path(), &format!("{layer} --device cpu"));
        run.arg("--hn").arg(at.path().join("hn.npy"));
        let output = run.output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        let text = stderr(&output);
        for line in [
            "layer model.rnn: gru, input_size 192, hidden_size 128, 1 layer, bidirectional, two biases; the shapes fit \
             gru-reset-before too (--cell); names of PyTorch nn.LSTM, nn.GRU, nn.RNN\n",
            "x: [50, 2, 192] as [T, B, I]: T=50 B=2 I=192\n",
        ] {
            assert!(text.contains(line), "{text}");
        }
        for name in ["y.npy", "hn.npy"] {
            let [got, truth] = [at.path(), &legere].map(|folder| npy::read::<f64>(folder.join(name)).unwrap());
            assert_eq!(got.shape, truth.shape, "{name}");
            // 1e-5: that it is the right layer; how exact the executor is, others prove.
            assert!(tolerance::error(&got.data, &truth.data) < 1e-5 * tolerance::scale(&truth.data), "{name}");
        }
    }
}

#[test]
fn inspect_lists_layers_with_their_commands() {
    let file = "crates/formats/tests/data/legere_bigru_pt/model.pt";
    let text = printed(command(&format!("inspect {file}")));
    assert_eq!(
        text,
        format!(
            "{file}: a PyTorch zip archive (torch.save writes it as .pt or .pth), 1472927 bytes\n\n\
             model.rnn\n  PyTorch nn.LSTM, nn.GRU, nn.RNN; f32\n  \
             gru, input_size 192, hidden_size 128, 1 layer, bidirectional, two biases\n  \
             states h; activations f Sigmoid, g Tanh\n  \
             the shapes fit gru-reset-before too: --cell says which\n  \
             wgpu-rnn run {file} --layer model.rnn --input X.npy --output Y.npy\n"
        )
    );
    let json = one_line_of_json(&printed(command(&format!("inspect {file} --json"))));
    assert_eq!((&json["kind"], &json["bytes"]), (&"PyTorchZip".into(), &1472927.into()));
    let part = &json["parts"][0];
    for (key, value) in [
        ("name", serde_json::json!("model.rnn")),
        ("cell", "gru".into()),
        ("input_size", 192.into()),
        ("hidden_size", 128.into()),
        ("layers", 1.into()),
        ("direction", "bidirectional".into()),
        ("bias", "two".into()),
        ("element", "f32".into()),
        ("other_cells", serde_json::json!(["gru-reset-before"])),
        ("run", format!("wgpu-rnn run {file} --layer model.rnn --input X.npy --output Y.npy").into()),
    ] {
        assert_eq!(part[key], value, "{key}");
    }
}

#[test]
fn inspect_lists_blocks_and_nodes() {
    for (file, of, count) in [
        ("mamba_l2", "Mamba", 2),
        ("mamba2_l1", "Mamba2", 1),
        ("rwkv4_l2", "Rwkv4", 2),
        ("rwkv6_l2", "Rwkv6", 2),
        ("rwkv7_l2", "Rwkv7", 2),
    ] {
        let path = format!("tests/data/block_golden/{file}.safetensors");
        let json = one_line_of_json(&printed(command(&format!("inspect {path} --json"))));
        let parts = json["parts"].as_array().unwrap();
        let found = parts.iter().any(|p| p["of"] == format!("wgpu_rnn::blocks::{of}") && p["blocks"] == count);
        assert!(found, "{file}: {json}");
    }
    let at = TempDir::new().unwrap();
    let config = RnnConfig::lstm(2, 3);
    let model = at.path().join("m.onnx");
    let export = Export { states: true, ..Default::default() };
    export.write(&config, &Weights::<f32>::random(&config, 1).unwrap(), &model).unwrap();
    let mut inspect = command("inspect");
    inspect.arg(&model);
    let text = printed(inspect);
    for part in [
        "an ONNX model",
        "\nlstm\n  ONNX LSTM\n",
        "lstm, input_size 2, hidden_size 3, 1 layer",
        "states h, c; activations f Sigmoid, g Tanh, h Tanh",
        "h0: the model's initial_h",
    ] {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
    assert!(text.ends_with("m.onnx --layer lstm --input X.npy --output Y.npy\n"), "{text}");
}

#[test]
fn an_onnx_file_needs_no_flag() {
    let at = TempDir::new().unwrap();
    let config = RnnConfig { cell: &cells::GRU_RESET_BEFORE, ..RnnConfig::gru(2, 3) };
    let model = at.path().join("m.onnx");
    Export::default().write(&config, &Weights::<f32>::random(&config, 1).unwrap(), &model).unwrap();
    write(at.path(), &[4, 5, 2]);
    printed(run(&model, at.path(), "--device cpu"));
    let y = npy::read::<f32>(at.path().join("y.npy")).unwrap();
    let mut flagged = command("run --device cpu --onnx");
    flagged.arg(&model).arg("--input").arg(at.path().join("x.npy")).arg("--output").arg(at.path().join("z.npy"));
    printed(flagged);
    assert_eq!(npy::read::<f32>(at.path().join("z.npy")).unwrap(), y);
    for (flags, message) in [
        ("--cell gru", "--cell: expected none, for a node of an ONNX model says it itself, got gru"),
        ("--batch-first", "--batch-first: expected none"),
        ("--layer other", "node: expected one named other"),
    ] {
        let text = complaint(run(&model, at.path(), flags));
        assert!(text.contains(message), "{text}");
    }
}

/// One layer in two, in safetensors, by name, and the other way round in memory.
#[test]
fn a_layer_is_named_where_there_are_several() {
    let at = TempDir::new().unwrap();
    let path = data("pytorch/zip.pt");
    write(at.path(), &[6, 2, 3]);
    printed(run(&path, at.path(), "--device cpu --layer rnn"));
    let y = npy::read::<f32>(at.path().join("y.npy")).unwrap();
    assert_eq!(y.shape, [6, 2, 8]);
    // Every container gives the same bits.
    for (file, layer) in [("legacy.pt", "state_dict.rnn"), ("tar.pt", "rnn"), ("module.pt", "rnn")] {
        printed(run(&data("pytorch").join(file), at.path(), &format!("--device cpu --layer {layer}")));
        assert_eq!(npy::read::<f32>(at.path().join("y.npy")).unwrap(), y, "{file}");
    }
    printed(run(&path, at.path(), "--device cpu --batch-first"));
    assert_eq!(npy::read::<f32>(at.path().join("y.npy")).unwrap().shape, [6, 2, 8]);
    let text = complaint(run(&path, at.path(), "--layer lstm"));
    assert!(text.contains("expected one named \"lstm\", got 0; those of the file are \"state_dict.rnn\""), "{text}");
}

#[test]
fn what_a_file_is_not_is_said() {
    let at = TempDir::new().unwrap();
    write(at.path(), &[6, 2, 3]);
    let x = at.path().join("x.npy");
    let text = complaint(run(&x, at.path(), ""));
    assert!(text.contains("no file of named tensors") && text.contains("this is a NumPy .npy file"), "{text}");
    let mut inspect = command("inspect");
    inspect.arg(&x);
    assert!(complaint(inspect).contains("this is a NumPy .npy file"));
    assert!(complaint(command("inspect README.md")).contains("a file of no known format"));
}

#[test]
fn whole_models_wait() {
    let text = complaint(command("run m.onnx --in a=x.npy --in b=z.npy --out y=y.npy"));
    assert!(
        text.starts_with("error: not supported: whole models by their inputs and outputs (--in, --out): "),
        "{text}"
    );
    let text = complaint(command("run m.onnx --in x.npy --out y=y.npy"));
    assert!(text.contains("expected NAME=FILE"), "{text}");
    for flags in [
        "--in a=x.npy --input x.npy --output y.npy",
        "--weights w --input x.npy --output y.npy",
        "--prefix p --input x --output y",
    ] {
        let text = complaint(command(&format!("run m.onnx {flags}")));
        assert!(text.contains("cannot be used with"), "{text}");
    }
}
