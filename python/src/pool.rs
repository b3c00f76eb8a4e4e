//! Many live streams over one layer.

use crate::array::{give, read};
use crate::device;
use crate::error::{Fault, Result};
use crate::layer::Layer;
use numpy::PyArrayDyn;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use wgpu_rnn::{Error, History, Keep, Policy, PoolOptions, StreamId, StreamPool, Tensor};

/// What `wgpu_rnn.StreamPool` is made of. Streams are numbers: the pool's own names, counted.
#[pyclass(module = "wgpu_rnn._core", frozen)]
pub struct Pool(Mutex<Streams>);

struct Streams {
    pool: StreamPool<f32>,
    names: HashMap<u64, StreamId>,
    next: u64,
}

impl Streams {
    fn name(&mut self, id: StreamId) -> u64 {
        self.next += 1;
        self.names.insert(self.next, id);
        self.next
    }

    fn id(&self, stream: u64) -> Result<StreamId> {
        let closed = || Error::Stream(wgpu_rnn::StreamError::Unknown { id: stream.to_string() });
        Ok(self.names.get(&stream).copied().ok_or_else(closed)?)
    }
}

#[pymethods]
impl Pool {
    #[new]
    #[pyo3(signature = (layer, max_delay, max_batch, max_steps, frames, history, every, bytes, keep, on_cpu))]
    #[expect(clippy::too_many_arguments, reason = "Python's")]
    fn new(
        py: Python<'_>,
        layer: &Bound<'_, Layer>,
        max_delay: f64,
        max_batch: usize,
        max_steps: usize,
        frames: usize,
        history: usize,
        every: usize,
        bytes: u64,
        keep: Option<usize>,
        on_cpu: bool,
    ) -> PyResult<Self> {
        let layer = layer.get();
        let made = py.detach(|| {
            device::check()?;
            let delay = Duration::try_from_secs_f64(max_delay);
            let max_delay = delay.map_err(|_| Error::mismatch("max_delay", "seconds of at least 0", max_delay))?;
            let options = PoolOptions {
                policy: Policy { max_delay, max_batch, max_steps },
                frames,
                history: History { steps: history, every },
                bytes,
                keep: keep.map(|every| Keep { every, on_cpu }),
            };
            let none = || Error::Unsupported {
                what: "a StreamPool in float64".into(),
                reason: "it computes in float32".into(),
            };
            let (device, config, weights) = layer.stack().ok_or_else(none)?;
            Ok(StreamPool::of_rnn(&device, &config, &weights, &options)?)
        });
        let pool = made.map_err(|e: Fault| PyErr::from(e))?;
        Ok(Self(Mutex::new(Streams { pool, names: HashMap::new(), next: 0 })))
    }

    fn open(&self, py: Python<'_>) -> PyResult<u64> {
        self.with(py, |s| {
            let id = s.pool.open()?;
            Ok(s.name(id))
        })
    }

    fn fork(&self, py: Python<'_>, stream: u64) -> PyResult<u64> {
        self.with(py, |s| {
            let id = s.id(stream)?;
            let fork = s.pool.fork(id)?;
            Ok(s.name(fork))
        })
    }

    fn close(&self, py: Python<'_>, stream: u64) -> PyResult<()> {
        self.with(py, |s| {
            s.pool.close(s.id(stream)?)?;
            s.names.remove(&stream);
            Ok(())
        })
    }

    fn push(&self, py: Python<'_>, stream: u64, frames: &Bound<'_, PyAny>) -> PyResult<()> {
        let frames = read::<f32>("frames", frames)?;
        let view = frames.view();
        self.with(py, |s| {
            let width = s.pool.inputs().iter().map(|(_, columns)| columns.len()).sum::<usize>();
            if view.shape.last() != Some(&width) || view.shape.len() > 2 {
                let expected = format!("[I] or [frames, I] with I = {width}");
                return Err(Error::mismatch("frames", expected, format!("{:?}", view.shape)).into());
            }
            Ok(s.pool.push(s.id(stream)?, view.data)?)
        })
    }

    /// Streams, frames, steps, what is left, seconds.
    fn tick(&self, py: Python<'_>) -> PyResult<(usize, usize, usize, usize, f64)> {
        self.with(py, |s| {
            let tick = s.pool.tick()?;
            Ok((tick.streams, tick.frames, tick.steps, tick.left, tick.took.as_secs_f64()))
        })
    }

    fn pull<'py>(&self, py: Python<'py>, stream: u64) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
        let tensor = self.with(py, |s| Ok(s.pool.pull(s.id(stream)?)?))?;
        Ok(give(py, tensor)?)
    }

    fn rollback(&self, py: Python<'_>, stream: u64, steps: usize) -> PyResult<()> {
        self.with(py, |s| Ok(s.pool.rollback(s.id(stream)?, steps)?))
    }

    fn reset(&self, py: Python<'_>, stream: u64) -> PyResult<()> {
        self.with(py, |s| Ok(s.pool.reset(s.id(stream)?)?))
    }

    fn save<'py>(&self, py: Python<'py>, stream: u64) -> PyResult<Bound<'py, PyBytes>> {
        let bytes = self.with(py, |s| Ok(s.pool.save(s.id(stream)?)?))?;
        Ok(PyBytes::new(py, &bytes))
    }

    fn restore(&self, py: Python<'_>, stream: u64, saved: &[u8]) -> PyResult<()> {
        self.with(py, |s| Ok(s.pool.restore(s.id(stream)?, saved)?))
    }

    fn state<'py>(&self, py: Python<'py>, stream: u64) -> PyResult<Vec<Bound<'py, PyArrayDyn<f32>>>> {
        let states: Vec<Tensor<f32>> = self.with(py, |s| Ok(s.pool.state(s.id(stream)?)?))?;
        states.into_iter().map(|state| Ok(give(py, state)?)).collect()
    }

    fn position(&self, py: Python<'_>, stream: u64) -> PyResult<u64> {
        self.with(py, |s| Ok(s.pool.position(s.id(stream)?)?))
    }

    fn waiting(&self, py: Python<'_>, stream: u64) -> PyResult<usize> {
        self.with(py, |s| Ok(s.pool.waiting(s.id(stream)?)?))
    }

    fn unpulled(&self, py: Python<'_>, stream: u64) -> PyResult<usize> {
        self.with(py, |s| Ok(s.pool.unpulled(s.id(stream)?)?))
    }

    /// Seconds until a tick is due; `None`: nothing waits.
    fn due(&self, py: Python<'_>) -> PyResult<Option<f64>> {
        self.with(py, |s| Ok(s.pool.due().map(|due| due.saturating_sub(s.pool.now()).as_secs_f64())))
    }

    fn statistics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let of = self.with(py, |s| Ok(s.pool.statistics()))?;
        let all = PyDict::new(py);
        let counts = [
            ("streams", of.streams),
            ("waiting_streams", of.waiting_streams),
            ("waiting", of.waiting),
            ("unpulled", of.unpulled),
        ];
        counts.into_iter().try_for_each(|(name, count)| all.set_item(name, count))?;
        all.set_item("ticks", of.ticks)?;
        all.set_item("frames", of.frames)?;
        all.set_item("bytes", of.bytes)?;
        all.set_item("batch", of.batch.to_vec())?;
        all.set_item("latency", of.latency.map(|time| time.as_secs_f64()).to_vec())?;
        all.set_item("run", of.run.map(|time| time.as_secs_f64()).to_vec())?;
        Ok(all)
    }
}

impl Pool {
    /// Works on the pool without the interpreter's lock.
    fn with<R: Send>(&self, py: Python<'_>, work: impl FnOnce(&mut Streams) -> Result<R> + Send) -> PyResult<R> {
        let result = py.detach(|| {
            device::check()?;
            work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
        });
        Ok(result?)
    }
}
