//! The network of `examples/pronounce.rs` against what its authors' own code computed for 20 words (tests/data/g2p_en): the
//! phonemes exactly, every encoder state, decoder state and logit within a calibrated tolerance.

use std::path::Path;
use wgpu_rnn::io::safetensors::TensorFile;
use wgpu_rnn::{Device, Initial, Input, Options, Plan, Session, Strategy, View};
use wgpu_rnn_examples::pronounce::g2p::{Gru, Model, Speller, Spelling};
use wgpu_rnn_verify::naive::{self, Scalar};
use wgpu_rnn_verify::tolerance::{self, Recorded};

/// One recorded word.
struct Case {
    word: String,
    phonemes: Vec<String>,
    letters: Vec<usize>,
    decoder_inputs: Vec<usize>,
    /// Encoder states, decoder states, logits.
    truths: [Vec<f64>; 3],
}

const TENSORS: [&str; 3] = ["enc", "dec", "logits"];

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
fn naive<T: Scalar>(model: &Model, case: &Case) -> [Vec<f64>; 3] {
    let cast = |values: &[f32]| -> Vec<T> { values.iter().map(|&v| T::from_f64(v.into())).collect() };
    let run = |gru: &Gru, symbols: &[usize], h0: Option<&[T]>| {
        let x: Vec<T> = symbols.iter().flat_map(|&s| cast(gru.embed(s))).collect();
        let (x_shape, h_shape) = ([symbols.len(), 1, gru.config.input_size], [1, 1, gru.config.hidden_size]);
        let initial = Initial::Given { h0: h0.map(|h| View::new(h, &h_shape)), c0: None };
        let input = Input { initial, ..Input::new(View::new(&x, &x_shape)) };
        naive::forward(&gru.config, &gru.weights.cast::<T>(), &input).unwrap()
    };
    let encoded = run(&model.encoder, &case.letters, None);
    let decoded = run(&model.decoder, &case.decoder_inputs, Some(&encoded.hn.data));
    let (weight, bias) = (cast(&model.dense.0), cast(&model.dense.1));
    let h = model.decoder.config.hidden_size;
    let logit = |state: &[T], n: usize| {
        state.iter().zip(&weight[n * h..]).fold(T::default(), |sum, (&s, &w)| sum + s * w) + bias[n]
    };
    let logits = decoded.y.data.chunks_exact(h).flat_map(|s| (0..bias.len()).map(move |n| (s, n)));
    let logits: Vec<T> = logits.map(|(s, n)| logit(s, n)).collect();
    [encoded.y.data, decoded.y.data, logits].map(|v| v.into_iter().map(|x| x.to_f64()).collect())
}

/// Spells all recorded words as one ragged batch, with all working memory NaN-filled before.
fn spell(model: &Model, words: &[&str], device: &Device, strategy: Strategy) -> Vec<Spelling> {
    let mut speller = Speller::new(device, model, words).unwrap();
    for (session, gru) in [(&mut speller.encoder, &model.encoder), (&mut speller.decoder, &model.decoder)] {
        let options = Options { strategy: Some(strategy), ..Default::default() };
        let plan = Plan::new(&gru.config, session.plan().shape, &device.caps(), &options).unwrap();
        *session = Session::from_plan(device, plan, &gru.weights).unwrap();
        session.poison().unwrap();
    }
    speller.run().unwrap()
}

fn check(device: &Device, strategy: Strategy) {
    let (model, cases) = (model(), cases());
    let words: Vec<&str> = cases.iter().map(|c| c.word.as_str()).collect();
    let spellings = spell(&model, &words, device, strategy);
    let mut worst = [(0.0, 0.0, 0.0, ""); 3];
    for (case, spelling) in cases.iter().zip(&spellings) {
        assert_eq!(model.letters(&case.word), case.letters, "letters of {}", case.word);
        assert_eq!(spelling.phonemes, case.phonemes, "{} on {device}, {strategy}", case.word);
        let (exact, rounded) = (naive::<f64>(&model, case), naive::<f32>(&model, case));
        let got = [&spelling.encoder_states, &spelling.decoder_states, &spelling.logits];
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

#[test]
fn a_word_alone_is_spelled_as_in_the_batch() {
    let (model, words) = (model(), ["kernel", "a", "antidisestablishmentarianism", "gated"]);
    let together = spell(&model, &words, &Device::cpu(), Strategy::Sequence);
    for (word, together) in words.iter().zip(together) {
        let alone = spell(&model, &[word], &Device::cpu(), Strategy::Sequence).remove(0);
        assert_eq!(alone.phonemes, together.phonemes);
        assert_eq!(alone.encoder_states, together.encoder_states);
        assert_eq!(alone.decoder_states, together.decoder_states);
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
