//! The random numbers, and where each mask acts: every value that a kernel masked, against the documented formula.

use super::harness::*;
use super::{ALL, ragged};
use wgpu_rnn::num::random::{MaskKind, Masks, philox4x32_10};
use wgpu_rnn::*;

/// Random123's kat_vectors for philox4x32 10.
#[test]
fn philox_gives_the_published_answers() {
    let known = [
        ([0; 4], [0; 2], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
        ([u32::MAX; 4], [u32::MAX; 2], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]),
        (
            [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
            [0xa409_3822, 0x299f_31d0],
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
        ),
    ];
    for (counter, key, answer) in known {
        assert_eq!(philox4x32_10(counter, key), answer);
    }
}

/// Of n draws, p·n fall, within five standard deviations; what is kept, scaled, then adds up to n.
#[test]
fn the_dropped_share_is_p_and_the_mean_is_kept() {
    for (kind, p) in [(MaskKind::Layers, 0.1f32), (MaskKind::Input, 0.5), (MaskKind::Recurrent, 0.9)] {
        let masks = Masks::new(7, 3);
        let n = 1_000_000;
        let dropped = (0..n).filter(|i| masks.drops(p, kind, 1, i / 1000 % 10, i / 10_000, i % 1000)).count() as f64;
        let (n, p) = (f64::from(n as u32), f64::from(p));
        let sigma = (n * p * (1.0 - p)).sqrt();
        assert!((dropped - n * p).abs() < 5.0 * sigma, "{kind:?}: {dropped} of {n}, p = {p}");
        let sum = (n - dropped) / (1.0 - p);
        assert!((sum - n).abs() < 5.0 * sigma / (1.0 - p), "{kind:?}: sum {sum}");
    }
    assert!((0..1000).all(|i| !Masks::new(1, 1).drops(0.0, MaskKind::Input, 0, i, 0, 0)), "p = 0 drops nothing");
}

/// Draws of different kinds, places, sequences, steps, features, runs and seeds are all different ones.
#[test]
fn every_part_of_the_address_counts() {
    let draw = |seed, run, kind, place, sequence, t, feature| -> Vec<bool> {
        (0..64usize).map(|n| Masks::new(seed, run).drops(0.5, kind, place, sequence, t, feature + n)).collect()
    };
    let (layers, input, recurrent) = (MaskKind::Layers, MaskKind::Input, MaskKind::Recurrent);
    let all = [
        draw(0, 0, layers, 0, 0, 0, 0),
        draw(1, 0, layers, 0, 0, 0, 0),
        draw(1 << 32, 0, layers, 0, 0, 0, 0),
        draw(0, 1, layers, 0, 0, 0, 0),
        draw(0, 1 << 32, layers, 0, 0, 0, 0),
        draw(0, 0, input, 0, 0, 0, 0),
        draw(0, 0, recurrent, 0, 0, 0, 0),
        draw(0, 0, layers, 1, 0, 0, 0),
        draw(0, 0, layers, 0, 1, 0, 0),
        draw(0, 0, layers, 0, 0, 1, 0),
        draw(0, 0, layers, 0, 0, 0, 64),
    ];
    for (n, a) in all.iter().enumerate() {
        assert!(all[..n].iter().all(|b| a != b), "draw {n} repeats an earlier one");
    }
}

/// 0, or 1 / (1 − p).
fn factor(masks: &Masks, p: f32, kind: MaskKind, place: usize, sequence: usize, t: usize, feature: usize) -> f32 {
    match masks.drops(p, kind, place, sequence, t, feature) {
        true => 0.0,
        false => (1.0 / (1.0 - f64::from(p))) as f32,
    }
}

/// What layer `layer`'s input `[rows, width]` is multiplied by.
fn input_factors(case: &Case, masks: &Masks, layer: usize) -> Vec<f32> {
    let (config, Shape { time, batch }) = (&case.config, case.shape);
    let (width, place) = (config.layer_input_size(layer), layer * config.directions());
    let one = |i: usize| {
        let (row, feature) = (i / width, i % width);
        let (t, b) = match config.layout {
            Layout::TimeMajor => (row / batch, row % batch),
            Layout::BatchFirst => (row % time, row / time),
        };
        let input = factor(masks, config.dropout.input, MaskKind::Input, place, b, 0, feature);
        let layers = factor(masks, config.dropout.layers, MaskKind::Layers, place, b, t, feature);
        if layer > 0 { input * layers } else { input }
    };
    (0..time * batch * width).map(one).collect()
}

/// Products by value: what was NaN (memory that nothing wrote) stays NaN.
fn same_values(what: &str, got: &[f32], before: &[f32], factors: &[f32]) {
    assert_eq!(got.len(), before.len(), "{what}");
    for (n, ((got, before), f)) in got.iter().zip(before).zip(factors).enumerate() {
        let wanted = before * f;
        assert!(*got == wanted || got.is_nan() && wanted.is_nan(), "{what}[{n}]: {before} * {f} gave {got}");
    }
}

/// Every `dropout` of both halves multiplied what its slot held before by the documented factors, bit for bit.
fn check_elementwise(case: &Case, seed: u64, device: &Device) {
    let mut session: Session = case.training(device, Options::default());
    session.poison().unwrap();
    session.set_seed(seed);
    let mut trace = case.with_input(|input| session.trace(input).unwrap());
    trace.extend(case.with_upstream_as(|up| session.trace_backward(up).unwrap()));
    let masks = Masks::new(seed, 0);
    let mut seen = 0;
    for (n, after) in trace.iter().enumerate().filter(|(_, s)| s.dispatch.starts_with("dropout")) {
        let before = trace[..n].iter().rev().find(|s| s.slot == after.slot).map_or(&case.x, |s| &s.values);
        let layer = usize::from(after.dispatch.contains("layer 1"));
        let what = format!("seed {seed} on {}: {} wrote {}", device.kind(), after.dispatch, after.slot);
        same_values(&what, &after.values, before, &input_factors(case, &masks, layer));
        seen += 1;
    }
    assert_eq!(seen, 4, "x, y, dy, dx");
}

#[test]
fn inputs_of_layers_and_their_gradients_are_masked_as_documented() {
    for (n, layout) in [Layout::TimeMajor, Layout::BatchFirst].into_iter().enumerate() {
        for device in [Device::cpu(), gpu()] {
            // Widths that are and are not whole vec4s.
            for (hidden_size, input_size) in [(9, 6), (2, 8)] {
                let mut case = ragged(&cells::GRU, 0, ALL);
                case.config = RnnConfig { layout, hidden_size, input_size, ..case.config };
                let case = Case::new(case.config, 5, 4, 21).with_lengths(&[2, 5, 1, 4]);
                for seed in [0, 0x1234_5678_9abc_def0 + n as u64] {
                    check_elementwise(&case, seed, &device);
                }
            }
        }
    }
}

/// Enough values for the CPU executor to take several threads.
#[test]
fn large_masks_are_the_same_on_every_executor() {
    let dropout = Dropout { input: 0.5, ..Default::default() };
    let config = RnnConfig { cell: &cells::RNN_TANH, input_size: 131, hidden_size: 1, dropout, ..Default::default() };
    let mut case = Case::new(config, 9, 67, 22);
    case.x.fill(1.0);
    let masked = |device: &Device| {
        let mut session: Session = case.training(device, Options::default());
        session.set_seed(99);
        let trace = case.with_input(|input| session.trace(input).unwrap());
        trace.into_iter().find(|s| s.slot == "x.dropped").unwrap().values
    };
    let (cpu, gpu) = (masked(&Device::cpu()), masked(&gpu()));
    assert!(cpu.len() > 1 << 16);
    assert_eq!(bits(&cpu), bits(&gpu));
    let factors = input_factors(&case, &Masks::new(99, 0), 0);
    assert_eq!(bits(&cpu), bits(&factors));
    // One draw per sequence and feature, for all steps.
    let step = 67 * 131;
    assert!(cpu.chunks_exact(step).all(|s| s == &cpu[..step]));
    assert!(cpu.iter().all(|&v| v == 0.0 || v == 2.0));
}

/// Rows of `operand` hold what the product reads, then h: the first is the second times the documented factors, after every
/// dispatch that writes one.
#[test]
fn the_recurrent_product_reads_h_masked_as_documented() {
    for (cell, proj_size) in [(&cells::LSTM, 5), (&cells::GRU, 0), (&cells::GRU_RESET_BEFORE, 0)] {
        let case = ragged(cell, proj_size, Dropout { recurrent: 0.4, ..Default::default() });
        let (batch, padded) = (4, case.config.state_size().next_multiple_of(4));
        for (device, strategy) in executors() {
            let mut session: Session = case.training(&device, forced(strategy));
            session.set_seed(5);
            // Run 1 of that seed, with nothing left of run 0.
            case.run_in(&mut session);
            session.poison().unwrap();
            let trace = case.with_input(|input| session.trace(input).unwrap());
            let masks = Masks::new(5, 1);
            // Sorted by falling length.
            let order = [1, 3, 0, 2];
            let mut seen = 0;
            for snapshot in trace.iter().filter(|s| s.slot.starts_with("operand")) {
                for (row, values) in snapshot.values.chunks_exact(2 * padded).enumerate() {
                    let (z, sequence) = (row / batch, order[row % batch]);
                    let of = |u: usize| factor(&masks, 0.4, MaskKind::Recurrent, z, sequence, 0, u);
                    let factors: Vec<f32> = (0..padded).map(of).collect();
                    let what = format!("{} {strategy}: {} row {row}", device.kind(), snapshot.dispatch);
                    same_values(&what, &values[..padded], &values[padded..], &factors);
                    seen += 1;
                }
            }
            assert!(seen > 16);
        }
    }
}

#[test]
fn what_is_no_probability_is_refused() {
    for p in [1.0, -0.1, f32::NAN, f32::INFINITY] {
        for (name, dropout) in [
            ("layers", Dropout { layers: p, ..Default::default() }),
            ("input", Dropout { input: p, ..Default::default() }),
            ("recurrent", Dropout { recurrent: p, ..Default::default() }),
        ] {
            let error = RnnConfig { dropout, ..RnnConfig::lstm(1, 1) }.validate().unwrap_err();
            assert!(matches!(error, Error::Mismatch { .. }));
            let text = format!("dropout.{name}: expected a probability from 0 to below 1, got {p}");
            assert_eq!(error.to_string(), text);
        }
    }
    assert!(RnnConfig { dropout: Dropout { layers: 0.999_999_9, ..ALL }, ..RnnConfig::lstm(1, 1) }.validate().is_ok());
}
