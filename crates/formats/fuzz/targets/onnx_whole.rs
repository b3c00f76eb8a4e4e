//! Whole ONNX models, made into networks for small shapes.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wgpu_rnn_formats::onnx::{OnnxFile, OnnxSize};

/// Sizes of open axes: of the first axis, and of others.
const SIZES: [[usize; 2]; 2] = [[2, 5], [1, 3]];
/// Values of an input, at most.
const MOST: usize = 1 << 16;

fuzz_target!(|bytes: &[u8]| {
    let Ok(file) = OnnxFile::from_bytes("fuzzed.onnx", bytes.to_vec()) else { return };
    for open in SIZES {
        let shape = |shape: &Vec<OnnxSize>| -> Vec<usize> {
            let size = |(axis, size): (usize, &OnnxSize)| match size {
                OnnxSize::Fixed(size) => *size,
                _ => open[axis.min(1)],
            };
            shape.iter().enumerate().map(size).collect()
        };
        let inputs: Vec<(String, Vec<usize>)> =
            file.inputs().iter().map(|v| (v.name.clone(), v.shape.as_ref().map(shape).unwrap_or_default())).collect();
        let small =
            |shape: &[usize]| shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).is_some_and(|n| n <= MOST);
        if !inputs.iter().all(|(_, shape)| small(shape)) {
            return;
        }
        let shapes: Vec<(&str, &[usize])> = inputs.iter().map(|(name, shape)| (name.as_str(), &shape[..])).collect();
        if let Ok(model) = file.model(&shapes) {
            assert!(model.stages.iter().all(|stage| stage.params.len() == stage.network.parameter_count()));
        }
    }
});
