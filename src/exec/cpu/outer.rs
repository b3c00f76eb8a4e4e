//! Sums of outer products over many rows: what the gradients of matrices are. The product of two matrices in register tiles; rows are
//! read where they lie.
//!
//! Every sum is made of blocks of [`BLOCK`] rows in order, each added up by itself first, whatever the number of threads: its bits depend
//! on nothing else.

use super::scratch::Scratch;
use super::threads::for_each;
use crate::num::Lanes;
use crate::num::Real;
use crate::num::Shared;
use pulp::{Simd, WithSimd};
use std::ops::Range;

/// Rows that are added up at a time: their part of a tile's left side stays in the first-level cache.
const BLOCK: usize = 256;
/// Multiply-adds from which a second thread pays.
const PARALLEL_WORK: usize = 1 << 19;
/// Registers of a tile side by side.
const REGISTERS: usize = 2;

/// Rows of pairs (left, right), and which of their values count.
pub(super) struct Outer<'a, T> {
    pub rows: &'a [(&'a [T], &'a [T])],
    /// Values of the left sides.
    pub left: &'a [usize],
    /// Values of the right sides.
    pub right: Range<usize>,
}

impl<T: Real> Outer<'_, T> {
    /// out[place(i)][j] += Σ left[i] · right[j] over the rows, and in the column behind the last: += Σ left[i]. No two places are
    /// the same.
    pub fn add_to(&self, out: &mut [T], place: impl Fn(usize) -> usize + Sync) {
        let (m, n) = (self.left.len(), self.right.len());
        let tiles = m.div_ceil(tile_rows::<T>());
        let threads = if self.rows.len() * m * n < PARALLEL_WORK { 1 } else { rayon::current_num_threads() };
        let parts = threads.min(tiles);
        let out = Shared::new(out);
        for_each(parts, threads, |part| {
            let tiles = tiles * part / parts..tiles * (part + 1) / parts;
            T::dispatch(Part { outer: self, tiles, out: &out, place: &place });
        });
    }
}

/// Rows of a tile, for the registers of this thread.
fn tile_rows<T: Real>() -> usize {
    struct Rows<T>(std::marker::PhantomData<T>);
    impl<T: Real> WithSimd for Rows<T> {
        type Output = usize;
        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) -> usize {
            if tall::<S>() { TALL } else { LOW }
        }
    }
    T::dispatch(Rows::<T>(std::marker::PhantomData))
}

/// Rows of a tile where there are 32 registers, and where there are 16.
const TALL: usize = 12;
const LOW: usize = 6;

#[inline(always)]
fn tall<S: Simd>() -> bool {
    S::REGISTER_COUNT >= 32
}

/// Some tiles of rows of the result.
struct Part<'a, 'b, T, P> {
    outer: &'a Outer<'b, T>,
    tiles: Range<usize>,
    out: &'a Shared<'a, T>,
    place: &'a P,
}

impl<T: Real, P: Fn(usize) -> usize> WithSimd for Part<'_, '_, T, P> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, isa: S) {
        if tall::<S>() { self.run::<T::Lanes<S>, TALL>(isa) } else { self.run::<T::Lanes<S>, LOW>(isa) }
    }
}

impl<T: Real, P: Fn(usize) -> usize> Part<'_, '_, T, P> {
    #[inline(always)]
    fn run<V: Lanes<Elem = T>, const M: usize>(self, isa: V::Isa) {
        let Self { outer, tiles, out, place } = self;
        let (m, n, step) = (outer.left.len(), outer.right.len(), REGISTERS * V::WIDTH);
        let panels = n.div_ceil(step);
        let most = BLOCK.min(outer.rows.len());
        let (mut right, mut left) = (Scratch::any(panels * most * step), Scratch::any(most * M));
        for rows in outer.rows.chunks(BLOCK) {
            pack_right(&mut right, rows, outer.right.clone(), step);
            for tile in tiles.clone() {
                let own = &outer.left[tile * M..m.min((tile + 1) * M)];
                pack_left::<T, M>(&mut left, rows, own);
                for panel in 0..panels {
                    let sums = products::<V, M>(isa, &left[..rows.len() * M], &right[panel * rows.len() * step..]);
                    for (i, sums) in sums.iter().enumerate().take(own.len()) {
                        let (first, lanes) = (panel * step, step.min(n - panel * step));
                        // SAFETY: this row of the result is this part's alone, and no two of its own are the same.
                        let out = unsafe { out.part(place(tile * M + i) * (n + 1) + first, lanes) };
                        for (out, &sum) in out.chunks_mut(V::WIDTH).zip(sums) {
                            (V::load(isa, out) + sum).store(out);
                        }
                    }
                }
                let mut sums = [T::default(); M];
                for row in left[..rows.len() * M].chunks_exact(M) {
                    sums.iter_mut().zip(row).for_each(|(sum, &v)| *sum = *sum + v);
                }
                for (i, &sum) in sums.iter().enumerate().take(own.len()) {
                    // SAFETY: as above.
                    let bias = unsafe { out.part(place(tile * M + i) * (n + 1) + n, 1) };
                    bias[0] = bias[0] + sum;
                }
            }
        }
    }
}

/// The right sides, `[panel][row][step]`; zeros behind the last value.
#[inline(always)]
fn pack_right<T: Real>(to: &mut [T], rows: &[(&[T], &[T])], values: Range<usize>, step: usize) {
    for (panel, to) in to.chunks_exact_mut(rows.len() * step).enumerate().take(values.len().div_ceil(step)) {
        let first = values.start + panel * step;
        let lanes = step.min(values.end - first);
        for (to, (_, right)) in to.chunks_exact_mut(step).zip(rows) {
            to[..lanes].copy_from_slice(&right[first..][..lanes]);
            to[lanes..].fill(T::default());
        }
    }
}

/// The left sides of a tile, `[row][M]`; zeros where it has fewer.
#[inline(always)]
fn pack_left<T: Real, const M: usize>(to: &mut [T], rows: &[(&[T], &[T])], values: &[usize]) {
    let side_by_side = values.len() == M && values.windows(2).all(|v| v[0] + 1 == v[1]);
    for (to, (left, _)) in to.chunks_exact_mut(M).zip(rows) {
        if side_by_side {
            to.copy_from_slice(&left[values[0]..][..M]);
        } else {
            to.fill(T::default());
            to.iter_mut().zip(values).for_each(|(to, &value)| *to = left[value]);
        }
    }
}

/// Σ left[row][i] · right[row][j] of a tile.
#[inline(always)]
fn products<V: Lanes, const M: usize>(isa: V::Isa, left: &[V::Elem], right: &[V::Elem]) -> [[V; REGISTERS]; M] {
    let mut sums = [[V::splat(isa, V::Elem::default()); REGISTERS]; M];
    let (left, _) = left.as_chunks::<M>();
    for (left, right) in left.iter().zip(right.chunks_exact(REGISTERS * V::WIDTH)) {
        let (a, b) = right.split_at(V::WIDTH);
        let own = [V::load(isa, a), V::load(isa, b)];
        for m in 0..M {
            let left = V::splat(isa, left[m]);
            for r in 0..REGISTERS {
                sums[m][r] = own[r].mul_add(left, sums[m][r]);
            }
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::num::{InstructionSet, instructions};

    /// Odd sizes, values that are not side by side, several blocks: in f64 against a plain loop; and the same bits with any threads.
    #[test]
    fn sums_are_those_of_a_plain_loop() {
        let number = |n: usize| (n * 7_919 % 1_013) as f64 / 1_013.0 - 0.5;
        for (count, m, n) in [(1, 1, 1), (3, 7, 2), (300, 25, 17), (513, 12, 33), (40, 130, 70)] {
            let (lefts, rights): (Vec<Vec<f64>>, Vec<Vec<f64>>) = (0..count)
                .map(|k| {
                    (
                        (0..2 * m).map(|i| number(k * 31 + i)).collect(),
                        (0..n + 3).map(|j| number(k * 17 + j + 5)).collect(),
                    )
                })
                .unzip();
            let rows: Vec<(&[f64], &[f64])> = lefts.iter().zip(&rights).map(|(l, r)| (&l[..], &r[..])).collect();
            let odd: Vec<usize> = (0..m).map(|i| 2 * i + 1).collect();
            for left in [(0..m).collect::<Vec<usize>>(), odd] {
                let outer = Outer { rows: &rows, left: &left, right: 2..2 + n };
                let run = || {
                    let mut out = vec![1.0; m * (n + 1)];
                    outer.add_to(&mut out, |i| m - 1 - i);
                    out
                };
                let out = run();
                for (i, &from) in left.iter().enumerate() {
                    let row = &out[(m - 1 - i) * (n + 1)..][..n + 1];
                    for (j, &sum) in row.iter().enumerate() {
                        let one = |k: usize| lefts[k][from] * rights[k].get(2 + j).filter(|_| j < n).unwrap_or(&1.0);
                        let exact = 1.0 + (0..count).map(one).sum::<f64>();
                        assert!((sum - exact).abs() < 1e-11, "{count} {m} {n}: {sum} {exact}");
                    }
                }
                let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().expect("threads");
                assert_eq!(pool.install(run), out);
                let narrow = instructions::with(InstructionSet::Portable, run);
                assert!(narrow.iter().zip(&out).all(|(a, b)| (a - b).abs() < 1e-11));
            }
        }
    }
}
