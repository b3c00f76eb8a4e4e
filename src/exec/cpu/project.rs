//! Twin of `project`: x·Wᵀ + b over a block's packed rows; and products over many rows by the `gemm` crate (`gemm.rs`): those of
//! gates that are made again, and of networks.
//!
//! The bits of a row must not depend on how many rows there are. `gemm` takes a different path for a single row or column
//! and cuts K differently for small and large products, so its callers pad single rows to two, and K is cut here, into blocks
//! that it never cuts further. `tests/laws.rs` holds it to that.

use super::threads::for_each;
use super::tile::{MAX_ROWS, Rows, multiply};
use super::{Context, gemm};
use crate::num::Aligned;
use crate::num::Real;
use crate::num::Shared;
use crate::plan::Dispatch;

/// `gemm` never splits a depth up to this.
const DEPTH: usize = 512;
/// Multiply-adds from which a second thread pays.
const PARALLEL_WORK: usize = 1 << 19;
/// Parts of a product per thread.
const PARTS: usize = 1;
/// A multiple of the rows that `gemm` takes at once.
const ROWS: usize = 12;

pub(super) fn project<T: Real>(c: &Context<'_, T>, d: &Dispatch, slots: &mut [Aligned<T>]) {
    let [x, _, pre, _] = slots else { unreachable!("kernel table") };
    let dims = &c.plan.dims[d.dims];
    let (inputs, layer, before) = (dims.input_size as usize, dims.layer as usize, dims.input_rows as usize);
    let first = c.schedule.row_offset(dims.first as usize);
    let rows = c.schedule.row_offset((dims.end as usize).min(c.schedule.steps())) - first;
    let (width, stride) = (c.layers[0].bias.len(), c.rows.width);
    if rows == 0 || width == 0 {
        return;
    }
    for direction in 0..c.directions {
        let weights = &c.layers[layer * c.directions + direction];
        let order = &c.schedule.rows(direction)[first..first + rows];
        // Rows that lie one after the other are read in place.
        let gathered: Vec<T>;
        let values = if order.windows(2).all(|w| w[0] + 1 == w[1]) {
            &x[(before + order[0] as usize) * inputs..][..rows * inputs]
        } else {
            gathered = order.iter().flat_map(|&r| &x[(before + r as usize) * inputs..][..inputs]).copied().collect();
            &gathered
        };
        let out = &mut pre[c.pre_row(dims, direction, first) * stride..][..rows * stride];
        let threads = if rows * inputs * width < PARALLEL_WORK { 1 } else { rayon::current_num_threads() };
        // Several parts per thread: one that comes late leaves some to the others.
        let part = if threads == 1 { rows } else { rows.div_ceil(4 * threads).next_multiple_of(MAX_ROWS) };
        let out = Shared::new(out);
        for_each(rows.div_ceil(part), threads, |n| {
            let (first, rows) = (n * part, part.min(rows - n * part));
            // SAFETY: whole rows of this part alone.
            let out = unsafe { out.part(first * stride, rows * stride) };
            let operand = Rows { values: &values[first * inputs..][..rows * inputs], stride: inputs };
            multiply(&weights.w, operand, (out, stride), width, Some(&weights.bias));
            // The head's outputs are no activations.
            if !d.head {
                out.chunks_exact_mut(stride).for_each(|row| c.store(&mut row[..width]));
            }
        });
    }
}

/// `out[m, n] += lhs[m, k] · rhs[k, n]`, all row-major, rows of `out` `stride` apart (`lhs` given as `[k, m]` if
/// `transposed`), depth in blocks of [`DEPTH`].
pub(crate) fn product<T: Real>(
    lhs: &[T],
    rhs: &[T],
    out: &mut [T],
    (m, k, n): (usize, usize, usize),
    (stride, transposed): (usize, bool),
) {
    assert!(lhs.len() >= m * k && out.len() >= (m - 1) * stride + n);
    let threads = if m * n * k < PARALLEL_WORK { 1 } else { rayon::current_num_threads() };
    // Parts of a few rows each, for threads that come late; two rows at least in each.
    let part = if threads == 1 { m } else { m.div_ceil(PARTS * threads).next_multiple_of(ROWS) };
    let parts = (m / part).max(1);
    let out = Shared::new(out);
    for_each(parts, threads, |n_part| {
        let first = n_part * part;
        let rows = if n_part + 1 == parts { m - first } else { part };
        // SAFETY: whole rows of this part alone.
        let out = unsafe { out.part(first * stride, (rows - 1) * stride + n) };
        let lhs = &lhs[if transposed { first } else { first * k }..];
        one_thread(lhs, rhs, out, (rows, k, n), (stride, transposed.then_some(m)));
    });
}

/// The same on this thread; `transposed` tells the distance of rows of `lhs` where it is transposed.
pub(crate) fn one_thread<T: Real>(
    lhs: &[T],
    rhs: &[T],
    out: &mut [T],
    (m, k, n): (usize, usize, usize),
    (stride, transposed): (usize, Option<usize>),
) {
    let last = transposed.map_or((m - 1) * k + k, |rows| (k - 1) * rows + m);
    assert!(lhs.len() >= last && rhs.len() >= k * n && stride >= n && out.len() >= (m - 1) * stride + n);
    let (one, product) = (T::from_f64(1.0), gemm::product::<T>());
    // Rows of `lhs`, then of `rhs`: between columns, between rows.
    let (left, right) = (if let Some(rows) = transposed { (rows, 1) } else { (1, k) }, (1, n));
    for start in (0..k).step_by(DEPTH) {
        let depth = DEPTH.min(k - start);
        // SAFETY: the strides address m × depth values of `lhs` from column `start`, depth × n of `rhs` from row `start`
        // and m × n of `out`, all within the lengths asserted above; `out` is borrowed mutably and overlaps neither.
        unsafe {
            let (lhs, rhs) = (lhs.as_ptr().add(start * left.0), rhs.as_ptr().add(start * n));
            let [lhs_columns, lhs_rows, rhs_columns, rhs_rows, stride] =
                [left.0, left.1, right.0, right.1, stride].map(|distance| distance as isize);
            let out = out.as_mut_ptr();
            let serial = gemm_common::Parallelism::None;
            // It is fastest where rows of the result lie next to each other: ours are columns of its transpose, outᵀ = rhsᵀ·lhsᵀ.
            if stride > 1 {
                let (lhs, rhs) = ((lhs, lhs_rows, lhs_columns), (rhs, rhs_rows, rhs_columns));
                product(
                    n, m, depth, out, stride, 1, true, rhs.0, rhs.1, rhs.2, lhs.0, lhs.1, lhs.2, one, one, false,
                    false, false, serial,
                );
            } else {
                product(
                    m,
                    n,
                    depth,
                    out,
                    1,
                    stride,
                    true,
                    lhs,
                    lhs_columns,
                    lhs_rows,
                    rhs,
                    rhs_columns,
                    rhs_rows,
                    one,
                    one,
                    false,
                    false,
                    false,
                    serial,
                );
            }
        }
    }
}
