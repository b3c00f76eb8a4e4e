//! Norms.

use super::super::super::constant::Constant;
use super::super::super::fold::{Places, broadcast, normal_axis};
use super::super::axes::Made;
use super::super::lower::Lowering;
use super::super::node::Op;
use super::super::value::{Kind, Value};
use super::{Row, refused, row};
use wgpu_rnn::expr::Expr;
use wgpu_rnn::network::Norm;
use wgpu_rnn::{Error, Result};

pub(super) const ROWS: [Row; 2] = [row("LayerNormalization", 1, layer), row("BatchNormalization", 1, batch)];

fn layer(lowering: &mut Lowering<'_>, op: &Op<'_>) -> Made<Vec<Value>> {
    let x = op.laid(0)?.clone();
    let attributes = op.attributes(lowering.file);
    let epsilon = attributes.float("epsilon")?.unwrap_or(1e-5);
    let first = normal_axis(attributes.int("axis")?.unwrap_or(-1), x.axes.len())?;
    if op.node.output.iter().skip(1).any(|name| !name.is_empty()) {
        return Err(refused("Mean and InvStdDev", "networks keep them to themselves"));
    }
    let wanted: Vec<(usize, Kind)> = (first..x.axes.len()).map(|n| (n, Kind::Columns)).collect();
    lowering.want(&x, &wanted)?;
    let width: usize = x.axes[first..].iter().map(|axis| axis.size).product();
    let shape: Vec<usize> = x.axes[first..].iter().map(|axis| axis.size).collect();
    let part = lowering.dense(&op.name, &x)?;
    let groups = part.width / width;
    let per_column = |lowering: &mut Lowering<'_>, n: usize, what: &str| -> Result<Option<usize>> {
        let Some(constant) = op.constant(n) else { return Ok(None) };
        if broadcast(&constant.shape, &shape)? != shape {
            return Err(Error::mismatch(what, format!("a shape that fits {shape:?}"), format!("{:?}", constant.shape)));
        }
        let all = constant.numbers();
        let one: Vec<f64> = Places::repeated(&constant.shape, &shape).map(|at| all[at]).collect();
        let values = one.repeat(groups);
        lowering.param(&format!("{}.{what}", op.name), &[values.len()], &values).map(Some)
    };
    let gain = per_column(lowering, 1, "weight")?;
    let bias = per_column(lowering, 2, "bias")?;
    let name = lowering.fresh(&op.name);
    let part = lowering.builder.norm(&name, part, (Norm::Layer, groups, epsilon), gain, bias)?;
    Ok(vec![Value::Laid(lowering.laid(part, x.axes.clone(), &x))])
}

/// With the mean and the variance of training, so a factor and a number per channel.
fn batch(lowering: &mut Lowering<'_>, op: &Op<'_>) -> Made<Vec<Value>> {
    let x = op.laid(0)?.clone();
    let attributes = op.attributes(lowering.file);
    if attributes.int("training_mode")?.unwrap_or(0) != 0 {
        return Err(refused("training_mode", "a model is run, not trained, as its file says"));
    }
    let epsilon = attributes.float("epsilon")?.unwrap_or(1e-5);
    let channels = x.axes.get(1).ok_or_else(|| Error::mismatch("X", "[B, C, ...]", x.axes_in_words()))?.size;
    let read = |n: usize, what: &str| {
        let constant = op.constant(n).ok_or_else(|| Error::mismatch(what, "a constant", "none"))?;
        constant.expect(what, "[C]", &[channels])?;
        Ok::<_, Error>(constant.numbers().into_owned())
    };
    let (scale, bias, mean, variance) = (read(1, "scale")?, read(2, "B")?, read(3, "mean")?, read(4, "var")?);
    let factors: Vec<f64> = scale.iter().zip(&variance).map(|(s, v)| s / (v + epsilon).sqrt()).collect();
    let numbers: Vec<f64> = bias.iter().zip(&mean).zip(&factors).map(|((b, m), f)| b - m * f).collect();
    // Along the second axis of whatever there is.
    let mut shape = vec![1; x.axes.len()];
    shape[1] = channels;
    let along = |values: Vec<f64>| {
        let constant = Constant::from_reals("factors", shape.clone(), crate::element::Element::F64, values);
        constant.map(Value::Constant)
    };
    let values = [Value::Laid(x), along(factors)?, along(numbers)?];
    let affine = |x: &[Expr]| x[0].clone() * x[1].clone() + x[2].clone();
    Ok(vec![lowering.pointwise(&op.name, &values, None, affine)?])
}
