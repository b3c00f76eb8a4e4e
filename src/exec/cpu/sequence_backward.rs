//! Twins of `sequence_backward` and `step_backward`: the adjoint of the recurrence, last step first, and of its ends
//! (`load_gradient`, `store_gradient`).

use super::normalise::normalise_backward;
use super::retrace::{Back, Retrace, advance, backward};
use super::scratch::Scratch;
use super::sequence_forward::{Task, for_each_task};
use super::tile::{Rows, multiply};
use super::{Context, Pair};
use crate::model::cell::{Initial, Product};
use crate::num::Aligned;
use crate::num::Real;
use crate::num::Shared;
use crate::plan::{Dims, Dispatch, Reset, Strategy};

/// dhn, dcn → gradients of h and the states after the last step, in sorted order; sums of unit parameters' gradients start
/// at 0.
pub(super) fn load_gradient<T: Real>(c: &Context<'_, T>, d: &Dispatch, slots: &mut [Aligned<T>]) {
    let [dhn, dcn, d_hidden, d_state, d_unit, _] = slots else { unreachable!("kernel table") };
    let config = &c.plan.config;
    let (batch, h, states) = (c.plan.shape.batch, config.hidden_size, config.states());
    let (dims, p) = (&c.plan.dims[d.dims], config.state_size());
    if c.plan.options.resets.is_some() {
        // Behind them, those of what episodes began from.
        d_hidden.fill(T::default());
        if !states.is_empty() {
            d_state.fill(T::default());
        }
    }
    let sums = dims.planes as usize * batch * config.cell.unit_sums() * h;
    if sums > 0 {
        d_unit[..sums].fill(T::default());
    }
    for z in 0..d.groups.2 {
        for b in 0..batch {
            let from = (dims.layer as usize * config.directions() + z) * batch + c.schedule.order(b);
            d_hidden[c.place(dims, z, b) * p..][..p].copy_from_slice(&dhn[from * p..][..p]);
            let mut part = from * config.cell_size();
            for (s, state) in states.iter().enumerate() {
                let row = &mut d_state[(c.place(dims, z, b) * states.len() + s) * h..][..h];
                match state.initial {
                    Initial::Cell => {
                        row.copy_from_slice(&dcn[part..][..h]);
                        part += h;
                    }
                    _ => row.fill(T::default()),
                }
            }
        }
    }
}

/// The gradient of h before a segment's first step, for the sequences that run there.
pub(super) fn carry_gradient<T: Real>(c: &Context<'_, T>, d: &Dispatch, slots: &mut [Aligned<T>]) {
    let [_, pre, d_hidden, _] = slots else { unreachable!("kernel table") };
    let dims = &c.plan.dims[d.dims];
    let (p, first) = (c.plan.config.state_size(), dims.segment as usize);
    if first >= c.schedule.steps() {
        return;
    }
    for direction in 0..d.groups.2 {
        let z = dims.layer as usize * c.plan.config.directions() + direction;
        episode_gradient(c, dims, (direction, z), pre, d_hidden);
        if dims.first > dims.segment {
            continue;
        }
        let row = c.pre_row(dims, direction, c.schedule.row_offset(first));
        let out = &mut d_hidden[c.place(dims, direction, 0) * p..][..c.schedule.active(first) * p];
        c.operand_gradient(z, 0, &pre[row * c.rows.width..], out);
        out.iter_mut().zip(c.recurrent_factors(z, 0..c.schedule.active(first))).for_each(|(d, f)| *d = *d * f);
        for b in (0..c.schedule.active(first)).filter(|&b| c.is_reset(direction, first, b)) {
            out[b * p..][..p].fill(T::default());
        }
    }
}

/// Gradients of h that the episodes of a block of steps began from, last episode first; behind those of all sequences.
fn episode_gradient<T: Real>(
    c: &Context<'_, T>,
    dims: &Dims,
    (direction, z): (usize, usize),
    pre: &[T],
    d_hidden: &mut [T],
) {
    let (behind, p) = (dims.planes as usize * c.plan.shape.batch, c.plan.config.state_size());
    if c.plan.options.resets.is_none() {
        return;
    }
    let steps = dims.first as usize..(dims.end as usize).min(c.schedule.steps());
    let mut d = vec![T::default(); p];
    for s in steps.rev() {
        for b in (0..c.schedule.active(s)).filter(|&b| c.is_reset(direction, s, b)) {
            let row = c.pre_row(dims, direction, c.schedule.row_offset(s) + b);
            c.operand_gradient(z, 0, &pre[row * c.rows.width..], &mut d);
            d.iter_mut().zip(c.recurrent_factors(z, b..b + 1)).for_each(|(d, f)| *d = *d * f);
            let initial = &mut d_hidden[(behind + c.place(dims, direction, b)) * p..][..p];
            initial.iter_mut().zip(&d).for_each(|(i, &d)| *i = *i + d);
        }
    }
}

/// Gradients of h0 and c0, in the caller's order.
pub(super) fn store_gradient<T: Real>(c: &Context<'_, T>, d: &Dispatch, slots: &mut [Aligned<T>]) {
    let [d_hidden, d_state, dh0, dc0, _] = slots else { unreachable!("kernel table") };
    let config = &c.plan.config;
    let (batch, h, p, states) = (c.plan.shape.batch, config.hidden_size, config.state_size(), config.states());
    let dims = &c.plan.dims[d.dims];
    for direction in 0..d.groups.2 {
        let z = dims.layer as usize * config.directions() + direction;
        for b in 0..batch {
            let to = z * batch + c.schedule.order(b);
            let out = &mut dh0[to * p..][..p];
            let place = c.place(dims, direction, b);
            let sum = |all: &[T], at: usize, n: usize| {
                let mut row = all[at * n..][..n].to_vec();
                if c.plan.options.resets == Some(Reset::Initial) {
                    let initial = &all[all.len() / 2 + at * n..][..n];
                    row.iter_mut().zip(initial).for_each(|(d, &i)| *d = *d + i);
                }
                row
            };
            out.copy_from_slice(&sum(d_hidden, place, p));
            let mut part = to * config.cell_size();
            for (s, state) in states.iter().enumerate() {
                let row = sum(d_state, place * states.len() + s, h);
                match state.initial {
                    Initial::Cell => {
                        dc0[part..][..h].copy_from_slice(&row);
                        part += h;
                    }
                    Initial::Hidden => out.iter_mut().zip(&row).for_each(|(o, &v)| *o = *o + v),
                    Initial::Scratch => {}
                }
            }
        }
    }
}

/// What tasks share. Each touches only the rows of its own sequences and direction, and drops a part before it takes the next
/// overlapping one: what `Shared::part` asks for.
struct Memory<'a, T> {
    pre: Shared<'a, T>,
    dims: &'a Dims,
    history: &'a [T],
    d_state: Shared<'a, T>,
    dy: &'a [T],
    d_hidden: &'a [T],
    has_dy: bool,
    d_unit: Shared<'a, T>,
}

pub(super) fn sequence_backward<T: Real>(c: &Context<'_, T>, d: &Dispatch, slots: &mut [Aligned<T>]) {
    let [_, pre, history, d_state, dy, d_hidden, d_unit, _] = slots else { unreachable!("kernel table") };
    let (pre, d_state, d_unit) = (Shared::new(pre), Shared::new(d_state), Shared::new(d_unit));
    let dims = &c.plan.dims[d.dims];
    let m = Memory { pre, dims, history, d_state, dy, d_hidden, has_dy: d.write_y, d_unit };
    for_each_task(c, d, |task| {
        let factors = c.recurrent_factors(task.z, task.sequences.clone());
        for s in task.steps.clone().rev() {
            for n in (0..c.stages.len()).rev() {
                task.backward(c, &m, &factors, s, n);
            }
        }
    });
}

pub(super) fn step_backward<T: Real>(c: &Context<'_, T>, d: &Dispatch, step: usize, slots: &mut [Aligned<T>]) {
    let [pre, _, history, d_state, dy, d_hidden, d_unit, _] = slots else { unreachable!("kernel table") };
    let (pre, d_state, d_unit) = (Shared::new(pre), Shared::new(d_state), Shared::new(d_unit));
    let dims = &c.plan.dims[d.dims];
    let m = Memory { pre, dims, history, d_state, dy, d_hidden, has_dy: d.write_y, d_unit };
    for Pair { z: index, direction, entry: z, s } in c.pairs(d, step) {
        let sequences = 0..c.plan.shape.batch;
        let factors = c.recurrent_factors(z, sequences.clone());
        Task { direction, index, z, sequences, steps: s..s + 1 }.backward(c, &m, &factors, s, d.stage);
    }
}

impl Task {
    /// One stage of one step: the gradient of its `out`, then the adjoint of the pointwise part.
    fn backward<T: Real>(&self, c: &Context<'_, T>, m: &Memory<'_, T>, factors: &[T], s: usize, n: usize) {
        let active = self.active(c, s);
        if active == 0 {
            return;
        }
        let shape = c.stages[n];
        let (behind, first) = (m.dims.planes as usize * c.plan.shape.batch, self.sequences.start);
        let first_row = c.schedule.row_offset(s) + first;
        let width = c.rows.width;
        let mut d_out = self.out_gradient(c, m, factors, s, n);
        let zone = |stage| c.zone(stage, self.z, (first..first + active).map(|b| (s, b)));
        let zones: Vec<_> = (0..=n).map(zone).collect();
        let states = shape.states * shape.state_stride;
        let mut state = Scratch::any(active * states);
        for b in 0..if states == 0 { 0 } else { active } {
            let before = c.history_before(m.dims, self.index, s, first + b) * c.past.width;
            state[b * states..][..states].copy_from_slice(&m.history[before..][..states]);
        }
        let place = c.place(m.dims, self.index, first);
        let d_state: &mut [T] =
            // SAFETY: rows of this task's sequences and direction only; see `Memory`.
            if states == 0 { &mut [] } else { unsafe { m.d_state.part(place * states, active * states) } };
        let sums = if shape.params + shape.stage.gains() == 0 { 0 } else { c.plan.config.cell.unit_sums() };
        let summed = sums * shape.units;
        let d_unit: &mut [T] =
            // SAFETY: rows of this task's sequences and direction only; see `Memory`.
            if summed == 0 { &mut [] } else { unsafe { m.d_unit.part(place * summed, active * summed) } };
        // Gradients of normalised values: in a step's own dispatch behind the sums, for the next dispatch.
        let normal = if shape.stage.normalise { c.plan.config.cell.normal_gates() * shape.units } else { 0 };
        let step = c.plan.strategy == Strategy::Step;
        let mut own = Scratch::filled(if step { 0 } else { active * normal }, T::default());
        let behind = behind * summed + place * normal;
        let d_normal: &mut [T] =
            // SAFETY: rows of this task's sequences and direction only; see `Memory`.
            if step && normal > 0 { unsafe { m.d_unit.part(behind, active * normal) } } else { &mut own };
        let retrace = |stage: usize| Retrace {
            shape: c.stages[stage],
            zone: zones[stage].as_ref(),
            act: &c.act[self.direction],
            packed: &c.layers[self.z].stages[stage],
            rows: active,
            // SAFETY: rows of this task's sequences and direction only, one `Retrace` at a time; see `Memory`.
            pre: unsafe { m.pre.part(c.pre_row(m.dims, self.index, first_row) * width, active * width) },
            pre_stride: width,
            pre_at: c.rows.stages[stage],
        };
        // The states before this stage: those before the step, taken through the stages before it.
        for earlier in 0..if states > 0 { n } else { 0 } {
            advance(retrace(earlier), &mut state, &mut []);
        }
        let back = Back {
            d_out: &mut d_out,
            d_state: &mut *d_state,
            d_unit,
            sums,
            d_normal: &mut *d_normal,
            d_normal_stride: normal,
        };
        backward(retrace(n), &mut state, back);
        if normal > 0 && !step {
            // SAFETY: rows of this task's sequences and direction only; see `Memory`.
            let pre = unsafe { m.pre.part(c.pre_row(m.dims, self.index, first_row) * width, active * width) };
            for (row, d) in pre.chunks_exact_mut(width).zip(d_normal.chunks_exact(normal)) {
                normalise_backward(c, n, row, d);
            }
        }
        if n == 0 && states > 0 {
            self.leave_episodes(c, m, s, d_state);
        }
    }

    /// Where an episode begins at step `s`, the gradient of the states before it belongs to what it began from (behind those of
    /// all sequences), not to the step before.
    fn leave_episodes<T: Real>(&self, c: &Context<'_, T>, m: &Memory<'_, T>, s: usize, d_state: &mut [T]) {
        let (behind, first) = (m.dims.planes as usize * c.plan.shape.batch, self.sequences.start);
        let states = d_state.len() / self.active(c, s);
        for (b, d_state) in d_state.chunks_exact_mut(states).enumerate() {
            if c.is_reset(self.direction, s, first + b) {
                let place = behind + c.place(m.dims, self.index, first + b);
                // SAFETY: the row of one of this task's sequences and of its direction; see `Memory`.
                let initial = unsafe { m.d_state.part(place * states, states) };
                initial.iter_mut().zip(&*d_state).for_each(|(i, &d)| *i = *i + d);
                d_state.fill(T::default());
            }
        }
    }

    /// The gradient of stage `n`'s `out`: what the next stage's product passes back, or for the last stage the gradient of y
    /// plus that of h from step `s + 1` (from d_hidden at the end of the sequence or segment; none where an
    /// episode begins there).
    fn out_gradient<T: Real>(
        &self,
        c: &Context<'_, T>,
        m: &Memory<'_, T>,
        factors: &[T],
        s: usize,
        n: usize,
    ) -> Scratch<T> {
        let units = c.stages[n].units;
        let first = self.sequences.start;
        let active = self.active(c, s);
        let width = c.rows.width;
        let last = n + 1 == c.stages.len();
        let (step, next, rows) = match last {
            false => (s, n + 1, active),
            true if s + 1 == c.schedule.steps().min(m.dims.segment_end as usize) => (s, 0, 0),
            true => (s + 1, 0, self.active(c, s + 1)),
        };
        let mut d_out = Scratch::any(active * units);
        if rows > 0 {
            let row = c.pre_row(m.dims, self.index, c.schedule.row_offset(step) + first);
            // SAFETY: rows of this task; the part lives only in this block.
            let pre = unsafe { m.pre.part(row * width, rows * width) };
            c.operand_gradient(self.z, next, pre, &mut d_out[..rows * units]);
        }
        if last {
            d_out[..rows * units].iter_mut().zip(factors).for_each(|(d, &f)| *d = *d * f);
            for b in (0..rows).filter(|&b| c.is_reset(self.direction, s + 1, first + b)) {
                d_out[b * units..][..units].fill(T::default());
            }
            for b in rows..active {
                let from = c.place(m.dims, self.index, first + b) * units;
                d_out[b * units..][..units].copy_from_slice(&m.d_hidden[from..][..units]);
            }
            let outer = c.output_rows(m.dims, self.index, c.schedule.row_offset(s) + first);
            for (out, outer) in d_out.chunks_exact_mut(units).zip(outer).take(if m.has_dy { active } else { 0 }) {
                let dy = &m.dy[outer * units..][..units];
                out.iter_mut().zip(dy).for_each(|(o, &v)| *o = *o + v);
            }
        }
        d_out
    }
}

impl<T: Real> Context<'_, T> {
    /// The columns of d_pre that stage `n`'s product gave, `[n][gates][N/n]`: those of a head side by side.
    pub(super) fn head_columns(&self, n: usize) -> Vec<usize> {
        let (shape, own) = (self.stages[n], self.stages[n].head_units());
        let gates: Vec<usize> =
            (0..shape.stage.recurrent_gates()).map(|gate| self.rows.recurrent(n, &shape, gate)).collect();
        let head = |j: usize| gates.iter().flat_map(move |gate| gate + j * own..gate + (j + 1) * own);
        (0..shape.heads).flat_map(head).collect()
    }

    /// Rᵀ · d_pre of stage `n`, for consecutive rows of `pre`: `out[rows, K]`.
    fn operand_gradient(&self, z: usize, n: usize, pre: &[T], out: &mut [T]) {
        let shape = self.stages[n];
        let (width, depth) = (self.rows.width, shape.matrix_rows());
        let rows = out.len() / shape.operand;
        if shape.stage.product == Product::Identity {
            for (row, out) in pre.chunks_exact(width).zip(out.chunks_exact_mut(shape.units)) {
                out.copy_from_slice(&row[self.rows.recurrent(n, &shape, 0)..][..shape.units]);
            }
            return;
        }
        let matrix = &self.layers[z].transposed[n];
        let gates = shape.stage.recurrent_gates();
        let first = self.rows.recurrent(n, &shape, 0);
        let side_by_side = (0..gates).all(|g| self.rows.recurrent(n, &shape, g) == first + g * shape.units);
        if shape.heads == 1 && side_by_side {
            multiply(matrix, Rows { values: &pre[first..], stride: width }, (out, shape.operand), shape.operand, None);
            return;
        }
        let mut gathered = Vec::with_capacity(rows * depth);
        let by_head = if shape.heads == 1 { Vec::new() } else { self.head_columns(n) };
        for row in pre.chunks_exact(width).take(rows) {
            for gate in 0..if shape.heads == 1 { gates } else { 0 } {
                gathered.extend_from_slice(&row[self.rows.recurrent(n, &shape, gate)..][..shape.units]);
            }
            gathered.extend(by_head.iter().map(|&column| row[column]));
        }
        multiply(matrix, Rows { values: &gathered, stride: depth }, (out, shape.operand), shape.operand, None);
    }
}
