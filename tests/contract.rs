//! The contract carries cells it was not written for: a layer-normalised LSTM (a row statistic over all gates and units of
//! R·h, and another over c, before the pointwise part), defined here from outside the crate, on both executors and both
//! strategies, against a naive f64 loop written from the equations. Peepholes, projection and the two-stage GRU are in the
//! registry and covered by its tests.

mod harness;

use harness::*;
use wgpu_rnn::cell::{Adjoint, Functions, Gate, Initial, Pointwise, Product, Stage, StageFn, State};
use wgpu_rnn::cpu::Lanes;
use wgpu_rnn::*;

// i, f, g, o = W x + b + γ_g ∘ LN(R h)      LN over all 4·H values
// c' = σ(f)∘c + σ(i)∘tanh(g)
// h' = σ(o) ∘ tanh(γ_c ∘ LN(c'))            LN over H values
// (the layer-normalised LSTM of Ba et al. 2016 as Haste has it, with LN left off W x)

struct Gates;

impl Pointwise for Gates {
    const RECURRENT: usize = 4;
    fn forward<V: Lanes>(act: &Functions, pre: &[V], state: &mut [V], _unit: &[V]) -> V {
        let input = act[0].apply(pre[0]) * act[1].apply(pre[2]);
        state[0] = act[0].apply(pre[1]).mul_add(state[0], input);
        state[1] = act[0].apply(pre[3]);
        state[0]
    }
    fn backward<V: Lanes>(act: &Functions, pre: &[V], state: &[V], _unit: &[V], d: &mut Adjoint<V>) {
        let [i, f, o] = [0, 1, 3].map(|n| act[0].apply(pre[n]));
        let g = act[1].apply(pre[2]);
        let d_c = d.out + d.state[0];
        d.pre[0] = d_c * g * act[0].slope(pre[0]);
        d.pre[1] = d_c * state[0] * act[0].slope(pre[1]);
        d.pre[2] = d_c * i * act[1].slope(pre[2]);
        d.pre[3] = d.state[1] * act[0].slope(pre[3]);
        d.state[0] = d_c * f;
        d.state[1] = o.like(0.0);
    }
}

struct Out;

impl Pointwise for Out {
    const RECURRENT: usize = 1;
    fn forward<V: Lanes>(act: &Functions, pre: &[V], state: &mut [V], _unit: &[V]) -> V {
        state[1] * act[1].apply(pre[0])
    }
    fn backward<V: Lanes>(act: &Functions, pre: &[V], state: &[V], _unit: &[V], d: &mut Adjoint<V>) {
        let t = act[1].apply(pre[0]);
        d.pre[0] = d.out * state[1] * act[1].slope(pre[0]);
        d.state[1] = d.state[1] + d.out * t;
    }
}

static LAYER_NORM_LSTM: Cell = Cell {
    name: "lstm-layer-norm",
    stages: &[
        Stage {
            gates: &[Gate::both("i"), Gate::both("f"), Gate::both("g"), Gate::both("o")],
            product: Product::Dense,
            normalise: true,
            pointwise: StageFn::of::<Gates>(),
        },
        Stage {
            gates: &[Gate::recurrent("c")],
            product: Product::Identity,
            normalise: true,
            pointwise: StageFn::of::<Out>(),
        },
    ],
    states: &[State { name: "c", initial: Initial::Cell }, State { name: "o", initial: Initial::Scratch }],
    params: &[],
    activations: &[("f", Activation::Sigmoid), ("g", Activation::Tanh)],
    options: &[],
    wgsl: "
fn forward_0(pre: array<real, PRE_0>, state: array<real, STATES>, unit: array<real, UNIT_0>) -> Forward {
    let c = fma(act_0(pre[1]), state[0], act_0(pre[0]) * act_1(pre[2]));
    return Forward(array<real, STATES>(c, act_0(pre[3])), c);
}

fn forward_1(pre: array<real, PRE_1>, state: array<real, STATES>, unit: array<real, UNIT_1>) -> Forward {
    return Forward(state, state[1] * act_1(pre[0]));
}
",
};

fn normalise(v: &mut [f64], gain: &[f32]) {
    let n = v.len() as f64;
    let mean = v.iter().sum::<f64>() / n;
    let variance = v.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n;
    for (x, g) in v.iter_mut().zip(gain) {
        *x = (*x - mean) / (variance + 1e-5).sqrt() * f64::from(*g);
    }
}

/// One layer, one direction, one sequence: h of every step.
fn naive(case: &Case, entry: usize, x: &[Vec<f64>], h0: &[f32], c0: &[f32]) -> Vec<Vec<f64>> {
    let w = &case.weights.layers[entry];
    let n = case.config.hidden_size;
    let dot = |row: &[f32], v: &[f64]| row.iter().zip(v).map(|(a, b)| f64::from(*a) * b).sum::<f64>();
    let sigmoid = |v: f64| 1.0 / (1.0 + (-v).exp());
    let mut h: Vec<f64> = h0.iter().map(|&v| v.into()).collect();
    let mut c: Vec<f64> = c0.iter().map(|&v| v.into()).collect();
    let mut y = Vec::new();
    for x in x {
        let mut rec: Vec<f64> = (0..4 * n).map(|r| dot(&w.r[r * n..][..n], &h)).collect();
        normalise(&mut rec, &w.gains[..4 * n]);
        let pre: Vec<f64> = (0..4 * n)
            .map(|r| dot(&w.w[r * x.len()..][..x.len()], x) + f64::from(w.b_w[r]) + f64::from(w.b_r[r]) + rec[r])
            .collect();
        for j in 0..n {
            c[j] = sigmoid(pre[n + j]) * c[j] + sigmoid(pre[j]) * pre[2 * n + j].tanh();
        }
        let mut norm = c.clone();
        normalise(&mut norm, &w.gains[4 * n..]);
        h = (0..n).map(|j| sigmoid(pre[3 * n + j]) * norm[j].tanh()).collect();
        y.push(h.clone());
    }
    y
}

#[test]
fn layer_normalised_lstm_runs_through_the_same_kernels() {
    let (time, batch, hidden, input) = (5, 3, 13, 6);
    let direction = Direction::Bidirectional;
    let config =
        RnnConfig { cell: &LAYER_NORM_LSTM, input_size: input, hidden_size: hidden, direction, ..Default::default() };
    let mut case = Case::new(config, time, batch, 20).with_lengths(&[4, 5, 2]);
    for (n, layer) in case.weights.layers.iter_mut().enumerate() {
        layer.gains = values(30 + n as u64, 5 * hidden, 1.5);
    }
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
        for b in 0..batch {
            let length = case.lengths.as_ref().unwrap()[b];
            for d in 0..2 {
                let mut x: Vec<Vec<f64>> = (0..length)
                    .map(|t| case.x[(t * batch + b) * input..][..input].iter().map(|&v| v.into()).collect())
                    .collect();
                if d == 1 {
                    x.reverse();
                }
                let state = |v: &'_ [f32]| v[(d * batch + b) * hidden..][..hidden].to_vec();
                let mut want = naive(&case, d, &x, &state(&case.h0), &state(&case.c0));
                if d == 1 {
                    want.reverse();
                }
                for (t, want) in want.iter().enumerate() {
                    let got = &out.y.data[(t * batch + b) * 2 * hidden + d * hidden..][..hidden];
                    for (g, w) in got.iter().zip(want) {
                        // 18 f32 roundings of values of order 1: enough for honest arithmetic, far below any wiring error.
                        let error = (f64::from(*g) - w).abs();
                        assert!(
                            error < 18.0 * f64::from(f32::EPSILON),
                            "{} {strategy} b {b} t {t}: {error}",
                            device.kind()
                        );
                    }
                }
            }
        }
    }
}

/// The adjoint of a row statistic does not exist yet: a plan that trains says so, it does not leave the statistic out.
#[test]
fn training_through_a_normalising_stage_is_refused() {
    let config = RnnConfig { cell: &LAYER_NORM_LSTM, input_size: 6, hidden_size: 13, ..Default::default() };
    let shape = Shape { time: 5, batch: 3 };
    for (device, strategy) in executors() {
        let options = Options { strategy: Some(strategy), train: true, ..Default::default() };
        match Plan::new(&config, shape, &device.caps(), &options) {
            Err(e @ Error::Unsupported { .. }) => assert_eq!(
                e.to_string(),
                "not supported: training lstm-layer-norm: stage 0 normalises, and its adjoint is not built yet"
            ),
            other => panic!("expected Error::Unsupported, got {:?}", other.err()),
        }
        // Inference stays as it was.
        Plan::new(&config, shape, &device.caps(), &Options { train: false, ..options }).expect("an inference plan");
    }
}
