//! Norms over groups of columns.

use super::super::{Builder, ParamId, Part};
use super::Operation;
use crate::error::{Error, Result};

/// What a norm divides by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Norm {
    /// x / √(mean x² + ε)
    Rms,
    /// (x − mean) / √(var + ε)
    Layer,
    /// x / max(√Σx², ε)
    L2,
}

/// A norm over each of `groups` equal groups of columns, then times a gain and plus a bias per column (`[width]`).
#[derive(Clone, Debug, PartialEq)]
pub struct Normalise {
    /// x
    pub x: Part,
    /// By what.
    pub kind: Norm,
    /// Groups of columns.
    pub groups: usize,
    /// ε
    pub epsilon: f64,
    /// Gain per column.
    pub gain: Option<ParamId>,
    /// Bias per column.
    pub bias: Option<ParamId>,
}

impl Operation for Normalise {}

impl Builder {
    /// See [`Normalise`].
    ///
    /// # Errors
    /// [`Error::Mismatch`] for groups that do not divide the columns, an ε below 0, or parameters of other sizes.
    pub fn norm(
        &mut self,
        name: &str,
        x: Part,
        (kind, groups, epsilon): (Norm, usize, f64),
        gain: Option<ParamId>,
        bias: Option<ParamId>,
    ) -> Result<Part> {
        let rows = self.rows(name, [x])?;
        self.check_groups(name, x, groups)?;
        if !(epsilon >= 0.0 && epsilon.is_finite()) {
            return Err(Error::mismatch(format!("epsilon of {name}"), "at least 0", epsilon));
        }
        self.per_column(gain, x.width)?;
        self.per_column(bias, x.width)?;
        self.node(name, x.width, rows, Normalise { x, kind, groups, epsilon, gain, bias })
    }
}
