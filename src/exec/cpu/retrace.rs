//! The pointwise part of a stage again, from the pre-activations that training keeps: forward over the states only
//! ([`advance`]), and its adjoint ([`backward`]).

use super::packed::Packed;
use super::recur::{Counts, gain, scaled, unit_param};
use super::zoneout::{Kept, Zone};
use crate::model::cell::{Adjoint, Functions, MAX_VALUES};
use crate::model::pointwise::{Block, D_PRE, D_STATE, D_UNIT, OUT, PRE, SLOTS, STATE, UNIT};
use crate::model::stack::StageShape;
use crate::num::Aligned;
use crate::num::Lanes;
use crate::num::Real;
use pulp::{Simd, WithSimd};

/// One stage of one time step for `rows` sequences of one direction.
pub(crate) struct Retrace<'a, T: Real> {
    pub(crate) shape: StageShape,
    pub(crate) act: &'a Functions,
    pub(crate) packed: &'a Packed<T>,
    pub(crate) rows: usize,
    /// `[rows, pre_stride]`: pre-activations; `backward` leaves their gradients there.
    pub(crate) pre: &'a mut [T],
    pub(crate) pre_stride: usize,
    pub(crate) pre_at: (usize, usize),
    /// Zoneout of the stage.
    pub(crate) zone: Option<&'a Zone<T>>,
    /// `[rows, states, H]`: the states before the stage; `advance` leaves those after it.
    pub(crate) state: &'a mut [T],
    /// `[rows, N]`, or empty: `advance` leaves `out` there.
    pub(crate) out: &'a mut [T],
    /// `[rows, N]`: the gradient of `out`.
    pub(crate) d_out: &'a [T],
    /// `[rows, states, H]`: in: the gradient of the states after the stage; out: of those before it.
    pub(crate) d_state: &'a mut [T],
    /// `[rows, sums, N]`: the unit parameters' gradients are added here, and those of a normalising stage's gains and biases.
    pub(crate) d_unit: &'a mut [T],
    pub(crate) sums: usize,
    /// Of a normalising stage, `[rows, d_normal_stride]`: the gradients of its normalised values `[gates, N]`, in place of those of
    /// the pre-activations.
    pub(crate) d_normal: &'a mut [T],
    pub(crate) d_normal_stride: usize,
    /// Kept from step to step.
    pub(crate) scratch: &'a mut Aligned<T>,
}

/// `state` after the stage.
pub(crate) fn advance<T: Real>(args: &mut Retrace<'_, T>) {
    dispatch::<T, false>(args);
}

/// Gradients of the pre-activations, states and unit parameters.
pub(crate) fn backward<T: Real>(args: &mut Retrace<'_, T>) {
    dispatch::<T, true>(args);
}

fn dispatch<T: Real, const BACK: bool>(args: &mut Retrace<'_, T>) {
    struct Run<'a, 'b, T: Real, const BACK: bool>(&'a mut Retrace<'b, T>);
    impl<T: Real, const BACK: bool> WithSimd for Run<'_, '_, T, BACK> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, isa: S) {
            let (a, width) = (self.0, <T::Lanes<S> as Lanes>::WIDTH);
            let mut block = match BACK {
                true => Block::backward(a.scratch, width),
                false => Block::forward(a.scratch, width),
            };
            let counts = Counts::of(&a.shape);
            let panels = a.shape.units.div_ceil(width);
            let count = a.rows * panels;
            for n in 0..count {
                let place = (n / panels, n % panels * width);
                let (slot, full) = block.push(place);
                gather::<T::Lanes<S>>(isa, a, (&mut block, slot), counts, place);
                if !full && n + 1 < count {
                    continue;
                }
                if BACK {
                    back::<T::Lanes<S>>(isa, a, &mut block, counts);
                } else {
                    forward::<T::Lanes<S>>(isa, a, &mut block);
                }
                block.clear();
            }
            block.end(a.scratch);
        }
    }
    T::dispatch(Run::<T, BACK>(args));
}

impl<T: Real> Retrace<'_, T> {
    /// Where gate `g` of a row begins.
    #[inline(always)]
    fn place(&self, row: usize, inputs: usize, g: usize) -> usize {
        let n = self.shape.units;
        row * self.pre_stride + if g < inputs { self.pre_at.0 + g * n } else { self.pre_at.1 + (g - inputs) * n }
    }

    /// Where state `s` of a row begins.
    #[inline(always)]
    fn state_at(&self, row: usize, s: usize) -> usize {
        (row * self.shape.states + s) * self.shape.state_stride
    }
}

/// What both directions start from.
#[inline(always)]
fn gather<V: Lanes>(
    isa: V::Isa,
    a: &mut Retrace<'_, V::Elem>,
    (block, slot): (&mut Block<V::Elem>, usize),
    counts: Counts,
    (row, first): (usize, usize),
) {
    let n = a.shape.units;
    for g in 0..counts.input + counts.only {
        let mut pre = V::load(isa, &a.pre[a.place(row, counts.input, g)..][..n][first..]);
        if a.shape.stage.normalise {
            pre = scaled(isa, &a.shape, a.packed, g, first, pre);
        }
        block.set(slot, PRE + g, pre);
    }
    for s in 0..a.shape.states {
        block.set(slot, STATE + s, V::load(isa, &a.state[a.state_at(row, s)..][..n][first..]));
    }
    for p in 0..a.shape.params {
        block.set(slot, UNIT + p, unit_param::<V>(isa, a.packed, counts.own + p, first));
    }
}

#[inline(always)]
fn forward<V: Lanes>(isa: V::Isa, a: &mut Retrace<'_, V::Elem>, block: &mut Block<V::Elem>) {
    let (n, states) = (a.shape.units, a.shape.states);
    block.run_forward(&a.shape.stage.compiled(), a.act);
    for (slot, (row, first)) in block.places() {
        let mut out: V = block.get(isa, slot, OUT);
        let mut state = [out; MAX_VALUES];
        for (s, state) in state.iter_mut().enumerate().take(states) {
            *state = block.get(isa, slot, STATE + s);
        }
        if let Some(zone) = a.zone {
            let mut before = state;
            for (s, before) in before.iter_mut().enumerate().take(states) {
                *before = V::load(isa, &a.state[a.state_at(row, s)..][..n][first..]);
            }
            out = zone.forward(isa, (row, first), &before, &mut state, out);
        }
        if !a.out.is_empty() {
            out.store(&mut a.out[row * n..][..n][first..]);
        }
        for (s, state) in state.iter().enumerate().take(states) {
            let at = a.state_at(row, s);
            state.store(&mut a.state[at..][..n][first..]);
        }
    }
}

#[inline(always)]
fn back<V: Lanes>(isa: V::Isa, a: &mut Retrace<'_, V::Elem>, block: &mut Block<V::Elem>, counts: Counts) {
    let zeros = [V::splat(isa, V::Elem::default()); MAX_VALUES];
    let (n, states) = (a.shape.units, a.shape.states);
    let mut zoned: [Option<Kept<V>>; SLOTS] = [None; SLOTS];
    for (slot, (row, first)) in block.places() {
        let out = V::load(isa, &a.d_out[row * n..][..n][first..]);
        let mut d = Adjoint { out, state: zeros, pre: zeros, unit: zeros };
        for (s, d) in d.state.iter_mut().enumerate().take(states) {
            *d = V::load(isa, &a.d_state[a.state_at(row, s)..][..n][first..]);
        }
        zoned[slot] = a.zone.map(|zone| zone.split(isa, (row, first), &mut d));
        block.set(slot, OUT, d.out);
        for (s, &d) in d.state.iter().enumerate() {
            block.set(slot, D_STATE + s, d);
        }
    }
    block.run_backward(&a.shape.stage.compiled(), a.act);
    for (slot, (row, first)) in block.places() {
        let mut d = Adjoint { out: zeros[0], state: zeros, pre: zeros, unit: zeros };
        for (s, d) in d.state.iter_mut().enumerate() {
            *d = block.get(isa, slot, D_STATE + s);
        }
        if let (Some(zone), Some(zoned)) = (a.zone, &zoned[slot]) {
            zone.join(zoned, &mut d);
        }
        for (s, d) in d.state.iter().enumerate().take(states) {
            let at = a.state_at(row, s);
            d.store(&mut a.d_state[at..][..n][first..]);
        }
        scatter::<V>(isa, a, (block, slot), counts, (row, first));
    }
}

/// Gradients of unit parameters and pre-activations.
#[inline(always)]
fn scatter<V: Lanes>(
    isa: V::Isa,
    a: &mut Retrace<'_, V::Elem>,
    (block, slot): (&Block<V::Elem>, usize),
    counts: Counts,
    (row, first): (usize, usize),
) {
    let (n, sums, gates) = (a.shape.units, a.sums, counts.input + counts.only);
    for p in 0..a.shape.params {
        add::<V>(isa, &mut a.d_unit[(row * sums + p) * n..][..n][first..], block.get(isa, slot, D_UNIT + p));
    }
    if a.shape.stage.normalise {
        for g in 0..gates {
            let d: V = block.get(isa, slot, D_PRE + g);
            let at = a.place(row, counts.input, g);
            let kept = V::load(isa, &a.pre[at..][..n][first..]);
            let sum = |p: usize| (row * sums + a.shape.sums_at + p) * n;
            let (gain_sum, bias_sum) = (sum(g), sum(gates + g));
            add(isa, &mut a.d_unit[gain_sum..][..n][first..], d * kept);
            add(isa, &mut a.d_unit[bias_sum..][..n][first..], d);
            let d = d * gain(isa, &a.shape, a.packed, g, first);
            d.store(&mut a.d_normal[row * a.d_normal_stride + g * n..][..n][first..]);
        }
        return;
    }
    for g in 0..gates {
        let at = a.place(row, counts.input, g);
        block.get::<V>(isa, slot, D_PRE + g).store(&mut a.pre[at..][..n][first..]);
    }
}

#[inline(always)]
fn add<V: Lanes>(isa: V::Isa, sum: &mut [V::Elem], d: V) {
    (V::load(isa, sum) + d).store(sum);
}
