//! ONNX files from anywhere: a typed error or a value; never a panic, never an allocation out of proportion to the file.

use super::watching::{forget, largest};
use super::wire::{Stored, Value, attribute, bytes, graph, int, model, node, tensor};
use proptest::prelude::*;
use std::path::{Path, PathBuf};
use wgpu_rnn::{Direction, Error, RnnConfig, Weights, cells};
use wgpu_rnn_formats::onnx::{Export, OnnxFile};

/// Test cases in other forms than protobuf.
const FORMS: [&str; 3] = [
    "wpt/wpt_distinct_cases.json",
    "onnx_node/test_lstm_with_peepholes.safetensors",
    "onnx_recurrence/test_linear_attention_prefill_with_past.safetensors",
];

/// Puts `bytes` through everything that reads them; true if they were an ONNX model at all.
fn read(bytes: &[u8]) -> bool {
    let copy = bytes.to_vec();
    forget();
    let opened = OnnxFile::from_bytes("hostile.onnx", copy);
    if let Ok(file) = &opened {
        let labels: Vec<_> = file.nodes().cloned().collect();
        let named = labels.iter().take(20).map(|label| file.node(&label.name));
        for node in named.chain([file.only_node()]).flatten() {
            node.weights.validate(&node.config).expect("weights that were read fit their configuration");
        }
        for label in file.recurrences().take(20) {
            let _ = file.recurrence(&label.name);
        }
    }
    // A name or a part of 2 bytes takes 32 in a list that grows by doubling.
    let allowed = 64 * bytes.len() + (1 << 20);
    assert!(largest() <= allowed, "{} bytes at once for a file of {}", largest(), bytes.len());
    opened.is_ok()
}

/// A bidirectional LSTM with peepholes, whose states and lengths are fed.
fn exported() -> Vec<u8> {
    let config = RnnConfig {
        cell: &cells::LSTM_PEEPHOLE,
        input_size: 2,
        hidden_size: 3,
        direction: Direction::Bidirectional,
        ..Default::default()
    };
    let weights = Weights::<f32>::random(&config, 1).expect("valid");
    Export { states: true, lengths: true }.bytes(&config, &weights).expect("a model")
}

/// A GRU inside an If.
fn with_branch() -> Vec<u8> {
    let values = [0.5; 3];
    let tensors = [tensor("w", &[1, 3, 1], Stored::RawF16, &values), tensor("r", &[1, 3, 1], Stored::Doubles, &values)];
    let attributes = [("activations", Value::Texts(&["Relu", "Tanh"])), ("activation_alpha", Value::Floats(&[1.0]))];
    let inner = graph(&[node("GRU", "g", &["x", "w", "r"], &["y"], &attributes)], &tensors, &[]);
    let outer = graph(&[node("If", "", &["c"], &["o"], &[("then_branch", Value::Graph(inner))])], &[], &["c"]);
    model(22, &outer)
}

fn published(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name).join("model.onnx");
    std::fs::read(path).expect("a model")
}

fn peepholes() -> Vec<u8> {
    published("onnx_node/test_lstm_with_peepholes")
}

fn attention() -> Vec<u8> {
    published("onnx_recurrence/test_linear_attention_explicit_scale")
}

fn models() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![Just(exported()), Just(with_branch()), Just(peepholes()), Just(attention())]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..Default::default() })]

    #[test]
    fn random_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        read(&bytes);
    }

    #[test]
    fn truncated(bytes in models(), at in any::<prop::sample::Index>()) {
        read(&bytes[..at.index(bytes.len())]);
    }

    #[test]
    fn flipped(bytes in models(), flips in prop::collection::vec((any::<prop::sample::Index>(), 0..8u32), 1..6)) {
        let mut bytes = bytes;
        for (at, bit) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
        }
        read(&bytes);
    }

    /// Lengths and sizes are where a file lies best.
    #[test]
    fn overwritten(bytes in models(), at in any::<prop::sample::Index>(), with in prop::sample::select(vec![0u8, 1, 0x7f, 0x80, 0xff]), n in 1..10usize) {
        let mut bytes = bytes;
        let at = at.index(bytes.len());
        let end = (at + n).min(bytes.len());
        bytes[at..end].fill(with);
        read(&bytes);
    }

    #[test]
    fn test_cases(network in any::<bool>(), file in 0..4usize, at in any::<prop::sample::Index>(), bit in 0..8u32, cut in any::<bool>()) {
        let name = if network { "onnx_recurrence/test_causal_conv_with_state_decode_step" } else { "onnx_node/test_gru_defaults" };
        damaged_case(name, file, at, bit, cut);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..Default::default() })]

    #[test]
    fn other_forms_of_cases(name in prop::sample::select(FORMS.to_vec()), flips in prop::collection::vec((any::<prop::sample::Index>(), 0..8u32), 0..4), cut in any::<prop::sample::Index>(), whole in any::<bool>()) {
        let mut bytes = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)).expect("a file");
        for (at, bit) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
        }
        if !whole {
            bytes.truncate(cut.index(bytes.len()));
        }
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(Path::new(name).file_name().expect("a name"));
        std::fs::write(&path, &bytes).expect("written");
        forget();
        let _ = wgpu_rnn_verify::goldens(&path);
        prop_assert!(largest() <= 1 << 20, "{}", largest());
    }
}

/// Shapes of nothing that claim a lot.
#[test]
fn hollow_webnn_tensors() {
    let huge = serde_json::json!({ "shape": [1u64 << 62, 0], "data": [] });
    let cubic = serde_json::json!({ "shape": [0, 1u64 << 62, 1u64 << 62], "data": [] });
    let case = serde_json::json!({
        "op": "gru", "name": "hollow", "hiddenSize": 1, "bias": huge, "recurrentBias": huge, "expected": { "h": [] },
        "input": cubic, "weight": cubic, "recurrentWeight": cubic,
    });
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("hollow.json");
    std::fs::write(&path, serde_json::json!([case]).to_string()).expect("written");
    let (_, golden) = wgpu_rnn_verify::goldens(&path).expect("a case").swap_remove(0);
    assert!(matches!(golden, Err(Error::Mismatch { .. })), "{golden:?}");
}

/// A published case with one of its files damaged.
fn damaged_case(name: &str, file: usize, at: prop::sample::Index, bit: u32, cut: bool) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name);
    let folder = tempfile::tempdir().expect("a folder");
    let names =
        ["model.onnx", "test_data_set_0/input_0.pb", "test_data_set_0/input_1.pb", "test_data_set_0/output_0.pb"];
    std::fs::create_dir(folder.path().join("test_data_set_0")).expect("a folder");
    for entry in std::fs::read_dir(source.join("test_data_set_0")).expect("a folder") {
        let entry = entry.expect("a file");
        std::fs::copy(entry.path(), folder.path().join("test_data_set_0").join(entry.file_name())).expect("copied");
    }
    std::fs::copy(source.join("model.onnx"), folder.path().join("model.onnx")).expect("copied");
    let damaged: PathBuf = folder.path().join(names[file]);
    let mut bytes = std::fs::read(&damaged).expect("a file");
    let at = at.index(bytes.len());
    if cut {
        bytes.truncate(at);
    } else {
        bytes[at] ^= 1 << bit;
    }
    std::fs::write(&damaged, &bytes).expect("written");
    forget();
    let _ = wgpu_rnn_verify::goldens(folder.path());
    assert!(largest() <= 1 << 20, "{}", largest());
}

#[test]
fn the_intact_models_are_models() {
    for bytes in [exported(), with_branch(), peepholes(), attention()] {
        assert!(read(&bytes));
    }
}

/// Structs that are many times as large as what stands for them in the file.
#[test]
fn many_empty_parts_take_little() {
    for tag in [1, 5, 11, 12] {
        let graph: Vec<u8> = (0..200_000).flat_map(|_| bytes(tag, b"")).collect();
        assert!(read(&model(22, &graph)));
    }
    for tag in [1, 2, 5] {
        let node: Vec<u8> = (0..200_000).flat_map(|_| bytes(tag, b"")).chain(bytes(4, b"RNN")).collect();
        assert!(read(&model(22, &graph(&[node], &[], &[]))));
    }
    let names: Vec<Vec<u8>> = (0..50_000).map(|n| bytes(8, format!("{n:x}").as_bytes())).collect();
    assert!(read(&model(22, &graph(&[], &names, &[]))));
    let sets: Vec<u8> = (0..200_000).flat_map(|_| bytes(8, b"")).collect();
    assert!(read(&[model(22, &graph(&[], &[], &[])), sets].concat()));
}

#[test]
fn deep_nesting_is_refused() {
    let mut inner = graph(&[], &[], &[]);
    for _ in 0..2000 {
        inner = graph(&[node("If", "", &[], &[], &[("then_branch", Value::Graph(inner))])], &[], &[]);
    }
    let error = OnnxFile::from_bytes("deep.onnx", model(22, &inner)).err().expect("refused");
    assert!(matches!(error, Error::File { .. }));
    assert_eq!(error.to_string(), "deep.onnx: not an ONNX model: graphs nested over 64 deep");
    // Groups, an old form of message, nest without any length.
    let groups: Vec<u8> = [0x9b, 0x06].repeat(100_000);
    assert!(!read(&groups));
}

/// The message that refuses an RNN of 1 in, 1 unit, where W is `w`.
fn refusal(w: Vec<u8>) -> String {
    let node = node("RNN", "n", &["X", "W", "R"], &["Y"], &[]);
    let tensors = [w, tensor("R", &[1, 1, 1], Stored::Floats, &[3.0])];
    let bytes = model(22, &graph(&[node], &tensors, &["X"]));
    read(&bytes);
    let error = OnnxFile::from_bytes("m.onnx", bytes).expect("a model").only_node().err();
    error.map_or(String::new(), |e| e.to_string())
}

#[test]
fn weights_that_do_not_fit_name_the_input_expected_and_got() {
    let one = |dims: &[usize]| refusal(tensor("W", dims, Stored::Floats, &[2.0]));
    assert_eq!(one(&[1, 1, 1]), "");
    assert_eq!(one(&[1, 1]), "m.onnx: RNN n: W: expected [D, G·H, I], 3 dimensions, got [1, 1]");
    assert_eq!(one(&[1, 2, 1]), "m.onnx: RNN n: W: expected the values of shape [1, 2, 1], got 1 values");
    for absurd in [1 << 40, usize::MAX >> 1] {
        assert!(one(&[1, absurd, 1]).starts_with("m.onnx: RNN n: W: expected the values of shape [1, "), "{absurd}");
        assert!(
            one(&[absurd, absurd, absurd]).starts_with("m.onnx: RNN n: W: expected the values of shape ["),
            "{absurd}"
        );
        let hollow = refusal(tensor("W", &[1, 0, absurd], Stored::Floats, &[]));
        assert!(hollow.starts_with("m.onnx: RNN n: input_size: expected 1..=1073741824"), "{hollow}");
    }
    assert_eq!(one(&[usize::MAX, 1, 1]), "m.onnx: RNN n: W: expected sizes from 0, got -1");
    let integers = refusal(tensor("W", &[1, 1, 1], Stored::RawI64, &[2.0]));
    assert_eq!(integers, "m.onnx: RNN n: W: expected floating-point values, got I64");
    let mut text = tensor("W", &[1, 1, 1], Stored::Floats, &[2.0]);
    text.extend(int(2, 8));
    let expected = "FLOAT, DOUBLE, FLOAT16, BFLOAT16, INT8 to INT64, UINT8, UINT16 or BOOL";
    assert_eq!(refusal(text), format!("m.onnx: RNN n: W: expected {expected}, got element type 8"));
    let mut half = tensor("W", &[1, 1, 1], Stored::Floats, &[]);
    half.extend(bytes(9, &[0; 6]));
    assert_eq!(refusal(half), "m.onnx: RNN n: W: expected elements of 4 bytes, got 6 bytes");
    let missing = refusal(tensor("V", &[1, 1, 1], Stored::Floats, &[2.0]));
    assert!(missing.starts_with("m.onnx: RNN n: W: expected a constant, "), "{missing}");
    assert!(missing.ends_with(" got W, a value of a run"), "{missing}");
    let broken = [bytes(8, b"W"), bytes(1, &[0xff; 20])].concat();
    assert!(refusal(broken).starts_with("m.onnx: RNN n: W: expected a TensorProto, got "));
}

#[test]
fn data_in_other_files_is_not_looked_for() {
    let mut external = tensor("W", &[1, 1, 1], Stored::Floats, &[]);
    external.extend(int(14, 1));
    external.extend(bytes(13, &[bytes(1, b"location"), bytes(2, b"/etc/passwd")].concat()));
    let message = refusal(external);
    assert!(message.starts_with("not supported: m.onnx: RNN n: W as external data in /etc/passwd: "), "{message}");
}

#[test]
fn attributes_of_the_wrong_kind_are_refused() {
    let weights = [tensor("W", &[1, 1, 1], Stored::Floats, &[2.0]), tensor("R", &[1, 1, 1], Stored::Floats, &[3.0])];
    let message = |attribute: Vec<u8>| {
        let node = [node("RNN", "n", &["X", "W", "R"], &["Y"], &[]), bytes(5, &attribute)].concat();
        let bytes = model(22, &graph(&[node], &weights, &["X"]));
        OnnxFile::from_bytes("m.onnx", bytes).expect("a model").only_node().expect_err("refused").to_string()
    };
    let size = message(attribute("hidden_size", &Value::Text("3")));
    assert_eq!(size, "m.onnx: RNN n: hidden_size: expected an integer, got Text(\"3\")");
    let size = message(attribute("hidden_size", &Value::Int(2)));
    assert_eq!(size, "m.onnx: RNN n: hidden_size: expected R's H = 1, got 2");
    let tensor = message(attribute("clip", &Value::Tensor(Vec::new())));
    assert_eq!(tensor, "m.onnx: RNN n: clip: expected an int, float, string, floats or strings, got type 4");
    let names = message(attribute("activations", &Value::Texts(&["Tanh", "Tanh"])));
    assert_eq!(names, "m.onnx: RNN n: activations: expected 1 names for each of 1 direction(s), got 2");
    let reference = message([bytes(1, b"hidden_size"), bytes(21, b"size"), int(20, 2)].concat());
    assert!(reference.contains("hidden_size as a reference to a function's attribute"), "{reference}");
}

#[test]
fn what_is_no_model_is_a_file_error() {
    for path in [env!("CARGO_MANIFEST_DIR"), "/nonexistent/model.onnx"] {
        assert!(matches!(OnnxFile::open(path).err(), Some(Error::File { .. })));
    }
    let message = |bytes: &[u8]| OnnxFile::from_bytes("m.onnx", bytes.to_vec()).err().expect("refused").to_string();
    assert_eq!(message(b""), "m.onnx: not an ONNX model: no graph");
    let rnn = node("RNN", "n", &[], &[], &[]);
    let without = bytes(7, &graph(&[rnn], &[], &[]));
    assert_eq!(message(&without), "m.onnx: not an ONNX model: no version of the operators it uses");
}
