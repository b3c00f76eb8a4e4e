//! LSTM, gates in PyTorch's order i, f, g, o.
//!
//! ```text
//! i = σ(W_i x + R_i h + b_i)    f = σ(W_f x + R_f h + b_f)
//! g = tanh(W_g x + R_g h + b_g) o = σ(W_o x + R_o h + b_o)
//! c' = f∘c + i∘g                h' = o∘tanh(c')
//! ```
//!
//! PyTorch `nn.LSTM`; ONNX `LSTM` (there i, o, f, c); cuDNN `CUDNN_LSTM`. Source: Hochreiter & Schmidhuber 1997, forget gate
//! of Gers et al. 2000. With [`crate::RnnConfig::cell_clip`] c' is clamped before anything sees it, with
//! [`crate::RnnConfig::input_forget`] f = 1 − i. With `proj_size` ([`crate::RnnConfig`]) a projection stage follows (Sak et al. 2014).

use crate::model::cell::{
    Activation, Adjoint, Cell, CellOption, Functions, Gate, Initial, Pointwise, Product, Stage, StageFn, State,
};
use crate::num::Lanes;

struct Lstm;

impl Pointwise for Lstm {
    const GATES: &'static [Gate] = &GATES;
    const STATES: &'static [State] = &[State { name: "c", initial: Initial::Cell }];

    #[inline(always)]
    fn forward<V: Lanes>(act: &Functions, pre: &[V], state: &mut [V], _unit: &[V]) -> V {
        let i = act[0].apply(pre[0]);
        let f = if act.input_forget { i.like(1.0) - i } else { act[0].apply(pre[1]) };
        let g = act[1].apply(pre[2]);
        let o = act[0].apply(pre[3]);
        state[0] = act.clip_cell(f.mul_add(state[0], i * g));
        o * act[2].apply(state[0])
    }

    #[inline(always)]
    fn backward<V: Lanes>(act: &Functions, pre: &[V], state: &[V], _unit: &[V], d: &mut Adjoint<V>) {
        let (i, o) = (act[0].apply(pre[0]), act[0].apply(pre[3]));
        let f = if act.input_forget { i.like(1.0) - i } else { act[0].apply(pre[1]) };
        let g = act[1].apply(pre[2]);
        let unclipped = f.mul_add(state[0], i * g);
        let c = act.clip_cell(unclipped);
        let t = act[2].apply(c);
        let d_c = act.clip_cell_back(unclipped, (d.out * o).mul_add(act[2].slope(c), d.state[0]));
        if act.input_forget {
            d.pre[0] = d_c * (g - state[0]) * act[0].slope(pre[0]);
            d.pre[1] = i.like(0.0);
        } else {
            d.pre[0] = d_c * g * act[0].slope(pre[0]);
            d.pre[1] = d_c * state[0] * act[0].slope(pre[1]);
        }
        d.pre[2] = d_c * i * act[1].slope(pre[2]);
        d.pre[3] = d.out * t * act[0].slope(pre[3]);
        d.state[0] = d_c * f;
    }
}

/// The gates in canonical order.
pub(super) const GATES: [Gate; 4] = [Gate::both("i"), Gate::both("f"), Gate::both("g"), Gate::both("o")];

/// The activations of ONNX's f, g, h.
pub(super) const ACTIVATIONS: [(&str, Activation); 3] =
    [("f", Activation::Sigmoid), ("g", Activation::Tanh), ("h", Activation::Tanh)];

/// What the equations of LSTMs may differ in.
pub(super) const OPTIONS: [CellOption; 2] = [CellOption::CellClip, CellOption::InputForget];

/// Long short-term memory.
pub static LSTM: Cell = Cell {
    name: "lstm",
    stages: &[Stage {
        gates: Lstm::GATES,
        product: Product::Dense,
        normalise: false,
        pointwise: StageFn::of::<Lstm>(),
    }],
    states: Lstm::STATES,
    params: &[],
    activations: &ACTIVATIONS,
    options: &OPTIONS,
    wgsl: include_str!("../../../shaders/cells/lstm.wgsl"),
};
