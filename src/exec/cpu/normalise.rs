//! Twins of `normalise_input` and `step_normalise_backward`: row statistics of normalising stages and their adjoints. Sums are made
//! in f64, whatever the precision.

use super::{Context, Pair};
use crate::kernels::NORMALISE_EPSILON;
use crate::num::Aligned;
use crate::num::Real;
use crate::plan::Dispatch;
use rayon::prelude::*;

/// Values of a block from which a second thread pays.
const PARALLEL_WORK: usize = 1 << 17;

/// (v − mean) / σ in place, with σ = √(var + ε); returns 1/σ.
pub(super) fn normalise<T: Real>(values: &mut [T]) -> T {
    let count = values.len() as f64;
    let mean = values.iter().map(|v| v.to_f64()).sum::<f64>() / count;
    let variance = values.iter().map(|v| (v.to_f64() - mean) * (v.to_f64() - mean)).sum::<f64>() / count;
    let scale = 1.0 / (variance + NORMALISE_EPSILON).sqrt();
    values.iter_mut().for_each(|v| *v = T::from_f64((v.to_f64() - mean) * scale));
    T::from_f64(scale)
}

/// The statistic of W x over a block's packed rows, in place; training keeps 1/σ.
pub(super) fn normalise_input<T: Real>(c: &Context<'_, T>, d: &Dispatch, slots: &mut [Aligned<T>]) {
    let [pre, _] = slots else { unreachable!("kernel table") };
    let dims = &c.plan.dims[d.dims];
    let shape = c.stages[d.stage];
    let first = c.schedule.row_offset(dims.first as usize);
    let rows = c.schedule.row_offset((dims.end as usize).min(c.schedule.steps())) - first;
    let (at, columns, width) = (c.rows.stages[d.stage].0, shape.stage.input_gates() * shape.units, c.rows.width);
    let one = |row: &mut [T]| {
        let scale = normalise(&mut row[at..][..columns]);
        c.store(&mut row[at..][..columns]);
        if c.plan.train {
            row[c.rows.scales[d.stage].0] = scale;
        }
    };
    for direction in 0..c.directions {
        let pre = &mut pre[c.pre_row(dims, direction, first) * width..][..rows * width];
        if rows * columns < PARALLEL_WORK {
            pre.chunks_exact_mut(width).for_each(one);
        } else {
            pre.par_chunks_exact_mut(width).for_each(one);
        }
    }
}

/// The gradients `d` of a stage's normalised values `[gates, N]`, which are in its columns of a row of `pre`, through both
/// statistics; they replace the values.
pub(super) fn normalise_backward<T: Real>(c: &Context<'_, T>, stage: usize, row: &mut [T], d: &[T]) {
    let (shape, (x_at, only_at), (x_scale, scale)) = (c.stages[stage], c.rows.stages[stage], c.rows.scales[stage]);
    let (inputs, recurrent) = d.split_at(shape.stage.input_gates() * shape.units);
    if !inputs.is_empty() {
        adjoint(row, (x_at, x_scale), inputs);
    }
    adjoint(row, (only_at, scale), &recurrent[..shape.stage.recurrent_gates() * shape.units]);
}

/// (d − mean(d) − v·mean(d∘v)) / σ over the values v from column `at`.
fn adjoint<T: Real>(row: &mut [T], (at, scale): (usize, usize), d: &[T]) {
    let (count, scale) = (d.len() as f64, row[scale].to_f64());
    let values = &mut row[at..][..d.len()];
    let mean = d.iter().map(|d| d.to_f64()).sum::<f64>() / count;
    let along = d.iter().zip(&*values).map(|(d, v)| d.to_f64() * v.to_f64()).sum::<f64>() / count;
    for (v, d) in values.iter_mut().zip(d) {
        *v = T::from_f64((d.to_f64() - mean - v.to_f64() * along) * scale);
    }
}

/// One stage of one step, from what `step_backward` left behind the sums of `d_unit`.
pub(super) fn step_normalise_backward<T: Real>(
    c: &Context<'_, T>,
    d: &Dispatch,
    step: usize,
    slots: &mut [Aligned<T>],
) {
    let [pre, d_unit, _] = slots else { unreachable!("kernel table") };
    let dims = &c.plan.dims[d.dims];
    let (batch, hidden, cell) = (c.plan.shape.batch, c.plan.config.hidden_size, c.plan.config.cell);
    let (width, normal) = (c.rows.width, cell.normal_gates() * hidden);
    let waiting = &d_unit[dims.planes as usize * batch * cell.unit_sums() * hidden..];
    for Pair { z, s, .. } in c.pairs(d, step) {
        let first = c.pre_row(dims, z, c.schedule.row_offset(s)) * width;
        let rows = pre[first..].chunks_exact_mut(width).take(c.schedule.active(s));
        for (row, gradients) in rows.zip(waiting[c.place(dims, z, 0) * normal..].chunks_exact(normal)) {
            normalise_backward(c, d.stage, row, gradients);
        }
    }
}
