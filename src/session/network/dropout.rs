//! Dropout and zoneout of the stacks in a network.

use super::NetworkSession;
use crate::error::Result;
use crate::exec::Element;
use crate::num::random::Masks;

impl<T: Element> NetworkSession<T> {
    /// Sets the seed of the masks of all stacks of layers (0 at first) and starts counting runs anew, as [`crate::Session::set_seed`].
    /// Stacks have different masks; those of the first are what a [`crate::Session`] of the same seed and run has.
    pub fn set_seed(&mut self, seed: u64) {
        self.draws.seed(seed);
    }

    /// Turns dropout and the masks of zoneout off and on again (it is on at first) for the forward runs to come, in all stacks of layers,
    /// as [`crate::Session::set_dropout`]: a run that drops nothing is not counted. Plans that do not train never drop.
    pub fn set_dropout(&mut self, on: bool) {
        self.draws.turn(on);
    }

    /// Draws the masks of the forward run about to start; its way back reads the same.
    pub(super) fn draw(&mut self) -> Result<()> {
        let stacks = &self.plan.layers;
        if stacks.iter().any(|(_, plan)| plan.config.drops(plan.train)) {
            let masks: Vec<Masks> = (0..stacks.len()).map(|stack| self.draws.masks(stack)).collect();
            self.executor.set_masks(&masks)?;
            self.draws.count();
        }
        Ok(())
    }
}
