//! LSTM with layer normalisation, gates in PyTorch's order i, f, g, o.
//!
//! ```text
//! LN(p) = (p − mean(p)) / √(var(p) + 1e-5)               over all 4·H values of W x, of R h; over the H values of c'
//! v = γ_w∘LN(W x) + b_w + γ_r∘LN(R h) + b_r              γ per gate and unit
//! i = σ(v_i)   f = σ(v_f)   g = tanh(v_g)   o = σ(v_o)
//! c' = f∘c + i∘g
//! h' = o∘tanh(γ_c∘LN(c') + β_c)
//! ```
//!
//! Gains in canonical order ([`crate::weights::LayerWeights::gains`], `[9, H]`): γ_w of i, f, g, o; γ_r of i, f, g, o; γ_c. β_c is
//! the cell's per-unit parameter ([`crate::weights::LayerWeights::unit`], `[1, H]`). Each part of a gate has its own place to be
//! normalised in, so the first stage has eight gates: four see x, four see h. The second has no matrix: it normalises c'.
//!
//! Source: Ba, Kiros & Hinton 2016, "Layer Normalization" (arXiv:1607.06450), equations 20 to 22; which parts have a gain and which
//! a bias, and ε, as in Haste's `LayerNormLSTM` (its kernels and biases in the order i, g, f, o; one bias of the two; γ_w and γ_r as
//! `gamma [2, 4·H]`, γ_c and β_c as `gamma_h` and `beta_h`). PyTorch, cuDNN and ONNX have no such cell. With
//! [`crate::RnnConfig::cell_clip`] c' is clamped before anything sees it, with [`crate::RnnConfig::input_forget`] f = 1 − i (the rows of f still count in the statistics). With
//! `proj_size` a projection stage follows.

use super::lstm::{ACTIVATIONS, OPTIONS};
use crate::model::cell::{Adjoint, Cell, Functions, Gate, Initial, Pointwise, Product, Stage, StageFn, State};
use crate::num::Lanes;

/// c, and o on its way to the second stage.
const STATES: [State; 2] =
    [State { name: "c", initial: Initial::Cell }, State { name: "o", initial: Initial::Scratch }];

/// The bias of the normalised c'.
const PARAMS: [&str; 1] = ["beta_c"];

/// From the eight parts of the gates: c' to the next stage, o by way of a state.
struct Gates;

/// i + f + g + o as the sums of their two parts.
#[inline(always)]
fn sums<V: Lanes>(pre: &[V]) -> [V; 4] {
    [pre[0] + pre[4], pre[1] + pre[5], pre[2] + pre[6], pre[3] + pre[7]]
}

impl Pointwise for Gates {
    const GATES: &'static [Gate] = &GATES;
    const STATES: &'static [State] = &STATES;
    const PARAMS: &'static [&'static str] = &PARAMS;

    #[inline(always)]
    fn forward<V: Lanes>(act: &Functions, pre: &[V], state: &mut [V], _unit: &[V]) -> V {
        let v = sums(pre);
        let i = act[0].apply(v[0]);
        let f = if act.input_forget { i.like(1.0) - i } else { act[0].apply(v[1]) };
        state[0] = act.clip_cell(f.mul_add(state[0], i * act[1].apply(v[2])));
        state[1] = act[0].apply(v[3]);
        state[0]
    }

    #[inline(always)]
    fn backward<V: Lanes>(act: &Functions, pre: &[V], state: &[V], _unit: &[V], d: &mut Adjoint<V>) {
        let v = sums(pre);
        let i = act[0].apply(v[0]);
        let f = if act.input_forget { i.like(1.0) - i } else { act[0].apply(v[1]) };
        let g = act[1].apply(v[2]);
        let unclipped = f.mul_add(state[0], i * g);
        let d_c = act.clip_cell_back(unclipped, d.out + d.state[0]);
        if act.input_forget {
            d.pre[0] = d_c * (g - state[0]) * act[0].slope(v[0]);
            d.pre[1] = i.like(0.0);
        } else {
            d.pre[0] = d_c * g * act[0].slope(v[0]);
            d.pre[1] = d_c * state[0] * act[0].slope(v[1]);
        }
        d.pre[2] = d_c * i * act[1].slope(v[2]);
        d.pre[3] = d.state[1] * act[0].slope(v[3]);
        for n in 0..4 {
            d.pre[n + 4] = d.pre[n];
        }
        d.state[0] = d_c * f;
        d.state[1] = i.like(0.0);
    }
}

/// h' from the normalised c' and o.
struct Out;

impl Pointwise for Out {
    const GATES: &'static [Gate] = &[Gate::recurrent("c")];
    const STATES: &'static [State] = &STATES;
    const PARAMS: &'static [&'static str] = &PARAMS;

    #[inline(always)]
    fn forward<V: Lanes>(act: &Functions, pre: &[V], state: &mut [V], unit: &[V]) -> V {
        state[1] * act[2].apply(pre[0] + unit[0])
    }

    #[inline(always)]
    fn backward<V: Lanes>(act: &Functions, pre: &[V], state: &[V], unit: &[V], d: &mut Adjoint<V>) {
        let v = pre[0] + unit[0];
        d.pre[0] = d.out * state[1] * act[2].slope(v);
        d.unit[0] = d.pre[0];
        d.state[1] = d.out.mul_add(act[2].apply(v), d.state[1]);
    }
}

const GATES: [Gate; 8] = [
    Gate::input("i"),
    Gate::input("f"),
    Gate::input("g"),
    Gate::input("o"),
    Gate::recurrent("hi"),
    Gate::recurrent("hf"),
    Gate::recurrent("hg"),
    Gate::recurrent("ho"),
];

/// Long short-term memory with layer normalisation.
pub static LSTM_LAYER_NORM: Cell = Cell {
    name: "lstm-layer-norm",
    stages: &[
        Stage { gates: Gates::GATES, product: Product::Dense, normalise: true, pointwise: StageFn::of::<Gates>() },
        Stage { gates: Out::GATES, product: Product::Identity, normalise: true, pointwise: StageFn::of::<Out>() },
    ],
    states: &STATES,
    params: &PARAMS,
    activations: &ACTIVATIONS,
    options: &OPTIONS,
    wgsl: include_str!("../../../shaders/cells/lstm_layer_norm.wgsl"),
};
