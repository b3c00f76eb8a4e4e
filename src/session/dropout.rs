//! Which masks a run drops by: its seed, its number, and whether it drops at all.

use super::Session;
use crate::error::Result;
use crate::exec::Element;
use crate::num::random::Masks;

/// Where masks come from.
pub(super) struct Draws {
    seed: u64,
    /// The number of the next run.
    run: u64,
    on: bool,
}

impl Default for Draws {
    fn default() -> Self {
        Self { seed: 0, run: 0, on: true }
    }
}

impl Draws {
    /// The same from run 0.
    pub fn restarted(&self) -> Self {
        Self { run: 0, ..*self }
    }

    /// Another seed, from run 0.
    pub fn seed(&mut self, seed: u64) {
        (self.seed, self.run) = (seed, 0);
    }

    /// Whether the runs to come drop.
    pub fn turn(&mut self, on: bool) {
        self.on = on;
    }

    /// The masks of the next run, of one of the stacks in it.
    pub fn masks(&self, stack: usize) -> Masks {
        if self.on { Masks::of_stack(self.seed, self.run, stack as u32) } else { Masks::none() }
    }

    /// That run begins: one that drops nothing is not counted.
    pub fn count(&mut self) {
        self.run = self.run.wrapping_add(u64::from(self.on));
    }
}

impl<T: Element> Session<T> {
    /// Sets the seed of dropout's masks (0 at first) and starts counting runs anew: the same seed and inputs give the same masks,
    /// run for run, on every executor.
    pub fn set_seed(&mut self, seed: u64) {
        self.draws.seed(seed);
    }

    /// Turns [`crate::RnnConfig::dropout`] and the masks of [`crate::RnnConfig::zoneout`] off and on again (it is on at first) for the forward runs to come: off is evaluation
    /// mode, with the bits of a configuration without dropout (and with the expectation of zoneout, as a plan that does not train); such a
    /// run is not counted. Plans that do not train never drop.
    pub fn set_dropout(&mut self, on: bool) {
        self.draws.turn(on);
    }

    /// Draws the masks of the forward run about to start; its backward pass reads the same.
    pub(super) fn draw(&mut self) -> Result<()> {
        if self.stack.drops() {
            self.stack.set_masks(self.draws.masks(0))?;
            self.draws.count();
        }
        Ok(())
    }
}
