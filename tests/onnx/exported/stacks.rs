//! Stacks with and without embedding and head.

use super::cases::{Stack, run_stack, stack_inputs};
use super::{largest_error, read_back};
use wgpu_rnn::{Bias, Direction, Error, Head, Layout, Loss, Recurrence, RnnConfig, Weights, Zoneout, cells};
use wgpu_rnn_formats::onnx::Export;

fn is_same(config: RnnConfig, export: Export, ragged: bool) {
    let what = format!(
        "{} {} layers {:?} {:?} {export:?}",
        config.cell.name, config.num_layers, config.direction, config.layout
    );
    let stack = Stack { config, export, time: 5, batch: 3, lengths: ragged.then(|| vec![3, 5, 1]) };
    let weights = Weights::<f64>::random(&stack.config, 7).expect("valid");
    let model = export.stack_bytes(&stack.config, &weights).unwrap_or_else(|e| panic!("{what}: {e}"));
    let got = read_back(&model, &stack_inputs(&stack)).unwrap_or_else(|e| panic!("{what}: {e}"));
    let error = largest_error(&what, &got, &run_stack::<f64>(&stack, &weights));
    assert!(error < 1e-12, "{what}: {error:e}");
}

fn base() -> RnnConfig {
    RnnConfig { input_size: 3, hidden_size: 4, ..Default::default() }
}

#[test]
fn a_stack_that_is_written_is_read_back() {
    for cell in cells::ALL.into_iter().filter(|c| !c.normalises() && *c != &cells::SLSTM).chain([&cells::LSTM_PEEPHOLE])
    {
        for num_layers in 1..=3 {
            for direction in [Direction::Forward, Direction::Reverse, Direction::Bidirectional] {
                let config = RnnConfig { cell, num_layers, direction, ..base() };
                is_same(config.clone(), Export::default(), false);
                is_same(config.clone(), Export { lengths: true, ..Export::default() }, true);
                is_same(config, Export { states: true, lengths: true }, true);
            }
        }
    }
}

#[test]
fn embedding_head_and_batch_first_are_read_back() {
    let head = Some(Head { size: 5, loss: Some(Loss::CrossEntropy) });
    for direction in [Direction::Forward, Direction::Bidirectional] {
        for layout in [Layout::TimeMajor, Layout::BatchFirst] {
            for (vocabulary, head) in [(None, None), (Some(11), None), (None, head), (Some(11), head)] {
                for num_layers in [1, 2] {
                    let config = RnnConfig { num_layers, direction, layout, vocabulary, head, ..base() };
                    is_same(config.clone(), Export::default(), false);
                    is_same(config.clone(), Export { states: true, ..Export::default() }, false);
                    is_same(config, Export { lengths: true, ..Export::default() }, true);
                }
            }
        }
    }
}

#[test]
fn variants_are_read_back() {
    let two = || RnnConfig { num_layers: 2, direction: Direction::Bidirectional, ..base() };
    for config in [
        RnnConfig { bias: Bias::None, ..two() },
        RnnConfig { bias: Bias::One, ..two() },
        RnnConfig { bias: Bias::Recurrent, ..two() },
        RnnConfig { recurrence: Recurrence::Diagonal, cell: &cells::RNN_RELU, ..two() },
        RnnConfig { recurrence: Recurrence::Heads(2), ..two() },
        RnnConfig { input: wgpu_rnn::InputMode::Skip, input_size: 4, ..two() },
        RnnConfig { input_forget: true, clip: Some(0.75), ..two() },
        RnnConfig { dropout: wgpu_rnn::Dropout { layers: 0.5, ..Default::default() }, ..two() },
        // A projection: R·W_p in place of R.
        RnnConfig { proj_size: 3, direction: Direction::Forward, ..two() },
        RnnConfig { proj_size: 2, num_layers: 1, direction: Direction::Reverse, ..base() },
    ] {
        is_same(config, Export::default(), false);
    }
}

#[test]
fn what_onnx_does_not_have_is_refused() {
    let refused = |config: RnnConfig, states: bool| {
        let weights = Weights::<f32>::random(&config, 1).expect("valid");
        match (Export { states, lengths: false }).stack_bytes(&config, &weights) {
            Err(e @ Error::Unsupported { .. }) => e.to_string(),
            other => panic!("{:?}", other.map(drop)),
        }
    };
    assert!(refused(RnnConfig { cell_clip: Some(1.0), ..base() }, false).contains("cell_clip in ONNX"));
    assert!(refused(RnnConfig { cell: &cells::SLSTM, ..base() }, false).contains("slstm in ONNX"));
    assert!(refused(RnnConfig { cell: &cells::GRU_LAYER_NORM, ..base() }, false).contains("gru-layer-norm in ONNX"));
    let zoneout = Zoneout { hidden: 0.1, ..Default::default() };
    assert!(refused(RnnConfig { zoneout, ..base() }, false).contains("zoneout in ONNX"));
    let message = refused(RnnConfig { proj_size: 2, num_layers: 2, ..base() }, true);
    assert!(message.contains("given states of a stack with proj_size 2 in ONNX"), "{message}");
    let error = Export::default().stack_bytes(&base(), &Weights::<f32>::default()).expect_err("no weights");
    assert!(matches!(error, Error::Mismatch { .. }), "{error}");
}
