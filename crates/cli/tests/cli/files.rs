//! `wgpu-rnn inspect FILE` and `wgpu-rnn run FILE`: files of every kind, known by their bytes.

use super::{command, complaint, one_line_of_json, printed, stderr, top};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;
use wgpu_rnn::{RnnConfig, Tensor, View, Weights, cells};
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
        ("falconmamba_l2", "Mamba", 2),
        ("mamba2_l1", "Mamba2", 1),
        ("mamba2_groups", "Mamba2", 2),
        ("rwkv4_l2", "Rwkv4", 2),
        ("rwkv6_l2", "Rwkv6", 2),
        ("rwkv7_l2", "Rwkv7", 2),
        ("rwkv7fla_l2", "Rwkv7", 2),
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
    assert!(text.contains("m.onnx --layer lstm --input X.npy --output Y.npy\n"), "{text}");
    assert!(text.contains("\nas a whole: runs\n  input X [T, B, 2]\n"), "{text}");
    let ends = "--in X=X.npy --in initial_h=initial_h.npy --in initial_c=initial_c.npy --out Y=Y.npy --out Y_h=Y_h.npy --out Y_c=Y_c.npy\n";
    assert!(text.ends_with(ends), "{text}");
}

#[test]
fn an_onnx_file_needs_no_flag() {
    let at = TempDir::new().unwrap();
    let config = RnnConfig { cell: &cells::GRU_RESET_BEFORE, ..RnnConfig::gru(2, 3) };
    let model = at.path().join("m.onnx");
    Export::default().write(&config, &Weights::<f32>::random(&config, 1).unwrap(), &model).unwrap();
    write(at.path(), &[4, 5, 2]);
    printed(run(&model, at.path(), "--device cpu --layer gru-reset-before"));
    let y = npy::read::<f32>(at.path().join("y.npy")).unwrap();
    // The node's own outputs have ONNX's axes, and more than one needs names.
    let text = complaint(run(&model, at.path(), "--device cpu"));
    assert!(text.contains("--out NAME=FILE for each of Y [T, 1, B, 3], Y_h [1, B, 3], or a layer"), "{text}");
    let [x, whole] = ["x.npy", "whole.npy"].map(|file| at.path().join(file).display().to_string());
    let mut by_name = command("run --device cpu");
    by_name.arg(&model).args(["--in", &format!("X={x}"), "--out", &format!("Y={whole}")]);
    printed(by_name);
    let whole = npy::read::<f32>(whole).unwrap();
    assert_eq!((&whole.shape[..], &whole.data), (&[4, 1, 5, 3][..], &y.data));
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
fn flags_of_whole_models_are_checked() {
    let model = "crates/formats/tests/data/onnx/exporters/lstm_small_ts/model.onnx";
    let text = complaint(command(&format!("run {model} --in other=x.npy --out y=y.npy")));
    assert!(text.contains("--in: expected x [") && text.contains("got other"), "{text}");
    let text = complaint(command(&format!("run {model} --input x.npy --output y.npy --strategy step")));
    assert!(text.contains("x.npy"), "{text}");
    let text = complaint(command("run README.md --in a=x.npy --out y=y.npy"));
    assert!(text.contains("a file of no known format"), "{text}");
    let tensors = "crates/formats/tests/data/pytorch/zip.pt";
    let text = complaint(command(&format!("run {tensors} --in a=x.npy --out y=y.npy")));
    assert!(text.contains("a layer: expected --input and --output"), "{text}");
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

/// What `run FILE` is given and gives, of a folder of `in.NAME.npy` and `out.NAME.npy`: as a user types it. The largest error of each
/// output, as a share of its scale.
fn whole(folder: &Path, file: &str, flags: &str) -> Vec<(String, f64)> {
    let at = TempDir::new().unwrap();
    let ends = |start: &str| {
        let files = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        let name = |f: String| Some(f.strip_prefix(start)?.strip_suffix(".npy")?.to_string());
        files.filter_map(name).collect::<Vec<_>>()
    };
    let (from, to) = (ends("in."), ends("out."));
    let mut run = command(&format!("run {flags}"));
    run.arg(folder.join(file));
    let given = |name: &String| folder.join(format!("in.{name}.npy"));
    let made = |name: &String| at.path().join(format!("{}.npy", to.iter().position(|n| n == name).unwrap()));
    match (&from[..], &to[..]) {
        ([x], [y]) => {
            run.arg("--input").arg(given(x)).arg("--output").arg(made(y));
        }
        _ => {
            for name in &from {
                run.arg("--in").arg(format!("{name}={}", given(name).display()));
            }
            for name in &to {
                run.arg("--out").arg(format!("{name}={}", made(name).display()));
            }
        }
    }
    let output = run.output().unwrap();
    assert!(output.status.success(), "{run:?}: {}", stderr(&output));
    assert_eq!(stderr(&output).matches("input: ").count(), from.len(), "{}", stderr(&output));
    let error = |name: &String| {
        // Truth values are numbers in what is written.
        let numbers = |p: PathBuf| {
            npy::read::<f64>(&p).unwrap_or_else(|_| {
                let Tensor { data, shape } = npy::read_integers(&p).unwrap();
                Tensor { data: data.iter().map(|&v| v as f64).collect(), shape }
            })
        };
        let [got, truth] = [made(name), folder.join(format!("out.{name}.npy"))].map(numbers);
        assert_eq!(got.shape, truth.shape, "{run:?}: {name}");
        (name.clone(), tolerance::error(&got.data, &truth.data) / tolerance::scale(&truth.data))
    };
    to.iter().map(error).collect()
}

/// Models as PyTorch's exporters and ONNX Runtime's tools write them, whole: 1e-5 of scale, of 16-bit ones 1e-3, of quantised ones 5e-2.
#[test]
fn exported_models_run_whole() {
    let mut seen = 0;
    for folder in std::fs::read_dir(data("onnx/exporters")).unwrap().map(|e| e.unwrap().path()) {
        if !folder.join("model.onnx").exists() {
            continue;
        }
        seen += 1;
        let bound = match folder.file_name().unwrap().to_str().unwrap() {
            "fp16" => 1e-3,
            "q" => 5e-2,
            _ => 1e-5,
        };
        for (name, error) in whole(&folder, "model.onnx", "--device cpu") {
            println!("{}: {name} off by {error:.1e} of its scale", folder.display());
            assert!(error <= bound, "{}: {name}: {error:e}", folder.display());
        }
        let text = printed({
            let mut inspect = command("inspect");
            inspect.arg(folder.join("model.onnx"));
            inspect
        });
        assert!(text.contains("as a whole: runs"), "{text}");
    }
    assert_eq!(seen, 15);
    for (name, error) in whole(&data("onnx/published/romanizer_encoder"), "model.onnx", "--device cpu") {
        assert!(error <= 1e-5, "romanizer_encoder: {name}: {error:e}");
    }
}

/// A file of weights alone does not say its activations: flags do, by the names and in the meaning of the Keras that wrote it.
#[test]
fn what_weights_alone_do_not_say_is_told_by_flags() {
    let at = TempDir::new().unwrap();
    let folder = data("mhcnuggets_lstm_h5");
    std::fs::copy(folder.join("x.npy"), at.path().join("x.npy")).unwrap();
    let file = folder.join("Patr-A09-01_BA.h5");
    let y = |flags: &str| {
        let output = run(&file, at.path(), &format!("--device cpu {flags}")).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        (npy::read::<f32>(at.path().join("y.npy")).unwrap(), stderr(&output))
    };
    let (own, said) = y("");
    let told = "the file does not say its activations: f HardSigmoid(0.2, 0.5), g Tanh, h Tanh (--activation, --recurrent-activation say others)";
    assert!(said.contains(told), "{said}");
    assert_eq!(y("--recurrent-activation hard_sigmoid --activation tanh").0, own);
    let (other, said) = y("--recurrent-activation sigmoid --activation relu");
    assert!(said.contains("activations: f Sigmoid, g Relu, h Relu"), "{said}");
    assert_ne!(other, own);
    let (backwards, _) = y("--go-backwards");
    assert_eq!(backwards.shape, own.shape);
    assert_ne!(backwards, own);
    let mut inspect = command("inspect");
    inspect.arg(&file);
    let text = printed(inspect);
    assert!(
        text.contains("LSTM, the last step alone, activations as Keras's defaults are (the file does not say them)"),
        "{text}"
    );
    let x = at.path().join("x.npy");
    let refused = [
        (&file, "--activation softmax", "--activation: activation softmax: recurrent cells have linear"),
        (&file, "--recurrent-activation no", "--recurrent-activation: activation no: recurrent cells have"),
        (&file, "--reset-after true", "--reset-after: expected none, for a LSTM has none, got the flag"),
        (
            &data("sleepecg_keras/classifier.keras"),
            "--layer bidirectional --activation tanh",
            "--activation: expected none, for the file says it itself",
        ),
        (&data("pytorch/zip.pt"), "--go-backwards", "--go-backwards: expected none, for the file is not Keras's"),
        (&x, "--activation tanh", "this is a NumPy .npy file"),
    ];
    for (file, flags, reason) in refused {
        let text = complaint(run(file, at.path(), flags));
        assert!(text.contains(reason), "{flags}: {text}");
    }
}

/// Keras's layers by name, and its models whole.
#[test]
fn keras_files_run() {
    let at = TempDir::new().unwrap();
    let sleep = data("sleepecg_keras");
    std::fs::copy(sleep.join("bidirectional.x.npy"), at.path().join("x.npy")).unwrap();
    let file = sleep.join("classifier.keras");
    printed(run(&file, at.path(), "--device cpu --layer bidirectional --batch-first"));
    let mut inspect = command("inspect");
    inspect.arg(&file);
    let text = printed(inspect);
    for part in ["\nbidirectional\n  Keras 3", "Bidirectional(GRU), merge mode Concat", "as a whole: runs"] {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
}
