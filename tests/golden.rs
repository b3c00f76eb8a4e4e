//! The proof against PyTorch: every golden, outputs and gradients, on both executors, with both strategies; and that a wrong
//! number is caught.

mod harness;
#[path = "harness/parts.rs"]
mod parts;

use harness::everything;
use parts::Parts;
use safetensors::Dtype;
use std::path::{Path, PathBuf};
use wgpu_rnn::io::safetensors::TensorFile;
use wgpu_rnn::{
    Bias, Device, Direction, Element, Gradients, Initial, Input, Layout, Options, Output, Plan, Precision, RnnConfig,
    Session, Shape, Strategy, Tensor, Upstream, View, Weights, cells,
};
use wgpu_rnn_verify::{Case as Run, Golden, naive, naive_backward, tolerance, verify, verify_file};

const STRATEGIES: [Strategy; 2] = [Strategy::Step, Strategy::Sequence];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/torch_golden")
}

fn goldens() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder()).expect("the goldens").map(|e| e.expect("an entry").path()).collect();
    files.sort();
    assert_eq!(
        files.len(),
        37,
        "26 goldens of stacks, 2 of encoder and decoder, 1 of training, 8 of linear recurrences"
    );
    files
}

fn all_pass(files: &[PathBuf], device: &Device, precision: Precision) {
    let mut failures = Vec::new();
    for file in files {
        let name = file.file_stem().unwrap_or_default().display().to_string();
        // Recurrences without hidden units have no strategy: they go over time in both of their own ways.
        let linear = ["mamba", "rwkv"].iter().any(|kind| name.starts_with(kind));
        for strategy in if linear { &STRATEGIES[..1] } else { &STRATEGIES[..] } {
            match verify_file(file, device, Some(*strategy), precision) {
                // x, the outputs, their loss and every parameter at least: a golden without gradients would prove half.
                Ok(report) if report.passed() && report.comparisons.len() >= 6 => {}
                Ok(report) => failures.push(format!("{name} {strategy}: {:?}", report.worst())),
                Err(e) => failures.push(format!("{name} {strategy}: {e}")),
            }
        }
    }
    assert!(failures.is_empty(), "{} failed on {device} in {precision:?}:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn cpu_f64() {
    all_pass(&goldens(), &Device::cpu(), Precision::F64);
}

#[test]
fn cpu_f32() {
    all_pass(&goldens(), &Device::cpu(), Precision::F32);
}

#[test]
fn gpu_f32() {
    let device = Device::gpu().expect("a Vulkan, Metal or DX12 adapter; Mesa's lavapipe will do");
    all_pass(&of_a_gpu(goldens()), &device, Precision::F32);
}

/// Those that run on the GPU by default.
const GPU_GOLDENS: [&str; 9] = [
    "gru_l1_bi_packed",
    "lstm_l1_t1_b1",
    "lstm_l2_bi_proj_packed",
    "mamba_scan_full",
    "rnn_relu_l1",
    "rwkv4_wkv_state",
    "rwkv7_wkv",
    "seq2seq_gru_l2",
    "train_lstm_adam10",
];

/// Every kind of golden, fewer of stacks: a software rasteriser compiles 20 kernels for each. (`scripts/test.sh --all`: all of them.)
fn of_a_gpu(files: Vec<PathBuf>) -> Vec<PathBuf> {
    let kept = GPU_GOLDENS.map(|name| format!("{name}.safetensors"));
    let is_kept = |file: &PathBuf| file.file_name().is_some_and(|name| kept.iter().any(|kept| name == kept.as_str()));
    let list: Vec<PathBuf> = files.into_iter().filter(|file| everything() || is_kept(file)).collect();
    assert!(list.len() >= GPU_GOLDENS.len(), "{list:?}");
    list
}

impl Parts {
    fn golden(&self) -> wgpu_rnn::Result<Golden> {
        Golden::read(&TensorFile::from_bytes("changed.safetensors", self.bytes())?)
    }

    /// Replaces `from` in the configuration, which has it.
    fn reconfigure(&mut self, from: &str, to: &str) {
        let changed = self.config.replace(from, to);
        assert_ne!(changed, self.config, "{from} is not in the configuration");
        self.config = changed;
    }

    /// Overwrites one value of an integer tensor.
    fn integer(&mut self, name: &str, at: usize, value: i64) {
        let (_, _, bytes) = self.tensors.get_mut(name).expect("a tensor of the golden");
        bytes[8 * at..][..8].copy_from_slice(&value.to_le_bytes());
    }

    /// Gives a tensor another shape, of the same number of values or not.
    fn reshape(&mut self, name: &str, shape: &[usize]) {
        let (dtype, old, bytes) = self.tensors.get_mut(name).expect("a tensor of the golden");
        assert!(matches!(dtype, Dtype::F64 | Dtype::I64));
        *old = shape.to_vec();
        bytes.resize(8 * shape.iter().product::<usize>(), 0);
    }

    /// Whether it passes on the CPU executor; a golden that is refused does not.
    fn passes(&self, precision: Precision) -> bool {
        self.golden().and_then(|g| verify(&g, &Device::cpu(), None, precision)).is_ok_and(|r| r.passed())
    }
}

const PRECISIONS: [Precision; 2] = [Precision::F64, Precision::F32];

#[test]
fn one_wrong_number_fails() {
    for precision in PRECISIONS {
        assert!(Parts::of("lstm_l1").passes(precision));
        let truths = Parts::of("lstm_l1").golden().expect("a golden").truths;
        assert_eq!(truths.len(), 4 + 3 + 4, "y, hn, cn, loss; x, h0, c0; W, R and two biases");
        for truth in truths {
            let at = 5.min(truth.tensor.data.len() - 1);
            // From just above f32 rounding to absurd: a wrong truth must not widen the bound it is held against.
            for wrong in [1e-5, 0.1, 1e6, f64::NAN, f64::INFINITY] {
                let mut parts = Parts::of("lstm_l1");
                parts.values(&truth.name, |v| v[at] += wrong * truth.scale);
                assert!(!parts.passes(precision), "{} + {wrong} in {precision:?}", truth.name);
            }
        }
        for upstream in ["up.y", "up.hn", "up.cn"] {
            for wrong in [1e-3, 1e6, f64::NAN, f64::INFINITY] {
                let mut parts = Parts::of("lstm_l1");
                parts.values(upstream, |v| v[5] += wrong);
                assert!(!parts.passes(precision), "{upstream} + {wrong} in {precision:?}");
            }
        }
    }
}

#[test]
fn a_golden_without_gradients_proves_its_outputs() {
    for precision in PRECISIONS {
        let mut parts = Parts::of("lstm_l1");
        parts.tensors.retain(|name, _| !name.starts_with("up.") && !name.starts_with("grad.") && name != "out.loss");
        let golden = parts.golden().expect("a golden");
        assert!(matches!(&golden.case, Run::Layers(layers) if layers.upstream.is_none()));
        let report = verify(&golden, &Device::cpu(), None, precision).expect("it runs");
        let names: Vec<_> = report.comparisons.iter().map(|c| c.tensor.as_str()).collect();
        assert_eq!((report.passed(), names), (true, vec!["out.y", "out.hn", "out.cn"]));
    }
}

#[test]
fn nan_weights_are_computed_and_fail() {
    for precision in PRECISIONS {
        let mut parts = Parts::of("gru_l1");
        parts.values("w.weight_hh_l0", |v| v[0] = f64::NAN);
        let golden = parts.golden().expect("a golden");
        let report = verify(&golden, &Device::cpu(), None, precision).expect("it runs");
        assert!(!report.passed());
        assert_eq!(report.worst().expect("comparisons").error, f64::INFINITY);
    }
}

#[test]
fn a_truth_recorded_coarsely_is_held_to_its_precision() {
    for (dtype, bytes_of, room) in [
        (Dtype::F32, (|v| (v as f32).to_le_bytes().to_vec()) as fn(f64) -> Vec<u8>, 16.0 * f64::from(f32::EPSILON)),
        (Dtype::F16, |v| half::f16::from_f64(v).to_le_bytes().to_vec(), 2.0 * half::f16::EPSILON.to_f64()),
    ] {
        for precision in PRECISIONS {
            for (shift, expected) in [(0.0, true), (0.4 * room, true), (1.7 * room + 3e-6, false)] {
                let mut parts = Parts::of("lstm_l1");
                let scale = tolerance::scale(&parts.golden().expect("a golden").truths[0].tensor.data);
                parts.values("out.y", |v| v[3] += shift * scale);
                let (stored, _, bytes) = parts.tensors.get_mut("out.y").expect("y");
                *bytes = bytes.as_chunks().0.iter().flat_map(|b| bytes_of(f64::from_le_bytes(*b))).collect();
                *stored = dtype;
                assert_eq!(parts.passes(precision), expected, "{dtype:?} {precision:?} {shift:e}");
            }
        }
    }
}

#[test]
fn goldens_that_do_not_fit_are_refused_with_the_reason() {
    type Change = fn(&mut Parts);
    let cases: [(Change, &str); 19] = [
        (|p| drop(p.tensors.remove("out.hn")), "out.hn: expected a tensor of shape [1, 3, 7], got none"),
        (|p| drop(p.tensors.remove("in.x")), "in.x: expected a tensor of shape [6, 3, 5], got none"),
        (|p| drop(p.tensors.remove("in.c0")), "in.c0: expected a tensor of shape [1, 3, 7], got none"),
        (|p| drop(p.tensors.remove("w.bias_hh_l0")), "w.bias_hh_l0: expected a tensor of shape [28], got none"),
        (|p| p.config = p.config.replace("\"T\": 6", "\"T\": 7"), "in.x: expected [7, 3, 5], got [6, 3, 5]"),
        (|p| p.config = p.config.replace("\"T\": 6, ", ""), "T: expected a size, got none"),
        (|p| p.config = p.config.replace("\"T\": 6", "\"T\": -6"), "T: expected a size, got -6"),
        (
            |p| p.config = p.config.replace("\"num_layers\": 1", "\"num_layers\": 60000"),
            "num_layers: expected tensors of 60000 layers, got",
        ),
        (
            |p| p.reconfigure("LSTM", "titans"),
            "kind \"titans\": this build knows RNN, LSTM, GRU, seq2seq_LSTM, seq2seq_GRU, train_adam, mamba_selective_scan, rwkv4_wkv",
        ),
        (|p| p.config = "[]".into(), "config: expected a JSON object, got []"),
        (|p| p.config = "{".into(), "metadata config is not JSON"),
        (
            |p| p.config = p.config.replace("\"has_state\": true", "\"has_state\": false"),
            "grad.c0: expected no such tensor with this config, got one",
        ),
        (
            |p| {
                let loss = p.tensors["out.loss"].clone();
                p.tensors.insert("out.z".into(), loss);
            },
            "out.z: expected no such tensor with this config, got one",
        ),
        (|p| drop(p.tensors.remove("up.y")), "up.y: expected a tensor of shape [6, 3, 7], got none"),
        (|p| drop(p.tensors.remove("grad.c0")), "grad.c0: expected a tensor of shape [1, 3, 7], got none"),
        (|p| drop(p.tensors.remove("grad.bias_hh_l0")), "grad.bias_hh_l0: expected a tensor of shape [28], got none"),
        (|p| drop(p.tensors.remove("out.loss")), "out.loss: expected a tensor of shape [1], got none"),
        (
            |p| {
                let w = p.tensors["grad.weight_ih_l0"].clone();
                p.tensors.insert("grad.weight_ih_l1".into(), w);
            },
            "grad.weight_ih_l1: expected no such tensor with this config, got one",
        ),
        (
            |p| {
                let y = p.tensors.get_mut("out.y").expect("y");
                (y.0, y.1) = (Dtype::I64, vec![6, 3, 7]);
            },
            "out.y: expected F64, F32, F16 or BF16, got I64",
        ),
    ];
    for (change, reason) in cases {
        refused("lstm_l1", change, reason);
    }
}

/// Asserts that a golden with `change` is refused with the reason, and the file's name.
fn refused(name: &str, change: fn(&mut Parts), reason: &str) {
    let mut parts = Parts::of(name);
    change(&mut parts);
    let error = parts.golden().expect_err(reason).to_string();
    assert!(error.contains(reason) && error.contains("changed.safetensors"), "{error}\nlacks\n{reason}");
}

#[test]
fn an_encoder_and_decoder_that_do_not_fit_are_refused_with_the_reason() {
    type Change = fn(&mut Parts);
    let cases: [(Change, &str); 20] = [
        (|p| drop(p.tensors.remove("in.src")), "in.src: expected a tensor of shape [5, 3], got none"),
        (|p| drop(p.tensors.remove("in.tgt")), "in.tgt: expected a tensor of shape [5, 3], got none"),
        (|p| drop(p.tensors.remove("out.dec_y")), "out.dec_y: expected a tensor of shape [4, 3, 8], got none"),
        (|p| drop(p.tensors.remove("out.enc_cn")), "out.enc_cn: expected a tensor of shape [1, 3, 8], got none"),
        (|p| drop(p.tensors.remove("w.out.bias")), "w.out.bias: expected a tensor of shape [11], got none"),
        (
            |p| drop(p.tensors.remove("grad.out.weight")),
            "grad.out.weight: expected a tensor of shape [11, 8], got none",
        ),
        (|p| drop(p.tensors.remove("grad.emb_tgt_seq")), "grad.emb_tgt_seq: expected a tensor of shape [4, 3, 6], got"),
        (|p| p.reshape("w.emb_src.weight", &[6, 11]), "w.emb_src.weight: expected [11, 6], got [6, 11]"),
        (|p| p.reshape("w.dec.weight_hh_l0", &[32, 7]), "w.dec.weight_hh_l0: expected [32, 8], got [32, 7]"),
        (|p| p.reshape("out.logits", &[4, 3, 10]), "out.logits: expected [4, 3, 11], got [4, 3, 10]"),
        (|p| p.reshape("in.tgt", &[4, 3]), "in.tgt: expected [5, 3], got [4, 3]"),
        (|p| p.integer("in.src", 7, 11), "in.src[7]: expected 0..=10, got 11"),
        (|p| p.integer("in.tgt", 0, -1), "in.tgt[0]: expected 0..=10, got -1"),
        (|p| p.integer("in.tgt", 14, i64::MAX), "in.tgt[14]: expected 0..=10, got 9223372036854775807"),
        (|p| p.values("out.logits", |v| v[3] = f64::NAN), "out.logits: expected finite numbers, got NaN at index 3"),
        (|p| p.values("grad.emb_src_seq", |v| v[0] = -f64::INFINITY), "grad.emb_src_seq: expected finite numbers, got"),
        (|p| p.reconfigure("\"vocab\": 11", "\"vocab\": 0"), "vocabulary: expected 1..=1073741824, got 0"),
        (|p| p.reconfigure("\"TD\": 4", "\"TD\": 18446744073709551615"), "time: expected 1..=1073741824, got"),
        (
            |p| p.reconfigure("\"num_layers\": 1", "\"num_layers\": 60000"),
            "num_layers: expected tensors of 60000 layers",
        ),
        (|p| p.reconfigure("seq2seq_LSTM", "seq2seq_GRU"), "w.enc.weight_ih_l0: expected [24, 6], got [32, 6]"),
    ];
    for (change, reason) in cases {
        refused("seq2seq_lstm_l1", change, reason);
    }
    let floats: Change = |p| {
        p.tensors.get_mut("in.src").expect("source").0 = Dtype::F64;
    };
    refused("seq2seq_gru_l2", floats, "in.src: expected I64 or I32, got F64");
    let cell_state: Change = |p| {
        let hn = p.tensors["out.enc_hn"].clone();
        p.tensors.insert("out.enc_cn".into(), hn);
    };
    refused("seq2seq_gru_l2", cell_state, "out.enc_cn: expected no such tensor with this config, got one");
}

#[test]
fn a_training_that_does_not_fit_is_refused_with_the_reason() {
    type Change = fn(&mut Parts);
    let cases: [(Change, &str); 20] = [
        (|p| drop(p.tensors.remove("in.ids")), "in.ids: expected a tensor of shape [10, 9, 4], got none"),
        (|p| drop(p.tensors.remove("out.losses")), "out.losses: expected a tensor of shape [10], got none"),
        (|p| drop(p.tensors.remove("w0.emb.weight")), "w0.emb.weight: expected a tensor of shape [12, 6], got none"),
        (
            |p| drop(p.tensors.remove("grad0.rnn.bias_hh_l1")),
            "grad0.rnn.bias_hh_l1: expected a tensor of shape [40], got",
        ),
        (|p| drop(p.tensors.remove("w10.out.bias")), "w10.out.bias: expected a tensor of shape [12], got none"),
        (|p| p.reshape("w10.out.weight", &[10, 12]), "w10.out.weight: expected [12, 10], got [10, 12]"),
        (|p| p.reshape("in.ids", &[10, 8, 4]), "in.ids: expected [10, 9, 4], got [10, 8, 4]"),
        (|p| p.integer("in.ids", 359, 12), "in.ids[359]: expected 0..=11, got 12"),
        (|p| p.integer("in.ids", 0, i64::MIN), "in.ids[0]: expected 0..=11, got -9223372036854775808"),
        (|p| p.values("out.losses", |v| v[9] = f64::NAN), "out.losses: expected finite numbers, got NaN at index 9"),
        (|p| p.values("w10.emb.weight", |v| v[1] = f64::NAN), "w10.emb.weight: expected finite numbers, got NaN at"),
        (|p| p.reconfigure("\"steps\": 10", "\"steps\": 0"), "steps: expected at least 1, got 0"),
        (|p| p.reconfigure("\"steps\": 10", "\"steps\": 9"), "in.ids: expected [9, 9, 4], got [10, 9, 4]"),
        (|p| p.reconfigure("\"lr\": 0.02", "\"lr\": \"fast\""), "lr: expected a number, got \"fast\""),
        (|p| p.reconfigure("[0.9, 0.999]", "[0.9]"), "betas: expected 2 numbers, got [0.9]"),
        (|p| p.reconfigure("[0.9, 0.999]", "[0.9, 1.0]"), "betas: expected 0 <= beta < 1, got 1"),
        (|p| p.reconfigure("\"eps\": 1e-08", "\"eps\": -1e-08"), "eps: expected at least 0, got"),
        (|p| p.reconfigure("\"eps\": 1e-08", "\"epsilon\": 1e-08"), "eps: expected a number, got none"),
        (
            |p| p.reconfigure("\"hidden_size\": 10", "\"hidden_size\": 10000"),
            "w0.rnn.weight_ih_l0: expected [40000, 6], got [40, 6]",
        ),
        (
            |p| {
                let w = p.tensors["w10.out.bias"].clone();
                p.tensors.insert("w9.out.bias".into(), w);
            },
            "w9.out.bias: expected no such tensor with this config, got one",
        ),
    ];
    for (change, reason) in cases {
        refused("train_lstm_adam10", change, reason);
    }
}

#[test]
fn a_linear_recurrence_that_does_not_fit_is_refused_with_the_reason() {
    type Change = fn(&mut Parts);
    let mamba: [(Change, &str); 9] = [
        (|p| drop(p.tensors.remove("in.delta")), "in.delta: expected a tensor of shape [2, 6, 11], got none"),
        (
            |p| drop(p.tensors.remove("out.last_state")),
            "out.last_state: expected a tensor of shape [2, 6, 4], got none",
        ),
        (|p| drop(p.tensors.remove("up.last_state")), "up.last_state: expected a tensor of shape [2, 6, 4], got none"),
        (|p| p.reshape("in.B", &[2, 11, 4]), "in.B: expected [2, 4, 11], got [2, 11, 4]"),
        (|p| p.values("in.A", |v| v[3] = 0.0), "in.A: expected values below 0, got 0"),
        (|p| p.values("grad.z", |v| v[0] = f64::NAN), "grad.z: expected finite numbers, got NaN at index 0"),
        (|p| p.reconfigure("\"D\": 6", "\"D\": 0"), "sizes of the state: expected at least 1, got [0, 4, 1]"),
        (|p| p.reconfigure("\"D\": 6", "\"D\": 6000000000"), "states of all steps: needs 540672000000000 bytes, over "),
        (|p| p.reconfigure("\"z\": true", "\"z\": false"), "grad.z: expected no such tensor with this config, got one"),
    ];
    for (change, reason) in mamba {
        refused("mamba_scan_full", change, reason);
    }
    let rwkv: [(&str, Change, &str); 4] = [
        ("rwkv4_wkv", |p| drop(p.tensors.remove("in.pp")), "in.pp: expected a tensor of shape [2, 5], got none"),
        (
            "rwkv4_wkv_state",
            |p| p.reconfigure("\"state\": true", "\"state\": false"),
            "grad.aa: expected no such tensor with this config, got one",
        ),
        ("rwkv7_wkv", |p| drop(p.tensors.remove("in.s0")), "in.s0: expected a tensor of shape [2, 2, 4, 4], got none"),
        ("rwkv5_wkv", |p| p.reconfigure("rwkv5_wkv", "rwkv6_wkv"), "in.w: expected [2, 6, 2, 4], got [2, 4]"),
    ];
    for (name, change, reason) in rwkv {
        refused(name, change, reason);
    }
}

#[test]
fn one_wrong_number_of_any_other_kind_fails() {
    let kinds = [
        ("seq2seq_lstm_l1", 8 + 5 + 7),
        ("train_lstm_adam10", 1 + 11 + 11),
        ("mamba_scan_full", 3 + 8),
        ("rwkv4_wkv_state", 5 + 4 + 2),
        ("rwkv7_wkv", 3 + 6 + 1),
    ];
    for (name, truths) in kinds {
        let golden = Parts::of(name).golden().expect("a golden");
        assert_eq!(golden.truths.len(), truths, "{name}");
        for precision in PRECISIONS {
            assert!(Parts::of(name).passes(precision), "{name}");
            for truth in &golden.truths {
                let at = 5.min(truth.tensor.data.len() - 1);
                for wrong in [1e-5, 1e6] {
                    let mut parts = Parts::of(name);
                    parts.values(&truth.name, |v| v[at] += wrong * truth.scale);
                    assert!(!parts.passes(precision), "{name} {} + {wrong} in {precision:?}", truth.name);
                }
            }
        }
    }
    // What goes in counts too: ids that are another token's, a weight, how the optimiser steps.
    type Change = (&'static str, fn(&mut Parts));
    let changes: [Change; 10] = [
        ("seq2seq_lstm_l1", |p| p.integer("in.src", 7, 10)),
        ("seq2seq_lstm_l1", |p| p.integer("in.tgt", 14, 10)),
        ("seq2seq_gru_l2", |p| p.values("w.emb_tgt.weight", |v| v.iter_mut().for_each(|v| *v *= 1.001))),
        ("seq2seq_gru_l2", |p| p.values("w.dec.bias_hh_l1", |v| v[0] = f64::NAN)),
        ("train_lstm_adam10", |p| p.integer("in.ids", 355, 11)),
        ("train_lstm_adam10", |p| p.reconfigure("\"lr\": 0.02", "\"lr\": 0.0201")),
        ("train_lstm_adam10", |p| p.reconfigure("0.999", "0.99")),
        ("mamba_scan_full", |p| p.values("in.delta_bias", |v| v[2] += 1e-3)),
        ("rwkv4_wkv_state", |p| p.values("in.pp", |v| v[8] += 1e-3)),
        ("rwkv7_wkv", |p| p.values("up.s", |v| v[9] += 1e-3)),
    ];
    for (name, change) in changes {
        for precision in PRECISIONS {
            let mut parts = Parts::of(name);
            let before = parts.bytes();
            change(&mut parts);
            assert_ne!(parts.bytes(), before, "a change of {name}");
            assert!(!parts.passes(precision), "a changed {name} in {precision:?}");
        }
    }
}

#[test]
fn lengths_outside_the_sequence_are_refused() {
    for wrong in [0i64, 9, -1, i64::MIN, i64::MAX] {
        let mut parts = Parts::of("lstm_l1_bi_packed");
        parts.integer("in.lengths", 1, wrong);
        let error = parts.golden().expect_err("a bad length").to_string();
        assert!(error.contains(&format!("in.lengths[1]: expected 1..=8, got {wrong}")), "{error}");
    }
}

#[test]
fn f64_on_a_gpu_is_refused() {
    let golden = Golden::open(folder().join("gru_l1.safetensors")).expect("a golden");
    let device = Device::gpu().expect("a GPU adapter; Mesa's lavapipe will do");
    let error = verify(&golden, &device, None, Precision::F64).expect_err("no f64 there");
    assert!(matches!(error, wgpu_rnn::Error::Unsupported { .. }), "{error}");
}

/// x, h0, c0, lengths and upstream gradients for a configuration, for cells and settings that PyTorch has no goldens of.
struct Case {
    config: RnnConfig,
    weights: Weights<f64>,
    x: Tensor<f64>,
    h0: Tensor<f64>,
    c0: Option<Tensor<f64>>,
    up: Output<f64>,
}

/// c0 as a run may have left it: sLSTM's normaliser n is at least 1 and no smaller than c.
fn initial_cell(config: &RnnConfig, mut c0: Tensor<f64>) -> Tensor<f64> {
    if config.cell == &cells::SLSTM {
        let normalisers = c0.data.chunks_exact_mut(config.hidden_size).skip(1).step_by(3);
        normalisers.flatten().for_each(|n| *n = 1.5 + n.abs());
    }
    c0
}

const SHAPE: Shape = Shape { time: 5, batch: 3 };
const LENGTHS: [usize; 3] = [2, 5, 4];

impl Case {
    fn new(config: RnnConfig) -> Self {
        let values = |shape: &[usize], seed: usize| {
            let n = shape.iter().product();
            let data = (0..n).map(|i| ((i * 37 + seed * 17) % 101) as f64 / 40.0 - 1.2).collect();
            Tensor { data, shape: shape.to_vec() }
        };
        let rows = match config.layout {
            Layout::TimeMajor => [SHAPE.time, SHAPE.batch],
            Layout::BatchFirst => [SHAPE.batch, SHAPE.time],
        };
        let stack = config.num_layers * config.directions();
        let state = |width: usize, seed: usize| values(&[stack, SHAPE.batch, width], seed);
        let cell_state = config.cell.has_cell_state();
        let mut weights = Weights::random(&config, 4).expect("a valid configuration");
        // Gains start as 1, which would hide where they belong; smaller, for f32 to say something: see tests/harness.
        for layer in &mut weights.layers {
            layer.gains = values(&[layer.gains.len()], 8).data.iter().map(|v| 0.25 + v / 8.0).collect();
        }
        Self {
            x: values(&[rows[0], rows[1], config.input_size], 1),
            h0: state(config.state_size(), 2),
            c0: cell_state.then(|| initial_cell(&config, state(config.cell_size(), 3))),
            up: Output {
                y: values(&[rows[0], rows[1], config.output_size()], 5),
                hn: state(config.state_size(), 6),
                cn: cell_state.then(|| state(config.cell_size(), 7)),
                predictions: None,
            },
            weights,
            config,
        }
    }

    fn with<T: Element, R>(&self, run: impl FnOnce(&Input<'_, T>, &Upstream<'_, T>) -> wgpu_rnn::Result<R>) -> R {
        let cast = |t: &Tensor<f64>| Tensor {
            data: t.data.iter().map(|&v| T::from_f64(v)).collect::<Vec<T>>(),
            shape: t.shape.clone(),
        };
        let (x, h0, c0) = (cast(&self.x), cast(&self.h0), self.c0.as_ref().map(cast));
        let (y, hn, cn) = (cast(&self.up.y), cast(&self.up.hn), self.up.cn.as_ref().map(cast));
        let initial = Initial::Given { h0: Some(h0.view()), c0: c0.as_ref().map(Tensor::view) };
        let up = Upstream { y: Some(y.view()), hn: Some(hn.view()), cn: cn.as_ref().map(Tensor::view) };
        run(&Input { lengths: Some(&LENGTHS), initial, ..Input::new(x.view()) }, &up).expect("it runs")
    }

    fn naive<T: naive::Scalar>(&self) -> Named {
        let weights = self.weights.cast::<T>();
        self.with(|input, up| {
            let output = naive::forward(&self.config, &weights, input)?;
            Ok(self.named(output, naive_backward::backward(&self.config, &weights, input, up)?))
        })
    }

    fn session<T: Element>(&self, device: &Device, strategy: Strategy, precision: Precision) -> Named {
        let options = Options { strategy: Some(strategy), precision, train: true, ..Default::default() };
        let plan = Plan::new(&self.config, SHAPE, &device.caps(), &options).expect("a plan");
        let mut session = Session::<T>::from_plan(device, plan, &self.weights.cast()).expect("a session");
        session.poison().expect("poisoned");
        self.with(|input, up| {
            let output = session.forward(input)?;
            Ok(self.named(output, session.backward(up)?))
        })
    }

    fn named<T: Element>(&self, output: Output<T>, gradients: Gradients<T>) -> Named {
        let wide = |v: &[T]| v.iter().map(|v| v.to_f64()).collect::<Vec<f64>>();
        let tensors = [
            ("y", Some(output.y)),
            ("hn", Some(output.hn)),
            ("cn", output.cn),
            ("grad.x", Some(gradients.x)),
            ("grad.h0", Some(gradients.h0)),
            ("grad.c0", gradients.c0),
        ];
        let mut list: Named =
            tensors.into_iter().filter_map(|(n, t)| t.map(|t| (n.to_string(), wide(&t.data)))).collect();
        list.extend(gradients.weights.named(&self.config).map(|(p, v)| (format!("grad.{}", p.name), wide(v))));
        list
    }
}

/// Tensors by name.
type Named = Vec<(String, Vec<f64>)>;

/// Every registered cell under `settings`, held against the naive loop.
fn agree_with_naive<T: Element>(device: &Device, precision: Precision, settings: &[RnnConfig]) {
    let mut failures = Vec::new();
    for setting in settings {
        let case = Case::new(setting.clone());
        let truth = case.naive::<f64>();
        let rounded = case.naive::<f32>();
        for strategy in STRATEGIES {
            let got = case.session::<T>(device, strategy, precision);
            assert_eq!(got.len(), truth.len());
            for (((name, got), (_, truth)), (_, rounded)) in got.iter().zip(&truth).zip(&rounded) {
                let scale = tolerance::scale(truth);
                let bound = match precision {
                    Precision::F64 => tolerance::bound_f64(scale),
                    Precision::F32 => tolerance::bound_f32(scale, tolerance::error(rounded, truth)),
                };
                let error = tolerance::error(got, truth);
                if !bound.is_finite() || error > bound {
                    failures.push(format!("{setting:?} {strategy} {name}: {error:e} > {bound:e}"));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn settings(directions: &[Direction], biases: &[Bias]) -> Vec<RnnConfig> {
    let mut list = Vec::new();
    for cell in cells::ALL {
        for &direction in directions {
            for &bias in biases {
                for (layout, num_layers) in [(Layout::TimeMajor, 1), (Layout::BatchFirst, 3)] {
                    let config = RnnConfig { cell, input_size: 5, hidden_size: 7, ..Default::default() };
                    list.push(RnnConfig { direction, bias, layout, num_layers, ..config.clone() });
                    if cell.has_cell_state() {
                        list.push(RnnConfig { direction, bias, layout, num_layers, proj_size: 3, ..config });
                    }
                }
            }
        }
    }
    list
}

#[test]
fn every_cell_agrees_with_the_naive_loop_on_the_cpu() {
    let directions = [Direction::Forward, Direction::Reverse, Direction::Bidirectional];
    let settings = settings(&directions, &[Bias::None, Bias::One, Bias::Two]);
    agree_with_naive::<f64>(&Device::cpu(), Precision::F64, &settings);
    agree_with_naive::<f32>(&Device::cpu(), Precision::F32, &settings);
}

#[test]
fn every_cell_agrees_with_the_naive_loop_on_a_gpu() {
    let device = Device::gpu().expect("a GPU adapter; Mesa's lavapipe will do");
    let mut settings = settings(&[Direction::Reverse], &[Bias::One]);
    settings.extend(self::settings(&[Direction::Bidirectional], &[Bias::Two]).into_iter().filter(|c| c.num_layers > 1));
    if !everything() {
        // Every cell once, with a projection if it may have one: deep and in both directions, or a layer that is read backwards.
        settings
            .retain(|c| (c.num_layers > 1) == (c.bias == Bias::Two) && (c.proj_size > 0 || !c.cell.has_cell_state()));
        settings.retain(|c| (c.num_layers > 1) == c.cell.name.starts_with("lstm"));
    }
    agree_with_naive::<f32>(&device, Precision::F32, &settings);
}

#[test]
fn a_view_without_its_values_is_refused() {
    let config = RnnConfig { cell: &cells::GRU, input_size: 5, hidden_size: 7, ..Default::default() };
    let weights = Weights::<f64>::random(&config, 1).expect("valid");
    let x = [0.0; 4];
    for shape in [[1 << 20, 1 << 20, 5], [1 << 40, 1 << 40, 5], [0, 2, 5]] {
        assert!(naive::forward(&config, &weights, &Input::new(View::new(&x, &shape))).is_err());
    }
}

#[test]
fn gradients_come_in_the_shapes_of_what_was_given() {
    let config = RnnConfig { cell: &cells::LSTM, input_size: 5, hidden_size: 7, ..Default::default() };
    let weights = Weights::<f32>::random(&config, 1).expect("valid");
    let options = Options { train: true, ..Default::default() };
    let shape = Shape { time: 4, batch: 1 };
    let plan = Plan::new(&config, shape, &Device::cpu().caps(), &options).expect("a plan");
    let mut session = Session::from_plan(&Device::cpu(), plan, &weights).expect("a session");
    let (x, dy) = ([0.5; 20], [1.0; 28]);
    let flat = Upstream { y: Some(View::new(&dy, &[4, 7])), hn: None, cn: None };
    let whole = Upstream { y: Some(View::new(&dy, &[4, 1, 7])), hn: None, cn: None };

    session.forward(&Input::new(View::new(&x, &[4, 5]))).expect("it runs");
    let unbatched = session.backward(&flat).expect("it runs");
    let shapes = |g: &Gradients<f32>| (g.x.shape.clone(), g.h0.shape.clone(), g.c0.clone().expect("an LSTM").shape);
    assert_eq!(shapes(&unbatched), (vec![4, 5], vec![1, 7], vec![1, 7]));

    session.forward(&Input::new(View::new(&x, &[4, 1, 5]))).expect("it runs");
    let refused = session.backward(&flat).expect_err("a batch dimension is missing").to_string();
    assert_eq!(refused, "dy: expected [T, B, D·P] = [4, 1, 7], got [4, 7]");
    let batched = session.backward(&whole).expect("it runs");
    assert_eq!(shapes(&batched), (vec![4, 1, 5], vec![1, 1, 7], vec![1, 1, 7]));
    assert_eq!((batched.x.data, batched.weights), (unbatched.x.data, unbatched.weights));
}
