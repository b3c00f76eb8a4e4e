//! The cells' pointwise parts, compiled: all that is compiled per cell. They read pre-activations, states and parameters where they lie
//! and write states, `out` and gradients there; what surrounds them (`recur.rs`, `retrace.rs`) is compiled once.

use crate::model::cell::{Adjoint, Functions, Gate, MAX_VALUES, Pointwise, State};
use crate::num::{Family, Lanes, Real, Shared};
use pulp::{Simd, WithSimd};
use std::ops::Range;

/// A stage's compiled pointwise part.
#[derive(Clone, Copy)]
pub struct Compiled<T: Real> {
    /// The new states, and `out`.
    forward: fn(&Site<'_, T>, &Area, Option<&Products<'_, T>>),
    /// The adjoint, from the pre-activations that were kept and the states before the stage.
    backward: fn(&Site<'_, T>, &Area, &Gradients<'_, T>),
}

/// [`Compiled`], for every element type.
pub(crate) enum Calls {}

impl Family for Calls {
    type Of<T: Real> = Compiled<T>;
}

/// What a pointwise part is compiled for.
#[derive(Clone, Copy)]
pub(crate) struct Signature {
    pub gates: &'static [Gate],
    pub states: &'static [State],
    pub params: &'static [&'static str],
}

impl Signature {
    /// That of `P`.
    pub const fn of<P: Pointwise>() -> Self {
        Self { gates: P::GATES, states: P::STATES, params: P::PARAMS }
    }
}

/// Rows (sequences of a step) and registers of units.
pub(crate) struct Area {
    pub rows: Range<usize>,
    pub panels: Range<usize>,
}

/// Where a stage's pointwise part finds what it works on. Several may run at once on one memory, as long as no unit of a row is in two of
/// them: each touches those of its own area alone.
pub(crate) struct Site<'a, T: Real> {
    pub act: &'a Functions,
    /// N
    pub units: usize,
    /// Whether pre-activations are multiplied by gains, and biases added.
    pub normalise: bool,
    /// `[rows, pre_stride]`; the gates that see x begin at `pre_at.0`, those that see the operand only at `pre_at.1` (gate-major, N
    /// apart).
    pub pre: Shared<'a, T>,
    pub pre_stride: usize,
    pub pre_at: (usize, usize),
    /// Whether every gate's pre-activation is left there (a normalising stage's before gain and bias).
    pub keep: bool,
    /// Unit parameters `[param][padded N]`: the recurrent biases of gates that see the operand only (of a normalising stage the biases,
    /// the gains and again biases), then from `own` on the cell's.
    pub unit: &'a [T],
    pub padded: usize,
    pub own: usize,
    /// `[rows, states, state_stride]`
    pub state: Shared<'a, T>,
    pub states: usize,
    pub state_stride: usize,
    /// `[rows, out_stride]`, or nothing where nobody asks for it.
    pub out: Option<Shared<'a, T>>,
    pub out_stride: usize,
}

/// Products of an area that are not in `pre` yet: `[panel][row][register][lane]`, `registers` of them; those of a matrix of one gate
/// `[two panels][row][panel][.. registers][lane]`.
pub(crate) struct Products<'a, T> {
    pub values: &'a [T],
    pub registers: usize,
    pub pairs: bool,
}

/// What the adjoint reads and writes besides.
pub(crate) struct Gradients<'a, T> {
    /// `[rows, N]`: of `out`.
    pub d_out: &'a [T],
    /// `[rows, states, state_stride]`: in: of the states after the stage; out: of those before it.
    pub d_state: Shared<'a, T>,
    /// `[rows, sums, N]`: the unit parameters' gradients are added here.
    pub d_unit: Shared<'a, T>,
    pub sums: usize,
    /// `[rows, d_pre_stride]`: of the pre-activations, at `d_pre_at` as those lie.
    pub d_pre: Shared<'a, T>,
    pub d_pre_stride: usize,
    pub d_pre_at: (usize, usize),
}

impl<T: Real> Compiled<T> {
    /// Compiles `P`.
    pub(crate) const fn of<P: Pointwise>() -> Self {
        Self { forward: forward::<P, T>, backward: backward::<P, T> }
    }

    /// New states and `out` of an area; `products`: those of the gates that see the operand, where they are not in `pre`.
    pub(crate) fn forward(&self, site: &Site<'_, T>, area: &Area, products: Option<&Products<'_, T>>) {
        (self.forward)(site, area, products);
    }

    /// Gradients of an area.
    pub(crate) fn backward(&self, site: &Site<'_, T>, area: &Area, gradients: &Gradients<'_, T>) {
        (self.backward)(site, area, gradients);
    }
}

/// Gates that see x.
const fn inputs<P: Pointwise>() -> usize {
    let (mut count, mut g) = (0, 0);
    while g < P::GATES.len() {
        count += P::GATES[g].input as usize;
        g += 1;
    }
    count
}

/// Gates that see both.
const fn both<P: Pointwise>() -> usize {
    let (mut count, mut g) = (0, 0);
    while g < P::GATES.len() {
        count += (P::GATES[g].input && P::GATES[g].recurrent) as usize;
        g += 1;
    }
    count
}

impl<T: Real> Site<'_, T> {
    /// Where gate `g` of a row begins, of `inputs` that see x.
    #[inline(always)]
    fn gate(&self, row: usize, inputs: usize, g: usize) -> usize {
        self.pre_stride * row + place(self.pre_at, self.units, inputs, g)
    }

    /// A register of unit parameter `p`.
    #[inline(always)]
    fn param<V: Lanes<Elem = T>>(&self, isa: V::Isa, p: usize, first: usize) -> V {
        V::load(isa, &self.unit[p * self.padded + first..][..V::WIDTH])
    }

    /// Where a register of a state is.
    #[inline(always)]
    fn state_at(&self, row: usize, s: usize, first: usize) -> usize {
        (row * self.states + s) * self.state_stride + first
    }
}

/// Where gate `g` begins in a row.
#[inline(always)]
fn place(at: (usize, usize), units: usize, inputs: usize, g: usize) -> usize {
    if g < inputs { at.0 + g * units } else { at.1 + (g - inputs) * units }
}

/// Runs `$body` for `$n` from 0 to below `$count`, at most [`MAX_VALUES`], each in code of its own: compilers leave longer loops over
/// registers as loops, and the registers in memory.
macro_rules! each {
    ($n:ident < $count:expr, $body:block) => {
        each!(@ $n, $count, $body, 0 1 2 3 4 5 6 7)
    };
    (@ $n:ident, $count:expr, $body:block, $($value:literal)*) => {
        $(if $value < $count {
            let $n: usize = $value;
            $body
        })*
    };
}

const _: () = assert!(MAX_VALUES == 8, "as many as `each` counts to");

/// What a pointwise part sees of a register of units.
struct Seen<V> {
    pre: [V; MAX_VALUES],
    state: [V; MAX_VALUES],
    unit: [V; MAX_VALUES],
}

/// Loads it. The counts are known when it is compiled, so that only what the cell has is loaded, into registers.
#[inline(always)]
fn seen<P: Pointwise, V: Lanes>(
    isa: V::Isa,
    site: &Site<'_, V::Elem>,
    (row, first): (usize, usize),
    products: Option<&[V::Elem]>,
) -> Seen<V> {
    let zero = V::splat(isa, V::Elem::default());
    let mut seen = Seen { pre: [zero; MAX_VALUES], state: [zero; MAX_VALUES], unit: [zero; MAX_VALUES] };
    let (inputs, both, lanes) = (inputs::<P>(), both::<P>(), V::WIDTH.min(site.units - first));
    each!(g < P::GATES.len(), {
        let at = site.gate(row, inputs, g) + first;
        let mut pre = match products {
            Some(products) if g < both || g >= inputs => {
                let product = V::load(isa, &products[(if g < both { g } else { both + g - inputs }) * V::WIDTH..]);
                match g < both {
                    // SAFETY: this area's own; see `Site`.
                    true => V::load(isa, unsafe { site.pre.seen(at, lanes) }) + product,
                    false if site.normalise => product,
                    false => product + site.param(isa, g - inputs, first),
                }
            }
            // SAFETY: as above.
            _ => V::load(isa, unsafe { site.pre.seen(at, lanes) }),
        };
        if site.keep {
            // SAFETY: as above.
            pre.store(unsafe { site.pre.part(at, lanes) });
        }
        if site.normalise {
            // Behind the biases of those that see the operand only, the gains of all, then the biases of the others.
            let (gates, only) = (P::GATES.len(), P::GATES.len() - inputs);
            let bias = if g < inputs { only + gates + g } else { g - inputs };
            pre = pre.mul_add(site.param(isa, only + g, first), site.param(isa, bias, first));
        }
        seen.pre[g] = pre;
    });
    each!(s < P::STATES.len(), {
        // SAFETY: as above.
        seen.state[s] = V::load(isa, unsafe { site.state.seen(site.state_at(row, s, first), lanes) });
    });
    each!(p < P::PARAMS.len(), {
        seen.unit[p] = site.param(isa, site.own + p, first);
    });
    seen
}

fn forward<P: Pointwise, T: Real>(site: &Site<'_, T>, area: &Area, products: Option<&Products<'_, T>>) {
    struct Run<'a, P, T: Real>(&'a Site<'a, T>, &'a Area, Option<&'a Products<'a, T>>, std::marker::PhantomData<P>);
    impl<P: Pointwise, T: Real> WithSimd for Run<'_, P, T> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, isa: S) {
            let Self(site, area, products, _) = self;
            let width = <T::Lanes<S> as Lanes>::WIDTH;
            for (panel, first) in area.panels.clone().map(|panel| panel * width).enumerate() {
                for row in area.rows.clone() {
                    // No closure: it is not inlined into code for other instruction sets.
                    let mut own = None;
                    if let Some(p) = products {
                        own = Some(&p.values[p.start(area, (panel, row)) * width..]);
                    }
                    let mut seen = seen::<P, T::Lanes<S>>(isa, site, (row, first), own);
                    let out = P::forward(site.act, &seen.pre, &mut seen.state, &seen.unit);
                    let lanes = width.min(site.units - first);
                    each!(s < P::STATES.len(), {
                        // SAFETY: this area's own; see `Site`.
                        seen.state[s].store(unsafe { site.state.part(site.state_at(row, s, first), lanes) });
                    });
                    if let Some(to) = &site.out {
                        // SAFETY: as above.
                        out.store(unsafe { to.part(row * site.out_stride + first, lanes) });
                    }
                }
            }
        }
    }
    T::dispatch(Run(site, area, products, std::marker::PhantomData::<P>));
}

impl<T> Products<'_, T> {
    /// The first register of a panel of the area, counted from its first one, and a row.
    #[inline(always)]
    fn start(&self, area: &Area, (panel, row): (usize, usize)) -> usize {
        let (rows, row) = (area.rows.len(), row - area.rows.start);
        match self.pairs {
            true => (panel / 2 * rows + row) * self.registers + panel % 2,
            false => (panel * rows + row) * self.registers,
        }
    }
}

fn backward<P: Pointwise, T: Real>(site: &Site<'_, T>, area: &Area, gradients: &Gradients<'_, T>) {
    struct Run<'a, P, T: Real>(&'a Site<'a, T>, &'a Area, &'a Gradients<'a, T>, std::marker::PhantomData<P>);
    impl<P: Pointwise, T: Real> WithSimd for Run<'_, P, T> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, isa: S) {
            let Self(site, area, to, _) = self;
            let (width, n, inputs) = (<T::Lanes<S> as Lanes>::WIDTH, site.units, inputs::<P>());
            let zeros = [T::Lanes::<S>::splat(isa, T::default()); MAX_VALUES];
            for row in area.rows.clone() {
                for first in area.panels.clone().map(|panel| panel * width) {
                    let lanes = width.min(n - first);
                    let seen = seen::<P, T::Lanes<S>>(isa, site, (row, first), None);
                    let out = T::Lanes::<S>::load(isa, &to.d_out[row * n + first..][..lanes]);
                    let mut d = Adjoint { out, state: zeros, pre: zeros, unit: zeros };
                    each!(s < P::STATES.len(), {
                        // SAFETY: this area's own; see `Site`.
                        let d_state = unsafe { to.d_state.seen(site.state_at(row, s, first), lanes) };
                        d.state[s] = T::Lanes::<S>::load(isa, d_state);
                    });
                    P::backward(site.act, &seen.pre, &seen.state, &seen.unit, &mut d);
                    each!(s < P::STATES.len(), {
                        // SAFETY: as above.
                        d.state[s].store(unsafe { to.d_state.part(site.state_at(row, s, first), lanes) });
                    });
                    each!(p < P::PARAMS.len(), {
                        // SAFETY: as above.
                        let sum = unsafe { to.d_unit.part((row * to.sums + p) * n + first, lanes) };
                        (T::Lanes::<S>::load(isa, sum) + d.unit[p]).store(sum);
                    });
                    each!(g < P::GATES.len(), {
                        let at = row * to.d_pre_stride + place(to.d_pre_at, n, inputs, g) + first;
                        // SAFETY: as above.
                        d.pre[g].store(unsafe { to.d_pre.part(at, lanes) });
                    });
                }
            }
        }
    }
    T::dispatch(Run(site, area, gradients, std::marker::PhantomData::<P>));
}
