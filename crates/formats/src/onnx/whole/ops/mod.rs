//! The operators of whole models: a file for each group of them, with what it adds to the network, and a table in each file.
//! What nodes make of constants alone is worked out by the tables of `onnx/fold`.

mod convolution;
mod einsum;
mod matrix;
mod normal;
mod order;
mod packed;
mod pointwise;
mod quantised;
mod recurrence;
mod recurrent;
mod reduce;
mod select;

use super::super::fold::works_out;
use super::axes::{Made, Stop};
use super::lower::Lowering;
use super::node::Op;
use super::value::Value;
use wgpu_rnn::Error;

/// An operator.
pub struct Row {
    /// Its `op_type`, behind its domain if that is not ONNX's own.
    name: &'static str,
    /// How many of its inputs, from the first on, a run may give; the others must be constants.
    pub reads: usize,
    /// Adds it to the network and gives its outputs.
    pub run: fn(&mut Lowering<'_>, &Op<'_>) -> Made<Vec<Value>>,
}

/// Any number of inputs.
const ALL: usize = usize::MAX;

const fn row(name: &'static str, reads: usize, run: fn(&mut Lowering<'_>, &Op<'_>) -> Made<Vec<Value>>) -> Row {
    Row { name, reads, run }
}

/// The row of an operator.
pub fn find(kind: &str) -> Option<&'static Row> {
    let tables: [&[Row]; 12] = [
        &order::ROWS,
        &select::ROWS,
        &pointwise::ROWS,
        &matrix::ROWS,
        &einsum::ROWS,
        &reduce::ROWS,
        &normal::ROWS,
        &convolution::ROWS,
        &recurrent::ROWS,
        &recurrence::ROWS,
        &packed::ROWS,
        &quantised::ROWS,
    ];
    tables.into_iter().flatten().find(|row| row.name == kind)
}

/// How many inputs of an operator a run may give; the others must be constants.
pub fn reads(kind: &str) -> usize {
    match find(kind) {
        Some(row) => row.reads,
        // What an If asks, and what only constants are made of.
        None if kind == "If" || works_out(kind) => 0,
        None => ALL,
    }
}

/// What a network has no place for.
fn refused(what: impl Into<String>, reason: impl Into<String>) -> Stop {
    Error::Unsupported { what: what.into(), reason: reason.into() }.into()
}

/// A list of places of sequences that is read as anything else.
pub fn order_as_numbers() -> Error {
    let reason =
        "a network does not sort its sequences; only the way there and back around recurrent nodes is read".into();
    Error::Unsupported { what: "the order of sorted sequences as numbers".into(), reason }
}
