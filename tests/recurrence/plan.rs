//! Sizes, work, files and refusals.

use super::*;
use tempfile::TempDir;
use wgpu_rnn::io::safetensors::TensorFile;
use wgpu_rnn::weights::{KerasLayer, parameters};
use wgpu_rnn_formats::onnx::{OnnxFile, export};

fn training_plan(config: &RnnConfig) -> Plan {
    let options = Options { train: true, strategy: Some(Strategy::Step), ..Default::default() };
    Plan::new(config, Shape { time: 3, batch: 2 }, &Device::cpu().caps(), &options).unwrap()
}

/// R, its transpose, its gradient without the bias, and the work of its product fall by the number of heads.
#[test]
fn memory_and_work_fall_by_the_number_of_heads() {
    for cell in cells::ALL {
        let config = RnnConfig { cell, input_size: 1, hidden_size: 48, bias: Bias::None, ..Default::default() };
        let dense = training_plan(&config);
        for n in [2, 3, 4, 6, 12] {
            let heads = RnnConfig { recurrence: Recurrence::Heads(n), ..config.clone() };
            let plan = training_plan(&heads);
            let what = label(&heads);
            let rows = cell.recurrent_gates() * 48;
            // Beside R there are the unit parameters, in vec4s, in both packs.
            let units: usize = config.stages().iter().map(|s| s.unit_params().div_ceil(4) * s.units * 16).sum();
            let bytes = |plan: &Plan, slot: usize| plan.slots[slot].bytes() - units as u64;
            for pick in [|p: &Plan| p.ids.r[0], |p: &Plan| p.ids.grad.as_ref().unwrap().rt[0]] {
                assert_eq!(bytes(&dense, pick(&dense)), (rows * 48 * 4) as u64, "{what}");
                assert_eq!(bytes(&plan, pick(&plan)) * n as u64, bytes(&dense, pick(&dense)), "{what}");
            }
            let gradient: usize =
                plan.ids.grad.as_ref().unwrap().dr[0].iter().flatten().map(|&slot| plan.slots[slot].len()).sum();
            assert_eq!(gradient, rows * (48 / n + 1), "{what}");
            let product = |plan: &Plan| plan.flops() - 3 * 2 * 6 * (cell.input_gates() * 48) as u64;
            assert_eq!(product(&plan) * n as u64, product(&dense), "{what}");
            let r = parameters(&heads).into_iter().find(|p| p.name == "weight_hh_l0").unwrap();
            assert_eq!(r.shape, [rows, 48 / n], "{what}");
        }
    }
}

#[test]
fn plans_and_names_say_it() {
    let config = RnnConfig { hidden_size: 6, recurrence: Recurrence::Heads(3), ..RnnConfig::lstm(1, 1) };
    assert!(training_plan(&config).to_string().starts_with("lstm T=3 B=2 I=1 H=6 recurrence=heads:3 layers=1"));
    for kind in [Recurrence::Dense, Recurrence::Diagonal, Recurrence::Heads(7)] {
        assert_eq!(kind.to_string().parse::<Recurrence>().unwrap(), kind);
    }
    for wrong in ["heads", "heads:", "heads:0", "heads:-1", "heads:x", "full", ""] {
        let message = wrong.parse::<Recurrence>().unwrap_err().to_string();
        assert_eq!(message, format!("recurrence: expected dense, diagonal or heads:N, got {wrong}"));
    }
}

#[test]
fn heads_that_do_not_fit_are_refused() {
    let message = |recurrence, hidden_size, proj_size| {
        let config = RnnConfig { hidden_size, proj_size, recurrence, ..RnnConfig::lstm(1, 1) };
        let refused = Weights::<f32>::random(&config, 1).unwrap_err();
        assert!(matches!(refused, Error::Mismatch { .. }));
        // A description of what is refused does not panic.
        parameters(&config);
        refused.to_string()
    };
    let heads = Recurrence::Heads;
    assert_eq!(message(heads(0), 6, 0), "heads of the recurrence: expected a divisor of hidden_size 6, got 0");
    assert_eq!(message(heads(4), 6, 0), "heads of the recurrence: expected a divisor of hidden_size 6, got 4");
    assert_eq!(message(heads(12), 6, 0), "heads of the recurrence: expected a divisor of hidden_size 6, got 12");
    assert_eq!(message(heads(usize::MAX), 6, 0).split(", got").next(), message(heads(4), 6, 0).split(", got").next());
    assert_eq!(message(heads(3), 6, 4), "heads of the recurrence: expected a divisor of proj_size 4, got 3");
    assert_eq!(
        message(Recurrence::Diagonal, 6, 4),
        "heads of the recurrence: expected a divisor of hidden_size 6, got 4"
    );
}

/// Saved and read back by shape and by the header's word; without that word the file does not fit a dense network.
#[test]
fn files_keep_it() {
    let at = TempDir::new().unwrap();
    for config in stacks() {
        let path = at.path().join("layer.safetensors");
        let weights = Weights::<f32>::random(&config, 5).unwrap();
        weights.save(&config, &path, "cell.").unwrap();
        let file = TensorFile::open(&path).unwrap();
        assert_eq!(file.config(config.cell, "cell.").unwrap(), config);
        assert_eq!(file.weights::<f32>(&config, "cell.").unwrap(), weights);
        let dense = RnnConfig { recurrence: Recurrence::Dense, ..config };
        let message = file.weights::<f32>(&dense, "cell.").unwrap_err().to_string();
        assert!(message.contains("cell.weight_hh_l0: expected ["), "{message}");
    }
}

/// ONNX knows no heads: a full matrix with zeros, which computes the same.
#[test]
fn onnx_gets_a_full_matrix_and_keras_has_none() {
    let at = TempDir::new().unwrap();
    let path = at.path().join("layer.onnx");
    // ONNX has no layer normalisation, and no sLSTM.
    for cell in cells::ALL.into_iter().filter(|c| !c.normalises() && *c != &cells::SLSTM) {
        for config in kinds(cell).into_iter().filter(|c| c.proj_size == 0) {
            let case = ragged(config);
            export(&case.config, &case.weights, &path).unwrap();
            let node = OnnxFile::open(&path).unwrap().only_node().unwrap();
            let full = dense(&case);
            assert_eq!(node.config, full.config);
            assert_eq!(node.weights, full.weights.cast::<f64>(), "{}", label(&case.config));
            let (kernel, shape) = (vec![0.0f32; 1000], [1, 1]);
            let layer = KerasLayer {
                kernel: View::new(&kernel, &shape),
                recurrent_kernel: View::new(&kernel, &shape),
                bias: None,
            };
            let refused = Weights::from_keras(&RnnConfig { bias: Bias::None, ..case.config }, &[layer]);
            assert!(matches!(refused, Err(Error::Unsupported { .. })));
        }
    }
}
