//! A run of a layer that can be gone back through, and its batch.

use crate::array::{Float, Given, give, read_some};
use crate::error::{Result, order};
use crate::layer::Shared;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use std::sync::{Arc, Mutex, PoisonError};
use wgpu_rnn::{
    Error, Gradients, Initial, Input, Layout, Output, RnnConfig, Session, Shape, Tensor, Upstream, View, Weights,
};

/// A batch as its caller gave it: T, B, and whether it came without a dimension B.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Batch {
    pub shape: Shape,
    pub unbatched: bool,
}

impl Batch {
    /// Of x `[T, B, I]`, `[B, T, I]` with the layout, or `[T, I]`.
    pub fn of<T>(config: &RnnConfig, x: View<'_, T>) -> Result<Self> {
        let time_first = config.layout == Layout::TimeMajor;
        let batch = match *x.shape {
            [time, _] => Self { shape: Shape { time, batch: 1 }, unbatched: true },
            [time, batch, _] if time_first => Self { shape: Shape { time, batch }, unbatched: false },
            [batch, time, _] => Self { shape: Shape { time, batch }, unbatched: false },
            _ => {
                let outer = if time_first { "T, B" } else { "B, T" };
                return Err(Error::mismatch("x", format!("[{outer}, I] or [T, I]"), format!("{:?}", x.shape)).into());
            }
        };
        let names: &[&str] = match (batch.unbatched, time_first) {
            (true, _) => &["T", "I"],
            (false, true) => &["T", "B", "I"],
            (false, false) => &["B", "T", "I"],
        };
        x.check("x", names, &batch.sequence(config, config.input_size))?;
        Ok(batch)
    }

    /// The shape of x or y.
    fn sequence(&self, config: &RnnConfig, width: usize) -> Vec<usize> {
        let Shape { time, batch } = self.shape;
        match (self.unbatched, config.layout) {
            (true, _) => vec![time, width],
            (false, Layout::TimeMajor) => vec![time, batch, width],
            (false, Layout::BatchFirst) => vec![batch, time, width],
        }
    }

    /// The shape of h or c.
    fn state(&self, config: &RnnConfig, width: usize) -> Vec<usize> {
        let stacked = config.num_layers * config.directions();
        if self.unbatched { vec![stacked, width] } else { vec![stacked, self.shape.batch, width] }
    }

    fn check_state<T>(&self, config: &RnnConfig, what: &str, view: Option<View<'_, T>>, width: usize) -> Result<()> {
        let names: &[&str] = if self.unbatched { &["L·D", "H"] } else { &["L·D", "B", "H"] };
        Ok(view.map_or(Ok(()), |view| view.check(what, names, &self.state(config, width)))?)
    }

    /// The shape it runs in: T rounded up, so that few sessions serve batches of any length. Steps past T cost memory and no arithmetic.
    pub fn rounded(&self) -> Shape {
        let Shape { time, batch } = self.shape;
        let time = match time {
            0..=64 => time.next_power_of_two(),
            _ => time.checked_next_multiple_of(1 << (time.ilog2() - 2)).unwrap_or(time),
        };
        Shape { time, batch }
    }

    /// Where nothing runs.
    pub fn is_empty(&self) -> bool {
        self.shape.time == 0 || self.shape.batch == 0
    }
}

/// The two outer dimensions of x and y.
fn outer(layout: Layout, Shape { time, batch }: Shape) -> [usize; 2] {
    if layout == Layout::TimeMajor { [time, batch] } else { [batch, time] }
}

/// `[from.0, from.1, width]` at the front of zeros `[to.0, to.1, width]`; or the front of it, where `to` is smaller.
fn fitted<T: Copy + Default>(data: &[T], from: [usize; 2], to: [usize; 2], width: usize) -> Vec<T> {
    if from[1] == to[1] {
        let mut all = data[..data.len().min(to[0] * to[1] * width)].to_vec();
        all.resize(to[0] * to[1] * width, T::default());
        return all;
    }
    let mut all = vec![T::default(); to[0] * to[1] * width];
    let rows = all.chunks_exact_mut((to[1] * width).max(1)).zip(data.chunks_exact((from[1] * width).max(1)));
    for (row, of) in rows {
        let n = row.len().min(of.len());
        row[..n].copy_from_slice(&of[..n]);
    }
    all
}

/// What a run reads.
pub struct Read<'a, T> {
    pub x: View<'a, T>,
    pub h0: Option<View<'a, T>>,
    pub c0: Option<View<'a, T>>,
    pub lengths: Option<&'a [usize]>,
    /// `[T, B]` in x's layout.
    pub resets: Option<&'a [bool]>,
}

impl<'a, T: Float> Read<'a, T> {
    /// The state before the first step.
    pub fn initial(&self) -> Initial<'a, T> {
        match (self.h0, self.c0) {
            (None, None) => Initial::Zero,
            (h0, c0) => Initial::Given { h0, c0 },
        }
    }

    /// Checks all of it against a batch.
    pub fn check(&self, config: &RnnConfig, batch: &Batch) -> Result<()> {
        batch.check_state(config, "h0", self.h0, config.state_size())?;
        if let (false, Some(c0)) = (config.cell.has_cell_state(), self.c0) {
            let expected = format!("none ({} has no cell state)", config.cell.name);
            return Err(Error::mismatch("c0", expected, format!("{:?}", c0.shape)).into());
        }
        batch.check_state(config, "c0", self.c0, config.cell_size())?;
        let Shape { time, batch } = batch.shape;
        if let Some(resets) = self.resets.filter(|resets| resets.len() != time * batch) {
            return Err(Error::mismatch("resets", format!("{time} · {batch} flags"), resets.len()).into());
        }
        match self.lengths {
            Some(lengths) => Ok(Shape { time, batch }.validate_lengths(lengths)?),
            None => Ok(()),
        }
    }

    /// Runs it in a session of [`Batch::rounded`].
    pub fn run(&self, session: &mut Session<T>, batch: &Batch) -> Result<Output<T>> {
        let (config, shape) = (session.plan().config.clone(), session.plan().shape);
        let (from, to) = (outer(config.layout, batch.shape), outer(config.layout, shape));
        let whole = from == to;
        let x = if whole { Vec::new() } else { fitted(self.x.data, from, to, config.input_size) };
        let x_shape = [to[0], to[1], config.input_size];
        let x = View::new(if whole { self.x.data } else { &x }, &x_shape);
        let all = vec![batch.shape.time; batch.shape.batch];
        let lengths = self.lengths.or((!whole).then_some(&all[..]));
        let resets = self.resets.filter(|_| !whole).map(|resets| fitted(resets, from, to, 1));
        let of_states = Batch { unbatched: false, ..*batch };
        let h = of_states.state(&config, config.state_size());
        let c = of_states.state(&config, config.cell_size());
        let initial = match (self.h0, self.c0) {
            (None, None) => Initial::Zero,
            (h0, c0) => Initial::Given { h0: h0.map(|v| View::new(v.data, &h)), c0: c0.map(|v| View::new(v.data, &c)) },
        };
        let out =
            session.forward(&Input { lengths, initial, resets: resets.as_deref().or(self.resets), ..Input::new(x) })?;
        let state = |t: Tensor<T>, width: usize| Tensor { data: t.data, shape: batch.state(&config, width) };
        Ok(Output {
            y: cut(out.y, &config, batch, shape),
            hn: state(out.hn, config.state_size()),
            cn: out.cn.map(|cn| state(cn, config.cell_size())),
            predictions: None,
        })
    }

    /// What a batch without steps or sequences gives: its states are where they were.
    pub fn nothing(&self, config: &RnnConfig, batch: &Batch) -> Output<T> {
        let state = |view: Option<View<'_, T>>, width: usize| {
            let shape = batch.state(config, width);
            let zeros = || vec![T::default(); shape.iter().product()];
            Tensor { data: view.map_or_else(zeros, |view| view.data.to_vec()), shape }
        };
        Output {
            y: Tensor { data: Vec::new(), shape: batch.sequence(config, config.output_size()) },
            hn: state(self.h0, config.state_size()),
            cn: config.cell.has_cell_state().then(|| state(self.c0, config.cell_size())),
            predictions: None,
        }
    }
}

/// The batch's own part of y or of the gradient of x.
fn cut<T: Float>(tensor: Tensor<T>, config: &RnnConfig, batch: &Batch, shape: Shape) -> Tensor<T> {
    let width = tensor.shape.last().copied().unwrap_or(0);
    let (from, to) = (outer(config.layout, shape), outer(config.layout, batch.shape));
    let data = if from == to { tensor.data } else { fitted(&tensor.data, from, to, width) };
    Tensor { data, shape: batch.sequence(config, width) }
}

/// What a backward pass starts from.
pub struct Up<'a, T> {
    pub dy: Option<View<'a, T>>,
    pub dhn: Option<View<'a, T>>,
    pub dcn: Option<View<'a, T>>,
}

/// A run that can be gone back through, once.
pub struct Run<T: Float> {
    shared: Arc<Shared<T>>,
    batch: Batch,
    /// `None` where there was nothing to run.
    session: Option<Session<T>>,
    /// Which weights it ran with.
    version: u64,
}

impl<T: Float> Run<T> {
    pub fn new(shared: Arc<Shared<T>>, batch: Batch, session: Option<Session<T>>, version: u64) -> Self {
        Self { shared, batch, session, version }
    }

    /// Whether the layer has the weights that it ran with.
    fn is_current(&self) -> bool {
        self.shared.version() == self.version
    }

    fn backward(&mut self, up: &Up<'_, T>) -> Result<Gradients<T>> {
        let (config, batch) = (&self.shared.config, self.batch);
        if let Some(dy) = up.dy {
            dy.check(
                "dy",
                &[if batch.unbatched { "T" } else { "T, B" }, "D·H"],
                &batch.sequence(config, config.output_size()),
            )?;
        }
        batch.check_state(config, "dhn", up.dhn, config.state_size())?;
        if let (false, Some(dcn)) = (config.cell.has_cell_state(), up.dcn) {
            let expected = format!("none ({} has no cell state)", config.cell.name);
            return Err(Error::mismatch("dcn", expected, format!("{:?}", dcn.shape)).into());
        }
        batch.check_state(config, "dcn", up.dcn, config.cell_size())?;
        let Some(session) = &mut self.session else { return Ok(self.nothing(up)) };
        let shape = session.plan().shape;
        let (from, to) = (outer(config.layout, batch.shape), outer(config.layout, shape));
        let grown = up.dy.filter(|_| from != to).map(|dy| fitted(dy.data, from, to, config.output_size()));
        let y_shape = [to[0], to[1], config.output_size()];
        let of_states = Batch { unbatched: false, ..batch };
        let h = of_states.state(config, config.state_size());
        let c = of_states.state(config, config.cell_size());
        let g = session.backward(&Upstream {
            y: up.dy.map(|dy| View::new(grown.as_deref().unwrap_or(dy.data), &y_shape)),
            hn: up.dhn.map(|dhn| View::new(dhn.data, &h)),
            cn: up.dcn.map(|dcn| View::new(dcn.data, &c)),
        })?;
        let state = |t: Tensor<T>, width: usize| Tensor { data: t.data, shape: batch.state(config, width) };
        Ok(Gradients {
            x: cut(g.x, config, &batch, shape),
            h0: state(g.h0, config.state_size()),
            c0: g.c0.map(|c0| state(c0, config.cell_size())),
            weights: g.weights,
        })
    }

    /// States went through as they were.
    fn nothing(&self, up: &Up<'_, T>) -> Gradients<T> {
        let (config, batch) = (&self.shared.config, &self.batch);
        let read = Read { x: View::new(&[], &[0]), h0: up.dhn, c0: up.dcn, lengths: None, resets: None };
        let out = read.nothing(config, batch);
        let weights = Weights::from_named(config, |name| {
            let all = wgpu_rnn::weights::parameters(config);
            let of = all.into_iter().find(|p| p.name == name).map(|p| p.shape);
            Ok(of.map(|shape| (shape.clone(), vec![T::default(); shape.iter().product()])))
        });
        Gradients {
            x: Tensor { data: Vec::new(), shape: batch.sequence(config, config.input_size) },
            h0: out.hn,
            c0: out.cn,
            weights: weights.unwrap_or_default(),
        }
    }
}

impl<T: Float> Drop for Run<T> {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            self.shared.give_back(session);
        }
    }
}

/// What [`Tape::backward`] wants.
pub const CALL: &str = "a call of the layer before it, gone back through once";

/// A run in either precision.
enum Of {
    F32(Run<f32>),
    F64(Run<f64>),
}

/// What a call in training keeps: [`Tape::backward`] goes back through it, once. Its memory is the layer's again when it is gone.
#[pyclass(module = "wgpu_rnn._core", frozen)]
pub struct Tape(Mutex<Option<Of>>);

impl From<Run<f32>> for Tape {
    fn from(run: Run<f32>) -> Self {
        Self(Mutex::new(Some(Of::F32(run))))
    }
}

impl From<Run<f64>> for Tape {
    fn from(run: Run<f64>) -> Self {
        Self(Mutex::new(Some(Of::F64(run))))
    }
}

#[pymethods]
impl Tape {
    /// Whether it can be gone back through: nobody has yet, and the parameters are those that it ran with.
    fn is_current(&self, py: Python<'_>) -> bool {
        py.detach(|| match &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(Of::F32(run)) => run.is_current(),
            Some(Of::F64(run)) => run.is_current(),
            None => false,
        })
    }

    /// Gradients of x, h0, c0 (`None` without a cell state), and of every parameter by its name.
    #[pyo3(signature = (dy=None, dhn=None, dcn=None))]
    fn backward<'py>(
        &self,
        py: Python<'py>,
        dy: Option<&Bound<'py, PyAny>>,
        dhn: Option<&Bound<'py, PyAny>>,
        dcn: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyTuple>> {
        let run = py.detach(|| self.0.lock().unwrap_or_else(PoisonError::into_inner).take());
        let gradients = match run.ok_or_else(|| order("backward", CALL, "none since the last backward"))? {
            Of::F32(run) => back(py, run, [dy, dhn, dcn]),
            Of::F64(run) => back(py, run, [dy, dhn, dcn]),
        };
        Ok(gradients?)
    }
}

fn back<'py, T: Float>(
    py: Python<'py>,
    mut run: Run<T>,
    [dy, dhn, dcn]: [Option<&Bound<'py, PyAny>>; 3],
) -> Result<Bound<'py, PyTuple>> {
    crate::device::check()?;
    if !py.detach(|| run.is_current()) {
        return Err(order("backward", CALL, "none since the parameters changed"));
    }
    let (dy, dhn, dcn) = (read_some::<T>("dy", dy)?, read_some("dhn", dhn)?, read_some("dcn", dcn)?);
    let up =
        Up { dy: dy.as_ref().map(Given::view), dhn: dhn.as_ref().map(Given::view), dcn: dcn.as_ref().map(Given::view) };
    let shared = Arc::clone(&run.shared);
    let Gradients { x, h0, c0, weights } = py.detach(move || {
        let gradients = run.backward(&up);
        drop(run);
        gradients
    })?;
    let params = PyDict::new(py);
    for (parameter, values) in named(&shared.config, weights) {
        params.set_item(parameter, give(py, values)?)?;
    }
    let c0 = c0.map(|c0| give(py, c0)).transpose()?;
    Ok((give(py, x)?, give(py, h0)?, c0, params).into_pyobject(py)?)
}

/// Every parameter with its name, in PyTorch's order.
pub fn named<T: Float>(config: &RnnConfig, mut weights: Weights<T>) -> impl Iterator<Item = (String, Tensor<T>)> {
    wgpu_rnn::weights::parameters(config).into_iter().map(move |p| {
        let data = std::mem::take(weights.get_mut(p.place));
        (p.name, Tensor { data, shape: p.shape })
    })
}
