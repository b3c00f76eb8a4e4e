//! ONNX's and WebNN's published test cases.

use std::path::{Path, PathBuf};
use tempfile::TempDir;
use wgpu_rnn::{Device, Precision, Strategy};
use wgpu_rnn_verify::{goldens, verify, verify_path};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// 18 node tests of layers, each as a folder and as safetensors, and 23 + 4 of WebNN's.
const LAYERS: [(&str, usize); 2] = [("onnx_node", 36), ("wpt", 27)];
/// 14 + 13 node tests of networks, in the same two forms.
const NETWORKS: [(&str, usize); 1] = [("onnx_recurrence", 54)];

fn all_pass(folders: &[(&str, usize)], device: &Device, precision: Precision, strategy: Option<Strategy>) {
    let mut failures = Vec::new();
    for &(name, count) in folders {
        let verified = verify_path(folder(name), device, strategy, precision);
        assert_eq!(verified.len(), count, "{name}");
        for case in verified {
            match &case.report {
                Ok(report) if report.passed() => {}
                Ok(report) => failures.push(format!("{}: {:?}", case.name, report.worst())),
                Err(e) => failures.push(format!("{}: {e}", case.name)),
            }
        }
    }
    assert!(failures.is_empty(), "{} failed on {device} in {precision:?}:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn cpu_f64() {
    all_pass(&LAYERS, &Device::cpu(), Precision::F64, Some(Strategy::Step));
    all_pass(&NETWORKS, &Device::cpu(), Precision::F64, None);
}

#[test]
fn cpu_f32() {
    all_pass(&LAYERS, &Device::cpu(), Precision::F32, Some(Strategy::Sequence));
    all_pass(&NETWORKS, &Device::cpu(), Precision::F32, None);
}

#[test]
fn gpu_f32() {
    let device = Device::gpu().expect("a Vulkan, Metal or DX12 adapter; Mesa's lavapipe will do");
    all_pass(&LAYERS, &device, Precision::F32, None);
    all_pass(&NETWORKS, &device, Precision::F32, None);
}

#[test]
fn one_wrong_number_fails() {
    let networks =
        ["onnx_recurrence/test_linear_attention_gated_delta_gqa", "onnx_recurrence/test_causal_conv_with_state_silu"];
    let layers = ["onnx_node/test_rnn_seq_length", "onnx_node/test_lstm_with_peepholes.safetensors", "wpt"];
    for name in networks.into_iter().chain(layers) {
        for (name, golden) in goldens(folder(name)).expect("cases") {
            let mut golden = golden.expect("a case");
            for n in 0..golden.truths.len() {
                let truth = &mut golden.truths[n];
                let (right, scale) = (truth.tensor.data[0], truth.scale);
                truth.tensor.data[0] += 1e-4 * scale;
                let report = verify(&golden, &Device::cpu(), None, Precision::F32).expect("it runs");
                assert!(!report.passed(), "{name} {:?}", report.worst());
                golden.truths[n].tensor.data[0] = right;
            }
        }
    }
}

/// The same case twice, as published and as safetensors, must be read as the same.
#[test]
fn both_forms_of_a_node_test_are_the_same() {
    let of = |name| goldens(folder(name)).expect("cases");
    for pair in of("onnx_node").chunks(2).chain(of("onnx_recurrence").chunks(2)) {
        let [(name, one), (other_name, other)] = pair else { panic!("pairs") };
        let (one, other) = (one.as_ref().expect("a case"), other.as_ref().expect("a case"));
        assert_eq!(name, other_name);
        assert_eq!(format!("{:?}", one.case), format!("{:?}", other.case), "{name}");
        assert_eq!(format!("{:?}", one.truths), format!("{:?}", other.truths), "{name}");
    }
}

/// The message that refuses the WebNN case after `change`.
fn refusal(change: impl FnOnce(&mut serde_json::Value)) -> String {
    let text = std::fs::read(folder("wpt/wpt_distinct_cases.json")).expect("cases");
    let mut cases: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
    change(&mut cases[0]);
    let at = TempDir::new().expect("a folder");
    let path = at.path().join("case.json");
    std::fs::write(&path, cases.to_string()).expect("written");
    let (_, golden) = goldens(&path).expect("cases").swap_remove(0);
    golden.expect_err("refused").to_string().replace(&at.path().display().to_string(), "")
}

#[test]
fn webnn_cases_that_do_not_fit_are_refused_with_the_reason() {
    let named = |message: String| message.replace("/case.json: float32 steps=1 forward relu: ", "");
    let with = |field: &'static str, value: serde_json::Value| named(refusal(move |case| case[field] = value));
    assert_eq!(with("layout", "oifg".into()), "layout: expected iofg or ifgo (lstm), zrn or rzn (gru), got oifg");
    assert_eq!(with("steps", 2.into()), "steps: expected 1, got 2");
    assert_eq!(with("hiddenSize", 3.into()), "hidden_size: expected R's H = 2, got 3");
    assert_eq!(with("direction", "both".into()), "W: expected [D, G·H, I] = [2, 8, 2], got [1, 8, 2]");
    assert_eq!(with("clip", 1.into()), "not supported: option clip: this build does not know it");
    let softsign = serde_json::json!(["relu", "relu", "softsign"]);
    assert_eq!(with("activations", softsign), "activations: expected relu, sigmoid or tanh, got softsign");
    assert!(
        with("weight", serde_json::json!({ "shape": [1, 8, 3], "data": [1] }))
            .starts_with("weight: expected the values")
    );
}
