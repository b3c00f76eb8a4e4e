//! Twins of `load_state` and `store_state`.

use super::Context;
use crate::cell::Initial;
use crate::plan::SlotId;
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
                let row = &mut state[(c.state_row(z, None, b) * states.len() + s) * h..][..h];
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
                    let row = c.state_row(z, Some(c.schedule.length(b) - 1), b);
                    cn[to * h..][..h].copy_from_slice(&state[(row * states.len() + s) * h..][..h]);
                }
            }
        }
    }
}
