//! Sums of groups of columns.

use super::super::{Builder, Part};
use super::Operation;
use crate::error::Result;

/// Each of `groups` equal groups of columns summed, first to last: one column per group.
#[derive(Clone, Debug, PartialEq)]
pub struct Sum {
    /// x
    pub x: Part,
    /// Groups of columns.
    pub groups: usize,
}

impl Operation for Sum {}

impl Builder {
    /// See [`Sum`].
    ///
    /// # Errors
    /// [`crate::Error::Mismatch`] for groups that do not divide the columns.
    pub fn sum(&mut self, name: &str, x: Part, groups: usize) -> Result<Part> {
        let rows = self.rows(name, [x])?;
        self.check_groups(name, x, groups)?;
        self.node(name, groups, rows, Sum { x, groups })
    }
}
