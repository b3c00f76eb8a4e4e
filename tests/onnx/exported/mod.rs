//! Stacks and networks written as ONNX models: read back they give the same numbers, and ONNX Runtime gives them too.

mod cases;
mod networks;
mod recorded;
mod stacks;

use tempfile::TempDir;
use wgpu_rnn::network::NetworkOptions;
use wgpu_rnn::{Device, Tensor, View};
use wgpu_rnn_formats::WholeModel;

/// Values by name.
type Named = Vec<(String, Tensor<f64>)>;

/// Numbers that look random, in ±1, the same everywhere: of Weyl's sequence of the golden ratio.
fn numbers(seed: usize, shape: &[usize]) -> Tensor<f64> {
    let number = |n: usize| {
        let turns = (n + 1) as f64 * 0.618_033_988_749_894_9 + seed as f64 * 0.414_213_562_373_095;
        // As it is in f32, so that files of f32 have it exactly.
        f64::from((2.0 * turns.fract() - 1.0) as f32)
    };
    Tensor { data: (0..shape.iter().product()).map(number).collect(), shape: shape.to_vec() }
}

/// Token ids below `vocabulary`.
fn ids(vocabulary: usize, shape: &[usize]) -> Tensor<f64> {
    let data = (0..shape.iter().product()).map(|n: usize| ((n * n + 3 * n) % vocabulary) as f64).collect();
    Tensor { data, shape: shape.to_vec() }
}

/// What this crate's reader makes of a model, in f64.
fn read_back(model: &[u8], inputs: &Named) -> wgpu_rnn::Result<Named> {
    let at = TempDir::new().expect("a folder");
    let path = at.path().join("m.onnx");
    std::fs::write(&path, model).expect("written");
    let model = WholeModel::open(path)?;
    let names: Vec<String> = model.inputs().into_iter().map(|value| value.name).collect();
    assert_eq!(names, inputs.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>());
    let shapes: Vec<(&str, &[usize])> = inputs.iter().map(|(name, t)| (name.as_str(), &t.shape[..])).collect();
    let mut session = model.session::<f64>(&Device::cpu(), &NetworkOptions::default(), &shapes)?;
    let views: Vec<(&str, View<'_, f64>)> = inputs.iter().map(|(name, t)| (name.as_str(), t.view())).collect();
    session.run(&views)
}

/// The largest error of any value, relative to that value's largest.
#[track_caller]
fn largest_error(what: &str, got: &Named, expected: &Named) -> f64 {
    let names = |values: &Named| values.iter().map(|(name, t)| (name.clone(), t.shape.clone())).collect::<Vec<_>>();
    assert_eq!(names(got), names(expected), "{what}");
    let error = |got: &Tensor<f64>, right: &Tensor<f64>| {
        let scale = right.data.iter().fold(1e-30f64, |m, v| m.max(v.abs()));
        got.data.iter().zip(&right.data).fold(0.0f64, |m, (a, b)| m.max((a - b).abs())) / scale
    };
    got.iter().zip(expected).map(|((_, got), (_, right))| error(got, right)).fold(0.0, f64::max)
}
