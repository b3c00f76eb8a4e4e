//! Zoneout: against loops that mix what [`wgpu_rnn_verify::naive`]'s cells make of one step with the values before it, by the
//! documented masks or by the expectation; and the laws.

#[path = "../harness/mod.rs"]
mod harness;

mod laws;
mod plain;

use harness::*;
use plain::*;
use wgpu_rnn::num::random::{MaskKind, Masks};
use wgpu_rnn::weights::parameters;
use wgpu_rnn::*;
use wgpu_rnn_verify::tolerance;

const SEED: u64 = 5;

fn config(cell: &'static Cell, proj_size: usize) -> RnnConfig {
    let cell_share = if cell.cell_states() == 1 { 0.4 } else { 0.0 };
    RnnConfig {
        cell,
        input_size: 3,
        hidden_size: 6,
        num_layers: 2,
        direction: Direction::Bidirectional,
        proj_size,
        zoneout: Zoneout { hidden: 0.3, cell: cell_share },
        ..Default::default()
    }
}

/// Two layers, both directions, odd sizes, ragged.
fn ragged(cell: &'static Cell, proj_size: usize) -> Case {
    Case::new(config(cell, proj_size), 5, 4, 41).with_lengths(&[2, 5, 1, 4])
}

fn assert_within(what: &str, got: &[Named<f64>], truth: &[(Named<f64>, f64)]) {
    assert!(!got.is_empty());
    for ((name, got), ((expected, truth), bound)) in got.iter().zip(truth) {
        assert_eq!(name, expected);
        let error = tolerance::error(got, truth);
        assert!(error <= *bound, "{what}: {name} is off by {error:e}, more than {bound:e}");
    }
}

fn wide(values: Vec<Named<f32>>) -> Vec<Named<f64>> {
    values.into_iter().map(|(name, v)| (name, cast(&v))).collect()
}

/// Forward and back in run 0 of a seed, over NaN-filled memory.
fn seeded(case: &Case, session: &mut Session, seed: u64) -> (Output<f32>, Gradients<f32>) {
    session.set_seed(seed);
    case.poisoned(session)
}

/// The cases: every cell with all of it; some with h only, c only; always and never; read backwards, with one bias; with episodes.
fn cases(cell: &'static Cell, proj_size: usize) -> Vec<Case> {
    let whole = ragged(cell, proj_size);
    if ![&cells::LSTM, &cells::GRU_RESET_BEFORE].contains(&cell) {
        return vec![whole];
    }
    let with = |hidden: f32, share: f32, direction: Direction, seed: u64| {
        let zoneout = Zoneout { hidden, cell: if cell.has_cell_state() { share } else { 0.0 } };
        let config = RnnConfig { zoneout, direction, num_layers: 1, bias: Bias::One, ..whole.config.clone() };
        Case::new(config, 4, 3, seed)
    };
    let mut list = vec![
        with(0.5, 0.0, Direction::Reverse, 42).with_lengths(&[1, 4, 3]),
        with(0.2, 0.3, Direction::Bidirectional, 43).with_resets(Reset::Initial, &[(1, 0), (3, 1), (2, 1)]),
    ];
    if cell.has_cell_state() {
        list.push(with(0.0, 0.5, Direction::Forward, 44).with_lengths(&[4, 2, 3]));
        list.push(with(1.0, 0.2, Direction::Forward, 45).with_resets(Reset::Zero, &[(2, 0), (2, 2)]));
    }
    list.push(whole);
    list
}

#[test]
fn executors_compute_what_the_plain_loops_do() {
    for (cell, proj_size) in cells_and_projections(4) {
        for case in cases(cell, proj_size) {
            let masks = Masks::new(SEED, 0);
            let (masked, mean) = (truth_of(&case, Some(masks)), truth_of(&case, None));
            let what = format!("{} P={proj_size} {:?} {:?}", cell.name, case.config.zoneout, case.resets);
            let exact = |truth: &[(Named<f64>, f64)]| -> Vec<(Named<f64>, f64)> {
                truth.iter().map(|(t, _)| (t.clone(), tolerance::bound_f64(tolerance::scale(&t.1)))).collect()
            };
            let mut oracle = case.training::<f64>(&Device::cpu(), Options::default());
            oracle.set_seed(SEED);
            assert_within(&format!("{what}, f64"), &all(&case, &case.train_in(&mut oracle)), &exact(&masked));
            oracle.set_dropout(false);
            assert_within(&format!("{what}, f64 off"), &all(&case, &case.train_in(&mut oracle)), &exact(&mean));
            for (device, strategy) in executors_for(cell, proj_size) {
                let what = format!("{what} on {} with {strategy}", device.kind());
                let mut session = case.training(&device, forced(strategy));
                assert_within(&what, &wide(all(&case, &seeded(&case, &mut session, SEED))), &masked);
                session.set_dropout(false);
                let off = case.poisoned(&mut session);
                assert_within(&format!("{what}, off"), &wide(all(&case, &off)), &mean);
                // Off, a plan that trains is one that does not.
                let inference = case.run(&device, strategy);
                assert_same(&what, &off.0, &inference);
                assert_within(&format!("{what}, inference"), &wide(outputs(&inference)), &mean);
            }
        }
    }
}

/// Σ up ∘ out of the plain loops, and the size of what is added up.
fn loss(case: &Case, numbers: &Numbers<f64>, masks: Option<Masks>) -> (f64, f64) {
    let (out, _) = there(case, numbers, masks);
    let none = Vec::new();
    let cn = out.cn.as_ref().map_or(&none, |t| &t.data);
    let pairs = [(&case.dy, &out.y.data), (&case.dhn, &out.hn.data), (&case.dcn, cn)];
    let products = pairs.into_iter().flat_map(|(up, v)| up.iter().zip(v).map(|(&u, v)| f64::from(u) * v));
    products.fold((0.0, 0.0), |(sum, size), p| (sum + p, size + p.abs()))
}

/// The adjoint rests on nothing but the loops' way there: as in tests/backward/derivatives.rs the difference at h is off by a
/// third of its distance to the one at 2h and by the rounding of the losses.
#[test]
fn gradients_are_central_differences_of_the_loops() {
    let h = f64::EPSILON.cbrt();
    for (cell, proj_size) in cells_and_projections(4) {
        let case = ragged(cell, proj_size);
        for masks in [Some(Masks::new(SEED, 0)), None] {
            let mut session = case.training::<f64>(&Device::cpu(), Options::default());
            session.set_seed(SEED);
            session.set_dropout(masks.is_some());
            let got = named(&case.config, &case.train_in(&mut session).1);
            let places = parameters(&case.config);
            for (name, gradient) in &got {
                let count = gradient.len();
                for at in [0, count / 3, count / 2, count - 1] {
                    let moved = |by: f64| {
                        let mut numbers = Numbers::of(&case);
                        let values = match name.as_str() {
                            "x" => &mut numbers.x,
                            "h0" => &mut numbers.h0,
                            "c0" => &mut numbers.c0,
                            _ => numbers.weights.get_mut(places.iter().find(|p| p.name == *name).unwrap().place),
                        };
                        values[at] += by;
                        loss(&case, &numbers, masks)
                    };
                    let central = |h: f64| (moved(h).0 - moved(-h).0) / (2.0 * h);
                    let (near, far, size) = (central(h), central(2.0 * h), moved(0.0).1);
                    let bound = (far - near).abs() + 16.0 * f64::EPSILON * size / h;
                    let what = format!("{} P={proj_size} {name}[{at}]", cell.name);
                    assert!(bound < 1e-7 * size, "{what}: no derivative here ({near} and {far})");
                    let error = (near - gradient[at]).abs();
                    assert!(error <= bound, "{what} is {}, not {near} within {bound:e}", gradient[at]);
                }
            }
        }
    }
}

/// A unit that keeps its value keeps its bits, on the documented masks; and some do, some do not.
#[test]
fn what_is_kept_is_kept_to_the_bit() {
    let config = RnnConfig { num_layers: 1, direction: Direction::Forward, ..config(&cells::LSTM, 0) };
    let case = Case::new(config, 6, 2, 46);
    for (device, strategy) in executors() {
        let out = seeded(&case, &mut case.training(&device, forced(strategy)), 7).0;
        let (masks, n) = (Masks::new(7, 0), 6);
        let mut before = bits(&case.h0);
        let mut kept = 0;
        for (t, h) in out.y.data.chunks(2 * n).enumerate() {
            let h = bits(h);
            for (i, (a, b)) in before.iter().zip(&h).enumerate() {
                let keeps = masks.drops(0.3, MaskKind::ZoneoutHidden, 0, i / n, t, i % n);
                assert_eq!(a == b, keeps, "{} {strategy} t={t} {i}", device.kind());
                kept += usize::from(keeps);
            }
            before = h;
        }
        assert!((5..67).contains(&kept), "{kept} of 72");
    }
}

/// Of n draws, p·n keep, within five standard deviations, and those of h and of c differ.
#[test]
fn the_kept_share_is_p() {
    let masks = Masks::new(3, 1);
    let n = 200_000;
    let draw = |kind, i: usize| masks.drops(0.25, kind, 2, i / 1000 % 10, i / 10_000, i % 1000);
    let mut both = 0;
    for kind in [MaskKind::ZoneoutHidden, MaskKind::ZoneoutCell] {
        let kept = (0..n).filter(|&i| draw(kind, i)).count() as f64;
        let (n, p) = (f64::from(n as u32), 0.25);
        assert!((kept - n * p).abs() < 5.0 * (n * p * (1.0 - p)).sqrt(), "{kind:?}: {kept}");
    }
    both += (0..n).filter(|&i| draw(MaskKind::ZoneoutHidden, i) && draw(MaskKind::ZoneoutCell, i)).count();
    let expected = n as f64 / 16.0;
    assert!((both as f64 - expected).abs() < 5.0 * expected.sqrt(), "{both} keep both");
    let all = (0..1000).filter(|&i| masks.drops(1.0, MaskKind::ZoneoutHidden, 0, 0, 0, i)).count();
    let none = (0..1000).filter(|&i| masks.drops(0.0, MaskKind::ZoneoutHidden, 0, 0, 0, i)).count();
    assert_eq!((all, none), (1000, 0));
}
