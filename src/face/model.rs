//! A network that takes batches of any size and length, one call each, with values by their names.

use super::shape::{cut, place, rounded};
use crate::error::{Error, Result};
use crate::exec::{Device, Element};
use crate::model::network::{Network, Rows, ValueId};
use crate::model::stack::Shape;
use crate::plan::Precision;
use crate::plan::network::{NetworkOptions, NetworkPlan};
use crate::session::{NetworkInitial, NetworkInput, NetworkSession};
use crate::tensor::{Tensor, View};
use std::sync::Arc;

/// How a [`Model`] runs, and what it keeps.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelOptions {
    /// Of every plan; [`NetworkOptions::nominal`] and the precision are set by the [`Model`]. Those for training are refused.
    pub plan: NetworkOptions,
    /// The batch that kernels are chosen for, those of all others being the same. Bits do not depend on it. Default: 32 steps of 4
    /// sequences.
    pub nominal: Shape,
    /// Sessions kept at most, at least 1. Default: 16.
    pub sessions: usize,
    /// Bytes of memory that kept sessions take at most together, without the parameters, which they share. A single session may take
    /// more. Default: 256 MiB.
    pub bytes: u64,
}

impl Default for ModelOptions {
    fn default() -> Self {
        let plan = NetworkOptions::default();
        Self { plan, nominal: Shape { time: 32, batch: 4 }, sessions: 16, bytes: 256 << 20 }
    }
}

/// What a [`Model`] gives.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelOutput<T> {
    /// Every output of the network with its name: `[T, B, width]`, or `[B, width]` of a value per sequence; 0 past a sequence's end.
    pub values: Vec<(String, Tensor<T>)>,
    /// The states after every sequence's last step, as [`crate::network::NetworkOutput::states`]: the next call may go on from them.
    pub states: Vec<Tensor<T>>,
}

impl<T> ModelOutput<T> {
    /// The output of that name.
    pub fn get(&self, name: &str) -> Option<&Tensor<T>> {
        self.values.iter().find(|(n, _)| n == name).map(|(_, tensor)| tensor)
    }
}

/// A network with its parameters that takes a batch of any size and any length at every call, for inference.
///
/// A call runs in a session of the batch's shape, T and B rounded up as [`crate::Rnn`] rounds them. Sequences past the caller's have
/// length 0; results are cut to the caller's shape, and are bit for bit those of a session of exactly that shape (but with a
/// [`NetworkOptions::chunk`] of one's own on a GPU, where scans may have more chunks in the rounded shape than in the exact one).
/// Sessions share parameters and kernels. They are kept from call to call, within [`ModelOptions::sessions`] and
/// [`ModelOptions::bytes`]; the one used longest ago goes first.
///
/// ```
/// use std::sync::Arc;
/// use wgpu_rnn::network::{Builder, Pooling};
/// use wgpu_rnn::{Device, Model, RnnConfig, View};
/// # fn main() -> wgpu_rnn::Result<()> {
/// let mut b = Builder::new();
/// let x = b.input("x", 3)?;
/// let y = b.layers("gru", x, &RnnConfig::gru(3, 5))?;
/// let mean = b.pool("mean", y, Pooling::Mean)?;
/// b.output("mean", mean)?;
/// let network = Arc::new(b.finish()?);
/// let mut model = Model::<f32>::new(&Device::cpu(), &network, &network.random(1)?)?;
/// for (time, batch) in [(4, 2), (7, 3), (1, 1)] {
///     let x = vec![0.5; time * batch * 3];
///     let out = model.forward(&[("x", View::new(&x, &[time, batch, 3]))], None)?;
///     assert_eq!(out.values[0].1.shape, [batch, 5]);
/// }
/// # Ok(()) }
/// ```
pub struct Model<T: Element = f32> {
    /// Of the nominal shape. It has the parameters, and stays.
    first: NetworkSession<T>,
    kept: Vec<Kept<T>>,
    options: ModelOptions,
    /// Calls so far.
    calls: u64,
}

struct Kept<T: Element> {
    session: NetworkSession<T>,
    bytes: u64,
    /// The last call that used it.
    used: u64,
}

impl<T: Element> Model<T> {
    /// With default options; `params`: all parameters, one after the other in the network's order.
    ///
    /// # Errors
    /// As [`Model::with_options`].
    #[cfg(not(target_family = "wasm"))]
    pub fn new(device: &Device, network: &Arc<Network>, params: &[T]) -> Result<Self> {
        Self::with_options(device, network, params, &ModelOptions::default())
    }

    /// [`Model::new`] for those who may not wait.
    ///
    /// # Errors
    /// As [`Model::with_options`].
    pub async fn new_async(device: &Device, network: &Arc<Network>, params: &[T]) -> Result<Self> {
        Self::with_options_async(device, network, params, &ModelOptions::default()).await
    }

    /// Makes a session of the nominal shape, which compiles the kernels.
    ///
    /// # Errors
    /// [`Error::Mismatch`] for options of training, no sessions to keep, or a wrong number of parameters; as [`NetworkPlan::new`] and
    /// [`NetworkSession::new`].
    #[cfg(not(target_family = "wasm"))]
    pub fn with_options(device: &Device, network: &Arc<Network>, params: &[T], options: &ModelOptions) -> Result<Self> {
        device.block(Self::with_options_async(device, network, params, options))
    }

    /// [`Model::with_options`] for those who may not wait.
    ///
    /// # Errors
    /// As [`Model::with_options`].
    pub async fn with_options_async(
        device: &Device,
        network: &Arc<Network>,
        params: &[T],
        options: &ModelOptions,
    ) -> Result<Self> {
        if options.plan.train {
            let expected = "those of inference (a NetworkSession trains)";
            return Err(Error::mismatch("options of a Model", expected, "train: true"));
        }
        if options.sessions == 0 {
            return Err(Error::mismatch("sessions of a Model", "at least 1 to keep", 0));
        }
        let precision = Precision::of::<T>();
        let plan = NetworkOptions { precision, nominal: Some(options.nominal), ..options.plan.clone() };
        let first = NetworkPlan::new(network, options.nominal, &device.caps(), &plan)?;
        let first = NetworkSession::new_async(device, first, params).await?;
        Ok(Self { first, kept: Vec::new(), options: options.clone(), calls: 0 })
    }

    /// What it runs.
    pub fn network(&self) -> &Arc<Network> {
        &self.first.plan().network
    }

    /// How many sessions are kept, besides the first, which stays.
    pub fn sessions(&self) -> usize {
        self.kept.len()
    }

    /// Bytes that they take, without the parameters.
    pub fn bytes(&self) -> u64 {
        self.kept.iter().map(|kept| kept.bytes).sum()
    }

    /// Other parameters for all batches to come.
    ///
    /// # Errors
    /// [`Error::Mismatch`] for a wrong number of parameters (nothing has changed then); errors of the device.
    pub fn set_params(&mut self, params: &[T]) -> Result<()> {
        self.first.set_params(params)
    }

    /// Runs a batch from empty states: every input of the network by its name, `[T, B, width]` or `[B, width]`, in any order, and each
    /// sequence's length in 0..=T (`None`: all T). Where T or B is 0, nothing runs and outputs are empty or zeros.
    ///
    /// # Errors
    /// [`Error::Mismatch`] for an input that is missing, unknown or of another shape, or wrong lengths; [`Error::Limit`] for a batch beyond
    /// the device; errors of the device.
    #[cfg(not(target_family = "wasm"))]
    pub fn forward(&mut self, inputs: &[(&str, View<'_, T>)], lengths: Option<&[usize]>) -> Result<ModelOutput<T>> {
        self.first.device().clone().block(self.forward_async(inputs, lengths))
    }

    /// [`Model::forward`] for those who may not wait. Outside of browsers somebody must [poll the device](Device::poll).
    ///
    /// # Errors
    /// As [`Model::forward`].
    pub async fn forward_async(
        &mut self,
        inputs: &[(&str, View<'_, T>)],
        lengths: Option<&[usize]>,
    ) -> Result<ModelOutput<T>> {
        self.run(inputs, lengths, None).await
    }

    /// The same from given states, one `[B, size]` each as [`ModelOutput::states`] has them: a stream in pieces.
    ///
    /// # Errors
    /// As [`Model::forward`], and [`Error::Mismatch`] for states of other shapes.
    #[cfg(not(target_family = "wasm"))]
    pub fn forward_from(
        &mut self,
        inputs: &[(&str, View<'_, T>)],
        lengths: Option<&[usize]>,
        states: &[View<'_, T>],
    ) -> Result<ModelOutput<T>> {
        self.first.device().clone().block(self.forward_from_async(inputs, lengths, states))
    }

    /// [`Model::forward_from`] for those who may not wait. Outside of browsers somebody must [poll the device](Device::poll).
    ///
    /// # Errors
    /// As [`Model::forward_from`].
    pub async fn forward_from_async(
        &mut self,
        inputs: &[(&str, View<'_, T>)],
        lengths: Option<&[usize]>,
        states: &[View<'_, T>],
    ) -> Result<ModelOutput<T>> {
        self.run(inputs, lengths, Some(states)).await
    }

    async fn run(
        &mut self,
        inputs: &[(&str, View<'_, T>)],
        lengths: Option<&[usize]>,
        states: Option<&[View<'_, T>]>,
    ) -> Result<ModelOutput<T>> {
        let network = Arc::clone(self.network());
        let (views, own) = self.ordered(inputs)?;
        lengths.map_or(Ok(()), |lengths| own.validate_lengths(lengths))?;
        let sizes: Vec<usize> = network.nodes.iter().filter_map(|node| node.op.state_size()).collect();
        if let Some(states) = states {
            if states.len() != sizes.len() {
                return Err(Error::mismatch("states", sizes.len(), states.len()));
            }
            for (n, (view, &size)) in states.iter().zip(&sizes).enumerate() {
                view.check(&format!("state {n}"), &["B", "size"], &[own.batch, size])?;
            }
        }
        if own.time == 0 || own.batch == 0 {
            return Ok(self.nothing(own, &sizes, states));
        }
        let n = match self.session_for(rounded(own)).await {
            // What is too large rounded up may fit as it is.
            Err(Error::Limit { .. }) => self.session_for(own).await?,
            n => n?,
        };
        let Self { first, kept, .. } = self;
        let session = n.map_or(first, |n| &mut kept[n].session);
        let shape = session.plan().shape;
        let all = |b: usize| lengths.map_or(own.time, |lengths| lengths[b]);
        let lengths: Vec<usize> = (0..shape.batch).map(|b| if b < own.batch { all(b) } else { 0 }).collect();
        let grown = |view: &View<'_, T>, from: [usize; 2], to: [usize; 2], width: usize| {
            let mut data = Vec::new();
            place(view.data, &mut data, from, to, width);
            data
        };
        let mut data = Vec::new();
        let mut shapes = Vec::new();
        for (&value, view) in network.inputs.iter().zip(&views) {
            let (width, [from, to]) = (network.values[value].width, outer(&network, value, [own, shape]));
            data.push(grown(view, from, to, width));
            shapes.push(dims(&network, value, shape));
        }
        let values: Vec<View<'_, T>> = data.iter().zip(&shapes).map(|(d, s)| View::new(d, s)).collect();
        let of_states = states.unwrap_or_default().iter().zip(&sizes);
        let from: Vec<(Vec<T>, [usize; 2])> = of_states
            .map(|(view, &size)| (grown(view, [1, own.batch], [1, shape.batch], size), [shape.batch, size]))
            .collect();
        let given: Vec<View<'_, T>> = from.iter().map(|(data, shape)| View::new(data, shape)).collect();
        let initial = if states.is_some() { NetworkInitial::Given(&given) } else { NetworkInitial::Empty };
        let input = NetworkInput { lengths: Some(&lengths), initial, ..NetworkInput::new(&values) };
        let out = session.forward_async(&input).await?;
        let named = network.outputs.iter().zip(out.values).map(|((name, part), tensor)| {
            let [to, from] = outer(&network, part.value, [own, shape]);
            let whole = Tensor { data: tensor.data, shape: vec![from[0], from[1], part.width] };
            let mut tensor = cut(whole, to, None);
            tensor.shape = of_width(&network, part.value, own, part.width);
            (name.clone(), tensor)
        });
        let last = out.states.into_iter().zip(&sizes).map(|(tensor, &size)| {
            let whole = Tensor { data: tensor.data, shape: vec![1, shape.batch, size] };
            cut(whole, [1, own.batch], Some(0))
        });
        Ok(ModelOutput { values: named.collect(), states: last.collect() })
    }

    /// The inputs in the network's order, and the shape of the batch.
    fn ordered<'v>(&self, inputs: &[(&str, View<'v, T>)]) -> Result<(Vec<View<'v, T>>, Shape)> {
        let network = self.network();
        let names: Vec<&str> = network.inputs.iter().map(|&v| network.values[v].name.as_str()).collect();
        if let Some((name, _)) = inputs.iter().find(|(name, _)| !names.contains(name)) {
            return Err(Error::mismatch("inputs of the network", names.join(", "), *name));
        }
        let find = |name: &&str| {
            let mut of = inputs.iter().filter(|(n, _)| n == name);
            match (of.next(), of.next()) {
                (Some((_, view)), None) => Ok(*view),
                (None, _) => Err(Error::mismatch(format!("input {name}"), "a value", "none")),
                _ => Err(Error::mismatch(format!("input {name}"), "one value", "several")),
            }
        };
        let views = names.iter().map(find).collect::<Result<Vec<_>>>()?;
        let mut shape = None;
        for (&value, view) in network.inputs.iter().zip(&views) {
            if network.values[value].rows == Rows::Steps && view.shape.len() == 3 {
                shape.get_or_insert(Shape { time: view.shape[0], batch: view.shape[1] });
            }
        }
        // Without a value per step there is one step.
        let batch = views.first().and_then(|view| view.shape.first()).copied().unwrap_or(0);
        let shape = shape.unwrap_or(Shape { time: 1, batch });
        for (&value, view) in network.inputs.iter().zip(&views) {
            let names: &[&str] = match network.values[value].rows {
                Rows::Steps => &["T", "B", "width"],
                Rows::Sequences => &["B", "width"],
            };
            view.check(&network.values[value].name, names, &dims(network, value, shape))?;
        }
        Ok((views, shape))
    }

    /// What a batch without steps or sequences gives.
    fn nothing(&self, own: Shape, sizes: &[usize], states: Option<&[View<'_, T>]>) -> ModelOutput<T> {
        let zeros = |shape: Vec<usize>| Tensor { data: vec![T::default(); shape.iter().product()], shape };
        let network = self.network();
        let outputs = network.outputs.iter();
        let values = outputs.map(|(name, part)| (name.clone(), zeros(of_width(network, part.value, own, part.width))));
        let kept = |n: usize, size: usize| match states {
            Some(states) => Tensor { data: states[n].data.to_vec(), shape: vec![own.batch, size] },
            None => zeros(vec![own.batch, size]),
        };
        ModelOutput { values: values.collect(), states: sizes.iter().enumerate().map(|(n, &s)| kept(n, s)).collect() }
    }

    /// Which session runs a shape (`None`: the first); made where there is none.
    async fn session_for(&mut self, shape: Shape) -> Result<Option<usize>> {
        self.calls += 1;
        let plan = self.first.plan();
        if shape == plan.shape {
            return Ok(None);
        }
        if let Some(n) = self.kept.iter().position(|kept| kept.session.plan().shape == shape) {
            self.kept[n].used = self.calls;
            return Ok(Some(n));
        }
        let plan = NetworkPlan::new(&plan.network, shape, &plan.caps, &plan.options)?;
        let bytes = plan.session_bytes();
        while !self.kept.is_empty()
            && (self.kept.len() >= self.options.sessions || self.bytes().saturating_add(bytes) > self.options.bytes)
        {
            let oldest = self.kept.iter().enumerate().min_by_key(|(_, kept)| kept.used);
            self.kept.remove(oldest.map_or(0, |(n, _)| n));
        }
        let session = self.first.sibling_async(plan).await?;
        self.kept.push(Kept { session, bytes, used: self.calls });
        Ok(Some(self.kept.len() - 1))
    }
}

/// Rows of a value as two dimensions, in each of two shapes.
fn outer(network: &Network, value: ValueId, shapes: [Shape; 2]) -> [[usize; 2]; 2] {
    shapes.map(|shape| match network.values[value].rows {
        Rows::Steps => [shape.time, shape.batch],
        Rows::Sequences => [1, shape.batch],
    })
}

/// Dimensions of a value.
fn dims(network: &Network, value: ValueId, shape: Shape) -> Vec<usize> {
    of_width(network, value, shape, network.values[value].width)
}

/// Those of so many columns of it.
fn of_width(network: &Network, value: ValueId, shape: Shape, width: usize) -> Vec<usize> {
    match network.values[value].rows {
        Rows::Steps => vec![shape.time, shape.batch, width],
        Rows::Sequences => vec![shape.batch, width],
    }
}
