//! Norms: LayerNormalization, and the others by what they are made of.

use super::columns::{grouped, ungrouped};
use crate::onnx::export::network::Lowering;
use crate::onnx::export::wire::float;
use wgpu_rnn::Result;
use wgpu_rnn::network::{Norm, Normalise};

pub fn write(to: &mut Lowering<'_>, name: &str, op: &Normalise) -> Result<String> {
    let mut x = to.part(op.x)?;
    let width = op.x.width / op.groups;
    if op.groups > 1 {
        x = grouped(to, &x, op.x.value, op.groups, op.x.width, name);
    }
    let mut y = match op.kind {
        Norm::Layer => {
            // Its gain is for a group's columns, and there must be one.
            let ones = to.to.tensor(&format!("{name}.ones"), &[width], &vec![1.0; width])?;
            to.to.call_with("LayerNormalization", &[&x, &ones], &[float("epsilon", op.epsilon as f32)], name)
        }
        Norm::Rms => {
            let (square, axis, epsilon) =
                (to.to.call("Mul", &[&x, &x], name), to.to.integers(&[-1]), to.to.number(op.epsilon));
            let mean = to.to.call("ReduceMean", &[&square, &axis], name);
            let mean = to.to.call("Add", &[&mean, &epsilon], name);
            let root = to.to.call("Sqrt", &[&mean], name);
            to.to.call("Div", &[&x, &root], name)
        }
        Norm::L2 => {
            let (square, axis, epsilon) =
                (to.to.call("Mul", &[&x, &x], name), to.to.integers(&[-1]), to.to.number(op.epsilon));
            let sum = to.to.call("ReduceSum", &[&square, &axis], name);
            let root = to.to.call("Sqrt", &[&sum], name);
            let root = to.to.call("Max", &[&root, &epsilon], name);
            to.to.call("Div", &[&x, &root], name)
        }
    };
    if op.groups > 1 {
        y = ungrouped(to, &y, op.x.value, op.x.width, name);
    }
    if let Some(gain) = op.gain {
        let gain = to.flat(gain)?;
        y = to.to.call("Mul", &[&y, &gain], name);
    }
    if let Some(bias) = op.bias {
        let bias = to.flat(bias)?;
        y = to.to.call("Add", &[&y, &bias], name);
    }
    Ok(y)
}
