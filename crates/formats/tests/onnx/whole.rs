//! Whole models as exporters write them, against what ONNX Runtime recorded.

use super::recorded::{arrays, error, folder};
use std::path::Path;
use wgpu_rnn::network::NetworkOptions;
use wgpu_rnn::{Device, Element, Tensor};
use wgpu_rnn_formats::onnx::OnnxFile;

/// Runs a recorded model in `T` and gives its largest error.
fn largest_error<T: Element>(folder: &Path, device: &Device) -> f64 {
    let case = folder.display();
    let file = OnnxFile::open(folder.join("model.onnx")).expect("a model");
    let inputs = arrays(folder, "in");
    let shapes: Vec<(&str, &[usize])> = inputs.iter().map(|(name, t)| (name.as_str(), &t.shape[..])).collect();
    let model = file.model(&shapes).unwrap_or_else(|e| panic!("{case}: {e}"));
    println!("{case}: stages {:?}", model.stages.iter().map(|s| s.layout()).collect::<Vec<_>>());
    let mut session = model.session::<T>(device, &NetworkOptions::default()).expect("a session");
    let given: Vec<(&str, Tensor<T>)> = inputs
        .iter()
        .map(|(name, t)| {
            let data = t.data.iter().map(|&v| T::from_f64(v)).collect();
            (name.as_str(), Tensor { data, shape: t.shape.clone() })
        })
        .collect();
    let views: Vec<_> = given.iter().map(|(name, t)| (*name, t.view())).collect();
    let outputs = session.run(&views).expect("a run");
    let right = arrays(folder, "out");
    assert_eq!(outputs.len(), right.len(), "{case}");
    let of = |output: &wgpu_rnn_formats::onnx::OnnxTensor<T>| {
        let data = output.tensor.data.iter().map(|v| v.to_f64()).collect();
        error(&right[&output.name], &Tensor { data, shape: output.tensor.shape.clone() })
    };
    outputs.iter().map(of).fold(0.0, f64::max)
}

/// Recorded in f32.
const F32: f64 = 1e-5;

const CASES: [(&str, f64); 16] = [
    ("exporters/lstm_small_ts", F32),
    ("exporters/lstm_small_dyn", F32),
    ("exporters/gru_small_dyn", F32),
    ("exporters/gru_static_ts", F32),
    ("exporters/lstm2_small_ts", F32),
    ("exporters/lstm2_small_dyn", F32),
    ("exporters/zero_ts", F32),
    ("exporters/packed_ts", F32),
    ("exporters/nofold_ts", F32),
    ("exporters/static_dyn", F32),
    // Recorded in f16.
    ("exporters/fp16", 1e-3),
    // The recorder rounds x and h to 8 bits at every step.
    ("exporters/q", 5e-2),
    ("exporters/rnn_ts", F32),
    ("exporters/rnn_dyn", F32),
    ("exporters/cell_ts", F32),
    ("published/romanizer_encoder", F32),
];

#[test]
fn recorded_models_give_what_was_recorded() {
    let mut wrong = Vec::new();
    for (case, bound) in CASES.into_iter() {
        let result = std::panic::catch_unwind(|| {
            (largest_error::<f32>(&folder(case), &Device::cpu()), largest_error::<f64>(&folder(case), &Device::cpu()))
        });
        match result {
            Ok((single, double)) => {
                println!("{case}: {single:.1e} in f32, {double:.1e} in f64");
                if single.max(double) > bound {
                    wrong.push(format!("{case}: {single} {double}"));
                }
            }
            Err(_) => wrong.push(case.into()),
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Of a folder like those, by hand: `ONNX_CASE=folder cargo test ... -- --ignored --nocapture own_model`.
#[test]
#[ignore = "needs a folder"]
fn own_model() {
    let folder = std::env::var("ONNX_CASE").expect("ONNX_CASE");
    let device = if std::env::var("ONNX_GPU").is_ok() { Device::gpu().expect("a GPU") } else { Device::cpu() };
    println!("{folder}: {:.1e} in f32", largest_error::<f32>(Path::new(&folder), &device));
}
