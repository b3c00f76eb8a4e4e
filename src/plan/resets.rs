//! Episodes that begin inside a run (`Options::resets`).
//!
//! The schedule flags the packed rows where one begins; what it begins from (zeros, or h0 and c0) lies in a second half of
//! `state` and of the operands, filled by load_state. Strategy Step: `reset_state` copies it before a flagged step's first
//! stage; Sequence: `sequence_forward` does inside. In training the history has it in rows of its own, where `history_before`
//! points at flagged steps, so weight_backward, rebuild and the adjoint are right by themselves. On the way back nothing is
//! gathered from a flagged step; what flows out of it adds up in the second halves of `d_hidden` and `d_state`, which
//! store_gradient adds to the gradients of h0 and c0 for `Reset::Initial`.

use super::build::{Builder, Dim, Memory, once, only};
use super::{Dispatch, Extent, Role, SlotId, SlotIds, Step, Strategy};
use crate::kernels::Kernel;
use std::ops::Range;

impl Builder<'_> {
    /// A slot per sequence, and the same again behind it where episodes begin inside a run.
    pub fn doubled(&mut self, name: &str, dims: &[Dim]) -> SlotId {
        let halves = self.resets.then_some(("halves", 2));
        let dims: Vec<Dim> = halves.into_iter().chain(dims.iter().copied()).collect();
        self.slot(name, Role::Scratch, &dims)
    }

    /// h0 and c0 into operand and state.
    pub fn load_states(
        &self,
        dims: usize,
        groups: (usize, Extent, usize),
        ids: &SlotIds,
        m: &Memory,
        steps: &mut Vec<Step>,
    ) {
        // Episodes begin at odd steps too, and so do layers that are an odd number of steps behind.
        let odd = self.resets || self.chunk.is_some_and(|chunk| chunk % 2 == 1);
        let odd = (odd && self.strategy == Strategy::Step).then_some(m.operands[1]);
        for operand in [m.operands[0]].into_iter().chain(odd) {
            let slots = vec![ids.h0, ids.c0.unwrap_or(ids.h0), operand, m.state, ids.schedule];
            steps.push(once(Kernel::LoadState, None, dims, slots, groups));
        }
    }

    /// Where an episode begins at a step, what it begins from.
    pub fn reset_state(&self, layers: &Range<usize>, dims: usize, ids: &SlotIds, m: &Memory) -> Dispatch {
        let config = self.config;
        let wide = config.hidden_size.max(config.state_size().next_multiple_of(4)).div_ceil(self.tiles.width);
        Dispatch {
            kernel: Kernel::ResetState,
            stage: 0,
            layer: only(layers),
            dims,
            write_y: true,
            head: false,
            slots: vec![m.operands[0], m.state, ids.schedule],
            odd: Some(vec![m.operands[1], m.state, ids.schedule]),
            groups: (wide, Extent::Active(1), layers.len() * config.directions()),
        }
    }
}
