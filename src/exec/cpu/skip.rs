//! Twins of `skip_input` and `skip_backward`: a layer without W ([`crate::InputMode::Skip`]).

use super::Context;
use crate::num::Aligned;
use crate::num::Real;
use crate::plan::Dispatch;

/// x + b of every x gate, over a block's packed rows.
pub(super) fn skip_input<T: Real>(c: &Context<'_, T>, d: &Dispatch, slots: &mut [Aligned<T>]) {
    let [x, _, pre, _] = slots else { unreachable!("kernel table") };
    let (dims, hidden) = (&c.plan.dims[d.dims], c.plan.config.hidden_size);
    let first = c.schedule.row_offset(dims.first as usize);
    let end = c.schedule.row_offset((dims.end as usize).min(c.schedule.steps()));
    for direction in 0..c.directions {
        let bias = &c.layers[dims.layer as usize * c.directions + direction].bias;
        for (packed, &outer) in (first..end).zip(&c.schedule.rows(direction)[first..end]) {
            let x = &x[(dims.input_rows + outer) as usize * hidden..][..hidden];
            let row = &mut pre[c.pre_row(dims, direction, packed) * c.rows.width..][..bias.len()];
            for (row, bias) in row.chunks_exact_mut(hidden).zip(bias.chunks_exact(hidden)) {
                row.iter_mut().zip(bias).zip(x).for_each(|((p, &b), &x)| *p = b + x);
            }
            c.store(row);
        }
    }
}

/// Adds the sum of d_pre over the x gates, in their order, of one direction over a stretch of steps' rows to dx.
pub(super) fn skip_backward<T: Real>(c: &Context<'_, T>, d: &Dispatch, slots: &mut [Aligned<T>]) {
    let [pre, dx, _] = slots else { unreachable!("kernel table") };
    let (dims, hidden) = (&c.plan.dims[d.dims], c.plan.config.hidden_size);
    let row = |s: u32| c.schedule.row_offset((s as usize).min(c.schedule.steps()));
    let (first, end) = (row(dims.first), row(dims.end));
    let mut sum = vec![T::default(); hidden];
    for direction in c.input_directions(dims) {
        for (packed, &outer) in (first..end).zip(&c.schedule.rows(direction)[first..end]) {
            sum.fill(T::default());
            let row = &pre[c.pre_row(dims, direction, packed) * c.rows.width..][..c.rows.inputs];
            for gate in row.chunks_exact(hidden) {
                sum.iter_mut().zip(gate).for_each(|(s, &d)| *s = *s + d);
            }
            let dx = &mut dx[(dims.input_rows + outer) as usize * hidden..][..hidden];
            dx.iter_mut().zip(&sum).for_each(|(d, &s)| *d = *d + s);
        }
    }
}
