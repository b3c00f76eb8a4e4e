//! Vanilla (Elman) RNN: `h' = f(W x + b_w + R h + b_r)`, f = tanh or relu.
//!
//! One gate, one stage, no state beside h. PyTorch `nn.RNN(nonlinearity='tanh' | 'relu')`; ONNX `RNN` with `Tanh` / `Relu`;
//! cuDNN `CUDNN_RNN_TANH` / `CUDNN_RNN_RELU`. Source: J. L. Elman, "Finding structure in time", 1990.

use crate::model::cell::{Activation, Adjoint, Cell, Functions, Gate, Pointwise, Product, Stage, StageFn};
use crate::num::Lanes;

struct Rnn;

impl Pointwise for Rnn {
    const GATES: &'static [Gate] = &[Gate::both("h")];

    #[inline(always)]
    fn forward<V: Lanes>(act: &Functions, pre: &[V], _state: &mut [V], _unit: &[V]) -> V {
        act[0].apply(pre[0])
    }

    #[inline(always)]
    fn backward<V: Lanes>(act: &Functions, pre: &[V], _state: &[V], _unit: &[V], d: &mut Adjoint<V>) {
        d.pre[0] = d.out * act[0].slope(pre[0]);
    }
}

static STAGES: [Stage; 1] =
    [Stage { gates: Rnn::GATES, product: Product::Dense, normalise: false, pointwise: StageFn::of::<Rnn>() }];

/// Vanilla RNN with tanh.
pub static RNN_TANH: Cell = Cell {
    name: "rnn-tanh",
    stages: &STAGES,
    states: &[],
    params: &[],
    activations: &[("f", Activation::Tanh)],
    options: &[],
    wgsl: include_str!("../../../shaders/cells/rnn.wgsl"),
};

/// Vanilla RNN with relu.
pub static RNN_RELU: Cell = Cell { name: "rnn-relu", activations: &[("f", Activation::Relu)], ..RNN_TANH };
