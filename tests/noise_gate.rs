//! The network of `examples/noise_gate.rs` against what RNNoise computed for 400 frames (tests/data/rnnoise): its own functions
//! are tables, so its gains and states are held to how far those are from the exact ones, the same weights in float64 and the
//! naive loop to a calibrated tolerance.

use std::path::Path;
use std::sync::OnceLock;
use wgpu_rnn::io::safetensors::TensorFile;
use wgpu_rnn::{Device, Input, Options, Strategy, View};
use wgpu_rnn_examples::noise_gate::rnnoise;
use wgpu_rnn_examples::noise_gate::rnnoise::{Dense, GRUS, Heard, Listener, Model};
use wgpu_rnn_verify::naive::{self, Scalar};
use wgpu_rnn_verify::tolerance;

/// The compared tensors, as they are recorded, and how far RNNoise's tabulated functions put each from the exact ones: measured
/// on the recording, float64 against what RNNoise gave.
const TENSORS: [(&str, f64); 5] =
    [("vad", 6.3e-6), ("gains", 5.3e-6), ("vad_gru", 1.2e-5), ("noise_gru", 2.4e-5), ("denoise_gru", 2.9e-5)];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn folder() -> std::path::PathBuf {
    root().join("examples/models/rnnoise")
}

fn model() -> Model {
    Model::open(folder().join("weights.safetensors")).unwrap()
}

fn features(model: &Model) -> Vec<f32> {
    rnnoise::read_features(folder().join("features.safetensors"), model.features()).unwrap()
}

/// A recorded tensor: what RNNoise gave, and the same weights and features with exact functions in float64.
fn recorded(name: &str) -> [Vec<f64>; 2] {
    static FILE: OnceLock<TensorFile> = OnceLock::new();
    let file = FILE.get_or_init(|| TensorFile::open(root().join("tests/data/rnnoise/cases.safetensors")).unwrap());
    [name.to_string(), format!("{name}_f64")].map(|name| file.real(&name).unwrap().unwrap().1)
}

/// [`TENSORS`] of all frames by the naive loop in precision `T`.
fn naive<T: Scalar>(model: &Model, features: &[f32]) -> [Vec<f64>; 5] {
    let (zero, one) = (T::from_f64(0.0), T::from_f64(1.0));
    let cast = |values: &[f32]| -> Vec<T> { values.iter().map(|&v| T::from_f64(v.into())).collect() };
    let dense = |layer: &Dense, x: &[T], activation: &dyn Fn(T) -> T| -> Vec<T> {
        let (weight, bias) = (cast(&layer.weight), cast(&layer.bias));
        let width = layer.inputs();
        let sum = |row: &[T], n: usize| row.iter().zip(&weight[n * width..]).fold(bias[n], |sum, (&x, &w)| sum + w * x);
        x.chunks_exact(width)
            .flat_map(|row| (0..bias.len()).map(move |n| (row, n)))
            .map(|(r, n)| activation(sum(r, n)))
            .collect()
    };
    let gru = |n: usize, x: &[T]| {
        let (config, weights) = &model.grus[n];
        let shape = [x.len() / config.input_size, config.input_size];
        naive::forward(config, &weights.cast::<T>(), &Input::new(View::new(x, &shape))).unwrap().y.data
    };
    let sigmoid = |x: T| one / (one + (zero - x).exp());
    let (f, width) = (cast(features), |n: usize| model.grus[n].0.hidden_size);
    let rows = (&f[..], model.features());
    let d = dense(&model.input, &f, &T::tanh);
    let v = gru(0, &d);
    let n = gru(1, &rnnoise::side_by_side([(&d, model.input.bias.len()), (&v, width(0)), rows]));
    let g = gru(2, &rnnoise::side_by_side([(&v, width(0)), (&n, width(1)), rows]));
    let (voice, gains) = (dense(&model.voice, &v, &sigmoid), dense(&model.gains, &g, &sigmoid));
    [voice, gains, v, n, g].map(|v| v.into_iter().map(|x| x.to_f64()).collect())
}

/// The naive loop in float64, and the bound that the one in f32 gives, of each of [`TENSORS`].
fn truths() -> &'static [(Vec<f64>, f64); 5] {
    static TRUTHS: OnceLock<[(Vec<f64>, f64); 5]> = OnceLock::new();
    TRUTHS.get_or_init(|| {
        let model = model();
        let features = features(&model);
        let mut rounded = naive::<f32>(&model, &features).into_iter();
        naive::<f64>(&model, &features).map(|exact| {
            let naive_error = tolerance::error(&rounded.next().unwrap(), &exact);
            let bound = tolerance::bound_f32(tolerance::scale(&exact), naive_error);
            (exact, bound)
        })
    })
}

fn check(device: &Device, strategy: Strategy) {
    let model = model();
    let features = features(&model);
    let options = Options { strategy: Some(strategy), ..Default::default() };
    let mut listener = Listener::new(device, &model, 400, &options).unwrap();
    listener.sessions.iter_mut().for_each(|s| s.poison().unwrap());
    let Heard { voice, gains, states: [v, n, g] } = listener.run(&features).unwrap();
    for ((values, (name, tables)), (exact, bound)) in [voice, gains, v, n, g].iter().zip(TENSORS).zip(truths()) {
        let got: Vec<f64> = values.iter().map(|&v| v.into()).collect();
        let [rnnoise, float64] = recorded(name);
        let errors = [exact, &float64, &rnnoise].map(|truth| tolerance::error(&got, truth));
        let [naive, _, tabulated] = errors;
        println!(
            "{device}, {strategy}: {name} {naive:.1e} from the f64 loop (bound {bound:.1e}), {tabulated:.1e} from RNNoise"
        );
        assert!(errors[0] <= *bound && errors[1] <= *bound, "{name} on {device}, {strategy}: {errors:?}, {bound:.1e}");
        assert!(errors[2] <= tables + bound, "{name} on {device}, {strategy}: {errors:?} from RNNoise");
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

/// The naive loop itself agrees with the recordings: the yardstick measures the right network.
#[test]
fn naive_loop_reproduces_the_recording() {
    for ((name, tables), (exact, _)) in TENSORS.iter().zip(truths()) {
        let [rnnoise, float64] = recorded(name);
        let (error, bound) = (tolerance::error(exact, &float64), tolerance::bound_f64(tolerance::scale(exact)));
        assert!(error <= bound, "{name}: {error:.1e}, bound {bound:.1e}");
        assert!(tolerance::error(exact, &rnnoise) <= *tables, "{name}");
    }
}

#[test]
fn a_wrong_file_is_refused() {
    let other = root().join("tests/data/torch_golden/gru_l1.safetensors");
    for path in [root().join("missing"), other, folder().join("features.safetensors")] {
        let message = Model::open(&path).err().unwrap().to_string();
        assert!(message.contains(path.file_name().unwrap().to_str().unwrap()), "{message}");
    }
    assert!(rnnoise::read_features(folder().join("weights.safetensors"), 42).is_err());
    assert_eq!(GRUS.len(), model().grus.len());
}
