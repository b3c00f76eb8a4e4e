//! What the recurrent product is made of: [`Recurrence`], an axis beside the cell.

use crate::error::{Error, Result};
use std::fmt;
use std::str::FromStr;

/// Which features of the operand (h[t-1]; in the second stage of a reset-before GRU r∘h) a unit's recurrent gates see. Every cell
/// takes every kind.
///
/// With n heads the H units and the K features of the operand are cut into n parts of the same size, in order, and the units
/// of part j see the features of part j: R is block-diagonal, and only the blocks are kept, R `[gates·H, K/n]`. Row `gate · H + u`
/// holds what unit u sees, features `j·K/n ..` with `j = u / (H/n)`. Parameters, their gradients and the work of the product fall by n.
///
/// | kind | n | R | known as |
/// |---|---|---|---|
/// | `Dense` | 1 | `[gates·H, K]` | every framework's RNN, LSTM and GRU |
/// | `Heads(n)` | n | `[gates·H, K/n]` | FlashRNN's multi-head recurrence (Pöppel et al. 2024, arXiv:2412.07752), xLSTM's sLSTM heads |
/// | `Diagonal` | K | `[gates·H, 1]` | with [`crate::cells::RNN_RELU`] or [`crate::cells::RNN_TANH`] IndRNN (Li et al. 2018, arXiv:1803.04831) |
///
/// Layers mix the heads through W. A projection ([`crate::RnnConfig::proj_size`]) stays dense; the operand then is the projected h,
/// K = P, and n must divide P and H.
///
/// ```
/// use wgpu_rnn::{Recurrence, RnnConfig, cells, weights};
/// let config = RnnConfig { cell: &cells::RNN_RELU, input_size: 3, hidden_size: 8, recurrence: Recurrence::Diagonal, ..Default::default() };
/// assert_eq!(weights::parameters(&config)[1].shape, [8, 1]); // IndRNN's u
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Recurrence {
    /// All of it.
    #[default]
    Dense,
    /// One feature: its own, where h has as many values as there are units.
    Diagonal,
    /// The features of its own head, of so many heads.
    Heads(usize),
}

impl Recurrence {
    /// n for an operand of `features` values; at least 1.
    pub fn heads(self, features: usize) -> usize {
        match self {
            Self::Dense => 1,
            Self::Diagonal => features.max(1),
            Self::Heads(n) => n.max(1),
        }
    }

    /// Refuses a number of heads that does not divide H, or the width of h.
    pub(crate) fn validate(self, hidden_size: usize, proj_size: usize) -> Result<()> {
        let features = if proj_size > 0 { proj_size } else { hidden_size };
        let n = if let Self::Heads(n) = self { n } else { self.heads(features) };
        for (what, size) in [("hidden_size", hidden_size), ("proj_size", features)] {
            if n == 0 || size % n != 0 {
                return Err(Error::mismatch("heads of the recurrence", format!("a divisor of {what} {size}"), n));
            }
        }
        Ok(())
    }
}

/// As the command line takes it.
impl fmt::Display for Recurrence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dense => f.write_str("dense"),
            Self::Diagonal => f.write_str("diagonal"),
            Self::Heads(n) => write!(f, "heads:{n}"),
        }
    }
}

/// `dense`, `diagonal` or `heads:N`.
impl FromStr for Recurrence {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let heads = || text.strip_prefix("heads:")?.parse().ok().filter(|&n| n > 0).map(Self::Heads);
        match text {
            "dense" => Ok(Self::Dense),
            "diagonal" => Ok(Self::Diagonal),
            _ => heads().ok_or_else(|| Error::mismatch("recurrence", "dense, diagonal or heads:N", text)),
        }
    }
}
