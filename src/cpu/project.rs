//! Twin of `project`: x·Wᵀ + b over a block's packed rows, by the `gemm` crate.
//!
//! The bits of a row must not depend on how many rows there are. `gemm` takes a different path for a single row or column
//! and cuts K differently for small and large products, so single rows are padded to two and K is cut here, into blocks
//! that it never cuts further. `tests/laws.rs` holds it to that.

use super::Context;
use crate::plan::Dispatch;
use crate::real::Real;

/// `gemm` never splits a depth up to this.
const DEPTH: usize = 512;
/// Multiply-adds from which a second thread pays.
const PARALLEL_WORK: usize = 1 << 21;

pub(super) fn project<T: Real>(c: &Context<'_, T>, d: &Dispatch, slots: &mut [Vec<T>]) {
    let [x, _, pre, _] = slots else { unreachable!("kernel table") };
    let dims = &c.plan.dims[d.dims];
    let (inputs, layer, before) = (dims.input_size as usize, dims.layer as usize, dims.input_rows as usize);
    let first = c.schedule.row_offset(dims.first as usize);
    let rows = c.schedule.row_offset((dims.end as usize).min(c.schedule.steps())) - first;
    let directions = c.directions;
    let width = c.layers[0].bias.len();
    for direction in 0..directions {
        let weights = &c.layers[layer * directions + direction];
        let order = &c.schedule.rows(direction)[first..first + rows];
        // Rows that lie one after the other are read in place.
        let gathered: Vec<T>;
        let in_order = rows > 1 && order.windows(2).all(|w| w[0] + 1 == w[1]);
        let lhs = if in_order {
            &x[(before + order[0] as usize) * inputs..][..rows * inputs]
        } else {
            let twice = if rows == 1 { 2 } else { 1 };
            gathered = order
                .iter()
                .flat_map(|&r| std::iter::repeat_n(&x[(before + r as usize) * inputs..][..inputs], twice))
                .flatten()
                .copied()
                .collect();
            &gathered
        };
        let stride = c.rows.width;
        let out = &mut pre[c.pre_row(dims, direction, first) * stride..][..rows * stride];
        for row in out.chunks_exact_mut(stride) {
            row[..width].copy_from_slice(&weights.bias);
        }
        if rows == 1 || width == 1 {
            // At least two rows and two columns, whatever the batch.
            let columns = width.max(2);
            let mut padded = vec![T::default(); rows.max(2) * columns];
            for (to, from) in padded.chunks_exact_mut(columns).zip(out.chunks_exact(stride)) {
                to[..width].copy_from_slice(&from[..width]);
            }
            let mut wide = Vec::new();
            let w = if width == 1 {
                wide.extend(weights.w.iter().flat_map(|&v| [v, T::default()]));
                &wide
            } else {
                &weights.w
            };
            product(lhs, w, &mut padded, (rows.max(2), inputs, columns), (columns, false));
            for (to, from) in out.chunks_exact_mut(stride).zip(padded.chunks_exact(columns)) {
                to[..width].copy_from_slice(&from[..width]);
            }
        } else {
            product(lhs, &weights.w, out, (rows, inputs, width), (stride, false));
        }
        // The head's outputs are no activations.
        if !d.head {
            out.chunks_exact_mut(stride).for_each(|row| c.store(&mut row[..width]));
        }
    }
}

/// `out[m, n] += lhs[m, k] · rhs[k, n]`, all row-major, rows of `out` `stride` apart (`lhs` given as `[k, m]` if
/// `transposed`), depth in blocks of [`DEPTH`].
pub(super) fn product<T: Real>(
    lhs: &[T],
    rhs: &[T],
    out: &mut [T],
    (m, k, n): (usize, usize, usize),
    (stride, transposed): (usize, bool),
) {
    assert!(lhs.len() >= m * k && rhs.len() >= k * n && stride >= n && out.len() >= (m - 1) * stride + n);
    let one = T::from_f64(1.0);
    let parallel = m * n * k >= PARALLEL_WORK && rayon::current_num_threads() > 1;
    let parallelism = if parallel { gemm::Parallelism::Rayon(0) } else { gemm::Parallelism::None };
    for start in (0..k).step_by(DEPTH) {
        let depth = DEPTH.min(k - start);
        // SAFETY: the strides address m × depth values of `lhs` from column `start`, depth × n of `rhs` from row `start`
        // and m × n of `out`, all within the lengths asserted above; `out` is borrowed mutably and overlaps neither.
        unsafe {
            gemm::gemm(
                m,
                n,
                depth,
                out.as_mut_ptr(),
                1,
                stride as isize,
                true,
                lhs.as_ptr().add(if transposed { start * m } else { start }),
                if transposed { m as isize } else { 1 },
                if transposed { 1 } else { k as isize },
                rhs.as_ptr().add(start * n),
                1,
                n as isize,
                one,
                one,
                false,
                false,
                false,
                parallelism,
            );
        }
    }
}
