//! GRU with the reset gate applied *before* the recurrent product, gates in PyTorch's order r, z, n.
//!
//! ```text
//! stage 0:  r = σ(W_r x + R_r h + b_r)   z = σ(W_z x + R_z h + b_z)   out = r∘h
//! stage 1:  n = g(W_n x + R_n (r∘h) + b_n)   h' = (1 − z)∘n + z∘h
//! ```
//!
//! The ONNX *default* (`linear_before_reset = 0`, there z, r, h), Keras `reset_after=False`, RNNoise (g = relu). With two
//! biases b = b_w + b_r. cuDNN and PyTorch have none. Source: Cho et al. 2014 (arXiv:1406.1078v3).

use crate::model::cell::{
    Activation, Adjoint, Cell, Functions, Gate, Initial, Pointwise, Product, Stage, StageFn, State,
};
use crate::num::Lanes;

/// h, and z on its way to the second stage.
const STATES: [State; 2] =
    [State { name: "h", initial: Initial::Hidden }, State { name: "z", initial: Initial::Scratch }];

struct Gates;

impl Pointwise for Gates {
    const GATES: &'static [Gate] = &[Gate::both("r"), Gate::both("z")];
    const STATES: &'static [State] = &STATES;

    #[inline(always)]
    fn forward<V: Lanes>(act: &Functions, pre: &[V], state: &mut [V], _unit: &[V]) -> V {
        let r = act[0].apply(pre[0]);
        state[1] = act[0].apply(pre[1]);
        r * state[0]
    }

    #[inline(always)]
    fn backward<V: Lanes>(act: &Functions, pre: &[V], state: &[V], _unit: &[V], d: &mut Adjoint<V>) {
        let (r, z) = (act[0].apply(pre[0]), act[0].apply(pre[1]));
        d.pre[0] = d.out * state[0] * act[0].slope(pre[0]);
        d.pre[1] = d.state[1] * act[0].slope(pre[1]);
        d.state[0] = d.out.mul_add(r, d.state[0]);
        d.state[1] = z.like(0.0);
    }
}

struct Candidate;

impl Pointwise for Candidate {
    const GATES: &'static [Gate] = &[Gate::both("n")];
    const STATES: &'static [State] = &STATES;

    #[inline(always)]
    fn forward<V: Lanes>(act: &Functions, pre: &[V], state: &mut [V], _unit: &[V]) -> V {
        let n = act[1].apply(pre[0]);
        state[0] = state[1].mul_add(state[0] - n, n);
        state[0]
    }

    #[inline(always)]
    fn backward<V: Lanes>(act: &Functions, pre: &[V], state: &[V], _unit: &[V], d: &mut Adjoint<V>) {
        let n = act[1].apply(pre[0]);
        let d_h = d.out + d.state[0];
        d.pre[0] = (d_h - d_h * state[1]) * act[1].slope(pre[0]);
        d.state[0] = d_h * state[1];
        d.state[1] = d_h.mul_add(state[0] - n, d.state[1]);
    }
}

/// Gated recurrent unit, reset before.
pub static GRU_RESET_BEFORE: Cell = Cell {
    name: "gru-reset-before",
    stages: &[
        Stage { gates: Gates::GATES, product: Product::Dense, normalise: false, pointwise: StageFn::of::<Gates>() },
        Stage {
            gates: Candidate::GATES,
            product: Product::Dense,
            normalise: false,
            pointwise: StageFn::of::<Candidate>(),
        },
    ],
    states: &STATES,
    params: &[],
    activations: &[("f", Activation::Sigmoid), ("g", Activation::Tanh)],
    options: &[],
    wgsl: include_str!("../../../shaders/cells/gru_reset_before.wgsl"),
};
