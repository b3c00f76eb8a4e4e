//! What a run of a network reads and gives.

use crate::model::network::{Network, Part};
use crate::tensor::{Tensor, View};

/// What one run reads.
#[derive(Clone, Copy, Debug)]
pub struct NetworkInput<'a, T> {
    /// One `[T, B, width]` per input of the network, in their order.
    pub values: &'a [View<'a, T>],
    /// Each sequence's own length, each in 0..=T; `None`: all T. A sequence of no steps keeps its
    /// states, and everything else of it is 0.
    pub lengths: Option<&'a [usize]>,
    /// `[T, B]`: where a new episode begins: states before that step are zeros, and no gradient crosses. In reverse scans the
    /// episode's last step is its first.
    pub resets: Option<&'a [bool]>,
    /// States before the first step.
    pub initial: NetworkInitial<'a, T>,
}

/// States before the first step, of every operation over time.
#[derive(Clone, Copy, Debug, Default)]
pub enum NetworkInitial<'a, T> {
    /// Empty: zeros (and m of stabilised scans at [`crate::rule::EMPTY_MAXIMUM`]).
    #[default]
    Empty,
    /// One `[B, size]` per state, in the order of [`NetworkOutput::states`].
    Given(&'a [View<'a, T>]),
    /// Those that the last run ended with, or what was set since ([`crate::network::NetworkSession::set_states`]): they never leave the
    /// device. An error before the first of these and after [`crate::network::NetworkSession::reset`]: there is nothing to carry then.
    Carry,
}

impl<'a, T> NetworkInput<'a, T> {
    /// Sequences of T steps from empty states.
    pub fn new(values: &'a [View<'a, T>]) -> Self {
        Self { values, lengths: None, resets: None, initial: NetworkInitial::Empty }
    }
}

impl<T: Copy> NetworkInput<'_, T> {
    /// The first column of a row of part of an input; shapes have been checked.
    pub(super) fn number(&self, network: &Network, part: Part, row: usize) -> T {
        let at = network.inputs.iter().position(|&v| v == part.value).unwrap_or_default();
        self.values[at].data[row * network.values[part.value].width + part.first]
    }
}

/// What one run gives.
#[derive(Clone, Debug, PartialEq)]
pub struct NetworkOutput<T> {
    /// One `[T, B, width]` per output, 0 past a sequence's end; or `[B, width]` where it has a row per sequence.
    pub values: Vec<Tensor<T>>,
    /// `[B, size]` of every operation over time, at each sequence's own end. A scan's is `[heads, columns, K]` per sequence (columns:
    /// V, and the divisor's), then m `[heads]` where it has one; a convolution's its last inputs `[low, width]`, the oldest first; that of
    /// layers h `[L·D, P or H]`, then the cell states `[L·D, S·H]`.
    pub states: Vec<Tensor<T>>,
}

/// Gradients of what a run gave.
#[derive(Clone, Copy, Debug)]
pub struct NetworkUpstream<'a, T> {
    /// One per output, in its shape.
    pub values: &'a [View<'a, T>],
    /// One `[B, size]` per state; `None`: zeros.
    pub states: Option<&'a [View<'a, T>]>,
}

/// Gradients of what a run read.
#[derive(Clone, Debug, PartialEq)]
pub struct NetworkGradients<T> {
    /// One `[T, B, width]` per input; 0 past a sequence's end.
    pub inputs: Vec<Tensor<T>>,
    /// One per parameter, in its shape.
    pub params: Vec<Tensor<T>>,
    /// One `[B, size]` per state before the first step; 0 for m of scans, which results do not depend on.
    pub states: Vec<Tensor<T>>,
}
