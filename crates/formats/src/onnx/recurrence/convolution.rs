//! `CausalConvWithState`: a depthwise convolution over time that carries its last k − 1 inputs; with k = 1 it carries nothing.

use super::network::{Layout, RecurrenceNetwork};
use super::{RecurrenceOp, Shapes, refused};
use crate::onnx::operator::{AttributeValue, shortened};
use wgpu_rnn::expr::{Expr, silu};
use wgpu_rnn::network::{Builder, Network, ParamId, Part};
use wgpu_rnn::{Error, Result, Shape};

pub(super) const INPUTS: [(&str, &str); 4] =
    [("input", "B, C, T"), ("weight", "C, 1, k"), ("bias", "C"), ("past_state", "B, C, k - 1")];
const BIAS: usize = 2;
const PAST: usize = 3;

/// `CausalConvWithState`'s attributes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CausalConv {
    /// `activation` is `silu`, or its other name `swish`: x · σ(x).
    pub silu: bool,
}

impl CausalConv {
    pub(super) fn new(attributes: &[(String, AttributeValue)]) -> Result<Self> {
        let mut activation = "none";
        for (name, value) in attributes {
            match (name.as_str(), value) {
                ("activation", AttributeValue::Text(text)) => activation = text,
                (name, value) => {
                    return Err(refused(RecurrenceOp::CausalConvWithState, &[("activation", "a string")], name, value));
                }
            }
        }
        match activation {
            "none" => Ok(Self { silu: false }),
            "silu" | "swish" => Ok(Self { silu: true }),
            _ => Err(Error::mismatch("activation", "silu, swish or none", shortened(activation))),
        }
    }

    pub(super) fn network(&self, shapes: &Shapes<'_>) -> Result<RecurrenceNetwork> {
        let (shape, [channels, taps]) = self.sizes(shapes)?;
        let network = self.build(channels, taps, shapes.get(BIAS).is_some())?;
        Ok(RecurrenceNetwork::new(shapes, network, shape, None, Layout::Convolution { channels, taps }))
    }

    /// Steps, sequences, channels and taps of inputs of these shapes.
    pub(in crate::onnx) fn sizes(&self, shapes: &Shapes<'_>) -> Result<(Shape, [usize; 2])> {
        let [batch, channels, time] = shapes.three(0)?;
        let [_, _, taps] = shapes.three(1)?;
        shapes.expect(1, &[channels, 1, taps])?;
        shapes.expect(BIAS, &[channels])?;
        shapes.expect(PAST, &[batch, channels, taps - 1])?;
        let shape = Shape { time, batch };
        shape.validate()?;
        let (needs, limit) = ((channels as u64).saturating_mul(taps as u64), u64::from(u32::MAX));
        if needs > limit {
            let what = format!("weight of {channels} channels, {taps} taps");
            let limit_name = "the kernels' index range";
            return Err(Error::Limit { what, needs, limit, unit: "elements", limit_name, hint: String::new() });
        }
        Ok((shape, [channels, taps]))
    }

    fn build(&self, channels: usize, taps: usize, bias: bool) -> Result<Network> {
        let mut b = Builder::new();
        let x = b.input("input", channels)?;
        let weight = b.param("weight", &[channels, 1, taps])?;
        let bias = bias.then(|| b.param("bias", &[channels])).transpose()?;
        let y = self.add(&mut b, &["conv".into(), "activation".into()], x, (weight, bias), taps)?;
        b.output("output", y)?;
        b.finish()
    }

    /// Adds the convolution and the activation behind it, of those names, to a network.
    pub(in crate::onnx) fn add(
        &self,
        b: &mut Builder,
        names: &[String; 2],
        x: Part,
        params: (ParamId, Option<ParamId>),
        taps: usize,
    ) -> Result<Part> {
        let y = b.conv(&names[0], x, params, (taps - 1, 0))?;
        if self.silu { b.map(&names[1], silu(Expr::input(0)), &[y.into()]) } else { Ok(y) }
    }
}
