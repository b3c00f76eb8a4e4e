//! The operators of whole models: a file for each group of them, with what it adds to the network, and a table in each file.
//! What nodes make of constants alone is worked out by the tables of `onnx/fold`.

mod convolution;
mod matrix;
mod normal;
mod order;
mod packed;
mod pointwise;
mod recurrent;
mod reduce;
mod select;

use super::lower::{Lowering, Made, Op};
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
    let tables: [&[Row]; 9] = [
        &order::ROWS,
        &select::ROWS,
        &pointwise::ROWS,
        &matrix::ROWS,
        &reduce::ROWS,
        &normal::ROWS,
        &convolution::ROWS,
        &recurrent::ROWS,
        &packed::ROWS,
    ];
    tables.into_iter().flatten().find(|row| row.name == kind)
}

/// What a network has no place for.
fn refused(what: impl Into<String>, reason: impl Into<String>) -> super::lower::Stop {
    Error::Unsupported { what: what.into(), reason: reason.into() }.into()
}

/// A list of places of sequences that is read as anything else.
pub fn order_as_numbers() -> Error {
    let reason =
        "a network does not sort its sequences; only the way there and back around recurrent nodes is read".into();
    Error::Unsupported { what: "the order of sorted sequences as numbers".into(), reason }
}
