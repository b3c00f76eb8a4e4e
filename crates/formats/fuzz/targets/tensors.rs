//! What every target of named tensors does with a file.

use wgpu_rnn::cells;
use wgpu_rnn_formats::Tensors;

/// Values a target reads of one file, at most: views of one storage may be 64 times the file, each.
const MOST_READ: usize = 1 << 22;

/// Opens the bytes as a file, and reads what is in it.
pub fn read(bytes: &[u8]) {
    let Ok(file) = Tensors::from_bytes("fuzzed", bytes.to_vec()) else { return };
    let mut left = MOST_READ;
    for name in file.names() {
        let count = file.shape(name).and_then(|shape| shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)));
        // What is too much to read must be refused, which costs nothing.
        let Some(rest) = left.checked_sub(count.unwrap_or(0).min(bytes.len() * 64)) else { break };
        left = rest;
        if let Ok(Some((shape, values))) = file.real::<f64>(name) {
            assert_eq!(shape.iter().product::<usize>(), values.len());
        }
        let _ = file.integers(name);
    }
    for layer in file.layers().into_iter().take(4) {
        let _ = (layer.to_string(), layer.element());
        for cell in cells::ALL {
            if let Ok((config, weights)) = layer.read::<f32>(Some(cell)) {
                weights.validate(&config).expect("weights that were read fit their configuration");
            }
        }
    }
}
