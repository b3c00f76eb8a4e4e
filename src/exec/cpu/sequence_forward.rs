//! Twin of `sequence_forward`: a block of steps with the time loop inside. A task owns some sequences of one direction and
//! all their units, so tasks never wait for each other; or, where matrices are large, the threads of one task share its units step by
//! step. Results do not depend on how work is split.

use super::recur::{Recur, Workspace, recur};
use super::scratch::Scratch;
use super::team::in_step;
use super::threads::for_each;
use super::{Context, Pair};
use crate::num::Aligned;
use crate::num::Real;
use crate::num::Shared;
use crate::plan::{Dims, Dispatch};
use std::ops::Range;

/// Multiply-adds of a block from which a second thread pays.
const PARALLEL_WORK: usize = 1 << 18;
/// Bytes of a step's matrices from which threads share its units.
const TEAM_BYTES: usize = 1 << 19;
/// Pieces of a step per thread of a team: one that comes late leaves some to the others.
const PIECES: usize = 2;

pub(super) fn sequence_forward<T: Real>(c: &Context<'_, T>, d: &Dispatch, slots: &mut [Aligned<T>]) {
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
    let threads = team(c);
    if threads > 1 && c.pairs(d, memory.dims.first as usize).len() < threads {
        tasks(c, d, 1).iter().for_each(|task| task.forward(c, &memory, threads));
    } else {
        for_each_task(c, d, |task| task.forward(c, &memory, 1));
    }
}

/// Threads that share the units of a step: 1 where that does not pay, or where a unit's value depends on all others of its row.
fn team<T: Real>(c: &Context<'_, T>) -> usize {
    let bytes: usize = c.stages.iter().map(|s| s.matrix_rows() * s.depth() * size_of::<T>()).sum();
    let whole = c.stages.iter().any(|s| s.stage.normalise)
        || c.plan.options.resets.is_some()
        || c.plan.config.drops_recurrent(c.plan.train);
    if bytes < TEAM_BYTES || whole { 1 } else { rayon::current_num_threads() }
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
    let all = tasks(c, d, 1);
    let rows = |task: &Task| c.schedule.row_offset(task.steps.end) - c.schedule.row_offset(task.steps.start);
    let rows: usize = all.iter().map(rows).sum();
    let work: usize = c.stages.iter().map(|s| s.matrix_rows() * s.depth()).sum::<usize>() * rows;
    if work < PARALLEL_WORK {
        all.iter().for_each(run);
        return;
    }
    let threads = rayon::current_num_threads();
    let tasks = tasks(c, d, threads.div_ceil(all.len()));
    for_each(tasks.len(), threads, |n| run(&tasks[n]));
}

/// A block's directions, the sequences of each in `parts` parts.
fn tasks<T: Real>(c: &Context<'_, T>, d: &Dispatch, parts: usize) -> Vec<Task> {
    let dims = &c.plan.dims[d.dims];
    let pairs = c.pairs(d, dims.first as usize);
    let steps = |pair: &Pair| pair.s..(pair.s + (dims.end - dims.first) as usize).min(c.schedule.steps());
    let one = |pair: &Pair| {
        let (steps, index, direction, z) = (steps(pair), pair.z, pair.direction, pair.entry);
        let parts = split(c, &steps, parts).into_iter();
        parts.map(move |sequences| Task { direction, index, z, sequences, steps: steps.clone() })
    };
    pairs.iter().flat_map(one).collect()
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

    /// All steps. Several threads share the units of a step where its matrices are so large that they would rather read a part of them
    /// each than all of them twice.
    fn forward<T: Real>(&self, c: &Context<'_, T>, m: &Memory<'_, T>, threads: usize) {
        let rows = self.active(c, self.steps.start);
        let steps = self.steps.clone().take_while(|&s| self.active(c, s) > 0).count();
        let widest = c.stages.iter().map(|s| s.operand.max(s.units).next_multiple_of(4)).max().unwrap_or(4);
        // The operand and the stage's output swap at every stage.
        let mut buffers = [0; 2].map(|_| Scratch::any(rows * widest));
        let buffers = buffers.each_mut().map(|buffer| Shared::new(buffer));
        let run = Run {
            task: self,
            c,
            m,
            buffers,
            factors: c.recurrent_factors(self.z, self.sequences.start..self.sequences.start + rows),
            states: c.plan.config.states().len() * c.plan.config.hidden_size,
        };
        run.begin(rows);
        let pieces = if threads > 1 { threads * PIECES } else { 1 };
        let stages = c.stages.len();
        in_step((steps * stages, pieces, threads), Workspace::default, |scratch, phase, piece| {
            run.stage((self.steps.start + phase / stages, phase % stages), (phase, piece, pieces), scratch);
        });
    }
}

/// A task under way.
struct Run<'a, T: Real> {
    task: &'a Task,
    c: &'a Context<'a, T>,
    m: &'a Memory<'a, T>,
    /// `[sequences, units]`: what a stage reads and what it writes.
    buffers: [Shared<'a, T>; 2],
    /// What h is multiplied by before the product reads it; empty: nothing.
    factors: Vec<T>,
    /// Values of a sequence's states.
    states: usize,
}

impl<T: Real> Run<'_, T> {
    /// Values of a row of h among the operands.
    fn padded(&self) -> usize {
        self.c.plan.config.state_size().next_multiple_of(4)
    }

    /// The row of the operand slot of sequence `b` of the task.
    ///
    /// # Safety
    /// As [`Shared::part`].
    #[expect(clippy::mut_from_ref, reason = "disjoint parts of one slice; the caller keeps them so")]
    unsafe fn operand(&self, b: usize) -> &mut [T] {
        let stored = self.c.plan.config.operand_row(self.c.plan.train);
        let place = self.task.z * self.c.plan.shape.batch + self.task.sequences.start + b;
        // SAFETY: the caller's promise.
        unsafe { self.m.operand.part(place * stored, stored) }
    }

    /// h before the first step.
    fn begin(&self, rows: usize) {
        let padded = self.padded();
        for b in 0..rows {
            // SAFETY: rows of this task's sequences and direction only, before anything else runs; see `Memory`.
            unsafe { self.buffers[0].part(b * padded, padded).copy_from_slice(&self.operand(b)[..padded]) };
        }
    }

    /// Where episodes begin at step `s`: what they begin from.
    fn begin_episodes(&self, s: usize, from: &Shared<'_, T>, active: usize) {
        let (c, task, padded) = (self.c, self.task, self.padded());
        let config = &c.plan.config;
        let (stored, states) = (config.operand_row(c.plan.train), self.states);
        let (batch, first) = (c.plan.shape.batch, task.sequences.start);
        for b in (0..active).filter(|&b| c.is_reset(task.direction, s, first + b)) {
            let own = task.z * batch + first + b;
            let place = config.num_layers * config.directions() * batch + own;
            // SAFETY: rows of this task's sequences, and what their own episodes begin from, which no task writes.
            unsafe {
                from.part(b * padded, padded).copy_from_slice(self.m.operand.part(place * stored, padded));
                if states > 0 {
                    self.m.state.part(own * states, states).copy_from_slice(self.m.state.part(place * states, states));
                }
            }
        }
    }

    /// One stage of step `s`: piece `piece` of `pieces` of its units.
    fn stage(&self, (s, n): (usize, usize), (phase, piece, pieces): (usize, usize, usize), scratch: &mut Workspace<T>) {
        let Self { task, c, m, .. } = self;
        let (shape, active, first) = (c.stages[n], task.active(c, s), task.sequences.start);
        let [from, to] = [phase, phase + 1].map(|n| &self.buffers[n % 2]);
        if n == 0 && c.plan.options.resets.is_some() {
            self.begin_episodes(s, from, active);
        }
        let packed = &c.layers[task.z].stages[n];
        let all = packed.panels().end;
        // From an even panel to an even one: two may be in one stream.
        let part = |piece: usize| (all.div_ceil(2) * piece / pieces * 2).min(all);
        let panels = part(piece)..part(piece + 1);
        if panels.is_empty() {
            return;
        }
        let (first_row, width) = (c.schedule.row_offset(s) + first, c.rows.width);
        let states = self.states;
        let (padded, out_stride) = (self.padded(), shape.padded_units());
        let stride = if n == 0 { padded } else { c.stages[n - 1].padded_units() };
        let zone = c.zone(n, task.z, (first..first + active).map(|b| (s, b)));
        recur(&mut Recur {
            shape,
            zone: zone.as_ref(),
            act: &c.act[task.direction],
            packed,
            rows: active,
            panels: panels.clone(),
            // SAFETY: nobody writes it in this phase.
            operand: unsafe { from.seen(0, active * stride) },
            operand_stride: stride,
            pre: m.pre.within(c.pre_row(m.dims, task.index, first_row) * width, active * width),
            pre_stride: width,
            pre_at: c.rows.stages[n],
            scale_at: c.rows.scales[n].1,
            train: m.history.is_some(),
            state: match shape.states {
                0 => Shared::new(&mut []),
                _ => m.state.within((task.z * c.plan.shape.batch + first) * states, active * states),
            },
            out: to.within(0, active * out_stride),
            out_stride,
            product: None,
            scratch,
        });
        let lanes = packed.padded / all;
        let (units, last) = (panels.start * lanes..(panels.end * lanes).min(shape.units), panels.end == all);
        // Behind the last unit, zeros.
        let own = units.start..if last { out_stride } else { units.end };
        let made = |b: usize| {
            // SAFETY: units of this piece, which has written them.
            unsafe { to.part(b * out_stride + own.start, own.len()) }
        };
        if n + 1 == c.stages.len() {
            self.leave(s, (0..active).map(made), (&own, units.len()));
        }
        let Some(history) = &m.history else { return };
        for b in 0..active {
            let row = c.history_after(m.dims, task.index, s, first + b) * c.past.width;
            // SAFETY: units of this piece, of rows of this task's sequences and direction; see `Memory`.
            let past = |at: usize| unsafe { history.part(row + at + units.start, units.len()) };
            for state in 0..shape.states {
                let at = state * shape.state_stride;
                let kept = (task.z * c.plan.shape.batch + first + b) * states + at + units.start;
                // SAFETY: as above.
                past(at).copy_from_slice(unsafe { m.state.seen(kept, units.len()) });
            }
            past(c.past.links[n]).copy_from_slice(&made(b)[..units.len()]);
        }
    }

    /// h of step `s`, the units `own` of each sequence and what pads them: to y, to the operand slot, and masked to the next product.
    fn leave<'h>(&self, s: usize, h: impl ExactSizeIterator<Item = &'h mut [T]>, (own, units): (&Range<usize>, usize))
    where
        T: 'h,
    {
        let Self { task, c, m, .. } = self;
        let (config, first) = (&c.plan.config, task.sequences.start);
        let (output, stored) = (config.state_size(), config.operand_row(c.plan.train));
        let outer = c.output_rows(m.dims, task.index, c.schedule.row_offset(s) + first);
        for (b, (h, outer)) in h.zip(outer).enumerate() {
            if m.write_y {
                // SAFETY: units of this piece, of rows of this task's sequences and direction; see `Memory`.
                let y = unsafe { m.y.part(outer * output + own.start, units) };
                y.copy_from_slice(&h[..units]);
                c.store(y);
            }
            // A sequence that ends here, or goes on in the next block, leaves its h in the operand slot.
            let ends = s + 1 == task.steps.end || s + 1 == c.schedule.length(first + b);
            let place = (task.z * c.plan.shape.batch + first + b) * stored + own.start;
            // SAFETY: as above.
            let operand = |at: usize| unsafe { m.operand.part(place + at, own.len()) };
            if !self.factors.is_empty() {
                if ends {
                    operand(self.padded()).copy_from_slice(h);
                }
                h.iter_mut().zip(&self.factors[b * output..][own.start..]).take(units).for_each(|(h, &f)| *h = *h * f);
            }
            if ends {
                operand(0).copy_from_slice(h);
            }
        }
    }
}
