//! The head's dense layer as a cell of one gate that sees x only, `o = W_o y + b_o`: `project`, `input_backward` and
//! `weight_backward` then serve it as they serve a layer. It has no recurrence to run.

use super::projection::PROJECTION;
use crate::model::cell::{Cell, Gate, Stage};

/// One x gate; its units are the outputs.
pub(crate) static DENSE: Cell = Cell {
    name: "dense",
    stages: &[Stage { gates: &[Gate::input("o")], ..PROJECTION }],
    states: &[],
    params: &[],
    activations: &[],
    options: &[],
    wgsl: "",
};
