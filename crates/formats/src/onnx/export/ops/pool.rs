//! A row per sequence of the rows of its steps: Gather and ReduceMean, and with lengths what they leave over.

use crate::onnx::export::network::Lowering;
use crate::onnx::export::wire::int;
use crate::onnx::proto::data_type;
use wgpu_rnn::Result;
use wgpu_rnn::network::{Pool, Pooling};

pub fn write(to: &mut Lowering<'_>, name: &str, op: &Pool) -> Result<String> {
    let x = to.part(op.x)?;
    if !to.export.lengths {
        return Ok(match op.kind {
            Pooling::Last => row(to, &x, -1, name),
            Pooling::First => row(to, &x, 0, name),
            Pooling::Mean => over_steps(to, "ReduceMean", &x, name),
            Pooling::Max => over_steps(to, "ReduceMax", &x, name),
        });
    }
    let lengths = to.lengths();
    Ok(match op.kind {
        Pooling::Last => {
            let one = to.to.integer(data_type::INT32, 1);
            let last = to.to.call("Sub", &[lengths, &one], "steps");
            let numbers = to.numbers_of_steps()?;
            let is_last = to.to.call("Equal", &[&numbers, &last], "steps");
            let (axis, zero) = (to.to.integers(&[-1]), to.to.number(0.0));
            let is_last = to.to.call("Unsqueeze", &[&is_last, &axis], "steps");
            let only = to.to.call("Where", &[&is_last, &x, &zero], name);
            over_steps(to, "ReduceSum", &only, name)
        }
        Pooling::First => {
            let first = row(to, &x, 0, name);
            to.there(&first, name)
        }
        Pooling::Mean => {
            let within = to.within(op.x, &x, name)?;
            let sum = over_steps(to, "ReduceSum", &within, name);
            // Of a sequence of length 0 the sum is 0.
            let one = to.to.integer(data_type::INT32, 1);
            let count = to.to.call("Max", &[lengths, &one], "steps");
            let numbers = to.to.element();
            let (count, axis) = (to.to.cast(&count, numbers, "steps"), to.to.integers(&[-1]));
            let count = to.to.call("Unsqueeze", &[&count, &axis], "steps");
            to.to.call("Div", &[&sum, &count], name)
        }
        Pooling::Max => {
            let within = to.masked(&x, f64::NEG_INFINITY, name)?;
            let largest = over_steps(to, "ReduceMax", &within, name);
            to.there(&largest, name)
        }
    })
}

/// A row of all sequences, the last of which is −1.
fn row(to: &mut Lowering<'_>, x: &str, step: i64, name: &str) -> String {
    let step = to.to.integer(data_type::INT64, step);
    to.to.call("Gather", &[x, &step], name)
}

/// All steps as one, by such an operator.
fn over_steps(to: &mut Lowering<'_>, op: &str, x: &str, name: &str) -> String {
    let steps = to.to.integers(&[0]);
    to.to.call_with(op, &[x, &steps], &[int("keepdims", 0)], name)
}
