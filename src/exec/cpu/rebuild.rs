//! Twins of `save_history`, `load_history`, `rebuild` and `rebuild_normalise`: what `Memory::Recompute` keeps, and the gates made from it again.

use super::Context;
use super::normalise::normalise;
use super::project::product;
use super::retrace::{Retrace, advance};
use crate::kernels::KeptLayout;
use crate::model::cell::Product;
use crate::model::stack::StageShape;
use crate::num::Aligned;
use crate::num::Real;
use crate::plan::{Dims, Dispatch};
use std::ops::Range;

/// A segment's history → the rows kept of all steps.
pub(super) fn save_history<T: Real>(c: &Context<'_, T>, d: &Dispatch, slots: &mut [Aligned<T>]) {
    let [history, kept, _] = slots else { unreachable!("kernel table") };
    let layout = KeptLayout::new(&c.plan.config);
    let (hidden, output) = (c.plan.config.hidden_size, c.plan.config.state_size());
    let states = c.plan.config.states().len();
    for_each_kept_row(c, d, true, |past, row| {
        let (past, row) = (past * c.past.width, row * layout.width);
        for (s, at) in layout.states.iter().enumerate() {
            if let Some(at) = at {
                kept[row + at..][..hidden].copy_from_slice(&history[past + s * hidden..][..hidden]);
            }
        }
        kept[row + layout.hidden..][..output].copy_from_slice(&history[past + states * hidden..][..output]);
    });
}

/// Kept rows → a segment's history.
pub(super) fn load_history<T: Real>(c: &Context<'_, T>, d: &Dispatch, slots: &mut [Aligned<T>]) {
    let [history, kept, _] = slots else { unreachable!("kernel table") };
    let layout = KeptLayout::new(&c.plan.config);
    let (hidden, output) = (c.plan.config.hidden_size, c.plan.config.state_size());
    let states = c.plan.config.states().len();
    for_each_kept_row(c, d, false, |past, row| {
        let (past, row) = (past * c.past.width, row * layout.width);
        for (s, at) in layout.states.iter().enumerate() {
            let state = &mut history[past + s * hidden..][..hidden];
            match at {
                Some(at) => state.copy_from_slice(&kept[row + at..][..hidden]),
                None => state.fill(T::default()),
            }
        }
        history[past + states * hidden..][..output].copy_from_slice(&kept[row + layout.hidden..][..output]);
    });
}

/// Calls `copy(row of the history, kept row)` for every row after a step of the segment, and for those before its first step
/// (`save`: only if it is the first of all; else the segment before has kept them).
fn for_each_kept_row<T: Real>(c: &Context<'_, T>, d: &Dispatch, save: bool, mut copy: impl FnMut(usize, usize)) {
    let dims = &c.plan.dims[d.dims];
    let (segment, batch) = (dims.segment as usize, c.plan.shape.batch);
    let steps = segment..(dims.segment_end as usize).min(c.schedule.steps());
    for direction in 0..c.plan.config.directions() {
        let kept = direction * (batch + batch * c.plan.shape.time);
        for b in 0..if save && segment > 0 { 0 } else { c.schedule.active(segment) } {
            let before = if segment == 0 { b } else { batch + c.schedule.row_offset(segment - 1) + b };
            copy(c.history_start(dims, direction, b), kept + before);
        }
        for (s, b) in rows(c, steps.clone()) {
            copy(c.history_after(dims, direction, s, b), kept + batch + c.schedule.row_offset(s) + b);
        }
    }
}

/// `(step, sequence)` of every packed row of some steps.
fn rows<T: Real>(c: &Context<'_, T>, steps: Range<usize>) -> impl Iterator<Item = (usize, usize)> + Clone {
    steps.flat_map(|s| (0..c.schedule.active(s)).map(move |b| (s, b)))
}

/// All gates of one stage over a block of steps; for a stage that is not the last, its `out` into the history.
pub(super) fn rebuild<T: Real>(c: &Context<'_, T>, d: &Dispatch, slots: &mut [Aligned<T>]) {
    let [_, pre, history, _] = slots else { unreachable!("kernel table") };
    let dims = &c.plan.dims[d.dims];
    let (shape, directions) = (c.stages[d.stage], c.plan.config.directions());
    let steps = dims.first as usize..(dims.end as usize).min(c.schedule.steps());
    let count = c.schedule.row_offset(steps.end) - c.schedule.row_offset(steps.start);
    let states = c.plan.config.states().len() * c.plan.config.hidden_size;
    for direction in 0..directions {
        let z = dims.layer as usize * directions + direction;
        let mut operands = Vec::with_capacity(count * shape.operand);
        for (s, b) in rows(c, steps.clone()) {
            let at = match d.stage {
                0 => c.history_before(dims, direction, s, b) * c.past.width + states,
                n => c.history_after(dims, direction, s, b) * c.past.width + c.past.links[n - 1],
            };
            operands.extend_from_slice(&history[at..][..shape.operand]);
        }
        let first = c.pre_row(dims, direction, c.schedule.row_offset(steps.start)) * c.rows.width;
        let pre = &mut pre[first..][..count * c.rows.width];
        if shape.stage.product == Product::Identity {
            add_gates(c, d, z, &operands, shape.operand, pre);
            continue;
        }
        let matrix = c.layers[z].stages[d.stage].transposed(&shape);
        let (sums, wide) = match shape.heads {
            1 => one_head(operands, matrix, count, &shape),
            _ => all_heads(&operands, &matrix, count, &shape),
        };
        add_gates(c, d, z, &sums, wide, pre);
        if d.stage + 1 < c.stages.len() && !shape.stage.normalise {
            links(c, d, (direction, z), &steps, pre, history);
        }
    }
}

/// The statistic of a normalising stage's product, which `rebuild` left; for a stage that is not the last, its `out` into the
/// history.
pub(super) fn rebuild_normalise<T: Real>(c: &Context<'_, T>, d: &Dispatch, slots: &mut [Aligned<T>]) {
    let [_, pre, history, _] = slots else { unreachable!("kernel table") };
    let dims = &c.plan.dims[d.dims];
    let (shape, directions) = (c.stages[d.stage], c.plan.config.directions());
    let steps = dims.first as usize..(dims.end as usize).min(c.schedule.steps());
    let count = c.schedule.row_offset(steps.end) - c.schedule.row_offset(steps.start);
    let (at, columns) = (c.rows.stages[d.stage].1, shape.stage.recurrent_gates() * shape.units);
    for direction in 0..directions {
        let z = dims.layer as usize * directions + direction;
        let first = c.pre_row(dims, direction, c.schedule.row_offset(steps.start)) * c.rows.width;
        let pre = &mut pre[first..][..count * c.rows.width];
        for row in pre.chunks_exact_mut(c.rows.width) {
            row[c.rows.scales[d.stage].1] = normalise(&mut row[at..][..columns]);
        }
        if d.stage + 1 < c.stages.len() {
            links(c, d, (direction, z), &steps, pre, history);
        }
    }
}

/// R · operand of `count` rows, and the width of a row: at least two rows and columns, for a row's bits must not depend on how many
/// there are (see project.rs).
fn one_head<T: Real>(mut operands: Vec<T>, mut matrix: Vec<T>, count: usize, shape: &StageShape) -> (Vec<T>, usize) {
    let (depth, columns) = (shape.depth(), shape.matrix_rows() / shape.heads);
    operands.resize(count.max(2) * depth, T::default());
    let wide = columns.max(2);
    if wide > columns {
        matrix = matrix.iter().flat_map(|&v| [v, T::default()]).collect();
    }
    let mut sums = vec![T::default(); count.max(2) * wide];
    product(&operands, &matrix, &mut sums, (count.max(2), depth, wide), (wide, false));
    (sums, wide)
}

/// The same head by head.
fn all_heads<T: Real>(operands: &[T], matrix: &[T], count: usize, shape: &StageShape) -> (Vec<T>, usize) {
    let (depth, own, columns) = (shape.depth(), shape.head_units(), shape.matrix_rows() / shape.heads);
    let width = shape.matrix_rows();
    let mut all = vec![T::default(); count * width];
    for (head, matrix) in matrix.chunks_exact(depth * columns).enumerate() {
        let rows = operands.chunks_exact(shape.operand);
        let seen = rows.flat_map(|row| &row[head * depth..][..depth]).copied().collect();
        let (sums, wide) = one_head(seen, matrix.to_vec(), count, shape);
        for (to, from) in all.chunks_exact_mut(width).zip(sums.chunks_exact(wide)) {
            for (gate, from) in from[..columns].chunks_exact(own).enumerate() {
                to[gate * shape.units + head * own..][..own].copy_from_slice(from);
            }
        }
    }
    (all, width)
}

/// The product onto the x parts; gates that see the operand only are the product and their bias (of a normalising stage, which
/// has no others, the product alone).
fn add_gates<T: Real>(c: &Context<'_, T>, d: &Dispatch, z: usize, sums: &[T], wide: usize, pre: &mut [T]) {
    let shape = c.stages[d.stage];
    let (n, both) = (shape.units, shape.stage.both_gates());
    let (x_at, only_at) = c.rows.stages[d.stage];
    let packed = &c.layers[z].stages[d.stage];
    for (row, sums) in pre.chunks_exact_mut(c.rows.width).zip(sums.chunks_exact(wide)) {
        for (v, &sum) in row[x_at..][..both * n].iter_mut().zip(sums) {
            *v = *v + sum;
        }
        for gate in 0..shape.stage.recurrent_only_gates() {
            let sums = &sums[(both + gate) * n..][..n];
            if shape.stage.normalise {
                row[only_at + gate * n..][..n].copy_from_slice(sums);
                continue;
            }
            let bias = &packed.unit[gate * packed.padded..][..n];
            for ((v, &sum), &bias) in row[only_at + gate * n..][..n].iter_mut().zip(sums).zip(bias) {
                *v = sum + bias;
            }
        }
    }
}

/// The stage's `out`, the next stage's operand, into the history.
fn links<T: Real>(
    c: &Context<'_, T>,
    d: &Dispatch,
    (direction, z): (usize, usize),
    steps: &Range<usize>,
    pre: &mut [T],
    history: &mut [T],
) {
    let dims: &Dims = &c.plan.dims[d.dims];
    let shape = c.stages[d.stage];
    let count = pre.len() / c.rows.width;
    let width = shape.states * shape.state_stride;
    let mut state = Vec::with_capacity(count * width);
    for (s, b) in rows(c, steps.clone()) {
        let before = c.history_before(dims, direction, s, b) * c.past.width;
        state.extend_from_slice(&history[before..][..width]);
    }
    let mut out = vec![T::default(); count * shape.units];
    // The states before the stage are those before the step, taken through the stages before it.
    for stage in 0..=d.stage {
        let shape = c.stages[stage];
        let zone = c.zone(stage, z, rows(c, steps.clone()));
        let retrace = Retrace {
            shape,
            zone: zone.as_ref(),
            act: &c.act[direction],
            packed: &c.layers[z].stages[stage],
            rows: count,
            pre: &mut *pre,
            pre_stride: c.rows.width,
            pre_at: c.rows.stages[stage],
        };
        advance(retrace, &mut state, if stage == d.stage { &mut out } else { &mut [] });
    }
    for ((s, b), out) in rows(c, steps.clone()).zip(out.chunks_exact(shape.units)) {
        let after = c.history_after(dims, direction, s, b) * c.past.width;
        history[after + c.past.links[d.stage]..][..shape.units].copy_from_slice(out);
    }
}
