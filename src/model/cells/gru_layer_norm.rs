//! GRU with layer normalisation, the reset gate after the recurrent product, gates in PyTorch's order r, z, n.
//!
//! ```text
//! LN(p) = (p − mean(p)) / √(var(p) + 1e-5)               over all 3·H values of W x, of R h
//! a = γ_w∘LN(W x) + b_w    u = γ_r∘LN(R h) + b_r         γ per gate and unit
//! r = σ(a_r + u_r)   z = σ(a_z + u_z)   n = tanh(a_n + r∘u_n)
//! h' = (1 − z)∘n + z∘h
//! ```
//!
//! Gains in canonical order ([`crate::weights::LayerWeights::gains`], `[6, H]`): γ_w of r, z, n; γ_r of r, z, n. Each part of a gate
//! has its own place to be normalised in, so the stage has six gates: three see x, three see h.
//!
//! Source: Ba, Kiros & Hinton 2016, "Layer Normalization" (arXiv:1607.06450), in the form of Haste's `LayerNormGRU` (there z, r, h,
//! and γ_w and γ_r as `gamma [2, 3·H]`): the same gains, biases and ε. PyTorch, cuDNN and ONNX have no such cell.

use crate::model::cell::{
    Activation, Adjoint, Cell, Functions, Gate, Initial, Pointwise, Product, Stage, StageFn, State,
};
use crate::num::Lanes;

struct Gru;

impl Pointwise for Gru {
    const GATES: &'static [Gate] = &GATES;
    const STATES: &'static [State] = &[State { name: "h", initial: Initial::Hidden }];

    #[inline(always)]
    fn forward<V: Lanes>(act: &Functions, pre: &[V], state: &mut [V], _unit: &[V]) -> V {
        let r = act[0].apply(pre[0] + pre[3]);
        let z = act[0].apply(pre[1] + pre[4]);
        let n = act[1].apply(r.mul_add(pre[5], pre[2]));
        state[0] = z.mul_add(state[0] - n, n);
        state[0]
    }

    #[inline(always)]
    fn backward<V: Lanes>(act: &Functions, pre: &[V], state: &[V], _unit: &[V], d: &mut Adjoint<V>) {
        let (v_r, v_z) = (pre[0] + pre[3], pre[1] + pre[4]);
        let (r, z) = (act[0].apply(v_r), act[0].apply(v_z));
        let v_n = r.mul_add(pre[5], pre[2]);
        let n = act[1].apply(v_n);
        let d_h = d.out + d.state[0];
        d.pre[2] = (d_h - d_h * z) * act[1].slope(v_n);
        d.pre[5] = d.pre[2] * r;
        d.pre[0] = d.pre[2] * pre[5] * act[0].slope(v_r);
        d.pre[1] = d_h * (state[0] - n) * act[0].slope(v_z);
        (d.pre[3], d.pre[4]) = (d.pre[0], d.pre[1]);
        d.state[0] = d_h * z;
    }
}

const GATES: [Gate; 6] = [
    Gate::input("r"),
    Gate::input("z"),
    Gate::input("n"),
    Gate::recurrent("hr"),
    Gate::recurrent("hz"),
    Gate::recurrent("hn"),
];

/// Gated recurrent unit with layer normalisation, reset after.
pub static GRU_LAYER_NORM: Cell = Cell {
    name: "gru-layer-norm",
    stages: &[Stage { gates: Gru::GATES, product: Product::Dense, normalise: true, pointwise: StageFn::of::<Gru>() }],
    states: Gru::STATES,
    params: &[],
    activations: &[("f", Activation::Sigmoid), ("g", Activation::Tanh)],
    options: &[],
    wgsl: include_str!("../../../shaders/cells/gru_layer_norm.wgsl"),
};
