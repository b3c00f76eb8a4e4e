//! Twins of `step_forward`, `step_product` and `step_normalise`: one stage of one time step. The CPU executor's own choice is
//! `sequence_forward`; this is what a forced `Step` runs.

use super::recur::{Recur, Workspace, recur};
use super::state::mask_operand;
use super::{Context, Pair};
use crate::kernels::Kernel;
use crate::model::cell::Product;
use crate::num::Aligned;
use crate::num::Real;
use crate::num::Shared;
use crate::plan::Dispatch;

/// `step_forward`, and `step_normalise` (which finds its products in `product` instead of an operand).
pub(super) fn step_forward<T: Real>(c: &Context<'_, T>, d: &Dispatch, step: usize, slots: &mut [Aligned<T>]) {
    let normalise = matches!(d.kernel, Kernel::StepNormalise | Kernel::StepNormaliseTrain);
    let [pre, _, from, to, state, y, _, keep @ ..] = slots else { unreachable!("kernel table") };
    let config = &c.plan.config;
    let dims = &c.plan.dims[d.dims];
    let batch = c.plan.shape.batch;
    let shape = c.stages[d.stage];
    let last_stage = d.stage + 1 == c.stages.len();
    // Rows of h are longer than those of the operands between stages where h is masked.
    let (row, own) = (config.operand_row(c.plan.train), config.operand_own(c.plan.train));
    let stride = if d.stage == 0 { row } else { shape.operand.next_multiple_of(4) };
    let padded = if last_stage { row } else { shape.padded_units() };
    let width = shape.states * shape.state_stride;
    let mut scratch = Workspace::default();
    for Pair { z: index, direction, entry: z, s } in c.pairs(d, step) {
        let (active, first_row) = (c.schedule.active(s), c.schedule.row_offset(s));
        let products = shape.stage.recurrent_gates() * shape.units;
        let states = if width == 0 { &mut [][..] } else { &mut state[z * batch * width..][..active * width] };
        let zone = c.zone(d.stage, z, (0..active).map(|b| (s, b)));
        recur(&mut Recur {
            shape,
            zone: zone.as_ref(),
            act: &c.act[direction],
            packed: &c.layers[z].stages[d.stage],
            rows: active,
            panels: c.layers[z].stages[d.stage].panels(),
            operand: if normalise { &[] } else { &from[z * batch * stride..] },
            operand_stride: stride,
            pre: Shared::new(&mut pre[c.pre_row(dims, index, first_row) * c.rows.width..]),
            pre_stride: c.rows.width,
            pre_at: c.rows.stages[d.stage],
            scale_at: c.rows.scales[d.stage].1,
            train: !keep.is_empty(),
            state: Shared::new(states),
            out: Shared::new(&mut to[z * batch * padded..][..active * padded]),
            out_stride: padded,
            product: normalise.then(|| &from[c.place(dims, index, 0) * products..]),
            scratch: &mut scratch,
        });
        let factors = if last_stage { c.recurrent_factors(z, 0..active) } else { Vec::new() };
        if !factors.is_empty() {
            let rows = to[z * batch * padded..].chunks_mut(padded);
            for (row, factors) in rows.zip(factors.chunks(shape.units)) {
                row.copy_within(..own, own);
                mask_operand(row, own, factors);
            }
        }
        if let Some(history) = keep.first_mut() {
            let row = c.history_after(dims, index, s, 0) * c.past.width;
            for (b, past) in history[row..].chunks_mut(c.past.width).take(active).enumerate() {
                let place = z * batch + b;
                past[..width].copy_from_slice(&state[place * width..][..width]);
                past[c.past.links[d.stage]..][..shape.units].copy_from_slice(&to[place * padded..][..shape.units]);
            }
        }
        if last_stage && d.write_y {
            for (b, row) in c.output_rows(dims, index, first_row).take(active).enumerate() {
                let value = &to[(z * batch + b) * padded + own..][..shape.units];
                let y = &mut y[row * shape.units..][..shape.units];
                y.copy_from_slice(value);
                c.store(y);
            }
        }
    }
}

/// `step_product`: the recurrent part alone, `[D, B, gates, N]`.
pub(super) fn step_product<T: Real>(c: &Context<'_, T>, d: &Dispatch, step: usize, slots: &mut [Aligned<T>]) {
    let [_, operand, product, _] = slots else { unreachable!("kernel table") };
    let (batch, dims) = (c.plan.shape.batch, &c.plan.dims[d.dims]);
    let shape = c.stages[d.stage];
    let (gates, n) = (shape.stage.recurrent_gates(), shape.units);
    let first = c.plan.config.operand_row(c.plan.train);
    let stride = if d.stage == 0 { first } else { shape.operand.next_multiple_of(4) };
    for Pair { z: index, entry: z, s, .. } in c.pairs(d, step) {
        let packed = &c.layers[z].stages[d.stage];
        for b in 0..c.schedule.active(s) {
            let operand = &operand[(z * batch + b) * stride..][..shape.operand];
            let out = &mut product[c.place(dims, index, b) * gates * n..][..gates * n];
            for (i, out) in out.iter_mut().enumerate() {
                *out = match shape.stage.product {
                    Product::Dense => packed.dot(i / n, i % n, operand),
                    Product::Identity => operand[i],
                };
            }
        }
    }
}
