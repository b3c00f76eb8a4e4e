//! sLSTM, the scalar cell of xLSTM: exponential gates with a normaliser and a stabiliser. Gates i, f, g, o, in the LSTM's order
//! (g is the paper's z).
//!
//! ```text
//! log i = a_i(W_i x + R_i h + b_i)         a_i(v) = v              i = exp of what the gate sees
//! log f = −a_f(−(W_f x + R_f h + b_f))     a_f = softplus          f = σ of what the gate sees, log f = log σ
//! g = tanh(W_g x + R_g h + b_g)            o = σ(W_o x + R_o h + b_o)
//! m' = max(log f + m, log i)               log i where n = 0
//! c' = exp(log f + m − m')∘c + exp(log i − m')∘g
//! n' = exp(log f + m − m')∘n + exp(log i − m')
//! h' = o∘c'/n'
//! ```
//!
//! Source: Beck et al. 2024, "xLSTM: Extended Long Short-Term Memory" (arXiv:2405.04517), section 2.2 and appendix A.2. The paper
//! leaves f = σ or f = exp open: this is σ; a_f = the identity (`Activation::Affine { alpha: 1.0, beta: 0.0 }` in the second
//! place of [`crate::RnnConfig::activations`]) is exp. Its heads are [`crate::Recurrence::Heads`].
//!
//! c, n and m are one state of three parts, in this order in c0 and cn: (c, n) is what the paper's equations without m give,
//! divided by exp(m), which cancels in h'. So no exponential is above 1 and, from a zero state, |c'| ≤ n' and 1 ≤ n' after every
//! step. Before the first step c = n = 0, and m may be anything (zeros are a state): where n = 0, m' is log i, as if m were −∞
//! (the authors' code has the same rule, for a whole batch at once). With max there, log i below m − 87 would make the first n' 0
//! in f32, and h' 0/0. The first exponential, which then meets c = n = 0, is cut off at exp(80): finite in f32, and still the
//! gradient of c0 and n0. A state that is given should be one that a run left, or zeros.
//!
//! The adjoint is that of the equations as written: the gradient of m' goes to the argument that max took. Where only h is asked
//! for it makes no difference which, for h does not depend on m.

use crate::model::cell::{
    Activation, Adjoint, Cell, Functions, Gate, Initial, Pointwise, Product, Stage, StageFn, State,
};
use crate::num::Lanes;

/// The largest exponent; only the weight of a zero state (n = 0) comes near it.
const MOST: f64 = 80.0;

struct Slstm;

/// Of one step: the stabiliser m', the weights of the old (c, n) and of the new.
struct Stabilised<V> {
    m: V,
    /// exp(log f + m − m')
    before: V,
    /// exp(log i − m')
    here: V,
    /// 1 where m' is log f + m, 0 where it is log i.
    keeps: V,
}

impl<V: Lanes> Stabilised<V> {
    #[inline(always)]
    fn of(act: &Functions, pre: &[V], state: &[V]) -> Self {
        let (zero, one) = (pre[0].like(0.0), pre[0].like(1.0));
        let input = act[0].apply(pre[0]);
        let kept = state[2] - act[1].apply(zero - pre[1]);
        let keeps = kept.pick(input, state[1].abs().positive(), zero);
        // NaN in either is NaN in all.
        let m = kept.nan_or(keeps.pick(one, kept, input));
        let before = (kept - m).min(pre[0].like(MOST)).exp();
        Self { m, before, here: (input - m).exp(), keeps }
    }
}

impl Pointwise for Slstm {
    const GATES: &'static [Gate] = &super::lstm::GATES;
    const STATES: &'static [State] = &[
        State { name: "c", initial: Initial::Cell },
        State { name: "n", initial: Initial::Cell },
        State { name: "m", initial: Initial::Cell },
    ];

    #[inline(always)]
    fn forward<V: Lanes>(act: &Functions, pre: &[V], state: &mut [V], _unit: &[V]) -> V {
        let Stabilised { m, before, here, .. } = Stabilised::of(act, pre, state);
        state[0] = before.mul_add(state[0], here * act[2].apply(pre[2]));
        state[1] = before.mul_add(state[1], here);
        state[2] = m;
        act[3].apply(pre[3]) * state[0].div(state[1])
    }

    #[inline(always)]
    fn backward<V: Lanes>(act: &Functions, pre: &[V], state: &[V], _unit: &[V], d: &mut Adjoint<V>) {
        let (zero, one) = (pre[0].like(0.0), pre[0].like(1.0));
        let Stabilised { before, here, keeps, .. } = Stabilised::of(act, pre, state);
        let g = act[2].apply(pre[2]);
        let n = before.mul_add(state[1], here);
        let share = before.mul_add(state[0], here * g).div(n);
        let d_share = (d.out * act[3].apply(pre[3])).div(n);
        let d_c = d.state[0] + d_share;
        let d_n = d.state[1] - d_share * share;
        // Of the two exponents; m' is one of them, whose exponential is 1, and takes from both.
        let d_before = before * d_c.mul_add(state[0], d_n * state[1]);
        let d_here = here * d_c.mul_add(g, d_n);
        let d_kept = keeps.pick(one, d.state[2] - d_here, d_before);
        let d_input = keeps.pick(one, d_here, d.state[2] - d_before);
        d.pre[0] = d_input * act[0].slope(pre[0]);
        d.pre[1] = d_kept * act[1].slope(zero - pre[1]);
        d.pre[2] = d_c * here * act[2].slope(pre[2]);
        d.pre[3] = d.out * share * act[3].slope(pre[3]);
        d.state[0] = d_c * before;
        d.state[1] = d_n * before;
        d.state[2] = d_kept;
    }
}

/// The scalar LSTM of xLSTM.
pub static SLSTM: Cell = Cell {
    name: "slstm",
    stages: &[Stage {
        gates: Slstm::GATES,
        product: Product::Dense,
        normalise: false,
        pointwise: StageFn::of::<Slstm>(),
    }],
    states: Slstm::STATES,
    params: &[],
    activations: &[
        ("i", Activation::Affine { alpha: 1.0, beta: 0.0 }),
        ("f", Activation::Softplus),
        ("g", Activation::Tanh),
        ("o", Activation::Sigmoid),
    ],
    options: &[],
    wgsl: include_str!("../../../shaders/cells/slstm.wgsl"),
};
