//! Whole models, whatever tool wrote them: [`WholeModel`].
//!
//! ```no_run
//! # fn main() -> wgpu_rnn::Result<()> {
//! use wgpu_rnn::network::NetworkOptions;
//! use wgpu_rnn::{Device, View};
//! use wgpu_rnn_formats::WholeModel;
//! let model = WholeModel::open("model.onnx")?; // or .keras, or an .h5 with its configuration
//! for value in model.inputs() {
//!     println!("{} {}", value.name, value.shape);
//! }
//! let x = vec![0.5f32; 2 * 10 * 8];
//! let x = [("x", View::new(&x, &[2, 10, 8]))]; // as the model has it: the batch in front
//! let mut session = model.session(&Device::cpu(), &NetworkOptions::default(), &[("x", &[2, 10, 8])])?;
//! for (name, value) in session.run(&x)? {
//!     println!("{name} {:?}", value.shape);
//! }
//! # Ok(()) }
//! ```

use crate::file::ModelFile;
use crate::keras::{KerasFile, KerasInput, KerasModel, KerasNetwork, KerasOutput};
use crate::onnx::{OnnxFile, OnnxSession, OnnxSize, OnnxValue};
use std::collections::HashMap;
use std::path::Path;
use wgpu_rnn::network::NetworkOptions;
use wgpu_rnn::{Device, Element, Error, ModelOptions, Result, Tensor, View};

/// A whole model: inputs and outputs by name, each with the axes that the model has it with.
pub struct WholeModel(Format);

/// Sizes of open axes to try: of the first, and of all others.
const TRIALS: [[usize; 2]; 4] = [[2, 8], [1, 8], [8, 1], [1, 1]];

enum Format {
    Onnx(Box<OnnxFile>),
    Keras(Box<KerasNetwork>),
}

/// An input or output of a [`WholeModel`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WholeValue {
    /// Its name.
    pub name: String,
    /// Its axes in words: `[batch, 10, 8]`; open ones by their names, or `?`.
    pub shape: String,
}

impl WholeModel {
    /// Reads the model of a file.
    ///
    /// # Errors
    /// [`Error::File`] for a file that cannot be read or holds no whole model; errors of its reader ([`ModelFile::open`],
    /// [`KerasFile::network`]).
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        ModelFile::open(path)?.whole()
    }

    pub(crate) fn of_onnx(file: Box<OnnxFile>) -> Self {
        Self(Format::Onnx(file))
    }

    pub(crate) fn of_keras(file: &KerasFile) -> Result<Self> {
        Ok(Self(Format::Keras(Box::new(file.network()?))))
    }

    /// Whether the model can run, tried with sizes where it leaves them open: few models take every size, and their first axis may
    /// count anything. Makes nothing on a device.
    ///
    /// # Errors
    /// What stops it at the first of those sizes: 2 sequences, and 8 on other axes.
    pub(crate) fn try_out(&self) -> Result<()> {
        let tried = TRIALS.map(|open| {
            let trial = self.trial(open);
            self.check(&trial.iter().map(|(name, shape)| (name.as_str(), &shape[..])).collect::<Vec<_>>())
        });
        if tried.iter().any(Result::is_ok) {
            return Ok(());
        }
        tried.into_iter().next().unwrap_or(Ok(()))
    }

    /// Sizes for the inputs: of the first axis, and of others, that are open.
    fn trial(&self, sizes: [usize; 2]) -> Vec<(String, Vec<usize>)> {
        let open = |axis: usize| sizes[axis.min(1)];
        match &self.0 {
            Format::Onnx(file) => {
                let mut named = HashMap::new();
                let mut trial = Vec::new();
                for value in file.inputs() {
                    let size = |(axis, size): (usize, &OnnxSize)| match size {
                        OnnxSize::Fixed(size) => *size,
                        OnnxSize::Named(name) => *named.entry(name.clone()).or_insert_with(|| open(axis)),
                        OnnxSize::Open => open(axis),
                    };
                    let shape = value.shape.iter().flatten().enumerate().map(size).collect();
                    trial.push((value.name, shape));
                }
                trial
            }
            Format::Keras(network) => {
                let of = |input: &KerasInput| {
                    let (batch, time) = (open(0), network.time.unwrap_or_else(|| open(1)));
                    let shape = match (input.steps, input.ids) {
                        (true, true) => vec![batch, time],
                        (true, false) => vec![batch, time, input.width],
                        (false, true) => vec![batch],
                        (false, false) => vec![batch, input.width],
                    };
                    (input.name.clone(), shape)
                };
                network.inputs.iter().map(of).collect()
            }
        }
    }

    fn check(&self, shapes: &[(&str, &[usize])]) -> Result<()> {
        match &self.0 {
            Format::Onnx(file) => {
                // Of values that decide which network it is, one is tried.
                let deciding = file.deciding();
                let (values, shapes): (Vec<_>, Vec<_>) =
                    shapes.iter().copied().partition(|(name, _)| deciding.iter().any(|n| n == name));
                let ones = values.iter().map(|(_, shape)| vec![1; shape.iter().product()]).collect::<Vec<Vec<i64>>>();
                let values = values.iter().zip(&ones).map(|((name, shape), ones)| (*name, View::new(ones, shape)));
                file.decided(&values.collect::<Vec<_>>())?.model(&shapes).map(drop)
            }
            Format::Keras(network) => shapes.iter().try_for_each(|(n, s)| keras_shape(network, n, s).map(drop)),
        }
    }

    /// What a run reads.
    pub fn inputs(&self) -> Vec<WholeValue> {
        match &self.0 {
            Format::Onnx(file) => file.inputs().iter().map(onnx_value).collect(),
            Format::Keras(network) => {
                let of = |input: &KerasInput| WholeValue {
                    name: input.name.clone(),
                    shape: keras_axes(input, network.time),
                };
                network.inputs.iter().map(of).collect()
            }
        }
    }

    /// What a run gives.
    pub fn outputs(&self) -> Vec<WholeValue> {
        match &self.0 {
            Format::Onnx(file) => file.outputs().iter().map(onnx_value).collect(),
            Format::Keras(network) => {
                let shape = |output: &KerasOutput| match output {
                    KerasOutput { steps: false, width, .. } => format!("[B, {width}]"),
                    // Of a network whose steps are others.
                    KerasOutput { stage, width, .. } if !network.stages[*stage].has_the_models_steps() => {
                        format!("[B, ?, {width}]")
                    }
                    KerasOutput { width, .. } => format!("[B, T, {width}]"),
                };
                let of = network.outputs.iter();
                of.map(|o| WholeValue { name: o.name.clone(), shape: shape(o) }).collect()
            }
        }
    }

    /// The model on a device, for inputs of these shapes. A Keras model takes others too, at every run.
    ///
    /// # Errors
    /// [`Error::Mismatch`] for inputs that are missing, unknown or of another shape; [`Error::Unsupported`] for an operator that no network
    /// has, with the values up to which the model can run; errors of plans and of the device.
    pub fn session<T: Element>(
        &self,
        device: &Device,
        options: &NetworkOptions,
        shapes: &[(&str, &[usize])],
    ) -> Result<WholeSession<T>> {
        match &self.0 {
            Format::Onnx(file) => {
                let model = file.model(shapes)?;
                let layout = model.stages.first().map(|stage| stage.layout()).unwrap_or_default();
                Ok(WholeSession { layout, on: On::Onnx(Box::new(model.session(device, options)?)), deciding: None })
            }
            Format::Keras(network) => {
                let layout = shapes.iter().map(|(name, shape)| keras_layout(network, name, shape));
                let layout = layout.collect::<Result<_>>()?;
                let options = ModelOptions { plan: options.clone(), ..ModelOptions::default() };
                let model = KerasModel::with_options(device, network, &options)?;
                Ok(WholeSession { layout, on: On::Keras(Box::new(model), network.clone()), deciding: None })
            }
        }
    }

    /// The same for inputs of the shapes of these, and of the values of those that decide which network the model is
    /// ([`OnnxFile::deciding`]): a sampling rate that picks one of two halves, a size. A later run with other values of those builds the
    /// network again, at the shapes of that run.
    ///
    /// # Errors
    /// As [`WholeModel::session`]; [`Error::Mismatch`] for deciding values that are no whole numbers.
    pub fn session_with<T: Element>(
        &self,
        device: &Device,
        options: &NetworkOptions,
        inputs: &[(&str, View<'_, T>)],
    ) -> Result<WholeSession<T>> {
        let deciding = match &self.0 {
            Format::Onnx(file) => file.deciding(),
            Format::Keras(_) => Vec::new(),
        };
        match &self.0 {
            Format::Onnx(file) if !deciding.is_empty() => {
                let deciding = Deciding { file: (**file).clone(), names: deciding, values: Vec::new() };
                deciding.session(device.clone(), options.clone(), inputs)
            }
            _ => {
                let shapes: Vec<(&str, &[usize])> = inputs.iter().map(|(name, view)| (*name, view.shape)).collect();
                self.session(device, options, &shapes)
            }
        }
    }
}

/// Inputs that decide which network a model is.
struct Deciding {
    file: OnnxFile,
    names: Vec<String>,
    /// Of the network that there is, by name.
    values: Vec<(String, Tensor<i64>)>,
}

impl Deciding {
    /// The values of those of the inputs, and the other inputs.
    fn split<'a, T: Element>(&self, inputs: &[(&'a str, View<'a, T>)]) -> Result<Split<'a, T>> {
        let mut split = (Vec::new(), Vec::new());
        for &(name, view) in inputs {
            if !self.names.iter().any(|deciding| deciding == name) {
                split.1.push((name, view));
                continue;
            }
            let whole = |v: &T| {
                let v = v.to_f64();
                let whole = v.fract() == 0.0 && v.abs() < 2f64.powi(53);
                whole.then_some(v as i64).ok_or_else(|| Error::mismatch(format!("input {name}"), "whole numbers", v))
            };
            let data = view.data.iter().map(whole).collect::<Result<Vec<_>>>()?;
            split.0.push((name.to_string(), Tensor { data, shape: view.shape.to_vec() }));
        }
        split.0.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(split)
    }

    /// The network for these values.
    fn session<T: Element>(
        mut self,
        device: Device,
        options: NetworkOptions,
        inputs: &[(&str, View<'_, T>)],
    ) -> Result<WholeSession<T>> {
        let (values, rest) = self.split(inputs)?;
        self.values = values;
        let views: Vec<(&str, View<'_, i64>)> = self.values.iter().map(|(n, t)| (n.as_str(), t.view())).collect();
        let shapes: Vec<(&str, &[usize])> = rest.iter().map(|(name, view)| (*name, view.shape)).collect();
        let model = self.file.decided(&views)?.model(&shapes)?;
        let layout = model.stages.first().map(|stage| stage.layout()).unwrap_or_default();
        let on = On::Onnx(Box::new(model.session(&device, &options)?));
        Ok(WholeSession { layout, on, deciding: Some(Box::new((self, device, options))) })
    }
}

/// Deciding values by name, in the order of the names, and other inputs.
type Split<'a, T> = (Vec<(String, Tensor<i64>)>, Vec<(&'a str, View<'a, T>)>);

/// A [`WholeModel`] on a device.
pub struct WholeSession<T: Element = f32> {
    layout: Vec<String>,
    on: On<T>,
    /// Where some inputs decide which network it is: what makes another one.
    deciding: Option<Box<(Deciding, Device, NetworkOptions)>>,
}

enum On<T: Element> {
    Onnx(Box<OnnxSession<T>>),
    Keras(Box<KerasModel<T>>, Box<KerasNetwork>),
}

impl<T: Element> WholeSession<T> {
    /// How the axes of every input are read: `x [B=2, T=10, 8]`.
    pub fn layout(&self) -> &[String] {
        &self.layout
    }

    /// Runs the model over every input by its name; the outputs in the model's order, with their names. Whatever the model has numbers
    /// in, they are `T` here; token ids are whole numbers, truth is 1 or 0. Other values of inputs that decide which network the model is
    /// build it again ([`WholeModel::session_with`]); a network that stays costs nothing.
    ///
    /// # Errors
    /// [`Error::Mismatch`] for inputs that are missing, unknown or of other shapes; errors of the device.
    pub fn run(&mut self, inputs: &[(&str, View<'_, T>)]) -> Result<Vec<(String, Tensor<T>)>> {
        let Some(deciding) = &self.deciding else { return self.run_network(inputs) };
        let (of, device, options) = &**deciding;
        let (values, rest) = of.split(inputs)?;
        if values != of.values {
            let of = Deciding { file: of.file.clone(), names: of.names.clone(), values: Vec::new() };
            *self = of.session(device.clone(), options.clone(), inputs)?;
        }
        self.run_network(&rest)
    }

    fn run_network(&mut self, inputs: &[(&str, View<'_, T>)]) -> Result<Vec<(String, Tensor<T>)>> {
        match &mut self.on {
            On::Onnx(session) => Ok(session.run(inputs)?.into_iter().map(|one| (one.name, one.tensor)).collect()),
            On::Keras(model, network) => run_keras(model, network, inputs),
        }
    }
}

fn onnx_value(value: &OnnxValue) -> WholeValue {
    let sizes = |sizes: &Vec<OnnxSize>| sizes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let shape = value.shape.as_ref().map_or("of any shape".into(), |shape| format!("[{}]", sizes(shape)));
    WholeValue { name: value.name.clone(), shape }
}

/// Keras has the batch in front, and no axis behind token ids.
fn keras_axes(input: &KerasInput, time: Option<usize>) -> String {
    let time = time.map_or("T".to_string(), |time| time.to_string());
    match (input.steps, input.ids) {
        (true, true) => format!("[B, {time}]"),
        (true, false) => format!("[B, {time}, {}]", input.width),
        (false, true) => "[B]".into(),
        (false, false) => format!("[B, {}]", input.width),
    }
}

/// T, where there are steps, and B of an input.
fn keras_shape(network: &KerasNetwork, name: &str, shape: &[usize]) -> Result<(usize, Option<usize>, usize)> {
    let input = network.inputs.iter().enumerate().find(|(_, input)| input.name == name);
    let (n, input) = input.ok_or_else(|| {
        let names = network.inputs.iter().map(|input| input.name.as_str()).collect::<Vec<_>>().join(", ");
        Error::mismatch("input", names, name)
    })?;
    let wrong = || Error::mismatch(format!("input {name}"), keras_axes(input, network.time), format!("{shape:?}"));
    let (time, batch) = match (shape, input.steps, input.ids) {
        (&[batch, time], true, true) => (Some(time), batch),
        (&[batch, time, width], true, _) if width == input.width => (Some(time), batch),
        (&[batch], false, true) => (None, batch),
        (&[batch, width], false, _) if width == input.width => (None, batch),
        _ => return Err(wrong()),
    };
    match (time, network.time) {
        (Some(time), Some(only)) if time != only => Err(wrong()),
        _ => Ok((n, time, batch)),
    }
}

fn keras_layout(network: &KerasNetwork, name: &str, shape: &[usize]) -> Result<String> {
    let (n, time, batch) = keras_shape(network, name, shape)?;
    let input = &network.inputs[n];
    let time = time.map_or(String::new(), |time| format!(", T={time}"));
    let width = if input.ids { String::new() } else { format!(", {}", input.width) };
    Ok(format!("{name} [B={batch}{time}{width}]"))
}

/// `[B, T, width]` as `[T, B, width]`, and back with both numbers the other way round.
fn turned<T: Copy>(data: &[T], [outer, inner, width]: [usize; 3]) -> Vec<T> {
    let at = (0..inner).flat_map(|i| (0..outer).map(move |o| (o * inner + i) * width));
    at.flat_map(|at| &data[at..at + width]).copied().collect()
}

fn run_keras<T: Element>(
    model: &mut KerasModel<T>,
    network: &KerasNetwork,
    inputs: &[(&str, View<'_, T>)],
) -> Result<Vec<(String, Tensor<T>)>> {
    let mut given = Vec::new();
    for (name, view) in inputs {
        let (n, time, batch) = keras_shape(network, name, view.shape)?;
        view.check(name, &[], view.shape)?;
        let width = network.inputs[n].width;
        given.push(match time {
            Some(time) => {
                let data = turned(view.data, [batch, time, width]);
                (*name, Tensor { data, shape: vec![time, batch, width] })
            }
            None => (*name, Tensor { data: view.data.to_vec(), shape: vec![batch, width] }),
        });
    }
    let views: Vec<(&str, View<'_, T>)> = given.iter().map(|(name, tensor)| (*name, tensor.view())).collect();
    let lengths = network.lengths(&views)?;
    let out = model.forward(&views, lengths.as_deref())?;
    let of = |((name, tensor), output): ((String, Tensor<T>), &KerasOutput)| {
        let &[time, batch, width] = &tensor.shape[..] else { return (name, tensor) };
        let mut data = turned(&tensor.data, [time, batch, width]);
        if output.reversed {
            for sequence in data.chunks_exact_mut((time * width).max(1)) {
                let steps: Vec<T> = sequence.chunks_exact(width).rev().flatten().copied().collect();
                sequence.copy_from_slice(&steps);
            }
        }
        (name, Tensor { data, shape: vec![batch, time, width] })
    };
    Ok(out.into_iter().zip(&network.outputs).map(of).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_in_front_go_behind_time_and_back() {
        // Two sequences of three steps of two columns.
        let x: Vec<usize> = (0..12).collect();
        let t = turned(&x, [2, 3, 2]);
        assert_eq!(t, [0, 1, 6, 7, 2, 3, 8, 9, 4, 5, 10, 11]);
        assert_eq!(turned(&t, [3, 2, 2]), x);
    }
}
