//! Twins of `embed`, `embed_backward`, `loss_mean_squared`, `loss_cross_entropy` and `loss_sum`.

use super::Context;
use crate::num::Aligned;
use crate::num::Real;
use crate::plan::Dispatch;

/// x[row] = table[ids[row]]
pub(super) fn embed<T: Real>(c: &Context<'_, T>, d: &Dispatch, slots: &mut [Aligned<T>]) {
    let [_, _, x] = slots else { unreachable!("kernel table") };
    let (ids, inputs) = (&c.indices[d.slots[0]], c.plan.config.input_size);
    for (x, &id) in x.chunks_exact_mut(inputs).zip(ids) {
        x.copy_from_slice(&c.embedding[id as usize * inputs..][..inputs]);
        c.store(x);
    }
}

/// The gradient of every token's row: the sum over the rows of x that it was read into, in the order of the list, onto what
/// is there where gradients accumulate.
pub(super) fn embed_backward<T: Real>(c: &Context<'_, T>, d: &Dispatch, slots: &mut [Aligned<T>]) {
    let [dx, _, gradient] = slots else { unreachable!("kernel table") };
    let (occurrences, inputs) = (&c.indices[d.slots[1]], c.plan.config.input_size);
    let (starts, rows) = occurrences.split_at(gradient.len() / inputs + 1);
    let mut sum = vec![T::default(); inputs];
    for (out, range) in gradient.chunks_exact_mut(inputs).zip(starts.windows(2)) {
        sum.fill(T::default());
        for &row in &rows[range[0] as usize..range[1] as usize] {
            let dx = &dx[row as usize * inputs..][..inputs];
            sum.iter_mut().zip(dx).for_each(|(s, &v)| *s = *s + v);
        }
        let accumulate = c.plan.dims[d.dims].accumulate == 1;
        out.iter_mut().zip(&sum).for_each(|(o, &s)| *o = if accumulate { s + *o } else { s });
    }
}

/// w · Σ (o − target)² of every packed row, and its gradient.
pub(super) fn loss_mean_squared<T: Real>(c: &Context<'_, T>, slots: &mut [Aligned<T>]) {
    for_each_row(c, slots, |outputs, targets, outer, weight, d_outputs| {
        let mut sum = 0.0;
        for ((o, target), d) in outputs.iter().zip(&targets[outer * outputs.len()..]).zip(d_outputs) {
            let error = o.to_f64() - target.to_f64();
            sum += error * error;
            *d = T::from_f64(2.0 * weight * error);
        }
        weight * sum
    });
}

/// w · (log Σ exp(o) − o[label]) of every packed row, and its gradient; the largest output is taken out first so that no exp
/// overflows.
pub(super) fn loss_cross_entropy<T: Real>(c: &Context<'_, T>, d: &Dispatch, slots: &mut [Aligned<T>]) {
    let labels = &c.indices[d.slots[1]];
    for_each_row(c, slots, |outputs, _, outer, weight, d_outputs| {
        // A row of weight 0 may have any target.
        let label = (labels[outer] as usize).min(outputs.len() - 1);
        let largest = outputs.iter().fold(f64::NEG_INFINITY, |m, o| m.max(o.to_f64()));
        let sum: f64 = outputs.iter().map(|o| (o.to_f64() - largest).exp()).sum();
        for (k, (o, d)) in outputs.iter().zip(d_outputs).enumerate() {
            let share = (o.to_f64() - largest).exp() / sum;
            *d = T::from_f64(weight * (share - if k == label { 1.0 } else { 0.0 }));
        }
        weight * (sum.ln() + largest - outputs[label].to_f64())
    });
}

/// Calls `loss(outputs, all targets, row of x, weight, gradient of outputs)` for every packed row and keeps what it gives.
fn for_each_row<T: Real>(
    c: &Context<'_, T>,
    slots: &mut [Aligned<T>],
    loss: impl Fn(&[T], &[T], usize, f64, &mut [T]) -> f64,
) {
    let [outputs, targets, weights, losses, d_outputs, _] = slots else { unreachable!("kernel table") };
    let (size, rows) = (c.rows.inputs, c.schedule.row_offset(c.plan.shape.time));
    let mut unwanted = vec![T::default(); if c.plan.train { 0 } else { size }];
    for (row, &outer) in c.schedule.rows(0)[..rows].iter().enumerate() {
        let d_outputs = if c.plan.train { &mut d_outputs[row * size..][..size] } else { &mut unwanted[..] };
        let weight = weights[outer as usize].to_f64();
        losses[row] = T::from_f64(loss(&outputs[row * size..][..size], targets, outer as usize, weight, d_outputs));
    }
}

/// The sum of all rows' losses.
pub(super) fn loss_sum<T: Real>(c: &Context<'_, T>, slots: &mut [Aligned<T>]) {
    let [losses, loss, _] = slots else { unreachable!("kernel table") };
    let rows = c.schedule.row_offset(c.plan.shape.time);
    loss[0] = T::from_f64(losses[..rows].iter().map(|l| l.to_f64()).sum());
}
