//! One stage of one time step for a block of rows (sequences): R · operand, the row statistic if there is one, and the
//! pointwise part as epilogue. Used by the twins of both recurrent kernels.

use super::packed::Packed;
use super::shared::Shared;
use super::tile::{MAX_REGISTERS, MAX_ROWS, Rows, prefetch, product, tile_rows};
use super::zoneout::Zone;
use crate::model::cell::{Functions, MAX_VALUES, Product};
use crate::model::pointwise::{Block, OUT, PRE, STATE, UNIT};
use crate::model::stack::StageShape;
use crate::num::Aligned;
use crate::num::Lanes;
use crate::num::Real;
use pulp::{Simd, WithSimd};
use std::ops::Range;

/// What a stage kernel reads and writes; `rows` sequences of one direction, and of each the units of some panels. Several may run at once
/// on one memory, as long as no unit of a row is in two of them: of `pre`, `state` and `out` each touches those of its own units alone.
pub(crate) struct Recur<'a, T: Real> {
    pub(crate) shape: StageShape,
    pub(crate) act: &'a Functions,
    /// R and the unit parameters.
    pub(crate) packed: &'a Packed<T>,
    pub(crate) rows: usize,
    /// Registers of units: all of them, or, where nothing is normalised, from an even one to an even one or the last.
    pub(crate) panels: Range<usize>,
    /// `[rows, operand_stride]`
    pub(crate) operand: &'a [T],
    pub(crate) operand_stride: usize,
    /// `[rows, pre_stride]`; this stage's x gates and operand-only gates start at `pre_at` (gate-major, N apart). In
    /// training every gate's pre-activation is left there (a normalising stage's before gain and bias).
    pub(crate) pre: Shared<'a, T>,
    pub(crate) pre_stride: usize,
    pub(crate) pre_at: (usize, usize),
    /// Where training keeps what a normalising stage's product was divided by.
    pub(crate) scale_at: usize,
    pub(crate) train: bool,
    /// `[rows, states, H]`
    pub(crate) state: Shared<'a, T>,
    /// Zoneout of the stage.
    pub(crate) zone: Option<&'a Zone<T>>,
    /// `[rows, out_stride]`; lanes N..out_stride are set to 0 (they pad the next product).
    pub(crate) out: Shared<'a, T>,
    pub(crate) out_stride: usize,
    /// `[rows, gates, N]`: the products of a normalising stage, where another kernel made them.
    pub(crate) product: Option<&'a [T]>,
    pub(crate) scratch: &'a mut Workspace<T>,
}

/// Memory of a stage kernel, kept from step to step.
#[derive(Default)]
pub(crate) struct Workspace<T> {
    /// `[gates · padded N]`, only for normalising stages.
    products: Vec<T>,
    pub(super) block: Aligned<T>,
}

/// What is counted once per call: a stage's gates that see x, both, the operand only, and its own unit parameters, which come
/// before the cell's.
#[derive(Clone, Copy)]
pub(super) struct Counts {
    pub input: usize,
    pub both: usize,
    pub only: usize,
    pub own: usize,
}

impl Counts {
    pub fn of(shape: &StageShape) -> Self {
        let (stage, own) = (&shape.stage, shape.unit_params() - shape.params);
        Self { input: stage.input_gates(), both: stage.both_gates(), only: stage.recurrent_only_gates(), own }
    }
}

/// The stage kernel: product and pointwise part.
pub(crate) fn recur<T: Real>(args: &mut Recur<'_, T>) {
    struct Run<'a, 'b, T: Real>(&'a mut Recur<'b, T>);
    impl<T: Real> WithSimd for Run<'_, '_, T> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, isa: S) {
            let a = self.0;
            let mut block = Block::forward(&mut a.scratch.block, <T::Lanes<S> as Lanes>::WIDTH);
            let counts = Counts::of(&a.shape);
            if a.shape.stage.normalise {
                normalised::<T::Lanes<S>>(isa, a, &mut block, counts);
            } else {
                fused::<T::Lanes<S>>(isa, a, &mut block, counts);
            }
            flush::<T::Lanes<S>>(isa, a, &mut block);
            block.end(&mut a.scratch.block);
            let units = a.shape.units;
            for row in 0..if a.panels.end * <T::Lanes<S> as Lanes>::WIDTH < units { 0 } else { a.rows } {
                // SAFETY: lanes past the last unit belong to whoever has that.
                unsafe { a.out.part(row * a.out_stride + units, a.out_stride - units) }.fill(T::default());
            }
        }
    }
    T::dispatch(Run(args));
}

/// All rows of a panel before the next panel: R passes through the caches once per step.
#[inline(always)]
fn fused<V: Lanes>(isa: V::Isa, a: &mut Recur<'_, V::Elem>, block: &mut Block<V::Elem>, counts: Counts) {
    let mut acc = [[V::splat(isa, V::Elem::default()); MAX_REGISTERS]; MAX_ROWS];
    let operand = Rows { values: a.operand, stride: a.operand_stride };
    let identity = a.shape.stage.product == Product::Identity;
    let mut panel = a.panels.start;
    while panel < a.panels.end {
        let together = if identity { 1 } else { a.packed.together(panel, V::WIDTH) };
        let mut row = 0;
        while row < a.rows {
            let rows = tile_rows::<V>(a.rows - row);
            (row..row + rows).for_each(|row| ask_ahead(a, counts, row, panel * V::WIDTH));
            if identity {
                for (m, acc) in acc.iter_mut().enumerate().take(rows) {
                    acc[0] = V::load(
                        isa,
                        &operand.values[(row + m) * operand.stride..][..a.shape.units][panel * V::WIDTH..],
                    );
                }
            } else {
                product(isa, a.packed, operand, (row, rows), panel, &mut acc);
            }
            for (m, acc) in acc.iter().enumerate().take(rows) {
                gather(isa, a, (block, counts), (row + m, panel * V::WIDTH), acc);
                if together == 2 {
                    gather(isa, a, (block, counts), (row + m, (panel + 1) * V::WIDTH), &[acc[1]; MAX_REGISTERS]);
                }
            }
            row += rows;
        }
        panel += together;
    }
}

/// Asks for what the pointwise part of a row's register reads after the product.
#[inline(always)]
fn ask_ahead<T: Real>(a: &Recur<'_, T>, counts: Counts, row: usize, first: usize) {
    for g in 0..counts.input {
        prefetch(a.pre.address(row * a.pre_stride + a.pre_at.0 + g * a.shape.units + first));
    }
    for s in 0..a.shape.states {
        prefetch(a.state.address((row * a.shape.states + s) * a.shape.state_stride + first));
    }
}

/// Takes one row and one register of units, `place`, into the block.
#[inline(always)]
fn gather<V: Lanes>(
    isa: V::Isa,
    a: &mut Recur<'_, V::Elem>,
    (block, counts): (&mut Block<V::Elem>, Counts),
    (row, first): (usize, usize),
    recurrent: &[V; MAX_REGISTERS],
) {
    let (slot, full) = block.push((row, first));
    let (normalise, n) = (a.shape.stage.normalise, a.shape.units);
    let lanes = V::WIDTH.min(n - first);
    let Counts { input: gx, both, only, own } = counts;
    for g in 0..gx + only {
        let at = row * a.pre_stride + if g < gx { a.pre_at.0 + g * n } else { a.pre_at.1 + (g - gx) * n };
        // Where nothing is read or written there may be no memory.
        let there = if g < gx || a.train { lanes } else { 0 };
        // SAFETY: this unit's own; see `Recur`.
        let kept = unsafe { a.pre.part(if there > 0 { at + first } else { 0 }, there) };
        let mut pre = match g < gx {
            true if g < both => V::load(isa, kept) + recurrent[g],
            true => V::load(isa, kept),
            false if normalise => recurrent[both + g - gx],
            false => recurrent[both + g - gx] + unit_param(isa, a.packed, g - gx, first),
        };
        if a.train {
            pre.store(kept);
        }
        if normalise {
            pre = scaled(isa, &a.shape, a.packed, g, first, pre);
        }
        block.set(slot, PRE + g, pre);
    }
    for p in 0..a.shape.params {
        block.set(slot, UNIT + p, unit_param::<V>(isa, a.packed, own + p, first));
    }
    for s in 0..a.shape.states {
        // SAFETY: this unit's own; see `Recur`.
        let state = unsafe { a.state.part((row * a.shape.states + s) * a.shape.state_stride + first, lanes) };
        block.set(slot, STATE + s, V::load(isa, state));
    }
    if full {
        flush::<V>(isa, a, block);
    }
}

/// The pointwise part of what is in the block.
#[inline(never)]
fn flush<V: Lanes>(isa: V::Isa, a: &mut Recur<'_, V::Elem>, block: &mut Block<V::Elem>) {
    struct Run<'a, 'b, V: Lanes>(V::Isa, &'a mut Recur<'b, V::Elem>, &'a mut Block<V::Elem>);
    impl<V: Lanes> WithSimd for Run<'_, '_, V> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, _isa: S) {
            let Self(isa, a, block) = self;
            block.run_forward(&a.shape.stage.compiled(), a.act);
            let (states, h, n) = (a.shape.states, a.shape.state_stride, a.shape.units);
            for (slot, (row, first)) in block.places() {
                // SAFETY: this unit's own; see `Recur`. One is dropped before the next is taken.
                let memory =
                    |s: usize| unsafe { a.state.part((row * states + s) * h + first, V::WIDTH.min(n - first)) };
                let mut out: V = block.get(isa, slot, OUT);
                if let Some(zone) = a.zone {
                    let mut state = [out; MAX_VALUES];
                    let mut before = state;
                    for s in 0..states {
                        state[s] = block.get(isa, slot, STATE + s);
                        before[s] = V::load(isa, memory(s));
                    }
                    out = zone.forward(isa, (row, first), &before, &mut state, out);
                    state.iter().take(states).enumerate().for_each(|(s, &v)| block.set(slot, STATE + s, v));
                }
                for s in 0..states {
                    block.get::<V>(isa, slot, STATE + s).store(memory(s));
                }
                // SAFETY: as above.
                out.store(unsafe { a.out.part(row * a.out_stride + first, V::WIDTH.min(n - first)) });
            }
            block.clear();
        }
    }
    isa.vectorize(Run::<V>(isa, a, block));
}

/// A register of gate `g` of a normalising stage, from unit `first`: what is kept of it times its gain, plus its bias.
#[inline(always)]
pub(super) fn scaled<V: Lanes>(
    isa: V::Isa,
    shape: &StageShape,
    packed: &Packed<V::Elem>,
    g: usize,
    first: usize,
    kept: V,
) -> V {
    let (inputs, only) = (shape.stage.input_gates(), shape.stage.recurrent_only_gates());
    let bias = if g < inputs { only + shape.stage.gains() + g } else { g - inputs };
    kept.mul_add(gain(isa, shape, packed, g, first), unit_param(isa, packed, bias, first))
}

/// Its gain.
#[inline(always)]
pub(super) fn gain<V: Lanes>(isa: V::Isa, shape: &StageShape, packed: &Packed<V::Elem>, g: usize, first: usize) -> V {
    unit_param(isa, packed, shape.stage.recurrent_only_gates() + g, first)
}

/// A register of a unit parameter.
#[inline(always)]
pub(super) fn unit_param<V: Lanes>(isa: V::Isa, packed: &Packed<V::Elem>, p: usize, first: usize) -> V {
    V::load(isa, &packed.unit[p * packed.padded + first..][..V::WIDTH])
}

/// A normalising stage: products of all units first, then mean and variance of the row, then the pointwise part.
#[inline(always)]
fn normalised<V: Lanes>(isa: V::Isa, a: &mut Recur<'_, V::Elem>, block: &mut Block<V::Elem>, counts: Counts) {
    let (gates, n, padded) = (a.shape.stage.recurrent_gates(), a.shape.units, a.packed.padded);
    let mut products = std::mem::take(&mut a.scratch.products);
    products.resize(gates * padded, V::Elem::default());
    for row in 0..a.rows {
        row_products::<V>(isa, a, row, &mut products);
        let values = || (0..gates).flat_map(|g| products[g * padded..][..n].iter().map(|v| v.to_f64()));
        let count = (gates * n) as f64;
        let mean = values().sum::<f64>() / count;
        let variance = values().map(|v| (v - mean) * (v - mean)).sum::<f64>() / count;
        let mean = V::splat(isa, V::Elem::from_f64(mean));
        let scale = V::Elem::from_f64(1.0 / (variance + crate::kernels::NORMALISE_EPSILON).sqrt());
        if a.train {
            // SAFETY: whoever normalises has all of the row.
            let kept = unsafe { a.pre.part(row * a.pre_stride + a.scale_at, 1) };
            kept[0] = scale;
        }
        let scale = V::splat(isa, scale);
        for panel in 0..padded / V::WIDTH {
            let mut acc = [mean; MAX_REGISTERS];
            for (g, acc) in acc.iter_mut().enumerate().take(gates) {
                *acc = (V::load(isa, &products[g * padded + panel * V::WIDTH..][..V::WIDTH]) - mean) * scale;
            }
            gather(isa, a, (block, counts), (row, panel * V::WIDTH), &acc);
        }
    }
    a.scratch.products = products;
}

/// The products of one row, `[gates, padded N]`.
#[inline(always)]
fn row_products<V: Lanes>(isa: V::Isa, a: &Recur<'_, V::Elem>, row: usize, products: &mut [V::Elem]) {
    let (gates, n, padded) = (a.shape.stage.recurrent_gates(), a.shape.units, a.packed.padded);
    if let Some(made) = a.product {
        for g in 0..gates {
            products[g * padded..][..n].copy_from_slice(&made[(row * gates + g) * n..][..n]);
        }
        return;
    }
    let operand = &a.operand[row * a.operand_stride..];
    if a.shape.stage.product == Product::Identity {
        products[..n].copy_from_slice(&operand[..n]);
        return;
    }
    let mut acc = [[V::splat(isa, V::Elem::default()); MAX_REGISTERS]; MAX_ROWS];
    let mut panel = 0;
    while panel * V::WIDTH < padded {
        let together = a.packed.together(panel, V::WIDTH);
        product(isa, a.packed, Rows { values: operand, stride: a.operand_stride }, (0, 1), panel, &mut acc);
        for (r, acc) in acc[0].iter().enumerate().take(gates * together) {
            let at = if together == 2 { (panel + r) * V::WIDTH } else { r * padded + panel * V::WIDTH };
            acc.store(&mut products[at..][..V::WIDTH]);
        }
        panel += together;
    }
}
