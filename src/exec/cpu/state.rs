//! Twins of `load_state`, `reset_state`, `store_state`, `begin_segment`, `save_checkpoint`, `load_checkpoint`, `clear`, `store_y` and
//! `load_dy`; and those that load and store states between a batch and slots of a pool.

use super::{Context, Pair};
use crate::exec::states::Ported;
use crate::model::cell::Initial;
use crate::num::Aligned;
use crate::num::Real;
use crate::plan::{Dispatch, Reset, SlotId};

/// h0, c0 → operand (padded with 0) and states, in sorted order.
pub(super) fn load_state<T: Real>(c: &Context<'_, T>, slots: &mut [Aligned<T>]) {
    let [h0, c0, operand, state, _] = slots else { unreachable!("kernel table") };
    let config = &c.plan.config;
    let (batch, p, h) = (c.plan.shape.batch, config.state_size(), config.hidden_size);
    let (stride, own, states) = (config.operand_row(c.plan.train), config.operand_own(c.plan.train), config.states());
    for z in 0..config.num_layers * config.directions() {
        let factors = c.recurrent_factors(z, 0..batch);
        for b in 0..batch {
            let (from, to) = (z * batch + c.schedule.order(b), z * batch + b);
            let row = &mut operand[to * stride..][..stride];
            row.fill(T::default());
            row[own..][..p].copy_from_slice(&h0[from * p..][..p]);
            mask_operand(row, own, factors.get(b * p..).unwrap_or_default());
            let mut part = from * config.cell_size();
            for (s, what) in states.iter().enumerate() {
                let row = &mut state[(to * states.len() + s) * h..][..h];
                match what.initial {
                    Initial::Hidden => {
                        row.fill(T::default());
                        row[..p].copy_from_slice(&h0[from * p..][..p]);
                    }
                    Initial::Cell => {
                        row.copy_from_slice(&c0[part..][..h]);
                        part += h;
                    }
                    Initial::Scratch => row.fill(T::default()),
                }
            }
        }
    }
    if let Some(reset) = c.plan.options.resets {
        // Behind it, what later episodes begin from.
        for slot in [operand, state] {
            let half = slot.len() / 2;
            match reset {
                Reset::Initial => slot.copy_within(..half, half),
                Reset::Zero => slot[half..].fill(T::default()),
            }
        }
    }
}

/// What an episode begins from, where one begins at step `s`; it lies behind the operands and states of all sequences.
pub(super) fn reset_state<T: Real>(c: &Context<'_, T>, d: &Dispatch, step: usize, slots: &mut [Aligned<T>]) {
    let [operand, state, _] = slots else { unreachable!("kernel table") };
    let (config, batch, directions) = (&c.plan.config, c.plan.shape.batch, c.plan.config.directions());
    let (stride, own) = (config.operand_row(c.plan.train), config.states().len() * config.hidden_size);
    for Pair { direction, entry, s, .. } in c.pairs(d, step) {
        for b in (0..c.schedule.active(s)).filter(|&b| c.is_reset(direction, s, b)) {
            let place = entry * batch + b;
            let initial = config.num_layers * directions * batch + place;
            operand.copy_within(initial * stride..(initial + 1) * stride, place * stride);
            state.copy_within(initial * own..(initial + 1) * own, place * own);
        }
    }
}

/// What the product reads of an operand row, from h itself at `own`; nothing to do without factors.
pub(super) fn mask_operand<T: Real>(row: &mut [T], own: usize, factors: &[T]) {
    let (seen, h) = row.split_at_mut(own);
    seen.iter_mut().zip(h).zip(factors).for_each(|((seen, &mut h), &f)| *seen = h * f);
}

/// operand, state → hn, cn in the caller's order.
pub(super) fn store_state<T: Real>(c: &Context<'_, T>, slots: &mut [Aligned<T>], ids: &[SlotId]) {
    let [even, odd, state, hn, cn, _] = slots else { unreachable!("kernel table") };
    let config = &c.plan.config;
    let (batch, p, h) = (c.plan.shape.batch, config.state_size(), config.hidden_size);
    let (stride, own, states) = (config.operand_row(c.plan.train), config.operand_own(c.plan.train), config.states());
    let alternating = ids[0] != ids[1];
    for z in 0..config.num_layers * config.directions() {
        for b in 0..batch {
            let (from, to) = (z * batch + b, z * batch + c.schedule.order(b));
            let steps = c.schedule.length(b) + z / config.directions() * c.plan.chunk.unwrap_or(0);
            let operand = if alternating && steps % 2 == 1 { &odd } else { &even };
            hn[to * p..][..p].copy_from_slice(&operand[from * stride + own..][..p]);
            let mut part = to * config.cell_size();
            for (s, what) in states.iter().enumerate() {
                if what.initial == Initial::Cell {
                    cn[part..][..h].copy_from_slice(&state[(from * states.len() + s) * h..][..h]);
                    part += h;
                }
            }
        }
    }
}

/// `load_state` from slots of a pool, `[h of all layers, c of all layers]` each. Sequences that are no stream's stay as they are: no
/// kernel computes anything for them.
pub(super) fn load_streams<T: Real>(c: &Context<'_, T>, slots: &mut [Aligned<T>], streams: &Ported<'_, T>) {
    let [_, _, operand, state, _] = slots else { unreachable!("kernel table") };
    let config = &c.plan.config;
    let (batch, p, h, layers) = (c.plan.shape.batch, config.state_size(), config.hidden_size, config.num_layers);
    let (stride, own, states) = (config.operand_row(false), config.operand_own(false), config.states());
    debug_assert!(
        !c.plan.train && config.directions() == 1,
        "streams run forwards, and nothing is kept for a way back"
    );
    for b in 0..batch {
        let Some(&from) = streams.from.get(c.schedule.order(b)) else { continue };
        let (h0, c0) = streams.slabs.slot(from).split_at(layers * p);
        for z in 0..layers {
            let (to, h0) = (z * batch + b, &h0[z * p..][..p]);
            let row = &mut operand[to * stride..][..stride];
            row[own..][..p].copy_from_slice(h0);
            row[own + p..].fill(T::default());
            let mut part = z * config.cell_size();
            for (s, what) in states.iter().enumerate() {
                let row = &mut state[(to * states.len() + s) * h..][..h];
                match what.initial {
                    Initial::Hidden => {
                        row[..p].copy_from_slice(h0);
                        row[p..].fill(T::default());
                    }
                    Initial::Cell => {
                        row.copy_from_slice(&c0[part..][..h]);
                        part += h;
                    }
                    Initial::Scratch => row.fill(T::default()),
                }
            }
        }
    }
}

/// `store_state` into slots of a pool.
pub(super) fn store_streams<T: Real>(
    c: &Context<'_, T>,
    slots: &[Aligned<T>],
    ids: &[SlotId],
    streams: &mut Ported<'_, T>,
) {
    let [even, odd, state, ..] = slots else { unreachable!("kernel table") };
    let config = &c.plan.config;
    let (batch, p, h, layers) = (c.plan.shape.batch, config.state_size(), config.hidden_size, config.num_layers);
    let (stride, own, states) = (config.operand_row(false), config.operand_own(false), config.states());
    let alternating = ids[0] != ids[1];
    for b in 0..batch {
        let Some(&to) = streams.to.get(c.schedule.order(b)) else { continue };
        let (hn, cn) = streams.slabs.slot_mut(to).split_at_mut(layers * p);
        for z in 0..layers {
            let from = z * batch + b;
            let steps = c.schedule.length(b) + z * c.plan.chunk.unwrap_or(0);
            let operand = if alternating && steps % 2 == 1 { odd } else { even };
            hn[z * p..][..p].copy_from_slice(&operand[from * stride + own..][..p]);
            let mut part = z * config.cell_size();
            for (s, what) in states.iter().enumerate() {
                if what.initial == Initial::Cell {
                    cn[part..][..h].copy_from_slice(&state[(from * states.len() + s) * h..][..h]);
                    part += h;
                }
            }
        }
    }
}

/// States and h before a segment → the rows that its history starts with.
pub(super) fn begin_segment<T: Real>(c: &Context<'_, T>, d: &Dispatch, slots: &mut [Aligned<T>]) {
    let [operand, state, history, _] = slots else { unreachable!("kernel table") };
    let (config, dims) = (&c.plan.config, &c.plan.dims[d.dims]);
    let (batch, p, directions) = (c.plan.shape.batch, config.state_size(), config.directions());
    let (stride, own) = (config.operand_row(c.plan.train), config.states().len() * config.hidden_size);
    for direction in 0..d.groups.2 {
        for b in 0..batch {
            let place = (dims.layer as usize * directions + direction) * batch + b;
            let mut copy = |place: usize, row: usize| {
                let row = row * c.past.width;
                history[row..][..own].copy_from_slice(&state[place * own..][..own]);
                history[row + own..][..p].copy_from_slice(&operand[place * stride..][..p]);
            };
            copy(place, c.history_start(dims, direction, b));
            if c.plan.options.resets.is_some() {
                copy(config.num_layers * directions * batch + place, c.history_initial(dims, direction, b));
            }
        }
    }
}

/// States and h before a segment → its checkpoint.
pub(super) fn save_checkpoint<T: Real>(c: &Context<'_, T>, d: &Dispatch, slots: &mut [Aligned<T>]) {
    let [operand, state, checkpoints] = slots else { unreachable!("kernel table") };
    for_each_checkpoint(c, d, |row, own, place, stride| {
        checkpoints[row..][..own].copy_from_slice(&state[place * own..][..own]);
        checkpoints[row + own..][..stride].copy_from_slice(&operand[place * stride..][..stride]);
    });
}

/// A segment's checkpoint → states and h.
pub(super) fn load_checkpoint<T: Real>(c: &Context<'_, T>, d: &Dispatch, slots: &mut [Aligned<T>]) {
    let [operand, state, checkpoints] = slots else { unreachable!("kernel table") };
    for_each_checkpoint(c, d, |row, own, place, stride| {
        state[place * own..][..own].copy_from_slice(&checkpoints[row..][..own]);
        operand[place * stride..][..stride].copy_from_slice(&checkpoints[row + own..][..stride]);
    });
}

/// Calls `copy(where its checkpoint starts, values of its states, its place, values of an operand row)` for every sequence and
/// direction of the layer.
fn for_each_checkpoint<T: Real>(c: &Context<'_, T>, d: &Dispatch, mut copy: impl FnMut(usize, usize, usize, usize)) {
    let (config, dims) = (&c.plan.config, &c.plan.dims[d.dims]);
    let (batch, directions) = (c.plan.shape.batch, config.directions());
    let (stride, own) = (config.operand_row(c.plan.train), config.states().len() * config.hidden_size);
    for direction in 0..directions {
        for b in 0..batch {
            let place = (dims.layer as usize * directions + direction) * batch + b;
            let rows = dims.checkpoint as usize * config.num_layers * directions * batch;
            copy((rows + place) * (own + stride), own, place, stride);
        }
    }
}

/// Zeros.
pub(super) fn clear<T: Real>(slots: &mut [Aligned<T>]) {
    slots[0].fill(T::default());
}

/// The last layer's outputs, among those of all layers → y.
pub(super) fn store_y<T: Real>(c: &Context<'_, T>, d: &Dispatch, slots: &mut [Aligned<T>]) {
    let [outputs, y] = slots else { unreachable!("kernel table") };
    let count = y.len();
    y.copy_from_slice(&outputs[c.plan.dims[d.dims].layer as usize * count..][..count]);
}

/// The gradient of y → behind those of the other layers' outputs.
pub(super) fn load_dy<T: Real>(c: &Context<'_, T>, d: &Dispatch, slots: &mut [Aligned<T>]) {
    let [dy, d_outputs] = slots else { unreachable!("kernel table") };
    d_outputs[c.plan.dims[d.dims].layer as usize * dy.len()..][..dy.len()].copy_from_slice(dy);
}
