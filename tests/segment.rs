//! The networks of `examples/segment.rs` against what ICU's own tests say of 74 texts and what PyTorch computed for them in
//! float64 (tests/data/icu_segmenter): every label and every break exactly, every state and logit within a calibrated tolerance.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use wgpu_rnn::io::safetensors::TensorFile;
use wgpu_rnn::{Device, Input, Options, Strategy, View};
use wgpu_rnn_examples::segment::icu;
use wgpu_rnn_examples::segment::icu::{LABELS, Labelled, Model, SCRIPTS};
use wgpu_rnn_verify::naive::{self, Scalar};
use wgpu_rnn_verify::tolerance;

/// One recorded text.
struct Case {
    script: String,
    text: String,
    ids: Vec<u32>,
    /// ICU's labels of all characters (30 texts).
    labels: Option<String>,
    /// ICU's breaks, in characters (44 texts).
    breaks: Option<Vec<usize>>,
    /// The states `[characters, 2·H]` and the logits `[characters, 4]`.
    truths: [Vec<f64>; 2],
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn folder() -> PathBuf {
    root().join("examples/models/icu_segmenter")
}

fn models() -> &'static [Model] {
    static MODELS: OnceLock<Vec<Model>> = OnceLock::new();
    MODELS.get_or_init(|| SCRIPTS.iter().map(|script| Model::open(folder(), script).unwrap()).collect())
}

fn gpu() -> Device {
    Device::gpu().expect("a GPU adapter (lavapipe will do)")
}

fn cases() -> Vec<Case> {
    let folder = root().join("tests/data/icu_segmenter");
    let file = TensorFile::open(folder.join("cases.safetensors")).unwrap();
    let list: serde_json::Value = serde_json::from_slice(&std::fs::read(folder.join("cases.json")).unwrap()).unwrap();
    let case = |v: &serde_json::Value| {
        let text = |key: &str| v[key].as_str().map(str::to_string);
        let name = |tensor: &str| format!("{}.{tensor}", text("key").unwrap());
        let numbers = |v: &Vec<serde_json::Value>| v.iter().map(|n| n.as_u64().unwrap() as usize).collect();
        Case {
            script: text("model").unwrap(),
            text: text("text").unwrap(),
            ids: file.integers(&name("ids")).unwrap().unwrap().1.iter().map(|&i| i as u32).collect(),
            labels: text("expected_bies"),
            breaks: v["expected_breaks"].as_array().map(numbers),
            truths: ["bilstm", "logits"].map(|t| file.real(&name(t)).unwrap().unwrap().1),
        }
    };
    let cases: Vec<Case> = list.as_array().unwrap().iter().map(case).collect();
    let labelled = cases.iter().filter(|c| c.labels.is_some()).count();
    let broken = cases.iter().filter(|c| c.breaks.is_some()).count();
    assert_eq!((labelled, broken, cases.len()), (30, 44, 74));
    cases
}

/// States and logits of one text by the naive loop in precision `T`.
fn naive<T: Scalar>(model: &Model, ids: &[u32]) -> [Vec<f64>; 2] {
    let (weights, i) = (model.weights.cast::<T>(), model.config.input_size);
    let x: Vec<T> = ids.iter().flat_map(|&id| &weights.embedding[id as usize * i..][..i]).copied().collect();
    let stack = wgpu_rnn::RnnConfig { vocabulary: None, head: None, ..model.config.clone() };
    let layers = wgpu_rnn::Weights { layers: weights.layers, ..Default::default() };
    let y = naive::forward(&stack, &layers, &Input::new(View::new(&x, &[ids.len(), i]))).unwrap().y.data;
    let width = stack.output_size();
    let logit = |state: &[T], label: usize| {
        let row = &weights.head[label * width..][..width];
        state.iter().zip(row).fold(T::default(), |sum, (&s, &w)| sum + s * w) + weights.head_bias[label]
    };
    let logits = y.chunks_exact(width).flat_map(|state| (0..LABELS.len()).map(move |label| logit(state, label)));
    let logits: Vec<T> = logits.collect();
    [y, logits].map(|v| v.into_iter().map(|x| x.to_f64()).collect())
}

/// Labels all texts of a script as one ragged batch, with all working memory NaN-filled before.
fn label(model: &Model, texts: &[&str], device: &Device, strategy: Strategy) -> Vec<Labelled> {
    let options = Options { strategy: Some(strategy), ..Default::default() };
    let mut session = model.session(device, texts, &options).unwrap();
    session.poison().unwrap();
    model.label(&mut session, texts).unwrap()
}

fn check(device: &Device, strategy: Strategy) {
    let cases = cases();
    let mut exactly_as_recorded = 0;
    // Error and bound of states and of logits, where they are closest.
    let mut worst = [(0.0, f64::INFINITY); 2];
    for model in models() {
        let cases: Vec<&Case> = cases.iter().filter(|c| c.script == model.script).collect();
        let texts: Vec<&str> = cases.iter().map(|c| c.text.as_str()).collect();
        for (case, got) in cases.iter().zip(label(model, &texts, device, strategy)) {
            assert_eq!(model.ids(&case.text).unwrap(), case.ids, "{}", case.text);
            assert!(case.labels.as_ref().is_none_or(|l| *l == got.labels), "{}: {}", case.text, got.labels);
            assert!(case.breaks.as_ref().is_none_or(|b| *b == got.ends), "{}: {:?}", case.text, got.ends);
            exactly_as_recorded += 1;
            let (exact, rounded) = (naive::<f64>(model, &case.ids), naive::<f32>(model, &case.ids));
            for (n, values) in [got.states, got.logits].iter().enumerate() {
                let values: Vec<f64> = values.iter().map(|&v| v.into()).collect();
                let naive_error = tolerance::error(&rounded[n], &exact[n]);
                let bound = tolerance::bound_f32(tolerance::scale(&exact[n]), naive_error);
                for truth in [&exact[n], &case.truths[n]] {
                    let error = tolerance::error(&values, truth);
                    assert!(error <= bound, "{} on {device}, {strategy}: {error:.1e}, bound {bound:.1e}", case.text);
                    if error / bound > worst[n].0 / worst[n].1 {
                        worst[n] = (error, bound);
                    }
                }
            }
        }
    }
    assert_eq!(exactly_as_recorded, 74);
    let [states, logits] = worst.map(|(error, bound)| format!("{error:.1e} of {bound:.1e}"));
    println!("{device}, {strategy}: 74 texts exactly as recorded; states {states}, logits {logits}");
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
    check(&gpu(), Strategy::Sequence);
}

#[test]
fn gpu_step() {
    check(&gpu(), Strategy::Step);
}

/// The naive loop itself agrees with the recording: the yardstick measures the right network.
#[test]
fn naive_loop_reproduces_the_recording() {
    for case in cases() {
        let model = models().iter().find(|m| m.script == case.script).unwrap();
        for (exact, truth) in naive::<f64>(model, &case.ids).iter().zip(&case.truths) {
            let (error, bound) = (tolerance::error(exact, truth), tolerance::bound_f64(tolerance::scale(truth)));
            assert!(error <= bound, "{}: {error:.1e}, bound {bound:.1e}", case.text);
        }
    }
}

/// A whole text at once, in both executors' own strategy: one batch per script, the words of each case in place.
#[test]
fn a_text_of_all_cases_is_one_batch_per_script() {
    let cases = cases();
    let text: String = cases.iter().map(|c| format!("{}: {}\n", c.script, c.text)).collect();
    for device in [Device::cpu(), gpu()] {
        let segmented = icu::segment(&device, models(), &text).unwrap();
        assert_eq!(segmented.pieces.concat(), text, "nothing is lost");
        for (n, batch) in segmented.batches.iter().enumerate() {
            let own: Vec<&Case> = cases.iter().filter(|c| c.script == SCRIPTS[n]).collect();
            let characters = own.iter().map(|c| c.ids.len());
            assert_eq!((batch.model, batch.session.plan().shape.batch), (n, own.len()));
            assert_eq!(
                (batch.session.plan().shape.time, batch.characters),
                (characters.clone().max().unwrap(), characters.sum())
            );
            assert!(batch.words > own.len());
        }
        assert_eq!(segmented.batches.len(), SCRIPTS.len());
        let joined = segmented.join("|");
        for (case, line) in cases.iter().zip(joined.lines()) {
            let words = line.split_once(": ").unwrap().1.split('|');
            let ends: Vec<usize> = words
                .scan(0, |end, word| {
                    *end += word.chars().count();
                    Some(*end)
                })
                .collect();
            if let Some(breaks) = &case.breaks {
                assert_eq!(&ends, breaks, "{line}");
            }
        }
    }
}

#[test]
fn a_text_alone_is_labelled_as_in_the_batch() {
    let (model, cases) = (&models()[0], cases());
    let texts: Vec<&str> = cases.iter().filter(|c| c.script == "thai").map(|c| c.text.as_str()).take(8).collect();
    let together = label(model, &texts, &Device::cpu(), Strategy::Sequence);
    for (text, together) in texts.iter().zip(together) {
        let alone = label(model, &[text], &Device::cpu(), Strategy::Sequence).remove(0);
        assert_eq!((alone.labels, alone.states, alone.logits), (together.labels, together.states, together.logits));
    }
}

#[test]
fn other_text_passes_through_unchanged() {
    let segment = |text: &str| icu::segment(&Device::cpu(), models(), text).unwrap().join("|");
    for text in ["", "\n", "plain English, 日本語 and 100 % ASCII\r\n\u{0}", "๕๐ ฿", "។៕"] {
        assert_eq!(segment(text), text);
    }
    assert_eq!(segment("ภาษาไทย"), "ภาษา|ไทย");
    assert_eq!(segment("in 2024ภาษาไทยrust, ไทย!"), "in 2024|ภาษา|ไทย|rust, ไทย!");
    assert_eq!(segment("โรงພາສາລາວ"), "โรง|ພາສາ|ລາວ", "where two scripts meet");
}

#[test]
fn runs_end_where_the_script_changes() {
    let runs = icu::runs(models(), "ab ไทยລາວ.");
    let got: Vec<_> = runs.iter().map(|r| (r.text, r.model)).collect();
    assert_eq!(got, [("ab ", None), ("ไทย", Some(0)), ("ລາວ", Some(1)), (".", None)]);
    assert!(models()[0].ids("ລາວ").is_err(), "another script's text is refused");
}

#[test]
fn a_wrong_file_is_refused() {
    let refused = |folder: PathBuf| Model::open(folder, "thai").err().unwrap().to_string();
    assert!(refused(root().join("missing")).contains("thai.safetensors"));
    let folder = tempfile::tempdir().unwrap();
    let other = root().join("tests/data/torch_golden/lstm_l1.safetensors");
    std::fs::copy(other, folder.path().join("thai.safetensors")).unwrap();
    assert!(refused(folder.path().into()).contains("thai.safetensors"));
}
