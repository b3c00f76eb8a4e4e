//! A stack of recurrent layers that takes batches of any size and length, for inference and for training.

use crate::array::{Float, Given, give, read, read_flags, read_lengths, read_some};
use crate::config::Wish;
use crate::device;
use crate::error::{Result, order};
use crate::sessions::Sessions;
use crate::tape::{Batch, CALL, Read, Run, Tape, named};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use wgpu_rnn::{Device, Error, Options, Output, Rnn, RnnConfig, RnnOptions, Session, Tensor, View, Weights, weights};

/// What all calls of a layer share.
pub struct Shared<T: Float> {
    pub device: Device,
    pub config: RnnConfig,
    options: Options,
    state: Mutex<State<T>>,
    /// Training sessions that came back while a call had the lock.
    returned: Mutex<Vec<Session<T>>>,
}

/// What calls change.
struct State<T: Float> {
    weights: Weights<T>,
    /// How many there have been.
    version: u64,
    /// For inference, and which weights it has.
    rnn: Option<(Rnn<T>, u64)>,
    /// For training, and for inference with resets.
    training: Sessions<T>,
    inference: Sessions<T>,
    /// The last batch of inference: what a backward pass would start from.
    last: Option<Kept<T>>,
}

/// A copy of a batch.
struct Kept<T> {
    /// Which weights it ran with.
    version: u64,
    x: Option<Tensor<T>>,
    h0: Option<Tensor<T>>,
    c0: Option<Tensor<T>>,
    lengths: Option<Vec<usize>>,
    resets: Option<Vec<bool>>,
}

impl<T: Float> Kept<T> {
    /// Of a batch, in the memory of the one before it.
    fn of(before: Option<Self>, read: &Read<'_, T>, version: u64) -> Self {
        let nothing = || Self { version, x: None, h0: None, c0: None, lengths: None, resets: None };
        let before = before.unwrap_or_else(nothing);
        let copy = |to: Option<Tensor<T>>, from: Option<View<'_, T>>| {
            from.map(|from| {
                let mut to = to.unwrap_or(Tensor { data: Vec::new(), shape: Vec::new() });
                to.data.clear();
                to.shape.clear();
                to.data.extend_from_slice(from.data);
                to.shape.extend_from_slice(from.shape);
                to
            })
        };
        Self {
            version,
            x: copy(before.x, Some(read.x)),
            h0: copy(before.h0, read.h0),
            c0: copy(before.c0, read.c0),
            lengths: read.lengths.map(<[usize]>::to_vec),
            resets: read.resets.map(<[bool]>::to_vec),
        }
    }
}

impl<T: Float> Shared<T> {
    fn new(device: Device, config: RnnConfig, options: Options, seed: u64) -> Result<Self> {
        let weights = Weights::<T>::random(&config, seed)?;
        let options = Options { precision: T::PRECISION, ..options };
        let state = State {
            weights,
            version: 0,
            rnn: None,
            training: Sessions::new(Options { train: true, ..options.clone() }),
            inference: Sessions::new(options.clone()),
            last: None,
        };
        Ok(Self { device, config, options, state: Mutex::new(state), returned: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many weights there have been.
    pub fn version(&self) -> u64 {
        self.lock().version
    }

    /// A training session that nobody uses any more. It waits for no call: who drops a tape may hold the interpreter's lock.
    pub fn give_back(&self, session: Session<T>) {
        let state = match self.state.try_lock() {
            Ok(state) => Some(state),
            Err(TryLockError::Poisoned(state)) => Some(state.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        };
        match state {
            Some(mut state) => state.training.give_back(session),
            None => self.returned.lock().unwrap_or_else(PoisonError::into_inner).push(session),
        }
    }

    /// Inference; keeps the batch for [`Shared::again`] if it is told to.
    fn infer(&self, read: &Read<'_, T>, keep: bool) -> Result<Output<T>> {
        self.check_resets(read)?;
        let state = &mut *self.lock();
        let out = match self.options.resets {
            None => state.rnn(self)?.forward(read.x, read.lengths, read.initial())?,
            Some(_) => {
                let batch = Batch::of(&self.config, read.x)?;
                read.check(&self.config, &batch)?;
                if batch.is_empty() {
                    read.nothing(&self.config, &batch)
                } else {
                    let weights = (&state.weights, state.version);
                    let mut session = state.inference.take(&self.device, &self.config, weights, batch.rounded())?;
                    let out = read.run(&mut session, &batch);
                    state.inference.give_back(session);
                    out?
                }
            }
        };
        if keep {
            state.last = Some(Kept::of(state.last.take(), read, state.version));
        }
        Ok(out)
    }

    /// A run that can be gone back through; `seed` of its masks, `None`: it drops nothing.
    fn train(self: &Arc<Self>, read: &Read<'_, T>, seed: Option<u64>) -> Result<(Output<T>, Run<T>)> {
        self.check_resets(read)?;
        let batch = Batch::of(&self.config, read.x)?;
        read.check(&self.config, &batch)?;
        if batch.is_empty() {
            let version = self.version();
            return Ok((read.nothing(&self.config, &batch), Run::new(Arc::clone(self), batch, None, version)));
        }
        let (mut session, version) = {
            let state = &mut *self.lock();
            let returned = std::mem::take(&mut *self.returned.lock().unwrap_or_else(PoisonError::into_inner));
            returned.into_iter().for_each(|session| state.training.give_back(session));
            let weights = (&state.weights, state.version);
            (state.training.take(&self.device, &self.config, weights, batch.rounded())?, state.version)
        };
        session.set_dropout(seed.is_some());
        session.set_seed(seed.unwrap_or(0));
        let out = read.run(&mut session, &batch);
        // It gives the session back, too, where the run failed.
        let run = Run::new(Arc::clone(self), batch, Some(session), version);
        Ok((out?, run))
    }

    /// The last batch of inference, run again so that it can be gone back through.
    fn again(self: &Arc<Self>) -> Result<Run<T>> {
        let mut state = self.lock();
        let version = state.version;
        let last = state.last.take_if(|last| last.version == version);
        let got =
            if state.last.is_some() { "none since the parameters changed" } else { "none since the last backward" };
        drop(state);
        let last = last.ok_or_else(|| order("backward", CALL, got))?;
        let Some(x) = &last.x else { return Err(order("backward", CALL, got)) };
        let read = Read {
            x: x.view(),
            h0: last.h0.as_ref().map(Tensor::view),
            c0: last.c0.as_ref().map(Tensor::view),
            lengths: last.lengths.as_deref(),
            resets: last.resets.as_deref(),
        };
        Ok(self.train(&read, None)?.1)
    }

    fn check_resets(&self, read: &Read<'_, T>) -> Result<()> {
        if read.resets.is_some() && self.options.resets.is_none() {
            let expected = "none: the layer was made without resets=\"zero\" or \"initial\"";
            return Err(Error::mismatch("resets", expected, "flags").into());
        }
        Ok(())
    }

    /// Other parameters, in the order of [`weights::parameters`], where any value is another; whether there was one.
    fn set_weights(&self, given: &[View<'_, T>]) -> Result<bool> {
        let all = weights::parameters(&self.config);
        if given.len() != all.len() {
            return Err(Error::mismatch("parameters", all.len(), given.len()).into());
        }
        for (parameter, view) in all.iter().zip(given) {
            view.check(&parameter.name, &["rows", "columns"][..parameter.shape.len()], &parameter.shape)?;
        }
        let mut state = self.lock();
        let mut changed = false;
        for (parameter, view) in all.iter().zip(given) {
            let own = state.weights.get_mut(parameter.place);
            if !same_bits(own, view.data) {
                own.copy_from_slice(view.data);
                changed = true;
            }
        }
        state.version += u64::from(changed);
        Ok(changed)
    }
}

/// Whether values are the same bit for bit; of bytes this is one call of the system's library.
fn same_bits<T: Float>(a: &[T], b: &[T]) -> bool {
    bytemuck::cast_slice::<T, u8>(a) == bytemuck::cast_slice::<T, u8>(b)
}

impl<T: Float> State<T> {
    /// What runs inference, with the weights of now.
    fn rnn(&mut self, shared: &Shared<T>) -> Result<&mut Rnn<T>> {
        let (rnn, version) = match &mut self.rnn {
            Some(there) => there,
            none => {
                let options =
                    RnnOptions { plan: Options { train: false, ..shared.options.clone() }, ..RnnOptions::default() };
                let rnn = Rnn::with_options(&shared.device, &shared.config, &self.weights, &options)?;
                none.insert((rnn, self.version))
            }
        };
        if *version != self.version {
            rnn.set_weights(&self.weights)?;
            *version = self.version;
        }
        Ok(rnn)
    }
}

/// A layer in either precision.
enum Of {
    F32(Arc<Shared<f32>>),
    F64(Arc<Shared<f64>>),
}

/// Does the same with either.
macro_rules! with {
    ($layer:expr, $shared:ident => $what:expr) => {
        match &$layer.0 {
            Of::F32($shared) => $what,
            Of::F64($shared) => $what,
        }
    };
}

/// What `wgpu_rnn.LSTM`, `GRU` and `RNN` are made of.
#[pyclass(module = "wgpu_rnn._core", frozen)]
pub struct Layer(Of);

#[pymethods]
impl Layer {
    #[new]
    fn new(py: Python<'_>, wish: Wish, device: String, dtype: &str, seed: u64) -> PyResult<Self> {
        let of = py.detach(|| {
            let (config, options, device) = (wish.config()?, wish.options()?, device::open(&device)?);
            match dtype {
                "float32" => Ok(Of::F32(Arc::new(Shared::new(device, config, options, seed)?))),
                "float64" if device.kind() == "cpu" => {
                    Ok(Of::F64(Arc::new(Shared::new(device, config, options, seed)?)))
                }
                "float64" => Err(Error::Unsupported {
                    what: format!("float64 on {device}"),
                    reason: "WGSL has no 64-bit numbers; device=\"cpu\" has".into(),
                }
                .into()),
                other => Err(Error::mismatch("dtype", "float32 or float64", other).into()),
            }
        });
        Ok(Self(of.map_err(|e: crate::error::Fault| PyErr::from(e))?))
    }

    /// y, hn, and cn or `None`. `keep`: so that [`Layer::again`] can run the batch again.
    #[pyo3(signature = (x, h0, c0, lengths, resets, keep))]
    #[expect(clippy::too_many_arguments, reason = "Python's")]
    fn infer<'py>(
        &self,
        py: Python<'py>,
        x: &Bound<'py, PyAny>,
        h0: Option<&Bound<'py, PyAny>>,
        c0: Option<&Bound<'py, PyAny>>,
        lengths: Option<&Bound<'py, PyAny>>,
        resets: Option<&Bound<'py, PyAny>>,
        keep: bool,
    ) -> PyResult<Bound<'py, PyTuple>> {
        device::check()?;
        let batch = (x, h0, c0, lengths, resets);
        Ok(
            with!(self, shared => on(batch, |read| py.detach(|| shared.infer(&read, keep))).and_then(|out| given(py, out)))?,
        )
    }

    /// y, hn, cn or `None`, and the tape to go back through; `seed` of the masks, `None`: nothing is dropped.
    #[pyo3(signature = (x, h0, c0, lengths, resets, seed))]
    #[expect(clippy::too_many_arguments, reason = "Python's")]
    fn train<'py>(
        &self,
        py: Python<'py>,
        x: &Bound<'py, PyAny>,
        h0: Option<&Bound<'py, PyAny>>,
        c0: Option<&Bound<'py, PyAny>>,
        lengths: Option<&Bound<'py, PyAny>>,
        resets: Option<&Bound<'py, PyAny>>,
        seed: Option<u64>,
    ) -> PyResult<(Bound<'py, PyTuple>, Tape)> {
        device::check()?;
        let batch = (x, h0, c0, lengths, resets);
        Ok(with!(self, shared => {
            let (out, run) = on(batch, |read| py.detach(|| shared.train(&read, seed)))?;
            (given(py, out)?, Tape::from(run))
        }))
    }

    /// The tape of the last [`Layer::infer`] that kept its batch.
    fn again(&self, py: Python<'_>) -> PyResult<Tape> {
        device::check()?;
        Ok(with!(self, shared => Tape::from(py.detach(|| shared.again())?)))
    }

    /// Every parameter by its name, copied.
    fn weights<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let all = PyDict::new(py);
        with!(self, shared => {
            let weights = py.detach(|| shared.lock().weights.clone());
            for (name, values) in named(&shared.config, weights) {
                all.set_item(name, give(py, values)?)?;
            }
        });
        Ok(all)
    }

    /// Other parameters, all of them in their order; whether any value was another.
    fn set_weights(&self, py: Python<'_>, values: &Bound<'_, PyList>) -> PyResult<bool> {
        Ok(with!(self, shared => set(py, shared, values))?)
    }

    /// The name and shape of every parameter, in PyTorch's order.
    fn parameters(&self) -> Vec<(String, Vec<usize>)> {
        let of = with!(self, shared => weights::parameters(&shared.config));
        of.into_iter().map(|p| (p.name, p.shape)).collect()
    }

    /// Which device it is on, in words.
    fn device(&self) -> String {
        with!(self, shared => shared.device.to_string())
    }

    /// How many sessions wait for batches of their shapes: for training, for inference.
    fn sessions(&self, py: Python<'_>) -> (usize, usize) {
        with!(self, shared => py.detach(|| {
            let state = shared.lock();
            (state.training.idle(), state.rnn.as_ref().map_or(0, |(rnn, _)| rnn.sessions()) + state.inference.idle())
        }))
    }
}

impl Layer {
    /// The stack in 32 bits, and its weights; `None` of one in 64.
    pub fn stack(&self) -> Option<(Device, RnnConfig, Weights<f32>)> {
        match &self.0 {
            Of::F32(shared) => Some((shared.device.clone(), shared.config.clone(), shared.lock().weights.clone())),
            Of::F64(_) => None,
        }
    }
}

type Arguments<'a, 'py> = (
    &'a Bound<'py, PyAny>,
    Option<&'a Bound<'py, PyAny>>,
    Option<&'a Bound<'py, PyAny>>,
    Option<&'a Bound<'py, PyAny>>,
    Option<&'a Bound<'py, PyAny>>,
);

/// Calls `run` with a batch's values, in their place.
fn on<T: Float, R>(
    (x, h0, c0, lengths, resets): Arguments<'_, '_>,
    run: impl FnOnce(Read<'_, T>) -> Result<R>,
) -> Result<R> {
    let (x, h0, c0) = (read::<T>("x", x)?, read_some::<T>("h0", h0)?, read_some::<T>("c0", c0)?);
    let (lengths, resets) = (read_lengths(lengths)?, read_flags(resets)?);
    run(Read {
        x: x.view(),
        h0: h0.as_ref().map(Given::view),
        c0: c0.as_ref().map(Given::view),
        lengths: lengths.as_deref(),
        resets: resets.as_deref(),
    })
}

fn given<T: Float>(py: Python<'_>, out: Output<T>) -> Result<Bound<'_, PyTuple>> {
    let cn = out.cn.map(|cn| give(py, cn)).transpose()?;
    Ok((give(py, out.y)?, give(py, out.hn)?, cn).into_pyobject(py)?)
}

fn set<T: Float>(py: Python<'_>, shared: &Shared<T>, values: &Bound<'_, PyList>) -> Result<bool> {
    let read = values.iter().map(|value| read::<T>("parameter", &value)).collect::<Result<Vec<_>>>()?;
    let views: Vec<View<'_, T>> = read.iter().map(Given::view).collect();
    py.detach(|| shared.set_weights(&views))
}
