//! Transducers beside a plain loop, stream by stream.

use crate::plain::Plain;
use crate::*;
use std::sync::Arc;
use wgpu_rnn::network::{Builder, Network};

const BLANK: u32 = 6;
const ENCODED: usize = 5;
const PREDICTED: usize = 7;

/// tanh of a product with both inputs side by side, and products with that: `sizes` are those of the outputs.
fn joint(sizes: &[usize]) -> (Arc<Network>, Vec<f32>) {
    let mut b = Builder::new();
    let (encoder, prediction) =
        (b.input("encoder", ENCODED).expect("an input"), b.input("prediction", PREDICTED).expect("an input"));
    let both = b.concat("both", &[encoder, prediction]).expect("both");
    let mut outputs = Vec::new();
    for (n, &size) in sizes.iter().enumerate() {
        let weight = b.param(&format!("{n}.weight"), &[size, ENCODED + PREDICTED]).expect("a matrix");
        outputs.push(b.linear(&format!("{n}"), both, weight, None).expect("a product"));
    }
    for (n, output) in outputs.into_iter().enumerate() {
        b.output(&format!("output {n}"), output).expect("an output");
    }
    let network = Arc::new(b.finish().expect("a network"));
    let params = harness::values(9, network.parameter_count(), 3.0);
    (network, params)
}

fn prediction() -> (RnnConfig, Weights<f32>) {
    let config = RnnConfig { vocabulary: Some(7), ..RnnConfig::lstm(4, PREDICTED) };
    let mut weights = Weights::<f32>::random(&config, 6).expect("weights");
    for parameter in weights::parameters(&config) {
        weights.get_mut(parameter.place).iter_mut().for_each(|w| *w *= 4.0);
    }
    (config, weights)
}

/// One stream as the papers have it.
fn plain(params: &[f32], sizes: &[usize], durations: &[usize], encoded: &[f32], max_symbols: usize) -> Transcript {
    let of = prediction();
    let mut one = Plain::new(&of);
    let product = |first: usize, size: usize, both: &[f64]| -> Vec<f64> {
        let rows = params[first..first + size * both.len()].chunks_exact(both.len());
        rows.map(|row| row.iter().zip(both).map(|(&w, x)| f64::from(w) * x).sum()).collect()
    };
    let best = |all: &[f64]| {
        let n = (0..all.len()).fold(0, |best, n| if all[n] > all[best] { n } else { best });
        (n, all[n] - all.iter().map(|x| x.exp()).sum::<f64>().ln())
    };
    let empty = one.empty();
    let (mut place, mut given) = one.output(&empty, BLANK);
    let mut found = Transcript::default();
    let mut t = 0;
    let time = encoded.len() / ENCODED;
    while t < time {
        let mut symbols = 0;
        loop {
            let step = encoded[t * ENCODED..(t + 1) * ENCODED].iter().map(|&x| f64::from(x));
            let both: Vec<f64> = step.chain(given.iter().copied()).collect();
            let (token, p) = best(&product(0, sizes[0], &both));
            found.score += p;
            let mut skip = usize::from(token as u32 == BLANK);
            if !durations.is_empty() {
                let (n, p) = best(&product(sizes[0] * both.len(), sizes[1], &both));
                found.score += p;
                skip = skip.max(durations[n]);
            }
            if token as u32 != BLANK {
                found.tokens.push(token as u32);
                found.times.push(t);
                (place, given) = one.output(&place, token as u32);
                symbols += 1;
            }
            if skip == 0 && symbols < max_symbols {
                continue;
            }
            t += skip.max(1);
            break;
        }
    }
    found
}

#[test]
fn transducers_stay_on_blanks_and_go_on_with_tokens() {
    let lengths = [11, 0, 1, 30, 7];
    let encoded: Vec<Vec<f32>> =
        lengths.iter().enumerate().map(|(n, &t)| harness::values(n as u64, t * ENCODED, 3.0)).collect();
    for (sizes, durations) in [(vec![7], vec![]), (vec![7, 4], vec![0, 1, 2, 4])] {
        let (network, params) = joint(&sizes);
        let options = TransducerOptions {
            durations: durations.clone(),
            max_symbols: 3,
            max_batch: 3,
            rounds_per_submit: 7,
            ..TransducerOptions::new(BLANK)
        };
        let shapes: Vec<[usize; 2]> = lengths.iter().map(|&t| [t, ENCODED]).collect();
        let views: Vec<View<'_, f32>> = encoded.iter().zip(&shapes).map(|(e, s)| View::new(e, s)).collect();
        let expected: Vec<Transcript> = encoded.iter().map(|e| plain(&params, &sizes, &durations, e, 3)).collect();
        let tokens: usize = expected.iter().map(|e| e.tokens.len()).sum();
        assert!(tokens > 10 && expected.iter().any(|e| e.times.windows(2).any(|two| two[0] == two[1])), "{expected:?}");
        let of = prediction();
        for device in devices() {
            let mut one = Transducer::new(&device, (&of.0, &of.1), (&network, &params), &options).expect("one");
            let found = one.decode(&views).expect("tokens");
            for (n, (found, expected)) in found.iter().zip(&expected).enumerate() {
                let what = format!("{durations:?} on {device}, stream {n}");
                assert_eq!((&found.tokens, &found.times), (&expected.tokens, &expected.times), "{what}");
                assert!((found.score - expected.score).abs() < 1e-3 * (1.0 + expected.score.abs()), "{what}");
            }
            assert_eq!(one.decode(&views).expect("tokens"), found, "again");
            // Few or many rounds in a submit, few or many streams at once: the same bits.
            for (rounds_per_submit, max_batch) in [(1, 5), (64, 2)] {
                let options = TransducerOptions { rounds_per_submit, max_batch, ..options.clone() };
                let mut other = Transducer::new(&device, (&of.0, &of.1), (&network, &params), &options).expect("one");
                assert_eq!(other.decode(&views).expect("tokens"), found, "{rounds_per_submit} rounds on {device}");
            }
            if device.kind() == "gpu" {
                assert!(one.submits() * 7 == one.rounds(), "{} submits", one.submits());
            }
        }
    }
}

#[test]
fn poisoned_streams_end_alone() {
    let (network, params) = joint(&[7]);
    let of = prediction();
    let clean = harness::values(1, 6 * ENCODED, 3.0);
    let mut poisoned = clean.clone();
    poisoned[3 * ENCODED] = f32::NAN;
    let shape = [6, ENCODED];
    for device in devices() {
        let options = TransducerOptions::new(BLANK);
        let mut one = Transducer::new(&device, (&of.0, &of.1), (&network, &params), &options).expect("one");
        let found = one.decode(&[View::new(&clean, &shape), View::new(&poisoned, &shape)]).expect("tokens");
        assert!(!found[0].poisoned && found[1].poisoned);
        assert!(found[0].tokens.starts_with(&found[1].tokens) && found[1].times.iter().all(|&t| t < 3));
    }
}

#[test]
fn parts_that_do_not_fit_are_refused() {
    let of = prediction();
    let (network, params) = joint(&[7]);
    #[track_caller]
    fn refused(result: Result<Transducer>, words: &str) {
        let error = result.map(drop).expect_err(words).to_string();
        assert!(error.contains(words), "{error}");
    }
    let with =
        |options: TransducerOptions| Transducer::new(&Device::cpu(), (&of.0, &of.1), (&network, &params), &options);
    refused(with(TransducerOptions::new(7)), "a token below 7");
    refused(with(TransducerOptions { start: Some(7), ..TransducerOptions::new(6) }), "an id below 7");
    refused(with(TransducerOptions { max_symbols: 0, ..TransducerOptions::new(6) }), "max_symbols");
    refused(with(TransducerOptions { max_batch: 0, ..TransducerOptions::new(6) }), "max_batch");
    refused(with(TransducerOptions { durations: vec![0, 1], ..TransducerOptions::new(6) }), "and of 2 durations");
    let narrow = RnnConfig { vocabulary: Some(7), ..RnnConfig::lstm(4, 6) };
    let weights = Weights::<f32>::random(&narrow, 1).expect("weights");
    let options = TransducerOptions::new(6);
    refused(Transducer::new(&Device::cpu(), (&narrow, &weights), (&network, &params), &options), "6 values");
    let mut one = with(options).expect("one");
    let data = [0.0; 12];
    let error = one.decode(&[View::new(&data, &[2, 6])]).expect_err("a wrong width").to_string();
    assert!(error.contains("encoder's output of stream 0: expected [T, E] = [2, 5]"), "{error}");
}
