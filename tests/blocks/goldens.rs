//! Whole models of transformers, of flash-linear-attention and by mamba_ssm's functions, in float64: outputs, outputs of a prefix, and
//! every gradient; outputs of RWKV-6 and -7 by their published inference code.

use super::{all, gpu};
use std::path::{Path, PathBuf};
use wgpu_rnn::io::safetensors::TensorFile;
use wgpu_rnn::{Device, Precision};
use wgpu_rnn_verify::{Golden, verify};

const NAMES: [&str; 9] = [
    "mamba_l1_n16",
    "mamba_l2",
    "falconmamba_l2",
    "mamba2_l1",
    "mamba2_groups",
    "rwkv4_l2",
    "rwkv6_l2",
    "rwkv7_l2",
    "rwkv7fla_l2",
];

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/block_golden/{name}.safetensors"))
}

fn all_pass(device: &Device, precision: Precision, names: &[&str]) {
    for &name in names {
        let golden = Golden::open(path(name)).unwrap();
        let report = verify(&golden, device, None, precision).unwrap();
        let failed: Vec<_> = report.comparisons.iter().filter(|c| !c.passed()).collect();
        assert!(failed.is_empty(), "{name} on {device} in {precision:?}: {failed:?}");
        // y, of a prefix too, and of transformers' models ∂x and parameters of which every layer has at least seven.
        let least = if ["rwkv6_l2", "rwkv7_l2"].contains(&name) { 2 } else { 10 };
        assert!(report.comparisons.len() >= least, "{name}: {}", report.comparisons.len());
        println!(
            "{name} on {device} in {precision:?}: {} tensors, worst {:?}",
            report.comparisons.len(),
            report.worst()
        );
    }
}

#[test]
fn cpu_f64() {
    all_pass(&Device::cpu(), Precision::F64, &NAMES);
}

#[test]
fn cpu_f32() {
    all_pass(&Device::cpu(), Precision::F32, &NAMES);
}

#[test]
fn gpu_f32() {
    let one = ["mamba_l2", "falconmamba_l2"];
    all_pass(&gpu(), Precision::F32, if all() { &NAMES } else { &one });
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

/// A golden whose header says something else, as long.
fn changed(name: &str, from: &str, to: &str) -> wgpu_rnn::Result<Golden> {
    assert_eq!(from.len(), to.len(), "the header keeps its length");
    let mut bytes = std::fs::read(path(name)).unwrap();
    let at = bytes.windows(from.len()).position(|w| w == from.as_bytes()).unwrap_or_else(|| panic!("no {from}"));
    bytes[at..][..to.len()].copy_from_slice(to.as_bytes());
    Golden::read(&TensorFile::from_bytes("changed.safetensors", bytes)?)
}

#[test]
fn a_model_that_the_tensors_are_not_of_is_refused() {
    let cases = [
        ("mamba_l2", r#"\"state_size\": 5"#, r#"\"state_size\": 9"#, "x_proj.weight"),
        ("mamba_l2", r#"\"num_hidden_layers\": 2"#, r#"\"num_hidden_layers\": 3"#, "layers.2.norm.weight"),
        ("mamba_l2", r#"\"num_hidden_layers\": 2"#, r#"\"num_hidden_layers\": 1"#, "layers.1"),
        ("mamba_l2", r#"\"hidden_size\": 12"#, r#"\"hidden_size\": 99"#, "in.x"),
        ("mamba_l2", r#"\"conv_kernel\": 4"#, r#"\"conv_kernel\": 0"#, "conv_kernel"),
        ("mamba_l2", r#"\"use_conv_bias\": true"#, r#"\"use_conv_blas\": true"#, ""),
        ("mamba_l1_n16", r#"\"use_conv_bias\": false"#, r#"\"use_conv_bias\":  true"#, "conv1d.bias"),
        ("mamba_l2", r#"\"T\": 19"#, r#"\"T\":  1"#, "T:"),
        ("mamba_l2", r#"\"T\": 19"#, r#"\"T\": 18"#, "in.x"),
        ("mamba_l2", r#"\"layer_norm_epsilon\": 1e-05"#, r#"\"layer_norm_epsilon\": -1.00"#, "epsilon"),
        ("mamba2_l1", r#"\"n_groups\": 2"#, r#"\"n_groups\": 3"#, "n_groups"),
        ("falconmamba_l2", r#"\"mixer_rms_eps\": 0.001"#, r#"\"mixer_rms_eps\": -1.00"#, "epsilon"),
        ("falconmamba_l2", r#"\"mixer_rms_eps\""#, r#"\"mixer_rms_epz\""#, "mixer_rms_eps"),
        ("rwkv7fla_l2", r#"\"kind\": \"rwkv7fla_block"#, r#"\"kind\": \"rwkv7flb_block"#, "kind"),
        ("rwkv7fla_l2", r#"\"head_size\": 4"#, r#"\"head_size\": 3"#, "head_size"),
        ("mamba2_groups", r#"\"n_groups\": 3"#, r#"\"n_groups\": 2"#, "in_proj.weight"),
        ("mamba2_l1", r#"\"head_dim\": 8"#, r#"\"head_dim\": 4"#, "in_proj.weight"),
        ("mamba2_l1", r#"\"kind\": \"mamba2_block"#, r#"\"kind\": \"mamba3_block"#, "kind"),
        ("rwkv4_l2", r#"\"intermediate_size\": 56"#, r#"\"intermediate_size\": 55"#, "feed_forward.key.weight"),
        ("rwkv4_l2", r#"\"attention_hidden_size\": 14"#, r#"\"attention_hidden_size\":  0"#, "attention_hidden_size"),
    ];
    for (name, from, to, named) in cases {
        match (changed(name, from, to), named) {
            // Without the field there is a bias, as in the package.
            (Ok(_), "") => {}
            (Err(e), _) => assert!(e.to_string().contains(named) && !named.is_empty(), "{name}, {to}: {e}"),
            (Ok(_), _) => panic!("{name}, {to}: taken"),
        }
    }
}
