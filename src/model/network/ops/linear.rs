//! Products with a matrix of parameters.

use super::super::{Builder, NetworkData, ParamId, Part};
use super::Operation;
use crate::error::{Error, Result};

/// x·Wᵀ + b; W `[out, in]`, b `[out]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Linear {
    /// x
    pub x: Part,
    /// W
    pub weight: ParamId,
    /// b
    pub bias: Option<ParamId>,
}

impl Operation for Linear {
    fn flops_of_row(&self, network: &NetworkData) -> usize {
        2 * self.x.width * network.params[self.weight].shape[0]
    }
}

impl Builder {
    /// x·Wᵀ + b; W `[out, x.width]`, b `[out]`.
    ///
    /// # Errors
    /// [`Error::Mismatch`] for parameters of other shapes.
    pub fn linear(&mut self, name: &str, x: Part, weight: ParamId, bias: Option<ParamId>) -> Result<Part> {
        let rows = self.rows(name, [x])?;
        self.known(name, Some(weight))?;
        let shape = &self.network.params[weight].shape;
        if shape.len() != 2 || shape[1] != x.width {
            let expected = format!("[out, in] = [_, {}]", x.width);
            return Err(Error::mismatch(&self.network.params[weight].name, expected, format!("{shape:?}")));
        }
        let out = shape[0];
        self.per_column(bias, out)?;
        self.node(name, out, rows, Linear { x, weight, bias })
    }
}
