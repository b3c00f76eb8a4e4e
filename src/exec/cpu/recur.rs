//! One stage of one time step for a block of rows (sequences): R · operand, the row statistic if there is one, and the
//! pointwise part as epilogue. Used by the twins of both recurrent kernels.

use super::packed::Packed;
use super::tile::{MAX_REGISTERS, MAX_ROWS, Rows, TILE, prefetch, product, tile_rows};
use super::zoneout::Zone;
use crate::model::cell::{Functions, Product};
use crate::model::pointwise::{Area, Compiled, Products, Site};
use crate::model::stack::StageShape;
use crate::num::{Aligned, Lanes, Real, Shared};
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
    /// The states before the stage, only with zoneout.
    before: Vec<T>,
    /// A tile: see [`product`].
    tile: Aligned<T>,
}

/// The stage kernel: product and pointwise part.
pub(crate) fn recur<T: Real>(args: &mut Recur<'_, T>) {
    struct Run<'a, 'b, T: Real>(&'a mut Recur<'b, T>);
    impl<T: Real> WithSimd for Run<'_, '_, T> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, isa: S) {
            let a = self.0;
            let width = <T::Lanes<S> as Lanes>::WIDTH;
            let units = a.shape.units;
            let own = a.panels.start * width..(a.panels.end * width).min(units);
            if let Some(zone) = a.zone {
                zone.keep(&mut a.scratch.before, a.rows, &own, &a.state);
            }
            if a.shape.stage.normalise {
                normalised::<T::Lanes<S>>(isa, a);
            } else {
                fused::<T::Lanes<S>>(isa, a);
            }
            if let Some(zone) = a.zone {
                zone.mix(&a.scratch.before, a.rows, &own, &a.state, Some((&a.out, a.out_stride)));
            }
            for row in 0..if own.end < units { 0 } else { a.rows } {
                // SAFETY: lanes past the last unit belong to whoever has that.
                unsafe { a.out.part(row * a.out_stride + units, a.out_stride - units) }.fill(T::default());
            }
        }
    }
    T::dispatch(Run(args));
}

impl<T: Real> Recur<'_, T> {
    /// Where the pointwise part finds what it works on.
    fn site(&self) -> Site<'_, T> {
        let shape = &self.shape;
        Site {
            act: self.act,
            units: shape.units,
            normalise: shape.stage.normalise,
            pre: self.pre.within(0, self.pre.len()),
            pre_stride: self.pre_stride,
            pre_at: self.pre_at,
            keep: self.train,
            unit: &self.packed.unit,
            padded: self.packed.padded,
            own: shape.unit_params() - shape.params,
            state: self.state.within(0, self.state.len()),
            states: shape.states,
            state_stride: shape.state_stride,
            out: Some(self.out.within(0, self.out.len())),
            out_stride: self.out_stride,
        }
    }
}

/// All rows of some panels before the next panels: R passes through the caches once per step.
#[inline(always)]
fn fused<V: Lanes>(isa: V::Isa, a: &mut Recur<'_, V::Elem>) {
    let mut tile = std::mem::take(&mut a.scratch.tile);
    tile.at_least(TILE);
    let site = a.site();
    let compiled: Compiled<V::Elem> = a.shape.stage.compiled();
    let operand = Rows { values: a.operand, stride: a.operand_stride };
    let inputs = a.shape.stage.input_gates();
    let identity = a.shape.stage.product == Product::Identity;
    let pairs = !identity && a.packed.pairs();
    // Where there are few rows, several panels fill the pointwise part's pipelines.
    let group = match a.rows {
        0 => return,
        rows => (MAX_ROWS / rows).max(1).next_multiple_of(if pairs { 2 } else { 1 }),
    };
    let mut start = a.panels.start;
    while start < a.panels.end {
        let panels = start..(start + group).min(a.panels.end);
        let mut row = 0;
        while row < a.rows {
            let rows = tile_rows::<V>(a.rows - row);
            let (mut panel, mut at) = (panels.start, 0);
            while panel < panels.end {
                let together = if identity { 1 } else { a.packed.together(panel, V::WIDTH) };
                ask_ahead(a, inputs, row..row + rows, panel * V::WIDTH);
                let tile = &mut tile[at * MAX_REGISTERS * V::WIDTH..][..rows * MAX_REGISTERS * V::WIDTH];
                if identity {
                    for (m, to) in tile.chunks_exact_mut(MAX_REGISTERS * V::WIDTH).enumerate() {
                        let values = &operand.values[(row + m) * operand.stride..][..a.shape.units];
                        V::load(isa, &values[panel * V::WIDTH..]).store(&mut to[..V::WIDTH]);
                    }
                } else {
                    product::<V>(isa, a.packed, operand, (row, rows), panel, tile);
                }
                panel += together;
                at += rows;
            }
            let products = Products { values: &tile, registers: MAX_REGISTERS, pairs };
            compiled.forward(&site, &Area { rows: row..row + rows, panels: panels.clone() }, Some(&products));
            row += rows;
        }
        start = panels.end;
    }
    a.scratch.tile = tile;
}

/// Asks for what the pointwise part of some rows' registers reads after the product.
#[inline(always)]
fn ask_ahead<T: Real>(a: &Recur<'_, T>, inputs: usize, rows: Range<usize>, first: usize) {
    for row in rows {
        for g in 0..inputs {
            prefetch(a.pre.address(row * a.pre_stride + a.pre_at.0 + g * a.shape.units + first));
        }
        for s in 0..a.shape.states {
            prefetch(a.state.address((row * a.shape.states + s) * a.shape.state_stride + first));
        }
    }
}

/// A normalising stage: products of all units first, then mean and variance of the row, then the pointwise part.
#[inline(always)]
fn normalised<V: Lanes>(isa: V::Isa, a: &mut Recur<'_, V::Elem>) {
    let (gates, n, padded) = (a.shape.stage.recurrent_gates(), a.shape.units, a.packed.padded);
    let mut products = std::mem::take(&mut a.scratch.products);
    let mut tile = std::mem::take(&mut a.scratch.tile);
    tile.at_least(TILE);
    products.resize(gates * padded, V::Elem::default());
    let compiled: Compiled<V::Elem> = a.shape.stage.compiled();
    for row in 0..a.rows {
        row_products::<V>(isa, a, row, (&mut products, &mut tile));
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
        for start in (0..padded / V::WIDTH).step_by(MAX_ROWS) {
            let panels = start..(start + MAX_ROWS).min(padded / V::WIDTH);
            for (panel, to) in panels.clone().zip(tile.chunks_exact_mut(MAX_REGISTERS * V::WIDTH)) {
                for (g, to) in to.chunks_exact_mut(V::WIDTH).enumerate().take(gates) {
                    let product = V::load(isa, &products[g * padded + panel * V::WIDTH..][..V::WIDTH]);
                    ((product - mean) * scale).store(to);
                }
            }
            let products = Products { values: &tile, registers: MAX_REGISTERS, pairs: false };
            compiled.forward(&a.site(), &Area { rows: row..row + 1, panels }, Some(&products));
        }
    }
    (a.scratch.products, a.scratch.tile) = (products, tile);
}

/// The products of one row, `[gates, padded N]`.
#[inline(always)]
fn row_products<V: Lanes>(
    isa: V::Isa,
    a: &Recur<'_, V::Elem>,
    row: usize,
    (products, tile): (&mut [V::Elem], &mut [V::Elem]),
) {
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
    let mut panel = 0;
    while panel * V::WIDTH < padded {
        let together = a.packed.together(panel, V::WIDTH);
        product::<V>(isa, a.packed, Rows { values: operand, stride: a.operand_stride }, (0, 1), panel, tile);
        for (r, sums) in tile.chunks_exact(V::WIDTH).enumerate().take(gates * together) {
            let at = if together == 2 { (panel + r) * V::WIDTH } else { r * padded + panel * V::WIDTH };
            products[at..][..V::WIDTH].copy_from_slice(sums);
        }
        panel += together;
    }
}
