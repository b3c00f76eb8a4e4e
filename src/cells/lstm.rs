//! LSTM, gates in PyTorch's order i, f, g, o.
//!
//! ```text
//! i = σ(W_i x + R_i h + b_i)    f = σ(W_f x + R_f h + b_f)
//! g = tanh(W_g x + R_g h + b_g) o = σ(W_o x + R_o h + b_o)
//! c' = f∘c + i∘g                h' = o∘tanh(c')
//! ```
//!
//! PyTorch `nn.LSTM`; ONNX `LSTM` (there i, o, f, c); cuDNN `CUDNN_LSTM`. Source: Hochreiter & Schmidhuber 1997, forget gate
//! of Gers et al. 2000. With `proj_size` ([`crate::RnnConfig`]) a projection stage follows (Sak et al. 2014).

use crate::cell::{Activation, Cell, Gate, Initial, Pointwise, Product, Stage, StageFn, State};
use crate::cpu::Lanes;

struct Lstm;

impl Pointwise for Lstm {
    const RECURRENT: usize = 4;

    #[inline(always)]
    fn forward<V: Lanes>(act: &[Activation], pre: &[V], state: &mut [V], _unit: &[V]) -> V {
        let i = act[0].apply(pre[0]);
        let f = act[0].apply(pre[1]);
        let g = act[1].apply(pre[2]);
        let o = act[0].apply(pre[3]);
        state[0] = f.mul_add(state[0], i * g);
        o * act[2].apply(state[0])
    }
}

/// The gates in canonical order.
pub(super) const GATES: [Gate; 4] = [Gate::both("i"), Gate::both("f"), Gate::both("g"), Gate::both("o")];

/// The activations of ONNX's f, g, h.
pub(super) const ACTIVATIONS: [(&str, Activation); 3] =
    [("f", Activation::Sigmoid), ("g", Activation::Tanh), ("h", Activation::Tanh)];

/// Long short-term memory.
pub static LSTM: Cell = Cell {
    name: "lstm",
    stages: &[Stage { gates: &GATES, product: Product::Dense, normalise: false, forward: StageFn::of::<Lstm>() }],
    states: &[State { name: "c", initial: Initial::Cell }],
    params: &[],
    activations: &ACTIVATIONS,
    wgsl: include_str!("../../shaders/cells/lstm.wgsl"),
};
