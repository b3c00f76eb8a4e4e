//! Twins of `input_backward`, `weight_backward` and `unit_backward`: what the gradients of the pre-activations add up to.

use super::Context;
use super::project::{DEPTH, product};
use crate::kernels::{GRADIENT_BLOCK, Kernel};
use crate::model::stack::StageShape;
use crate::num::Real;
use crate::plan::Dispatch;

/// Adds d_pre · W of one direction over a stretch of steps' rows to dx.
pub(super) fn input_backward<T: Real>(c: &Context<'_, T>, d: &Dispatch, slots: &mut [Vec<T>]) {
    for direction in c.input_directions(&c.plan.dims[d.dims]) {
        input_backward_of(c, d, direction, slots);
    }
}

fn input_backward_of<T: Real>(c: &Context<'_, T>, d: &Dispatch, direction: usize, slots: &mut [Vec<T>]) {
    let [_, pre, dx, _] = slots else { unreachable!("kernel table") };
    let dims = &c.plan.dims[d.dims];
    let (inputs, layer) = (dims.input_size as usize, dims.layer as usize);
    let (width, columns) = (c.rows.width, c.rows.inputs);
    let row = |s: u32| c.schedule.row_offset((s as usize).min(c.schedule.steps()));
    let (first, end) = (row(dims.first), row(dims.end));
    // At least two rows and columns: a row's bits must not depend on how many there are (see project.rs).
    let (rows, wide) = ((end - first).max(2), inputs.max(2));
    let mut gathered = vec![T::default(); rows * columns];
    for (to, packed) in gathered.chunks_exact_mut(columns).zip(first..end) {
        to.copy_from_slice(&pre[c.pre_row(dims, direction, packed) * width..][..columns]);
    }
    let mut padded = Vec::new();
    let mut weights = &c.layers[layer * c.directions + direction].w_rows;
    if inputs == 1 {
        padded.extend(weights.iter().flat_map(|&v| [v, T::default()]));
        weights = &padded;
    }
    let mut out = vec![T::default(); rows * wide];
    product(&gathered, weights, &mut out, (rows, columns, wide), (wide, false));
    for (row, &outer) in out.chunks_exact(wide).zip(&c.schedule.rows(direction)[first..end]) {
        let dx = &mut dx[(dims.input_rows + outer) as usize * inputs..][..inputs];
        dx.iter_mut().zip(row).for_each(|(d, &v)| *d = *d + v);
    }
}

/// d_preᵀ · [operand | 1] over a stretch of steps in blocks, newest first, onto the sum of the stretches after it.
pub(super) fn weight_backward<T: Real>(c: &Context<'_, T>, d: &Dispatch, slots: &mut [Vec<T>]) {
    let [pre, operand, gradient, _] = slots else { unreachable!("kernel table") };
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
    let side_by_side = columns.windows(2).all(|c| c[0] + 1 == c[1]);
    // The ones that biases are multiplied by are no column of the product where it has two without them.
    let apart = heads == 1 && depth > 1;
    let wide = if apart { depth } else { depth + 1 };
    let steps = dims.first as usize..dims.end as usize;
    for direction in 0..directions {
        let out = &mut gradient[direction * columns.len() * (depth + 1)..][..columns.len() * (depth + 1)];
        if dims.end == dims.time && dims.accumulate == 0 {
            out.fill(T::default());
        }
        // Stretches start at multiples of GRADIENT_BLOCK.
        for first in steps.clone().step_by(GRADIENT_BLOCK).collect::<Vec<_>>().into_iter().rev() {
            let block = first..(first + GRADIENT_BLOCK).min(steps.end).min(c.schedule.steps());
            let rows: usize = block.clone().map(|s| c.schedule.active(s)).sum();
            if rows == 0 {
                continue;
            }
            let single = heads > 1 && depth < MIN_DEPTH;
            let sizes = match single {
                true => [0, 0, columns.len() * (depth + 1)],
                false => [rows * columns.len(), rows * heads * wide, 0],
            };
            let [mut left, mut part] = [sizes[0], sizes[2]].map(|n| vec![T::default(); n]);
            let mut right = vec![T::from_f64(1.0); sizes[1]];
            let order = block.rev().flat_map(|s| (0..c.schedule.active(s)).map(move |b| (s, b)));
            for (n, (s, b)) in order.enumerate() {
                let packed = c.schedule.row_offset(s) + b;
                let row = &pre[c.pre_row(dims, direction, packed) * width..][..width];
                let seen = if input {
                    &operand[(dims.input_rows + c.schedule.rows(direction)[packed]) as usize * depth..]
                } else if d.stage > 0 {
                    &operand[c.history_after(dims, direction, s, b) * c.past.width + c.past.links[d.stage - 1]..]
                } else {
                    &operand[c.history_before(dims, direction, s, b) * c.past.width + states..]
                };
                if single {
                    add_row(&mut part, row, &columns, seen, (own, depth));
                    continue;
                }
                for head in 0..heads {
                    let to = &mut left[(head * rows + n) * own..][..own];
                    if side_by_side {
                        to.copy_from_slice(&row[columns[head * own]..][..own]);
                    } else {
                        to.iter_mut().zip(&columns[head * own..]).for_each(|(to, &column)| *to = row[column]);
                    }
                    right[(head * rows + n) * wide..][..depth].copy_from_slice(&seen[head * depth..][..depth]);
                }
            }
            if single {
                add_heads(&part, out, &shape);
            } else if apart {
                product(&left, &right, out, (own, rows, depth), (depth + 1, true));
                add_sums(&left, out, depth);
            } else if heads == 1 {
                product(&left, &right, out, (own, rows, depth + 1), (depth + 1, true));
            } else {
                head_products((&left, &right), out, &shape, rows);
            }
        }
    }
}

/// The sums of the columns of `left` onto the last column of `out`, in the order of the product's additions.
fn add_sums<T: Real>(left: &[T], out: &mut [T], depth: usize) {
    let own = out.len() / (depth + 1);
    for block in left.chunks(DEPTH * own) {
        let mut sums = vec![T::default(); own];
        for row in block.chunks_exact(own) {
            sums.iter_mut().zip(row).for_each(|(sum, &d)| *sum = *sum + d);
        }
        out.iter_mut().skip(depth).step_by(depth + 1).zip(sums).for_each(|(bias, sum)| *bias = *bias + sum);
    }
}

/// Features per head from which a matrix product per head pays; below it rows are added one by one.
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

/// A product per head: `left` `[n][rows][gates · N/n]` and `right` `[n][rows][K/n + 1]` give the blocks of `out` `[gates · N, K/n + 1]`.
fn head_products<T: Real>((left, right): (&[T], &[T]), out: &mut [T], shape: &StageShape, rows: usize) {
    let (own, wide) = (shape.head_units(), shape.depth() + 1);
    let columns = shape.matrix_rows() / shape.heads;
    let mut block = vec![T::default(); columns * wide];
    for head in 0..shape.heads {
        let place = |gate: usize| (gate * shape.units + head * own) * wide;
        for (gate, part) in block.chunks_exact_mut(own * wide).enumerate() {
            part.copy_from_slice(&out[place(gate)..][..own * wide]);
        }
        let (left, right) = (&left[head * rows * columns..], &right[head * rows * wide..]);
        product(left, right, &mut block, (columns, rows, wide), (wide, true));
        for (gate, part) in block.chunks_exact(own * wide).enumerate() {
            out[place(gate)..][..own * wide].copy_from_slice(part);
        }
    }
}

/// Unit parameters: the sum over the sequences, onto what is there where gradients accumulate.
pub(super) fn unit_backward<T: Real>(c: &Context<'_, T>, d: &Dispatch, slots: &mut [Vec<T>]) {
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
