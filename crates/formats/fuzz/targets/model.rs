//! What every target of Keras's files does with one.

use wgpu_rnn_formats::keras::KerasFile;

/// Opens the bytes as a file, and reads its layers and the whole model.
pub fn read(bytes: &[u8]) {
    let Ok(file) = KerasFile::from_bytes("fuzzed", bytes.to_vec()) else { return };
    let names: Vec<String> = file.layers().map(|label| label.name.clone()).take(8).collect();
    for name in names {
        if let Ok(rnn) = file.layer(&name) {
            rnn.weights.validate(&rnn.config).expect("weights that were read fit their configuration");
        }
    }
    if let Ok(whole) = file.network() {
        assert!(whole.stages.iter().all(|stage| stage.values.len() == stage.network.parameter_count()));
    }
}
