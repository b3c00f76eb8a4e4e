//! The pointwise part of a stage again, from the pre-activations that training keeps: forward over the states only
//! ([`advance`]), and its adjoint ([`backward`]).

use super::lanes::Lanes;
use super::recur::{Packed, gain, scaled};
use crate::cell::{Adjoint, Functions, MAX_VALUES, Pointwise};
use crate::config::StageShape;
use crate::real::Real;
use pulp::{Simd, WithSimd};

/// One stage of one time step for `rows` sequences of one direction.
pub struct Retrace<'a, T: Real> {
    pub(crate) shape: StageShape,
    pub(crate) act: &'a Functions,
    pub(crate) packed: &'a Packed<T>,
    pub(crate) rows: usize,
    /// `[rows, pre_stride]`: pre-activations; `backward` leaves their gradients there.
    pub(crate) pre: &'a mut [T],
    pub(crate) pre_stride: usize,
    pub(crate) pre_at: (usize, usize),
    /// `[rows, states, N]`: the states before the stage; `advance` leaves those after it.
    pub(crate) state: &'a mut [T],
    /// `[rows, N]`, or empty: `advance` leaves `out` there.
    pub(crate) out: &'a mut [T],
    /// `[rows, N]`: the gradient of `out`.
    pub(crate) d_out: &'a [T],
    /// `[rows, states, N]`: in: the gradient of the states after the stage; out: of those before it.
    pub(crate) d_state: &'a mut [T],
    /// `[rows, sums, N]`: the unit parameters' gradients are added here, and those of a normalising stage's gains and biases.
    pub(crate) d_unit: &'a mut [T],
    pub(crate) sums: usize,
    /// Of a normalising stage, `[rows, d_normal_stride]`: the gradients of its normalised values `[gates, N]`, in place of those of
    /// the pre-activations.
    pub(crate) d_normal: &'a mut [T],
    pub(crate) d_normal_stride: usize,
}

/// `state` after the stage.
pub(crate) fn advance<P: Pointwise, T: Real>(args: &mut Retrace<'_, T>) {
    dispatch::<P, T, false>(args);
}

/// Gradients of the pre-activations, states and unit parameters.
pub(crate) fn backward<P: Pointwise, T: Real>(args: &mut Retrace<'_, T>) {
    dispatch::<P, T, true>(args);
}

fn dispatch<P: Pointwise, T: Real, const BACK: bool>(args: &mut Retrace<'_, T>) {
    struct Run<'a, 'b, P, T: Real, const BACK: bool>(&'a mut Retrace<'b, T>, std::marker::PhantomData<P>);
    impl<P: Pointwise, T: Real, const BACK: bool> WithSimd for Run<'_, '_, P, T, BACK> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, isa: S) {
            let a = self.0;
            for row in 0..a.rows {
                for first in (0..a.shape.units).step_by(<T::Lanes<S> as Lanes>::WIDTH) {
                    unit::<P, T::Lanes<S>, BACK>(isa, a, row, first);
                }
            }
        }
    }
    pulp::Arch::new().dispatch(Run::<P, T, BACK>(args, std::marker::PhantomData));
}

#[inline(always)]
fn unit<P: Pointwise, V: Lanes, const BACK: bool>(isa: V::Isa, a: &mut Retrace<'_, V::Elem>, row: usize, first: usize) {
    let zero = V::splat(isa, V::Elem::default());
    let (stage, n) = (&a.shape.stage, a.shape.units);
    let (gx, gates) = (stage.input_gates(), stage.gates.len());
    let (states, params) = (a.shape.states, a.shape.params);
    let place = |g: usize| row * a.pre_stride + if g < gx { a.pre_at.0 + g * n } else { a.pre_at.1 + (g - gx) * n };
    let own = a.shape.unit_params() - params;
    let (mut pre, mut state, mut unit) = ([zero; MAX_VALUES], [zero; MAX_VALUES], [zero; MAX_VALUES]);
    for (g, pre) in pre.iter_mut().enumerate().take(gates) {
        *pre = V::load(isa, &a.pre[place(g)..][..n][first..]);
    }
    let kept = pre;
    if stage.normalise {
        for (g, pre) in pre.iter_mut().enumerate().take(gates) {
            *pre = scaled(isa, &a.shape, a.packed, g, first, *pre);
        }
    }
    for (s, state) in state.iter_mut().enumerate().take(states) {
        *state = V::load(isa, &a.state[(row * states + s) * n..][..n][first..]);
    }
    for (p, unit) in unit.iter_mut().enumerate().take(params) {
        *unit = V::load(isa, &a.packed.unit[(own + p) * a.packed.padded + first..][..V::WIDTH]);
    }
    if !BACK {
        let out = P::forward(a.act, &pre, &mut state, &unit);
        if !a.out.is_empty() {
            out.store(&mut a.out[row * n..][..n][first..]);
        }
        for (s, state) in state.iter().enumerate().take(states) {
            state.store(&mut a.state[(row * states + s) * n..][..n][first..]);
        }
        return;
    }
    let out = V::load(isa, &a.d_out[row * n..][..n][first..]);
    let mut d = Adjoint { out, state: [zero; MAX_VALUES], pre: [zero; MAX_VALUES], unit: [zero; MAX_VALUES] };
    for (s, d) in d.state.iter_mut().enumerate().take(states) {
        *d = V::load(isa, &a.d_state[(row * states + s) * n..][..n][first..]);
    }
    P::backward(a.act, &pre, &state, &unit, &mut d);
    let mut add = |p: usize, d: V| {
        let sum = &mut a.d_unit[(row * a.sums + p) * n..][..n][first..];
        (V::load(isa, sum) + d).store(sum);
    };
    for (p, d) in d.unit.iter().enumerate().take(params) {
        add(p, *d);
    }
    for (g, d) in d.pre.iter().enumerate().take(gates) {
        if stage.normalise {
            add(a.shape.sums_at + g, *d * kept[g]);
            add(a.shape.sums_at + gates + g, *d);
            let d = *d * gain(isa, &a.shape, a.packed, g, first);
            d.store(&mut a.d_normal[row * a.d_normal_stride + g * n..][..n][first..]);
        } else {
            d.store(&mut a.pre[place(g)..][..n][first..]);
        }
    }
    for (s, d) in d.state.iter().enumerate().take(states) {
        d.store(&mut a.d_state[(row * states + s) * n..][..n][first..]);
    }
}
