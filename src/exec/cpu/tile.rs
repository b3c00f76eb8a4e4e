//! Products of a packed matrix with some rows, in register tiles: rows × registers of units.
//!
//! Every output is one sum over k in ascending order, whatever the row count, the thread count and the position in the
//! block: results do not depend on the batch.

use super::heads::gathered;
use super::packed::Packed;
use super::scratch::Scratch;
use super::stored::{Bf16, F16, Form, Int8, MAX_COLUMNS, Plain, Stored};
use crate::num::Lanes;
use crate::num::Real;
use pulp::{Simd, WithSimd};

/// Registers of units in a tile at most: recurrent gates of a stage ([`crate::Cell::validate`]).
pub(super) const MAX_REGISTERS: usize = crate::model::cell::MAX_RECURRENT_GATES;

/// Rows of a tile at most.
pub(super) const MAX_ROWS: usize = 8;

/// Values of the widest register: f32 in 512 bits.
const MAX_LANES: usize = 16;

/// Values of a tile: products `[row][register][lane]`, [`MAX_REGISTERS`] registers to a row; registers are the gates of one panel, or
/// two panels ([`Packed::together`]).
pub(super) const TILE: usize = MAX_ROWS * MAX_REGISTERS * MAX_LANES;

/// Rows of values, `stride` apart.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a, T> {
    pub values: &'a [T],
    pub stride: usize,
}

impl<'a, T> Rows<'a, T> {
    /// `len` values from `first` on of `M` rows.
    #[inline(always)]
    fn parts<const M: usize>(&self, row: usize, first: usize, len: usize) -> [&'a [T]; M] {
        // No closure: it is not inlined into code for other instruction sets.
        let mut parts = [&self.values[..0]; M];
        for (m, part) in parts.iter_mut().enumerate() {
            *part = &self.values[(row + m) * self.stride + first..][..len];
        }
        parts
    }
}

/// Asks for a value that is read soon, where the machine has a way to. The address may be any.
#[inline(always)]
pub(super) fn prefetch<T>(value: *const T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a hint, which reads nothing; every x86-64 has it.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(value.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = value;
}

/// How many of `left` rows the next tile takes: at most 8, where there are 32 registers, else 4.
#[inline(always)]
pub(super) fn tile_rows<V: Lanes>(left: usize) -> usize {
    match left {
        8.. if tall::<V>() => 8,
        4.. => 4,
        2.. => 2,
        _ => 1,
    }
}

#[inline(always)]
fn tall<V: Lanes>() -> bool {
    <V::Isa as Simd>::REGISTER_COUNT >= 32
}

/// R · operand for 8, 4, 2 rows or one, and one panel of units or two: rows of a tile ([`TILE`]). A function of its own, which all
/// cells share.
#[inline(never)]
pub(super) fn product<V: Lanes>(
    isa: V::Isa,
    packed: &Packed<V::Elem>,
    operand: Rows<'_, V::Elem>,
    (row, rows): (usize, usize),
    panel: usize,
    out: &mut [V::Elem],
) {
    struct Run<'a, V: Lanes> {
        isa: V::Isa,
        packed: &'a Packed<V::Elem>,
        operand: Rows<'a, V::Elem>,
        at: (usize, usize),
        rows: usize,
        out: &'a mut [V::Elem],
    }
    impl<V: Lanes> WithSimd for Run<'_, V> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, _isa: S) {
            let Self { isa, packed, operand, at, rows, out } = self;
            match &packed.stored {
                Stored::Plain(words) => tiles::<V, Plain>(isa, (packed, words), operand, (at, rows), out),
                Stored::Bf16(words) => tiles::<V, Bf16>(isa, (packed, words), operand, (at, rows), out),
                Stored::F16(words) => tiles::<V, F16>(isa, (packed, words), operand, (at, rows), out),
                Stored::Int8(words, scales) => {
                    tiles::<V, Int8>(isa, (packed, words), operand, (at, rows), out);
                    let scales = &scales[at.1 * packed.gates * V::WIDTH..];
                    let registers = packed.gates * packed.together(at.1, V::WIDTH);
                    for row in out.chunks_exact_mut(MAX_REGISTERS * V::WIDTH).take(rows) {
                        for (sum, scale) in
                            row.chunks_exact_mut(V::WIDTH).zip(scales.chunks_exact(V::WIDTH)).take(registers)
                        {
                            (V::load(isa, sum) * V::load(isa, scale)).store(sum);
                        }
                    }
                }
            }
        }
    }
    isa.vectorize(Run::<V> { isa, packed, operand, at: (row, panel), rows, out });
}

/// The same for factors of one form.
#[inline(always)]
fn tiles<V: Lanes, F: Form<V>>(
    isa: V::Isa,
    matrix: (&Packed<V::Elem>, &[F::Word]),
    operand: Rows<'_, V::Elem>,
    (at, rows): ((usize, usize), usize),
    out: &mut [V::Elem],
) {
    match rows {
        8 if tall::<V>() => tile::<V, F, 8>(isa, matrix, operand, at, out),
        4 => tile::<V, F, 4>(isa, matrix, operand, at, out),
        2 => tile::<V, F, 2>(isa, matrix, operand, at, out),
        _ => tile::<V, F, 1>(isa, matrix, operand, at, out),
    }
}

/// The same for `M` rows.
#[inline(always)]
fn tile<V: Lanes, F: Form<V>, const M: usize>(
    isa: V::Isa,
    (packed, words): (&Packed<V::Elem>, &[F::Word]),
    operand: Rows<'_, V::Elem>,
    (row, panel): (usize, usize),
    out: &mut [V::Elem],
) {
    let (heads, width) = (packed.heads, V::WIDTH);
    let Some(first) = heads.shared_start(panel * width, width) else {
        for (m, out) in out.chunks_exact_mut(MAX_REGISTERS * width).enumerate().take(M) {
            let [operand] = operand.parts(row + m, 0, heads.count * heads.depth);
            scattered::<V, F>(isa, (packed, words), operand, panel, out);
        }
        return;
    };
    let operands = operand.parts::<M>(row, first, heads.depth);
    // No closures here: they are not inlined into code for other instruction sets.
    let (stream, other) = (
        &words[packed.stream(panel, 0, width).0..],
        &words[packed.stream(panel, 2.min(packed.gates.saturating_sub(1)), width).0..],
    );
    match (packed.gates, packed.together(panel, width)) {
        (1, 1) => streams::<V, F, M, 1, 1>(isa, [stream], operands, 0, out),
        (1 | 2, _) => streams::<V, F, M, 2, 1>(isa, [stream], operands, 0, out),
        (3, _) => streams::<V, F, M, 3, 1>(isa, [stream], operands, 0, out),
        // Few rows have registers to spare for both streams.
        _ if M <= 2 => streams::<V, F, M, 2, 2>(isa, [stream, other], operands, 0, out),
        // Asking for a matrix beyond a core's own caches 16 columns ahead cost half as much time again (H = 512).
        _ => {
            streams::<V, F, M, 2, 1>(isa, [stream], operands, 0, out);
            streams::<V, F, M, 2, 1>(isa, [other], operands, 2, out);
        }
    }
}

/// Columns per round of the loop below: addresses are computed once per round.
const UNROLL: usize = 4;

/// `M` rows times `S` streams of `R` registers, to the registers of `out` from `first` on.
#[inline(always)]
fn streams<V: Lanes, F: Form<V>, const M: usize, const R: usize, const S: usize>(
    isa: V::Isa,
    streams: [&[F::Word]; S],
    operands: [&[V::Elem]; M],
    first: usize,
    out: &mut [V::Elem],
) {
    let (k, of) = (operands[0].len(), F::COLUMNS);
    for operand in operands {
        assert!(operand.len() == k, "rows of one length");
    }
    for stream in streams {
        assert!(stream.len() >= k.div_ceil(of) * R * V::WIDTH, "a stream of all columns");
    }
    let mut acc = [[[V::splat(isa, V::Elem::default()); R]; S]; M];
    let mut column = 0;
    while column + UNROLL <= k {
        for word in 0..UNROLL / of {
            // SAFETY: column + UNROLL is at most k by the loop's condition; the assertion above is what `one_word` asks for.
            unsafe { one_word::<V, F, M, R, S>(isa, &streams, &operands, (column + word * of, of), &mut acc) };
        }
        column += UNROLL;
    }
    while column < k {
        // SAFETY: as above.
        unsafe { one_word::<V, F, M, R, S>(isa, &streams, &operands, (column, of.min(k - column)), &mut acc) };
        column += of;
    }
    assert!(out.len() >= M * MAX_REGISTERS * V::WIDTH && first + S * R <= MAX_REGISTERS, "a tile of all rows");
    for m in 0..M {
        for s in 0..S {
            for r in 0..R {
                acc[m][s][r].store(&mut out[(m * MAX_REGISTERS + first + s * R + r) * V::WIDTH..][..V::WIDTH]);
            }
        }
    }
}

/// Adds the products of a word's first `count` columns, from `column` on, which is the first of a word.
///
/// # Safety
/// Every operand holds at least `column + count` values, every stream at least `column / COLUMNS + 1` words of `R` registers.
/// (Checked in the innermost loop, the bounds would cost half of the speed: the sums would not stay in registers.)
#[inline(always)]
unsafe fn one_word<V: Lanes, F: Form<V>, const M: usize, const R: usize, const S: usize>(
    isa: V::Isa,
    streams: &[&[F::Word]; S],
    operands: &[&[V::Elem]; M],
    (column, count): (usize, usize),
    acc: &mut [[[V; R]; S]; M],
) {
    for s in 0..S {
        let mut r = [[V::splat(isa, V::Elem::default()); MAX_COLUMNS]; R];
        for (g, r) in r.iter_mut().enumerate() {
            let at = (column / F::COLUMNS * R + g) * V::WIDTH;
            // SAFETY: the caller's promise.
            *r = F::widen(isa, unsafe { streams[s].get_unchecked(at..at + V::WIDTH) });
        }
        #[expect(
            clippy::needless_range_loop,
            reason = "iterators over registers are not inlined into code for other instruction sets"
        )]
        for c in 0..count {
            for m in 0..M {
                // SAFETY: the caller's promise.
                let h = V::splat(isa, unsafe { *operands[m].get_unchecked(column + c) });
                for g in 0..R {
                    acc[m][s][g] = r[g][c].mul_add(h, acc[m][s][g]);
                }
            }
        }
    }
}

/// One row and a panel whose units are of several heads: each lane has its own column of the operand.
#[inline(always)]
fn scattered<V: Lanes, F: Form<V>>(
    isa: V::Isa,
    (packed, words): (&Packed<V::Elem>, &[F::Word]),
    operand: &[V::Elem],
    panel: usize,
    out: &mut [V::Elem],
) {
    let (starts, width) = (packed.heads.starts(panel * V::WIDTH), V::WIDTH);
    let places: [_; MAX_REGISTERS] = std::array::from_fn(|gate| match gate < packed.gates {
        true => packed.stream(panel, gate, width),
        false => packed.stream(panel, 0, width),
    });
    let mut acc = [V::splat(isa, V::Elem::default()); MAX_REGISTERS];
    for column in 0..packed.heads.depth {
        let h = gathered::<V>(isa, operand, &starts, column);
        for (acc, (start, registers, register)) in acc.iter_mut().zip(places).take(packed.gates) {
            let at = start + (column / F::COLUMNS * registers + register) * width;
            let r = F::widen(isa, &words[at..][..width])[column % F::COLUMNS];
            *acc = r.mul_add(h, *acc);
        }
    }
    for (out, acc) in out.chunks_exact_mut(width).zip(acc) {
        acc.store(out);
    }
}

/// `out[row, 0..units] = R · operand[row] + bias` for a packed matrix of one gate; rows of `out` are `stride` apart.
pub(crate) fn multiply<T: Real>(
    packed: &Packed<T>,
    operand: Rows<'_, T>,
    (out, stride): (&mut [T], usize),
    units: usize,
    bias: Option<&[T]>,
) {
    struct Run<'a, T: Real> {
        packed: &'a Packed<T>,
        operand: Rows<'a, T>,
        out: &'a mut [T],
        stride: usize,
        units: usize,
        bias: Option<&'a [T]>,
    }
    impl<T: Real> WithSimd for Run<'_, T> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, isa: S) {
            let Self { packed, operand, out, stride, units, bias } = self;
            let width = <T::Lanes<S> as Lanes>::WIDTH;
            let mut tile = Scratch::any(TILE);
            let (rows, mut panel) = (out.len().div_ceil(stride), 0);
            while panel * width < packed.padded {
                let together = packed.together(panel, width);
                let mut row = 0;
                while row < rows {
                    let m = tile_rows::<T::Lanes<S>>(rows - row);
                    product::<T::Lanes<S>>(isa, packed, operand, (row, m), panel, &mut tile);
                    for (m, sums) in tile.chunks_exact(MAX_REGISTERS * width).enumerate().take(m) {
                        let out = &mut out[(row + m) * stride..][..units];
                        for (register, sums) in sums.chunks_exact(width).enumerate().take(together) {
                            let first = (panel + register) * width;
                            let mut sum = T::Lanes::<S>::load(isa, sums);
                            if let Some(bias) = bias {
                                sum = sum + T::Lanes::<S>::load(isa, &bias[first..]);
                            }
                            sum.store(&mut out[first..]);
                        }
                    }
                    row += m;
                }
                panel += together;
            }
        }
    }
    T::dispatch(Run { packed, operand, out, stride, units, bias });
}

#[cfg(test)]
mod tests {
    use super::super::packed::pack_rows;
    use super::*;
    use crate::model::weights::WeightFormat;

    fn numbers(count: usize, seed: u32) -> Vec<f64> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            f64::from(state >> 8) / f64::from(1 << 24) - 0.5
        };
        (0..count).map(|_| next()).collect()
    }

    /// `rows` of `units` sums over `k`, with `mul_add` of the type.
    fn check<T: Real>(rows: usize, units: usize, k: usize, mul_add: impl Fn(T, T, T) -> T) {
        let [matrix, operand, bias] = [(units * k, 1), (rows * k, 2), (units, 3)]
            .map(|(count, seed)| numbers(count, seed).into_iter().map(T::from_f64).collect::<Vec<T>>());
        let packed = pack_rows(&matrix, units, k, WeightFormat::F32);
        let mut out = vec![T::default(); rows * (units + 3)];
        let operands = Rows { values: &operand, stride: k };
        multiply(&packed, operands, (&mut out, units + 3), units, Some(&bias));
        for (row, operand) in out.chunks_exact(units + 3).zip(operand.chunks_exact(k)) {
            for (unit, (&sum, matrix)) in row.iter().zip(matrix.chunks_exact(k)).enumerate() {
                let zero = T::default();
                let exact = operand.iter().zip(matrix).fold(zero, |sum, (&v, &r)| mul_add(r, v, sum));
                assert!(sum == exact + bias[unit], "{rows} rows, {units} units, k = {k}, {}", T::NAME);
            }
        }
    }

    /// Products in fewer bits are those of the rounded values: bit for bit, or for int8 but for the scale, which comes last.
    #[test]
    fn products_in_fewer_bits_are_those_of_the_rounded_values() {
        for (rows, units, k) in [(1, 5, 1), (2, 17, 6), (4, 40, 9), (13, 33, 130)] {
            let [matrix, operand] = [(units * k, 1), (rows * k, 2)]
                .map(|(count, seed)| numbers(count, seed).into_iter().map(|v| v as f32).collect::<Vec<f32>>());
            let product = |packed: &Packed<f32>| {
                let mut out = vec![f32::NAN; rows * units];
                multiply(packed, Rows { values: &operand, stride: k }, (&mut out, units), units, None);
                out
            };
            for format in WeightFormat::ALL {
                let mut held = matrix.clone();
                for row in held.chunks_exact_mut(k) {
                    let rounded = format.held_row(row);
                    row.iter_mut().zip(rounded).for_each(|(to, v)| *to = v as f32);
                }
                let (own, plain) =
                    (pack_rows(&matrix, units, k, format), pack_rows(&held, units, k, WeightFormat::F32));
                let (own, plain) = (product(&own), product(&plain));
                for (a, b) in own.iter().zip(&plain) {
                    let bound = if format == WeightFormat::Int8 { 1e-6 * (1.0 + b.abs()) } else { 0.0 };
                    assert!((a - b).abs() <= bound, "{format}, {rows} rows, {units} units, k = {k}: {a} {b}");
                }
            }
        }
    }

    /// Every sum is one over k in ascending order, bit for bit, whatever tile it is in.
    #[test]
    fn products_are_sums_in_order() {
        #[cfg(target_arch = "x86_64")]
        if pulp::x86::V3::try_new().is_none() {
            return; // Without fused multiply-add the sums are other ones.
        }
        for rows in [1, 2, 3, 7, 8, 13] {
            for (units, k) in [(1, 1), (16, 3), (17, 4), (40, 9), (70, 33)] {
                check::<f32>(rows, units, k, f32::mul_add);
                check::<f64>(rows, units, k, f64::mul_add);
            }
        }
        // Larger than a core's own caches.
        check::<f32>(9, 160, 1645, f32::mul_add);
    }
}
