//! Parts side by side.

use super::super::{Builder, Part};
use super::Operation;
use crate::error::{Error, Result};

/// Parts side by side, the first's columns first.
#[derive(Clone, Debug, PartialEq)]
pub struct Concat {
    /// From the first columns on.
    pub parts: Vec<Part>,
}

impl Operation for Concat {}

impl Builder {
    /// Parts side by side, the first's columns first.
    ///
    /// # Errors
    /// [`Error::Mismatch`] without parts, or more columns than can be counted.
    pub fn concat(&mut self, name: &str, parts: &[Part]) -> Result<Part> {
        let rows = self.rows(name, parts.iter().copied())?;
        let width = parts.iter().try_fold(0usize, |sum, p| sum.checked_add(p.width));
        let Some(width) = width else {
            return Err(Error::mismatch(format!("columns of {name}"), "as many as can be counted", "more"));
        };
        self.node(name, width, rows, Concat { parts: parts.to_vec() })
    }
}
