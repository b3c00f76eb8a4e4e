//! The registry of cells.
//!
//! # Adding a cell
//!
//! 1. `src/model/cells/<name>.rs`: equations, gate order and source in the module doc; `impl Pointwise` per stage, which names the
//!    stage's gates and the cell's states and parameters; `pub static`.
//! 2. `shaders/cells/<name>.wgsl`: `forward_0`, `forward_1`, … and their adjoints with the same equations; the n-th activation is
//!    `act_<n>(x)`, its derivative `slope_<n>(x)`, both generated (`src/kernels/functions.rs`).
//! 3. One line in [`ALL`].
//!
//! Tests, benches, the command line and the shader checks iterate the registry: a new cell is covered without a new test.

mod dense;
mod gru_layer_norm;
mod gru_reset_after;
mod gru_reset_before;
mod lstm;
mod lstm_layer_norm;
mod lstm_peephole;
mod projection;
mod rnn;
mod slstm;

pub(crate) use dense::DENSE;
pub use gru_layer_norm::GRU_LAYER_NORM;
pub use gru_reset_after::GRU;
pub use gru_reset_before::GRU_RESET_BEFORE;
pub use lstm::LSTM;
pub use lstm_layer_norm::LSTM_LAYER_NORM;
pub use lstm_peephole::LSTM_PEEPHOLE;
pub(crate) use projection::PROJECTION;
pub use rnn::{RNN_RELU, RNN_TANH};
pub use slstm::SLSTM;

use crate::model::cell::Cell;

/// Every cell, in the order the documentation lists them.
pub static ALL: [&Cell; 9] =
    [&RNN_TANH, &RNN_RELU, &LSTM, &LSTM_PEEPHOLE, &LSTM_LAYER_NORM, &GRU, &GRU_RESET_BEFORE, &GRU_LAYER_NORM, &SLSTM];

/// The cell of that name.
pub fn by_name(name: &str) -> Option<&'static Cell> {
    ALL.iter().find(|c| c.name == name).copied()
}

/// Whether it is this crate's, whose WGSL is known.
pub(crate) fn is_own(cell: &'static Cell) -> bool {
    ALL.into_iter().chain([&DENSE]).any(|own| std::ptr::eq(own, cell))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_of_a_cell_is_not_this_crates() {
        static COPY: Cell = Cell { name: "copy", ..LSTM };
        assert!(ALL.into_iter().all(is_own) && is_own(&DENSE) && !is_own(&COPY));
    }
}
