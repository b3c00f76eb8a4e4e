//! Twin of `sequence_forward`: a block of steps with the time loop inside. A task owns some sequences of one direction and
//! all their units, so tasks never wait for each other; results do not depend on how sequences are split among tasks.

use super::Context;
use super::recur::Recur;
use crate::plan::Dispatch;
use crate::real::Real;
use rayon::prelude::*;

/// Multiply-adds of a block from which a second thread pays.
const PARALLEL_WORK: usize = 1 << 18;

pub(super) fn sequence_forward<T: Real>(c: &Context<'_, T>, d: &Dispatch, slots: &mut [Vec<T>]) {
    let [pre, _, operand, state, y, _] = slots else { unreachable!("kernel table") };
    let config = &c.plan.config;
    let dims = &c.plan.dims[d.dims];
    let (batch, directions) = (c.plan.shape.batch, config.directions());
    let steps = dims.first as usize..(dims.end as usize).min(c.schedule.steps());
    let z0 = dims.layer as usize * directions;

    // Split the sequences so that every task has about the same number of steps to run.
    let rows = c.schedule.row_offset(steps.end) - c.schedule.row_offset(steps.start);
    let work: usize = c.stages.iter().map(|s| s.matrix_rows() * s.operand).sum::<usize>() * rows * directions;
    let threads = if work < PARALLEL_WORK { 1 } else { rayon::current_num_threads() };
    let splits = split(c, &steps, threads.div_ceil(directions));

    let width = config.cell.states.len() * config.hidden_size;
    let padded = config.state_size().next_multiple_of(4);
    let y = OutputRows { data: y.as_mut_ptr(), len: y.len() };
    let mut state = &mut state[..];
    if width == 0 {
        state = &mut [];
    }
    let mut state = &mut state[z0 * batch * width..];
    let mut operand = &mut operand[z0 * batch * padded..];
    let mut tasks = Vec::new();
    for direction in 0..directions {
        for range in &splits {
            let (own_state, rest) = state.split_at_mut(range.len() * width);
            let (own_operand, other) = operand.split_at_mut(range.len() * padded);
            (state, operand) = (rest, other);
            let (first, steps) = (range.start, steps.clone());
            tasks.push(Task { direction, first, steps, state: own_state, operand: own_operand, pre, y: &y });
        }
    }
    if tasks.len() == 1 || threads == 1 {
        tasks.into_iter().for_each(|t| t.run(c, dims.layer as usize, dims.pre_rows as usize));
    } else {
        tasks.into_par_iter().for_each(|t| t.run(c, dims.layer as usize, dims.pre_rows as usize));
    }
}

/// `parts` stretches of sorted sequences with about the same number of rows each.
fn split<T: Real>(c: &Context<'_, T>, steps: &std::ops::Range<usize>, parts: usize) -> Vec<std::ops::Range<usize>> {
    let batch = c.plan.shape.batch;
    let length = |b: usize| c.schedule.length(b).clamp(steps.start, steps.end) - steps.start;
    let total: usize = (0..batch).map(length).sum();
    let (mut ranges, mut start, mut done) = (Vec::new(), 0, 0);
    for b in 0..batch {
        done += length(b);
        if done * parts >= total * (ranges.len() + 1) || b + 1 == batch {
            ranges.push(start..b + 1);
            start = b + 1;
        }
    }
    if start < batch {
        ranges.push(start..batch);
    }
    ranges.retain(|r| !r.is_empty());
    ranges
}

/// The rows of y, written by several tasks.
struct OutputRows<T> {
    data: *mut T,
    len: usize,
}

// SAFETY: tasks write disjoint ranges only: a range belongs to one (time, sequence, direction), and a task owns its
// sequences of its direction.
unsafe impl<T: Send> Sync for OutputRows<T> {}

impl<T: Copy> OutputRows<T> {
    fn write(&self, at: usize, values: &[T]) {
        assert!(at + values.len() <= self.len);
        // SAFETY: in bounds by the assertion; no other task reads or writes this range (see above), and the vector behind
        // `data` is borrowed mutably for as long as the tasks run.
        unsafe { std::ptr::copy_nonoverlapping(values.as_ptr(), self.data.add(at), values.len()) }
    }
}

/// Some sequences of one direction.
struct Task<'a, T> {
    direction: usize,
    /// The first of its sorted sequences.
    first: usize,
    steps: std::ops::Range<usize>,
    /// `[rows, states, H]`
    state: &'a mut [T],
    /// `[rows, padded width of h]`
    operand: &'a mut [T],
    pre: &'a [T],
    y: &'a OutputRows<T>,
}

impl<T: Real> Task<'_, T> {
    fn run(self, c: &Context<'_, T>, layer: usize, pre_rows: usize) {
        let config = &c.plan.config;
        let directions = config.directions();
        let output = config.state_size();
        let padded = output.next_multiple_of(4);
        let rows = self.operand.len() / padded;
        let packed = &c.layers[layer * directions + self.direction].stages;
        let pre_width = c.layers[0].bias.len();
        let widest = c.stages.iter().map(|s| s.operand.max(s.units).next_multiple_of(4)).max().unwrap_or(4);
        // The operand and the stage's output swap at every stage.
        let (mut from, mut to) = (vec![T::default(); rows * widest], vec![T::default(); rows * widest]);
        from[..rows * padded].copy_from_slice(self.operand);
        let mut scratch = Vec::new();
        let block_row = c.schedule.row_offset(self.steps.start);

        for s in self.steps.clone() {
            let active = c.schedule.active(s).saturating_sub(self.first).min(rows);
            if active == 0 {
                break;
            }
            let first_row = c.schedule.row_offset(s) + self.first;
            let pre = &self.pre[(self.direction * pre_rows + first_row - block_row) * pre_width..];
            let (mut stride, mut pre_offset) = (padded, 0);
            for (shape, packed) in c.stages.iter().zip(packed) {
                let out_stride = shape.padded_units();
                let state = if shape.states == 0 { &mut [][..] } else { &mut *self.state };
                T::stage_fn(&shape.stage.forward)(&mut Recur {
                    shape: *shape,
                    act: c.act,
                    packed,
                    rows: active,
                    operand: &from,
                    operand_stride: stride,
                    pre,
                    pre_stride: pre_width,
                    pre_offset,
                    state,
                    out: &mut to,
                    out_stride,
                    product: None,
                    scratch: &mut scratch,
                });
                std::mem::swap(&mut from, &mut to);
                stride = out_stride;
                pre_offset += shape.stage.input_gates() * shape.units;
            }
            let outer = &c.schedule.rows(self.direction)[first_row..][..active];
            for (row, &outer) in outer.iter().enumerate() {
                let h = &from[row * padded..][..output];
                self.y.write((outer as usize * directions + self.direction) * output, h);
                // A sequence that ends here, or goes on in the next block, leaves its h in the operand slot.
                if s + 1 == self.steps.end || s + 1 == c.schedule.length(self.first + row) {
                    self.operand[row * padded..][..padded].copy_from_slice(&from[row * padded..][..padded]);
                }
            }
        }
    }
}
