//! sLSTM's three cell states: against the paper's equations before they are stabilised, at gates where only the stabilised ones
//! give numbers, and the laws of the stabiliser.

use super::harness::*;
use wgpu_rnn::*;
use wgpu_rnn_verify::{naive, naive_backward, tolerance};

/// Of f: σ, the cell's own, and exp.
const FORGET: [Activation; 2] = [Activation::Softplus, Activation::Affine { alpha: 1.0, beta: 0.0 }];

fn config(forget: Activation, recurrence: Recurrence) -> RnnConfig {
    let mut activations: Vec<Activation> = cells::SLSTM.activations.iter().map(|a| a.1).collect();
    activations[1] = forget;
    RnnConfig { cell: &cells::SLSTM, input_size: 3, hidden_size: 6, activations, recurrence, ..Default::default() }
}

/// Equations 8 to 14 of the paper: h of every step, then c and n after the last, from zeros.
fn published(case: &Case) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
    let (config, batch) = (&case.config, case.shape.batch);
    let (n_in, hidden, weights) = (config.input_size, config.hidden_size, case.weights.cast::<f64>());
    let (w, x) = (&weights.layers[0], cast::<f64>(&case.x));
    let depth = w.r.len() / (4 * hidden);
    let sigmoid = |v: f64| 1.0 / (1.0 + (-v).exp());
    let mut y = vec![0.0; case.shape.time * batch * hidden];
    let (mut c, mut n) = (vec![0.0; batch * hidden], vec![0.0; batch * hidden]);
    for b in 0..batch {
        let mut h = vec![0.0; hidden];
        for t in 0..case.shape.time {
            let x = &x[(t * batch + b) * n_in..][..n_in];
            let dot = |m: &[f64], v: &[f64]| m.iter().zip(v).map(|(m, v)| m * v).sum::<f64>();
            let gate = |gate: usize, j: usize| {
                let row = gate * hidden + j;
                let seen = &h[j / depth * depth..][..depth];
                w.b_w[row] + w.b_r[row] + dot(&w.w[row * n_in..], x) + dot(&w.r[row * depth..][..depth], seen)
            };
            let new: Vec<f64> = (0..hidden)
                .map(|j| {
                    let forget = if config.activations[1] == FORGET[0] { sigmoid } else { f64::exp };
                    let (i, f, at) = (gate(0, j).exp(), forget(gate(1, j)), b * hidden + j);
                    c[at] = f * c[at] + i * gate(2, j).tanh();
                    n[at] = f * n[at] + i;
                    sigmoid(gate(3, j)) * c[at] / n[at]
                })
                .collect();
            h = new;
            y[(t * batch + b) * hidden..][..hidden].copy_from_slice(&h);
        }
    }
    (y, c, n)
}

/// The parts c, n and m of a state `[1, B, 3·H]`, each `[B, H]`.
fn parts<T: Copy>(state: &[T], hidden: usize) -> [Vec<T>; 3] {
    [0, 1, 2].map(|part| state.chunks_exact(hidden).skip(part).step_by(3).flatten().copied().collect())
}

/// Heads and both forget gates; c and n times exp(m) are the published ones.
#[test]
fn it_is_the_published_cell() {
    for recurrence in [Recurrence::Dense, Recurrence::Heads(3)] {
        for forget in FORGET {
            let mut case = Case::new(config(forget, recurrence), 7, 2, 91);
            (case.h0, case.c0) = (vec![0.0; case.h0.len()], vec![0.0; case.c0.len()]);
            let (y, c, n) = published(&case);
            for strategy in [Strategy::Step, Strategy::Sequence] {
                let mut session = case.training::<f64>(&Device::cpu(), forced(strategy));
                let out = case.with_input_as(|input| session.forward(input).unwrap());
                let cn = out.cn.unwrap();
                assert_eq!(cn.shape, [1, 2, 18]);
                let [got_c, got_n, m] = parts(&cn.data, 6);
                let scaled = |v: Vec<f64>| v.iter().zip(&m).map(|(v, m)| v * m.exp()).collect::<Vec<_>>();
                for (name, got, truth) in [("y", &out.y.data, &y), ("c", &scaled(got_c), &c), ("n", &scaled(got_n), &n)]
                {
                    let (error, bound) = (tolerance::error(got, truth), tolerance::bound_f64(tolerance::scale(truth)));
                    assert!(error <= bound, "{recurrence} {forget} {strategy}: {name} is off by {error:e}");
                }
            }
        }
    }
}

/// Gates i and f of ±80, alone and by turns, in all sequences of four steps; g and o are ordinary, and nothing is recurrent.
fn extreme(zero: bool) -> Case {
    let config = RnnConfig { cell: &cells::SLSTM, input_size: 4, hidden_size: 4, ..Default::default() };
    let mut case = Case::new(config, 4, 256, 92);
    let layer = &mut case.weights.layers[0];
    layer.r.fill(0.0);
    layer.b_w.fill(0.0);
    layer.b_r.fill(0.0);
    for (row, w) in layer.w.chunks_exact_mut(4).enumerate() {
        let gate = row / 4;
        if gate < 2 {
            w.fill(0.0);
            w[gate] = 80.0;
        } else {
            w[..2].fill(0.0);
        }
    }
    for (row, x) in case.x.chunks_exact_mut(4).enumerate() {
        let (t, b) = (row / 256, row % 256);
        let sign = |bit: usize| if b >> (2 * t + bit) & 1 == 1 { 1.0 } else { -1.0 };
        (x[0], x[1]) = (sign(0), sign(1));
    }
    if zero {
        case.c0.fill(0.0);
    }
    case
}

fn naive_of<T: naive::Scalar>(case: &Case) -> Vec<Named<f64>> {
    let (config, weights) = (&case.config, case.weights.cast::<T>());
    case.with_input_as(|input| {
        let out = naive::forward(config, &weights, input).unwrap();
        let back = case.with_upstream_as(|up| naive_backward::backward(config, &weights, input, up)).unwrap();
        all(config, out, &back)
    })
}

fn all<T: Element>(config: &RnnConfig, out: Output<T>, back: &Gradients<T>) -> Vec<Named<f64>> {
    let outputs = [("y", out.y.data), ("cn", out.cn.unwrap().data)];
    let list = outputs.into_iter().map(|(name, v)| (name.to_string(), v)).chain(named(config, back));
    list.map(|(name, v)| (name, v.into_iter().map(T::to_f64).collect())).collect()
}

/// Numbers, |h| ≤ 1, |c| ≤ n and n ≥ 1, and what the naive loops say. (From zeros the gradient of c0 is as large as exp(80): the
/// weight that a c0 would have had.)
#[test]
fn extreme_gates_give_numbers() {
    for zero in [true, false] {
        let case = extreme(zero);
        let (truth, rounded) = (naive_of::<f64>(&case), naive_of::<f32>(&case));
        for (device, strategy) in executors() {
            let what = format!("zeros {zero} on {} with {strategy}", device.kind());
            let (out, back) = case.train(&device, strategy);
            let [c, n, _] = parts(&out.cn.as_ref().unwrap().data, 4);
            let ulp = 1.0 + 4.0 * f32::EPSILON;
            assert!(out.y.data.iter().all(|h| h.abs() <= ulp), "{what}");
            assert!(!zero || c.iter().zip(&n).all(|(c, n)| c.abs() <= n * ulp && *n >= 1.0), "{what}");
            for (((name, got), (_, truth)), (_, rounded)) in
                all(&case.config, out, &back).iter().zip(&truth).zip(&rounded)
            {
                assert!(got.iter().all(|v| v.is_finite()), "{what}: {name}");
                let bound = tolerance::bound_f32(tolerance::scale(truth), tolerance::error(rounded, truth));
                let error = tolerance::error(got, truth);
                assert!(error <= bound || zero && name == "c0", "{what}: {name} is off by {error:e} > {bound:e}");
            }
        }
    }
}

/// A state without n holds nothing: its m changes no bit of what follows, nor do gates that would let it pass.
#[test]
fn the_stabiliser_of_a_zero_state_does_not_matter() {
    for case in [extreme(true), Case::new(config(FORGET[0], Recurrence::Dense), 5, 3, 93)] {
        let hidden = case.config.hidden_size;
        let with = |m: f32| {
            let mut case = case.clone();
            case.c0.fill(0.0);
            case.c0.chunks_exact_mut(hidden).skip(2).step_by(3).for_each(|part| part.fill(m));
            case
        };
        for (device, strategy) in executors() {
            let what = format!("on {} with {strategy}", device.kind());
            let expected = with(0.0).run(&device, strategy);
            for m in [-100.0, 3.0, 1e30] {
                assert_same(&format!("{what}: m = {m}"), &expected, &with(m).run(&device, strategy));
            }
        }
    }
}

/// (c, n, m) and (c·exp(−d), n·exp(−d), m + d) are one state: h does not tell them apart, and the gradient along that direction,
/// ∂m − c ∂c − n ∂n, is 0 where only h is asked for.
#[test]
fn h_does_not_depend_on_the_stabiliser() {
    let mut case = Case::new(config(FORGET[0], Recurrence::Dense), 5, 3, 94).with_lengths(&[5, 2, 4]);
    case.dcn.fill(0.0);
    let run = |case: &Case| case.train_in(&mut case.training::<f64>(&Device::cpu(), Options::default()));
    let (out, back) = run(&case);
    let [c, n, m] = parts(&case.c0, 6);
    for by in [-2.0f32, 0.5] {
        let mut moved = case.clone();
        for (state, d) in moved.c0.chunks_exact_mut(18).zip([by, 2.0 * by, 0.0]) {
            let scale = (-d).exp();
            state[..12].iter_mut().for_each(|v| *v *= scale);
            state[12..].iter_mut().for_each(|m| *m -= scale.ln());
        }
        // The move is rounded to f32: some units in the last place of c, n and m.
        let error = tolerance::error(&run(&moved).0.y.data, &out.y.data);
        assert!(error < 8.0 * f64::from(f32::EPSILON), "y differs by {error:e}");
    }
    let check = |what: &str, d_state: &[f64], bound: f64| {
        let [d_c, d_n, d_m] = parts(d_state, 6);
        for j in 0..m.len() {
            let along = d_m[j] - f64::from(c[j]) * d_c[j] - f64::from(n[j]) * d_n[j];
            assert!(along.abs() <= bound, "{what}: {along:e} of unit {j}");
        }
    };
    let exact = back.c0.unwrap().data;
    assert!(exact.iter().any(|d| d.abs() > 0.01), "a gradient that says something");
    check("f64", &exact, tolerance::bound_f64(1.0));
    for (device, strategy) in executors() {
        let got = cast::<f64>(&case.train(&device, strategy).1.c0.unwrap().data);
        check(&format!("{} {strategy}", device.kind()), &got, 64.0 * f64::from(f32::EPSILON));
    }
}

#[test]
fn what_it_has_no_equations_for_is_refused() {
    let good = config(FORGET[0], Recurrence::Dense);
    let message = |config: RnnConfig| config.validate().unwrap_err().to_string();
    let zoneout = Zoneout { hidden: 0.0, cell: 0.1 };
    assert!(message(RnnConfig { zoneout, ..good.clone() }).starts_with("not supported: zoneout.cell with slstm: "));
    let clipped = message(RnnConfig { cell_clip: Some(1.0), ..good.clone() });
    assert!(clipped.starts_with("not supported: cell_clip with slstm: "), "{clipped}");
    let mut session = Case::new(good, 2, 3, 1).session(&Device::cpu(), Strategy::Step, None);
    let state = [0.0; 18];
    let refused = session.set_state(View::new(&state, &[1, 3, 6]), Some(View::new(&state, &[1, 3, 6]))).unwrap_err();
    assert_eq!(refused.to_string(), "c0: expected [L·D, B, S·H] = [1, 3, 18], got [1, 3, 6]");
}
