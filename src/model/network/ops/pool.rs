//! One row per sequence of the rows of its steps.

use super::super::{Builder, Part, Rows};
use super::Operation;
use crate::error::Result;
use crate::model::stack::{Direction, RnnConfig};

/// Which row a sequence gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pooling {
    /// That of its last real step.
    Last,
    /// That of its first step: where a reverse direction ends.
    First,
    /// The mean over its real steps, added up from the first to the last.
    Mean,
    /// Per column the largest over its real steps; the gradient goes to the first step that has it.
    Max,
}

impl Pooling {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Last, Self::First, Self::Mean, Self::Max];
}

/// A value per sequence `[B, width]`, of the real steps of a run; zeros for a sequence of length 0. Columns that hold NaN are whatever
/// the device's comparisons make of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Pool {
    /// x
    pub x: Part,
    /// Which row.
    pub kind: Pooling,
}

impl Operation for Pool {
    fn waits_for(&self) -> Option<&'static str> {
        Some("its value is of a whole sequence")
    }
}

impl Builder {
    /// See [`Pool`]: from a value `[T, B, width]` one of `[B, width]`, which a head and its loss may stand on.
    ///
    /// # Errors
    /// [`crate::Error::Mismatch`] for a value that has no row per step, or a name that is taken.
    pub fn pool(&mut self, name: &str, x: Part, kind: Pooling) -> Result<Part> {
        self.steps(name, x)?;
        self.node(name, x.width, Rows::Sequences, Pool { x, kind })
    }

    /// Where the last layer of a stack ended, `[B, D·(P or H)]`, of its y: the row of the last step, and of a reverse direction that of
    /// the first. `<name>.forward` and `<name>.reverse` are the directions' own.
    ///
    /// # Errors
    /// As [`Builder::pool`]; [`crate::Error::Mismatch`] for a y that is not of `config`.
    pub fn last_of(&mut self, name: &str, y: Part, config: &RnnConfig) -> Result<Part> {
        match config.direction {
            Direction::Forward => self.pool(name, y, Pooling::Last),
            Direction::Reverse => self.pool(name, y, Pooling::First),
            Direction::Bidirectional => {
                let width = config.state_size();
                self.whole_or_nothing(|b| {
                    let forward = b.pool(&format!("{name}.forward"), y.columns(0, width)?, Pooling::Last)?;
                    let reverse = b.pool(&format!("{name}.reverse"), y.columns(width, width)?, Pooling::First)?;
                    b.concat(name, &[forward, reverse])
                })
            }
        }
    }
}
