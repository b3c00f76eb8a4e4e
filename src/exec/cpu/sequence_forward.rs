//! Twin of `sequence_forward`: a block of steps with the time loop inside. A task owns some sequences of one direction and
//! all their units, so tasks never wait for each other; results do not depend on how sequences are split among tasks.

use super::recur::{Recur, Scratch, recur};
use super::shared::Shared;
use super::threads::for_each;
use super::{Context, Pair};
use crate::num::Real;
use crate::plan::{Dims, Dispatch};
use std::ops::Range;

/// Multiply-adds of a block from which a second thread pays.
const PARALLEL_WORK: usize = 1 << 18;

pub(super) fn sequence_forward<T: Real>(c: &Context<'_, T>, d: &Dispatch, slots: &mut [Vec<T>]) {
    let [_, pre, operand, state, y, _, keep @ ..] = slots else { unreachable!("kernel table") };
    let memory = Memory {
        pre: Shared::new(pre),
        operand: Shared::new(operand),
        state: Shared::new(state),
        y: Shared::new(y),
        history: keep.first_mut().map(|h| Shared::new(h)),
        dims: &c.plan.dims[d.dims],
        write_y: d.write_y,
    };
    for_each_task(c, d, |task| task.forward(c, &memory));
}

/// What tasks share. Each touches only the rows of its own sequences and direction, and drops a part before it takes the next
/// overlapping one: what `Shared::part` asks for.
struct Memory<'a, T> {
    pre: Shared<'a, T>,
    operand: Shared<'a, T>,
    state: Shared<'a, T>,
    y: Shared<'a, T>,
    history: Option<Shared<'a, T>>,
    dims: &'a Dims,
    write_y: bool,
}

/// Some sequences of one direction over a block of steps.
pub(super) struct Task {
    pub direction: usize,
    /// Its index along z of the dispatch.
    pub index: usize,
    /// layer · D + direction
    pub z: usize,
    /// Sorted sequences.
    pub sequences: Range<usize>,
    pub steps: Range<usize>,
}

/// Splits a block's sequences and directions into tasks of about equal work and runs them, on threads where that pays.
pub(super) fn for_each_task<T: Real>(c: &Context<'_, T>, d: &Dispatch, run: impl Fn(&Task) + Send + Sync) {
    let dims = &c.plan.dims[d.dims];
    let pairs = c.pairs(d, dims.first as usize);
    let steps = |pair: &Pair| pair.s..(pair.s + (dims.end - dims.first) as usize).min(c.schedule.steps());
    let rows = |steps: Range<usize>| c.schedule.row_offset(steps.end) - c.schedule.row_offset(steps.start);
    let rows: usize = pairs.iter().map(|pair| rows(steps(pair))).sum();
    let work: usize = c.stages.iter().map(|s| s.matrix_rows() * s.depth()).sum::<usize>() * rows;
    let threads = if work < PARALLEL_WORK { 1 } else { rayon::current_num_threads() };
    let tasks: Vec<Task> = pairs
        .iter()
        .flat_map(|pair| {
            let (steps, index, direction) = (steps(pair), pair.z, pair.direction);
            let parts = split(c, &steps, threads.div_ceil(pairs.len()));
            parts.into_iter().map(move |sequences| Task {
                direction,
                index,
                z: pair.entry,
                sequences,
                steps: steps.clone(),
            })
        })
        .collect();
    for_each(tasks.len(), threads, |n| run(&tasks[n]));
}

/// `parts` stretches of sorted sequences with about the same number of rows each.
fn split<T: Real>(c: &Context<'_, T>, steps: &Range<usize>, parts: usize) -> Vec<Range<usize>> {
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
    ranges
}

impl Task {
    /// How many of the task's sequences run at `step`.
    pub fn active<T: Real>(&self, c: &Context<'_, T>, step: usize) -> usize {
        c.schedule.active(step).clamp(self.sequences.start, self.sequences.end) - self.sequences.start
    }

    fn forward<T: Real>(&self, c: &Context<'_, T>, m: &Memory<'_, T>) {
        let config = &c.plan.config;
        let (output, directions, batch) = (config.state_size(), config.directions(), c.plan.shape.batch);
        let (padded, stored) = (output.next_multiple_of(4), config.operand_row(c.plan.train));
        let states = config.states().len() * config.hidden_size;
        let first = self.sequences.start;
        let rows = self.active(c, self.steps.start);
        let widest = c.stages.iter().map(|s| s.operand.max(s.units).next_multiple_of(4)).max().unwrap_or(4);
        // The operand and the stage's output swap at every stage.
        let (mut from, mut to) = (vec![T::default(); rows * widest], vec![T::default(); rows * widest]);
        // SAFETY: rows of this task's sequences and direction only; see `Memory`.
        let operand = |b: usize| unsafe { m.operand.part((self.z * batch + first + b) * stored, stored) };
        for b in 0..rows {
            from[b * padded..][..padded].copy_from_slice(&operand(b)[..padded]);
        }
        // h itself, where the product reads it masked.
        let factors = c.recurrent_factors(self.z, first..first + rows);
        let mut unmasked = vec![T::default(); if factors.is_empty() { 0 } else { rows * padded }];
        let state: &mut [T] = match states {
            0 => &mut [],
            // SAFETY: rows of this task's sequences and direction only; see `Memory`.
            _ => unsafe { m.state.part((self.z * batch + first) * states, rows * states) },
        };
        let mut scratch = Scratch::default();

        for s in self.steps.clone() {
            let active = self.active(c, s);
            if active == 0 {
                break;
            }
            let first_row = c.schedule.row_offset(s) + first;
            let width = c.rows.width;
            // SAFETY: rows of this task's sequences and direction only; see `Memory`.
            let pre = unsafe { m.pre.part(c.pre_row(m.dims, self.index, first_row) * width, active * width) };
            for b in (0..active).filter(|&b| c.is_reset(self.direction, s, first + b)) {
                let place = (config.num_layers * directions + self.z) * batch + first + b;
                // SAFETY: what the sequence's own episodes begin from; no task writes it.
                let initial = unsafe { m.operand.part(place * stored, padded) };
                from[b * padded..][..padded].copy_from_slice(initial);
                if states > 0 {
                    // SAFETY: as above.
                    let initial = unsafe { m.state.part(place * states, states) };
                    state[b * states..][..states].copy_from_slice(initial);
                }
            }
            let mut stride = padded;
            for (n, shape) in c.stages.iter().enumerate() {
                let out_stride = shape.padded_units();
                let zone = c.zone(n, self.z, (first..first + active).map(|b| (s, b)));
                recur(&mut Recur {
                    shape: *shape,
                    zone: zone.as_ref(),
                    act: &c.act[self.direction],
                    packed: &c.layers[self.z].stages[n],
                    rows: active,
                    operand: &from,
                    operand_stride: stride,
                    pre: &mut *pre,
                    pre_stride: width,
                    pre_at: c.rows.stages[n],
                    scale_at: c.rows.scales[n].1,
                    train: m.history.is_some(),
                    state: if shape.states == 0 { &mut [] } else { &mut *state },
                    out: &mut to,
                    out_stride,
                    product: None,
                    scratch: &mut scratch,
                });
                if n + 1 == c.stages.len() && !factors.is_empty() {
                    unmasked[..active * padded].copy_from_slice(&to[..active * padded]);
                    for (row, factors) in to.chunks_mut(padded).zip(factors.chunks(output)).take(active) {
                        row.iter_mut().zip(factors).for_each(|(h, &f)| *h = *h * f);
                    }
                }
                if let Some(history) = &m.history {
                    let row = c.history_after(m.dims, self.index, s, first) * c.past.width;
                    // SAFETY: rows of this task's sequences and direction only; see `Memory`.
                    let past = unsafe { history.part(row, active * c.past.width) };
                    let kept = shape.states * shape.state_stride;
                    for (b, past) in past.chunks_exact_mut(c.past.width).enumerate() {
                        past[..kept].copy_from_slice(&state[b * kept..][..kept]);
                        past[c.past.links[n]..][..shape.units].copy_from_slice(&to[b * out_stride..][..shape.units]);
                    }
                }
                std::mem::swap(&mut from, &mut to);
                stride = out_stride;
            }
            let outer = c.output_rows(m.dims, self.index, first_row).take(active);
            for (b, outer) in outer.enumerate() {
                let seen = &from[b * padded..][..padded];
                let h = if factors.is_empty() { seen } else { &unmasked[b * padded..][..padded] };
                if m.write_y {
                    // SAFETY: rows of this task's sequences and direction only; see `Memory`.
                    let y = unsafe { m.y.part(outer * output, output) };
                    y.copy_from_slice(&h[..output]);
                    c.store(y);
                }
                // A sequence that ends here, or goes on in the next block, leaves its h in the operand slot.
                if s + 1 == self.steps.end || s + 1 == c.schedule.length(first + b) {
                    let row = operand(b);
                    row[..padded].copy_from_slice(seen);
                    row[padded..].copy_from_slice(&h[..stored - padded]);
                }
            }
        }
    }
}
