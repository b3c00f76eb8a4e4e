//! Saved weights: read back, and as PyTorch has them.

use super::harness::*;
use std::path::Path;
use wgpu_rnn::io::safetensors::TensorFile;
use wgpu_rnn::*;
use wgpu_rnn_verify::{Case as Run, Golden};

#[test]
fn what_is_saved_is_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    for (cell, proj_size) in cells_and_projections(2) {
        for bias in [Bias::None, Bias::One, Bias::Two] {
            let sizes =
                RnnConfig { cell, input_size: 3, hidden_size: 4, num_layers: 2, proj_size, bias, ..Default::default() };
            let head = Some(Head { size: 5, loss: Some(Loss::CrossEntropy) });
            let config = RnnConfig { direction: Direction::Bidirectional, vocabulary: Some(6), head, ..sizes };
            let weights = Weights::<f64>::random(&config, 101).unwrap();
            weights.save(&config, &path, "model.").unwrap();
            let file = TensorFile::open(&path).unwrap();
            assert_eq!(file.weights::<f64>(&config, "model.").unwrap(), weights, "{config:?}");
            for name in ["model.embedding.weight", "model.head.weight", "model.head.bias", "model.weight_ih_l1_reverse"]
            {
                assert!(file.names().contains(&name.to_string()), "{name} in {:?}", file.names());
            }
            // Over the old file, in the other precision.
            let single: Weights<f32> = weights.cast();
            single.save(&config, &path, "").unwrap();
            assert_eq!(TensorFile::open(&path).unwrap().weights::<f32>(&config, "").unwrap(), single, "{config:?}");
        }
    }
}

/// Names, shapes and values of files that PyTorch wrote, so that its `load_state_dict` takes ours.
#[test]
fn a_saved_stack_is_what_pytorch_saves() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/torch_golden");
    let folder = tempfile::tempdir().unwrap();
    for name in ["lstm_l2_bi_proj_packed", "gru_l2_bi", "rnn_relu_l2_bi_nobias"] {
        let theirs = TensorFile::open(data.join(name).with_extension("safetensors")).unwrap();
        let Run::Layers(golden) = Golden::open(theirs.path()).unwrap().case else { panic!("{name} is no stack") };
        let path = folder.path().join(name);
        golden.weights.save(&golden.config, &path, "w.").unwrap();
        let ours = TensorFile::open(&path).unwrap();
        let names = |file: &TensorFile| {
            let mut names: Vec<_> = file.names().into_iter().filter(|n| n.starts_with("w.")).collect();
            names.sort();
            names
        };
        assert_eq!(names(&ours), names(&theirs), "{name}");
        for tensor in names(&ours) {
            assert_eq!(ours.real::<f64>(&tensor).unwrap(), theirs.real::<f64>(&tensor).unwrap(), "{name}: {tensor}");
        }
    }
}

#[test]
fn what_cannot_be_saved_is_an_error() {
    let config = RnnConfig { input_size: 2, hidden_size: 3, ..Default::default() };
    let weights = Weights::<f32>::random(&config, 102).unwrap();
    let nowhere = Path::new("/nowhere/at/all.safetensors");
    assert!(matches!(weights.save(&config, nowhere, ""), Err(Error::File { path, .. }) if path == nowhere));
    let other = RnnConfig { hidden_size: 4, ..config };
    assert!(matches!(weights.save(&other, nowhere, ""), Err(Error::Mismatch { .. })));
}
