//! Runs the networks of a model one behind the other.

use super::KerasSteps;
use super::whole::{KerasFrom, KerasNetwork};
use std::borrow::Cow;
use wgpu_rnn::{Device, Element, Error, Model, ModelOptions, Result, Tensor, View};

/// A [`KerasNetwork`] on a device, for batches of any shape, for inference.
pub struct KerasModel<T: Element = f32> {
    network: KerasNetwork,
    models: Vec<Model<T>>,
}

/// What an input of a network is given.
struct Given<'a, T: Clone> {
    name: &'a str,
    data: Cow<'a, [T]>,
    shape: Vec<usize>,
}

impl<T: Element> KerasModel<T> {
    /// The model on a device; every one of its networks with these options.
    ///
    /// # Errors
    /// As [`Model::with_options`].
    pub fn with_options(device: &Device, network: &KerasNetwork, options: &ModelOptions) -> Result<Self> {
        let of = network
            .stages
            .iter()
            .map(|stage| Model::with_options(device, &stage.network, &stage.params::<T>(), options));
        let models = of.collect::<Result<_>>()?;
        Ok(Self { network: network.clone(), models })
    }

    /// Runs a batch: every input of the model by its name, `[T, B, width]` or `[B, width]`, in any order, and each sequence's length in 0..=T
    /// (`None`: all T). Gives every output with its name, in the model's order.
    ///
    /// # Errors
    /// [`Error::Mismatch`] for an input that is missing, unknown or of another shape, wrong lengths, and too few steps for a window;
    /// [`Error::Unsupported`] for lengths of a model that is made of windows over whole sequences; [`Error::Limit`] for a batch beyond the
    /// device; errors of the device.
    pub fn forward(
        &mut self,
        inputs: &[(&str, View<'_, T>)],
        lengths: Option<&[usize]>,
    ) -> Result<Vec<(String, Tensor<T>)>> {
        let Self { network, models } = self;
        if let Some((name, _)) = inputs.iter().find(|(name, _)| !network.inputs.iter().any(|input| input.name == *name))
        {
            let names = network.inputs.iter().map(|input| input.name.as_str()).collect::<Vec<_>>().join(", ");
            return Err(Error::mismatch("inputs of the model", names, *name));
        }
        if lengths.is_some() && network.stages.iter().any(|stage| stage.has_own_steps()) {
            return Err(Error::Unsupported {
                what: "lengths".into(),
                reason: "a layer of the model has windows over whole sequences: run sequences of one length together"
                    .into(),
            });
        }
        let mut results: Vec<Vec<(String, Tensor<T>)>> = Vec::new();
        for (n, (stage, model)) in network.stages.iter().zip(models).enumerate() {
            let within = |e| crate::onnx::parts::within(&format!("network {n} of the model"), e);
            let mut given: Vec<Given<'_, T>> = Vec::new();
            for feed in &stage.feeds {
                let value = match &feed.from {
                    KerasFrom::Model(input) => {
                        let name = &network.inputs[*input].name;
                        let view = inputs.iter().find(|(n, _)| n == name).map(|(_, view)| *view);
                        view.ok_or_else(|| Error::mismatch(format!("input {name}"), "a value", "none"))?
                    }
                    KerasFrom::Stage { stage, output } => {
                        let found = results[*stage].iter().find(|(name, _)| name == output);
                        let found =
                            found.ok_or_else(|| Error::mismatch(output, "an output of a network before", "none"))?;
                        found.1.view()
                    }
                };
                given.push(match feed.steps {
                    KerasSteps::Same => {
                        Given { name: &feed.name, data: Cow::Borrowed(value.data), shape: value.shape.to_vec() }
                    }
                    steps => {
                        let Tensor { data, shape } = steps.gather(value, feed.reversed).map_err(within)?;
                        Given { name: &feed.name, data: Cow::Owned(data), shape }
                    }
                });
            }
            let time = given.iter().find(|given| given.shape.len() == 3).map(|given| given.shape[0]);
            if let (Some(time), Some(only)) = (time, stage.time)
                && time != only
            {
                return Err(within(Error::mismatch("steps", only, time)));
            }
            let views: Vec<(&str, View<'_, T>)> =
                given.iter().map(|given| (given.name, View::new(&given.data, &given.shape))).collect();
            // Behind a row per sequence are steps of another number.
            let out = model.forward(&views, lengths.filter(|_| stage.has_the_models_steps()));
            results.push(if network.stages.len() == 1 { out? } else { out.map_err(within)? }.values);
        }
        let of = |output: &super::KerasOutput| {
            let found = results[output.stage].iter().find(|(name, _)| *name == output.name);
            found.cloned().ok_or_else(|| Error::mismatch(&output.name, "an output of its network", "none"))
        };
        network.outputs.iter().map(of).collect()
    }
}
