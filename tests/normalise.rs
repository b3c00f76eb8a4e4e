//! Layer normalisation: rows without variance, and what a row statistic takes out. That the cells compute their equations, and the
//! gradients of them, is in the tests that go through the registry.

mod harness;

use harness::*;
use wgpu_rnn::*;
use wgpu_rnn_verify::naive;

const CELLS: [&Cell; 2] = [&cells::LSTM_LAYER_NORM, &cells::GRU_LAYER_NORM];

fn case(cell: &'static Cell) -> Case {
    let sizes = RnnConfig { cell, input_size: 5, hidden_size: 7, num_layers: 2, ..Default::default() };
    Case::new(RnnConfig { direction: Direction::Bidirectional, ..sizes }, 5, 3, 61).with_lengths(&[2, 5, 4])
}

/// x and h0 of zeros, and rows of W that are all the same: W x and R h have no variance, and ε alone is left below the fraction.
#[test]
fn rows_without_variance_give_numbers() {
    for cell in CELLS {
        for zero in [true, false] {
            let mut case = case(cell);
            case.h0.fill(0.0);
            case.c0.fill(0.0);
            if zero {
                case.x.fill(0.0);
            }
            for layer in &mut case.weights.layers {
                let first = layer.w[..layer.w.len() / layer.b_w.len()].to_vec();
                layer.w = first.iter().copied().cycle().take(layer.w.len()).collect();
            }
            let truth = case.with_input_as(|input| naive::forward::<f64>(&case.config, &case.weights.cast(), input));
            let truth = truth.unwrap();
            for (device, strategy) in executors() {
                let what = format!("{} on {} with {strategy}", cell.name, device.kind());
                let (out, gradients) = case.train(&device, strategy);
                for (name, values) in named(&case.config, &gradients) {
                    assert!(values.iter().all(|v| v.is_finite()), "{what}: gradient of {name}: {values:?}");
                }
                // A row's rounding error is magnified by 1/√ε = 316 where it has no variance.
                for (got, truth) in out.y.data.iter().zip(&truth.y.data) {
                    let error = (f64::from(*got) - truth).abs();
                    assert!(error < 316.0 * 16.0 * f64::from(f32::EPSILON), "{what}: {got} for {truth}");
                }
            }
        }
    }
}

/// What is added to all rows of W alike is taken out again; so the gradients of all rows of W add up to nothing, and those of R.
#[test]
fn what_all_rows_have_in_common_does_not_matter() {
    for cell in CELLS {
        let case = case(cell);
        let run = |case: &Case| {
            let weights = case.weights.cast::<f64>();
            case.with_input_as(|input| naive::forward::<f64>(&case.config, &weights, input)).unwrap()
        };
        let mut shifted = case.clone();
        for layer in &mut shifted.weights.layers {
            layer.w.iter_mut().for_each(|w| *w += 0.5);
            layer.r.iter_mut().for_each(|r| *r -= 0.25);
        }
        for (a, b) in run(&case).y.data.iter().zip(&run(&shifted).y.data) {
            // `+= 0.5` rounds in f32.
            assert!((a - b).abs() < 1e-4, "{}: {a} and {b}", cell.name);
        }
        for (device, strategy) in executors() {
            let (_, gradients) = case.train(&device, strategy);
            for (layer, weights) in gradients.weights.layers.iter().zip(&case.weights.layers) {
                for (d, rows) in [(&layer.w, weights.b_w.len()), (&layer.r, weights.b_r.len())] {
                    let columns = d.len() / rows;
                    for k in 0..columns {
                        let column = d.iter().skip(k).step_by(columns).map(|&v| f64::from(v));
                        let (sum, size) = column.fold((0.0, 0.0), |(sum, size), v| (sum + v, size + v.abs()));
                        let what = format!("{} on {} with {strategy}", cell.name, device.kind());
                        assert!(sum.abs() < 1e-5 * (1.0 + size), "{what}: column {k} adds up to {sum:e} of {size:e}");
                    }
                }
            }
        }
    }
}
