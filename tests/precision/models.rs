//! What real networks lose by weights in fewer bits: g2p_en's GRU encoder, Silero's LSTM, RNNoise's three GRUs, ICU's Thai BiLSTM.
//!
//! The error of one step follows from the format: a pre-activation is Σ w·x + Σ r·h + b, so with |δw| the format's largest error
//! of a weight it moves by at most Σ |δw|·|x| + Σ |δr|·|h|. That is held for every gate of every step below. What it adds up to over
//! a sequence is measured and printed.

use super::ROUNDED;
use super::executors::check;
use super::harness::*;
use std::path::{Path, PathBuf};
use wgpu_rnn::io::safetensors::TensorFile;
use wgpu_rnn::*;
use wgpu_rnn_examples::noise_gate::rnnoise;
use wgpu_rnn_examples::pronounce::g2p;
use wgpu_rnn_examples::segment::icu;
use wgpu_rnn_examples::voice_activity::silero;
use wgpu_rnn_verify::tolerance;

fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/models")
}

fn recorded(folder: &str) -> (TensorFile, PathBuf) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(folder);
    (TensorFile::open(folder.join("cases.safetensors")).unwrap(), folder.join("cases.json"))
}

/// A network over real inputs, from a zero state.
fn real(config: RnnConfig, weights: Weights, time: usize, batch: usize, x: Vec<f32>) -> Case {
    let zeros = Case::new(config, time, batch, 1);
    let (h0, c0) = (vec![0.0; zeros.h0.len()], vec![0.0; zeros.c0.len()]);
    Case { weights, x, h0, c0, ..zeros }
}

/// Three words of the recording as one ragged batch.
fn g2p_encoder() -> Case {
    let model = g2p::Model::open(models().join("g2p_en/weights.safetensors")).unwrap();
    let words = ["france", "activationist", "recurrent"].map(|w| model.letters(w));
    let (gru, time) = (&model.encoder, words.iter().map(Vec::len).max().unwrap());
    let i = gru.config.input_size;
    let mut x = vec![0.0; time * words.len() * i];
    for (b, word) in words.iter().enumerate() {
        for (t, &letter) in word.iter().enumerate() {
            x[(t * words.len() + b) * i..][..i].copy_from_slice(gru.embed(letter));
        }
    }
    let lengths: Vec<usize> = words.iter().map(Vec::len).collect();
    real(gru.config.clone(), gru.weights.clone(), time, words.len(), x).with_lengths(&lengths)
}

/// 40 frames of speech.
fn silero_lstm() -> Case {
    let model = silero::Model::open(models().join("silero_vad/weights.safetensors")).unwrap();
    let x = recorded("silero_vad").0.real("lstm_in").unwrap().unwrap().1;
    let x: Vec<f32> = x[..40 * model.config.input_size].iter().map(|&v: &f64| v as f32).collect();
    real(model.config, model.weights, 40, 1, x)
}

/// The three GRUs over 40 frames of noisy speech, each with what the layers before it give.
fn rnnoise_grus() -> Vec<Case> {
    const FRAMES: usize = 40;
    let folder = models().join("rnnoise");
    let model = rnnoise::Model::open(folder.join("weights.safetensors")).unwrap();
    let width = model.features();
    let features = rnnoise::read_features(folder.join("features.safetensors"), width).unwrap();
    let features = &features[200 * width..][..FRAMES * width];
    let options = Options::default();
    let mut listener = rnnoise::Listener::new(&Device::cpu(), &model, FRAMES, &options).unwrap();
    let [v, n, _] = listener.run(features).unwrap().states;
    let layer = &model.input;
    let neuron = |row: &[f32], k: usize| -> f32 {
        let products = row.iter().zip(&layer.weight[k * width..]).map(|(x, w)| x * w);
        (products.sum::<f32>() + layer.bias[k]).tanh()
    };
    let neurons = |row| (0..layer.bias.len()).map(move |k| (row, k));
    let dense: Vec<f32> = features.chunks_exact(width).flat_map(neurons).map(|(row, k)| neuron(row, k)).collect();
    let (d, f) = ((&dense[..], layer.bias.len()), (features, width));
    let [v, n] = [(&v[..], model.grus[0].0.hidden_size), (&n[..], model.grus[1].0.hidden_size)];
    let inputs = [dense.clone(), rnnoise::side_by_side([d, v, f]), rnnoise::side_by_side([v, n, f])];
    let gru =
        |((config, weights), x): (&(RnnConfig, Weights), Vec<f32>)| real(config.clone(), weights.clone(), FRAMES, 1, x);
    model.grus.iter().zip(inputs).map(gru).collect()
}

/// A Thai text, both ways.
fn icu_bilstm() -> Case {
    let model = icu::Model::open(models().join("icu_segmenter"), "thai").unwrap();
    let ids = model.ids("ฉันรักภาษาไทยและชอบอ่านหนังสือในห้องสมุด").unwrap();
    let i = model.config.input_size;
    let x = ids.iter().flat_map(|&id| &model.weights.embedding[id as usize * i..][..i]).copied().collect();
    let config = RnnConfig { vocabulary: None, head: None, ..model.config };
    real(config, Weights { layers: model.weights.layers, ..Default::default() }, ids.len(), 1, x)
}

/// The largest error of a weight of a row.
fn largest_error(format: WeightFormat, row: &[f64]) -> Vec<f64> {
    let scale = row.iter().fold(0.0, |m: f64, w| m.max(w.abs())) / 127.0;
    let one = |w: &f64| match format {
        WeightFormat::F16 => (w.abs() / 2048.0).max(0.5f64.powi(25)),
        WeightFormat::Bf16 => w.abs() / 256.0,
        // The scale itself is an f32.
        _ => scale * (0.5 + 127.0 * f64::from(f32::EPSILON)),
    };
    row.iter().map(one).collect()
}

/// Over every row of a matrix and every operand: the largest change of their product, absolutely and as a share of its bound.
fn step_error(format: WeightFormat, given: &[f32], held: &[f64], operands: &[f64], width: usize) -> (f64, f64) {
    let (mut largest, mut share) = (0.0f64, 0.0f64);
    for (given, held) in given.chunks_exact(width).zip(held.chunks_exact(width)) {
        let given = cast::<f64>(given);
        let errors = largest_error(format, &given);
        for operand in operands.chunks_exact(width) {
            let terms = || operand.iter().zip(given.iter().zip(held));
            let change = terms().map(|(x, (w, v))| (v - w) * x).sum::<f64>().abs();
            let bound = operand.iter().zip(&errors).map(|(x, e)| x.abs() * e).sum::<f64>();
            // And what this very sum, in f64, is off by.
            let noise = terms().map(|(x, (w, _))| (w * x).abs()).sum::<f64>() * 1e-13;
            assert!(change <= bound + noise, "{format}: a product moves by {change:e}, bound {bound:e}");
            largest = largest.max(change);
            share = share.max(if bound > 0.0 { change / bound } else { 0.0 });
        }
    }
    (largest, share)
}

pub fn run_f64(case: &Case, weights: &Weights<f64>) -> Vec<f64> {
    let options = Options { precision: Precision::F64, ..Default::default() };
    let plan = Plan::new(&case.config, case.shape, &Device::cpu().caps(), &options).unwrap();
    let mut session = Session::from_plan(&Device::cpu(), plan, weights).unwrap();
    case.with_input_as(|input| session.forward(input).unwrap()).y.data
}

/// Every network by name.
pub fn networks() -> Vec<(&'static str, Case)> {
    let mut cases = vec![("g2p_en encoder", g2p_encoder()), ("silero LSTM", silero_lstm())];
    cases.extend(["rnnoise vad", "rnnoise noise", "rnnoise denoise"].into_iter().zip(rnnoise_grus()));
    cases.push(("icu thai BiLSTM", icu_bilstm()));
    cases
}

#[test]
fn real_networks() {
    println!("network            format   bytes saved   one step (of bound)      y, max error");
    for (name, case) in &networks() {
        let exact = run_f64(case, &case.weights.cast());
        for format in ROUNDED {
            let share = check(name, case, format);
            let held = format.rounded(&case.config, &case.weights.cast::<f64>()).unwrap();
            let directions = case.config.directions();
            assert_eq!(case.config.num_layers, 1, "{name}: states of hidden layers are not looked at");
            let width = case.config.state_size();
            let (mut step, mut of_bound) = (0.0f64, 0.0f64);
            for (entry, (given, held)) in case.weights.layers.iter().zip(&held.layers).enumerate() {
                // The states of this direction.
                let h: Vec<f64> =
                    exact.chunks_exact(width).skip(entry).step_by(directions).flatten().copied().collect();
                for (given, held, operands, width) in
                    [(&given.w, &held.w, cast::<f64>(&case.x), case.config.input_size), (&given.r, &held.r, h, width)]
                {
                    let (error, share) = step_error(format, given, held, &operands, width);
                    (step, of_bound) = (step.max(error), of_bound.max(share));
                }
            }
            let error = tolerance::error(&run_f64(case, &held), &exact);
            let options = Options { weights: format, ..Default::default() };
            let plan = Plan::new(&case.config, case.shape, &gpu().caps(), &options).unwrap();
            let (bytes, full) = plan.weight_bytes();
            let saved = format!("{} of {full}", full - bytes);
            println!(
                "{name:18} {format:5} {saved:>18}   {step:.1e} ({of_bound:.2})   {error:.1e} of {:.2}; executors {share:.2} of their bound",
                tolerance::scale(&exact),
                format = format.name(),
            );
            assert!(error.is_finite(), "{name} {format}");
        }
    }
}

/// The 20 recorded words of g2p_en: unchanged in 16 bits; in 8 bits, only where two phonemes were about as likely.
#[test]
fn words_keep_their_pronunciation() {
    let model = g2p::Model::open(models().join("g2p_en/weights.safetensors")).unwrap();
    let list: serde_json::Value = serde_json::from_slice(&std::fs::read(recorded("g2p_en").1).unwrap()).unwrap();
    let text = |v: &serde_json::Value| v.as_str().unwrap().to_string();
    let cases: Vec<(String, Vec<String>, f64)> = (list.as_array().unwrap().iter())
        .map(|v| {
            let phonemes = v["phonemes"].as_array().unwrap().iter().map(text).collect();
            (text(&v["word"]), phonemes, v["min_margin"].as_f64().unwrap())
        })
        .collect();
    assert_eq!(cases.len(), 20);
    let words: Vec<&str> = cases.iter().map(|c| c.0.as_str()).collect();
    for device in [Device::cpu(), gpu()] {
        for format in WeightFormat::ALL {
            let options = Options { weights: format, ..Default::default() };
            let mut speller = g2p::Speller::with_options(&device, &model, &words, &options).unwrap();
            let spellings = speller.run().unwrap();
            let changed: Vec<_> =
                cases.iter().zip(&spellings).filter(|((_, phonemes, _), s)| s.phonemes != *phonemes).collect();
            let bytes = speller.encoder.plan().weight_bytes().0;
            println!("{format} on {}: {bytes} B in the encoder, {} of 20 words change", device.kind(), changed.len());
            for ((word, phonemes, margin), spelling) in changed {
                println!("  {word} (margin {margin:.3}): {} -> {}", phonemes.join(" "), spelling.phonemes.join(" "));
                let allowed = format == WeightFormat::Int8 && *margin <= 0.1;
                assert!(allowed, "{word}, with a margin of {margin}, changes in {format}");
            }
        }
    }
}
