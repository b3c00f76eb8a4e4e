//! Depthwise convolutions over time.

use super::super::{Builder, NetworkData, ParamId, Part, Rows};
use super::Operation;
use crate::error::{Error, Result};

/// Depthwise convolution over time: `y[t, c] = b[c] + Σ_k w[c, k] x[t − low + k, c]`, zeros outside of the sequence; w `[width, taps]`
/// (any leading or middle dimensions of 1), taps = low + 1 + high. With `high` = 0 it is causal and carries its last `low` inputs.
#[derive(Clone, Debug, PartialEq)]
pub struct Conv {
    /// x
    pub x: Part,
    /// w
    pub weight: ParamId,
    /// b
    pub bias: Option<ParamId>,
    /// Taps before the step.
    pub low: usize,
    /// Taps after it.
    pub high: usize,
}

impl Operation for Conv {
    fn state_size(&self) -> Option<usize> {
        (self.high == 0 && self.low > 0).then_some(self.low * self.x.width)
    }

    fn flops_of_row(&self, _: &NetworkData) -> usize {
        2 * self.x.width * (self.low + 1 + self.high)
    }

    fn waits_for(&self) -> Option<&'static str> {
        (self.high > 0).then_some("its convolution reads later steps")
    }
}

impl Builder {
    /// See [`Conv`]; `(low, high)`: taps before and after the step.
    ///
    /// # Errors
    /// [`Error::Mismatch`] for parameters of other sizes.
    pub fn conv(
        &mut self,
        name: &str,
        x: Part,
        (weight, bias): (ParamId, Option<ParamId>),
        (low, high): (usize, usize),
    ) -> Result<Part> {
        self.steps(name, x)?;
        self.known(name, Some(weight))?;
        let p = &self.network.params[weight];
        let taps = low.saturating_add(1).saturating_add(high);
        let columns = x.width.saturating_mul(taps);
        let inner = p.shape.iter().filter(|&&d| d != 1).product::<usize>();
        if p.len() != columns || inner != columns || p.shape.last() != Some(&taps) {
            let expected = format!("[width, 1, taps] = [{}, 1, {taps}]", x.width);
            return Err(Error::mismatch(&p.name, expected, format!("{:?}", p.shape)));
        }
        self.per_column(bias, x.width)?;
        self.node(name, x.width, Rows::Steps, Conv { x, weight, bias, low, high })
    }
}
