//! Twins of `input_backward`, `weight_backward` and `unit_backward`: what the gradients of the pre-activations add up to.

use super::Context;
use super::outer::Outer;
use super::scratch::Scratch;
use super::threads::for_each;
use super::tile::{MAX_ROWS, Rows, multiply};
use crate::kernels::{GRADIENT_BLOCK, Kernel};
use crate::model::stack::StageShape;
use crate::num::Aligned;
use crate::num::Real;
use crate::num::Shared;
use crate::plan::Dispatch;

/// Multiply-adds from which a second thread pays.
const PARALLEL_WORK: usize = 1 << 18;

/// Adds d_pre · W of one direction over a stretch of steps' rows to dx.
pub(super) fn input_backward<T: Real>(c: &Context<'_, T>, d: &Dispatch, slots: &mut [Aligned<T>]) {
    for direction in c.input_directions(&c.plan.dims[d.dims]) {
        input_backward_of(c, d, direction, slots);
    }
}

fn input_backward_of<T: Real>(c: &Context<'_, T>, d: &Dispatch, direction: usize, slots: &mut [Aligned<T>]) {
    let [_, pre, dx, _] = slots else { unreachable!("kernel table") };
    let dims = &c.plan.dims[d.dims];
    let (inputs, layer) = (dims.input_size as usize, dims.layer as usize);
    let (width, columns) = (c.rows.width, c.rows.inputs);
    let row = |s: u32| c.schedule.row_offset((s as usize).min(c.schedule.steps()));
    let (first, end) = (row(dims.first), row(dims.end));
    let (rows, matrix) = (end - first, &c.layers[layer * c.directions + direction].w_transposed);
    if rows == 0 || columns == 0 {
        return;
    }
    let pre = &pre[c.pre_row(dims, direction, first) * width..][..rows * width];
    let order = &c.schedule.rows(direction)[first..end];
    let dx = Shared::new(dx);
    let threads = if rows * columns * inputs < PARALLEL_WORK { 1 } else { rayon::current_num_threads() };
    let part = if threads == 1 { rows } else { rows.div_ceil(4 * threads).next_multiple_of(MAX_ROWS) };
    for_each(rows.div_ceil(part), threads, |n| {
        let (pre, order) = (&pre[n * part * width..], &order[n * part..rows.min((n + 1) * part)]);
        let mut out = Scratch::any(order.len() * inputs);
        multiply(matrix, Rows { values: pre, stride: width }, (&mut out, inputs), inputs, None);
        for (row, &outer) in out.chunks_exact(inputs).zip(order) {
            // SAFETY: a row of dx per packed row, and each packed row is in one part.
            let dx = unsafe { dx.part((dims.input_rows + outer) as usize * inputs, inputs) };
            dx.iter_mut().zip(row).for_each(|(d, &v)| *d = *d + v);
        }
    });
}

/// d_preᵀ · [operand | 1] over a stretch of steps in blocks, newest first, onto the sum of the stretches after it.
pub(super) fn weight_backward<T: Real>(c: &Context<'_, T>, d: &Dispatch, slots: &mut [Aligned<T>]) {
    let [pre, operand, gradient, _] = slots else { unreachable!("kernel table") };
    let (pre, operand): (&[T], &[T]) = (pre, operand);
    let dims = &c.plan.dims[d.dims];
    let config = &c.plan.config;
    let states = config.states().len() * config.hidden_size;
    let (directions, width) = (c.directions, c.rows.width);
    let input = d.kernel == Kernel::WeightBackwardInput;
    let shape = c.stages[d.stage];
    // Columns of d_pre head by head: those of a head see the same features of the operand.
    let (columns, heads, depth): (Vec<usize>, usize, usize) = if input {
        ((0..c.rows.inputs).collect(), 1, dims.input_size as usize)
    } else {
        (c.head_columns(d.stage), shape.heads, shape.depth())
    };
    let own = columns.len() / heads;
    let steps = dims.first as usize..dims.end as usize;
    for direction in 0..directions {
        let out = &mut gradient[direction * columns.len() * (depth + 1)..][..columns.len() * (depth + 1)];
        if dims.end == dims.time && dims.accumulate == 0 {
            out.fill(T::default());
        }
        // Stretches start at multiples of GRADIENT_BLOCK.
        for first in steps.clone().step_by(GRADIENT_BLOCK).collect::<Vec<_>>().into_iter().rev() {
            let block = first..(first + GRADIENT_BLOCK).min(steps.end).min(c.schedule.steps());
            let order = block.rev().flat_map(|s| (0..c.schedule.active(s)).map(move |b| (s, b)));
            let row = |(s, b): (usize, usize)| {
                let packed = c.schedule.row_offset(s) + b;
                let d_pre = &pre[c.pre_row(dims, direction, packed) * width..][..width];
                let seen = if input {
                    (dims.input_rows + c.schedule.rows(direction)[packed]) as usize * depth
                } else if d.stage > 0 {
                    c.history_after(dims, direction, s, b) * c.past.width + c.past.links[d.stage - 1]
                } else {
                    c.history_before(dims, direction, s, b) * c.past.width + states
                };
                (d_pre, &operand[seen..][..heads * depth])
            };
            let rows: Vec<(&[T], &[T])> = order.map(row).collect();
            if rows.is_empty() {
                continue;
            }
            if heads > 1 && depth < MIN_DEPTH {
                let mut part = Scratch::filled(columns.len() * (depth + 1), T::default());
                rows.iter().for_each(|(d_pre, seen)| add_row(&mut part, d_pre, &columns, seen, (own, depth)));
                add_heads(&part, out, &shape);
                continue;
            }
            for head in 0..heads {
                let right = head * depth..(head + 1) * depth;
                let outer = Outer { rows: &rows, left: &columns[head * own..][..own], right };
                if heads == 1 {
                    outer.add_to(out, |column| column);
                } else {
                    let units = shape.head_units();
                    outer.add_to(out, |column| column / units * shape.units + head * units + column % units);
                }
            }
        }
    }
}

/// Features per head from which a product per head pays; below it rows are added one by one.
const MIN_DEPTH: usize = 4;

/// One row's share of the blocks `[n][gates · N/n][K/n + 1]` of all heads.
fn add_row<T: Real>(part: &mut [T], row: &[T], columns: &[usize], seen: &[T], (own, depth): (usize, usize)) {
    let heads = columns.chunks_exact(own).zip(seen.chunks_exact(depth));
    for ((columns, seen), part) in heads.zip(part.chunks_exact_mut(own * (depth + 1))) {
        for (&column, part) in columns.iter().zip(part.chunks_exact_mut(depth + 1)) {
            let d = row[column];
            part.iter_mut().zip(seen).for_each(|(sum, &v)| *sum = *sum + d * v);
            part[depth] = part[depth] + d;
        }
    }
}

/// Such blocks onto `out` `[gates · N, K/n + 1]`.
fn add_heads<T: Real>(part: &[T], out: &mut [T], shape: &StageShape) {
    let (own, wide) = (shape.head_units(), shape.depth() + 1);
    for (n, part) in part.chunks_exact(own * wide).enumerate() {
        let gates = shape.stage.recurrent_gates();
        let (head, gate) = (n / gates, n % gates);
        let out = &mut out[(gate * shape.units + head * own) * wide..][..own * wide];
        out.iter_mut().zip(part).for_each(|(sum, &v)| *sum = *sum + v);
    }
}

/// Unit parameters: the sum over the sequences, onto what is there where gradients accumulate.
pub(super) fn unit_backward<T: Real>(c: &Context<'_, T>, d: &Dispatch, slots: &mut [Aligned<T>]) {
    let [d_unit, gradient] = slots else { unreachable!("kernel table") };
    let n = c.plan.config.cell.unit_sums() * c.plan.config.hidden_size;
    let dims = &c.plan.dims[d.dims];
    for (direction, out) in gradient.chunks_exact_mut(n).enumerate() {
        let mut sum = vec![T::default(); n];
        for row in d_unit[c.place(dims, direction, 0) * n..][..c.plan.shape.batch * n].chunks_exact(n) {
            sum.iter_mut().zip(row).for_each(|(o, &v)| *o = *o + v);
        }
        if dims.accumulate == 0 {
            out.copy_from_slice(&sum);
        } else {
            out.iter_mut().zip(sum).for_each(|(o, v)| *o = v + *o);
        }
    }
}
