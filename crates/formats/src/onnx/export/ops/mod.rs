//! What the operations of networks are in ONNX: the table, and a file for each kind of operation that ONNX has.

mod columns;
mod layers;
mod linear;
mod map;
mod norm;
mod pool;
mod time;

use super::network::Lowering;
use wgpu_rnn::network::{Node, Op, Operand, Part};
use wgpu_rnn::{Error, Result};

/// The table: adds the nodes of an operation and gives the name of what it makes.
///
/// # Errors
/// [`Error::Unsupported`] for an operation that ONNX does not have; [`Error::Limit`].
pub fn write(to: &mut Lowering<'_>, node: &Node) -> Result<String> {
    match &node.op {
        Op::Linear(op) => linear::write(to, &node.name, op),
        Op::Norm(op) => norm::write(to, &node.name, op),
        Op::Conv(op) => time::conv(to, &node.name, op),
        Op::Sum(op) => columns::sum(to, &node.name, op),
        Op::Shift(op) => time::shift(to, &node.name, op),
        Op::Map(op) => map::write(to, &node.name, op),
        Op::Concat(op) => columns::concat(to, &node.name, op),
        Op::Pool(op) => pool::write(to, &node.name, op),
        Op::Embedding(op) => columns::embedding(to, &node.name, op),
        Op::Layers(op) => layers::write(to, node, op),
        Op::Loss(_) => {
            Err(refused("loss", &node.name, "it is training's: name the value that it compares as an output"))
        }
        Op::Scan(_) => {
            Err(refused("linear recurrence", &node.name, "its operators have recurrences of RNN, LSTM and GRU alone"))
        }
    }
}

/// What an operation of the table reads.
pub fn reads(op: &Op) -> Vec<Part> {
    match op {
        Op::Linear(op) => vec![op.x],
        Op::Norm(op) => vec![op.x],
        Op::Conv(op) => vec![op.x],
        Op::Sum(op) => vec![op.x],
        Op::Shift(op) => vec![op.x],
        Op::Map(op) => op.operands.iter().filter_map(Operand::part).collect(),
        Op::Concat(op) => op.parts.clone(),
        Op::Pool(op) => vec![op.x],
        Op::Embedding(op) => vec![op.ids],
        Op::Layers(op) => vec![op.x],
        // Whatever they read, they are refused.
        Op::Loss(_) | Op::Scan(_) => Vec::new(),
    }
}

/// Adds the inputs of an operation's states.
///
/// # Errors
/// [`Error::Unsupported`] for states that ONNX's form of the operation does not have.
pub fn declare_states(to: &mut Lowering<'_>, node: &Node) -> Result<()> {
    match &node.op {
        Op::Layers(op) => layers::declare_states(to, node, op),
        Op::Conv(conv) if conv.high == 0 && conv.low > 0 => Err(without_states("convolution over time", &node.name)),
        Op::Shift(_) => Err(without_states("step before", &node.name)),
        _ => Ok(()),
    }
}

fn without_states(what: &str, name: &str) -> Error {
    let reason = "states are exported for stacks of layers alone; without Export::states it begins at zeros".into();
    Error::Unsupported { what: format!("the state of the {what} {name} in ONNX"), reason }
}

/// What ONNX has no place for.
fn refused(what: &str, name: &str, reason: &str) -> Error {
    Error::Unsupported { what: format!("the {what} {name} in ONNX"), reason: reason.into() }
}
