//! Matrices as the recurrent products read them.

use super::heads::Heads;
use super::stored::Stored;
use crate::model::stack::StageShape;
use crate::model::weights::WeightFormat;
use crate::num::Lanes;
use crate::num::Real;
use pulp::{Simd, WithSimd};
use std::ops::Range;

/// R in panels of one register's width of units, and the unit parameters `[param][padded N]`.
///
/// A product walks **streams**, `[k][register][lane]` in one piece (in fewer bits several k to a word, [`Stored`]): the gates of a
/// panel, four gates in two streams of two; a matrix of one gate has two neighbouring panels in a stream instead, except for an odd
/// last one.
#[derive(Default)]
pub(crate) struct Packed<T> {
    pub(super) stored: Stored<T>,
    pub(super) unit: Vec<T>,
    pub(super) padded: usize,
    pub(super) heads: Heads,
    pub(super) gates: usize,
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
    T::dispatch(Width::<T>(std::marker::PhantomData))
}

/// Packs the stage's rows of R (`[gates · N, K/n]`, row-major), rounded to `format`, and its unit parameters (`[unit_params, N]`).
pub(crate) fn pack<T: Real>(shape: &StageShape, r: &[T], unit: &[T], format: WeightFormat) -> Packed<T> {
    let gates = if shape.matrix_rows() > 0 { shape.stage.recurrent_gates() } else { 0 };
    let heads = Heads { count: shape.heads, units: shape.head_units(), depth: shape.depth() };
    let mut packed = Packed::empty(heads, gates, format);
    let (n, k, padded) = (shape.units, shape.depth(), packed.padded);
    for (row, values) in r.chunks_exact(k.max(1)).enumerate().take(gates * n) {
        packed.set_row(row / n, row % n, values);
    }
    packed.unit = vec![T::default(); shape.unit_params() * padded];
    for (to, from) in packed.unit.chunks_exact_mut(padded).zip(unit.chunks_exact(n)) {
        to[..n].copy_from_slice(from);
    }
    packed
}

/// Packs a matrix `[rows, k]`, row-major, rounded to `format`, as one of one gate.
pub(crate) fn pack_rows<T: Real>(values: &[T], rows: usize, k: usize, format: WeightFormat) -> Packed<T> {
    let mut packed = Packed::empty(Heads { count: 1, units: rows, depth: k }, 1, format);
    for (row, values) in values.chunks_exact(k.max(1)).enumerate().take(rows) {
        packed.set_row(0, row, values);
    }
    packed
}

/// Packs the transpose of a matrix `[rows, k]`, row-major, as one of one gate: `[k, rows]`.
pub(crate) fn pack_columns<T: Real>(values: &[T], rows: usize, k: usize) -> Packed<T> {
    let columns = |column: usize| values[column..].iter().step_by(k).copied();
    let transposed: Vec<T> = (0..if values.is_empty() { 0 } else { k }).flat_map(columns).collect();
    pack_rows(&transposed, if values.is_empty() { 0 } else { k }, rows, WeightFormat::F32)
}

/// Packs the transpose of the stage's R as a matrix of one gate: `[K, gates · N/n]`, per feature the units of its head. Its
/// operand has the units of a head side by side: `[n][gates][N/n]`.
pub(crate) fn pack_transposed<T: Real>(shape: &StageShape, r: &[T]) -> Packed<T> {
    let (n, k, own) = (shape.units, shape.depth(), shape.head_units());
    let gates = shape.matrix_rows() / n;
    let heads = Heads { count: shape.heads, units: k, depth: gates * own };
    let mut packed = Packed::empty(heads, 1, WeightFormat::F32);
    let mut row = vec![T::default(); heads.depth];
    for feature in 0..shape.heads * k {
        let (head, column) = (feature / k, feature % k);
        for (at, to) in row.iter_mut().enumerate() {
            let (gate, unit) = (at / own, head * own + at % own);
            *to = r[(gate * n + unit) * k + column];
        }
        packed.set_row(0, feature, &row);
    }
    packed
}

impl<T: Real> Packed<T> {
    fn empty(heads: Heads, gates: usize, format: WeightFormat) -> Self {
        let padded = (heads.count * heads.units).next_multiple_of(register_width::<T>());
        let stored = Stored::zeros(format, padded * gates, heads.depth);
        Self { stored, unit: Vec::new(), padded, heads, gates }
    }

    fn set_row(&mut self, gate: usize, unit: usize, values: &[T]) {
        self.stored.set_row(self.place(gate, unit), values);
    }

    /// All panels, in registers of this thread's width.
    pub(super) fn panels(&self) -> Range<usize> {
        0..self.padded / register_width::<T>()
    }

    /// How many panels from `panel` on are in one stream.
    #[inline(always)]
    pub(super) fn together(&self, panel: usize, width: usize) -> usize {
        if self.pairs() && (panel / 2 * 2 + 2) * width <= self.padded { 2 } else { 1 }
    }

    /// Whether two neighbouring panels are in one stream, but for an odd last one.
    #[inline(always)]
    pub(super) fn pairs(&self) -> bool {
        self.gates == 1 && self.heads.count == 1
    }

    /// Where the stream of a panel's gate begins, how many registers it has per word of columns, and which of them is the gate's.
    #[inline(always)]
    pub(super) fn stream(&self, panel: usize, gate: usize, width: usize) -> (usize, usize, usize) {
        let step = self.heads.depth.div_ceil(self.stored.columns()) * width;
        match (self.gates, self.together(panel, width)) {
            (1, 2) => (panel / 2 * 2 * step, 2, panel % 2),
            (4, _) => ((panel * 4 + gate / 2 * 2) * step, 2, gate % 2),
            (gates, _) => (panel * gates * step, gates, gate),
        }
    }

    /// Where the first word of the row of a gate's unit is, how far it is to the next one, and where its scale is.
    fn place(&self, gate: usize, unit: usize) -> (usize, usize, usize) {
        let width = register_width::<T>();
        let (panel, lane) = (unit / width, unit % width);
        let (start, registers, register) = self.stream(panel, gate, width);
        (start + register * width + lane, registers * width, (panel * self.gates + gate) * width + lane)
    }

    /// Rᵀ of every head `[n][K/n, gates · N/n]`, row-major.
    pub(crate) fn transposed(&self, shape: &StageShape) -> Vec<T> {
        let (gates, n) = (shape.stage.recurrent_gates(), shape.units);
        let Heads { units: own, depth, .. } = self.heads;
        let mut plain = vec![T::default(); depth * gates * n];
        for gate in 0..gates {
            for unit in 0..n {
                let place = self.place(gate, unit);
                let to = (unit / own * depth * gates + gate) * own + unit % own;
                let to = plain[to..].iter_mut().step_by(gates * own).take(depth).enumerate();
                to.for_each(|(column, to)| *to = self.stored.value(place, column));
            }
        }
        plain
    }

    /// Row `gate · N + unit` of R times `operand`, k ascending.
    pub(crate) fn dot(&self, gate: usize, unit: usize, operand: &[T]) -> T {
        let operand = &operand[self.heads.start(unit)..][..self.heads.depth];
        let place = self.place(gate, unit);
        let product = |sum, (column, &v)| sum + self.stored.value(place, column) * v;
        operand.iter().enumerate().fold(T::default(), product)
    }
}
