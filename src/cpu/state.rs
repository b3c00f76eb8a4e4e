//! Twins of `load_state`, `store_state`, `begin_segment`, `save_checkpoint`, `load_checkpoint` and `clear`.

use super::Context;
use crate::cell::Initial;
use crate::plan::{Dispatch, SlotId};
use crate::real::Real;

/// h0, c0 → operand (padded with 0) and states, in sorted order.
pub(super) fn load_state<T: Real>(c: &Context<'_, T>, slots: &mut [Vec<T>]) {
    let [h0, c0, operand, state, _] = slots else { unreachable!("kernel table") };
    let config = &c.plan.config;
    let (batch, p, h) = (c.plan.shape.batch, config.state_size(), config.hidden_size);
    let (padded, states) = (p.next_multiple_of(4), config.cell.states);
    for z in 0..config.num_layers * config.directions() {
        for b in 0..batch {
            let (from, to) = (z * batch + c.schedule.order(b), z * batch + b);
            let row = &mut operand[to * padded..][..padded];
            row[..p].copy_from_slice(&h0[from * p..][..p]);
            row[p..].fill(T::default());
            for (s, what) in states.iter().enumerate() {
                let row = &mut state[(to * states.len() + s) * h..][..h];
                match what.initial {
                    Initial::Hidden => row.copy_from_slice(&h0[from * h..][..h]),
                    Initial::Cell => row.copy_from_slice(&c0[from * h..][..h]),
                    Initial::Scratch => row.fill(T::default()),
                }
            }
        }
    }
}

/// operand, state → hn, cn in the caller's order.
pub(super) fn store_state<T: Real>(c: &Context<'_, T>, slots: &mut [Vec<T>], ids: &[SlotId]) {
    let [even, odd, state, hn, cn, _] = slots else { unreachable!("kernel table") };
    let config = &c.plan.config;
    let (batch, p, h) = (c.plan.shape.batch, config.state_size(), config.hidden_size);
    let (padded, states) = (p.next_multiple_of(4), config.cell.states);
    let alternating = ids[0] != ids[1];
    for z in 0..config.num_layers * config.directions() {
        for b in 0..batch {
            let (from, to) = (z * batch + b, z * batch + c.schedule.order(b));
            let operand = if alternating && c.schedule.length(b) % 2 == 1 { &odd } else { &even };
            hn[to * p..][..p].copy_from_slice(&operand[from * padded..][..p]);
            for (s, what) in states.iter().enumerate() {
                if what.initial == Initial::Cell {
                    cn[to * h..][..h].copy_from_slice(&state[(from * states.len() + s) * h..][..h]);
                }
            }
        }
    }
}

/// States and h before a segment → the rows that its history starts with.
pub(super) fn begin_segment<T: Real>(c: &Context<'_, T>, d: &Dispatch, slots: &mut [Vec<T>]) {
    let [operand, state, history, _] = slots else { unreachable!("kernel table") };
    let (config, dims) = (&c.plan.config, &c.plan.dims[d.dims]);
    let (batch, p, directions) = (c.plan.shape.batch, config.state_size(), config.directions());
    let (padded, own) = (p.next_multiple_of(4), config.cell.states.len() * config.hidden_size);
    for direction in 0..directions {
        for b in 0..batch {
            let place = (dims.layer as usize * directions + direction) * batch + b;
            let row = c.history_before(dims, direction, dims.segment as usize, b) * c.past.width;
            history[row..][..own].copy_from_slice(&state[place * own..][..own]);
            history[row + own..][..p].copy_from_slice(&operand[place * padded..][..p]);
        }
    }
}

/// States and h before a segment → its checkpoint.
pub(super) fn save_checkpoint<T: Real>(c: &Context<'_, T>, d: &Dispatch, slots: &mut [Vec<T>]) {
    let [operand, state, checkpoints] = slots else { unreachable!("kernel table") };
    for_each_checkpoint(c, d, |row, own, place, padded| {
        checkpoints[row..][..own].copy_from_slice(&state[place * own..][..own]);
        checkpoints[row + own..][..padded].copy_from_slice(&operand[place * padded..][..padded]);
    });
}

/// A segment's checkpoint → states and h.
pub(super) fn load_checkpoint<T: Real>(c: &Context<'_, T>, d: &Dispatch, slots: &mut [Vec<T>]) {
    let [operand, state, checkpoints] = slots else { unreachable!("kernel table") };
    for_each_checkpoint(c, d, |row, own, place, padded| {
        state[place * own..][..own].copy_from_slice(&checkpoints[row..][..own]);
        operand[place * padded..][..padded].copy_from_slice(&checkpoints[row + own..][..padded]);
    });
}

/// Calls `copy(where its checkpoint starts, values of its states, its place, padded values of h)` for every sequence and
/// direction of the layer.
fn for_each_checkpoint<T: Real>(c: &Context<'_, T>, d: &Dispatch, mut copy: impl FnMut(usize, usize, usize, usize)) {
    let (config, dims) = (&c.plan.config, &c.plan.dims[d.dims]);
    let (batch, directions) = (c.plan.shape.batch, config.directions());
    let (padded, own) = (config.state_size().next_multiple_of(4), config.cell.states.len() * config.hidden_size);
    for direction in 0..directions {
        for b in 0..batch {
            let place = (dims.layer as usize * directions + direction) * batch + b;
            let rows = dims.checkpoint as usize * config.num_layers * directions * batch;
            copy((rows + place) * (own + padded), own, place, padded);
        }
    }
}

/// Zeros.
pub(super) fn clear<T: Real>(slots: &mut [Vec<T>]) {
    slots[0].fill(T::default());
}
