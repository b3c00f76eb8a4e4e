//! Models of exporters, damaged: a typed error or a network, never a panic, never without end.

use super::recorded::{arrays, folder};
use proptest::prelude::*;
use wgpu_rnn_formats::onnx::OnnxFile;

const CASES: [&str; 8] =
    ["lstm_small_ts", "lstm2_small_dyn", "packed_ts", "zero_ts", "rnn_dyn", "cell_ts", "q", "fp16"];

/// Puts `bytes` through everything that reads them.
fn read(case: &str, bytes: Vec<u8>) {
    let folder = folder(&format!("exporters/{case}"));
    let Ok(file) = OnnxFile::from_bytes("hostile.onnx", bytes) else { return };
    let labels: Vec<_> = file.nodes().cloned().collect();
    for label in labels.iter().take(8) {
        let _ = file.node(&label.name);
    }
    let inputs = arrays(&folder, "in");
    let shapes: Vec<(&str, &[usize])> = inputs.iter().map(|(name, t)| (name.as_str(), &t.shape[..])).collect();
    if let Ok(network) = file.network(&shapes) {
        assert_eq!(network.params.len(), network.network.parameter_count());
    }
    let _ = (file.inputs(), file.outputs());
}

fn model(case: &str) -> Vec<u8> {
    std::fs::read(folder(&format!("exporters/{case}")).join("model.onnx")).expect("a model")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..Default::default() })]

    #[test]
    fn truncated(case in prop::sample::select(CASES.to_vec()), at in any::<prop::sample::Index>()) {
        let bytes = model(case);
        let end = at.index(bytes.len());
        read(case, bytes[..end].to_vec());
    }

    #[test]
    fn flipped(case in prop::sample::select(CASES.to_vec()), flips in prop::collection::vec((any::<prop::sample::Index>(), 0..8u32), 1..6)) {
        let mut bytes = model(case);
        for (at, bit) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
        }
        read(case, bytes);
    }

    /// Sizes, and the numbers of shapes, are where a file lies best.
    #[test]
    fn overwritten(case in prop::sample::select(CASES.to_vec()), at in any::<prop::sample::Index>(), with in prop::sample::select(vec![0u8, 1, 2, 0x7f, 0x80, 0xff]), n in 1..10usize) {
        let mut bytes = model(case);
        let at = at.index(bytes.len());
        let end = (at + n).min(bytes.len());
        bytes[at..end].fill(with);
        read(case, bytes);
    }
}
