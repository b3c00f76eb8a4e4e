//! ONNX's own test cases of LinearAttention and CausalConvWithState: nodes that are networks.
//!
//! What was recorded in 16 bits is computed in the executor's type and rounded once, at the end.

use super::golden::{Case, Golden, Truth};
use super::naive::Scalar;
use super::onnx_case::truth;
use super::tolerance::Recorded;
use super::{Named, cast, naive_attention, widen};
use wgpu_rnn::network::{NetworkOptions, NetworkPlan, NetworkSession};
use wgpu_rnn::{Device, Element, Error, Options, Result, Tensor, View};
use wgpu_rnn_formats::onnx::Recurrence;
use wgpu_rnn_formats::onnx::parts::Constant;

/// A node and its inputs. Values are f64 whatever they were stored in.
#[derive(Clone, Debug)]
pub struct RecurrentNode {
    /// The operator.
    pub recurrence: Recurrence,
    /// All of its inputs, in its order and with ONNX's axes.
    pub inputs: Vec<Option<Tensor<f64>>>,
    /// What its outputs were recorded in.
    recorded: [Option<Recorded>; 2],
}

/// A node with its inputs and outputs as they were recorded.
pub(super) struct RecordedNode {
    pub name: String,
    pub recurrence: Recurrence,
    pub inputs: Vec<Option<Constant>>,
    pub outputs: [Option<Constant>; 2],
}

impl RecordedNode {
    /// The same, checked.
    pub fn golden(self) -> Result<Golden> {
        let Self { name, recurrence, inputs, outputs } = self;
        let op = recurrence.op();
        let shapes: Vec<Option<&[usize]>> = inputs.iter().map(|i| i.as_ref().map(|i| &i.shape[..])).collect();
        let network = recurrence.network(&shapes)?;
        let mut truths: Vec<Truth> = Vec::new();
        let mut recorded = [None; 2];
        for (n, (output, shape)) in outputs.iter().zip(network.output_shapes()).enumerate() {
            let Some(output) = output else { continue };
            let what = op.outputs()[n];
            output.expect(what, "the shape that its inputs give", &shape)?;
            let tensor = Tensor { data: output.reals(what)?.to_vec(), shape };
            let truth = truth(what, &format!("out.{what}"), tensor, output.element)?;
            recorded[n] = Some(truth.recorded);
            truths.push(truth);
        }
        if truths.is_empty() {
            return Err(Error::mismatch("outputs", op.outputs().join(" or "), "none recorded"));
        }
        let tensor = |(input, (what, _)): (Option<Constant>, &(&str, &str))| match input {
            Some(c) => Ok(Some(Tensor { data: c.reals(what)?.to_vec(), shape: c.shape })),
            None => Ok(None),
        };
        let inputs = inputs.into_iter().zip(op.inputs()).map(tensor).collect::<Result<_>>()?;
        Ok(Golden { name, case: Case::Recurrence(RecurrentNode { recurrence, inputs, recorded }), truths })
    }
}

impl RecurrentNode {
    /// What the executor makes of it.
    pub(super) fn runs<T: Scalar + Element>(&self, device: &Device, options: &Options) -> Result<Vec<Named>> {
        let inputs: Vec<Option<Tensor<T>>> = self.inputs.iter().map(|i| i.as_ref().map(cast)).collect();
        let views: Vec<Option<View<'_, T>>> = inputs.iter().map(|i| i.as_ref().map(Tensor::view)).collect();
        let shapes: Vec<Option<&[usize]>> = views.iter().map(|v| v.map(|v| v.shape)).collect();
        let network = self.recurrence.network(&shapes)?;
        let options = NetworkOptions { precision: options.precision, chunk: network.chunk, ..Default::default() };
        let plan = NetworkPlan::new(&network.network, network.shape, &device.caps(), &options)?;
        let feed = network.feed(&views)?;
        let mut session = NetworkSession::new(device, plan, &feed.params)?;
        session.poison()?;
        let outputs = network.outputs(&feed.forward(&mut session)?)?;
        let rounded = outputs.into_iter().zip(self.recorded).map(|(output, recorded)| {
            let data = output.data.into_iter().map(T::to_f64);
            let data = match recorded {
                Some(Recorded::F16) => data.map(|v| half::f16::from_f64(v).to_f64()).collect(),
                _ => data.collect(),
            };
            Tensor { data, shape: output.shape }
        });
        Ok(vec![self.named(rounded)])
    }

    /// What the naive loops make of it.
    pub(super) fn naive_run<T: Scalar>(&self) -> Result<Named> {
        let inputs: Vec<Option<Tensor<T>>> = self.inputs.iter().map(|i| i.as_ref().map(cast)).collect();
        let outputs = match &self.recurrence {
            Recurrence::LinearAttention(attention) => naive_attention::attention(attention, &inputs),
            Recurrence::CausalConvWithState(convolution) => naive_attention::convolution(convolution, &inputs),
        };
        Ok(self.named(outputs?.into_iter().map(widen)))
    }

    fn named(&self, outputs: impl Iterator<Item = Tensor<f64>>) -> Named {
        self.recurrence.op().outputs().into_iter().map(|name| format!("out.{name}")).zip(outputs).collect()
    }
}
