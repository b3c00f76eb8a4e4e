//! Networks built operation by operation, trained on the device and run.

use crate::array::{Given, give, read, read_lengths};
use crate::config::{Wish, named};
use crate::device;
use crate::error::{Fault, Result};
use numpy::PyArrayDyn;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::sync::{Arc, Mutex, PoisonError};
use wgpu_rnn::expr::{self, Expr};
use wgpu_rnn::network::{
    self, Builder, NetworkInput, NetworkOptions, NetworkPlan, NetworkSession, Norm, Part, Pooling,
};
use wgpu_rnn::{Error, Loss, Memory, Model, Optimiser, Shape, Tensor, View};

const POOLINGS: [(&str, Pooling); 4] =
    [("last", Pooling::Last), ("first", Pooling::First), ("mean", Pooling::Mean), ("max", Pooling::Max)];
const LOSSES: [(&str, Loss); 2] = [("cross_entropy", Loss::CrossEntropy), ("mean_squared", Loss::MeanSquared)];
type Function = fn(Expr) -> Expr;
const FUNCTIONS: [(&str, Function); 5] = [
    ("relu", expr::relu),
    ("tanh", expr::tanh),
    ("sigmoid", expr::sigmoid),
    ("silu", expr::silu),
    ("softplus", expr::softplus),
];

/// A part of a value: which, its first column, and how many.
type Value = (usize, usize, usize);

fn part((value, first, width): Value) -> Part {
    Part { value, first, width }
}

fn value(Part { value, first, width }: Part) -> Value {
    (value, first, width)
}

/// What a network is built with.
#[pyclass(module = "wgpu_rnn._core", frozen)]
pub struct NetworkBuilder(Mutex<Option<Builder>>);

impl NetworkBuilder {
    fn add<R>(&self, add: impl FnOnce(&mut Builder) -> Result<R>) -> PyResult<R> {
        let mut builder = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let finished = || crate::error::order("network", "operations before it is finished", "one after");
        Ok(add(builder.as_mut().ok_or_else(finished)?)?)
    }
}

#[pymethods]
impl NetworkBuilder {
    #[new]
    fn new() -> Self {
        Self(Mutex::new(Some(Builder::new())))
    }

    fn input(&self, name: &str, width: usize) -> PyResult<Value> {
        self.add(|b| Ok(value(b.input(name, width)?)))
    }

    fn sequence_input(&self, name: &str, width: usize) -> PyResult<Value> {
        self.add(|b| Ok(value(b.sequence_input(name, width)?)))
    }

    fn embedding(&self, name: &str, ids: Value, vocabulary: usize, width: usize) -> PyResult<Value> {
        self.add(|b| Ok(value(b.embedding(name, part(ids), vocabulary, width)?)))
    }

    fn linear(&self, name: &str, x: Value, size: usize, bias: bool) -> PyResult<Value> {
        self.add(|b| {
            let weight = b.param(&format!("{name}.weight"), &[size, x.2])?;
            let bias = bias.then(|| b.param(&format!("{name}.bias"), &[size])).transpose()?;
            Ok(value(b.linear(name, part(x), weight, bias)?))
        })
    }

    fn layers(&self, name: &str, x: Value, wish: Wish) -> PyResult<Value> {
        self.add(|b| Ok(value(b.layers(name, part(x), &wish.config()?)?)))
    }

    fn last_of(&self, name: &str, y: Value, wish: Wish) -> PyResult<Value> {
        self.add(|b| Ok(value(b.last_of(name, part(y), &wish.config()?)?)))
    }

    fn pool(&self, name: &str, x: Value, kind: &str) -> PyResult<Value> {
        self.add(|b| Ok(value(b.pool(name, part(x), named("pooling", &POOLINGS, kind)?)?)))
    }

    fn norm(&self, name: &str, x: Value) -> PyResult<Value> {
        self.add(|b| {
            let gain = b.param(&format!("{name}.weight"), &[x.2])?;
            let bias = b.param(&format!("{name}.bias"), &[x.2])?;
            Ok(value(b.norm(name, part(x), (Norm::Layer, 1, 1e-5), Some(gain), Some(bias))?))
        })
    }

    fn map(&self, name: &str, x: Value, function: &str) -> PyResult<Value> {
        self.add(|b| {
            let function = named("function", &FUNCTIONS, function)?;
            Ok(value(b.map(name, function(Expr::input(0)), &[part(x).into()])?))
        })
    }

    fn concat(&self, name: &str, parts: Vec<Value>) -> PyResult<Value> {
        self.add(|b| Ok(value(b.concat(name, &parts.into_iter().map(part).collect::<Vec<_>>())?)))
    }

    #[pyo3(signature = (name, x, targets, weights, kind))]
    fn loss(&self, name: &str, x: Value, targets: Value, weights: Option<Value>, kind: &str) -> PyResult<()> {
        self.add(|b| {
            let loss = named("loss", &LOSSES, kind)?;
            b.loss(name, part(x), part(targets), weights.map(part), loss)?;
            Ok(())
        })
    }

    fn output(&self, name: &str, x: Value) -> PyResult<()> {
        self.add(|b| Ok(b.output(name, part(x))?))
    }

    fn finish(&self) -> PyResult<Network> {
        let builder = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let finished = || crate::error::order("network", "it to be finished once", "twice");
        let network = builder.ok_or_else(finished)?.finish().map_err(Fault::from)?;
        Ok(Network(Arc::new(network)))
    }
}

/// A network.
#[pyclass(module = "wgpu_rnn._core", frozen)]
pub struct Network(Arc<network::Network>);

#[pymethods]
impl Network {
    /// Names and shapes of its parameters, in their order.
    fn parameters(&self) -> Vec<(String, Vec<usize>)> {
        self.0.params.iter().map(|p| (p.name.clone(), p.shape.clone())).collect()
    }

    /// All parameters, one after the other, as PyTorch's layers draw theirs.
    fn random<'py>(&self, py: Python<'py>, seed: u64) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
        let data = py.detach(|| self.0.random::<f32>(seed)).map_err(Fault::from)?;
        let shape = vec![data.len()];
        Ok(give(py, Tensor { data, shape })?)
    }
}

/// A network that learns, over batches of at most T steps of B sequences.
#[pyclass(module = "wgpu_rnn._core", frozen)]
pub struct Trainer {
    session: Mutex<NetworkSession<f32>>,
    /// Of the inputs, in their order.
    names: Vec<String>,
}

#[pymethods]
impl Trainer {
    /// `optimiser`: `sgd`, `adam` or `adamw`, and its momentum or weight decay.
    #[new]
    #[expect(clippy::too_many_arguments, reason = "Python's")]
    fn new(
        py: Python<'_>,
        network: &Bound<'_, Network>,
        device: String,
        shape: (usize, usize),
        optimiser: (String, f64),
        clip_norm: Option<f32>,
        memory: &str,
        params: &Bound<'_, PyAny>,
        seed: u64,
    ) -> PyResult<Self> {
        let (network, params) = (Arc::clone(&network.get().0), read::<f32>("parameters", params)?);
        let params = params.view();
        let names = network.inputs.iter().map(|&v| network.values[v].name.clone()).collect();
        let memory = crate::config::memory(memory)?;
        let made = py.detach(|| Self::made(&network, &device, shape, optimiser, clip_norm, memory, params.data));
        let mut session = made.map_err(|e: Fault| PyErr::from(e))?;
        session.set_seed(seed);
        Ok(Self { session: Mutex::new(session), names })
    }

    /// A step: there, back, and an update. On a GPU it returns once the work is submitted.
    #[pyo3(signature = (inputs, lengths, learning_rate))]
    fn step(
        &self,
        py: Python<'_>,
        inputs: &Bound<'_, PyDict>,
        lengths: Option<&Bound<'_, PyAny>>,
        learning_rate: f64,
    ) -> PyResult<()> {
        self.with(py, inputs, lengths, |session, input| {
            session.set_dropout(true);
            Ok(session.train_step(&input, learning_rate)?)
        })
    }

    /// The loss of a batch, as in evaluation.
    #[pyo3(signature = (inputs, lengths))]
    fn evaluate(
        &self,
        py: Python<'_>,
        inputs: &Bound<'_, PyDict>,
        lengths: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<f32> {
        self.with(py, inputs, lengths, |session, input| {
            session.set_dropout(false);
            session.write(&input)?;
            session.run()?;
            Ok(session.loss()?)
        })
    }

    /// The loss of the last step, before its update.
    fn loss(&self, py: Python<'_>) -> PyResult<f32> {
        let loss = py.detach(|| self.session.lock().unwrap_or_else(PoisonError::into_inner).loss());
        Ok(loss.map_err(Fault::from)?)
    }

    /// All parameters, one after the other.
    fn params<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
        let data = py.detach(|| self.session.lock().unwrap_or_else(PoisonError::into_inner).params());
        let data = data.map_err(Fault::from)?;
        let shape = vec![data.len()];
        Ok(give(py, Tensor { data, shape })?)
    }
}

impl Trainer {
    fn made(
        network: &Arc<network::Network>,
        device: &str,
        (time, batch): (usize, usize),
        (optimiser, number): (String, f64),
        clip_norm: Option<f32>,
        memory: Memory,
        params: &[f32],
    ) -> Result<NetworkSession<f32>> {
        let device = device::open(device)?;
        let optimiser = match optimiser.as_str() {
            "sgd" => Optimiser::sgd(number),
            "adam" => Optimiser::adam(),
            "adamw" => Optimiser::adamw(number),
            other => return Err(Error::mismatch("optimiser", "sgd, adam, adamw", other).into()),
        };
        let options =
            NetworkOptions { train: true, optimiser: Some(optimiser), clip_norm, memory, ..NetworkOptions::default() };
        let plan = NetworkPlan::new(network, Shape { time, batch }, &device.caps(), &options)?;
        Ok(NetworkSession::new(&device, plan, params)?)
    }

    /// Calls `work` with a batch, without the interpreter's lock.
    fn with<R: Send>(
        &self,
        py: Python<'_>,
        inputs: &Bound<'_, PyDict>,
        lengths: Option<&Bound<'_, PyAny>>,
        work: impl FnOnce(&mut NetworkSession<f32>, NetworkInput<'_, f32>) -> Result<R> + Send,
    ) -> PyResult<R> {
        device::check()?;
        let lengths = read_lengths(lengths)?;
        let mut arrays = Vec::new();
        for name in &self.names {
            let none = || Error::mismatch(format!("input {name}"), "a value", "none");
            let array = inputs.get_item(name)?.ok_or_else(none).map_err(Fault::from)?;
            arrays.push(read::<f32>(name, &array)?);
        }
        let views: Vec<View<'_, f32>> = arrays.iter().map(Given::view).collect();
        let result = py.detach(|| {
            let input = NetworkInput { lengths: lengths.as_deref(), ..NetworkInput::new(&views) };
            work(&mut self.session.lock().unwrap_or_else(PoisonError::into_inner), input)
        });
        Ok(result?)
    }
}

/// A network that runs.
#[pyclass(module = "wgpu_rnn._core", frozen)]
pub struct Predictor(Mutex<Model<f32>>);

#[pymethods]
impl Predictor {
    #[new]
    fn new(py: Python<'_>, network: &Bound<'_, Network>, device: String, params: &Bound<'_, PyAny>) -> PyResult<Self> {
        let (network, params) = (Arc::clone(&network.get().0), read::<f32>("parameters", params)?);
        let params = params.view();
        let made = py.detach(|| Ok(Model::new(&device::open(&device)?, &network, params.data)?));
        Ok(Self(Mutex::new(made.map_err(|e: Fault| PyErr::from(e))?)))
    }

    /// Every output by its name.
    #[pyo3(signature = (inputs, lengths))]
    fn run<'py>(
        &self,
        py: Python<'py>,
        inputs: &Bound<'py, PyDict>,
        lengths: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyDict>> {
        device::check()?;
        let lengths = read_lengths(lengths)?;
        let mut named = Vec::new();
        for (name, value) in inputs.iter() {
            let name: String = name.extract()?;
            let array = read::<f32>(&name, &value)?;
            named.push((name, array));
        }
        let views: Vec<(&str, View<'_, f32>)> =
            named.iter().map(|(name, array)| (name.as_str(), array.view())).collect();
        let out =
            py.detach(|| self.0.lock().unwrap_or_else(PoisonError::into_inner).forward(&views, lengths.as_deref()));
        let all = PyDict::new(py);
        for (name, tensor) in out.map_err(Fault::from)?.values {
            all.set_item(name, give(py, tensor)?)?;
        }
        Ok(all)
    }
}
