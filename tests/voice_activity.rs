//! The network of `examples/voice_activity.rs` against what onnxruntime computed from Silero's own model for a recording, and
//! PyTorch in float64 from the same weights (tests/data/silero_vad).

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use wgpu_rnn::io::safetensors::TensorFile;
use wgpu_rnn::{Device, Error, Input, Options, Output, Session, Strategy, View};
use wgpu_rnn_examples::voice_activity::silero;
use wgpu_rnn_examples::voice_activity::silero::{CONTEXT, Detected, Encoder, FRAME, Model};
use wgpu_rnn_examples::voice_activity::speech;
use wgpu_rnn_examples::voice_activity::speech::{Heard, Listener, Rules};
use wgpu_rnn_verify::naive::{self, Scalar};
use wgpu_rnn_verify::tolerance::{self, Recorded};

/// How far onnxruntime is from PyTorch in float64 over the whole network: states of the LSTM, probabilities. Measured on the
/// recording.
const ONNXRUNTIME: (f64, f64) = (2.5e-5, 8.4e-6);

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn folder() -> PathBuf {
    root().join("examples/models/silero_vad")
}

fn model() -> &'static Model {
    static MODEL: OnceLock<Model> = OnceLock::new();
    MODEL.get_or_init(|| Model::open(folder().join("weights.safetensors")).unwrap())
}

fn samples() -> Vec<f32> {
    speech::read_wav(folder().join("speech_16k.wav")).unwrap()
}

fn gpu() -> Device {
    Device::gpu().expect("a GPU adapter (lavapipe will do)")
}

fn recorded(name: &str) -> Vec<f64> {
    static FILE: OnceLock<TensorFile> = OnceLock::new();
    let file = FILE.get_or_init(|| TensorFile::open(root().join("tests/data/silero_vad/cases.safetensors")).unwrap());
    file.real(name).unwrap().unwrap().1
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&v| v.into()).collect()
}

fn narrow(values: &[f64]) -> Vec<f32> {
    values.iter().map(|&v| v as f32).collect()
}

fn session(device: &Device, strategy: Strategy, frames: usize) -> Session {
    let options = Options { strategy: Some(strategy), ..Default::default() };
    let mut session = model().session(device, frames, &options).unwrap();
    session.poison().unwrap();
    session
}

/// The LSTM by the naive loop in precision `T`.
fn naive<T: Scalar>(x: &[f64]) -> Output<f64> {
    let x: Vec<T> = x.iter().map(|&v| T::from_f64(v)).collect();
    let (config, weights) = (&model().config, model().weights.cast::<T>());
    let shape = [x.len() / config.input_size, config.input_size];
    let out = naive::forward(config, &weights, &Input::new(View::new(&x, &shape))).unwrap();
    let wide = |t: wgpu_rnn::Tensor<T>| wgpu_rnn::Tensor {
        data: t.data.into_iter().map(|v| v.to_f64()).collect(),
        shape: t.shape,
    };
    Output { y: wide(out.y), hn: wide(out.hn), cn: out.cn.map(wide), predictions: None }
}

/// y, hn and cn of the LSTM over what onnxruntime gave it, by the naive loop in float64, and the bound that f32 gives.
fn truths() -> &'static [(Vec<f64>, f64); 3] {
    static TRUTHS: OnceLock<[(Vec<f64>, f64); 3]> = OnceLock::new();
    TRUTHS.get_or_init(|| {
        let x = recorded("lstm_in");
        let (exact, rounded) = (naive::<f64>(&x), naive::<f32>(&x));
        let bound = |exact: Vec<f64>, rounded: Vec<f64>| {
            let bound = tolerance::bound_f32(tolerance::scale(&exact), tolerance::error(&rounded, &exact));
            (exact, bound)
        };
        [
            bound(exact.y.data, rounded.y.data),
            bound(exact.hn.data, rounded.hn.data),
            bound(exact.cn.unwrap().data, rounded.cn.unwrap().data),
        ]
    })
}

/// The LSTM alone over the recorded input, and the whole network from the sound.
fn check(device: &Device, strategy: Strategy) {
    let x = narrow(&recorded("lstm_in"));
    let got = silero::detect_encoded(model(), &mut session(device, strategy, 128), &x).unwrap();
    let [hn, cn] = &got.last;
    for ((name, values), (exact, bound)) in
        [("lstm_out", &got.states), ("hn", hn), ("cn", cn)].into_iter().zip(truths())
    {
        let (values, recording) = (wide(values), tolerance::recording(tolerance::scale(exact), Recorded::F32));
        let errors = [tolerance::error(&values, exact), tolerance::error(&values, &recorded(name))];
        let [own, others] = errors;
        println!("{device}, {strategy}: {name} {own:.1e} from the f64 loop (bound {bound:.1e}), {others:.1e} from ORT");
        assert!(errors[0] <= *bound, "{name} on {device}, {strategy}: {errors:?}, bound {bound:.1e}");
        assert!(errors[1] <= bound + recording, "{name} on {device}, {strategy}: {errors:?} from onnxruntime");
    }

    let frames = silero::frames(&samples());
    let got = silero::detect(model(), &mut session(device, strategy, frames.len()), &frames).unwrap();
    let truths = [("lstm_out", &got.states, ONNXRUNTIME.0), ("prob", &got.probability, ONNXRUNTIME.1)];
    for (name, values, bound) in truths {
        let errors = [format!("{name}_f64"), name.into()].map(|name| tolerance::error(&wide(values), &recorded(&name)));
        let [own, others] = errors;
        println!(
            "{device}, {strategy}: whole network: {name} {own:.1e} from float64 ({bound:.1e}), {others:.1e} from ORT"
        );
        assert!(errors[0] <= bound, "{name} on {device}, {strategy}: {errors:?} from float64");
        // As far as the two of them are from the truth together.
        assert!(errors[1] <= 2.0 * bound, "{name} on {device}, {strategy}: {errors:?} from onnxruntime");
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
    check(&gpu(), Strategy::Sequence);
}

#[test]
fn gpu_step() {
    check(&gpu(), Strategy::Step);
}

/// The convolutions in float64 and the naive LSTM in float64 reproduce PyTorch's; in f32 the convolutions only round.
#[test]
fn the_yardsticks_reproduce_the_recording() {
    let frames = silero::frames(&samples());
    let flat: Vec<f32> = frames.concat();
    assert_eq!(wide(&flat), recorded("frames"), "frames are cut and padded as Silero does");

    let file = TensorFile::open(folder().join("weights.safetensors")).unwrap();
    let exact = Encoder::<f64>::open(&file).unwrap();
    let exact: Vec<f64> = frames.iter().flat_map(|frame| exact.encode(&wide(frame))).collect();
    let rounded: Vec<f32> = frames.iter().flat_map(|frame| model().encoder.encode(frame)).collect();
    let (scale, error) = (tolerance::scale(&exact), tolerance::error(&wide(&rounded), &exact));
    let onnxruntime = tolerance::error(&recorded("lstm_in"), &exact);
    println!("convolutions, scale {scale:.1}: {error:.1e}, onnxruntime {onnxruntime:.1e} from float64");
    assert!(error <= tolerance::recording(scale, Recorded::F32), "{error:.1e}: more than rounding between the layers");

    let states = naive::<f64>(&exact).y.data;
    let error = tolerance::error(&states, &recorded("lstm_out_f64"));
    assert!(error <= tolerance::bound_f64(1.0), "{error:.1e} from PyTorch's float64");
}

/// Frame by frame as from a microphone: the bits of the whole recording in one run.
#[test]
fn a_stream_gives_the_same_bits() {
    let frames = &silero::frames(&samples())[8..64];
    for device in [Device::cpu(), gpu()] {
        for strategy in [Strategy::Sequence, Strategy::Step] {
            let whole = silero::detect(model(), &mut session(&device, strategy, frames.len()), frames).unwrap();
            let mut streaming = session(&device, strategy, 1);
            for attempt in ["first", "second, after a reset"] {
                let Detected { probability, states, last } = silero::stream(model(), &mut streaming, frames).unwrap();
                assert_eq!(states, whole.states, "{attempt} on {device}, {strategy}");
                assert_eq!((probability, last), (whole.probability.clone(), whole.last.clone()), "{attempt}");
            }
        }
    }
}

#[test]
fn the_sentence_has_its_pause() {
    let probability = narrow(&recorded("prob"));
    let stretches = Rules::SILERO.stretches(&probability);
    let times: Vec<_> = stretches.iter().map(|s| (speech::seconds(s.start), speech::seconds(s.end))).collect();
    println!("{times:?}");
    assert_eq!(stretches, [13..54, 58..98], "I grew up in France | so I speak French");
}

#[test]
fn stretches_follow_the_rules() {
    let rules = Rules { threshold: 0.5, min_speech: 2, min_silence: 3 };
    assert_eq!(rules.stretches(&[]), []);
    assert_eq!(rules.stretches(&[0.1, 0.9, 0.9]), vec![1..3; 1], "to the end");
    assert_eq!(rules.stretches(&[0.9, 0.1, 0.1, 0.1, 0.9, 0.9]), vec![4..6; 1], "one frame is too short");
    assert_eq!(rules.stretches(&[0.9, 0.1, 0.1, 0.9]), vec![0..4; 1], "a short pause does not end it");
    assert_eq!(rules.stretches(&[0.9, 0.4, 0.36, 0.34, 0.4]), vec![0..3; 1], "it ends 0.15 below where it begins");
}

/// Frame by frame, what begins and ends is what is there in the end, and is told as early as it is certain.
#[test]
fn a_listener_tells_stretches_as_they_come() {
    let mut seed = 1u32;
    for case in 0..500 {
        let (min_speech, min_silence) = (case % 5, 1 + case / 5 % 4);
        let rules = Rules { threshold: 0.5, min_speech, min_silence };
        let mut listener = Listener::new(rules);
        let (mut probability, mut begun, mut ended) = (Vec::new(), Vec::new(), Vec::new());
        for frame in 0..60 {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            probability.push((seed >> 8) as f32 / (1 << 24) as f32);
            match listener.hear(probability[frame]) {
                Some(Heard::Began(from)) => begun.push(from),
                Some(Heard::Ended(stretch)) => {
                    assert_eq!(frame + 1 - stretch.end, min_silence, "as soon as the pause is long enough");
                    ended.push(stretch);
                }
                None => {}
            }
        }
        ended.extend(listener.end());
        assert_eq!(begun, ended.iter().map(|stretch| stretch.start).collect::<Vec<_>>());

        // The rules, over the whole.
        let mut speaking = false;
        let mut found: Vec<std::ops::Range<usize>> = Vec::new();
        for (frame, &p) in probability.iter().enumerate() {
            speaking = p >= if speaking { 0.35 } else { 0.5 };
            match found.last_mut() {
                Some(last) if speaking && frame - last.end < min_silence => last.end = frame + 1,
                _ if speaking => found.push(frame..frame + 1),
                _ => {}
            }
        }
        found.retain(|stretch| stretch.len() >= min_speech);
        assert_eq!(ended, found, "{min_speech} {min_silence} {probability:?}");
        assert_eq!(rules.stretches(&probability), found);
    }
}

#[test]
fn frames_overlap_and_are_padded() {
    let samples: Vec<f32> = (1..=FRAME + 1).map(|n| n as f32).collect();
    let frames = silero::frames(&samples);
    assert_eq!(frames.len(), 2);
    assert_eq!((frames[0][CONTEXT - 1], frames[0][CONTEXT]), (0.0, 1.0));
    assert_eq!((frames[1][0], frames[1][CONTEXT], frames[1][CONTEXT + 1]), (449.0, 513.0, 0.0));
    assert!(silero::frames(&[]).is_empty());
}

#[test]
fn wrong_files_are_refused() {
    let temporary = tempfile::tempdir().unwrap();
    let stereo = temporary.path().join("stereo.wav");
    let spec = hound::WavSpec {
        channels: 2,
        sample_rate: 16_000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    hound::WavWriter::create(&stereo, spec).unwrap().finalize().unwrap();
    let message = speech::read_wav(&stereo).unwrap_err().to_string();
    assert!(message.contains("got 2 channel(s)"), "{message}");
    let weights = folder().join("weights.safetensors");
    assert!(matches!(speech::read_wav(&weights), Err(Error::File { .. })));
    for path in [root().join("missing"), folder().join("speech_16k.wav"), root().join("README.md")] {
        assert!(matches!(Model::open(path), Err(Error::File { .. })));
    }
    let other = root().join("tests/data/torch_golden/lstm_l1.safetensors");
    assert!(Model::open(other).err().unwrap().to_string().contains("stft_conv.weight"));
}
