//! What is computed outside, step by step.

use crate::*;
use std::sync::Arc;
use wgpu_rnn::network::{Builder, Network};

/// A network that reads a token and a context of two values.
fn network() -> (Arc<Network>, Vec<f32>) {
    let mut b = Builder::new();
    let (ids, context) = (b.input("ids", 1).expect("ids"), b.input("context", 2).expect("a context"));
    let embedded = b.embedding("embedding", ids, 8, 4).expect("an embedding");
    let both = b.concat("both", &[embedded, context]).expect("both");
    let y = b.layers("gru", both, &RnnConfig::gru(6, 7)).expect("layers");
    let (weight, bias) =
        (b.param("head.weight", &[8, 7]).expect("a matrix"), b.param("head.bias", &[8]).expect("a bias"));
    let logits = b.linear("head", y, weight, Some(bias)).expect("a head");
    b.output("logits", logits).expect("an output");
    let network = Arc::new(b.finish().expect("a network"));
    let params = harness::values(3, network.parameter_count(), 2.0);
    (network, params)
}

/// Gives the number of the tokens so far as a context, and takes away the token before.
struct Counting {
    seen: Vec<(usize, usize, usize)>,
}

impl DecodeHook<f32> for Counting {
    fn inputs(&mut self, row: DecodeRow<'_>, frame: &mut [f32]) -> Result<()> {
        assert_eq!(frame[0], *row.tokens.last().or(row.prompt.last()).expect("a token") as f32);
        frame[1] = row.tokens.len() as f32 / 4.0;
        frame[2] = row.stream as f32 - 1.0;
        Ok(())
    }

    fn logits(&mut self, row: DecodeRow<'_>, logits: &mut [f32]) -> Result<()> {
        assert_eq!(logits.len(), 8);
        let last = row.tokens.last().or(row.prompt.last()).expect("a token");
        logits[*last as usize] = f32::NEG_INFINITY;
        self.seen.push((row.stream, row.prompt.len(), row.tokens.len()));
        Ok(())
    }
}

#[test]
fn a_hook_fills_inputs_and_changes_logits() {
    let (network, params) = network();
    for decoding in [Decoding::Greedy, Decoding::Beam(Beam { width: 2, length_power: 0.0 })] {
        let options = DecoderOptions { decoding, max_tokens: 6, ..Default::default() };
        let mut results = Vec::new();
        for device in devices() {
            let mut one = Decoder::of_model(&device, &network, &params, &options).expect("a decoder");
            let without = one.decode(&[Prompt::new(&[1])]).map(drop).expect_err("inputs that nobody fills");
            assert!(without.to_string().contains("ids, context"), "{without}");
            let mut hook = Counting { seen: Vec::new() };
            let prompts = [Prompt::new(&[1]), Prompt::new(&[2, 3, 4]), Prompt::new(&[5])];
            let found = one.decode_with(&prompts, &mut hook).expect("tokens");
            for h in found.iter().flatten() {
                assert!(h.tokens.windows(2).all(|two| two[0] != two[1]), "{h:?}");
                assert_eq!((h.tokens.len(), h.ended), (6, Ended::Length));
            }
            assert!(hook.seen.contains(&(1, 3, 5)) && hook.seen.contains(&(2, 1, 0)), "{:?}", hook.seen);
            results.push((found, hook.seen));
        }
        let (cpu, gpu) = (&results[0], &results[1]);
        assert_eq!(cpu.1, gpu.1);
        cpu.0.iter().zip(&gpu.0).for_each(|(cpu, gpu)| assert_alike("GPU beside CPU", gpu, cpu));
    }
}

/// A network whose only input is ids has its tokens chosen on the device, with those that the host would choose.
#[test]
fn a_network_decodes_on_the_device() {
    let mut b = Builder::new();
    let ids = b.input("ids", 1).expect("ids");
    let embedded = b.embedding("embedding", ids, 9, 5).expect("an embedding");
    let y = b.layers("gru", embedded, &RnnConfig::gru(5, 7)).expect("layers");
    let (weight, bias) =
        (b.param("head.weight", &[9, 7]).expect("a matrix"), b.param("head.bias", &[9]).expect("a bias"));
    let logits = b.linear("head", y, weight, Some(bias)).expect("a head");
    b.output("y", y).expect("an output");
    b.output("logits", logits).expect("an output");
    let network = Arc::new(b.finish().expect("a network"));
    let params = harness::values(4, network.parameter_count(), 2.0);
    struct Nothing;
    impl DecodeHook<f32> for Nothing {}
    for decoding in [Decoding::Greedy, Decoding::Beam(Beam::default())] {
        let options = DecoderOptions {
            decoding,
            ends: vec![2],
            max_tokens: 17,
            logits: Some("logits".into()),
            ..Default::default()
        };
        let mut cpu = Decoder::of_model(&Device::cpu(), &network, &params, &options).expect("a decoder");
        let mut gpu = Decoder::of_model(&harness::gpu(), &network, &params, &options).expect("a decoder");
        let prompts = [Prompt::new(&[1]), Prompt::new(&[3, 0, 8]), Prompt::new(&[5])];
        let (on_cpu, on_gpu) = (cpu.decode(&prompts).expect("tokens"), gpu.decode(&prompts).expect("tokens"));
        on_gpu.iter().zip(&on_cpu).for_each(|(gpu, cpu)| assert_alike("on the device", gpu, cpu));
        let hooked = gpu.decode_with(&prompts, &mut Nothing).expect("tokens");
        on_gpu.iter().zip(&hooked).for_each(|(gpu, hooked)| assert_alike("on the host", gpu, hooked));
    }
}

/// An error of the hook ends the call, and the decoder goes on.
#[test]
fn a_hook_may_fail() {
    struct Failing;
    impl DecodeHook<f32> for Failing {
        fn logits(&mut self, row: DecodeRow<'_>, _: &mut [f32]) -> Result<()> {
            match row.tokens.len() {
                3 => Err(Error::mismatch("the outside", "something", "nothing")),
                _ => Ok(()),
            }
        }
    }
    let options = DecoderOptions { max_tokens: 6, ..Default::default() };
    let mut one = decoder(&Device::cpu(), &model(&cells::GRU, 5, 1), &options);
    let before = one.decode(&[Prompt::new(&[1])]).expect("tokens");
    let error = one.decode_with(&[Prompt::new(&[1])], &mut Failing).expect_err("the hook's");
    assert_eq!(error.to_string(), "the outside: expected something, got nothing");
    assert_eq!(one.decode(&[Prompt::new(&[1])]).expect("tokens"), before);
}
