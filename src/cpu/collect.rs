//! Twins of `input_backward`, `weight_backward` and `unit_backward`: what the gradients of the pre-activations add up to.

use super::Context;
use super::project::product;
use crate::kernels::{GRADIENT_BLOCK, Kernel};
use crate::plan::Dispatch;
use crate::real::Real;
use crate::schedule::NO_ROW;

/// dx = Σ over directions of d_pre · W; 0 past a sequence's end.
pub(super) fn input_backward<T: Real>(c: &Context<'_, T>, d: &Dispatch, slots: &mut [Vec<T>]) {
    let [_, pre, dx, _] = slots else { unreachable!("kernel table") };
    let dims = &c.plan.dims[d.dims];
    let (inputs, layer) = (dims.input_size as usize, dims.layer as usize);
    let (width, columns, directions) = (c.rows.width, c.rows.inputs, c.plan.config.directions());
    let rows = dims.time as usize * dims.batch as usize;
    // At least two rows and two columns, as in `project`: the bits of a row must not depend on how many there are.
    let (m, n) = (rows.max(2), inputs.max(2));
    let mut sum = vec![T::default(); m * n];
    for direction in 0..directions {
        let mut gathered = vec![T::default(); m * columns];
        for (to, &packed) in gathered.chunks_exact_mut(columns).zip(c.schedule.packed(direction)) {
            if packed != NO_ROW {
                let row = c.pre_row(direction, packed as usize, 0);
                to.copy_from_slice(&pre[row * width..][..columns]);
            }
        }
        let w = &c.layers[layer * directions + direction].w_rows;
        let wide: Vec<T>;
        let w = if inputs == 1 {
            wide = w.iter().flat_map(|&v| [v, T::default()]).collect();
            &wide
        } else {
            w
        };
        product(&gathered, w, &mut sum, (m, columns, n), (n, false));
    }
    for (to, from) in dx.chunks_exact_mut(inputs).zip(sum.chunks_exact(n)) {
        to.copy_from_slice(&from[..inputs]);
    }
}

/// d_preᵀ · [operand | 1] in blocks of steps, newest first, into one running sum.
pub(super) fn weight_backward<T: Real>(c: &Context<'_, T>, d: &Dispatch, slots: &mut [Vec<T>]) {
    let [pre, operand, h0, gradient, _] = slots else { unreachable!("kernel table") };
    let dims = &c.plan.dims[d.dims];
    let (layer, config) = (dims.layer as usize, &c.plan.config);
    let (directions, width) = (config.directions(), c.rows.width);
    let input = d.kernel == Kernel::WeightBackwardInput;
    let shape = c.stages[d.stage];
    let (columns, depth): (Vec<usize>, usize) = if input {
        ((0..c.rows.inputs).collect(), dims.input_size as usize)
    } else {
        let gates = 0..shape.stage.recurrent_gates();
        (
            gates
                .flat_map(|g| c.rows.recurrent(d.stage, &shape, g)..c.rows.recurrent(d.stage, &shape, g) + shape.units)
                .collect(),
            shape.operand,
        )
    };
    let steps = c.schedule.steps();
    for direction in 0..directions {
        let z = layer * directions + direction;
        let out = &mut gradient[direction * columns.len() * (depth + 1)..][..columns.len() * (depth + 1)];
        out.fill(T::default());
        for block in (0..steps.div_ceil(GRADIENT_BLOCK)).rev() {
            let (mut left, mut right) = (Vec::new(), Vec::new());
            for s in (block * GRADIENT_BLOCK..((block + 1) * GRADIENT_BLOCK).min(steps)).rev() {
                for b in 0..c.schedule.active(s) {
                    let packed = c.schedule.row_offset(s) + b;
                    let row = &pre[c.pre_row(direction, packed, 0) * width..][..width];
                    left.extend(columns.iter().map(|&column| row[column]));
                    right.extend_from_slice(if input {
                        &operand[c.schedule.rows(direction)[packed] as usize * depth..][..depth]
                    } else if d.stage > 0 {
                        let stride = depth.next_multiple_of(4);
                        &operand[(z * (dims.time * dims.batch) as usize + packed) * stride..][..depth]
                    } else if s == 0 {
                        &h0[(z * dims.batch as usize + c.schedule.order(b)) * depth..][..depth]
                    } else {
                        let outer = c.schedule.rows(direction)[c.schedule.row_offset(s - 1) + b] as usize;
                        &operand[(outer * directions + direction) * depth..][..depth]
                    });
                    right.push(T::from_f64(1.0));
                }
            }
            let rows = right.len() / (depth + 1);
            product(&left, &right, out, (columns.len(), rows, depth + 1), (depth + 1, true));
        }
    }
}

/// Unit parameters: the sum over the sequences.
pub(super) fn unit_backward<T: Real>(c: &Context<'_, T>, slots: &mut [Vec<T>]) {
    let [d_unit, gradient, _] = slots else { unreachable!("kernel table") };
    let n = c.plan.config.cell.params.len() * c.plan.config.hidden_size;
    for (direction, out) in gradient.chunks_exact_mut(n).enumerate() {
        out.fill(T::default());
        for row in d_unit[direction * c.plan.shape.batch * n..][..c.plan.shape.batch * n].chunks_exact(n) {
            out.iter_mut().zip(row).for_each(|(o, &v)| *o = *o + v);
        }
    }
}
