//! The cells' pointwise parts, compiled: all that is compiled per cell. What surrounds them (`recur.rs`, `retrace.rs`) is
//! compiled once and hands them registers of units in a [`Block`].

use crate::model::cell::{Adjoint, Functions, MAX_VALUES, Pointwise};
use crate::num::Aligned;
use crate::num::Lanes;
use crate::num::{Family, Real};
use pulp::{Simd, WithSimd};

/// Registers of units that a call works on at most.
pub(crate) const SLOTS: usize = 8;

/// Places of a slot's values, in registers; arrays of `MAX_VALUES` each.
pub(crate) const PRE: usize = 0;
pub(crate) const STATE: usize = MAX_VALUES;
pub(crate) const UNIT: usize = 2 * MAX_VALUES;
/// `out`, or its gradient.
pub(crate) const OUT: usize = 3 * MAX_VALUES;
pub(crate) const D_STATE: usize = OUT + 1;
pub(crate) const D_PRE: usize = D_STATE + MAX_VALUES;
pub(crate) const D_UNIT: usize = D_PRE + MAX_VALUES;
/// Registers of a slot.
const FORWARD: usize = OUT + 1;
const BACKWARD: usize = D_UNIT + MAX_VALUES;

/// A pointwise function on the first slots of a block.
type Call<T> = fn(&Functions, &mut [T], usize);

/// A stage's compiled pointwise part.
#[derive(Clone, Copy)]
pub struct Compiled<T: Real> {
    /// Of `PRE`, `STATE`, `UNIT`: the new `STATE`, and `OUT`.
    forward: Call<T>,
    /// The adjoint: of the same and the gradients in `OUT` and `D_STATE`, those of `D_STATE`, `D_PRE` and `D_UNIT`.
    backward: Call<T>,
}

/// [`Compiled`], for every element type.
pub(crate) enum Calls {}

impl Family for Calls {
    type Of<T: Real> = Compiled<T>;
}

impl<T: Real> Compiled<T> {
    /// Compiles `P`.
    pub(crate) const fn of<P: Pointwise>() -> Self {
        Self { forward: forward::<P, T>, backward: backward::<P, T> }
    }
}

/// Some registers of units, each with the row and the first unit that it stands for.
pub(crate) struct Block<T> {
    values: Aligned<T>,
    places: [(usize, usize); SLOTS],
    count: usize,
    registers: usize,
}

impl<T: Real> Block<T> {
    /// For [`Block::run_forward`], of registers of `width` values, in memory that [`Block::end`] gives back.
    pub fn forward(memory: &mut Aligned<T>, width: usize) -> Self {
        Self::new(memory, FORWARD, width)
    }

    /// For [`Block::run_backward`].
    pub fn backward(memory: &mut Aligned<T>, width: usize) -> Self {
        Self::new(memory, BACKWARD, width)
    }

    fn new(memory: &mut Aligned<T>, registers: usize, width: usize) -> Self {
        memory.at_least(SLOTS * registers * width);
        Self { values: std::mem::take(memory), places: [(0, 0); SLOTS], count: 0, registers }
    }

    pub fn end(self, memory: &mut Aligned<T>) {
        *memory = self.values;
    }

    /// The next slot, and whether the block is full now.
    #[inline(always)]
    pub fn push(&mut self, place: (usize, usize)) -> (usize, bool) {
        let slot = self.count;
        self.places[slot] = place;
        self.count += 1;
        (slot, self.count == SLOTS)
    }

    /// The slots in use, each with its row and first unit.
    #[inline(always)]
    pub fn places(&self) -> impl Iterator<Item = (usize, (usize, usize))> + use<T> {
        self.places.into_iter().take(self.count).enumerate()
    }

    #[inline(always)]
    pub fn set<V: Lanes<Elem = T>>(&mut self, slot: usize, register: usize, value: V) {
        value.store(&mut self.values[(slot * self.registers + register) * V::WIDTH..][..V::WIDTH]);
    }

    #[inline(always)]
    pub fn get<V: Lanes<Elem = T>>(&self, isa: V::Isa, slot: usize, register: usize) -> V {
        V::load(isa, &self.values[(slot * self.registers + register) * V::WIDTH..][..V::WIDTH])
    }

    pub fn run_forward(&mut self, compiled: &Compiled<T>, act: &Functions) {
        (compiled.forward)(act, &mut self.values, self.count);
    }

    pub fn run_backward(&mut self, compiled: &Compiled<T>, act: &Functions) {
        (compiled.backward)(act, &mut self.values, self.count);
    }

    pub fn clear(&mut self) {
        self.count = 0;
    }
}

#[inline(always)]
fn load<V: Lanes>(isa: V::Isa, slot: &[V::Elem], first: usize) -> [V; MAX_VALUES] {
    // A loop: `from_fn` and `map` over registers are not inlined into code for other instruction sets.
    let mut values = [V::splat(isa, V::Elem::default()); MAX_VALUES];
    for (n, value) in values.iter_mut().enumerate() {
        *value = V::load(isa, &slot[(first + n) * V::WIDTH..][..V::WIDTH]);
    }
    values
}

#[inline(always)]
fn store<V: Lanes>(values: &[V; MAX_VALUES], slot: &mut [V::Elem], first: usize) {
    for (n, value) in values.iter().enumerate() {
        value.store(&mut slot[(first + n) * V::WIDTH..][..V::WIDTH]);
    }
}

fn forward<P: Pointwise, T: Real>(act: &Functions, block: &mut [T], slots: usize) {
    struct Run<'a, P, T>(&'a Functions, &'a mut [T], usize, std::marker::PhantomData<P>);
    impl<P: Pointwise, T: Real> WithSimd for Run<'_, P, T> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, isa: S) {
            let Self(act, block, slots, _) = self;
            let width = <T::Lanes<S> as Lanes>::WIDTH;
            for slot in block.chunks_exact_mut(FORWARD * width).take(slots) {
                let (pre, mut state) = (load::<T::Lanes<S>>(isa, slot, PRE), load(isa, slot, STATE));
                let unit = load(isa, slot, UNIT);
                let out = P::forward(act, &pre, &mut state, &unit);
                store(&state, slot, STATE);
                out.store(&mut slot[OUT * width..]);
            }
        }
    }
    T::dispatch(Run(act, block, slots, std::marker::PhantomData::<P>));
}

fn backward<P: Pointwise, T: Real>(act: &Functions, block: &mut [T], slots: usize) {
    struct Run<'a, P, T>(&'a Functions, &'a mut [T], usize, std::marker::PhantomData<P>);
    impl<P: Pointwise, T: Real> WithSimd for Run<'_, P, T> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, isa: S) {
            let Self(act, block, slots, _) = self;
            let width = <T::Lanes<S> as Lanes>::WIDTH;
            for slot in block.chunks_exact_mut(BACKWARD * width).take(slots) {
                let zeros = [T::Lanes::<S>::splat(isa, T::default()); MAX_VALUES];
                let (pre, before) = (load::<T::Lanes<S>>(isa, slot, PRE), load(isa, slot, STATE));
                let unit = load(isa, slot, UNIT);
                let (out, state) = (T::Lanes::<S>::load(isa, &slot[OUT * width..]), load(isa, slot, D_STATE));
                let mut d = Adjoint { out, state, pre: zeros, unit: zeros };
                P::backward(act, &pre, &before, &unit, &mut d);
                store(&d.state, slot, D_STATE);
                store(&d.pre, slot, D_PRE);
                store(&d.unit, slot, D_UNIT);
            }
        }
    }
    T::dispatch(Run(act, block, slots, std::marker::PhantomData::<P>));
}
