//! Models that this crate wrote, and what ONNX Runtime made of them (`scripts/record_exported.sh`): the exporter still writes the same
//! bytes, and the numbers are this crate's.

use super::Named;
use super::cases::{net_inputs, nets, run_net, run_stack, stack_inputs, stacks};
use std::path::{Path, PathBuf};
use wgpu_rnn::num::Real;
use wgpu_rnn::{Tensor, Weights};
use wgpu_rnn_formats::npy;

/// A model with its inputs, and what this crate gives in f32 and f64.
struct Case {
    name: &'static str,
    model: Vec<u8>,
    inputs: Named,
    single: Named,
    double: Named,
}

fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    for (name, stack) in stacks() {
        let weights = Weights::<f32>::random(&stack.config, 7).expect("valid");
        let model = stack.export.stack_bytes(&stack.config, &weights).expect("a model");
        let weights = weights.cast::<f64>();
        let (single, double) = (run_stack::<f32>(&stack, &weights), run_stack::<f64>(&stack, &weights));
        all.push(Case { name, model, inputs: stack_inputs(&stack), single, double });
    }
    for (name, net) in nets() {
        let params: Vec<f32> = net.params().into_iter().map(|v| v as f32).collect();
        let model = net.export.network_bytes(&net.network, &params, &[]).expect("a model");
        let inputs = net_inputs(&net).into_iter().filter(|(name, _)| name != "target").collect();
        all.push(Case { name, model, inputs, single: run_net::<f32>(&net), double: run_net::<f64>(&net) });
    }
    all
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/formats/tests/data/onnx/exported")
}

/// Within 4 times what f32 costs here, and 1e-6 of the scale.
#[test]
fn onnx_runtime_gives_the_same_numbers() {
    for case in cases() {
        let folder = folder().join(case.name);
        let model = std::fs::read(folder.join("model.onnx")).expect("a recorded model");
        assert!(model == case.model, "{}: the exporter writes another model: record it again", case.name);
        for ((name, double), (_, single)) in case.double.iter().zip(&case.single) {
            let recorded = npy::read::<f64>(folder.join(format!("out.{name}.npy"))).expect("a recorded value");
            assert_eq!(recorded.shape, double.shape, "{}: {name}", case.name);
            let off =
                |of: &Tensor<f64>| of.data.iter().zip(&double.data).fold(0.0f64, |m, (a, b)| m.max((a - b).abs()));
            let scale = double.data.iter().fold(0.0f64, |m, v| m.max(v.abs()));
            let (error, bound) = (off(&recorded), 4.0 * off(single) + 1e-6 * scale);
            println!("{}: {name} {error:.2e}, bound {bound:.2e}", case.name);
            assert!(error <= bound, "{}: {name} is off by {error:e}, bound {bound:e}", case.name);
        }
    }
}

/// Writes the models and their inputs to the folder `WGPU_RNN_RECORD`.
#[test]
#[ignore = "writes files: scripts/record_exported.sh runs it"]
fn write_the_models() {
    let to = PathBuf::from(std::env::var_os("WGPU_RNN_RECORD").expect("WGPU_RNN_RECORD: a folder"));
    for case in cases() {
        let folder = to.join(case.name);
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(folder.join("model.onnx"), &case.model).expect("written");
        for (name, tensor) in &case.inputs {
            let data: Vec<f32> = tensor.data.iter().map(|v| v.to_f64() as f32).collect();
            npy::write(folder.join(format!("in.{name}.npy")), wgpu_rnn::View::new(&data, &tensor.shape))
                .expect("written");
        }
        for (name, tensor) in &case.double {
            let data: Vec<f32> = tensor.data.iter().map(|v| *v as f32).collect();
            npy::write(folder.join(format!("own.{name}.npy")), wgpu_rnn::View::new(&data, &tensor.shape))
                .expect("written");
        }
    }
}
