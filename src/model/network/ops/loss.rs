//! What a network is trained by: how far a value is from what it should have been.

use super::super::{Builder, Part};
use super::Operation;
use crate::error::Result;
use crate::model::stack::Loss;

/// Per row of x how far it is from its target, times the row's weight; one column. The network's loss is the mean: the sum over rows that
/// are no padding, over the sum of their weights. Targets and weights have no gradient.
///
/// ```text
/// CrossEntropy   w · (log Σ exp x − x[target])          the target is a class in 0..width, as a number in one column
/// MeanSquared    w · Σ (x − target)² / width            targets as wide as x
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Compared {
    /// x
    pub x: Part,
    /// What it should have been: columns of an input.
    pub targets: Part,
    /// One column of an input: how much a row counts; `None`: 1.
    pub weights: Option<Part>,
    /// Which loss.
    pub loss: Loss,
}

impl Operation for Compared {
    fn waits_for(&self) -> Option<&'static str> {
        Some("its value is of all steps of a batch")
    }
}

impl Builder {
    /// See [`Compared`]. A network may have several losses, which are summed; they need not be outputs.
    ///
    /// # Errors
    /// [`crate::Error::Mismatch`] for targets or weights of other rows or columns, or that are no input; or a name that is taken.
    pub fn loss(&mut self, name: &str, x: Part, targets: Part, weights: Option<Part>, loss: Loss) -> Result<Part> {
        let rows = self.rows(name, [x, targets].into_iter().chain(weights))?;
        let wide = if loss == Loss::CrossEntropy { 1 } else { x.width };
        for (what, part, width) in [("targets", Some(targets), wide), ("weights", weights, 1)] {
            part.map_or(Ok(()), |part| self.given(name, what, part, width))?;
        }
        self.node(name, 1, rows, Compared { x, targets, weights, loss })
    }
}
