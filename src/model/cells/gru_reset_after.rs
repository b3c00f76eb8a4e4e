//! GRU with the reset gate applied *after* the recurrent product, gates in PyTorch's order r, z, n.
//!
//! ```text
//! r = σ(W_r x + b_wr + R_r h + b_rr)   z = σ(W_z x + b_wz + R_z h + b_rz)
//! n = tanh(W_n x + b_wn + r∘(R_n h + b_rn))
//! h' = (1 − z)∘n + z∘h
//! ```
//!
//! PyTorch `nn.GRU`; cuDNN `CUDNN_GRU`; ONNX `GRU` with `linear_before_reset = 1` (there z, r, h); Keras `reset_after=True`.
//! Here n is two gates, `n` (sees x) and `hn` (sees h): R's third row block and b_r's third part belong to `hn`.
//! Source: Cho et al. 2014, in the form of the cuDNN documentation.

use crate::model::cell::{
    Activation, Adjoint, Cell, Functions, Gate, Initial, Pointwise, Product, Stage, StageFn, State,
};
use crate::num::Lanes;

struct Gru;

impl Pointwise for Gru {
    const GATES: &'static [Gate] = &[Gate::both("r"), Gate::both("z"), Gate::input("n"), Gate::recurrent("hn")];
    const STATES: &'static [State] = &[State { name: "h", initial: Initial::Hidden }];

    #[inline(always)]
    fn forward<V: Lanes>(act: &Functions, pre: &[V], state: &mut [V], _unit: &[V]) -> V {
        let r = act[0].apply(pre[0]);
        let z = act[0].apply(pre[1]);
        let n = act[1].apply(r.mul_add(pre[3], pre[2]));
        // n + z∘(h − n): one rounding less than (1 − z)∘n + z∘h, the same value.
        state[0] = z.mul_add(state[0] - n, n);
        state[0]
    }

    #[inline(always)]
    fn backward<V: Lanes>(act: &Functions, pre: &[V], state: &[V], _unit: &[V], d: &mut Adjoint<V>) {
        let (r, z) = (act[0].apply(pre[0]), act[0].apply(pre[1]));
        let a_n = r.mul_add(pre[3], pre[2]);
        let n = act[1].apply(a_n);
        let d_h = d.out + d.state[0];
        d.pre[2] = (d_h - d_h * z) * act[1].slope(a_n);
        d.pre[3] = d.pre[2] * r;
        d.pre[0] = d.pre[2] * pre[3] * act[0].slope(pre[0]);
        d.pre[1] = d_h * (state[0] - n) * act[0].slope(pre[1]);
        d.state[0] = d_h * z;
    }
}

/// Gated recurrent unit, reset after.
pub static GRU: Cell = Cell {
    name: "gru",
    stages: &[Stage { gates: Gru::GATES, product: Product::Dense, normalise: false, pointwise: StageFn::of::<Gru>() }],
    states: Gru::STATES,
    params: &[],
    activations: &[("f", Activation::Sigmoid), ("g", Activation::Tanh)],
    options: &[],
    wgsl: include_str!("../../../shaders/cells/gru_reset_after.wgsl"),
};
