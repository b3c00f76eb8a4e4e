//! LSTM with peepholes: the gates also see the unit's own cell state, i and f the old one, o the new one.
//!
//! ```text
//! i = σ(W_i x + R_i h + p_i∘c + b_i)   f = σ(W_f x + R_f h + p_f∘c + b_f)   g = tanh(W_g x + R_g h + b_g)
//! c' = f∘c + i∘g                       o = σ(W_o x + R_o h + p_o∘c' + b_o)  h' = o∘tanh(c')
//! ```
//!
//! ONNX `LSTM` with input `P` (there the order is i, o, f). Source: Gers & Schmidhuber, "Recurrent nets that time and
//! count", 2000. PyTorch and cuDNN have none.

use super::lstm::{ACTIVATIONS, GATES, OPTIONS};
use crate::model::cell::{Adjoint, Cell, Functions, Gate, Initial, Pointwise, Product, Stage, StageFn, State};
use crate::num::Lanes;

struct LstmPeephole;

impl Pointwise for LstmPeephole {
    const GATES: &'static [Gate] = &GATES;
    const STATES: &'static [State] = &[State { name: "c", initial: Initial::Cell }];
    const PARAMS: &'static [&'static str] = &["p_i", "p_f", "p_o"];

    #[inline(always)]
    fn forward<V: Lanes>(act: &Functions, pre: &[V], state: &mut [V], unit: &[V]) -> V {
        let i = act[0].apply(unit[0].mul_add(state[0], pre[0]));
        let f = match act.input_forget {
            true => i.like(1.0) - i,
            false => act[0].apply(unit[1].mul_add(state[0], pre[1])),
        };
        let g = act[1].apply(pre[2]);
        state[0] = act.clip_cell(f.mul_add(state[0], i * g));
        let o = act[0].apply(unit[2].mul_add(state[0], pre[3]));
        o * act[2].apply(state[0])
    }

    #[inline(always)]
    fn backward<V: Lanes>(act: &Functions, pre: &[V], state: &[V], unit: &[V], d: &mut Adjoint<V>) {
        let (a_i, a_f) = (unit[0].mul_add(state[0], pre[0]), unit[1].mul_add(state[0], pre[1]));
        let (i, g) = (act[0].apply(a_i), act[1].apply(pre[2]));
        let f = if act.input_forget { i.like(1.0) - i } else { act[0].apply(a_f) };
        let unclipped = f.mul_add(state[0], i * g);
        let c = act.clip_cell(unclipped);
        let a_o = unit[2].mul_add(c, pre[3]);
        let (o, t) = (act[0].apply(a_o), act[2].apply(c));
        d.pre[3] = d.out * t * act[0].slope(a_o);
        let d_c = (d.out * o).mul_add(act[2].slope(c), d.pre[3].mul_add(unit[2], d.state[0]));
        let d_c = act.clip_cell_back(unclipped, d_c);
        if act.input_forget {
            d.pre[0] = d_c * (g - state[0]) * act[0].slope(a_i);
            d.pre[1] = i.like(0.0);
        } else {
            d.pre[0] = d_c * g * act[0].slope(a_i);
            d.pre[1] = d_c * state[0] * act[0].slope(a_f);
        }
        d.pre[2] = d_c * i * act[1].slope(pre[2]);
        d.state[0] = d.pre[0].mul_add(unit[0], d.pre[1].mul_add(unit[1], d_c * f));
        d.unit[0] = d.pre[0] * state[0];
        d.unit[1] = d.pre[1] * state[0];
        d.unit[2] = d.pre[3] * c;
    }
}

/// LSTM with peephole connections.
pub static LSTM_PEEPHOLE: Cell = Cell {
    name: "lstm-peephole",
    stages: &[Stage {
        gates: LstmPeephole::GATES,
        product: Product::Dense,
        normalise: false,
        pointwise: StageFn::of::<LstmPeephole>(),
    }],
    states: LstmPeephole::STATES,
    params: LstmPeephole::PARAMS,
    activations: &ACTIVATIONS,
    options: &OPTIONS,
    wgsl: include_str!("../../../shaders/cells/lstm_peephole.wgsl"),
};
