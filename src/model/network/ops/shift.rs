//! The step before.

use super::super::{Builder, Part, Rows};
use super::Operation;
use crate::error::Result;

/// `y[t] = x[t − 1]`; 0, or what the run before ended with, at the first step.
#[derive(Clone, Debug, PartialEq)]
pub struct Shift {
    /// x
    pub x: Part,
}

impl Operation for Shift {
    fn state_size(&self) -> Option<usize> {
        Some(self.x.width)
    }
}

impl Builder {
    /// See [`Shift`].
    ///
    /// # Errors
    /// [`crate::Error::Mismatch`] for a name that is taken.
    pub fn shift(&mut self, name: &str, x: Part) -> Result<Part> {
        self.steps(name, x)?;
        self.node(name, x.width, Rows::Steps, Shift { x })
    }
}
