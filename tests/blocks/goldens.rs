//! Whole models of transformers, in float64: outputs, outputs of a prefix, and every gradient.

use std::path::{Path, PathBuf};
use wgpu_rnn::verify::{Golden, verify};
use wgpu_rnn::{Device, Precision, Strategy};

const NAMES: [&str; 4] = ["mamba_l1_n16", "mamba_l2", "mamba2_l1", "rwkv4_l2"];

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/block_golden/{name}.safetensors"))
}

fn all_pass(device: &Device, precision: Precision) {
    for name in NAMES {
        let golden = Golden::open(path(name)).unwrap();
        let report = verify(&golden, device, None, precision).unwrap();
        let failed: Vec<_> = report.comparisons.iter().filter(|c| !c.passed()).collect();
        assert!(failed.is_empty(), "{name} on {device} in {precision:?}: {failed:?}");
        // y, of a prefix too, ∂x, and parameters of which every layer has at least seven.
        assert!(report.comparisons.len() >= 10, "{name}: {}", report.comparisons.len());
        println!(
            "{name} on {device} in {precision:?}: {} tensors, worst {:?}",
            report.comparisons.len(),
            report.worst()
        );
    }
}

#[test]
fn cpu_f64() {
    all_pass(&Device::cpu(), Precision::F64);
}

#[test]
fn cpu_f32() {
    all_pass(&Device::cpu(), Precision::F32);
}

#[test]
fn gpu_f32() {
    all_pass(&Device::gpu().expect("a GPU adapter; Mesa's lavapipe will do"), Precision::F32);
}

#[test]
fn a_wrong_number_fails() {
    for name in NAMES {
        for precision in [Precision::F64, Precision::F32] {
            let mut golden = Golden::open(path(name)).unwrap();
            for truth in &mut golden.truths {
                let middle = truth.tensor.data.len() / 2;
                truth.tensor.data[middle] += 1e-3 * truth.scale;
            }
            let report = verify(&golden, &Device::cpu(), None, precision).unwrap();
            let passed: Vec<_> = report.comparisons.iter().filter(|c| c.passed()).collect();
            assert!(passed.is_empty(), "{name} in {precision:?}: {passed:?}");
        }
    }
}

#[test]
fn a_strategy_of_stacks_is_refused() {
    let golden = Golden::open(path("mamba_l2")).unwrap();
    let refused = verify(&golden, &Device::cpu(), Some(Strategy::Step), Precision::F64).unwrap_err().to_string();
    assert!(refused.contains("strategy"), "{refused}");
}
