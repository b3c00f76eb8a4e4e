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
}

impl<T: Element> Session<T> {
    /// Sets the seed of dropout's masks (0 at first) and starts counting runs anew: the same seed and inputs give the same masks,
    /// run for run, on every executor.
    pub fn set_seed(&mut self, seed: u64) {
        (self.draws.seed, self.draws.run) = (seed, 0);
    }

    /// Turns [`crate::RnnConfig::dropout`] and the masks of [`crate::RnnConfig::zoneout`] off and on again (it is on at first) for the forward runs to come: off is evaluation
    /// mode, with the bits of a configuration without dropout (and with the expectation of zoneout, as a plan that does not train); such a
    /// run is not counted. Plans that do not train never drop.
    pub fn set_dropout(&mut self, on: bool) {
        self.draws.on = on;
    }

    /// Draws the masks of the forward run about to start; its backward pass reads the same.
    pub(super) fn draw(&mut self) -> Result<()> {
        if !self.plan.config.drops(self.plan.train) {
            return Ok(());
        }
        let masks = if self.draws.on { Masks::new(self.draws.seed, self.draws.run) } else { Masks::none() };
        self.stack.executor.set_masks(masks)?;
        self.draws.run = self.draws.run.wrapping_add(u64::from(self.draws.on));
        Ok(())
    }
}
