//! The contract carries cells it was not written for: a layer-normalised RNN of two stages (a row statistic over W x and another over
//! R h, then one over what they give, without a matrix), defined here from outside the crate, on both executors and both
//! strategies, forward against a naive f64 loop written from the equations, backward against differences of that loop. Cells
//! with peepholes, projection, two matrices and layer normalisation of their own are in the registry and covered by its tests; what
//! only the cell of several cell states can do wrong is in [`slstm`].

#[path = "../harness/mod.rs"]
mod harness;

mod slstm;

use harness::*;
use wgpu_rnn::cell::{Adjoint, Functions, Gate, Initial, Pointwise, Product, Stage, StageFn, State};
use wgpu_rnn::num::Lanes;
use wgpu_rnn::*;

// m  = tanh(γ_w∘LN(W x) + b_w + γ_r∘LN(R h) + b_r) + p∘s      LN over H values each
// h' = s' = σ(γ_m∘LN(m))                                      p: a parameter, s: a state of the unit's own, h at first

struct Sum;

const STATES: [State; 1] = [State { name: "s", initial: Initial::Hidden }];

impl Pointwise for Sum {
    const GATES: &'static [Gate] = &[Gate::input("x"), Gate::recurrent("h")];
    const STATES: &'static [State] = &STATES;
    const PARAMS: &'static [&'static str] = &["p"];

    fn forward<V: Lanes>(act: &Functions, pre: &[V], state: &mut [V], unit: &[V]) -> V {
        unit[0].mul_add(state[0], act[0].apply(pre[0] + pre[1]))
    }
    fn backward<V: Lanes>(act: &Functions, pre: &[V], state: &[V], unit: &[V], d: &mut Adjoint<V>) {
        d.pre[0] = d.out * act[0].slope(pre[0] + pre[1]);
        d.pre[1] = d.pre[0];
        d.unit[0] = d.out * state[0];
        d.state[0] = d.out.mul_add(unit[0], d.state[0]);
    }
}

struct Out;

impl Pointwise for Out {
    const GATES: &'static [Gate] = &[Gate::recurrent("m")];
    const STATES: &'static [State] = &STATES;
    const PARAMS: &'static [&'static str] = &["p"];

    fn forward<V: Lanes>(act: &Functions, pre: &[V], state: &mut [V], _unit: &[V]) -> V {
        state[0] = act[1].apply(pre[0]);
        state[0]
    }
    fn backward<V: Lanes>(act: &Functions, pre: &[V], state: &[V], _unit: &[V], d: &mut Adjoint<V>) {
        d.pre[0] = (d.out + d.state[0]) * act[1].slope(pre[0]);
        d.state[0] = state[0].like(0.0);
    }
}

static LAYER_NORM_RNN: Cell = Cell {
    name: "rnn-layer-norm",
    stages: &[
        Stage {
            gates: Sum::GATES,
            product: Product::Dense,
            normalise: true,
            pointwise: StageFn::of::<Sum>(),
        },
        Stage {
            gates: Out::GATES,
            product: Product::Identity,
            normalise: true,
            pointwise: StageFn::of::<Out>(),
        },
    ],
    states: &STATES,
    params: Sum::PARAMS,
    activations: &[("f", Activation::Tanh), ("g", Activation::Sigmoid)],
    options: &[],
    wgsl: "
fn forward_0(pre: array<real, PRE_0>, state: array<real, STATES>, unit: array<real, UNIT_0>) -> Forward {
    return Forward(state, fma(unit[0], state[0], act_0(pre[0] + pre[1])));
}

fn backward_0(pre: array<real, PRE_0>, state: array<real, STATES>, unit: array<real, UNIT_0>, d_out: real, d_state: array<real, STATES>) -> Backward_0 {
    let d = d_out * slope_0(pre[0] + pre[1]);
    let d_s = fma(d_out, unit[0], d_state[0]);
    return Backward_0(array<real, PRE_0>(d, d), array<real, STATES>(d_s), array<real, UNIT_0>(d_out * state[0]));
}

fn forward_1(pre: array<real, PRE_1>, state: array<real, STATES>, unit: array<real, UNIT_1>) -> Forward {
    let h = act_1(pre[0]);
    return Forward(array<real, STATES>(h), h);
}

fn backward_1(pre: array<real, PRE_1>, state: array<real, STATES>, unit: array<real, UNIT_1>, d_out: real, d_state: array<real, STATES>) -> Backward_1 {
    let d = (d_out + d_state[0]) * slope_1(pre[0]);
    return Backward_1(array<real, PRE_1>(d), array<real, STATES>(0.0), array<real, UNIT_1>(0.0));
}
",
};

fn normalise(v: &[f64], gain: &[f64], bias: &[f64]) -> Vec<f64> {
    let n = v.len() as f64;
    let mean = v.iter().sum::<f64>() / n;
    let variance = v.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n;
    let one = |((x, g), b): ((&f64, &f64), &f64)| (x - mean) / (variance + 1e-5).sqrt() * g + b;
    v.iter().zip(gain).zip(bias).map(one).collect()
}

/// One direction of one sequence: h of every step.
fn naive(w: &weights::LayerWeights<f64>, x: &[Vec<f64>], h0: &[f64]) -> Vec<Vec<f64>> {
    let (n, mut h) = (h0.len(), h0.to_vec());
    let product = |m: &[f64], v: &[f64]| -> Vec<f64> {
        m.chunks_exact(v.len()).map(|row| row.iter().zip(v).map(|(a, b)| a * b).sum()).collect()
    };
    let mut y = Vec::new();
    for x in x {
        let a = normalise(&product(&w.w, x), &w.gains[..n], &w.b_w);
        let u = normalise(&product(&w.r, &h), &w.gains[n..2 * n], &w.b_r);
        let m: Vec<f64> = (0..n).map(|j| (a[j] + u[j]).tanh() + w.unit[j] * h[j]).collect();
        let v = normalise(&m, &w.gains[2 * n..], &vec![0.0; n]);
        h = v.into_iter().map(|v| 1.0 / (1.0 + (-v).exp())).collect();
        y.push(h.clone());
    }
    y
}

const BATCH: usize = 3;
const LENGTHS: [usize; BATCH] = [4, 5, 2];

fn case() -> Case {
    let direction = Direction::Bidirectional;
    let sizes = RnnConfig { input_size: 6, hidden_size: 13, ..Default::default() };
    Case::new(RnnConfig { cell: &LAYER_NORM_RNN, direction, ..sizes }, 5, BATCH, 20).with_lengths(&LENGTHS)
}

/// y of every sequence's real steps, row by row with its row's place: `(row, h of one direction)`.
fn naive_outputs(case: &Case, weights: &Weights<f64>) -> Vec<(usize, usize, Vec<f64>)> {
    let (inputs, hidden) = (case.config.input_size, case.config.hidden_size);
    let mut list = Vec::new();
    for (b, &length) in LENGTHS.iter().enumerate() {
        for d in 0..2 {
            let mut rows: Vec<usize> = (0..length).map(|t| t * BATCH + b).collect();
            if d == 1 {
                rows.reverse();
            }
            let x: Vec<Vec<f64>> = rows.iter().map(|row| cast::<f64>(&case.x[row * inputs..][..inputs])).collect();
            let h0 = cast::<f64>(&case.h0[(d * BATCH + b) * hidden..][..hidden]);
            let y = naive(&weights.layers[d], &x, &h0);
            list.extend(rows.into_iter().zip(y).map(|(row, h)| (row, d, h)));
        }
    }
    list
}

#[test]
fn a_cell_from_outside_runs_through_the_same_kernels() {
    let case = case();
    let hidden = case.config.hidden_size;
    let want = naive_outputs(&case, &case.weights.cast());
    for (device, strategy) in executors() {
        let mut session = case.session(&device, strategy, None);
        let per_step = session.plan().steps.iter().find_map(|s| match s {
            Step::EachStep(_, body) => Some(body.len()),
            _ => None,
        });
        // Stages + reductions.
        assert!(per_step.is_none_or(|n| n == 4), "{per_step:?}");
        session.poison().unwrap();
        let out = case.run_in(&mut session);
        for (row, d, want) in &want {
            let got = &out.y.data[row * 2 * hidden + d * hidden..][..hidden];
            for (g, w) in got.iter().zip(want) {
                // 18 f32 roundings of values of order 1: enough for honest arithmetic, far below any wiring error.
                let error = (f64::from(*g) - w).abs();
                assert!(error < 18.0 * f64::from(f32::EPSILON), "{} {strategy} row {row}: {error}", device.kind());
            }
        }
    }
}

/// Every parameter's gradient, of one direction's first and last value, against differences of the naive loop, whose own error is
/// the distance of two of them.
#[test]
fn its_gradients_are_differences_of_the_naive_loop() {
    let mut case = case();
    case.dhn.fill(0.0);
    let hidden = case.config.hidden_size;
    let loss = |weights: &Weights<f64>| {
        let rows = naive_outputs(&case, weights).into_iter();
        rows.flat_map(|(row, d, h)| {
            let dy = cast::<f64>(&case.dy[row * 2 * hidden + d * hidden..][..hidden]);
            h.into_iter().zip(dy).map(|(h, dy)| h * dy)
        })
        .sum::<f64>()
    };
    let truth = case.true_gradients().weights;
    for (p, values) in truth.named(&case.config) {
        for at in [0, values.len() - 1] {
            let central = |step: f64| {
                let shifted = |by: f64| {
                    let mut weights = case.weights.cast::<f64>();
                    weights.get_mut(p.place)[at] += by;
                    loss(&weights)
                };
                (shifted(step) - shifted(-step)) / (2.0 * step)
            };
            let (near, far) = (central(6e-6), central(1.2e-5));
            let bound = (near - far).abs() + 1e-8;
            assert!((values[at] - near).abs() < bound, "{}[{at}] is {}, not {near}", p.name, values[at]);
        }
    }
    for (device, strategy) in executors() {
        let (_, got) = case.train(&device, strategy);
        for ((p, got), (_, truth)) in got.weights.named(&case.config).zip(truth.named(&case.config)) {
            let scale = truth.iter().fold(1.0f64, |m, v| m.max(v.abs()));
            for (g, t) in got.iter().zip(truth) {
                let error = (f64::from(*g) - t).abs();
                assert!(error < 1e-4 * scale, "{} {strategy} {}: {g} for {t}", device.kind(), p.name);
            }
        }
    }
}

/// Each part that is normalised needs a place of its own: a gate that sees both has one.
#[test]
fn a_normalising_stage_with_a_gate_that_sees_both_is_refused() {
    let stages: &'static [Stage] = Box::leak(Box::new([Stage { normalise: true, ..cells::LSTM.stages[0] }]));
    let cell: &'static Cell = Box::leak(Box::new(Cell { name: "lstm-normalised", stages, ..cells::LSTM }));
    let config = RnnConfig { cell, input_size: 6, hidden_size: 13, ..Default::default() };
    assert_eq!(
        config.validate().unwrap_err().to_string(),
        "gates of the normalising stage 0 of lstm-normalised: expected gates that see x only or the operand only, got 4 that see both"
    );
}

/// A cell from outside may be anything: what the executors have no room for is refused, by planning too, and never a panic.
#[test]
fn cells_beyond_the_limits_are_refused() {
    const GATE: Gate = Gate::both("g");
    let leak = |gates: Vec<Gate>| -> &'static [Stage] {
        let gates: &'static [Gate] = Box::leak(gates.into());
        Box::leak(Box::new([Stage { gates, ..cells::LSTM.stages[0] }]))
    };
    let names = |n: usize| -> &'static [&'static str] { Box::leak(vec!["p"; n].into()) };
    let states: &'static [State] = Box::leak(vec![cells::LSTM.states[0]; 9].into());
    let (gates, inputs) = (leak(vec![GATE; 5]), leak(vec![Gate::input("g"); 9]));
    let identity: &'static [Stage] =
        Box::leak(Box::new([Stage { product: Product::Identity, ..cells::LSTM.stages[0] }]));
    for (cell, expected) in [
        (Cell { stages: &[], ..cells::LSTM }, "stages of mine: expected at least one, got 0"),
        (Cell { stages: gates, ..cells::LSTM }, "recurrent gates of stage 0 of mine: expected at most 4, got 5"),
        (Cell { stages: inputs, ..cells::LSTM }, "gates of stage 0 of mine: expected at most 8, got 9"),
        (Cell { states, ..cells::LSTM }, "states of mine: expected at most 8, got 9"),
        (Cell { params: names(9), ..cells::LSTM }, "unit parameters of mine: expected at most 8, got 9"),
        (
            Cell { params: names(1), ..cells::LSTM },
            "gates, states and parameters of the pointwise part of stage 0 of mine: expected i f g o c p, got i f g o c",
        ),
        (
            Cell { stages: identity, ..cells::LSTM },
            "recurrent gates of stage 0 of mine, which has no matrix: expected 1, got 4",
        ),
    ] {
        let cell: &'static Cell = Box::leak(Box::new(Cell { name: "mine", ..cell }));
        let config = RnnConfig { cell, input_size: 6, hidden_size: 13, ..Default::default() };
        let plan = Plan::new(&config, Shape { time: 2, batch: 2 }, &Device::cpu().caps(), &Options::default());
        assert_eq!(plan.expect_err("too large").to_string(), expected);
    }
}
