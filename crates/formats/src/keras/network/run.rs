//! Runs the networks of a model one behind the other.

use super::KerasSteps;
use super::whole::{KerasBegin, KerasFrom, KerasNetwork, KerasStage};
use std::borrow::Cow;
use wgpu_rnn::{Device, Element, Error, Model, ModelOptions, ModelOutput, Result, Tensor, View};

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
        if lengths.is_some() && network.own_steps {
            return Err(Error::Unsupported {
                what: "lengths".into(),
                reason: "inputs of the model have steps of their own: they are taken from the masks of each".into(),
            });
        }
        let mut results: Vec<ModelOutput<T>> = Vec::new();
        for (n, (stage, model)) in network.stages.iter().zip(models).enumerate() {
            let within = |e| crate::onnx::parts::within(&format!("network {n} of the model"), e);
            let mut given: Vec<Given<'_, T>> = Vec::new();
            for feed in &stage.feeds {
                let (data, shape) = value(network, inputs, &results, &feed.from)?;
                given.push(match feed.steps {
                    KerasSteps::Same => Given { name: &feed.name, data, shape },
                    steps => {
                        let Tensor { data, shape } =
                            steps.gather(View::new(&data, &shape), feed.reversed).map_err(within)?;
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
            let own = match stage.steps_of.filter(|_| network.own_steps) {
                Some(input) => network.inputs[input].lengths(inputs)?,
                None => None,
            };
            // Behind a row per sequence are steps of another number.
            let lengths = own.as_deref().or(lengths.filter(|_| stage.has_the_models_steps()));
            let out = match begin(network, inputs, &results, stage)? {
                Some(_) if lengths.is_some_and(|all| all.contains(&0)) => {
                    let reason = "Keras's versions differ in what becomes of it: leave it out of the batch".into();
                    return Err(within(Error::Unsupported {
                        what: "a sequence without steps, from a state".into(),
                        reason,
                    }));
                }
                Some(states) => {
                    let states: Vec<View<'_, T>> = states.iter().map(Tensor::view).collect();
                    model.forward_from(&views, lengths, &states)
                }
                None => model.forward(&views, lengths),
            };
            results.push(if network.stages.len() == 1 { out? } else { out.map_err(within)? });
        }
        let of = |output: &super::KerasOutput| {
            let (stage, width) = (output.stage, output.width);
            let from = match output.state {
                Some((state, first)) => KerasFrom::State { stage, state, first, width },
                None => KerasFrom::Stage { stage, output: output.name.clone() },
            };
            let (data, shape) = value(network, inputs, &results, &from)?;
            Ok((output.name.clone(), Tensor { data: data.into_owned(), shape }))
        };
        network.outputs.iter().map(of).collect()
    }
}

/// A value of the model's inputs or of networks before, with its shape.
fn value<'v, T: Element>(
    network: &KerasNetwork,
    inputs: &[(&str, View<'v, T>)],
    results: &'v [ModelOutput<T>],
    from: &KerasFrom,
) -> Result<(Cow<'v, [T]>, Vec<usize>)> {
    let missing = |what: &str| Error::mismatch(what, "a value of a network before", "none");
    match from {
        KerasFrom::Model(input) => {
            let name = &network.inputs[*input].name;
            let view = inputs.iter().find(|(n, _)| n == name).map(|(_, view)| *view);
            let view = view.ok_or_else(|| Error::mismatch(format!("input {name}"), "a value", "none"))?;
            view.check(&format!("input {name}"), &[], view.shape)?;
            Ok((Cow::Borrowed(view.data), view.shape.to_vec()))
        }
        KerasFrom::Stage { stage, output } => {
            let found = results.get(*stage).and_then(|result| result.get(output)).ok_or_else(|| missing(output))?;
            Ok((Cow::Borrowed(&found.data), found.shape.clone()))
        }
        &KerasFrom::State { stage, state, first, width } => {
            let found = results.get(stage).and_then(|result| result.states.get(state));
            let found = found.ok_or_else(|| missing("state"))?;
            let &[batch, size] = &found.shape[..] else { return Err(missing("state")) };
            let rows = found.data.chunks_exact(size.max(1)).map(|row| row.get(first..first + width));
            let rows = rows.collect::<Option<Vec<_>>>().ok_or_else(|| missing("state"))?;
            Ok((Cow::Owned(rows.concat()), vec![batch, width]))
        }
    }
}

/// What the states of a network begin with; `None`: all with zeros.
fn begin<T: Element>(
    network: &KerasNetwork,
    inputs: &[(&str, View<'_, T>)],
    results: &[ModelOutput<T>],
    stage: &KerasStage,
) -> Result<Option<Vec<Tensor<T>>>> {
    if stage.states.iter().all(|state| state.begin.is_empty()) {
        return Ok(None);
    }
    let mut parts = Vec::new();
    for state in &stage.states {
        let of = |begin: &KerasBegin| Ok((begin.width, value(network, inputs, results, &begin.from)?));
        parts.push(state.begin.iter().map(of).collect::<Result<Vec<_>>>()?);
    }
    let sizes = parts.iter().flatten().map(|(_, (_, shape))| shape);
    let batch = sizes.filter_map(|shape| shape.first()).max().copied().unwrap_or(0);
    let mut states = Vec::new();
    for (state, parts) in stage.states.iter().zip(&parts) {
        let mut data = vec![T::default(); batch * state.size];
        let mut first = 0;
        for (width, (values, shape)) in parts {
            if shape[..] != [batch, *width] || first + width > state.size {
                let expected = format!("[B={batch}, {width}]");
                return Err(Error::mismatch("a state to begin from", expected, format!("{shape:?}")));
            }
            for (row, values) in data.chunks_exact_mut(state.size).zip(values.chunks_exact(*width)) {
                row[first..first + width].copy_from_slice(values);
            }
            first += width;
        }
        states.push(Tensor { data, shape: vec![batch, state.size] });
    }
    Ok(Some(states))
}
