//! What holds bit for bit, with dropout beside it, and what is refused.

use super::harness::*;
use super::plain::{all, truth_of};
use super::{SEED, assert_within, config, ragged, seeded, wide};
use wgpu_rnn::num::random::Masks;
use wgpu_rnn::*;
use wgpu_rnn_verify::{naive, tolerance};

fn for_all(law: impl Fn(&str, &Case, &Device, Strategy)) {
    for (cell, proj_size) in
        [(&cells::LSTM, 0), (&cells::LSTM, 4), (&cells::GRU_RESET_BEFORE, 0), (&cells::RNN_TANH, 0)]
    {
        for (device, strategy) in executors_for(cell, proj_size) {
            let what = format!("{} P={proj_size} on {} with {strategy}", cell.name, device.kind());
            law(&what, &ragged(cell, proj_size), &device, strategy);
        }
    }
}

fn same(what: &str, case: &Case, a: &(Output<f32>, Gradients<f32>), b: &(Output<f32>, Gradients<f32>)) {
    assert_same(what, &a.0, &b.0);
    assert_same_gradients(what, &case.config, &a.1, &b.1);
}

#[test]
fn the_seed_and_the_run_decide() {
    for_all(|what, case, device, strategy| {
        let mut session = case.training(device, forced(strategy));
        let first = seeded(case, &mut session, 1);
        let second = case.train_in(&mut session);
        assert!(first.0 != second.0 && first.1.x != second.1.x, "{what}: another run, other masks");
        same(what, case, &first, &seeded(case, &mut session, 1));
        same(what, case, &second, &case.train_in(&mut session));
        assert!(seeded(case, &mut session, 2).0 != first.0, "{what}: another seed, other masks");
    });
}

/// Blocks and checkpoints to the bit; recomputed gates within what f32 costs.
#[test]
fn cuts_do_not_matter() {
    for_all(|what, case, device, strategy| {
        let whole = seeded(case, &mut case.training(device, forced(strategy)), 8);
        let blocks = Options { max_block: Some(3), ..forced(strategy) };
        same(&format!("{what}, blocks"), case, &whole, &seeded(case, &mut case.training(device, blocks), 8));
        // The longest sequence is slow on a software GPU: one cell each with and without a state that holds h.
        if case.config.proj_size == 0 && case.config.cell != &cells::GRU_RESET_BEFORE {
            return;
        }
        let proj_size = if case.config.proj_size > 0 { 2 } else { 0 };
        let config = RnnConfig { hidden_size: 4, proj_size, ..case.config.clone() };
        let long = Case::new(config, 131, 3, 47).with_lengths(&[64, 131, 65]);
        let whole = seeded(&long, &mut long.training(device, forced(strategy)), 9);
        let segments = Options { memory: Memory::Checkpoint(64), ..forced(strategy) };
        let mut session = long.training(device, segments);
        assert_eq!(session.plan().segment, 64);
        same(&format!("{what}, checkpoints"), &long, &whole, &seeded(&long, &mut session, 9));
        let recompute = Options { memory: Memory::Recompute, ..forced(strategy) };
        let again = seeded(&long, &mut long.training(device, recompute), 9);
        let truth = truth_of(&long, Some(Masks::new(9, 0)));
        assert_within(&format!("{what}, recomputed"), &wide(all(&long, &again)), &truth);
    });
}

/// A sequence's masks go with its index in the batch and its time, with nothing else.
#[test]
fn batch_neighbours_do_not_matter() {
    for_all(|what, case, device, strategy| {
        let whole = seeded(case, &mut case.training(device, forced(strategy)), 10);
        let mut alone = case.training(device, forced(strategy)).for_shape(Shape { batch: 1, ..case.shape }).unwrap();
        let first = seeded(&case.alone(0), &mut alone, 10);
        let own = |v: &[f32], width: usize| bits(&sequence(v, 4, width, 0));
        assert_eq!(bits(&first.0.y.data), own(&whole.0.y.data, case.config.output_size()), "{what}: y");
        assert_eq!(bits(&first.0.hn.data), own(&whole.0.hn.data, case.config.state_size()), "{what}: hn");
        assert_eq!(bits(&first.1.x.data), own(&whole.1.x.data, case.config.input_size), "{what}: dx");
        assert_eq!(bits(&first.1.h0.data), own(&whole.1.h0.data, case.config.state_size()), "{what}: dh0");
    });
}

/// In inference, where the expectation is the same in every run; every training run draws masks of its own.
#[test]
fn streaming_is_the_whole_sequence() {
    for (cell, proj_size) in [(&cells::LSTM, 0), (&cells::LSTM, 4), (&cells::GRU, 0)] {
        let config = RnnConfig { direction: Direction::Forward, ..config(cell, proj_size) };
        let case = Case::new(config, 6, 2, 48);
        for (device, strategy) in executors() {
            let whole = case.run(&device, strategy);
            let mut step = case.session(&device, strategy, None).for_shape(Shape { time: 1, batch: 2 }).unwrap();
            let mut y = Vec::new();
            for (t, x) in case.x.chunks(2 * 3).enumerate() {
                let out = case.with_input(|input| {
                    let initial = if t == 0 { input.initial } else { Initial::Carry };
                    step.forward(&Input { initial, ..Input::new(View::new(x, &[1, 2, 3])) }).unwrap()
                });
                y.extend(out.y.data);
            }
            assert_eq!(bits(&y), bits(&whole.y.data), "{} {} {strategy}", cell.name, device.kind());
        }
    }
}

#[test]
fn layouts_agree() {
    let case = ragged(&cells::LSTM, 4);
    let swap = |v: &[f32], rows: usize, columns: usize, width: usize| -> Vec<f32> {
        let at = |c: usize, r: usize| v[(r * columns + c) * width..][..width].to_vec();
        (0..columns).flat_map(|c| (0..rows).flat_map(move |r| at(c, r))).collect()
    };
    let mut first = case.clone();
    first.config.layout = Layout::BatchFirst;
    first.x = swap(&case.x, 5, 4, 3);
    first.dy = swap(&case.dy, 5, 4, case.config.output_size());
    for (device, strategy) in executors() {
        let expected = seeded(&case, &mut case.training(&device, forced(strategy)), 12);
        let got = seeded(&first, &mut first.training(&device, forced(strategy)), 12);
        let back = swap(&got.0.y.data, 4, 5, case.config.output_size());
        assert_eq!(bits(&back), bits(&expected.0.y.data));
        assert_eq!(bits(&swap(&got.1.x.data, 4, 5, 3)), bits(&expected.1.x.data));
    }
}

/// With all of dropout at once: executors and strategies agree as far as f32 goes, by the yardstick of the same network without
/// dropout; so do cuts, to the bit.
#[test]
fn it_goes_with_dropout() {
    for (cell, proj_size) in [(&cells::LSTM, 4), (&cells::GRU, 0), (&cells::GRU_RESET_BEFORE, 0)] {
        let plain = ragged(cell, proj_size);
        let yardstick = truth_of(&plain, Some(Masks::new(SEED, 0)));
        let mut case = plain;
        case.config.dropout = Dropout { layers: 0.2, input: 0.2, recurrent: 0.3 };
        let mut oracle = case.training::<f64>(&Device::cpu(), Options::default());
        oracle.set_seed(SEED);
        let exact = all(&case, &case.train_in(&mut oracle));
        let truth: Vec<_> = exact
            .into_iter()
            .zip(yardstick)
            .map(|(t, ((_, plain), bound))| {
                let grows = tolerance::scale(&t.1) / tolerance::scale(&plain);
                (t, bound * grows.max(1.0))
            })
            .collect();
        for (device, strategy) in executors() {
            let what = format!("{} on {} with {strategy}", cell.name, device.kind());
            let whole = seeded(&case, &mut case.training(&device, forced(strategy)), SEED);
            assert_within(&what, &wide(all(&case, &whole)), &truth);
            for memory in [Memory::Checkpoint(1), Memory::Recompute] {
                let options = Options { memory, max_block: Some(2), ..forced(strategy) };
                let cut = seeded(&case, &mut case.training(&device, options), SEED);
                assert_within(&format!("{what} {memory}"), &wide(all(&case, &cut)), &truth);
            }
        }
    }
}

/// Nothing is ever new: y is h0 at every step, and nothing but h0 has a gradient.
#[test]
fn a_probability_of_1_stops_time() {
    let mut case = ragged(&cells::GRU, 0);
    case.config.num_layers = 1;
    case.config.zoneout.hidden = 1.0;
    let case = Case::new(case.config, 5, 4, 49);
    for (device, strategy) in executors() {
        let (out, back) = seeded(&case, &mut case.training(&device, forced(strategy)), 13);
        assert_eq!(bits(&out.hn.data), bits(&case.h0));
        for (name, gradient) in named(&case.config, &back) {
            assert_eq!(gradient.iter().all(|&g| g == 0.0), name != "h0", "{name}");
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let message = |cell, hidden, share| {
        let zoneout = Zoneout { hidden, cell: share };
        RnnConfig { cell, zoneout, ..RnnConfig::lstm(1, 1) }.validate().unwrap_err().to_string()
    };
    assert_eq!(message(&cells::LSTM, 1.5, 0.0), "zoneout.hidden: expected a probability from 0 to 1, got 1.5");
    assert_eq!(message(&cells::LSTM, 0.0, f32::NAN), "zoneout.cell: expected a probability from 0 to 1, got NaN");
    assert!(message(&cells::GRU, 0.1, 0.1).contains("zoneout.cell with gru"));
    let case = ragged(&cells::GRU, 0);
    let refused = case.with_input(|input| naive::forward(&case.config, &case.weights, input).unwrap_err());
    assert!(matches!(refused, Error::Unsupported { .. }));
}

#[test]
fn onnx_has_no_zoneout() {
    let config = RnnConfig { num_layers: 1, ..config(&cells::LSTM, 0) };
    let weights = Weights::<f32>::random(&config, 1).unwrap();
    let refused = wgpu_rnn_formats::onnx::Export::default().bytes(&config, &weights).unwrap_err();
    assert!(
        matches!(refused, Error::Unsupported { .. }) && refused.to_string().contains("zoneout in ONNX"),
        "{refused}"
    );
}
