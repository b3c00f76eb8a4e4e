//! Decoders: what they choose, beside a plain loop over a session of one stream; their promises, and what is refused. Needs a GPU adapter
//! (Mesa's lavapipe will do).

mod choices;
mod hooks;
mod plain;
mod promises;
mod refusals;
mod transducer;

use wgpu_rnn::*;

#[path = "../harness/mod.rs"]
mod harness;

/// A model of `vocabulary` tokens whose logits are far enough apart that rounding decides nothing.
fn model(cell: &'static Cell, vocabulary: usize, seed: u64) -> (RnnConfig, Weights<f32>) {
    let config = RnnConfig {
        cell,
        input_size: 6,
        hidden_size: 10,
        num_layers: 2,
        vocabulary: Some(vocabulary),
        head: Some(Head { size: vocabulary, loss: None }),
        ..Default::default()
    };
    let mut weights = Weights::<f32>::random(&config, seed).expect("weights");
    for parameter in weights::parameters(&config) {
        weights.get_mut(parameter.place).iter_mut().for_each(|w| *w *= 4.0);
    }
    (config, weights)
}

/// The CPU executor and a GPU.
fn devices() -> [Device; 2] {
    [Device::cpu(), harness::gpu()]
}

fn decoder(device: &Device, of: &(RnnConfig, Weights<f32>), options: &DecoderOptions) -> Decoder {
    Decoder::of_rnn(device, &of.0, &of.1, options).expect("a decoder")
}

/// Equal tokens and ends, and scores within what 32 bits make of them.
#[track_caller]
fn assert_alike(what: &str, got: &[Hypothesis], expected: &[Hypothesis]) {
    assert_eq!(got.len(), expected.len(), "{what}: hypotheses");
    for (n, (got, expected)) in got.iter().zip(expected).enumerate() {
        assert_eq!((&got.tokens, got.ended), (&expected.tokens, expected.ended), "{what}: hypothesis {n}");
        let bound = 1e-4 * (1.0 + expected.score.abs());
        assert!((got.score - expected.score).abs() <= bound, "{what}: score {} for {}", got.score, expected.score);
    }
}
