//! The steps beside a step: Conv over time and the step before, which begin at zeros.

use crate::onnx::export::network::Lowering;
use crate::onnx::export::wire::{int, ints, size_of_axis};
use wgpu_rnn::Result;
use wgpu_rnn::network::{Conv, Shift};

/// A Conv with a group per column.
pub fn conv(to: &mut Lowering<'_>, name: &str, op: &Conv) -> Result<String> {
    let x = to.part(op.x)?;
    // What stands past an end is no step that a tap before it could read.
    let x = if op.high > 0 { to.within(op.x, &x, name)? } else { x };
    let (taps, width) = (op.low + 1 + op.high, size_of_axis(op.x.width));
    let (weight, shape) = (to.param(op.weight)?, to.to.integers(&[width, 1, size_of_axis(taps)]));
    let weight = to.to.call("Reshape", &[&weight, &shape], &weight);
    let bias = op.bias.map(|bias| to.flat(bias)).transpose()?;
    let x = to.to.call_with("Transpose", &[&x], &[ints("perm", &[1, 2, 0])], name);
    let inputs: Vec<&str> = [x.as_str(), &weight].into_iter().chain(bias.as_deref()).collect();
    let attributes = [int("group", width), ints("pads", &[size_of_axis(op.low), size_of_axis(op.high)])];
    let y = to.to.call_with("Conv", &inputs, &attributes, name);
    Ok(to.to.call_with("Transpose", &[&y], &[ints("perm", &[2, 0, 1])], name))
}

/// A row of zeros in front, and the last row left out.
pub fn shift(to: &mut Lowering<'_>, name: &str, op: &Shift) -> Result<String> {
    let x = to.part(op.x)?;
    let [pads, zero, last, axis] = [&[1, 0, 0, 0, 0, 0][..], &[0], &[-1], &[0]].map(|list| to.to.integers(list));
    let padded = to.to.call("Pad", &[&x, &pads], name);
    Ok(to.to.call("Slice", &[&padded, &zero, &last, &axis], name))
}
