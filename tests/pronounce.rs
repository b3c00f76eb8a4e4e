//! The network of `examples/pronounce.rs` against what its authors' own code computed for 20 words (tests/data/g2p_en): the
//! phonemes exactly, every encoder state and logit within a calibrated tolerance.

use std::path::Path;
use wgpu_rnn::io::safetensors::TensorFile;
use wgpu_rnn::{Device, Initial, Input, Options, RnnConfig, Strategy, View, Weights};
use wgpu_rnn_examples::pronounce::g2p::{Model, Speller, Spelling};
use wgpu_rnn_verify::naive::{self, Scalar};
use wgpu_rnn_verify::tolerance::{self, Recorded};

/// One recorded word.
struct Case {
    word: String,
    phonemes: Vec<String>,
    letters: Vec<usize>,
    decoder_inputs: Vec<usize>,
    /// Encoder states, logits.
    truths: [Vec<f64>; 2],
}

const TENSORS: [&str; 2] = ["enc", "logits"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn model() -> Model {
    Model::open(root().join("examples/models/g2p_en/weights.safetensors")).unwrap()
}

fn cases() -> Vec<Case> {
    let folder = root().join("tests/data/g2p_en");
    let file = TensorFile::open(folder.join("cases.safetensors")).unwrap();
    let list: serde_json::Value = serde_json::from_slice(&std::fs::read(folder.join("cases.json")).unwrap()).unwrap();
    let text = |v: &serde_json::Value| v.as_str().unwrap().to_string();
    let case = |v: &serde_json::Value| {
        let name = |tensor: &str| format!("{}.{tensor}", v["i"]);
        let ids = |tensor| file.integers(&name(tensor)).unwrap().unwrap().1.iter().map(|&i| i as usize).collect();
        Case {
            word: text(&v["word"]),
            phonemes: v["phonemes"].as_array().unwrap().iter().map(text).collect(),
            letters: ids("in_ids"),
            decoder_inputs: ids("dec_in_ids"),
            truths: TENSORS.map(|t| file.real(&name(t)).unwrap().unwrap().1),
        }
    };
    let cases: Vec<Case> = list.as_array().unwrap().iter().map(case).collect();
    assert_eq!(cases.len(), 20);
    cases
}

/// The recorded tensors of one word by the naive loop in precision `T`, every decoder input being the recorded one.
fn naive<T: Scalar>(model: &Model, case: &Case) -> [Vec<f64>; 2] {
    let cast = |values: &[f32]| -> Vec<T> { values.iter().map(|&v| T::from_f64(v.into())).collect() };
    let x: Vec<T> = case.letters.iter().flat_map(|&s| cast(model.encoder.embed(s))).collect();
    let x_shape = [case.letters.len(), 1, model.encoder.config.input_size];
    let input = Input::new(View::new(&x, &x_shape));
    let encoded = naive::forward(&model.encoder.config, &model.encoder.weights.cast::<T>(), &input).unwrap();
    // The decoder's layers, between its embedding and its head.
    let (config, weights) = &model.decoder;
    let layers = RnnConfig { vocabulary: None, head: None, ..config.clone() };
    let (embedding, head, bias) = (cast(&weights.embedding), cast(&weights.head), cast(&weights.head_bias));
    let (i, h) = (config.input_size, config.hidden_size);
    let x: Vec<T> = case.decoder_inputs.iter().flat_map(|&s| &embedding[s * i..][..i]).copied().collect();
    let (x_shape, h_shape) = ([case.decoder_inputs.len(), 1, i], [1, 1, h]);
    let initial = Initial::Given { h0: Some(View::new(&encoded.hn.data, &h_shape)), c0: None };
    let of_layers = Weights { layers: weights.layers.clone(), ..Default::default() }.cast::<T>();
    let input = Input { initial, ..Input::new(View::new(&x, &x_shape)) };
    let decoded = naive::forward(&layers, &of_layers, &input).unwrap();
    let logit = |state: &[T], n: usize| {
        state.iter().zip(&head[n * h..]).fold(T::default(), |sum, (&s, &w)| sum + s * w) + bias[n]
    };
    let logits = decoded.y.data.chunks_exact(h).flat_map(|s| (0..bias.len()).map(move |n| (s, n)));
    let logits: Vec<T> = logits.map(|(s, n)| logit(s, n)).collect();
    [encoded.y.data, logits].map(|v| v.into_iter().map(|x| x.to_f64()).collect())
}

/// Spells all recorded words as one ragged batch, with all working memory of the encoder NaN-filled before.
fn spell(model: &Model, words: &[&str], device: &Device, strategy: Strategy) -> Vec<Spelling> {
    let options = Options { strategy: Some(strategy), ..Default::default() };
    let mut speller = Speller::with_options(device, model, words, &options).unwrap();
    speller.encoder.poison().unwrap();
    let watched = speller.run_watched().unwrap();
    let chosen = speller.run().unwrap();
    // Chosen on the device, they are what the host chooses.
    let phonemes = |all: &[Spelling]| all.iter().map(|s| s.phonemes.clone()).collect::<Vec<_>>();
    assert_eq!(phonemes(&chosen), phonemes(&watched), "on {device}");
    watched
}

fn check(device: &Device, strategy: Strategy) {
    let (model, cases) = (model(), cases());
    let words: Vec<&str> = cases.iter().map(|c| c.word.as_str()).collect();
    let spellings = spell(&model, &words, device, strategy);
    let mut worst = [(0.0, 0.0, 0.0, ""); 2];
    for (case, spelling) in cases.iter().zip(&spellings) {
        assert_eq!(model.letters(&case.word), case.letters, "letters of {}", case.word);
        assert_eq!(spelling.phonemes, case.phonemes, "{} on {device}, {strategy}", case.word);
        let (exact, rounded) = (naive::<f64>(&model, case), naive::<f32>(&model, case));
        let got = [&spelling.encoder_states, &spelling.logits];
        for (n, tensor) in TENSORS.iter().enumerate() {
            let got: Vec<f64> = got[n].iter().map(|&v| v.into()).collect();
            let scale = tolerance::scale(&exact[n]);
            let bound = tolerance::bound_f32(scale, tolerance::error(&rounded[n], &exact[n]));
            let recording = tolerance::recording(scale, Recorded::F32);
            for (truth, values, bound) in
                [("the f64 loop", &exact[n], bound), ("the recording", &case.truths[n], bound + recording)]
            {
                let error = tolerance::error(&got, values);
                let place = format!("{tensor} of {} on {device}, {strategy}", case.word);
                assert!(error <= bound, "{place}: {error:.1e} from {truth}, bound {bound:.1e}");
                if error / bound > worst[n].0 {
                    worst[n] = (error / bound, error, bound, truth);
                }
            }
        }
    }
    for (tensor, (_, error, bound, truth)) in TENSORS.iter().zip(worst) {
        println!("{device}, {strategy}: {tensor} {error:.1e} from {truth}, bound {bound:.1e}");
    }
}

#[test]
fn cpu_sequence() {
    check(&Device::cpu(), Strategy::Sequence);
}

#[test]
fn cpu_step() {
    check(&Device::cpu(), Strategy::Step);
}

#[test]
fn gpu_sequence() {
    check(&Device::gpu().expect("a GPU adapter (lavapipe will do)"), Strategy::Sequence);
}

#[test]
fn gpu_step() {
    check(&Device::gpu().expect("a GPU adapter (lavapipe will do)"), Strategy::Step);
}

/// The naive loop itself agrees with the recording: the yardstick measures the right network.
#[test]
fn naive_loop_reproduces_the_recording() {
    let model = model();
    for case in cases() {
        let (exact, rounded) = (naive::<f64>(&model, &case), naive::<f32>(&model, &case));
        for (n, tensor) in TENSORS.iter().enumerate() {
            let scale = tolerance::scale(&exact[n]);
            let bound = tolerance::bound_f32(scale, tolerance::error(&rounded[n], &exact[n]));
            let bound = bound + tolerance::recording(scale, Recorded::F32);
            let error = tolerance::error(&exact[n], &case.truths[n]);
            assert!(error <= bound, "{tensor} of {}: {error:.1e}, bound {bound:.1e}", case.word);
        }
    }
}

/// On a GPU the choice is made there: all phonemes of all words in two submits.
#[test]
fn few_submits_spell_many_words() {
    let (model, cases) = (model(), cases());
    let words: Vec<&str> = cases.iter().map(|c| c.word.as_str()).collect();
    let device = Device::gpu().expect("a GPU adapter (lavapipe will do)");
    let mut speller = Speller::new(&device, &model, &words).unwrap();
    let spellings = speller.run().unwrap();
    let phonemes: usize = spellings.iter().map(|s| s.phonemes.len()).sum();
    let submits = speller.decoder.submits();
    println!("{} words, {phonemes} phonemes, {submits} submits", words.len());
    let most = spellings.iter().map(|s| s.phonemes.len()).max().unwrap();
    assert!(submits as usize <= most.div_ceil(8), "{submits} submits for words of up to {most} phonemes");
    // And of a word alone.
    let mut speller = Speller::new(&device, &model, &words[..1]).unwrap();
    let phonemes = speller.run().unwrap()[0].phonemes.len();
    assert!(speller.decoder.submits() as usize <= phonemes.div_ceil(8));
}

#[test]
fn a_word_alone_is_spelled_as_in_the_batch() {
    let (model, words) = (model(), ["kernel", "a", "antidisestablishmentarianism", "gated"]);
    let together = spell(&model, &words, &Device::cpu(), Strategy::Sequence);
    for (word, together) in words.iter().zip(together) {
        let alone = spell(&model, &[word], &Device::cpu(), Strategy::Sequence).remove(0);
        assert_eq!(alone.phonemes, together.phonemes);
        assert_eq!(alone.encoder_states, together.encoder_states);
        assert_eq!(alone.logits, together.logits);
    }
}

#[test]
fn any_text_is_spelled() {
    let (model, words) = (model(), ["", "FRANCE", "naïve", "日本", "\u{0}", "İ", "x-ray"]);
    let spellings = spell(&model, &words, &Device::cpu(), Strategy::Sequence);
    assert_eq!(spellings[1].phonemes.join(" "), "F R AE1 N S");
    assert_eq!(model.letters("é日"), [1, 1, 2], "letters it never saw are <unk>");
    assert_eq!(model.letters(""), [2], "an empty word is its end alone");
}

#[test]
fn a_wrong_file_is_refused() {
    let other = root().join("tests/data/torch_golden/gru_l1.safetensors");
    for path in [root().join("tests/data/g2p_en/README.md"), root().join("missing"), other] {
        let message = Model::open(&path).err().unwrap().to_string();
        assert!(message.contains(path.file_name().unwrap().to_str().unwrap()), "{message}");
    }
    let empty: [&str; 0] = [];
    assert!(Speller::new(&Device::cpu(), &model(), &empty).is_err(), "no words at all");
}
