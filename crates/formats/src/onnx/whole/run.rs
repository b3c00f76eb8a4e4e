//! A model's run: tensors with ONNX's axes in and out.

use super::super::constant::Constant;
use super::lower::{Begin, Source};
use super::value::{Column, Laid, LaidPlaces, Value};
use super::{Element as OnnxElement, OnnxModel, OnnxNetwork, Shaped};
use wgpu_rnn::network::{
    NetworkInitial, NetworkInput, NetworkOptions, NetworkOutput, NetworkPlan, NetworkSession, Rows,
};
use wgpu_rnn::{Device, Element, Error, Precision, Result, Shape, Tensor, View};

/// An output of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct OnnxTensor<T> {
    /// The output's name.
    pub name: String,
    /// What the model has its numbers in; here they are all of `T`.
    pub element: OnnxElement,
    /// Shape and values, with ONNX's axes.
    pub tensor: Tensor<T>,
}

/// A model on a device.
pub struct OnnxSession<T: Element = f32> {
    model: OnnxModel,
    /// Of its stages.
    sessions: Vec<NetworkSession<T>>,
    device: Device,
    options: NetworkOptions,
    /// What gives the values of sequences of length 0, since the first of them.
    without_steps: Option<Box<Self>>,
}

impl From<OnnxNetwork> for OnnxModel {
    fn from(network: OnnxNetwork) -> Self {
        let inputs = network.inputs.iter().map(|input| Shaped {
            name: input.name.clone(),
            element: input.element,
            shape: input.axes.iter().map(|axis| axis.size).collect(),
        });
        let constant = |(name, value): &(String, Value)| match value {
            Value::Constant(constant) => (name.clone(), Some(constant.clone())),
            _ => (name.clone(), None),
        };
        let (inputs, outputs) = (inputs.collect(), network.outputs.iter().map(constant).collect());
        Self { stages: vec![network], inputs, outputs, without_steps: None }
    }
}

impl OnnxModel {
    /// Names, types and shapes of the inputs.
    pub fn inputs(&self) -> impl Iterator<Item = (&str, OnnxElement, &[usize])> {
        self.inputs.iter().map(|value| (value.name.as_str(), value.element, &value.shape[..]))
    }

    /// How many numbers its parameters are.
    pub fn parameter_count(&self) -> usize {
        self.stages.iter().map(|stage| stage.params.len()).sum()
    }

    /// Makes a session with the model's parameters; whoever wants another plan, or trains, makes one of [`OnnxNetwork::network`] and
    /// [`OnnxNetwork::params`].
    ///
    /// # Errors
    /// As [`NetworkPlan::new`] and [`NetworkSession::new`].
    pub fn session<T: Element>(self, device: &Device, options: &NetworkOptions) -> Result<OnnxSession<T>> {
        let precision = if T::NAME == "f64" { Precision::F64 } else { Precision::F32 };
        let options = NetworkOptions { precision, ..options.clone() };
        let session = |stage: &OnnxNetwork| {
            let plan = NetworkPlan::new(&stage.network, stage.shape, &device.caps(), &options)?;
            let params: Vec<T> = stage.params.iter().map(|&v| T::from_f64(v)).collect();
            NetworkSession::new(device, plan, &params)
        };
        let sessions = self.stages.iter().map(session).collect::<Result<_>>()?;
        Ok(OnnxSession { model: self, sessions, device: device.clone(), options, without_steps: None })
    }
}

impl OnnxNetwork {
    /// Names, types and shapes of the inputs.
    pub fn inputs(&self) -> impl Iterator<Item = (&str, OnnxElement, Vec<usize>)> {
        self.inputs.iter().map(|i| (i.name.as_str(), i.element, i.axes.iter().map(|axis| axis.size).collect()))
    }

    /// How every input lies: `x [B=2, T=5, 4]`.
    pub fn layout(&self) -> Vec<String> {
        self.inputs.iter().map(|input| format!("{} {}", input.name, laid(input).axes_in_words())).collect()
    }

    /// What a run of the network reads, of values by their names; others than its inputs are not read.
    ///
    /// # Errors
    /// [`Error::Mismatch`] for inputs that are missing or of other shapes, and for lengths that are no numbers of steps.
    pub fn feed<T: Element>(&self, inputs: &[(&str, View<'_, T>)]) -> Result<OnnxFeed<T>> {
        let mut given = Vec::new();
        for input in &self.inputs {
            let view = inputs.iter().find(|(name, _)| *name == input.name).map(|(_, view)| *view);
            let view = view.ok_or_else(|| Error::mismatch(format!("input {}", input.name), "a tensor", "none"))?;
            let sizes: Vec<usize> = input.axes.iter().map(|axis| axis.size).collect();
            let axes = vec!["·"; sizes.len()];
            view.check(&input.name, &axes, &sizes)?;
            given.push(view);
        }
        let fixed: Vec<Vec<T>> =
            self.fixed.iter().map(|fixed| fixed.tensor.numbers().iter().map(|&v| T::from_f64(v)).collect()).collect();
        let places: Vec<LaidPlaces> = self.inputs.iter().map(|input| laid(input).places()).collect();
        let fixed_places: Vec<LaidPlaces> = self.fixed.iter().map(|fixed| fixed.laid.places()).collect();
        let from = |source: &Source| match *source {
            Source::Input(n) => Some((given[n].data, &places[n])),
            Source::Fixed(n) => Some((&fixed[n][..], &fixed_places[n])),
            // Of one without steps every step reads the same.
            Source::Spread(of) => match self.sources[of as usize] {
                Source::Input(n) => Some((given[n].data, &places[n])),
                Source::Fixed(n) => Some((&fixed[n][..], &fixed_places[n])),
                _ => None,
            },
            _ => None,
        };
        let Shape { time, batch } = self.shape;
        let mut values = Vec::new();
        for (value, source) in self.network.inputs.iter().zip(&self.fed) {
            let known = &self.network.values[*value];
            let source = source.as_ref().and_then(from);
            let (data, places) = source.ok_or_else(|| Error::mismatch(&known.name, "an input", "none"))?;
            let (steps, shape) = match known.rows {
                Rows::Steps => (time, vec![time, batch, known.width]),
                Rows::Sequences => (1, vec![batch, known.width]),
            };
            let row = |t: usize, b: usize| (0..known.width).map(move |c| places.at(t, b, c));
            let at = (0..steps).flat_map(|t| (0..batch).map(move |b| (t, b))).flat_map(|(t, b)| row(t, b));
            values.push(Tensor { data: at.map(|at| data[at]).collect(), shape });
        }
        let mut states = Vec::new();
        let mut any = false;
        for Begin { size, columns } in &self.states {
            let one = |b: usize, column: &Column| match *column {
                Column::Number(v) => T::from_f64(v),
                Column::Of(source, at) => match from(&self.sources[source as usize]) {
                    Some((data, places)) => data[places.at(0, b, at as usize)],
                    None => T::default(),
                },
            };
            any |= columns.is_some();
            let data = match columns {
                None => vec![T::default(); batch * size],
                Some(columns) => {
                    let all = (0..batch).flat_map(|b| columns.iter().map(move |column| (b, column)));
                    all.map(|(b, column)| one(b, column)).collect()
                }
            };
            states.push(Tensor { data, shape: vec![batch, *size] });
        }
        let length = |v: &T| {
            let length = v.to_f64();
            let whole = (0.0..=time as f64).contains(&length) && length.fract() == 0.0;
            whole.then_some(length as usize).ok_or_else(|| Error::mismatch("lengths", format!("0..={time}"), length))
        };
        let lengths = self.lengths.map(|n| given[n].data.iter().map(length).collect::<Result<Vec<_>>>()).transpose()?;
        Ok(OnnxFeed {
            values,
            states: any.then_some(states),
            lengths,
            inputs: given.iter().map(|v| v.data.to_vec()).collect(),
        })
    }

    /// The model's outputs of a run's. States after a sequence of length 0 are 0, as in ONNX Runtime; so is everything else of one, where
    /// an [`OnnxSession`] has what the nodes behind give for that.
    ///
    /// # Errors
    /// [`Error::Mismatch`] for the output of another network.
    pub fn outputs<T: Element>(&self, feed: &OnnxFeed<T>, output: &NetworkOutput<T>) -> Result<Vec<OnnxTensor<T>>> {
        let Shape { time, batch } = self.shape;
        let fixed: Vec<Vec<T>> =
            self.fixed.iter().map(|fixed| fixed.tensor.numbers().iter().map(|&v| T::from_f64(v)).collect()).collect();
        let input_places: Vec<LaidPlaces> = self.inputs.iter().map(|input| laid(input).places()).collect();
        let fixed_places: Vec<LaidPlaces> = self.fixed.iter().map(|fixed| fixed.laid.places()).collect();
        let missing = || Error::mismatch("outputs", "those of the model's network", "others");
        let mut made = Vec::new();
        for (name, value) in &self.outputs {
            let laid = match value {
                Value::Laid(laid) => laid,
                Value::Constant(constant) => {
                    let data = constant.numbers().iter().map(|&v| T::from_f64(v)).collect();
                    let tensor = Tensor { data, shape: constant.shape.clone() };
                    made.push(OnnxTensor { name: name.clone(), element: constant.element, tensor });
                    continue;
                }
                Value::Order { .. } => return Err(missing()),
            };
            let (places, shape) = (laid.places(), laid.shape());
            let mut data = vec![T::default(); shape.iter().product()];
            let steps = if places.time == 0 { 1 } else { time };
            // What is the same for all sequences is there where one has most steps.
            let most = feed.lengths.as_ref().and_then(|all| (0..batch).max_by_key(|&b| all[b])).unwrap_or(0);
            let sequences = if places.batch == 0 { most..most + 1 } else { 0..batch };
            for (c, column) in laid.columns.iter().enumerate() {
                for (t, b) in (0..steps).flat_map(|t| sequences.clone().map(move |b| (t, b))) {
                    // Where the model has that step.
                    let step = if laid.reversed { steps - 1 - t } else { t };
                    let at = places.at(step, b, c);
                    let value = match *column {
                        Column::Number(v) => Some(T::from_f64(v)),
                        Column::Of(source, at) => {
                            let at = at as usize;
                            match &self.sources[source as usize] {
                                Source::Input(n) => feed.inputs[*n].get(input_places[*n].at(t, b, at)).copied(),
                                Source::Spread(_) => None,
                                Source::Fixed(n) => fixed[*n].get(fixed_places[*n].at(t, b, at)).copied(),
                                // ONNX Runtime gives 0 where nothing has run; a network leaves a state as it was.
                                Source::State(..) if feed.lengths.as_ref().is_some_and(|all| all[b] == 0) => {
                                    Some(T::default())
                                }
                                Source::State(places, _) => {
                                    let state = output.states.get(places.state);
                                    state.and_then(|s| s.data.get(b * s.shape[1] + places.at(at))).copied()
                                }
                                Source::Layer(_) | Source::Last(_) | Source::Inside(_) => None,
                                Source::Made(_) => {
                                    self.shown.get(&source).and_then(|&n| output.values.get(n)).and_then(|v| {
                                        let width = v.shape.last().copied().unwrap_or(0);
                                        let row = if v.shape.len() == 3 { t * batch + b } else { b };
                                        v.data.get(row * width + at).copied()
                                    })
                                }
                            }
                        }
                    };
                    *data.get_mut(at).ok_or_else(missing)? = value.ok_or_else(missing)?;
                }
            }
            made.push(OnnxTensor { name: name.clone(), element: laid.element, tensor: Tensor { data, shape } });
        }
        Ok(made)
    }
}

fn laid(input: &super::Input) -> Laid {
    Laid {
        element: input.element,
        axes: input.axes.clone(),
        columns: Vec::new(),
        rows: Rows::Steps,
        sorted: false,
        reversed: false,
    }
}

/// What a run of a model's network reads.
#[derive(Clone, Debug, PartialEq)]
pub struct OnnxFeed<T> {
    /// [`NetworkInput::values`]
    pub values: Vec<Tensor<T>>,
    /// [`NetworkInitial::Given`]; `None`: [`NetworkInitial::Empty`].
    pub states: Option<Vec<Tensor<T>>>,
    /// [`NetworkInput::lengths`]
    pub lengths: Option<Vec<usize>>,
    /// The model's inputs, which may be outputs too.
    inputs: Vec<Vec<T>>,
}

impl<T: Element> OnnxSession<T> {
    /// The model.
    pub fn model(&self) -> &OnnxModel {
        &self.model
    }

    /// Runs the model: every input by its name, in any order, with ONNX's axes; whatever the model has them in, numbers are `T` here, and
    /// truth is 1 or 0.
    ///
    /// # Errors
    /// [`Error::Mismatch`] for inputs that are missing, unknown or of other shapes; as [`OnnxNetwork::feed`] and
    /// [`NetworkSession::forward`].
    pub fn run(&mut self, inputs: &[(&str, View<'_, T>)]) -> Result<Vec<OnnxTensor<T>>> {
        let Self { model, sessions, device, options, without_steps } = self;
        let names: Vec<&str> = model.inputs.iter().map(|input| input.name.as_str()).collect();
        if let Some((name, _)) = inputs.iter().find(|(name, _)| !names.contains(name)) {
            return Err(Error::mismatch("input", names.join(", "), *name));
        }
        let mut made: Vec<OnnxTensor<T>> = Vec::new();
        for (stage, session) in model.stages.iter().zip(sessions) {
            let known = made.iter().map(|one| (one.name.as_str(), one.tensor.view()));
            let all: Vec<_> = inputs.iter().copied().chain(known).collect();
            let feed = stage.feed(&all)?;
            let values: Vec<View<'_, T>> = feed.values.iter().map(Tensor::view).collect();
            let states: Option<Vec<View<'_, T>>> = feed.states.as_ref().map(|s| s.iter().map(Tensor::view).collect());
            let initial = states.as_deref().map_or(NetworkInitial::Empty, NetworkInitial::Given);
            let lengths = feed.lengths.as_deref();
            let output = session.forward(&NetworkInput { initial, lengths, ..NetworkInput::new(&values) })?;
            let mut outputs = stage.outputs(&feed, &output)?;
            if let (Some(lengths), Some(other)) = (&feed.lengths, &model.without_steps)
                && lengths.contains(&0)
            {
                if without_steps.is_none() {
                    *without_steps = Some(Box::new(other.session(device, options)?));
                }
                let right = without_steps.as_mut().map_or(Ok(Vec::new()), |session| session.run(inputs))?;
                stage.fill_empty(lengths, &mut outputs, &right);
            }
            made.extend(outputs);
        }
        // An output may be an input as it is.
        let given = |name: &str| {
            let element = model.inputs.iter().find(|input| input.name == name)?.element;
            let (_, view) = inputs.iter().find(|(n, _)| *n == name)?;
            let tensor = Tensor { data: view.data.to_vec(), shape: view.shape.to_vec() };
            Some(OnnxTensor { name: name.into(), element, tensor })
        };
        let output = |(name, constant): &(String, Option<Constant>)| match constant {
            Some(constant) => {
                let data = constant.numbers().iter().map(|&v| T::from_f64(v)).collect();
                let tensor = Tensor { data, shape: constant.shape.clone() };
                Ok(OnnxTensor { name: name.clone(), element: constant.element, tensor })
            }
            None => {
                let one = made.iter().rev().find(|one| one.name == *name).cloned().or_else(|| given(name));
                one.ok_or_else(|| Error::mismatch("output", "one that a stage makes", name))
            }
        };
        model.outputs.iter().map(output).collect()
    }
}
