//! Files from anywhere: whatever the bytes, reading them gives a typed error or a value; never a panic, never an allocation
//! out of proportion to the file.

#[path = "harness/watching.rs"]
mod watching;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use std::cell::Cell;
use std::path::Path;
use watching::{forget, largest};
use wgpu_rnn::io::safetensors::TensorFile;
use wgpu_rnn::weights::parameters;
use wgpu_rnn::{Device, Error, Precision, RnnConfig, cells};
use wgpu_rnn_verify::{Case, Golden, verify};

/// The `gemm` crate allocates a slab of the size of the second-level cache once per thread; it must not count as the file's.
fn warm_up() {
    thread_local!(static WARM: Cell<bool> = const { Cell::new(false) });
    if WARM.replace(true) {
        return;
    }
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/torch_golden");
    for entry in std::fs::read_dir(folder).expect("the goldens") {
        let golden = Golden::open(entry.expect("a file").path()).expect("a golden");
        for precision in [Precision::F64, Precision::F32] {
            verify(&golden, &Device::cpu(), None, precision).expect("a golden that runs");
        }
    }
}

/// Puts `bytes` through everything that reads files; true if they were a safetensors file at all.
fn read(bytes: &[u8]) -> bool {
    warm_up();
    forget();
    // A tensor read as f64 takes up to four times its f16 bytes, packed weights a few times that; small files have a floor.
    let allowed = 64 * bytes.len() + (1 << 20);
    let check = || assert!(largest() <= allowed, "{} bytes at once for a file of {}", largest(), bytes.len());
    let opened = TensorFile::from_bytes("hostile.safetensors", bytes.to_vec());
    if let Ok(file) = &opened {
        read_tensors(file);
        let golden = Golden::read(file);
        check();
        if let Ok(golden) = golden {
            for precision in [Precision::F64, Precision::F32] {
                // The report may be anything; nothing may panic.
                let _ = verify(&golden, &Device::cpu(), None, precision);
            }
            // Of blocks the naive loop keeps every operation of every step, for its gradients.
            if !matches!(golden.case, Case::Blocks(_)) {
                check();
            }
        }
    }
    opened.is_ok()
}

fn read_tensors(file: &TensorFile) {
    let _ = file.metadata();
    for name in file.names() {
        let _ = (file.real::<f32>(&name), file.real::<f64>(&name), file.integers(&name));
    }
    for cell in cells::ALL {
        for prefix in ["", "w."] {
            let Ok(config) = file.config(cell, prefix) else { continue };
            if let Ok(weights) = file.weights::<f32>(&config, prefix) {
                weights.validate(&config).expect("weights that were read fit their configuration");
            }
        }
    }
}

const BLOCKS: [&str; 4] = ["mamba_l2", "mamba2_l1", "rwkv6_l2", "rwkv7_l2"];

fn golden(name: &str) -> Vec<u8> {
    let folder = if BLOCKS.contains(&name) { "block_golden" } else { "torch_golden" };
    let file = format!("tests/data/{folder}/{name}.safetensors");
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).expect("a golden")
}

/// Small ones: a single step, a ragged stack with projections, a plain RNN, and the kinds that are more than a stack.
fn goldens() -> impl proptest::strategy::Strategy<Value = Vec<u8>> {
    let stacks = ["lstm_l1_t1_b1", "lstm_l2_bi_proj_packed", "rnn_relu_l1"];
    let others = ["seq2seq_lstm_l1", "seq2seq_gru_l2", "train_lstm_adam10"];
    let linear = ["mamba_scan_full", "rwkv4_wkv_state", "rwkv7_wkv"];
    prop::sample::select([&stacks[..], &others, &linear, &BLOCKS].concat()).prop_map(golden)
}

/// A safetensors file of `header` and `data`.
fn container(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

fn names() -> impl proptest::strategy::Strategy<Value = String> {
    let known = [
        "weight_ih_l0",
        "weight_hh_l0",
        "bias_ih_l0",
        "bias_hh_l0",
        "weight_hr_l0",
        "weight_ih_l1",
        "weight_ih_l0_reverse",
        "w.weight_ih_l0",
        "w.weight_hh_l0",
        "w.weight_hr_l0",
        "in.x",
        "in.lengths",
        "out.y",
        "out.hn",
    ];
    prop_oneof![8 => prop::sample::select(known.to_vec()).prop_map(String::from), 1 => ".{0,40}"]
}

fn sizes() -> impl proptest::strategy::Strategy<Value = u64> {
    let absurd = vec![1 << 29, 1 << 30, 1 << 31, 1 << 32, 1 << 40, 1 << 62, (1 << 63) - 1, 1 << 63, u64::MAX];
    prop_oneof![6 => 0..9u64, 1 => prop::sample::select(absurd), 1 => any::<u64>()]
}

const DTYPES: [(&str, u64); 8] =
    [("F64", 8), ("F32", 4), ("F16", 2), ("BF16", 2), ("I64", 8), ("I32", 4), ("U8", 1), ("BOOL", 1)];

/// A header that parses: names, element types and shapes at will, byte ranges that mostly fit what the shapes say.
fn tensors() -> impl proptest::strategy::Strategy<Value = Vec<u8>> {
    let shape = prop::collection::vec(sizes(), 0..4);
    let tensor = (names(), prop::sample::select(DTYPES.to_vec()), shape, prop::option::weighted(0.05, any::<u64>()));
    (prop::collection::vec(tensor, 0..8), names(), any::<bool>()).prop_map(|(tensors, text, metadata)| {
        let (mut header, mut end) = (serde_json::Map::new(), 0u64);
        if metadata {
            header.insert("__metadata__".into(), serde_json::json!({ "config": text }));
        }
        for (name, (dtype, size), shape, lie) in tensors {
            let bytes = shape.iter().try_fold(size, |n, &d| n.checked_mul(d)).filter(|&n| n < 1 << 16);
            let start = end;
            if !header.contains_key(&name) {
                end += bytes.unwrap_or(8);
            }
            let offsets = [start, lie.unwrap_or(end)];
            let entry = serde_json::json!({ "dtype": dtype, "shape": shape, "data_offsets": offsets });
            header.entry(name).or_insert(entry);
        }
        container(&serde_json::Value::Object(header).to_string(), &vec![0x3c; end as usize])
    })
}

/// JSON values that have no place in a configuration, and some that have.
fn values() -> impl proptest::strategy::Strategy<Value = String> {
    let sizes = "0 1 2 -1 70000 30000000 1073741824 1073741825 4294967296 9223372036854775807 18446744073709551615";
    let others = r#"1e300 0.5 1e999 null true false [] {} [0,1e-9] "" "LSTM" "GRU" "RNN" "seq2seq_GRU" "train_adam""#;
    let odd: Vec<&str> = sizes.split(' ').chain(others.split(' ')).collect();
    prop_oneof![prop::sample::select(odd).prop_map(String::from), any::<u64>().prop_map(|n| n.to_string())]
}

/// Replaces the golden's own header metadata.
fn with_config(bytes: &[u8], change: impl FnOnce(&mut serde_json::Map<String, serde_json::Value>)) -> Vec<u8> {
    let length = u64::from_le_bytes(*bytes.first_chunk().expect("a header")) as usize;
    let mut header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + length]).expect("a header");
    let text = header["__metadata__"]["config"].as_str().expect("a config").to_string();
    let mut config = serde_json::from_str(&text).expect("a config");
    change(&mut config);
    header["__metadata__"]["config"] = serde_json::Value::Object(config).to_string().into();
    container(&header.to_string(), &bytes[8 + length..])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..Default::default() })]

    #[test]
    fn random_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300), length in 0..400u64, say in any::<bool>()) {
        let mut bytes = bytes;
        if say && bytes.len() >= 8 {
            bytes[..8].copy_from_slice(&length.to_le_bytes());
        }
        read(&bytes);
    }

    #[test]
    fn truncated(bytes in goldens(), at in any::<prop::sample::Index>()) {
        let kept = at.index(bytes.len());
        prop_assert!(!read(&bytes[..kept]), "{kept} of {} bytes were taken for the whole", bytes.len());
    }

    #[test]
    fn flipped(bytes in goldens(), flips in prop::collection::vec((any::<prop::sample::Index>(), 0..8u32, any::<bool>()), 1..9)) {
        let mut bytes = bytes;
        let header = 8 + u64::from_le_bytes(*bytes.first_chunk().expect("a header")) as usize;
        for (at, bit, in_header) in flips {
            let at = at.index(if in_header { header } else { bytes.len() });
            bytes[at] ^= 1 << bit;
        }
        read(&bytes);
    }

    #[test]
    fn header_length(bytes in goldens(), length in prop_oneof![any::<u64>(), 0..4000u64]) {
        let mut bytes = bytes;
        bytes[..8].copy_from_slice(&length.to_le_bytes());
        read(&bytes);
    }

    #[test]
    fn absurd_tensors(bytes in tensors()) {
        read(&bytes);
    }

    #[test]
    fn absurd_configs(
        bytes in goldens(),
        changes in prop::collection::vec((0..45usize, prop::option::weighted(0.9, values())), 1..4),
    ) {
        let fields = [
            "kind", "nonlinearity", "T", "B", "unbatched", "proj_size", "packed", "has_state", "input_size", "hidden_size",
            "num_layers", "bidirectional", "bias", "batch_first", "vocab", "emb", "TS", "TD", "steps", "lr", "betas", "eps",
            "D", "N", "C", "H", "skip", "z", "delta_bias", "state",
            "intermediate_size", "state_size", "conv_kernel", "time_step_rank", "num_hidden_layers", "layer_norm_epsilon",
            "num_heads", "head_dim", "n_groups", "head_size", "mix_rank", "decay_rank", "rate_rank", "value_rank", "gate_rank",
        ];
        let bytes = with_config(&bytes, |config| {
            for (field, value) in changes {
                match value {
                    // 1e999 is no JSON number for serde_json; then the text itself.
                    Some(text) => {
                        let value = serde_json::from_str(&text).unwrap_or(serde_json::Value::String(text));
                        config.insert(fields[field].into(), value)
                    }
                    None => config.remove(fields[field]),
                };
            }
        });
        prop_assert!(read(&bytes), "the container itself is intact");
    }
}

#[test]
fn the_watch_sees_a_large_allocation() {
    forget();
    drop(std::hint::black_box(vec![1u8; 5 << 20]));
    assert_eq!(largest(), 5 << 20);
}

#[test]
fn some_absurd_tensors_are_files() {
    // Else the property above would test the header check alone.
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let trees = (0..200).map(|_| tensors().new_tree(&mut runner).expect("a value").current());
    let taken = trees.filter(|bytes| read(bytes)).count();
    assert!((20..190).contains(&taken), "{taken} of 200");
}

#[test]
fn empty_deep_and_hollow() {
    assert!(!read(b""));
    assert!(!read(&[0; 8]));
    assert!(read(&container("{}", b"")));
    assert!(!read(&container(&"[".repeat(100_000), b"")));
    let deep = format!("{{\"__metadata__\":{{\"config\":\"{}\"}}}}", "[".repeat(100_000));
    assert!(read(&container(&deep, b"")));
    // Shapes that hold nothing but claim a lot.
    for shape in ["[4611686018427387904,0]", "[0,18446744073709551615]", "[1073741824,0]", "[0]", "[]"] {
        let entry = |name: &str| format!("\"{name}\":{{\"dtype\":\"F32\",\"shape\":{shape},\"data_offsets\":[0,0]}}");
        read(&container(&format!("{{{},{}}}", entry("weight_ih_l0"), entry("weight_hh_l0")), b""));
    }
}

/// The message of a refusal, with `change` made to the tensors of a 3-in, 2-unit GRU in f32.
fn refusal(change: fn(&mut serde_json::Value)) -> String {
    let mut header = serde_json::json!({
        "p.weight_ih_l0": { "dtype": "F32", "shape": [6, 3], "data_offsets": [0, 72] },
        "p.weight_hh_l0": { "dtype": "F32", "shape": [6, 2], "data_offsets": [72, 120] },
        "p.bias_ih_l0": { "dtype": "F32", "shape": [6], "data_offsets": [120, 144] },
        "p.bias_hh_l0": { "dtype": "F32", "shape": [6], "data_offsets": [144, 168] },
    });
    change(&mut header);
    let bytes = container(&header.to_string(), &[0; 168]);
    let file = TensorFile::from_bytes("model.safetensors", bytes).expect("a safetensors file");
    let config = RnnConfig { cell: &cells::GRU, input_size: 3, hidden_size: 2, ..Default::default() };
    match file.weights::<f32>(&config, "p.") {
        Err(error @ Error::Mismatch { .. }) => error.to_string(),
        Err(error) => panic!("not a mismatch: {error}"),
        Ok(_) => String::new(),
    }
}

#[test]
fn weights_that_do_not_fit_name_tensor_expected_and_got() {
    assert_eq!(refusal(|_| ()), "");
    let rename = |header: &mut serde_json::Value| {
        let entry = header["p.bias_hh_l0"].take();
        header.as_object_mut().expect("an object").remove("p.bias_hh_l0");
        header["q.bias_hh_l0"] = entry;
    };
    assert_eq!(refusal(rename), "model.safetensors: p.bias_hh_l0: expected a tensor of shape [6], got none");
    let reshape: fn(&mut serde_json::Value) = |header| header["p.weight_hh_l0"]["shape"] = serde_json::json!([2, 6]);
    assert_eq!(refusal(reshape), "model.safetensors: p.weight_hh_l0: expected [6, 2], got [2, 6], 12 values");
    let retype: fn(&mut serde_json::Value) = |header| header["p.weight_ih_l0"]["dtype"] = "I32".into();
    let message = refusal(retype);
    assert!(message.contains("p.weight_ih_l0: expected F64, F32, F16 or BF16, got I32"), "{message}");
}

#[test]
fn a_deep_file_is_read_in_one_pass() {
    // 2000 layers of a GRU with I = H = 1: 8000 tensors. A second look at the whole header for each of them takes minutes.
    let config = RnnConfig { num_layers: 2000, ..RnnConfig::gru(1, 1) };
    let (mut header, mut end) = (serde_json::Map::new(), 0);
    for p in parameters(&config) {
        let bytes = 4 * p.shape.iter().product::<usize>();
        let entry = serde_json::json!({ "dtype": "F32", "shape": p.shape, "data_offsets": [end, end + bytes] });
        header.insert(p.name, entry);
        end += bytes;
    }
    let bytes = container(&serde_json::Value::Object(header).to_string(), &vec![0; end]);
    let start = std::time::Instant::now();
    let file = TensorFile::from_bytes("deep.safetensors", bytes).expect("a safetensors file");
    assert_eq!(file.config(&cells::GRU, "").expect("a config"), config);
    file.weights::<f32>(&config, "").and_then(|w| w.validate(&config)).expect("weights");
    assert!(start.elapsed().as_secs_f64() < 1.0, "{:?}", start.elapsed());
}

/// What a run would take is in no file: sizes beyond the machine are refused by themselves, and smaller ones by the tensors, which
/// have other shapes; both before anything is allocated.
#[test]
fn gigantic_goldens_are_refused_at_once() {
    for name in ["mamba_scan_full", "rwkv4_wkv_state", "rwkv5_wkv", "rwkv7_wkv", "train_lstm_adam10"] {
        for field in ["T", "B", "D", "N", "H", "C", "hidden_size"] {
            for size in [1000, 100_000, 1 << 30, 1 << 40, u64::MAX] {
                let bytes = with_config(&golden(name), |config| {
                    if config.contains_key(field) {
                        config.insert(field.into(), size.into());
                    } else {
                        config.insert("T".into(), size.into());
                    }
                });
                let start = std::time::Instant::now();
                assert!(read(&bytes), "the container itself is intact");
                let file = TensorFile::from_bytes("claims.safetensors", bytes).expect("a file");
                let error = Golden::read(&file).expect_err("it has no such tensors").to_string();
                assert!(error.starts_with("claims.safetensors: "), "{error}");
                // Without the claim a run of these is a matter of milliseconds; the first of the thread warms up.
                assert!(start.elapsed().as_secs() < 60, "{:?}", start.elapsed());
            }
        }
    }
}

#[test]
fn a_folder_or_nothing_is_not_a_file() {
    for path in [env!("CARGO_MANIFEST_DIR"), "/nonexistent/file.safetensors"] {
        assert!(matches!(TensorFile::open(path).err(), Some(Error::File { .. })));
    }
}
