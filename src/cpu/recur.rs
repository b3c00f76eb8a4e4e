//! One stage of one time step for a block of rows (sequences): R · operand, the row statistic if there is one, and the
//! pointwise part as epilogue. Used by the twins of both recurrent kernels.
//!
//! Every output is one sum over k in ascending order, whatever the row count, the thread count and the position in the
//! block: results do not depend on the batch.

use super::heads::{Heads, gathered};
use super::lanes::Lanes;
use super::retrace::{Retrace, advance, backward};
use super::zoneout::Zone;
use crate::cell::{Functions, MAX_VALUES, Pointwise, Product};
use crate::config::StageShape;
use crate::real::Real;
use pulp::{Simd, WithSimd};

/// What a stage kernel reads and writes; `rows` sequences of one direction.
pub struct Recur<'a, T: Real> {
    pub(crate) shape: StageShape,
    pub(crate) act: &'a Functions,
    /// R and the unit parameters, from [`pack`].
    pub(crate) packed: &'a Packed<T>,
    pub(crate) rows: usize,
    /// `[rows, operand_stride]`
    pub(crate) operand: &'a [T],
    pub(crate) operand_stride: usize,
    /// `[rows, pre_stride]`; this stage's x gates and operand-only gates start at `pre_at` (gate-major, N apart). In
    /// training every gate's pre-activation is left there (a normalising stage's before gain and bias).
    pub(crate) pre: &'a mut [T],
    pub(crate) pre_stride: usize,
    pub(crate) pre_at: (usize, usize),
    /// Where training keeps what a normalising stage's product was divided by.
    pub(crate) scale_at: usize,
    pub(crate) train: bool,
    /// `[rows, states, H]`
    pub(crate) state: &'a mut [T],
    /// Zoneout of the stage.
    pub(crate) zone: Option<&'a Zone<T>>,
    /// `[rows, out_stride]`; lanes N..out_stride are set to 0 (they pad the next product).
    pub(crate) out: &'a mut [T],
    pub(crate) out_stride: usize,
    /// `[rows, gates, N]`: the products of a normalising stage, where another kernel made them.
    pub(crate) product: Option<&'a [T]>,
    /// `[gates · padded N]`, only for normalising stages.
    pub(crate) scratch: &'a mut Vec<T>,
}

/// A stage's compiled kernels.
#[derive(Clone, Copy)]
pub struct Compiled<T: Real> {
    /// Product and pointwise part.
    pub(crate) recur: fn(&mut Recur<'_, T>),
    /// The pointwise part's effect on the states, from kept pre-activations.
    pub(crate) advance: fn(&mut Retrace<'_, T>),
    /// The adjoint of the pointwise part.
    pub(crate) backward: fn(&mut Retrace<'_, T>),
}

impl<T: Real> Compiled<T> {
    /// Compiles `P`.
    pub(crate) const fn of<P: Pointwise>() -> Self {
        Self { recur: recur::<P, T>, advance: advance::<P, T>, backward: backward::<P, T> }
    }
}

/// R as panels of one register's width of units, `[panel][k][gate][lane]`, and the unit parameters `[param][padded N]`.
#[derive(Default)]
pub(crate) struct Packed<T> {
    matrix: Vec<T>,
    pub(super) unit: Vec<T>,
    pub(super) padded: usize,
    heads: Heads,
}

/// Values per register on this machine.
pub(crate) fn register_width<T: Real>() -> usize {
    struct Width<T>(std::marker::PhantomData<T>);
    impl<T: Real> WithSimd for Width<T> {
        type Output = usize;
        #[inline(always)]
        fn with_simd<S: Simd>(self, _isa: S) -> usize {
            <T::Lanes<S> as Lanes>::WIDTH
        }
    }
    pulp::Arch::new().dispatch(Width::<T>(std::marker::PhantomData))
}

/// Packs the stage's rows of R (`[gates · N, K/n]`, row-major) and its unit parameters (`[unit_params, N]`).
pub(crate) fn pack<T: Real>(shape: &StageShape, r: &[T], unit: &[T]) -> Packed<T> {
    let gates = if shape.matrix_rows() > 0 { shape.stage.recurrent_gates() } else { 0 };
    let heads = Heads { count: shape.heads, units: shape.head_units(), depth: shape.depth() };
    pack_matrix(heads, gates, r, shape.unit_params(), unit)
}

/// Packs the transpose of the stage's R as a matrix of one gate: `[K, gates · N/n]`, per feature the units of its head. Its
/// operand has the units of a head side by side: `[n][gates][N/n]`.
pub(crate) fn pack_transposed<T: Real>(shape: &StageShape, r: &[T]) -> Packed<T> {
    let (n, k, own) = (shape.units, shape.depth(), shape.head_units());
    let gates = shape.matrix_rows() / n;
    let row = |feature: usize| {
        let units = (0..gates).flat_map(move |gate| (0..own).map(move |j| gate * n + feature / k * own + j));
        units.map(move |row| r[row * k + feature % k])
    };
    let transposed: Vec<T> = (0..shape.operand).flat_map(row).collect();
    pack_matrix(Heads { count: shape.heads, units: k, depth: gates * own }, 1, &transposed, 0, &[])
}

fn pack_matrix<T: Real>(heads: Heads, gates: usize, r: &[T], params: usize, unit: &[T]) -> Packed<T> {
    let width = register_width::<T>();
    let (n, k) = (heads.count * heads.units, heads.depth);
    let padded = n.next_multiple_of(width);
    let mut matrix = vec![T::default(); padded * k * gates];
    for unit in 0..n {
        let (panel, lane) = (unit / width, unit % width);
        for gate in 0..gates {
            let row = &r[(gate * n + unit) * k..][..k];
            for (column, &v) in row.iter().enumerate() {
                matrix[((panel * k + column) * gates + gate) * width + lane] = v;
            }
        }
    }
    let mut padded_unit = vec![T::default(); params * padded];
    for p in 0..params {
        padded_unit[p * padded..][..n].copy_from_slice(&unit[p * n..][..n]);
    }
    Packed { matrix, unit: padded_unit, padded, heads }
}

impl<T: Real> Packed<T> {
    /// Rᵀ of every head `[n][K/n, gates · N/n]`, row-major.
    pub(crate) fn transposed(&self, shape: &StageShape) -> Vec<T> {
        let (width, gates, n) = (register_width::<T>(), shape.stage.recurrent_gates(), shape.units);
        let Heads { count: heads, units: own, depth } = self.heads;
        let mut plain = vec![T::default(); depth * gates * n];
        for (index, lanes) in self.matrix.chunks_exact(width).enumerate() {
            let (gate, column, first) = (index % gates, index / gates % depth, index / gates / depth * width);
            let count = width.min(n - first);
            if heads == 1 {
                plain[(column * gates + gate) * n + first..][..count].copy_from_slice(&lanes[..count]);
                continue;
            }
            for (unit, &value) in (first..n).zip(lanes) {
                plain[((unit / own * depth + column) * gates + gate) * own + unit % own] = value;
            }
        }
        plain
    }

    /// Row `gate · N + unit` of R times `operand`, k ascending.
    pub(crate) fn dot(&self, shape: &StageShape, gate: usize, unit: usize, operand: &[T]) -> T {
        let (width, gates) = (register_width::<T>(), shape.stage.recurrent_gates());
        let (depth, operand) = (self.heads.depth, &operand[self.heads.start(unit)..]);
        let at = |column: usize| ((unit / width * depth + column) * gates + gate) * width + unit % width;
        (0..depth).fold(T::default(), |sum, column| sum + self.matrix[at(column)] * operand[column])
    }
}

/// `out[row, 0..N] = R · operand[row]` (rows of `depth` values) for a packed matrix of one gate: the transposed products of the backward pass.
pub(crate) fn multiply<T: Real>(packed: &Packed<T>, depth: usize, operand: &[T], out: &mut [T], units: usize) {
    struct Run<'a, T: Real>(&'a Packed<T>, usize, &'a [T], &'a mut [T], usize);
    impl<T: Real> WithSimd for Run<'_, T> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, isa: S) {
            let Self(packed, depth, operand, out, units) = self;
            let rows = out.len() / units;
            let mut row = 0;
            while row < rows {
                let m = if rows - row >= 4 { 4 } else { 1 };
                for panel in 0..packed.padded / <T::Lanes<S> as Lanes>::WIDTH {
                    if m == 4 {
                        multiply_rows::<T::Lanes<S>, 4>(isa, packed, depth, operand, out, units, (row, panel));
                    } else {
                        multiply_rows::<T::Lanes<S>, 1>(isa, packed, depth, operand, out, units, (row, panel));
                    }
                }
                row += m;
            }
        }
    }
    pulp::Arch::new().dispatch(Run(packed, depth, operand, out, units));
}

#[inline(always)]
fn multiply_rows<V: Lanes, const M: usize>(
    isa: V::Isa,
    packed: &Packed<V::Elem>,
    depth: usize,
    operand: &[V::Elem],
    out: &mut [V::Elem],
    units: usize,
    (row, panel): (usize, usize),
) {
    let mut acc = [V::splat(isa, V::Elem::default()); M];
    let own = packed.heads.depth;
    let columns = packed.matrix[panel * own * V::WIDTH..][..own * V::WIDTH].chunks_exact(V::WIDTH);
    let operands: [&[V::Elem]; M] = std::array::from_fn(|m| &operand[(row + m) * depth..][..depth]);
    if let Some(start) = packed.heads.shared_start(panel * V::WIDTH, V::WIDTH) {
        let operands = operands.map(|operand| &operand[start..][..own]);
        for (column, r) in columns.enumerate() {
            let r = V::load(isa, r);
            for m in 0..M {
                acc[m] = r.mul_add(V::splat(isa, operands[m][column]), acc[m]);
            }
        }
    } else {
        let starts = packed.heads.starts(panel * V::WIDTH);
        for (column, r) in columns.enumerate() {
            let r = V::load(isa, r);
            for m in 0..M {
                acc[m] = r.mul_add(gathered::<V>(isa, operands[m], &starts, column), acc[m]);
            }
        }
    }
    for (m, acc) in acc.iter().enumerate() {
        acc.store(&mut out[(row + m) * units..][..units][panel * V::WIDTH..]);
    }
}

/// The stage kernel of pointwise part `P` in precision `T`.
pub(crate) fn recur<P: Pointwise, T: Real>(args: &mut Recur<'_, T>) {
    struct Run<'a, 'b, P, T: Real>(&'a mut Recur<'b, T>, std::marker::PhantomData<P>);
    impl<P: Pointwise, T: Real> WithSimd for Run<'_, '_, P, T> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, isa: S) {
            if self.0.shape.stage.normalise {
                normalised::<P, T::Lanes<S>>(isa, self.0);
            } else {
                fused::<P, T::Lanes<S>>(isa, self.0);
            }
        }
    }
    pulp::Arch::new().dispatch(Run::<P, T>(args, std::marker::PhantomData));
}

/// Gates of a stage at most (the size of the register arrays below; asserted by a test over the registry).
const MAX_GATES: usize = 4;

/// Rows of a register tile at most.
const MAX_ROWS: usize = 8;

#[inline(always)]
fn fused<P: Pointwise, V: Lanes>(isa: V::Isa, a: &mut Recur<'_, V::Elem>) {
    let mut acc = [[V::splat(isa, V::Elem::default()); MAX_GATES]; MAX_ROWS];
    let mut row = 0;
    while row < a.rows {
        let rows = match a.rows - row {
            left if left >= tall_rows::<V>() => tall_rows::<V>(),
            4.. => 4,
            2.. => 2,
            _ => 1,
        };
        for panel in 0..a.packed.padded / V::WIDTH {
            product(isa, a, (row, rows), panel, &mut acc);
            for (m, acc) in acc.iter().enumerate().take(rows) {
                pointwise::<P, V>(isa, a, row + m, panel * V::WIDTH, acc);
            }
        }
        pad(a, row, rows);
        row += rows;
    }
}

/// Rows of the tallest register tile: 8 where there are 32 registers.
#[inline(always)]
fn tall_rows<V: Lanes>() -> usize {
    if <V::Isa as Simd>::REGISTER_COUNT >= 32 { MAX_ROWS } else { 4 }
}

/// R · operand for 8, 4, 2 rows or one, and one panel of units. A function of its own, which all cells share: inlined into every
/// cell's kernel it took the compiler minutes.
#[inline(never)]
fn product<V: Lanes>(
    isa: V::Isa,
    a: &Recur<'_, V::Elem>,
    (row, rows): (usize, usize),
    panel: usize,
    acc: &mut [[V; MAX_GATES]; MAX_ROWS],
) {
    struct Run<'a, 'b, V: Lanes> {
        isa: V::Isa,
        a: &'a Recur<'b, V::Elem>,
        at: (usize, usize),
        rows: usize,
        acc: &'a mut [[V; MAX_GATES]; MAX_ROWS],
    }
    impl<V: Lanes> WithSimd for Run<'_, '_, V> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, _isa: S) {
            match self.rows {
                8 => tile::<V, 8>(self.isa, self.a, self.at, self.acc),
                4 => tile::<V, 4>(self.isa, self.a, self.at, self.acc),
                2 => tile::<V, 2>(self.isa, self.a, self.at, self.acc),
                _ => tile::<V, 1>(self.isa, self.a, self.at, self.acc),
            }
        }
    }
    isa.vectorize(Run { isa, a, at: (row, panel), rows, acc });
}

/// The same for `M` rows: gates in groups that fit the registers.
#[inline(always)]
fn tile<V: Lanes, const M: usize>(
    isa: V::Isa,
    a: &Recur<'_, V::Elem>,
    (row, panel): (usize, usize),
    acc: &mut [[V; MAX_GATES]; MAX_ROWS],
) {
    if a.shape.stage.product == Product::Identity {
        for (m, acc) in acc.iter_mut().enumerate().take(M) {
            acc[0] = V::load(isa, &a.operand[(row + m) * a.operand_stride..][..a.shape.units][panel * V::WIDTH..]);
        }
        return;
    }
    match a.shape.stage.recurrent_gates() {
        1 => group::<V, M, 1, 1>(isa, a, row, panel, 0, acc),
        2 => group::<V, M, 2, 2>(isa, a, row, panel, 0, acc),
        3 => group::<V, M, 3, 3>(isa, a, row, panel, 0, acc),
        _ if M <= 2 => group::<V, M, 4, 4>(isa, a, row, panel, 0, acc),
        _ => {
            group::<V, M, 4, 2>(isa, a, row, panel, 0, acc);
            group::<V, M, 4, 2>(isa, a, row, panel, 2, acc);
        }
    }
}

/// `G` of the stage's `ALL` gates, from gate `first`.
#[inline(always)]
fn group<V: Lanes, const M: usize, const ALL: usize, const G: usize>(
    isa: V::Isa,
    a: &Recur<'_, V::Elem>,
    row: usize,
    panel: usize,
    first: usize,
    out: &mut [[V; MAX_GATES]; MAX_ROWS],
) {
    let k = a.shape.depth();
    let heads = a.packed.heads;
    let mut acc = [[V::splat(isa, V::Elem::default()); G]; M];
    let columns = a.packed.matrix[panel * k * ALL * V::WIDTH..][..k * ALL * V::WIDTH].chunks_exact(ALL * V::WIDTH);
    let operands: [&[V::Elem]; M] =
        std::array::from_fn(|m| &a.operand[(row + m) * a.operand_stride..][..a.shape.operand]);
    if let Some(start) = heads.shared_start(panel * V::WIDTH, V::WIDTH) {
        let operands = operands.map(|operand| &operand[start..][..k]);
        for (column, r) in columns.enumerate() {
            let r: [V; G] = std::array::from_fn(|g| V::load(isa, &r[(first + g) * V::WIDTH..][..V::WIDTH]));
            for m in 0..M {
                let h = V::splat(isa, operands[m][column]);
                for g in 0..G {
                    acc[m][g] = r[g].mul_add(h, acc[m][g]);
                }
            }
        }
    } else {
        let starts = heads.starts(panel * V::WIDTH);
        for (column, r) in columns.enumerate() {
            let r: [V; G] = std::array::from_fn(|g| V::load(isa, &r[(first + g) * V::WIDTH..][..V::WIDTH]));
            for m in 0..M {
                let h = gathered::<V>(isa, operands[m], &starts, column);
                for g in 0..G {
                    acc[m][g] = r[g].mul_add(h, acc[m][g]);
                }
            }
        }
    }
    for m in 0..M {
        for g in 0..G {
            out[m][first + g] = acc[m][g];
        }
    }
}

/// The pointwise part of one row and one register of units, from unit `first`.
#[inline(always)]
fn pointwise<P: Pointwise, V: Lanes>(
    isa: V::Isa,
    a: &mut Recur<'_, V::Elem>,
    row: usize,
    first: usize,
    recurrent: &[V; MAX_GATES],
) {
    let zero = V::splat(isa, V::Elem::default());
    let (stage, n) = (&a.shape.stage, a.shape.units);
    let (gx, both) = (stage.input_gates(), stage.both_gates());
    let (only, own) = (stage.recurrent_only_gates(), a.shape.unit_params() - a.shape.params);
    let unit = |p: usize| V::load(isa, &a.packed.unit[p * a.packed.padded + first..][..V::WIDTH]);

    let mut pre = [zero; MAX_VALUES];
    let place = |g: usize| row * a.pre_stride + if g < gx { a.pre_at.0 + g * n } else { a.pre_at.1 + (g - gx) * n };
    for (g, pre) in pre.iter_mut().enumerate().take(gx) {
        *pre = V::load(isa, &a.pre[place(g)..][..n][first..]);
    }
    for (g, pre) in pre.iter_mut().enumerate().take(both) {
        *pre = *pre + recurrent[g];
    }
    for g in 0..only {
        pre[gx + g] = if stage.normalise { recurrent[both + g] } else { recurrent[both + g] + unit(g) };
    }
    if a.train {
        for (g, pre) in pre.iter().enumerate().take(gx + only) {
            pre.store(&mut a.pre[place(g)..][..n][first..]);
        }
    }
    if stage.normalise {
        for (g, pre) in pre.iter_mut().enumerate().take(gx + only) {
            *pre = scaled(isa, &a.shape, a.packed, g, first, *pre);
        }
    }
    let mut params = [zero; MAX_VALUES];
    for p in 0..a.shape.params {
        params[p] = unit(own + p);
    }
    let mut state = [zero; MAX_VALUES];
    let (states, h) = (a.shape.states, a.shape.state_stride);
    let memory = &mut a.state[row * states * h..][..states * h];
    for s in 0..states {
        state[s] = V::load(isa, &memory[s * h..][..n][first..]);
    }
    let before = state;
    let mut out = P::forward(a.act, &pre, &mut state, &params);
    if let Some(zone) = a.zone {
        out = zone.forward(isa, (row, first), &before, &mut state, out);
    }
    for s in 0..states {
        state[s].store(&mut memory[s * h..][..n][first..]);
    }
    out.store(&mut a.out[row * a.out_stride..][..n][first..]);
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
fn unit_param<V: Lanes>(isa: V::Isa, packed: &Packed<V::Elem>, p: usize, first: usize) -> V {
    V::load(isa, &packed.unit[p * packed.padded + first..][..V::WIDTH])
}

/// Zeroes the padding lanes of `rows` rows of `out`.
#[inline(always)]
fn pad<T: Real>(a: &mut Recur<'_, T>, row: usize, rows: usize) {
    for r in row..row + rows {
        a.out[r * a.out_stride..][a.shape.units..a.out_stride].fill(T::default());
    }
}

/// A normalising stage: products of all units first, then mean and variance of the row, then the pointwise part.
#[inline(always)]
fn normalised<P: Pointwise, V: Lanes>(isa: V::Isa, a: &mut Recur<'_, V::Elem>) {
    let (gates, n, padded) = (a.shape.stage.recurrent_gates(), a.shape.units, a.packed.padded);
    let mut scratch = std::mem::take(a.scratch);
    scratch.resize(gates * padded, V::Elem::default());
    for row in 0..a.rows {
        if let Some(products) = a.product {
            for g in 0..gates {
                scratch[g * padded..][..n].copy_from_slice(&products[(row * gates + g) * n..][..n]);
            }
        }
        for panel in 0..if a.product.is_some() { 0 } else { padded / V::WIDTH } {
            let mut acc = [[V::splat(isa, V::Elem::default()); MAX_GATES]; MAX_ROWS];
            product(isa, a, (row, 1), panel, &mut acc);
            for g in 0..gates {
                acc[0][g].store(&mut scratch[g * padded + panel * V::WIDTH..][..V::WIDTH]);
            }
        }
        let values = || (0..gates).flat_map(|g| scratch[g * padded..][..n].iter().map(|v| v.to_f64()));
        let count = (gates * n) as f64;
        let mean = values().sum::<f64>() / count;
        let variance = values().map(|v| (v - mean) * (v - mean)).sum::<f64>() / count;
        let mean = V::splat(isa, V::Elem::from_f64(mean));
        let scale = V::Elem::from_f64(1.0 / (variance + crate::kernels::NORMALISE_EPSILON).sqrt());
        if a.train {
            a.pre[row * a.pre_stride + a.scale_at] = scale;
        }
        let scale = V::splat(isa, scale);
        for panel in 0..padded / V::WIDTH {
            let mut acc = [mean; MAX_GATES];
            for (g, acc) in acc.iter_mut().enumerate().take(gates) {
                *acc = (V::load(isa, &scratch[g * padded + panel * V::WIDTH..][..V::WIDTH]) - mean) * scale;
            }
            pointwise::<P, V>(isa, a, row, panel * V::WIDTH, &acc);
        }
    }
    *a.scratch = scratch;
    pad(a, 0, a.rows);
}
