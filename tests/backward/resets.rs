//! Episodes that begin inside a run (`Options::resets`).

use super::derivatives::check_adjoint;
use super::executors::{TOLERANCE, compare, trace};
use super::harness::*;
use std::ops::Range;
use wgpu_rnn::*;
use wgpu_rnn_verify::tolerance;

const BOTH: [Reset; 2] = [Reset::Zero, Reset::Initial];

/// Ragged, both directions; episodes begin at the first step, at two steps in a row, at a last step, and past an end (where it
/// means nothing).
fn case(cell: &'static Cell, proj_size: usize, num_layers: usize, reset: Reset) -> Case {
    let direction = Direction::Bidirectional;
    let config =
        RnnConfig { cell, input_size: 3, hidden_size: 5, num_layers, direction, proj_size, ..Default::default() };
    let flags = [(0, 0), (3, 0), (4, 0), (2, 1), (6, 1), (5, 2)];
    Case::new(config, 7, 3, 80).with_lengths(&[7, 5, 6]).with_resets(reset, &flags)
}

/// The times of each episode of sequence `b` (time-major).
fn episodes(case: &Case, b: usize) -> Vec<Range<usize>> {
    let (batch, length) = (case.shape.batch, case.lengths.as_ref().map_or(case.shape.time, |l| l[b]));
    let mut starts: Vec<usize> = (0..length).filter(|&t| t == 0 || case.flags[t * batch + b]).collect();
    starts.push(length);
    starts.windows(2).map(|w| w[0]..w[1]).collect()
}

/// One episode as a run of its own. Each direction comes from the run's own state only at that end of the sequence, and the
/// gradient of its last state only comes in at the other.
fn episode(case: &Case, b: usize, times: &Range<usize>) -> Case {
    let (batch, directions) = (case.shape.batch, case.config.directions());
    let length = case.lengths.as_ref().map_or(case.shape.time, |l| l[b]);
    let alone = case.alone(b);
    let rows = |v: &[f32], width: usize| v[times.start * width..times.end * width].to_vec();
    let ends = [times.start == 0, times.end == length];
    let states = |v: &[f32], keep: [bool; 2]| -> Vec<f32> {
        let width = v.len() / (case.config.num_layers * directions);
        let row =
            |(z, v): (usize, &[f32])| v.iter().map(|&v| if keep[z % directions] { v } else { 0.0 }).collect::<Vec<_>>();
        v.chunks(width.max(1)).enumerate().flat_map(row).collect()
    };
    let starts = match case.resets {
        Some(Reset::Initial) => [true, true],
        _ => [ends[0] && !case.flags[b], ends[1]],
    };
    assert_eq!((batch, directions), (case.shape.batch, 2));
    Case {
        shape: Shape { time: times.len(), batch: 1 },
        lengths: None,
        x: rows(&alone.x, case.config.input_size),
        dy: rows(&alone.dy, case.config.output_size()),
        h0: states(&alone.h0, starts),
        c0: states(&alone.c0, starts),
        dhn: states(&alone.dhn, [ends[1], ends[0]]),
        dcn: states(&alone.dcn, [ends[1], ends[0]]),
        resets: None,
        flags: Vec::new(),
        ..alone
    }
}

/// Outputs and gradients of x are bit for bit those of the episodes run on their own.
#[test]
fn a_run_is_its_episodes() {
    for (cell, proj_size) in cells_and_projections(3) {
        for (device, strategy) in executors_for(cell, proj_size) {
            for reset in BOTH {
                let what = format!("{} P={proj_size} on {} with {strategy}, {reset:?}", cell.name, device.kind());
                // Two layers where that is fast.
                let case = case(cell, proj_size, if device.kind() == "cpu" { 2 } else { 1 }, reset);
                let (out, gradients) = case.train(&device, strategy);
                let mut one = case.training::<f32>(&device, forced(strategy));
                for b in 0..3 {
                    for times in episodes(&case, b) {
                        let alone = episode(&case, b, &times);
                        let options = Options { train: true, ..forced(strategy) };
                        one = one.sibling(alone.shape, &options).unwrap();
                        let (own, own_gradients) = alone.poisoned(&mut one);
                        let part = |v: &[f32], width: usize| {
                            bits(&sequence(v, 3, width, b)[times.start * width..times.end * width])
                        };
                        let what = format!("{what}: sequence {b}, {times:?}");
                        assert_eq!(bits(&own.y.data), part(&out.y.data, case.config.output_size()), "{what}: y");
                        assert_eq!(bits(&own_gradients.x.data), part(&gradients.x.data, 3), "{what}: x");
                    }
                }
            }
        }
    }
}

/// Every gradient is the sum of the episodes' (f64, 1e-10), whatever is kept for the way back.
#[test]
fn gradients_are_the_sums_of_the_episodes() {
    for (cell, proj_size) in cells_and_projections(3) {
        for reset in BOTH {
            let case = case(cell, proj_size, 2, reset);
            let mut sums: Option<Vec<Named<f64>>> = None;
            for b in 0..3 {
                for times in episodes(&case, b) {
                    let alone = episode(&case, b, &times);
                    let mut own = named(&case.config, &alone.true_gradients());
                    for (name, values) in own.iter_mut().filter(|v| ["h0", "c0"].contains(&v.0.as_str())) {
                        spread(&case, (name == "h0", reset), b, &times, values);
                    }
                    // x is compared bit for bit above.
                    own.remove(0);
                    let all =
                        sums.get_or_insert_with(|| own.iter().map(|(n, v)| (n.clone(), vec![0.0; v.len()])).collect());
                    for ((_, sum), (_, own)) in all.iter_mut().zip(&own) {
                        sum.iter_mut().zip(own).for_each(|(s, o)| *s += o);
                    }
                }
            }
            for memory in [Memory::Save, Memory::Recompute] {
                for strategy in [Strategy::Step, Strategy::Sequence] {
                    let mut session = case.training::<f64>(&Device::cpu(), Options { memory, ..forced(strategy) });
                    session.poison().unwrap();
                    let got = named(&case.config, &case.train_in(&mut session).1);
                    for ((name, sum), (_, got)) in sums.iter().flatten().zip(&got[1..]) {
                        let (error, bound) = (tolerance::error(got, sum), tolerance::bound_f64(tolerance::scale(sum)));
                        let what = format!("{} P={proj_size} {reset:?} {memory} {strategy}", cell.name);
                        assert!(error <= bound, "{what}: {name} differs by {error:e}, bound {bound:e}");
                    }
                }
            }
        }
    }
}

/// An episode's gradient of h0 or c0 as that of the whole batch: 0 for the other sequences, and where it did not come from
/// the run's own state.
fn spread(case: &Case, (hidden, reset): (bool, Reset), b: usize, times: &Range<usize>, values: &mut Vec<f64>) {
    let (batch, directions) = (case.shape.batch, case.config.directions());
    let width = if hidden { case.config.state_size() } else { case.config.cell_size() };
    let length = case.lengths.as_ref().map_or(case.shape.time, |l| l[b]);
    let from = match reset {
        Reset::Initial => [true, true],
        Reset::Zero => [times.start == 0 && !case.flags[b], times.end == length],
    };
    let mut all = vec![0.0; values.len() * batch];
    for (z, own) in values.chunks_exact(width).enumerate().filter(|(z, _)| from[z % directions]) {
        all[(z * batch + b) * width..][..width].copy_from_slice(own);
    }
    *values = all;
}

/// The exact derivative, in f64: against differences of the run's own loss; with dropout too.
#[test]
fn backward_is_the_adjoint_of_a_run_with_episodes() {
    for (cell, proj_size) in cells_and_projections(3) {
        for reset in BOTH {
            let mut layers = case(cell, proj_size, 2, reset);
            check_adjoint(&layers);
            layers.config.dropout = Dropout { layers: 0.2, input: 0.2, recurrent: 0.4 };
            check_adjoint(&layers);
            let config = RnnConfig { layout: Layout::BatchFirst, ..case(cell, proj_size, 1, reset).config };
            let flags = [(1, 0), (63, 1), (64, 1), (65, 0)];
            check_adjoint(&Case::new(config, 66, 2, 81).with_lengths(&[66, 65]).with_resets(reset, &flags));
        }
    }
}

/// Every gradient on every executor within what f32 costs.
#[test]
fn gradients_of_episodes_are_within_what_f32_costs() {
    let mut failures = Vec::new();
    for (cell, proj_size) in cells_and_projections(3) {
        for reset in BOTH {
            compare(&case(cell, proj_size, 1, reset), &format!("{} P={proj_size} {reset:?}", cell.name), &mut failures);
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn executors_agree_after_every_dispatch_with_episodes() {
    let mut failures = Vec::new();
    for (cell, proj_size) in gpu_cells(3) {
        let case = case(cell, proj_size, 1, Reset::Initial);
        for strategy in [Strategy::Step, Strategy::Sequence] {
            let forward = |device: &Device| {
                let mut session = case.session(device, strategy, Some(3));
                session.poison().unwrap();
                case.with_input(|input| session.trace(input).unwrap())
            };
            let pairs = [
                (forward(&Device::cpu()), forward(&gpu())),
                (trace(&case, &Device::cpu(), strategy), trace(&case, &gpu(), strategy)),
            ];
            for what in pairs.iter().filter_map(|(cpu, gpu)| first_difference(cpu, gpu, TOLERANCE)) {
                failures.push(format!("{} P={proj_size} {strategy}: {what}", cell.name));
            }
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

/// Episodes across checkpoints and kept rows: checkpoints change no bits, kept rows none beyond what f32 costs.
#[test]
fn memory_policies_agree_over_episodes() {
    for (cell, proj_size) in cells_and_projections(3) {
        for reset in BOTH {
            let config = RnnConfig { num_layers: 2, ..case(cell, proj_size, 1, reset).config };
            let flags = [(63, 0), (64, 1), (65, 1), (66, 0)];
            let case = Case::new(config, 68, 2, 82).with_lengths(&[68, 66]).with_resets(reset, &flags);
            for (device, strategy) in executors_for(cell, proj_size) {
                let what = format!("{} P={proj_size} on {} with {strategy}, {reset:?}", cell.name, device.kind());
                if device.kind() == "cpu" {
                    let of = |memory| {
                        let options = Options { memory, ..forced(strategy) };
                        named(&case.config, &case.train_in(&mut case.training::<f64>(&device, options)).1)
                    };
                    for ((name, a), (_, b)) in of(Memory::Save).iter().zip(&of(Memory::Recompute)) {
                        let (error, bound) = (tolerance::error(b, a), tolerance::bound_f64(tolerance::scale(a)));
                        assert!(error <= bound, "{what}: {name} differs by {error:e}, bound {bound:e}");
                    }
                } else if reset == Reset::Zero || !["lstm", "gru-reset-before"].contains(&cell.name) && !everything() {
                    // The slow executor: one kind, and a cell of one stage and of two.
                    continue;
                }
                let of = |memory| {
                    let options = Options { memory, ..forced(strategy) };
                    case.poisoned(&mut case.training(&device, options)).1
                };
                assert_same_gradients(&what, &case.config, &of(Memory::Save), &of(Memory::Checkpoint(64)));
            }
        }
    }
}

/// What comes in after a boundary has no effect on the gradients of x before it, and flags that are not there none at all.
#[test]
fn no_gradient_crosses_and_no_flags_change_nothing() {
    for (cell, proj_size) in cells_and_projections(3) {
        for (device, strategy) in executors_for(cell, proj_size) {
            let what = format!("{} P={proj_size} on {} with {strategy}", cell.name, device.kind());
            let config = RnnConfig { direction: Direction::Forward, ..case(cell, proj_size, 1, Reset::Zero).config };
            let plain = Case::new(config, 6, 2, 83);
            let case = plain.clone().with_resets(Reset::Zero, &[(3, 0), (3, 1)]);
            let mut session = case.training::<f32>(&device, forced(strategy));
            let before = case.poisoned(&mut session).1;
            let mut other = case.clone();
            other.dy[3 * 2 * case.config.output_size()..].iter_mut().for_each(|d| *d += 1.0);
            other.dhn.iter_mut().chain(&mut other.dcn).for_each(|d| *d -= 1.0);
            let after = other.poisoned(&mut session).1;
            assert_eq!(bits(&before.x.data[..18]), bits(&after.x.data[..18]), "{what}");
            assert_ne!(bits(&before.x.data[18..]), bits(&after.x.data[18..]), "{what}");
            assert_eq!(bits(&before.h0.data), bits(&after.h0.data), "{what}");

            let none = plain.clone().with_resets(Reset::Initial, &[]);
            let (out, gradients) = none.train(&device, strategy);
            let expected = plain.train(&device, strategy);
            assert_same(&what, &expected.0, &out);
            assert_same_gradients(&what, &plain.config, &expected.1, &gradients);
        }
    }
}

#[test]
fn resets_that_do_not_fit_are_refused() {
    let case = case(&cells::GRU, 0, 1, Reset::Zero);
    let shape = case.x_shape();
    let message = |session: &mut Session, resets: &[bool]| {
        let input = Input { resets: Some(resets), ..Input::new(View::new(&case.x, &shape)) };
        session.forward(&input).expect_err("does not fit").to_string()
    };
    let mut session = case.session(&Device::cpu(), Strategy::Sequence, None);
    assert_eq!(message(&mut session, &[true; 20]), "resets: expected T·B = 21 flags, got 20 flags");
    // Nothing of it is left: the next run has none.
    let plain = Case { resets: None, flags: Vec::new(), ..case.clone() };
    let expected = plain.train(&Device::cpu(), Strategy::Sequence).0;
    let input = Input { lengths: case.lengths.as_deref(), ..Input::new(View::new(&case.x, &shape)) };
    let states = case.state_shapes();
    let initial = Initial::Given { h0: Some(View::new(&case.h0, &states[0])), c0: None };
    assert_same("none given", &expected, &session.forward(&Input { initial, ..input }).unwrap());

    let mut session = plain.session(&Device::cpu(), Strategy::Sequence, None);
    let text = "resets: expected none (the plan was made without Options::resets), got 21 flags";
    assert_eq!(message(&mut session, &case.flags), text);
}
