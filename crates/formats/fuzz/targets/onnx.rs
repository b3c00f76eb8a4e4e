//! ONNX files: their nodes, with all that is folded into the constants that those read.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wgpu_rnn_formats::onnx::OnnxFile;

fuzz_target!(|bytes: &[u8]| {
    let Ok(file) = OnnxFile::from_bytes("fuzzed.onnx", bytes.to_vec()) else { return };
    let _ = (file.inputs(), file.outputs());
    for label in file.nodes().take(8) {
        if let Ok(node) = file.node(&label.name) {
            node.weights.validate(&node.config).expect("weights that were read fit their configuration");
        }
    }
    for label in file.recurrences().take(8) {
        let _ = file.recurrence(&label.name);
    }
});
